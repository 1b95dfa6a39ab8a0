//! Telemetry: the latest, the past, where it leads, and how well machines are.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use api::page::Page;
use api::telemetry::{
    HealthReport, LatestTelemetry, TelemetryAcross, TelemetryAcrossHistory, TelemetryHistory, TelemetryMoment,
    TelemetryTogether, TelemetryTrend,
};
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use domain::access::Caller;
use domain::agent::{Agent, is_label_text};
use domain::target::Candidate;
use domain::telemetry::across::spread;
use domain::telemetry::health::{Health, Known, Many, health};
use domain::telemetry::history::{MAX_POINTS, Slice, Window};
use domain::telemetry::metric::{Metric, Pick, Series, Wanted};
use domain::telemetry::trend::Trend;
use domain::time::Timestamp;
use plan::id::AgentId;
use services::directory::Latest;

use crate::app::App;
use crate::authorize::{Authorized, ReadAgents};
use crate::doors::{In, agent_in_sight, window};
use crate::instant;
use crate::large;
use crate::page::Asked;
use crate::problem::Problem;
use crate::query::Query;
use crate::views::telemetry as views;

/// Machines of one page of trends, at most: each is a read of its past.
const TRENDS_MAX: u32 = 100;
/// What names series, for who named something else.
pub const SERIES: &str = "a metric such as cpu.total, or a series such as disk.used_pct{/}";
/// A report older than so many intervals is stale.
const STALE: u32 = 3;

/// A machine, and what it said last unless that is stale.
type Member = (Candidate, Option<Arc<Latest>>);

/// `GET /telemetry`
pub async fn list(
    who: Authorized<ReadAgents>,
    State(app): State<App>,
    query: Query,
) -> Result<Json<Page<LatestTelemetry>>, Problem> {
    let asked = Asked::read(&query, "telemetry")?;
    let wanted = wanted(&query, &[])?;
    let page = asked.slice(in_sight(&app, &who.caller, &query)?, Ordering::Less, |found| found.agent.name.clone());
    learn(&app, &page.items).await;
    Ok(Json(Asked::shown(page, |found| shown(&app, &found, &wanted))))
}

/// `GET /telemetry/{agent}`
pub async fn show(
    who: Authorized<ReadAgents>,
    State(app): State<App>,
    In(agent): In<String>,
) -> Result<Json<LatestTelemetry>, Problem> {
    let found = agent_in_sight(&app, &who.caller, &agent)?;
    learn(&app, std::slice::from_ref(&found)).await;
    Ok(Json(shown(&app, &found, &Wanted::default())))
}

/// `GET /telemetry/{agent}/history`
pub async fn history(
    who: Authorized<ReadAgents>,
    State(app): State<App>,
    In(agent): In<String>,
    query: Query,
) -> Result<Json<TelemetryHistory>, Problem> {
    let found = agent_in_sight(&app, &who.caller, &agent)?.agent;
    let wanted = wanted(&query, &[])?;
    let (window, asked) = window::read(&app, &query, Asked::read(&query, "telemetry-history")?)?;
    let after = asked.after::<i64>()?.map(Timestamp);
    let page = app.history.page(&window, after, points(&query, &asked)?).await?;
    let buckets = app.history.read(found.id, &wanted, &page).await?;
    Ok(Json(TelemetryHistory {
        agent: found.id.to_string(),
        agent_name: found.name.clone(),
        level: window.level.as_str().to_owned(),
        step_s: window.step.as_secs(),
        items: buckets.into_iter().map(views::point).collect(),
        next_cursor: next(&asked, &window, &page.slice),
    }))
}

/// `GET /telemetry/trends`
pub async fn trends(who: Authorized<ReadAgents>, State(app): State<App>, query: Query) -> Result<Response, Problem> {
    let wanted = wanted(&query, &[Metric::CpuTotal, Metric::MemUsedPct, Metric::DiskUsedPct])?;
    let (window, mut asked) = window::read(&app, &query, Asked::read(&query, "telemetry-trends")?)?;
    asked.limit = asked.limit.min(TRENDS_MAX);
    let pages = app.history.pages(&window).await?;
    let found = in_sight(&app, &who.caller, &query)?;
    let Page { items: agents, next_cursor: more } =
        asked.slice(found, Ordering::Less, |found| found.agent.name.clone());
    let last = agents.last().filter(|_| more.is_some());
    let next_cursor = last.map(|last| window::cursor(&asked, &window, &last.agent.name));
    let ids: Vec<AgentId> = agents.iter().map(|found| found.agent.id).collect();
    let turn = app.history.turn()?;
    let trends = app.history.trends(&turn, &ids, &wanted, &pages).await?;
    let shown = |(found, trends): (&Candidate, Vec<(Series, Trend)>)| {
        let of = |(series, trend): &(Series, Trend)| views::trend(&found.agent, series, trend);
        trends.iter().map(of).collect::<Vec<TelemetryTrend>>()
    };
    let items: Vec<TelemetryTrend> = agents.iter().zip(trends).flat_map(shown).collect();
    large::json(&Page { items, next_cursor }, turn)
}

/// `GET /telemetry/across`
pub async fn across(
    who: Authorized<ReadAgents>,
    State(app): State<App>,
    query: Query,
) -> Result<Json<TelemetryAcross>, Problem> {
    let wanted = wanted(&query, &[Metric::CpuTotal, Metric::MemUsedPct, Metric::DiskUsedPct])?;
    let by = by(&query)?;
    let mut groups: BTreeMap<Option<String>, Vec<Member>> = BTreeMap::new();
    let members = in_sight(&app, &who.caller, &query)?;
    learn(&app, &members).await;
    for found in members {
        let key = key_of(&by, &found);
        let latest = app.directory.latest(found.agent.id).filter(|latest| !is_stale(&app, latest));
        groups.entry(key).or_default().push((found, latest));
    }
    let items = groups.into_iter().map(|(key, members)| together(key, &members, &wanted)).collect();
    Ok(Json(TelemetryAcross { by, items }))
}

/// `GET /telemetry/across/history`
pub async fn across_history(
    who: Authorized<ReadAgents>,
    State(app): State<App>,
    query: Query,
) -> Result<Response, Problem> {
    let wanted = wanted(&query, &[Metric::CpuTotal, Metric::MemUsedPct, Metric::DiskUsedPct])?;
    let by = by(&query)?;
    let (window, asked) = window::read(&app, &query, Asked::read(&query, "telemetry-across-history")?)?;
    let after = asked.after::<i64>()?.map(Timestamp);
    let mut groups: BTreeMap<Option<String>, Vec<Candidate>> = BTreeMap::new();
    for found in in_sight(&app, &who.caller, &query)? {
        groups.entry(key_of(&by, &found)).or_default().push(found);
    }
    let groups: Vec<(Option<String>, Vec<Candidate>)> = groups.into_iter().collect();
    let all = || groups.iter().enumerate().flat_map(|(n, (_, found))| found.iter().map(move |one| (n, &one.agent)));
    let members: Vec<_> = all().map(|(group, agent)| (agent.id, group)).collect();
    let names: Vec<&str> = all().map(|(_, agent)| agent.name.as_str()).collect();
    let many = (members.len(), app.telemetry_interval);
    let page = app.history.page_of_many(&window, after, points(&query, &asked)?, many).await?;
    let turn = app.history.turn()?;
    let mut moments: BTreeMap<Timestamp, Vec<TelemetryTogether>> = BTreeMap::new();
    for ((at, group), crowd) in app.history.across(&turn, &members, &wanted, &page).await? {
        let (key, found) = &groups[group];
        let shown = views::crowd(key.clone(), found.len() as u64, &crowd, |place| names[place]);
        moments.entry(at).or_default().push(shown);
    }
    let items = moments.into_iter().map(|(at, groups)| TelemetryMoment { at: instant::text(at), groups }).collect();
    let answer = TelemetryAcrossHistory {
        by,
        level: window.level.as_str().to_owned(),
        step_s: window.step.as_secs(),
        items,
        next_cursor: next(&asked, &window, &page.slice),
    };
    large::json(&answer, turn)
}

/// `GET /health-report`
pub async fn health_report(
    who: Authorized<ReadAgents>,
    State(app): State<App>,
    query: Query,
) -> Result<Json<HealthReport>, Problem> {
    let asked = Asked::read(&query, "health-report")?;
    let members = in_sight(&app, &who.caller, &query)?;
    learn(&app, &members).await;
    let judged: Vec<(Candidate, Health)> = members
        .into_iter()
        .map(|found| {
            let health = judge(&app, &found);
            (found, health)
        })
        .collect();
    let (mut fleet, mut sites) = (Many::default(), BTreeMap::<String, Many>::new());
    for (found, health) in &judged {
        fleet.add(found.status, health);
        sites.entry(found.agent.site.clone()).or_default().add(found.status, health);
    }
    let page = asked.slice(judged, Ordering::Less, |(found, _)| found.agent.name.clone());
    let page = Asked::shown(page, |(found, health)| views::health(&found, health));
    Ok(Json(HealthReport {
        at: instant::text(app.clock.now()),
        fleet: views::many(None, &fleet),
        sites: sites.into_iter().map(|(site, many)| views::many(Some(site), &many)).collect(),
        ingest: views::tally(app.ingest.tally()),
        items: page.items,
        next_cursor: page.next_cursor,
    }))
}

/// What many are put together by.
fn by(query: &Query) -> Result<String, Problem> {
    let known = |text: &str| {
        let is_label = text.strip_prefix("label.").is_some_and(is_label_text);
        (text == "site" || is_label).then(|| text.to_owned())
    };
    Ok(query.parsed("by", "`site` or `label.KEY`", known)?.unwrap_or_else(|| "site".to_owned()))
}

/// What an agent has in common with others; none without that label.
fn key_of(by: &str, found: &Candidate) -> Option<String> {
    match by.strip_prefix("label.") {
        None => Some(found.agent.site.clone()),
        Some(label) => found.agent.effective_labels().remove(label),
    }
}

/// What they said last to other hosts, too.
async fn learn(app: &App, members: &[Candidate]) {
    app.directory.learn_latest(members.iter().map(|found| found.agent.id)).await;
}

fn together(key: Option<String>, members: &[Member], wanted: &Wanted) -> TelemetryTogether {
    let mut values: BTreeMap<String, (Vec<f64>, Vec<&str>)> = BTreeMap::new();
    for (found, latest) in members {
        let readings = latest.iter().flat_map(|latest| latest.readings.iter());
        for reading in readings.filter(|reading| wanted.has(reading.series.metric, &reading.series.label)) {
            // Of a state there is no average.
            if reading.series.metric.unit().words().is_empty() {
                let (numbers, names) = values.entry(reading.series.to_string()).or_default();
                numbers.push(reading.value);
                names.push(&found.agent.name);
            }
        }
    }
    let shown = |(name, (numbers, names)): (String, (Vec<f64>, Vec<&str>))| {
        spread(&numbers).map(|spread| (name, views::spread(spread, &names)))
    };
    TelemetryTogether {
        key,
        agents: members.len() as u64,
        reporting: members.iter().filter(|(_, latest)| latest.is_some()).count() as u64,
        series: values.into_iter().filter_map(shown).collect(),
    }
}

fn judge(app: &App, found: &Candidate) -> Health {
    let latest = app.directory.latest(found.agent.id);
    health(&Known {
        status: found.status,
        readings: latest.as_ref().map(|latest| &*latest.readings),
        is_stale: latest.as_ref().is_some_and(|latest| is_stale(app, latest)),
        skew_ms: latest.as_ref().map_or(0, |latest| latest.skew_ms),
    })
}

/// What an agent said last, as far as it is wanted.
pub fn shown(app: &App, found: &Candidate, wanted: &Wanted) -> LatestTelemetry {
    let latest = app.directory.latest(found.agent.id);
    let stale = latest.as_ref().is_some_and(|latest| is_stale(app, latest));
    views::latest(found, latest.as_deref(), stale, wanted)
}

fn is_stale(app: &App, latest: &Latest) -> bool {
    app.clock.now().since(latest.received_at) > app.telemetry_interval * STALE
}

/// Which agents `site` and `label` let through.
#[derive(Debug)]
pub struct Whose {
    sites: Vec<String>,
    labels: Vec<(String, String)>,
}

impl Whose {
    /// Reads both.
    ///
    /// # Errors
    /// 400 when one of them cannot be.
    pub fn read(query: &Query) -> Result<Whose, Problem> {
        let pair = |text: &str| {
            let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
            pair.map(|(key, value)| (key.to_owned(), value.to_owned()))
        };
        Ok(Whose {
            sites: query.several("site", "a site", |text| (!text.is_empty()).then(|| text.to_owned()))?,
            labels: query.several("label", "KEY=VALUE", pair)?,
        })
    }

    /// The first of the two that is there at all.
    pub fn first(&self) -> Option<&'static str> {
        let there = [("site", !self.sites.is_empty()), ("label", !self.labels.is_empty())];
        there.into_iter().find_map(|(name, is_there)| is_there.then_some(name))
    }

    /// Whether this one is meant, in the caller's sight and not revoked.
    pub fn fits(&self, caller: &Caller, agent: &Agent) -> bool {
        let has = |(key, value): &(String, String)| agent.effective_labels().get(key) == Some(value);
        caller.sees_site(&agent.site)
            && agent.revoked_at.is_none()
            && (self.sites.is_empty() || self.sites.contains(&agent.site))
            && self.labels.iter().all(has)
    }

    /// All that are meant, by name.
    pub fn in_sight(&self, app: &App, caller: &Caller) -> Vec<Candidate> {
        let mut found = app.directory.all();
        found.retain(|candidate| self.fits(caller, &candidate.agent));
        found
    }
}

fn in_sight(app: &App, caller: &Caller, query: &Query) -> Result<Vec<Candidate>, Problem> {
    Ok(Whose::read(query)?.in_sight(app, caller))
}

fn wanted(query: &Query, otherwise: &[Metric]) -> Result<Wanted, Problem> {
    let picked = query.several("metrics", SERIES, Pick::parse)?;
    let otherwise = || otherwise.iter().copied().map(Pick::Metric).collect();
    Ok(Wanted(if picked.is_empty() { otherwise() } else { picked }))
}

/// Most steps of a page of the past.
fn points(query: &Query, asked: &Asked) -> Result<u32, Problem> {
    Ok(if query.one("limit")?.is_some() { asked.limit } else { MAX_POINTS })
}

/// The cursor of the page after this one.
fn next(asked: &Asked, window: &Window, page: &Slice) -> Option<String> {
    page.next.map(|next| window::cursor(asked, window, &next.0.to_string()))
}
