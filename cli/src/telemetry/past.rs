//! The past of telemetry, many machines together, and where it leads.

use std::time::Duration;

use api::telemetry::{TelemetryMoment, TelemetryPoint, TelemetryTogether, TelemetryTrend};
use chrono::Utc;
use clap::Args;
use viworks_client::Client;

use super::amount::amount;
use super::{USUAL, Wanted};
use crate::failure::Failure;
use crate::instant::{in_order, instant};
use crate::output::moment::{parse_length, to_the_second};
use crate::output::{Sink, table};

/// From when to when.
#[derive(Clone, Debug, Args)]
pub struct Span {
    /// From then on: RFC 3339, or a length of time ago like 2h; a day ago when absent
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Until then; now when absent
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Between two points; as many as a chart is wide when absent
    #[arg(long, value_name = "TIME", value_parser = parse_length)]
    step: Option<Duration>,
}

impl Span {
    /// Whether anything is said of when.
    fn is_asked(&self) -> bool {
        self.since.is_some() || self.until.is_some() || self.step.is_some()
    }

    fn pairs(self) -> Result<Vec<(&'static str, String)>, Failure> {
        let Span { since, until, step } = self;
        let now = Utc::now();
        let (since, until) = (instant(since, now)?, instant(until, now)?);
        let end = until.clone().unwrap_or_else(|| now.to_rfc3339());
        in_order(since.as_deref(), Some(&end))?;
        let times = [("from", since), ("to", until)];
        let step = step.map(|step| ("step", step.as_secs().to_string()));
        Ok(times.into_iter().filter_map(|(name, time)| Some((name, time?))).chain(step).collect())
    }
}

/// Whose past.
#[derive(Clone, Debug, Args)]
pub struct HistoryOptions {
    /// Its name or id
    agent: String,
    /// Only these: metrics such as net.rx, or series such as disk.used_pct{/}
    #[arg(short, long, value_name = "METRIC", value_delimiter = ',')]
    metrics: Vec<String>,
    /// When.
    #[command(flatten)]
    span: Span,
    /// At most this many points, the oldest
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

/// What is put together.
#[derive(Clone, Debug, Args)]
pub struct AcrossOptions {
    /// By site, or by the value of a label: label.KEY
    #[arg(long, value_name = "WHAT", default_value = "site")]
    by: String,
    /// Of whom, and what.
    #[command(flatten)]
    wanted: Wanted,
    /// When; now when nothing is said of it.
    #[command(flatten)]
    span: Span,
}

/// What is foretold.
#[derive(Clone, Debug, Args)]
pub struct TrendsOptions {
    /// Of whom, and what.
    #[command(flatten)]
    wanted: Wanted,
    /// From what.
    #[command(flatten)]
    span: Span,
}

pub(super) async fn history(options: HistoryOptions, client: &Client, sink: &Sink) -> Result<(), Failure> {
    let HistoryOptions { agent, metrics, span, limit } = options;
    let mut query = span.pairs()?;
    let usual = sink.is_for_people().then(|| USUAL.to_owned());
    let metrics = if metrics.is_empty() { usual } else { Some(metrics.join(",")) };
    query.extend(metrics.map(|metrics| ("metrics", metrics)));
    let history = client.telemetry_history(&agent, query, limit as usize).await?;
    let of = |point: &TelemetryPoint| {
        let at = to_the_second(&point.at);
        let row = move |(name, sum): (&String, &api::telemetry::TelemetrySummary)| {
            let said = |value: f64| amount(name, value);
            let last = sum.last_word.clone().unwrap_or_else(|| said(sum.last));
            vec![at.clone(), name.clone(), said(sum.min), said(sum.avg), said(sum.max), last, sum.count.to_string()]
        };
        point.series.iter().map(row).collect::<Vec<_>>()
    };
    let titles = ["at", "series", "min", "avg", "max", "last", "count"];
    sink.one(&history, &history.agent_name, || table::grid(&titles, history.items.iter().flat_map(of)))?;
    if history.items.is_empty() {
        sink.say("nothing is kept of that time")?;
    }
    if history.next_cursor.is_some() {
        sink.say(&format!("there are more points than {limit}: take a longer --step, or a later --since"))?;
    }
    Ok(())
}

pub(super) async fn across(options: AcrossOptions, client: &Client, sink: &Sink) -> Result<(), Failure> {
    let AcrossOptions { by, wanted, span } = options;
    let mut query = wanted.pairs(sink.is_for_people().then_some(USUAL));
    query.push(("by", by));
    if span.is_asked() {
        query.extend(span.pairs()?);
        return across_history(query, client, sink).await;
    }
    let across = client.telemetry_across(query).await?;
    let titles = [across.by.as_str(), "reporting", "series", "avg", "p95", "max", "of"];
    let page = || table::grid(&titles, across.items.iter().flat_map(rows));
    sink.many(&across, &across.items, |one| one.key.as_deref().unwrap_or_default(), page)?;
    if across.items.iter().all(|one| one.series.is_empty()) {
        sink.say("nobody who is meant has sent telemetry lately")?;
    }
    Ok(())
}

/// One row a series.
fn rows(one: &TelemetryTogether) -> Vec<Vec<String>> {
    let (key, agents) = (one.key.clone().unwrap_or_default(), format!("{}/{}", one.reporting, one.agents));
    let row = |(name, spread): (&String, &api::telemetry::TelemetrySpread)| {
        let said = |value: f64| amount(name, value);
        let (avg, p95, max) = (said(spread.avg), said(spread.p95), said(spread.max));
        vec![key.clone(), agents.clone(), name.clone(), avg, p95, max, spread.max_agent.clone()]
    };
    one.series.iter().map(row).collect()
}

/// The past of many.
async fn across_history(query: Vec<(&'static str, String)>, client: &Client, sink: &Sink) -> Result<(), Failure> {
    let all = client.telemetry_across_history(query).await?;
    let of = |moment: &TelemetryMoment| {
        let at = to_the_second(&moment.at);
        let line = move |row: Vec<String>| [vec![at.clone()], row].concat();
        moment.groups.iter().flat_map(rows).map(line).collect::<Vec<_>>()
    };
    let titles = ["at", all.by.as_str(), "reporting", "series", "avg", "p95", "max", "of"];
    sink.many(&all, &all.items, |one| &one.at, || table::grid(&titles, all.items.iter().flat_map(of)))?;
    if all.items.is_empty() {
        sink.say("nothing is kept of that time")?;
    }
    Ok(())
}

pub(super) async fn trends(options: TrendsOptions, client: &Client, sink: &Sink) -> Result<(), Failure> {
    let mut query = options.wanted.pairs(sink.is_for_people().then_some(USUAL));
    query.extend(options.span.pairs()?);
    let page = client.telemetry_trends(query).await?;
    let row = |one: &TelemetryTrend| {
        let said = |value: f64| amount(&one.series, value);
        let full = one.full.as_ref().map(|full| {
            let latest = full.latest.as_deref().map_or_else(|| "never".to_owned(), to_the_second);
            format!("{} ({} to {latest})", to_the_second(&full.at), to_the_second(&full.earliest))
        });
        let (slope, fit) = (said(one.per_hour), format!("{:.2}", one.fit));
        let error = format!("± {}", said(one.error_per_hour));
        vec![one.agent_name.clone(), one.series.clone(), said(one.now), slope, error, fit, full.unwrap_or_default()]
    };
    let titles = ["agent", "series", "now", "per hour", "error", "fit", "full"];
    sink.many(&page, &page.items, |one| &one.agent_name, || table::grid(&titles, page.items.iter().map(row)))?;
    if page.items.is_empty() {
        sink.say("too little is kept of that time to say where it leads")?;
    }
    Ok(())
}
