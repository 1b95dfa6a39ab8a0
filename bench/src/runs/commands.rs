//! Commands through every door: REST, schema, plugin, signature, store, socket, agent, result stored.
//! A command is done when its agent hears RESULT_ACK.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::fleet::Fleet;
use crate::http::Client;
use crate::ledger::{Ledger, Unheard};
use crate::operator::Operator;
use crate::report::{Measured, round};
use crate::runs::ledger_check::{Check, look_up, pick};
use crate::schedule::{Schedule, Turnstile, Window, now_ns};
use crate::usage::Meter;

/// How long the last commands may take after the window, usually.
pub const DRAIN: Duration = Duration::from_secs(30);
/// How a host counts its commits.
const COMMITS: &str = "viworks_store_commits_total";
/// A run that achieved less of the offered rate has no latencies.
const ACHIEVED: f64 = 0.99;
/// What is due within this comes together where it is no matter when.
const LUMP: Duration = Duration::from_millis(10);
/// Fewest connections of an open loop.
const FEWEST: usize = 4;
/// Seed of Poisson arrivals, so that runs offer the same load.
const SEED: u64 = 80;

/// How submissions are paced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Each worker submits its next command when its last is done.
    Closed,
    /// Commands are due at fixed times, whatever happened to those before.
    Open {
        /// Commands per second.
        rate: f64,
        /// Whether arrivals are independent of each other instead of evenly spaced.
        poisson: bool,
    },
    /// The same, with more than can be done: whether all of it was offered in time is no matter.
    Over {
        /// Commands per second.
        rate: f64,
    },
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Workers, each with a connection of its own. An open loop has no more of them than its rate can
    /// use once a second, or the host would close those that idle.
    pub in_flight: usize,
    /// The measured part.
    pub duration: Duration,
    /// Before it.
    pub warmup: Duration,
    /// How submissions are paced.
    pub pace: Pace,
    /// How much of the ledger is checked.
    pub check: Check,
    /// How long the last commands may take after the window.
    pub patience: Duration,
    /// How urgent they are; as the host takes it when absent.
    pub priority: Option<&'static str>,
    /// The measured process.
    pub host_pid: Option<u32>,
}

/// What the workers share.
struct Bench {
    operator: Arc<Operator>,
    ledger: Arc<Ledger>,
    window: Window,
    patience: Duration,
    agents: Vec<String>,
    next: AtomicUsize,
}

#[derive(Default)]
struct Tally {
    accepted: Vec<u128>,
    refused: u64,
    errors: u64,
    first_error: Option<String>,
}

impl Tally {
    fn error(&mut self, what: String) {
        self.errors += 1;
        self.first_error.get_or_insert(what);
    }
}

enum Submitted {
    Accepted(u128),
    Refused(Duration),
    Failed(String),
}

#[derive(Deserialize)]
struct Accepted {
    id: Uuid,
}

/// Runs one load; the ids of the accepted commands come along.
///
/// # Errors
/// When the API cannot be asked at all. Lost commands, refusals and errors are findings.
pub async fn run(operator: &Arc<Operator>, fleet: &Fleet, load: &Load) -> Result<(Measured, Vec<u128>)> {
    let window = Window::after(load.warmup, load.duration);
    let bench = Arc::new(Bench {
        operator: operator.clone(),
        ledger: Arc::new(Ledger::new(window)),
        window,
        patience: load.patience,
        agents: fleet.ids.iter().map(|id| body(&id.to_string(), load.priority)).collect(),
        next: AtomicUsize::new(0),
    });
    fleet.tell(bench.ledger.clone());
    let stop = CancellationToken::new();
    let mut keeper = JoinSet::new();
    keeper.spawn(operator.clone().stay_logged_in(stop.clone()));
    let mut workers = JoinSet::new();
    let mut driver = None;
    let mut offered = 0;
    match load.pace {
        Pace::Closed => (0..load.in_flight).for_each(|_| _ = workers.spawn(closed(bench.clone()))),
        Pace::Open { rate, .. } | Pace::Over { rate } => {
            let (poisson, lump) = match load.pace {
                Pace::Open { poisson, .. } => (poisson, Duration::ZERO),
                // To wake for each command by itself costs this machine more than the command costs the generator.
                Pace::Over { .. } | Pace::Closed => (false, LUMP),
            };
            let whole = load.warmup + load.duration;
            let schedule = if poisson { Schedule::poisson(rate, whole, SEED) } else { Schedule::constant(rate, whole) };
            let start = window.from - u64::try_from(load.warmup.as_nanos()).unwrap_or(0);
            let turnstile = Turnstile::new(schedule, start);
            offered = turnstile.due_inside(window);
            let count = load.in_flight.min((rate as usize).max(FEWEST));
            (0..count).for_each(|_| _ = workers.spawn(open(bench.clone(), turnstile.clone())));
            driver =
                Some(std::thread::Builder::new().name("schedule".into()).spawn(move || turnstile.drive(count, lump))?);
        }
    }
    tokio::time::sleep(Duration::from_nanos(window.from.saturating_sub(now_ns()))).await;
    let meter = Meter::start(load.host_pid);
    let commits = operator.metric(COMMITS).await;
    tokio::time::sleep(Duration::from_nanos(window.to.saturating_sub(now_ns()))).await;
    let cost = meter.stop();
    let commits = operator.metric(COMMITS).await.zip(commits).map(|(after, before)| after - before);
    let mut tally = Tally::default();
    while let Some(worker) = workers.join_next().await {
        let one = worker.context("a worker panicked")?;
        tally.accepted.extend(one.accepted);
        tally.refused += one.refused;
        tally.errors += one.errors;
        tally.first_error = tally.first_error.or(one.first_error);
    }
    if let Some(driver) = driver {
        driver.join().ok().context("the schedule's thread panicked")?;
    }
    let drained = bench.ledger.drained(load.patience).await;
    fleet.tell(Arc::new(Unheard));
    stop.cancel();
    keeper.join_next().await.context("no keeper")?.context("the keeper panicked")??;

    let mut found = Measured::new("commands", parameters(fleet, load));
    found.cost = cost;
    found.operations = bench.ledger.acked_inside();
    found.rate = found.operations as f64 / window.seconds();
    found.latency = bench.ledger.quantiles();
    (found.refused_429, found.errors) = (tally.refused, tally.errors);
    found.note("accepted", tally.accepted.len());
    if let Some(commits) = commits.filter(|_| found.operations > 0) {
        found.note("commits_per_op", round(commits / found.operations as f64));
    }
    if let Pace::Open { .. } = load.pace {
        let achieved = bench.ledger.on_time() as f64 / (offered as f64).max(1.0);
        found.note("achieved_share", round(achieved));
        if achieved < ACHIEVED {
            found
                .faults
                .push(format!("achieved {:.1} % of the offered rate: its latencies say nothing", achieved * 100.0));
        }
    }
    if let Some(error) = tally.first_error {
        found.faults.push(format!("{} submissions failed, first: {error}", tally.errors));
    }
    if found.latency.count == 0 {
        found.faults.push("no command that was due inside the window was done".to_owned());
    }
    let (unacknowledged, unclaimed) = bench.ledger.open_ends();
    if !drained {
        found.faults.push(format!(
            "{} accepted commands were not acknowledged within {} s",
            unacknowledged.len(),
            load.patience.as_secs()
        ));
    }
    found.note("unclaimed_results", unclaimed);
    let mut suspects = pick(&tally.accepted, load.check);
    suspects.extend(&unacknowledged);
    let checked = look_up(operator, suspects).await?;
    found.note("ledger_checked", checked.looked_up);
    found.faults.extend(checked.fault());
    found.faults.extend(fleet.faults());
    Ok((found, tally.accepted))
}

fn parameters(fleet: &Fleet, load: &Load) -> serde_json::Value {
    let behaviour = &fleet.shared.behaviour;
    let mut parameters = json!({
        "agents": fleet.ids.len(),
        "in_flight": load.in_flight,
        "duration_s": load.duration.as_secs_f64(),
        "warmup_s": load.warmup.as_secs_f64(),
        "verify_every": behaviour.verify_every,
        "flush_each": behaviour.flush_each,
    });
    match load.pace {
        Pace::Closed => {}
        Pace::Open { rate, poisson } => {
            parameters["rate"] = json!(rate);
            parameters["poisson"] = json!(poisson);
        }
        Pace::Over { rate } => parameters["over_rate"] = json!(rate),
    }
    parameters
}

/// The body that submits one command to one agent.
pub fn body(agent: &str, priority: Option<&str>) -> String {
    let mut body = json!({ "verb": "exec.run", "args": { "program": "true" }, "target": { "agents": [agent] } });
    if let Some(priority) = priority {
        body["priority"] = json!(priority);
    }
    body.to_string()
}

async fn closed(bench: Arc<Bench>) -> Tally {
    let mut client = bench.operator.client();
    let mut tally = Tally::default();
    loop {
        let due = now_ns();
        if due >= bench.window.to {
            return tally;
        }
        match submit(&bench, &mut client).await {
            Submitted::Accepted(command) => {
                tally.accepted.push(command);
                if let Some(done) = bench.ledger.accepted(command, due) {
                    // Past this patience the command stays on the books as unacknowledged.
                    _ = tokio::time::timeout(bench.patience, done).await;
                }
            }
            Submitted::Refused(after) => {
                tally.refused += 1;
                tokio::time::sleep(after).await;
            }
            Submitted::Failed(error) => {
                tally.error(error);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

async fn open(bench: Arc<Bench>, turnstile: Arc<Turnstile>) -> Tally {
    let mut client = bench.operator.client();
    let mut tally = Tally::default();
    while let Some(due) = turnstile.take().await {
        match submit(&bench, &mut client).await {
            Submitted::Accepted(command) => {
                tally.accepted.push(command);
                // An open loop waits for nobody: the ledger hears of the end.
                drop(bench.ledger.accepted(command, due));
            }
            Submitted::Refused(_) => tally.refused += 1,
            Submitted::Failed(error) => tally.error(error),
        }
    }
    tally
}

async fn submit(bench: &Bench, client: &mut Client) -> Submitted {
    let agent = bench.next.fetch_add(1, Ordering::Relaxed) % bench.agents.len();
    let body = bench.agents[agent].as_bytes();
    let bearer = bench.operator.bearer();
    match client.send("POST", "/api/v1/commands", Some(&bearer), Some(body)).await {
        Err(error) => Submitted::Failed(error.to_string()),
        Ok(answer) if answer.status == 202 => match serde_json::from_slice::<Accepted>(answer.body) {
            Ok(accepted) => Submitted::Accepted(accepted.id.as_u128()),
            Err(error) => Submitted::Failed(format!("202 without an id: {error}")),
        },
        Ok(answer) if answer.status == 429 => match answer.retry_after {
            Some(seconds) => Submitted::Refused(Duration::from_secs(seconds)),
            None => Submitted::Failed("429 without Retry-After".to_owned()),
        },
        Ok(answer) => Submitted::Failed(format!("{}: {}", answer.status, String::from_utf8_lossy(answer.body))),
    }
}
