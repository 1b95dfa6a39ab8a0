//! `viworks-bench`: the load generator. Nothing it measures runs inside it, but for the store's
//! baseline. Exit status: 0 when every run counts, 1 when one has a fault, 2 when none could be made.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser as _;

use crate::args::{Cli, Scenario};
use crate::conditions::Conditions;
use crate::fleet::Fleet;
use crate::http::Origin;
use crate::identity::Identities;
use crate::operator::Operator;
use crate::report::Measured;
use crate::runs::commands::{DRAIN, Load, Pace};
use crate::runs::ledger_check::Check;
use crate::store::Store;

mod args;
mod baseline;
mod behaviour;
mod child;
mod conditions;
mod disk;
mod fleet;
mod frames;
mod http;
mod identity;
mod latency;
mod ledger;
mod operator;
mod report;
mod runs;
mod schedule;
mod session;
mod store;
mod suite;
mod table;
#[cfg(test)]
mod tiny_host;
mod usage;

/// Before the measured part of a baseline.
const WARMUP: Duration = Duration::from_secs(1);
/// Accepted commands looked up unless all are.
const SAMPLE: usize = 2_000;

fn main() -> ExitCode {
    let cli = Cli::parse();
    usage::raise_file_limit();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = cli.threads.unwrap_or(cores).max(1);
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("viworks-bench: no runtime: {error}");
            return ExitCode::from(2);
        }
    };
    let result = runtime.block_on(run(cli));
    // A read of standard input may be under way in a child; nobody waits for it.
    runtime.shutdown_background();
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("viworks-bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Measures what was asked for; whether every run counts.
async fn run(cli: Cli) -> Result<bool> {
    match cli.scenario {
        Scenario::HubServer => return baseline::hub_server::serve().await.map(|()| true),
        Scenario::RouteServer => return baseline::route::serve().await.map(|()| true),
        Scenario::Axes(axes) => return suite::axes::run(&axes, cli.json.as_deref()).await,
        Scenario::Table(asked) => return table(&asked),
        Scenario::All(all) => return suite::run(&all, cli.json.as_deref()).await,
        Scenario::Telemetry(asked) => return suite::telemetry::run(&asked, cli.json.as_deref()).await,
        Scenario::History(asked) => return suite::history::run(&asked, cli.json.as_deref()).await,
        Scenario::Past(asked) => return suite::past::run(&asked, cli.json.as_deref()).await,
        Scenario::Retention(asked) => return suite::retention::run(&asked, cli.json.as_deref()).await,
        Scenario::Sizes(sizes) => return suite::sizes::run(&sizes, cli.json.as_deref()).await,
        Scenario::Commands(_) | Scenario::Broadcast(_) | Scenario::Idle(_) | Scenario::Reads(_) => {}
        Scenario::Hub(_) | Scenario::Life(_) | Scenario::Route(_) => {}
    }
    if let Scenario::Life(asked) = &cli.scenario {
        return life(asked, cli.json.as_deref()).await;
    }
    let store: PathBuf = match &cli.scenario {
        // The host leaves its first credential beside its store.
        Scenario::Commands(args::Commands { product, .. })
        | Scenario::Broadcast(args::Broadcast { product, .. })
        | Scenario::Idle(args::Idle { product, .. }) => beside(&product.credential),
        Scenario::Reads(reads) => beside(&reads.credential),
        Scenario::Hub(_)
        | Scenario::Life(_)
        | Scenario::Route(_)
        | Scenario::All(_)
        | Scenario::Axes(_)
        | Scenario::Table(_)
        | Scenario::Sizes(_)
        | Scenario::Telemetry(_)
        | Scenario::History(_)
        | Scenario::Past(_)
        | Scenario::Retention(_)
        | Scenario::HubServer
        | Scenario::RouteServer => std::env::temp_dir(),
    };
    // A host somebody else started has the store it has.
    let mut conditions = Conditions::look(&store, "as the host's store is configured").await;
    let found = measure(cli.scenario).await?;
    conditions.look_again().await;
    println!("{conditions}\n");
    tell(found, &conditions, cli.json.as_deref())
}

async fn life(asked: &args::Life, json: Option<&Path>) -> Result<bool> {
    let store = Store::start(asked.store, &asked.path)?;
    let mut conditions = Conditions::look(&asked.path, &store.durability()?).await;
    let way = baseline::life::Way { batch: asked.batch, lanes: usize::from(asked.lanes), rate: asked.rate };
    let found = baseline::life::run(&store, way, WARMUP, asked.duration).await?;
    conditions.look_again().await;
    println!("{conditions}\n");
    tell(vec![found], &conditions, json)
}

/// Prints the table of a file of results; whether every goal in it is met, and nothing failed.
fn table(asked: &args::Table) -> Result<bool> {
    let table = table::Table::read(&asked.results)?;
    if asked.markdown {
        print!("{}", table.markdown());
    } else {
        println!("{table}");
    }
    let [_, missed, _, failed] = table.count();
    Ok(missed + failed == 0)
}

fn beside(file: &Path) -> PathBuf {
    file.parent().map_or_else(std::env::temp_dir, Path::to_owned)
}

/// Prints and keeps findings; whether all of them count.
fn tell(found: Vec<Measured>, conditions: &Conditions, json: Option<&Path>) -> Result<bool> {
    let mut good = true;
    for found in found {
        let found = found.conclude(conditions.cores);
        println!("{found}");
        good &= found.faults.is_empty();
        if let Some(file) = json {
            found.append(conditions, file)?;
        }
    }
    Ok(good)
}

async fn measure(scenario: Scenario) -> Result<Vec<Measured>> {
    match scenario {
        Scenario::Commands(asked) => {
            let (operator, fleet) = assemble(&asked.product).await?;
            let load = Load {
                in_flight: asked.in_flight,
                duration: asked.duration,
                warmup: asked.warmup,
                pace: asked.rate.map_or(Pace::Closed, |rate| Pace::Open { rate, poisson: asked.poisson }),
                check: if asked.check_all { Check::All } else { Check::Sample(SAMPLE) },
                patience: DRAIN,
                priority: None,
                host_pid: asked.product.host_pid,
            };
            let (found, _) = runs::commands::run(&operator, &fleet, &load).await?;
            fleet.close().await?;
            Ok(vec![found])
        }
        Scenario::Broadcast(asked) => {
            let (operator, fleet) = assemble(&asked.product).await?;
            let found =
                runs::broadcast::run(&operator, &fleet, asked.shape, asked.repeat, asked.product.host_pid).await?;
            fleet.close().await?;
            Ok(vec![found])
        }
        Scenario::Idle(asked) => {
            let pid =
                asked.product.host_pid.context("idle needs --host-pid: it is the host's memory that is measured")?;
            let before = runs::idle::settled_memory(pid).await?;
            let (_, fleet) = assemble(&asked.product).await?;
            let mut found = runs::idle::run("idle", fleet.ids.len(), pid, before, asked.hold).await?;
            found.note("connected_in_s", report::round(fleet.connected_in.as_secs_f64()));
            found.faults.extend(fleet.faults());
            fleet.close().await?;
            Ok(vec![found])
        }
        Scenario::Reads(asked) => {
            let operator = Operator::login(&asked.api, &asked.credential).await?;
            reads(&operator, asked.connections, WARMUP, asked.duration, asked.host_pid).await
        }
        Scenario::Hub(asked) => {
            let mut hub = baseline::hub::Hub::start(asked.agents).await?;
            let mut idle = runs::idle::run("hub-idle", asked.agents, hub.pid(), hub.before, WARMUP).await?;
            idle.note("connected_in_s", report::round(hub.connected_in.as_secs_f64()));
            let load = match asked.rate {
                Some(rate) => hub.open(rate, WARMUP, asked.duration).await?,
                None => hub.closed(asked.in_flight, WARMUP, asked.duration).await?,
            };
            let mut found = vec![idle, load];
            if asked.fan_out > 0 {
                found.push(hub.fan_out(asked.fan_out).await?);
            }
            hub.end().await?;
            Ok(found)
        }
        Scenario::Route(asked) => Ok(vec![baseline::route::run(asked.connections, WARMUP, asked.duration).await?]),
        Scenario::Life(_)
        | Scenario::All(_)
        | Scenario::Axes(_)
        | Scenario::Table(_)
        | Scenario::Sizes(_)
        | Scenario::Telemetry(_)
        | Scenario::History(_)
        | Scenario::Past(_)
        | Scenario::Retention(_)
        | Scenario::HubServer
        | Scenario::RouteServer => {
            unreachable!("these are run before the conditions are looked at")
        }
    }
}

/// Logs in, makes sure of the agents and connects them.
async fn assemble(asked: &args::Product) -> Result<(Arc<Operator>, Fleet)> {
    let operator = Operator::login(&asked.api, &asked.credential).await?;
    let door = Origin::parse(&asked.agents_url)?;
    let identities = Identities::obtain(&operator, &door, asked.agents as usize, asked.identities.as_deref()).await?;
    let fleet = Fleet::connect(&door, &identities, asked.agent.behaviour()).await?;
    eprintln!("{} agents connected in {:.2} s", fleet.ids.len(), fleet.connected_in.as_secs_f64());
    Ok((operator, fleet))
}

/// Reads agents, then commands, that the host knows already.
pub async fn reads(
    operator: &Arc<Operator>,
    connections: usize,
    warmup: Duration,
    duration: Duration,
    host_pid: Option<u32>,
) -> Result<Vec<Measured>> {
    let mut all = Vec::new();
    let mut client = operator.client();
    for (scenario, list) in [("read-agent", "agents"), ("read-command", "commands")] {
        let ids = operator.ids(&mut client, list, 1_000).await?;
        anyhow::ensure!(!ids.is_empty(), "the host has no {list} to read; run `commands` first");
        let paths = ids.iter().map(|id| format!("/api/v1/{list}/{id}")).collect();
        let reads = runs::reads::Reads { scenario, paths, connections, warmup, duration, server_pid: host_pid };
        all.push(runs::reads::run(&operator.origin, &operator.bearer(), &reads).await?);
    }
    Ok(all)
}
