//! How long whoever writes waits at most while old output is forgotten beside it, in the steps and with the pauses in
//! which a host forgets; and the same alone, for as long afterwards.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use domain::attempt::Event;
use domain::time::Timestamp;
use ports::agents::Agents;
use ports::commands::{Chunk, Commands};
use ports::journal::Installation;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use storage::{postgres, sqlite};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::past::fixtures::{Machine, advance, chunk, command, enrol, finish};
use crate::args::Retention;
use crate::conditions::Conditions;
use crate::latency::{Quantiles, Recorder};
use crate::report::{Measured, round};
use crate::schedule::now_ns;
use crate::store::Store;
use crate::suite::keep;
use crate::usage::Meter;

/// What forgetting may add to the longest wait.
const GOAL: Duration = Duration::from_millis(50);
/// Between two steps, as a host takes them.
const BREATH: Duration = Duration::from_millis(20);
/// Microseconds.
const DAY: i64 = 86_400_000_000;
/// What is forgotten came on so many days.
const DAYS: i64 = 10;
/// Bytes of each piece of output.
const BYTES: u64 = 200;

/// Fills a store with old output, writes while it is forgotten, then writes alone.
///
/// # Errors
/// When the store cannot be made or does not answer.
pub async fn run(asked: &Retention, json: Option<&Path>) -> Result<bool> {
    let store = Store::start(asked.store, &asked.work)?;
    let mut conditions = Conditions::look(&asked.work, &store.durability()?).await;
    let url = store.fresh()?;
    let live = Arc::new(bus::local::Local::default());
    let meter = Meter::start(None);
    let mut running = JoinSet::new();
    let mut found = if let Some(path) = url.strip_prefix("sqlite:") {
        let (opened, writer) = sqlite::open(sqlite::Options::new(path), live).await?;
        running.spawn(writer.run(CancellationToken::new()));
        let machine = first(&opened).await?;
        fill_sqlite(asked, path).await?;
        measure(asked, opened, &machine).await?
    } else {
        let (opened, writer) = postgres::open(postgres::Options::new(&url), live).await?;
        running.spawn(writer.run(CancellationToken::new()));
        let machine = first(&opened).await?;
        fill_postgres(asked, &url).await?;
        measure(asked, opened, &machine).await?
    };
    found.cost = meter.stop();
    conditions.look_again().await;
    println!("\n{conditions}\n");
    keep(found, &conditions, json)
}

#[expect(clippy::disallowed_methods, reason = "what is old is so by the real time")]
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// A machine with one command behind it, whose output is what will be old.
async fn first<S: Commands + Agents + Installation + Sync>(store: &S) -> Result<Machine> {
    let machine = enrol(store, "web-1", "eu").await;
    life(store, &machine, &Recorder::default()).await?;
    store.flush().await?;
    Ok(machine)
}

/// One command's life, each wait of it noted.
async fn life<S: Commands + Sync>(store: &S, machine: &Machine, waits: &Recorder) -> Result<()> {
    let new = command(&[machine]);
    let id = new.command.id;
    let mut begun = now_ns();
    let mut note = || {
        let now = now_ns();
        waits.record(0, now - std::mem::replace(&mut begun, now));
    };
    store.accept(new).await?;
    note();
    store.append(Chunk { at: now(), ..chunk(id, machine.id, 0, "some output of a usual length, in one piece\n") });
    store.advance(advance(id, machine.id, 5, &[Event::Send, Event::Acknowledge, Event::Start])).await?;
    note();
    store.advance(finish(id, machine.id, 9, true)).await?;
    note();
    Ok(())
}

async fn measure<S>(asked: &Retention, store: S, machine: &Machine) -> Result<Measured>
where
    S: Commands + Clone + Send + Sync + 'static,
{
    let (alone, beside, steps) = (Recorder::default(), Recorder::default(), Arc::new(Recorder::default()));
    let over = Arc::new(AtomicBool::new(false));
    let before = Timestamp(now().0.div_euclid(DAY) * DAY);
    let mut forgetting = JoinSet::new();
    let (forgetful, told, taken) = (store.clone(), over.clone(), steps.clone());
    forgetting.spawn(async move {
        let mut more = Ok(true);
        while matches!(more, Ok(true)) {
            let begun = now_ns();
            more = forgetful.forget_output(before).await;
            taken.record(0, now_ns() - begun);
            tokio::time::sleep(BREATH).await;
        }
        told.store(true, Ordering::Relaxed);
        more
    });
    let (begun, mut lives) = (Instant::now(), 0);
    while !over.load(Ordering::Relaxed) {
        life(&store, machine, &beside).await?;
        lives += 1;
    }
    let as_long = Instant::now() + begun.elapsed();
    while Instant::now() < as_long {
        life(&store, machine, &alone).await?;
        lives += 1;
    }
    for more in forgetting.join_all().await {
        more.context("forgetting")?;
    }
    let mut found =
        Measured::new("retention", json!({ "rows": asked.rows, "store": format!("{:?}", asked.store).to_lowercase() }));
    found.operations = lives;
    let [alone, beside] = [alone, beside].map(|waits| waits.quantiles());
    let steps = steps.quantiles();
    ensure!(steps.count > 1, "there was nothing to forget");
    let both = |of: fn(&Quantiles) -> f64| json!([round(of(&alone) / 1e3), round(of(&beside) / 1e3)]);
    found.note("steps", steps.count);
    found.note("step_p50_ms", round(steps.p50_us / 1e3));
    found.note("step_p99_ms", round(steps.p99_us / 1e3));
    found.note("step_longest_ms", round(steps.max_us / 1e3));
    found.note("wait_p50_ms", both(|waits| waits.p50_us));
    found.note("wait_p99_ms", both(|waits| waits.p99_us));
    found.note("wait_longest_ms", both(|waits| waits.max_us));
    let more = Duration::from_micros((beside.max_us - alone.max_us).max(0.0) as u64);
    if more > GOAL {
        found.faults.push(format!("the longest wait is {} ms longer while output is forgotten", more.as_millis()));
    }
    Ok(found)
}

/// When the first piece came, and the time between two, in microseconds.
fn spread(asked: &Retention) -> (i64, i64) {
    let today = now().0.div_euclid(DAY);
    ((today - DAYS) * DAY, DAYS * DAY / i64::try_from(asked.rows + 1).unwrap_or(i64::MAX))
}

async fn fill_sqlite(asked: &Retention, path: &str) -> Result<()> {
    let mut store = SqliteConnection::connect(&format!("sqlite:{path}")).await.context("SQLite")?;
    sqlx::raw_sql("pragma busy_timeout = 60000").execute(&mut store).await?;
    let (first, apart) = spread(asked);
    let text = format!(
        "with recursive n (n) as (select 1 union all select n + 1 from n where n < {rows}) \
         insert into outputs (seq, command_id, agent_id, attempt, stream, byte_offset, at, data) \
         select n.n - 1000000000, o.command_id, o.agent_id, o.attempt, o.stream, n.n * {BYTES}, \
             {first} + n.n * {apart}, zeroblob({BYTES}) \
         from n cross join (select * from outputs order by seq limit 1) o",
        rows = asked.rows
    );
    sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut store).await?;
    Ok(store.close().await?)
}

async fn fill_postgres(asked: &Retention, url: &str) -> Result<()> {
    let mut store = PgConnection::connect(url).await.context("PostgreSQL")?;
    let (first, apart) = spread(asked);
    for day in first / DAY..first / DAY + DAYS {
        let text = format!(
            "create table outputs_{day} partition of outputs for values from (to_timestamp({})) to (to_timestamp({}))",
            day * 86_400,
            (day + 1) * 86_400
        );
        sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut store).await?;
    }
    let text = format!(
        "insert into outputs (seq, command_id, agent_id, attempt, stream, byte_offset, at, data) \
         select n.n - 1000000000, o.command_id, o.agent_id, o.attempt, o.stream, n.n * {BYTES}, \
             to_timestamp(({first} + n.n * {apart}) / 1e6), convert_to(repeat('.', {BYTES}), 'UTF8') \
         from generate_series(1::bigint, {rows}) as n (n) cross join (select * from outputs order by seq limit 1) o",
        rows = asked.rows
    );
    sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut store).await?;
    sqlx::raw_sql("checkpoint").execute(&mut store).await?;
    Ok(store.close().await?)
}
