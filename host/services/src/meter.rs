//! What happens, counted in memory as it is committed: totals since this host started, and the last hour by site.
//!
//! Invariant: nothing here grows with history or with what callers invent. Sites, verbs and what is under way are
//! bounded; what is beyond a bound is counted under one common name. It counts what this host has committed.

mod window;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use domain::attempt::{Event, State};
use domain::event::{Event as Committed, What};
use domain::time::Timestamp;
use plan::id::{AgentId, AttemptKey, CommandId};

use crate::directory::Directory;
pub use window::{BOUNDS_MS, Hour, Rates, Spans, Spread};

/// Sites with an hour of their own.
const SITES_MAX: usize = 256;
/// Verbs with a count of their own.
const VERBS_MAX: usize = 256;
/// Commands and attempts under way that are known one by one.
const UNDER_WAY_MAX: usize = 100_000;
/// What the rest is called. No site and no verb is.
pub const OTHER: &str = "(other)";

/// Where a plugin is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// Arguments become a plan.
    Plan,
    /// Output becomes a result.
    Interpret,
}

impl Call {
    /// The name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Call::Plan => "plan",
            Call::Interpret => "interpret",
        }
    }
}

/// Counts.
#[derive(Default)]
pub struct Meter {
    inner: Mutex<Inner>,
    /// Tells an agent's site; not there while the host is put together.
    pub directory: OnceLock<Arc<Directory>>,
}

#[derive(Default)]
struct Inner {
    totals: Totals,
    sites: HashMap<String, Hour>,
    verbs: HashMap<CommandId, Arc<str>>,
    /// Attempts that were sent, and since when they run. One that ends at once is committed with its end alone, so
    /// this is not learned from what is committed.
    under_way: HashMap<(CommandId, AgentId), Option<Timestamp>>,
}

/// Since this host started.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Commands accepted, by verb.
    pub accepted: BTreeMap<Arc<str>, u64>,
    /// Attempts that came to a state, by verb.
    pub reached: BTreeMap<(Arc<str>, &'static str), u64>,
    /// Calls of plugins, and whether they went well.
    pub calls: BTreeMap<(Call, bool), u64>,
    /// From acceptance to the first time it was sent.
    pub dispatch: Spans,
    /// From acceptance to the first time it started.
    pub wait: Spans,
    /// From its start to its end.
    pub run: Spans,
}

impl Meter {
    /// A command was accepted for agents at these sites.
    pub fn accepted<'a>(&self, command: CommandId, verb: &str, sites: impl Iterator<Item = &'a str>, at: Timestamp) {
        let mut inner = self.lock();
        let verb = inner.totals.verb(verb);
        *inner.totals.accepted.entry(verb.clone()).or_default() += 1;
        if inner.verbs.len() < UNDER_WAY_MAX {
            inner.verbs.insert(command, verb);
        }
        for site in sites {
            inner.hour(site).submitted(at);
        }
    }

    /// Takes note of what was committed.
    pub fn heard(&self, events: &[Arc<Committed>]) {
        let mut inner: Option<MutexGuard<'_, Inner>> = None;
        for event in events {
            match &event.what {
                What::State { command, agent, state, .. } => {
                    let site = self.site(*agent);
                    let inner = inner.get_or_insert_with(|| self.lock());
                    inner.moved(*command, *agent, *state, &site, event.at);
                }
                What::Status { command, status, .. } if status.is_terminal() => {
                    inner.get_or_insert_with(|| self.lock()).verbs.remove(command);
                }
                What::Status { .. }
                | What::Output { .. }
                | What::Agent { .. }
                | What::Alert { .. }
                | What::Plugins { .. } => {}
            }
        }
    }

    /// An attempt was sent, or its agent said that it started it; it may be told again.
    pub fn noted(&self, key: AttemptKey, agent: AgentId, event: &Event, at: Timestamp) {
        match event {
            Event::Send => self.lock().sent(key, agent, at),
            Event::Start => {
                let site = self.site(agent);
                self.lock().started(key, agent, &site, at);
            }
            _ => {}
        }
    }

    /// A plugin was called.
    pub fn called(&self, call: Call, well: bool) {
        *self.lock().totals.calls.entry((call, well)).or_default() += 1;
    }

    /// Everything since the start.
    pub fn totals(&self) -> Totals {
        self.lock().totals.clone()
    }

    /// The last hour at the sites that `sees` says yes to. What has no hour of its own counts only for who sees all.
    pub fn hour(&self, sees: impl Fn(&str) -> bool, sees_all: bool) -> Hour {
        let inner = self.lock();
        let seen = inner.sites.iter().filter(|(site, _)| if *site == OTHER { sees_all } else { sees(site) });
        seen.fold(Hour::default(), |mut sum, (_, hour)| {
            sum.add(hour);
            sum
        })
    }

    fn site(&self, agent: AgentId) -> String {
        let found = self.directory.get().and_then(|directory| directory.get(agent));
        found.map_or_else(|| OTHER.to_owned(), |candidate| candidate.agent.site.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn hour(&mut self, site: &str) -> &mut Hour {
        let known = self.sites.contains_key(site) || self.sites.len() < SITES_MAX;
        self.sites.entry(if known { site } else { OTHER }.to_owned()).or_default()
    }

    fn sent(&mut self, key: AttemptKey, agent: AgentId, at: Timestamp) {
        let place = (key.command, agent);
        if self.under_way.len() >= UNDER_WAY_MAX || self.under_way.contains_key(&place) {
            return;
        }
        self.under_way.insert(place, None);
        if let Some(span) = since_accepted(key, at) {
            self.totals.dispatch.add(span);
        }
    }

    fn started(&mut self, key: AttemptKey, agent: AgentId, site: &str, at: Timestamp) {
        let place = (key.command, agent);
        let room = self.under_way.len() < UNDER_WAY_MAX || self.under_way.contains_key(&place);
        if !room || self.under_way.insert(place, Some(at)).flatten().is_some() {
            return;
        }
        if let Some(span) = since_accepted(key, at) {
            self.totals.wait.add(span);
            self.hour(site).waited(at, span);
        }
    }

    fn moved(&mut self, command: CommandId, agent: AgentId, state: State, site: &str, at: Timestamp) {
        let verb = self.verbs.get(&command).cloned().unwrap_or_else(|| OTHER.into());
        *self.totals.reached.entry((verb, state.as_str())).or_default() += 1;
        match state {
            State::Succeeded
            | State::Failed
            | State::TimedOut
            | State::Cancelled
            | State::Expired
            | State::Rejected
            | State::Skipped
            | State::Interrupted
            | State::Lost => {
                self.hour(site).ended(at, state == State::Succeeded);
                if let Some(started) = self.under_way.remove(&(command, agent)).flatten() {
                    let span = at.since(started);
                    self.totals.run.add(span);
                    self.hour(site).ran(at, span);
                }
            }
            // Another attempt follows, which is sent anew.
            State::Held | State::Queued => _ = self.under_way.remove(&(command, agent)),
            State::Sent | State::Accepted | State::Running => {}
        }
    }
}

/// Since its command was accepted, if it is the first attempt.
fn since_accepted(key: AttemptKey, at: Timestamp) -> Option<Duration> {
    accepted_at(key.command).filter(|_| key.number == 1).map(|accepted| at.since(accepted))
}

impl Totals {
    fn verb(&self, verb: &str) -> Arc<str> {
        match self.accepted.get_key_value(verb) {
            Some((known, _)) => known.clone(),
            None if self.accepted.len() < VERBS_MAX => verb.into(),
            None => OTHER.into(),
        }
    }
}

/// When a command was accepted: its id begins with that, in milliseconds.
fn accepted_at(command: CommandId) -> Option<Timestamp> {
    let millis = i64::try_from(command.0.as_u128() >> 80).ok()?;
    (command.0.get_version_num() == 7).then(|| Timestamp(millis.saturating_mul(1_000)))
}

#[cfg(test)]
mod tests {
    use domain::command::Status;
    use uuid::Uuid;

    use super::*;

    fn command(millis: u128) -> CommandId {
        CommandId(Uuid::from_u128((millis << 80) | (7 << 76) | (2 << 62) | 1))
    }

    fn agent() -> AgentId {
        AgentId(Uuid::from_u128(5))
    }

    fn state(command: CommandId, state: State, millis: i64) -> Arc<Committed> {
        let agent = agent();
        let what = What::State { command, agent, attempt: 1, state, reason: None };
        Arc::new(Committed { seq: 1, at: Timestamp(millis * 1_000), what })
    }

    #[test]
    fn a_command_is_followed_from_acceptance_to_its_end() {
        let meter = Meter::default();
        let id = command(1_000);
        meter.accepted(id, "docker.ps", ["eu"].into_iter(), Timestamp(1_000_000));
        let key = AttemptKey { command: id, number: 1 };
        // Said again after a commit that failed, it counts once.
        for _ in 0..2 {
            meter.noted(key, agent(), &Event::Send, Timestamp(1_010_000));
            meter.noted(key, agent(), &Event::Start, Timestamp(1_100_000));
        }
        // It ended at once: nothing of its way there is committed.
        meter.heard(&[state(id, State::Succeeded, 3_100)]);
        assert!(meter.lock().under_way.is_empty());
        let totals = meter.totals();
        let verb: Arc<str> = "docker.ps".into();
        assert_eq!(totals.accepted[&verb], 1);
        assert_eq!(totals.reached[&(verb, "succeeded")], 1);
        assert_eq!((totals.dispatch.count, totals.wait.count, totals.run.count), (1, 1, 1));
        let hour = meter.hour(|_| true, true);
        let minute = hour.rates(Timestamp(4_000_000), Duration::from_secs(60));
        assert_eq!((minute.submitted, minute.succeeded, minute.unsuccessful), (1, 1, 0));
        let (wait, run) = (hour.wait(Timestamp(4_000_000)), hour.run(Timestamp(4_000_000)));
        assert!((100..=126).contains(&wait.p50_ms.expect("one")), "{wait:?}");
        assert!((2_000..=2_500).contains(&run.p99_ms.expect("one")), "{run:?}");
        assert_eq!(
            meter.hour(|site| site == "us", false).rates(Timestamp(4_000_000), Duration::from_secs(60)).submitted,
            0
        );
    }

    #[test]
    fn what_callers_invent_does_not_make_it_grow() {
        let meter = Meter::default();
        for n in 0..VERBS_MAX as u128 + 50 {
            let (verb, site) = (format!("v.n{n}"), format!("site-{n}"));
            meter.accepted(command(n), &verb, [site.as_str()].into_iter(), Timestamp(0));
        }
        let totals = meter.totals();
        assert_eq!(totals.accepted.len(), VERBS_MAX + 1);
        assert_eq!(totals.accepted[&Arc::<str>::from(OTHER)], 50);
        assert_eq!(meter.lock().sites.len(), SITES_MAX + 1);
        let over = What::Status { command: command(3), status: Status::Succeeded, counts: Default::default() };
        let before = meter.lock().verbs.len();
        meter.heard(&[Arc::new(Committed { seq: 1, at: Timestamp(0), what: over })]);
        assert_eq!(meter.lock().verbs.len(), before - 1);
    }
}
