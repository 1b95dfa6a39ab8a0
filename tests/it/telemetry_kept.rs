//! How long telemetry is kept on a real PostgreSQL: as it came, by the minute and by the hour, each for its own time,
//! and then dropped with the partition it lies in.

use std::sync::Arc;
use std::time::Duration;

use bus::local::Local;
use domain::telemetry::history::Retention;
use domain::telemetry::metric::Metric;
use domain::telemetry::report::{Reading, Report};
use domain::telemetry::rollup::{Bucket, Level, start};
use domain::time::Timestamp;
use plan::id::AgentId;
use ports::clock::Clock;
use ports::telemetry::Telemetry;
use services::rollups::Rollups;
use sqlx::{Connection as _, PgConnection};
use storage::postgres::{Options, PostgresStore, open};
use tests::store::Store;
use tests::wait::until;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::fixtures;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// Minutes that the machine tells of, twice each.
const MINUTES: u32 = 10;

/// A clock that stands still.
struct At(Timestamp);

impl Clock for At {
    fn now(&self) -> Timestamp {
        self.0
    }
}

fn first() -> Timestamp {
    start(fixtures::NOON, HOUR)
}

/// What there is of the machine's first hour.
async fn kept(store: &PostgresStore, agent: AgentId) -> [Vec<Bucket>; 3] {
    let mut found = [const { Vec::new() }; 3];
    for (level, found) in Level::ALL.into_iter().zip(&mut found) {
        *found = store.buckets(agent, level, first(), first() + HOUR, 1_000).await.expect("read");
    }
    found
}

/// Which partitions of the first hour are there: as it came, by the minute, by the hour.
async fn parts(connection: &mut PgConnection) -> [bool; 3] {
    let days = |of: i64| first().0.div_euclid(86_400_000_000 * of);
    let names = [("telemetry", 1), ("telemetry_minutes", 1), ("telemetry_hours", 30)];
    let mut there = [false; 3];
    for ((table, of), there) in names.into_iter().zip(&mut there) {
        let asked = sqlx::query_scalar("select to_regclass($1) is not null").bind(format!("{table}_{}", days(of)));
        *there = asked.fetch_one(&mut *connection).await.expect("an answer");
    }
    there
}

/// Has a host roll up and forget so long after the first hour began, until it looks like this.
async fn after(store: &PostgresStore, passed: Duration, what: &str, mut looks: impl AsyncFnMut() -> bool) {
    let (telemetry, clock) = (Arc::new(store.clone()), Arc::new(At(first() + passed)));
    let rollups = Rollups { telemetry, retention: Retention::default(), clock };
    let (stop, mut running) = (CancellationToken::new(), JoinSet::new());
    running.spawn(rollups.run(stop.clone()));
    until(what, async || looks().await.then_some(())).await;
    stop.cancel();
    running.join_all().await;
}

#[tokio::test]
async fn samples_minutes_and_hours_are_dropped_with_their_partitions_each_in_its_time() {
    let Some(Store::Postgres(url)) = Store::postgres() else { return };
    let (store, writer) = open(Options::new(&url), Arc::new(Local::default())).await.expect("opens");
    let (writing, mut running) = (CancellationToken::new(), JoinSet::new());
    running.spawn(writer.run(writing.clone()));
    let mut connection = PgConnection::connect(&url).await.expect("connects");
    let web = fixtures::enrol(&store, "web-1", "eu").await.id;
    let said: Vec<Report> = (0..MINUTES * 2)
        .map(|n| first() + Duration::from_secs(30) * n)
        .map(|at| Report { agent: web, at, received_at: at, readings: [Reading::new(Metric::CpuTotal, 12.5)].into() })
        .collect();
    assert_eq!(store.store_reports(&said).await, Ok(u64::from(MINUTES) * 2));

    after(&store, HOUR * 2, "all of it is rolled up", async || !kept(&store, web).await[2].is_empty()).await;
    assert_eq!(parts(&mut connection).await, [true; 3]);
    let [samples, minutes, hours] = kept(&store, web).await;
    assert_eq!((samples.len(), minutes.len(), hours.len()), (20, 10, 1));

    // A week as it came, a month by the minute, a year and a month by the hour.
    let mut gone = async |days: u32, what: &str, left: [bool; 3]| {
        after(&store, DAY * days, what, async || parts(&mut connection).await == left).await;
    };
    gone(9, "samples are dropped", [false, true, true]).await;
    assert_eq!(kept(&store, web).await, [vec![], minutes, hours.clone()], "what was made of them stays");
    gone(32, "minutes are dropped", [false, false, true]).await;
    assert_eq!(kept(&store, web).await, [vec![], vec![], hours]);
    gone(396 + 31, "hours are dropped", [false; 3]).await;
    assert_eq!(kept(&store, web).await, [const { Vec::<Bucket>::new() }; 3]);
    writing.cancel();
    running.join_all().await;
}
