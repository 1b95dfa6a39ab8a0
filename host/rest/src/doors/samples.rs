//! Telemetry among live events, for readers that ask for it: what each agent said last, at most once a second. It is in
//! no log, so what is overtaken before a reader takes it is never told, and a reader that is slow is told less.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use api::telemetry::LatestTelemetry;
use domain::access::Caller;
use domain::telemetry::metric::{Pick, Wanted};
use domain::time::Timestamp;
use plan::id::AgentId;
use tokio::time::Interval;

use crate::app::App;
use crate::doors::every;
use crate::doors::telemetry::{SERIES, Whose, shown};
use crate::problem::{Code, Problem};
use crate::query::Query;

/// Between two looks at what was said.
const EVERY: Duration = Duration::from_secs(1);
/// Stands for every series.
const ALL: &str = "all";

/// One reader's wish.
pub struct Samples {
    whose: Whose,
    wanted: Wanted,
    tick: Interval,
    /// When that came of each agent which the reader was told last.
    told: HashMap<AgentId, Timestamp>,
    /// Who has said something since, each once.
    due: VecDeque<AgentId>,
}

impl Samples {
    /// Reads `telemetry`, and `site` and `label` that narrow it; none when nobody asks for it.
    ///
    /// # Errors
    /// 400 when one of them cannot be, or when there is nothing to narrow.
    pub fn read(query: &Query) -> Result<Option<Samples>, Problem> {
        let whose = Whose::read(query)?;
        if query.one("telemetry")?.is_none() {
            return match whose.first() {
                None => Ok(None),
                Some(name) => {
                    let rule = "narrows telemetry, which comes when `telemetry` asks for it";
                    Err(Problem::at(Code::InvalidParameter, format!("?{name}"), rule))
                }
            };
        }
        let pick = |text: &str| if text == ALL { Some(None) } else { Pick::parse(text).map(Some) };
        let picked = query.several("telemetry", format!("`{ALL}`, or {SERIES}"), pick)?;
        // One that wants all wants all, whatever it names besides.
        let wanted = Wanted(picked.into_iter().collect::<Option<Vec<Pick>>>().unwrap_or_default());
        Ok(Some(Samples { whose, wanted, tick: every(EVERY), told: HashMap::new(), due: VecDeque::new() }))
    }

    /// Whether [`next`](Self::next) has something to tell.
    pub fn has_more(&self) -> bool {
        !self.due.is_empty()
    }

    /// Waits for the next look.
    ///
    /// # Cancel safety
    /// What is dropped while it waits has missed nothing.
    pub async fn tick(&mut self) {
        self.tick.tick().await;
    }

    /// Looks who has said something since it was told.
    pub async fn look(&mut self, app: &App, caller: &Caller) {
        let members = self.whose.in_sight(app, caller);
        app.directory.listen_latest(members.iter().map(|found| found.agent.id), app.clock.as_ref()).await;
        let said = |id: AgentId| app.directory.latest(id).map(|latest| (id, latest.received_at));
        let latest: HashMap<AgentId, Timestamp> = members.iter().filter_map(|found| said(found.agent.id)).collect();
        let fresh = members.iter().map(|found| found.agent.id).filter(|id| latest.get(id) != self.told.get(id));
        let mut due: Vec<AgentId> = fresh.collect();
        // Whoever was never told of first, then of whom it is longest ago: a slow reader hears of all of them in turn.
        due.sort_by_key(|id| self.told.get(id));
        self.due = due.into();
        // Only of those in sight is anything remembered.
        self.told.retain(|id, _| latest.contains_key(id));
    }

    /// What one of them said last, by now.
    pub fn next(&mut self, app: &App, caller: &Caller) -> Option<LatestTelemetry> {
        while let Some(id) = self.due.pop_front() {
            let found = app.directory.get(id).filter(|found| self.whose.fits(caller, &found.agent));
            if let (Some(found), Some(latest)) = (found, app.directory.latest(id)) {
                self.told.insert(id, latest.received_at);
                return Some(shown(app, &found, &self.wanted));
            }
        }
        None
    }
}

/// Waits for the next look of a reader that wants any.
pub async fn tick(samples: &mut Option<Samples>) {
    match samples {
        Some(samples) => samples.tick().await,
        None => std::future::pending().await,
    }
}
