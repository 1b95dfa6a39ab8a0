//! A day of one agent out of a store that holds many agents' weeks: how long the question takes, and whether it
//! grows with what is stored. The rows are written by SQL, as many as are asked for, in the form of the product.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use domain::telemetry::history::{MAX_POINTS, Retention};
use domain::telemetry::metric::{Metric, Wanted};
use domain::telemetry::report::Reading;
use domain::telemetry::rollup::{Bucket, roll};
use domain::time::Timestamp;
use plan::id::AgentId;
use ports::clock::Clock;
use ports::telemetry::Telemetry;
use serde_json::json;
use services::history::History;
use sqlx::{Connection as _, PgConnection, SqliteConnection};
use storage::{packed, postgres, sqlite};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::args::History as Asked;
use crate::conditions::Conditions;
use crate::latency::Recorder;
use crate::report::{Measured, round};
use crate::schedule::now_ns;
use crate::store::Store;
use crate::suite::keep;
use crate::usage::Meter;

const HOUR_US: i64 = 3_600_000_000;
const DAY: Duration = Duration::from_secs(86_400);
/// The end of what is stored.
const END: Timestamp = Timestamp(1_767_225_600_000_000);
/// A day of one agent, at most.
pub const GOAL_MS: f64 = 50.0;

struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        END
    }
}

fn agent(number: u64) -> Uuid {
    Uuid::from_u128(0x0193_f2a4_7c1e_7abc_8000_0000_0000_0000 + u128::from(number))
}

/// What remains of a minute of a machine of the usual size.
fn minute() -> Vec<u8> {
    let readings = |n: i64| {
        let mut all: Vec<Reading> =
            Metric::ALL.iter().filter(|metric| metric.label().is_empty()).map(|m| Reading::new(*m, n as f64)).collect();
        for mount in ["/", "/var"] {
            all.extend(
                [Metric::DiskUsedPct, Metric::DiskUsed, Metric::DiskTotal]
                    .map(|m| Reading::labelled(m, mount, n as f64)),
            );
        }
        all.extend([Metric::NetRx, Metric::NetTx].map(|metric| Reading::labelled(metric, "eth0", n as f64)));
        Bucket::of(Timestamp(n * 30_000_000), all)
    };
    roll([readings(0), readings(1)], Duration::from_secs(60)).iter().map(packed::bucket).next().unwrap_or_default()
}

/// Fills a fresh store and asks it.
///
/// # Errors
/// When the store cannot be made or does not answer.
pub async fn run(asked: &Asked, json: Option<&Path>) -> Result<bool> {
    let store = Store::start(asked.store, &asked.work)?;
    let mut conditions = Conditions::look(&asked.work, &store.durability()?).await;
    let url = store.fresh()?;
    let live = Arc::new(bus::local::Local::default());
    let stop = CancellationToken::new();
    // Nothing is written through it: its writer never runs.
    let telemetry: Arc<dyn Telemetry> = match url.strip_prefix("sqlite:") {
        Some(path) => {
            let (opened, _) = sqlite::open(sqlite::Options::new(path), live).await?;
            fill_sqlite(asked, path).await?;
            Arc::new(opened)
        }
        None => {
            let (opened, _) = postgres::open(postgres::Options::new(&url), live).await?;
            fill_postgres(asked, &url).await?;
            Arc::new(opened)
        }
    };
    let history = History::new(telemetry, Retention::default(), Arc::new(Stopped));
    let meter = Meter::start(None);
    let (latency, mut cold, mut points) = (Recorder::default(), Vec::new(), 0);
    let wanted = Wanted(Vec::new());
    let window = history.window((END - DAY, END), Duration::from_secs(60));
    for n in 0..asked.questions {
        // Far apart, so that hardly anything is in memory the first time.
        let of = AgentId(agent((n * 7_919) % asked.agents));
        let begun = now_ns();
        let page = history.page(&window, None, MAX_POINTS).await?;
        let found = history.read(of, &wanted, &page).await?;
        let took = now_ns() - begun;
        latency.record(0, took);
        if n < 20 {
            cold.push(took as f64 / 1e6);
        }
        ensure!(found.len() == 1_440, "a day has 1440 minutes, and {} came", found.len());
        points += found.len() as u64;
    }
    stop.cancel();
    conditions.look_again().await;
    let mut found = Measured::new(
        "history",
        json!({ "agents": asked.agents, "days": asked.days, "store": format!("{:?}", asked.store).to_lowercase() }),
    );
    found.operations = asked.questions;
    found.cost = meter.stop();
    found.rate = asked.questions as f64 / found.cost.seconds.max(1e-9);
    found.latency = latency.quantiles();
    found.note("points", points);
    found.note("first_20_max_ms", round(cold.iter().copied().fold(0.0, f64::max)));
    found.note("stored_bytes", store.bytes(&url)?);
    found.note("row_bytes", minute().len());
    if found.latency.p50_us / 1e3 > GOAL_MS {
        found.faults.push(format!("the median is over {GOAL_MS} ms"));
    }
    println!("\n{conditions}\n");
    keep(found, &conditions, json)
}

async fn fill_sqlite(asked: &Asked, path: &str) -> Result<()> {
    let mut store = SqliteConnection::connect(&format!("sqlite:{path}")).await.context("SQLite")?;
    sqlx::query("create temp table fleet (id blob)").execute(&mut store).await?;
    for number in 0..asked.agents {
        sqlx::query("insert into fleet values (?)").bind(agent(number)).execute(&mut store).await?;
    }
    let minute = minute();
    for hour in hours(asked) {
        // As the table stands; the product writes a minute of all agents at a time into the same pages.
        let text = "with recursive m (n) as (select 0 union all select n + 1 from m where n < 59) \
             insert into telemetry_minutes select ?1, f.id, ?1 * 3600000000 + m.n * 60000000, ?2 from fleet f cross join m";
        sqlx::query(text).bind(hour).bind(&minute).execute(&mut store).await?;
    }
    let mark = "insert into telemetry_marks values ('minute', ?1), ('hour', ?1)";
    sqlx::query(mark).bind(END.0).execute(&mut store).await?;
    Ok(store.close().await?)
}

async fn fill_postgres(asked: &Asked, url: &str) -> Result<()> {
    let mut store = PgConnection::connect(url).await.context("PostgreSQL")?;
    let fleet: Vec<Uuid> = (0..asked.agents).map(agent).collect();
    let minute = minute();
    for day in 0..asked.days {
        let end = END.0 / (24 * HOUR_US) - day.cast_signed();
        let part = format!(
            "create table telemetry_minutes_{0} partition of telemetry_minutes \
             for values from (to_timestamp({0} * 86400.0)) to (to_timestamp(({0} + 1) * 86400.0))",
            end - 1
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(part)).execute(&mut store).await?;
    }
    for hour in hours(asked) {
        // A minute of all agents at a time, as the product writes: an agent's rows lie far apart.
        let text = "insert into telemetry_minutes select f.id, to_timestamp($1::bigint * 3600 + m * 60), $2 \
             from generate_series(0, 59) m cross join unnest($3::uuid[]) as f (id)";
        sqlx::query(text).bind(hour).bind(&minute).bind(&fleet).execute(&mut store).await?;
    }
    let mark = "insert into telemetry_marks select l, to_timestamp($1::bigint) from unnest(array['minute', 'hour']) l";
    sqlx::query(mark).bind(END.0 / 1_000_000).execute(&mut store).await?;
    sqlx::raw_sql("vacuum analyze telemetry_minutes").execute(&mut store).await?;
    Ok(store.close().await?)
}

/// The hours that are filled, oldest first.
fn hours(asked: &Asked) -> std::ops::Range<i64> {
    let end = END.0 / HOUR_US;
    end - (asked.days * 24).cast_signed()..end
}
