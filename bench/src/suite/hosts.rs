//! H1: two hosts on one PostgreSQL that call each other by Redis. Commands are submitted at one for agents of the other,
//! and what both ask Redis meanwhile is counted by themselves; then with agents that only say how their machines are.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use servers::redis::Redis;

use crate::fleet::Fleet;
use crate::identity::Identities;
use crate::operator::Operator;
use crate::report::round;
use crate::runs::commands::{self, DRAIN, Load, Pace};
use crate::runs::ledger_check::Check;
use crate::store::Kind;
use crate::suite::ground::Ground;
use crate::suite::host::Setting;
use crate::suite::product::LIGHT;
use crate::table::{Goal, Row};

/// Agents, all at the second host.
const AGENTS: usize = 100;
/// Reports of all agents a second.
const REPORTS: f64 = 2_000.0;
/// How the hosts count what they ask Redis.
const REQUESTS: &str = "viworks_redis_requests_total";

/// Counts requests to Redis by command and by report.
///
/// # Errors
/// When a host does not start, or a run does not count.
pub async fn run(ground: &Ground<'_>) -> Result<Vec<Row>> {
    if ground.kind == Kind::Sqlite {
        return Ok(Vec::new());
    }
    let redis = match Redis::start() {
        Ok(redis) => redis,
        Err(error) => return Ok(vec![Row::skipped("H1", "requests to Redis", format!("{error:#}"))]),
    };
    let (url, address) = (ground.store.fresh()?, redis.url());
    let setting = Setting { redis: Some(&address), ..Setting::default() };
    let (first, here, door) = ground.host_as(&url, setting).await?;
    let identities = Identities::obtain(&here, &door, AGENTS, None).await?;
    let (second, there, other_door) = ground.host_beside(&first, &url, setting).await?;
    let both = [&here, &there];

    let fleet = Fleet::connect(&other_door, &identities, ground.behaviour()).await?;
    let load = |pace| Load {
        in_flight: 64,
        duration: Duration::from_secs(if ground.asked.quick { 5 } else { 15 }),
        warmup: Duration::from_secs(2),
        pace,
        check: Check::Sample(2_000),
        patience: DRAIN,
        priority: None,
        host_pid: Some(first.pid),
    };
    let mut rows = Vec::new();
    let light = Pace::Open { rate: LIGHT, poisson: false };
    for (name, how, pace) in [("hosts", "as many as can be", Pace::Closed), ("hosts-light", "50/s", light)] {
        let before = asked(both).await?;
        let (mut found, accepted) = commands::run(&here, &fleet, &load(pace)).await?;
        let each = (asked(both).await? - before) / accepted.len() as f64;
        name.clone_into(&mut found.scenario);
        found.note("redis_requests_each", round(each));
        let found = ground.keep(found)?;
        let what = format!("two hosts, {how}: requests to Redis ÷ commands");
        rows.push(Row::new("H1", &what, "", Goal::AtMost(3.0), each, 1.0));
        rows.push(match pace {
            Pace::Closed => Row::new("A3", "two hosts and Redis: done", "/s", Goal::Told, found.rate, f64::NAN),
            _ => Row::new("A3", "two hosts and Redis, 50/s: p50", "µs", Goal::Told, found.latency.p50_us, f64::NAN),
        });
    }
    let silent = over_time(ground, both).await?;
    fleet.close().await?;

    let mut telling = ground.behaviour();
    telling.sample_every = Some(Duration::from_secs_f64(AGENTS as f64 / REPORTS));
    let fleet = Fleet::connect(&other_door, &identities, telling).await?;
    let telling = over_time(ground, both).await?;
    let faults = fleet.faults();
    anyhow::ensure!(faults.is_empty(), "{}", faults.join("; "));
    fleet.close().await?;
    second.end().await?;
    first.end().await?;
    let each = (telling - silent).max(0.0) / REPORTS;
    rows.push(Row::new("H1", "two hosts: requests to Redis ÷ reports of agents", "", Goal::AtMost(0.01), each, 1.0));
    Ok(rows)
}

/// Requests to Redis of both, a second, for a while.
async fn over_time(ground: &Ground<'_>, both: [&Arc<Operator>; 2]) -> Result<f64> {
    let seconds: u64 = if ground.asked.quick { 5 } else { 15 };
    let before = asked(both).await?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    Ok((asked(both).await? - before) / seconds as f64)
}

/// What both have asked Redis so far.
async fn asked(both: [&Arc<Operator>; 2]) -> Result<f64> {
    let [one, other] = both.map(|operator| operator.metric(REQUESTS));
    one.await.zip(other.await).map(|(one, other)| one + other).context("a host does not count its requests to Redis")
}
