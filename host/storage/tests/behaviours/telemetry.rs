//! What machines said of themselves: kept once, rolled up to the same again and again, forgotten in time.

use std::time::Duration;

use domain::telemetry::metric::{Metric, Series};
use domain::telemetry::report::{Reading, Report};
use domain::telemetry::rollup::{Bucket, Level, Summary, roll, start};
use domain::time::Timestamp;
use futures_util::future::join_all;
use plan::id::AgentId;

use super::fixtures::*;
use super::{Ground, Store};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: i64 = 86_400;

fn report(agent: AgentId, seconds: i64, cpu: f64) -> Report {
    let readings = vec![
        Reading::new(Metric::CpuTotal, cpu),
        Reading::labelled(Metric::DiskUsed, "/", 1_000_000_000_123.0 + cpu),
        Reading::labelled(Metric::ContainerState, "web", 2.0),
    ];
    Report { agent, at: at(seconds), received_at: at(seconds + 1), readings: readings.into() }
}

/// Reports every 20 s for `seconds` from `NOON`'s hour on.
fn reports(agent: AgentId, seconds: i64) -> Vec<Report> {
    let first = start(NOON, HOUR).0 / 1_000_000 - NOON.0 / 1_000_000;
    (0..seconds / 20).map(|n| report(agent, first + n * 20, (n % 50) as f64)).collect()
}

fn as_buckets(reports: &[Report]) -> Vec<Bucket> {
    reports.iter().map(|report| Bucket::of(report.at, report.readings.to_vec())).collect()
}

async fn keep<S: Store>(store: &S, reports: &[Report]) -> u64 {
    let mut new = 0;
    for part in reports.chunks(200) {
        new += store.store_reports(part).await.expect("stored");
    }
    new
}

async fn all<S: Store>(store: &S, agent: AgentId, level: Level) -> Vec<Bucket> {
    store.buckets(agent, level, at(-2 * DAY), at(2 * DAY), 100_000).await.expect("read")
}

pub async fn a_report_reads_back_and_is_kept_once<S: Store>(Ground { store, .. }: Ground<S>) {
    let (web, db) = (AgentId(uuid()), AgentId(uuid()));
    let said = [report(web, 0, 12.5), report(web, 30, 50.0), report(db, 0, 99.0)];
    assert_eq!(keep(&store, &said).await, 3);
    assert_eq!(keep(&store, &[report(web, 30, 1.0), report(web, 60, 1.0)]).await, 1, "the first of an instant is kept");
    let twice = [report(db, 30, 1.0), report(db, 60, 1.0), report(db, 30, 2.0), report(web, 60, 2.0)];
    assert_eq!(keep(&store, &twice).await, 2, "what is said twice at once is kept once, too");
    assert_eq!(keep(&store, &[report(db, 90, 1.0)]).await, 1, "what is new is taken among repeats and after them");
    let found = store.buckets(web, Level::Raw, at(0), at(60), 10).await;
    assert_eq!(found, Ok(as_buckets(&said[..2])), "the end is not part of it");
    assert_eq!(store.buckets(web, Level::Raw, at(1), at(61), 1).await, Ok(as_buckets(&said[1..2])));
    assert_eq!(store.buckets(db, Level::Raw, at(-DAY), at(20), 10).await, Ok(as_buckets(&said[2..])));
    assert_eq!(store.buckets(db, Level::Raw, at(5), at(5), 10).await, Ok(vec![]));
    assert_eq!(store.store_reports(&[]).await, Ok(0));
}

pub async fn whoever_comes_first_on_a_new_day_is_taken_with_all_who_come_beside_it<S: Store>(
    Ground { store, .. }: Ground<S>,
) {
    let machines: Vec<AgentId> = (0..8).map(|_| AgentId(uuid())).collect();
    for day in 1..=20 {
        let said: Vec<_> = machines.iter().map(|machine| [report(*machine, day * DAY, 1.0)]).collect();
        let taken = join_all(said.iter().map(|one| store.store_reports(one))).await;
        assert_eq!(taken, vec![Ok(1); machines.len()], "day {day}");
    }
}

pub async fn to_roll_up_again_changes_nothing<S: Store>(Ground { store, .. }: Ground<S>) {
    let web = enrol(&store, "web-1", "eu").await.id;
    let said = reports(web, 2 * 3_600);
    assert_eq!(keep(&store, &said).await, 360);
    let (from, until) = (start(NOON, HOUR), start(NOON, HOUR) + HOUR * 2);
    assert_eq!(store.rolled_until(Level::Minute).await, Ok(None));
    assert_eq!(store.roll_up(Level::Minute, from, from + HOUR).await, Ok(60));
    assert_eq!(store.rolled_until(Level::Minute).await, Ok(Some(from + HOUR)));
    assert_eq!(store.roll_up(Level::Minute, from + HOUR, until).await, Ok(60));
    assert_eq!(store.roll_up(Level::Hour, from, until).await, Ok(2));
    let minutes = roll(as_buckets(&said), Duration::from_secs(60));
    let hours = roll(as_buckets(&said), HOUR);
    let stored = async || (all(&store, web, Level::Minute).await, all(&store, web, Level::Hour).await);
    assert_eq!(stored().await, (minutes.clone(), hours.clone()), "what the pure rule says");
    let cpu = hours[0].series.iter().find(|(series, _)| *series == Series::of(Metric::CpuTotal)).expect("there").1;
    assert_eq!(cpu, Summary { min: 0.0, max: 49.0, sum: 4_110.0, last: 29.0, count: 180 });

    // Again as a whole, and from the middle as after a crash.
    for (level, begin) in [(Level::Minute, from), (Level::Minute, from + HOUR), (Level::Hour, from)] {
        store.roll_up(level, begin, until).await.expect("rolled up");
        assert_eq!(stored().await, (minutes.clone(), hours.clone()));
    }
    // The mark never goes back.
    store.roll_up(Level::Minute, from, from + HOUR).await.expect("rolled up");
    assert_eq!(store.rolled_until(Level::Minute).await, Ok(Some(until)));
}

pub async fn many_agents_are_rolled_up_each_by_itself<S: Store>(Ground { store, .. }: Ground<S>) {
    let mut agents = Vec::new();
    for n in 0..120 {
        agents.push(enrol(&store, &format!("web-{n}"), "eu").await.id);
    }
    let first = start(NOON, HOUR).0 / 1_000_000 - NOON.0 / 1_000_000;
    let said: Vec<Report> = agents.iter().zip(0_i32..).map(|(id, n)| report(*id, first, f64::from(n % 100))).collect();
    keep(&store, &said).await;
    let from = start(NOON, HOUR);
    assert_eq!(store.roll_up(Level::Minute, from, from + Duration::from_secs(60)).await, Ok(120));
    for (agent, said) in agents.iter().zip(&said) {
        let expected = roll(as_buckets(std::slice::from_ref(said)), Duration::from_secs(60));
        assert_eq!(all(&store, *agent, Level::Minute).await, expected);
    }
}

pub async fn what_is_old_is_forgotten_and_the_rest_stays<S: Store>(Ground { store, .. }: Ground<S>) {
    let web = AgentId(uuid());
    let old: Vec<Report> = (0..1_200).map(|n| report(web, -3 * DAY + n, 1.0)).collect();
    let young = report(web, 0, 2.0);
    keep(&store, &old).await;
    keep(&store, std::slice::from_ref(&young)).await;
    let before = at(-DAY);
    let mut steps = 0;
    while store.forget(Level::Raw, before, NOON).await.expect("forgotten") {
        steps += 1;
        assert!(steps < 100, "it comes to an end");
    }
    let left = store.buckets(web, Level::Raw, Timestamp(0), at(DAY), 10_000).await;
    assert_eq!(left, Ok(as_buckets(&[young])));
    assert_eq!(store.forget(Level::Raw, before, NOON).await, Ok(false));
    // There is room for what comes next, and what is old still finds a place.
    assert_eq!(keep(&store, &[report(web, DAY, 3.0), report(web, -2 * DAY, 3.0)]).await, 2);
}
