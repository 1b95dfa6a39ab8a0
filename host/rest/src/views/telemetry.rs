//! Telemetry as callers are shown it.

use std::collections::BTreeMap;

use api::telemetry::{
    AgentHealth, Deduction as DeductionBody, GroupHealth, IngestTally, LatestTelemetry, TelemetryFull, TelemetryPoint,
    TelemetrySpread, TelemetrySummary, TelemetryTogether, TelemetryTrend,
};
use domain::agent::Agent;
use domain::target::Candidate;
use domain::telemetry::across::{Crowd, Spread};
use domain::telemetry::health::{Deduction, Health, Many};
use domain::telemetry::metric::{Metric, Series, Unit, Wanted};
use domain::telemetry::rollup::{Bucket, Summary};
use domain::telemetry::trend::{Forecast, Trend};
use serde::Deserialize;
use serde_json::{Value, json};
use services::directory::Latest;
use services::ingest::Tally;

use crate::instant;

/// What a sample says it lacks.
#[derive(Default, Deserialize)]
struct Lacking {
    #[serde(default)]
    missing: Vec<String>,
}

/// What a machine said last.
pub fn latest(candidate: &Candidate, latest: Option<&Latest>, is_stale: bool, wanted: &Wanted) -> LatestTelemetry {
    let Candidate { agent, status, last_seen: _ } = candidate;
    let readings = latest.map(|latest| &*latest.readings).unwrap_or_default();
    let of = |metric: Metric, value: f64| metric.word(value).map_or_else(|| json!(value), Value::from);
    let series = readings
        .iter()
        .filter(|reading| wanted.has(reading.series.metric, &reading.series.label))
        .map(|reading| (reading.series.to_string(), of(reading.series.metric, reading.value)));
    let lacking = latest.and_then(|latest| serde_json::from_str::<Lacking>(&latest.sample).ok()).unwrap_or_default();
    LatestTelemetry {
        agent: agent.id.to_string(),
        agent_name: agent.name.clone(),
        site: agent.site.clone(),
        status: status.as_str().to_owned(),
        at: latest.map(|latest| instant::text(latest.at)),
        received_at: latest.map(|latest| instant::text(latest.received_at)),
        clock_skew_ms: latest.map_or(0, |latest| latest.skew_ms),
        is_stale,
        series: series.collect(),
        missing: lacking.missing,
    }
}

/// One step of the past.
pub fn point(bucket: Bucket) -> TelemetryPoint {
    let Bucket { start, series } = bucket;
    let shown = |(series, summary): (Series, Summary)| {
        let avg = summary.avg();
        let Summary { min, max, sum: _, last, count } = summary;
        let last_word = series.metric.word(last).map(str::to_owned);
        (series.to_string(), TelemetrySummary { min, avg, max, last, last_word, count })
    };
    TelemetryPoint { at: instant::text(start), series: series.into_iter().map(shown).collect() }
}

/// How a series is spread; `names` are those of the machines, in the order of the numbers.
pub fn spread(spread: Spread, names: &[&str]) -> TelemetrySpread {
    let Spread { count, sum, min, avg, p95, max, at_max } = spread;
    let max_agent = names.get(at_max).copied().unwrap_or_default().to_owned();
    TelemetrySpread { count: count as u64, sum, min, avg, p95, max, max_agent }
}

/// A group of so many machines in one step; `name` is that of the machine at a place.
pub fn crowd<'n>(
    key: Option<String>,
    agents: u64,
    crowd: &Crowd,
    name: impl Fn(usize) -> &'n str,
) -> TelemetryTogether {
    let series = crowd.series.iter().filter_map(|(series, numbers)| {
        let (places, values): (Vec<usize>, Vec<f64>) = numbers.iter().copied().unzip();
        let names: Vec<&str> = places.into_iter().map(&name).collect();
        Some((series.to_string(), spread(domain::telemetry::across::spread(&values)?, &names)))
    });
    TelemetryTogether { key, agents, reporting: crowd.reporting, series: series.collect() }
}

/// Where a series is going.
pub fn trend(agent: &Agent, series: &Series, trend: &Trend) -> TelemetryTrend {
    let Trend { per_hour, error_per_hour, now, fit, points, at: _ } = *trend;
    let full = (series.metric.unit() == Unit::Percent).then(|| trend.meets(100.0)).flatten();
    let full = full.map(|Forecast { at, earliest, latest }| TelemetryFull {
        at: instant::text(at),
        earliest: instant::text(earliest),
        latest: latest.map(instant::text),
    });
    TelemetryTrend {
        agent: agent.id.to_string(),
        agent_name: agent.name.clone(),
        series: series.to_string(),
        now,
        per_hour,
        error_per_hour,
        fit,
        points: points as u64,
        full,
    }
}

/// How well a machine is.
pub fn health(candidate: &Candidate, health: Health) -> AgentHealth {
    let Candidate { agent, status, last_seen: _ } = candidate;
    let Health { score, deductions } = health;
    let deductions = deductions.into_iter().map(|Deduction { why, points }| DeductionBody { why, points });
    AgentHealth {
        agent: agent.id.to_string(),
        agent_name: agent.name.clone(),
        site: agent.site.clone(),
        status: status.as_str().to_owned(),
        score,
        deductions: deductions.collect(),
    }
}

/// How well several machines are.
pub fn many(site: Option<String>, many: &Many) -> GroupHealth {
    let (score, counted) = (many.score(), many.counted());
    let Many { agents, online, degraded, offline, maintenance, pending, sum } = *many;
    GroupHealth { site, score, sum, counted, agents, online, degraded, offline, maintenance, pending }
}

/// What became of telemetry.
pub fn tally(tally: Tally) -> IngestTally {
    let Tally { taken, stored, repeated, dropped, waiting, refused, passed_over } = tally;
    let refused: BTreeMap<String, u64> = refused.into_iter().map(|(why, n)| (why.as_str().to_owned(), n)).collect();
    IngestTally { taken, stored, repeated, dropped, waiting, refused, passed_over }
}
