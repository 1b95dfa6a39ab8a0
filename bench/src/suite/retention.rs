//! How long whoever writes waits at most while old output, telemetry or audit entries are forgotten beside it, in the
//! steps and with the pauses in which a host forgets; and the same alone, for as long afterwards.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, bail, ensure};
use domain::attempt::Event;
use domain::telemetry::metric::Metric;
use domain::telemetry::report::{Reading, Report};
use domain::telemetry::rollup::Level;
use domain::time::Timestamp;
use ports::agents::Agents;
use ports::commands::{Chunk, Commands};
use ports::error::StoreError;
use ports::journal::{Cut, Installation, Trail};
use ports::telemetry::Telemetry;
use serde_json::json;
use storage::{postgres, sqlite};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::aged::{self, DAY};
use super::past::fixtures::{Machine, advance, chunk, command, enrol, finish};
use crate::args::Retention;
use crate::conditions::Conditions;
use crate::latency::{Quantiles, Recorder};
use crate::report::{Measured, round};
use crate::schedule::now_ns;
use crate::store::{Kept, Store};
use crate::suite::keep;
use crate::usage::Meter;

/// What forgetting may add to the longest wait.
const GOAL: Duration = Duration::from_millis(50);
/// Between two steps, as a host takes them.
const BREATH: Duration = Duration::from_millis(20);
/// Audit entries of one step, where a store does not drop them by days.
const STEP: u32 = 500;
/// Steps in a row that give way to those who write.
const PUT_OFF: u32 = 100;

/// Fills a store with what is old, writes while that is forgotten, then writes alone.
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
        if asked.of == Kept::Audit {
            aged::fill_sqlite(asked, path).await?;
            // Before anything of today: on one chain days never go back.
            aged::entries(asked, &opened).await?;
        }
        let machine = first(&opened).await?;
        if asked.of != Kept::Audit {
            aged::fill_sqlite(asked, path).await?;
        }
        measure(asked, opened, &machine).await?
    } else {
        let (opened, writer) = postgres::open(postgres::Options::new(&url), live).await?;
        running.spawn(writer.run(CancellationToken::new()));
        if asked.of == Kept::Audit {
            aged::fill_postgres(asked, &url).await?;
            // Before anything of today: on one chain days never go back.
            aged::entries(asked, &opened).await?;
        }
        let machine = first(&opened).await?;
        if asked.of != Kept::Audit {
            aged::fill_postgres(asked, &url).await?;
        }
        measure(asked, opened, &machine).await?
    };
    found.cost = meter.stop();
    conditions.look_again().await;
    println!("\n{conditions}\n");
    keep(found, &conditions, json)
}

trait Rows: Commands + Telemetry + Trail + Clone + Send + Sync + 'static {}

impl<S: Commands + Telemetry + Trail + Clone + Send + Sync + 'static> Rows for S {}

#[expect(clippy::disallowed_methods, reason = "what is old is so by the real time")]
pub(super) fn now() -> Timestamp {
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
    let mut new = command(&[machine]);
    new.audit.at = now();
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

/// A machine's report, its wait noted.
async fn tell<S: Rows>(store: &S, machine: &Machine, waits: &Recorder) -> Result<()> {
    let (at, readings) = (now(), vec![Reading::new(Metric::CpuTotal, 12.5)]);
    let begun = now_ns();
    store.store_reports(&[Report { agent: machine.id, at, received_at: at, readings }]).await?;
    waits.record(0, now_ns() - begun);
    Ok(())
}

/// One step, as a host takes it; whether there may be more.
async fn step<S: Rows>(store: &S, of: Kept, before: Timestamp) -> Result<bool, StoreError> {
    match of {
        Kept::Output => store.forget_output(before).await,
        Kept::Telemetry => store.forget(Level::Raw, before, now()).await,
        Kept::Audit => Ok(store.prune(Cut { before, most: STEP, at: now(), audit: None }).await? > 0),
    }
}

/// Steps until there is nothing more to forget; how many gave way to those who write, and were taken again.
async fn forget<S: Rows>(store: S, of: Kept, before: Timestamp, taken: Arc<Recorder>) -> Result<u64> {
    let (mut all, mut in_a_row) = (0, 0);
    loop {
        let begun = now_ns();
        let more = step(&store, of, before).await;
        taken.record(0, now_ns() - begun);
        match more {
            Ok(false) => return Ok(all),
            Ok(true) => in_a_row = 0,
            // A host would come again in five minutes.
            Err(StoreError::Unavailable(_)) if in_a_row < PUT_OFF => (all, in_a_row) = (all + 1, in_a_row + 1),
            Err(error) => bail!("forgetting: {error}"),
        }
        tokio::time::sleep(BREATH).await;
    }
}

async fn measure<S: Rows>(asked: &Retention, store: S, machine: &Machine) -> Result<Measured> {
    let (alone, beside, steps) = (Recorder::default(), Recorder::default(), Arc::new(Recorder::default()));
    let over = Arc::new(AtomicBool::new(false));
    let before = Timestamp(now().0.div_euclid(DAY) * DAY);
    let mut forgetting = JoinSet::new();
    let (work, told) = (forget(store.clone(), asked.of, before, steps.clone()), over.clone());
    forgetting.spawn(async move {
        let put_off = work.await;
        told.store(true, Ordering::Relaxed);
        put_off
    });
    let write = async |waits: &Recorder| {
        life(&store, machine, waits).await?;
        if asked.of == Kept::Telemetry { tell(&store, machine, waits).await } else { Ok(()) }
    };
    let (begun, mut lives) = (Instant::now(), 0);
    while !over.load(Ordering::Relaxed) {
        write(&beside).await?;
        lives += 1;
    }
    let as_long = Instant::now() + begun.elapsed();
    while Instant::now() < as_long {
        write(&alone).await?;
        lives += 1;
    }
    let mut put_off = 0;
    for steps in forgetting.join_all().await {
        put_off += steps?;
    }
    let mut found = Measured::new(
        "retention",
        json!({ "of": asked.of.name(), "rows": asked.rows, "store": asked.store.to_string() }),
    );
    found.operations = lives;
    let [alone, beside] = [alone, beside].map(|waits| waits.quantiles());
    let steps = steps.quantiles();
    ensure!(steps.count > 1, "there was nothing to forget");
    let both = |of: fn(&Quantiles) -> f64| json!([round(of(&alone) / 1e3), round(of(&beside) / 1e3)]);
    found.note("steps", steps.count);
    found.note("steps_put_off", put_off);
    found.note("step_p50_ms", round(steps.p50_us / 1e3));
    found.note("step_p99_ms", round(steps.p99_us / 1e3));
    found.note("step_longest_ms", round(steps.max_us / 1e3));
    found.note("wait_p50_ms", both(|waits| waits.p50_us));
    found.note("wait_p99_ms", both(|waits| waits.p99_us));
    found.note("wait_longest_ms", both(|waits| waits.max_us));
    let more = Duration::from_micros((beside.max_us - alone.max_us).max(0.0) as u64);
    if more > GOAL {
        found.faults.push(format!(
            "the longest wait is {} ms longer while {} is forgotten",
            more.as_millis(),
            asked.of.name()
        ));
    }
    Ok(found)
}
