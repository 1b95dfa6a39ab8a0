//! How long whoever writes waits at most while old output, telemetry or audit entries are forgotten beside it, in the
//! steps and with the pauses in which a host forgets; and the same alone, in turns. What the bare disk took at the same
//! moment is told apart: see [`crate::disk`].

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail, ensure};
use domain::attempt::Event;
use domain::telemetry::metric::Metric;
use domain::telemetry::report::{Reading, Report};
use domain::telemetry::rollup::Level;
use domain::time::Timestamp;
use ports::agents::Agents;
use ports::commands::{Chunk, Commands};
use ports::error::StoreError;
use ports::journal::{Cut, Installation, Journal, Trail};
use ports::telemetry::Telemetry;
use serde_json::json;
use storage::{postgres, sqlite};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::aged::{self, DAY};
use super::past::fixtures::{Machine, advance, chunk, command, enrol, finish};
use crate::args::Retention;
use crate::conditions::Conditions;
use crate::disk::{Disk, Stretch};
use crate::latency::{Quantiles, Recorder};
use crate::report::{Measured, round};
use crate::schedule::{nanos, now_ns};
use crate::store::{Kept, Store};
use crate::suite::keep;
use crate::usage::Meter;

/// The longest wait while something is forgotten, without what the bare disk took of it.
const GOAL: Duration = Duration::from_millis(50);
/// How long it is forgotten, and then not, in turn.
const TURN: Duration = Duration::from_secs(1);
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
        let machine = fill(asked, &opened, &url).await?;
        measure(asked, opened, &machine).await?
    } else {
        let (opened, writer) = postgres::open(postgres::Options::new(&url), live).await?;
        running.spawn(writer.run(CancellationToken::new()));
        let machine = fill(asked, &opened, &url).await?;
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

/// Fills the store at this address with what is old; answers the machine that goes on writing there.
async fn fill<S>(asked: &Retention, store: &S, url: &str) -> Result<Machine>
where
    S: Commands + Agents + Installation + Journal + Sync,
{
    if asked.of == Kept::Audit {
        aged::fill(asked, url).await?;
        // Before anything of today: on one chain days never go back.
        aged::entries(asked, store).await?;
        return first(store).await;
    }
    // Everything else that is old is a machine's.
    let machine = first(store).await?;
    aged::fill(asked, url).await?;
    Ok(machine)
}

/// A machine with one command behind it, whose output is what will be old.
async fn first<S: Commands + Agents + Installation + Sync>(store: &S) -> Result<Machine> {
    let machine = enrol(store, "web-1", "eu").await;
    life(store, &machine, &mut Vec::new()).await?;
    store.flush().await?;
    Ok(machine)
}

/// One command's life, each wait of it noted.
async fn life<S: Commands + Sync>(store: &S, machine: &Machine, waits: &mut Vec<Stretch>) -> Result<()> {
    let mut new = command(&[machine]);
    new.audit.at = now();
    let id = new.command.id;
    let mut begun = now_ns();
    let mut note = || {
        let now = now_ns();
        waits.push(Stretch { from: std::mem::replace(&mut begun, now), to: now });
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
async fn tell<S: Rows>(store: &S, machine: &Machine, waits: &mut Vec<Stretch>) -> Result<()> {
    let (at, readings) = (now(), vec![Reading::new(Metric::CpuTotal, 12.5)]);
    let from = now_ns();
    store.store_reports(&[Report { agent: machine.id, at, received_at: at, readings: readings.into() }]).await?;
    waits.push(Stretch { from, to: now_ns() });
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

/// Steps until there is nothing more to forget, when it is their turn; how many gave way to those who write, and were
/// taken again.
async fn forget<S: Rows>(
    store: S,
    of: Kept,
    before: Timestamp,
    mut turn: watch::Receiver<bool>,
    taken: Arc<Recorder>,
) -> Result<u64> {
    let (mut all, mut in_a_row) = (0, 0);
    loop {
        turn.wait_for(|ours| *ours).await?;
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

/// Waits, of one kind of turn.
#[derive(Default)]
struct Turns {
    waits: Vec<Stretch>,
    /// When it was their turn.
    when: Vec<Stretch>,
}

impl Turns {
    fn found(&self, disk: &[Stretch]) -> Found {
        let (waits, own, bare) = (Recorder::default(), Recorder::default(), Recorder::default());
        for wait in &self.waits {
            waits.record(0, wait.long());
            own.record(0, wait.without(disk));
        }
        let ours = |sync: &&Stretch| self.when.iter().any(|turn| sync.from >= turn.from && sync.from < turn.to);
        disk.iter().filter(ours).for_each(|sync| bare.record(0, sync.long()));
        Found { waits: waits.quantiles(), own: own.quantiles(), disk: bare.quantiles() }
    }
}

/// The same in numbers.
struct Found {
    waits: Quantiles,
    /// Without what the bare disk took at the same moment.
    own: Quantiles,
    /// What the bare disk took.
    disk: Quantiles,
}

async fn measure<S: Rows>(asked: &Retention, store: S, machine: &Machine) -> Result<Measured> {
    let steps = Arc::new(Recorder::default());
    let before = Timestamp(now().0.div_euclid(DAY) * DAY);
    let disk = Disk::watch(&asked.work)?;
    let (turn, theirs) = watch::channel(true);
    let mut forgetting = JoinSet::new();
    forgetting.spawn(forget(store.clone(), asked.of, before, theirs, steps.clone()));
    let (mut beside, mut alone) = (Turns::default(), Turns::default());
    let mut put_off = None;
    while put_off.is_none() {
        for (turns, forgets) in [(&mut beside, true), (&mut alone, false)] {
            turn.send_replace(forgets);
            let from = now_ns();
            while now_ns() - from < nanos(TURN) {
                life(&store, machine, &mut turns.waits).await?;
                if asked.of == Kept::Telemetry {
                    tell(&store, machine, &mut turns.waits).await?;
                }
                if forgets && let Some(over) = forgetting.try_join_next() {
                    put_off = Some(over??);
                    break;
                }
            }
            turns.when.push(Stretch { from, to: now_ns() });
        }
    }
    let disk = disk.end()?;
    let mut found = Measured::new(
        "retention",
        json!({ "of": asked.of.name(), "rows": asked.rows, "store": asked.store.to_string() }),
    );
    found.operations = (beside.waits.len() + alone.waits.len()) as u64;
    let pair = [alone.found(&disk), beside.found(&disk)];
    let steps = steps.quantiles();
    ensure!(steps.count > 1, "there was nothing to forget");
    let both = |of: fn(&Found) -> f64| json!(pair.each_ref().map(|found| round(of(found) / 1e3)));
    found.note("steps", steps.count);
    found.note("steps_put_off", put_off.unwrap_or_default());
    found.note("step_p50_ms", round(steps.p50_us / 1e3));
    found.note("step_p99_ms", round(steps.p99_us / 1e3));
    found.note("step_longest_ms", round(steps.max_us / 1e3));
    found.note("wait_p50_ms", both(|found| found.waits.p50_us));
    found.note("wait_p99_ms", both(|found| found.waits.p99_us));
    found.note("wait_longest_ms", both(|found| found.waits.max_us));
    found.note("own_longest_ms", both(|found| found.own.max_us));
    found.note("disk_p99_ms", both(|found| found.disk.p99_us));
    found.note("disk_longest_ms", both(|found| found.disk.max_us));
    let longest = Duration::from_micros(pair[1].own.max_us as u64);
    if longest > GOAL {
        found.faults.push(format!(
            "somebody waited {} ms while {} was forgotten, beside what the bare disk took at that moment",
            longest.as_millis(),
            asked.of.name()
        ));
    }
    Ok(found)
}
