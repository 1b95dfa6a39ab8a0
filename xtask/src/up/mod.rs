//! `cargo xtask up`: a host and an agent on this machine, or several hosts with their PostgreSQL and Redis, ready
//! to use, until Ctrl-C.

mod agent;
mod banner;
mod children;
mod cli;
mod database;
mod http;
mod place;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;
use servers::redis::Redis;

pub use children::{ExecOptions, become_program};

use crate::program::{self, cargo, say, target_dir};
use crate::up::banner::Hosted;
use crate::up::children::{Children, Interrupted, Which};
use crate::up::database::Database;
use crate::up::http::Api;
use crate::up::place::{Place, Ports, Servers};
use crate::{plugins, toolchain};

/// From starting the host to its readiness; a first start compiles plugins.
const READY_WITHIN: Duration = Duration::from_secs(300);
/// From starting the agent to its session.
const ONLINE_WITHIN: Duration = Duration::from_secs(120);

/// How to start.
#[derive(clap::Args)]
pub struct Options {
    /// Port of the API; 0 = any free one. 8080, or the last one, when absent
    #[arg(long, value_name = "PORT")]
    api_port: Option<u16>,
    /// Port that agents connect to; 0 = any free one. 9090, or the last one, when absent
    #[arg(long, value_name = "PORT")]
    agent_port: Option<u16>,
    /// Keep everything here instead of in .viworks/local (with --postgres: .viworks/local-postgres)
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Say here where everything is, instead of in .viworks; without --data, everything is kept here, too
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Keep rows in a PostgreSQL that is started in the data directory, instead of in SQLite
    #[arg(long)]
    postgres: bool,
    /// Have hosts call each other by a Redis that is started here
    #[arg(long, requires = "postgres")]
    redis: bool,
    /// How many hosts; several need --postgres
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=9))]
    hosts: u8,
    /// Build with optimisation: slower to start, faster to run
    #[arg(long)]
    release: bool,
    /// Build nothing: take the programs as `cargo xtask test` left them, and the plugins in target/plugins
    #[arg(long, conflicts_with = "release")]
    built: bool,
}

/// Starts everything, says so, and stays until told to stop.
///
/// # Errors
/// When a step fails; what was started is stopped again.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    if options.hosts > 1 && !options.postgres {
        bail!("an SQLite file serves one host alone: give --postgres, too");
    }
    let usual = if options.postgres { "local-postgres" } else { "local" };
    let place = Place::open_or(options.data.as_deref(), options.state.as_deref(), usual)?;

    let bin_dir = if options.built { take_built(&place)? } else { build(options, &place)? };

    step(4, "host");
    let mut children = Children::new()?;
    let database = if options.postgres { Database::postgres(&place)? } else { Database::sqlite(&place)? };
    let redis = if options.redis { Some(redis()?) } else { None };
    let servers = Servers { database: database.url(&place), redis: redis.as_ref().map(Redis::url) };
    let started = serve(options, &place, (&database, &servers), &bin_dir, &mut children, begun);
    let code = match started {
        Ok(()) => match children.wait() {
            Interrupted::Signal => ExitCode::SUCCESS,
            Interrupted::Died(why) => {
                eprintln!("error: {why}");
                ExitCode::FAILURE
            }
        },
        Err(error) => match error.downcast_ref::<Interrupted>() {
            Some(Interrupted::Signal) => ExitCode::SUCCESS,
            _ => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        },
    };
    // First nobody is told any more that it is there, then it goes.
    place.withdraw();
    for line in children.stop() {
        say(line);
    }
    agent::end_supervisor(&place);
    if redis.map(drop).is_some() {
        say("Redis stopped");
    }
    if let Some(line) = database.stop() {
        say(line);
    }
    say(format_args!("data is kept in {}", place.shown(place.dir()).display()));
    Ok(code)
}

/// Builds programs and plugins; where the programs are.
fn build(options: &Options, place: &Place) -> anyhow::Result<PathBuf> {
    step(1, "compilers");
    let compiler = toolchain::c_tools()?;
    let wasm = toolchain::wasm()?;
    say(format_args!("      C: {compiler}; plugins: {}", wasm.describe()));

    step(2, "host, agent and command line tool");
    let mut build = cargo(&["build", "-p", "server", "-p", "agent", "-p", "cli"]);
    if options.release {
        build.arg("--release");
    }
    program::run(&mut build)?;
    let bin_dir = target_dir()?.join(if options.release { "release" } else { "debug" });

    step(3, "plugins");
    for line in plugins::build_all(&bin_dir.join("viworks"), &place.plugins(), &wasm)? {
        say(format_args!("      {line}"));
    }
    Ok(bin_dir)
}

/// Finds programs and puts plugins in place that were built before; where the programs are.
fn take_built(place: &Place) -> anyhow::Result<PathBuf> {
    let target = target_dir()?;
    let bin_dir = target.join("debug");
    step(2, "host, agent and command line tool, as they are");
    for name in ["viworks-host", "viworks-agent", "viworks"] {
        let program = bin_dir.join(name);
        if !program.is_file() {
            bail!("{} is not there: leave --built out, or build it", program.display());
        }
    }
    step(3, "plugins, as they are");
    plugins::copy_all(&target.join("plugins"), &place.plugins())?;
    Ok(bin_dir)
}

fn serve(
    options: &Options,
    place: &Place,
    (database, servers): (&Database, &Servers),
    bin_dir: &std::path::Path,
    children: &mut Children,
    begun: Instant,
) -> anyhow::Result<()> {
    let wanted = Ports::choose(place, options.api_port, options.agent_port)?;
    let host = start_host(1, place, wanted, servers, bin_dir, children)?;
    let ports = host.ports;
    ports.remember(place)?;
    let mut beside = Vec::new();
    for number in 2..=options.hosts {
        place.prepare_beside(number)?;
        beside.push(start_host(number, place, Ports::ANY, servers, bin_dir, children)?);
    }
    let mut api = Api::at(ports.api);

    step(5, "agent");
    let credential = place.admin_credential();
    children.until(READY_WITHIN, "the host writes no admin credential", || credential.is_file().then_some(()))?;
    api.log_in(&credential)?;
    wait_for_plugins(&api, place, children)?;
    let identity = agent::enrol(place, &api, ports.agents, &bin_dir.join("viworks-agent"))?;
    for line in agent::write_policy(&place.agent_policy())? {
        say(format_args!("      {line}"));
    }
    let run = agent::arguments(place);
    children.start(Which::Agent, &bin_dir.join("viworks-agent"), &run, &place.log("agent"))?;

    step(6, "session");
    let online = || api.get("/api/v1/agents").ok().filter(|answer| is_online(answer, &identity.name)).map(|_| ());
    children.until(ONLINE_WITHIN, "the agent does not come online (GET /api/v1/agents)", online)?;
    say(format_args!("      agent `{}` is online", identity.name));

    step(7, "command line tool");
    let login = cli::log_in(place, &bin_dir.join("viworks"), ports.api)?;

    let facts = banner::Facts {
        host,
        beside: &beside,
        identity: &identity,
        agent: children.pid(Which::Agent),
        bin_dir,
        login: &login,
        database,
        redis: servers.redis.as_deref(),
    };
    place.publish(&banner::up_json(place, &facts))?;
    say(banner::text(place, &facts, begun.elapsed()).trim_end());
    Ok(())
}

/// Starts a host and waits until it can take work.
fn start_host(
    number: u8,
    place: &Place,
    wanted: Ports,
    servers: &Servers,
    bin_dir: &std::path::Path,
    children: &mut Children,
) -> anyhow::Result<Hosted> {
    place.write_host_config(number, wanted, servers)?;
    let serve = ["serve".into(), "--config".into(), place.host_config(number).into_os_string()];
    let which = Which::Host(number);
    let name = which.name();
    children.start(which, &bin_dir.join("viworks-host"), &serve, &place.log(&name))?;
    let silent = format!("the {name} does not say where it listens");
    let ports = children.until(READY_WITHIN, &silent, || place.listening(number))?;
    let api = Api::at(ports.api);
    let unready = format!("the {name} does not become ready (GET /readyz)");
    children.until(READY_WITHIN, &unready, || api.is_ready().then_some(()))?;
    say(format_args!("      {name}: API 127.0.0.1:{}, agents 127.0.0.1:{}", ports.api, ports.agents));
    Ok(Hosted { ports, pid: children.pid(which) })
}

fn redis() -> anyhow::Result<Redis> {
    toolchain::redis()?;
    let redis = Redis::start().context("Redis")?;
    say(format_args!("      Redis, {}", redis.url()));
    Ok(redis)
}

/// Waits until the host has judged every plugin that was built; one refused is a fault of this tree.
fn wait_for_plugins(api: &Api, place: &Place, children: &mut Children) -> anyhow::Result<()> {
    let wanted: Vec<String> = plugins::sources()?.into_iter().map(|(name, _)| format!("{name}.wasm")).collect();
    let judged = || {
        let answer = api.get("/api/v1/plugins").ok()?;
        let items = answer["items"].as_array()?;
        let found: Vec<&Value> =
            wanted.iter().filter_map(|file| items.iter().find(|item| item["file"] == **file)).collect();
        (found.len() == wanted.len()).then(|| found.into_iter().cloned().collect::<Vec<_>>())
    };
    let what = format!("the host does not load {} from {}", wanted.join(", "), place.plugins().display());
    for plugin in children.until(READY_WITHIN, &what, judged)? {
        if plugin["state"] != "active" {
            let refusal = &plugin["refusal"];
            bail!("plugin {} is {}: {} ({})", plugin["file"], plugin["state"], refusal["cause"], refusal["cure"]);
        }
        let verbs: Vec<&str> = plugin["verbs"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let provides = if plugin["kind"] == "rule" { "a rule".to_owned() } else { verbs.join(", ") };
        say(format_args!("      plugin {}: {provides}", plugin["name"].as_str().unwrap_or_default()));
    }
    Ok(())
}

fn is_online(agents: &Value, name: &str) -> bool {
    let items = agents["items"].as_array().into_iter().flatten();
    items.into_iter().any(|agent| agent["name"] == name && agent["status"] == "online")
}

fn step(number: u8, what: &str) {
    say(format_args!("[{number}/7] {what}"));
}

/// Text of a file that must be there.
fn read_text(path: &std::path::Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}
