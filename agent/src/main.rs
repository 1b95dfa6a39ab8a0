//! `viworks-agent`: joins a machine to a cluster and runs what the cluster signed for it.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use agent::doctor::{DoctorOptions, examine};
use agent::guard::{self, guard};
use agent::join::{JoinOptions, join};
use agent::policy::Policy;
use agent::supervisor::failure::SuperviseError;
use agent::supervisor::server::{LINGER, SuperviseOptions, supervise};
use agent::verdict::{Verdict, describe, judge};
use anyhow::Context as _;
use clap::{Parser, Subcommand};
use nix::sys::stat::{Mode, umask};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

const DATA: &str = "/var/lib/viworks-agent";

/// Runs vetted commands on this machine for a ViWorkS host, and nothing this machine's policy forbids.
#[derive(Debug, Parser)]
#[command(name = "viworks-agent", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Enrol this machine: make a key, prove it to the host, pin the host's key.
    Join {
        /// The host's address for agents, e.g. `https://10.0.0.1:9090`.
        url: String,
        /// One-time token the host showed, vwj_….
        #[arg(long, env = "VIWORKS_JOIN_TOKEN", hide_env_values = true)]
        token: String,
        /// Unique name of this machine.
        #[arg(long)]
        name: String,
        /// Where identity, journal and output are to lie.
        #[arg(long, default_value = DATA)]
        data: PathBuf,
        /// PEM file with the authorities that may speak for the host [default: the pin in the token, else the
        /// authorities of this machine].
        #[arg(long, value_name = "FILE")]
        ca: Option<PathBuf>,
        /// Labels this machine claims, as name=value.
        #[arg(long, num_args = 1.., value_parser = label)]
        labels: Vec<(String, String)>,
    },
    /// Run in the foreground until SIGTERM; children live on.
    Run {
        /// Where identity, journal and output lie.
        #[arg(long, default_value = DATA)]
        data: PathBuf,
        /// What this machine allows [default: policy.toml in the data directory; without one, nothing].
        #[arg(long)]
        policy: Option<PathBuf>,
        /// Settings of this machine [default: agent.toml in the data directory, if there is one].
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Look for what keeps this machine from its work; exits with 1 when something does.
    Doctor {
        /// Where identity, journal and output lie.
        #[arg(long, default_value = DATA)]
        data: PathBuf,
        /// What this machine allows [default: policy.toml in the data directory].
        #[arg(long)]
        policy: Option<PathBuf>,
        /// Settings of this machine [default: agent.toml in the data directory, if there is one].
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Work with policy files.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Run the process that owns this agent's children. Started by the agent.
    #[command(hide = true)]
    Supervise {
        #[arg(long)]
        data: PathBuf,
        /// Exit when there are no children and no agent for this long.
        #[arg(long, default_value_t = LINGER.as_millis() as u64)]
        linger_ms: u64,
    },
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Check a policy file and say what it allows, or what it says to a plan and by which of its lines.
    Check {
        /// The file.
        file: PathBuf,
        /// A plan as JSON, as in a signed envelope; exits with 1 when it is denied.
        #[arg(long)]
        plan: Option<PathBuf>,
    },
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not of the form name=value"))?;
    agent::config::check_label(name, value)?;
    Ok((name.to_owned(), value.to_owned()))
}

fn main() -> ExitCode {
    // A guard is started for a step, and all that it does not need is what that step waits for.
    let done = match guard::asked_for(std::env::args_os()) {
        Some(supervisor) => harden().and_then(|()| guard(supervisor).context("cannot guard a process")),
        None => {
            let arguments = Arguments::parse();
            harden().and_then(|()| perform(arguments.command))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("viworks-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Everything this process makes is its user's alone, and no child can gain rights it does not have.
fn harden() -> anyhow::Result<()> {
    umask(Mode::from_bits_truncate(0o077));
    nix::sys::prctl::set_no_new_privs().context("cannot give up gaining privileges")
}

fn perform(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Join { url, token, name, data, ca, labels } => {
            let labels: BTreeMap<String, String> = labels.into_iter().collect();
            let identity =
                runtime()?.block_on(join(JoinOptions { url, token, name, data: data.clone(), ca, labels }))?;
            println!("joined cluster {} as {} ({})", identity.cluster_id, identity.name, identity.agent_id);
            println!("next: viworks-agent run --data {}", data.display());
            Ok(())
        }
        Command::Run { data, policy, config } => {
            log_to_stderr();
            let runtime = runtime()?;
            let result = runtime.block_on(async {
                let stop = stop_on_signals()?;
                let options = agent::Options { data, policy, config, program: None, stop };
                Ok(agent::run(options).await?)
            });
            // A look at a dead network disk may never come back; it shall not keep us.
            runtime.shutdown_background();
            result
        }
        Command::Doctor { data, policy, config } => {
            let runtime = runtime()?;
            let report = runtime.block_on(examine(&DoctorOptions { data, policy, config }));
            runtime.shutdown_background();
            let colour =
                std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
            print!("{}", report.page("The agent's part", colour));
            if report.is_broken() { Err(anyhow::anyhow!("what is marked × has to be mended")) } else { Ok(()) }
        }
        Command::Policy(PolicyCommand::Check { file, plan: None }) => {
            print!("{}", describe(&Policy::load(&file)?));
            Ok(())
        }
        Command::Policy(PolicyCommand::Check { file, plan: Some(path) }) => {
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let plan = serde_json::from_str(&text).with_context(|| format!("{} is no plan", path.display()))?;
            let Verdict { is_allowed, text } = judge(&Policy::load(&file)?, &plan);
            print!("{text}");
            if is_allowed { Ok(()) } else { Err(anyhow::anyhow!("the policy denies this plan")) }
        }
        Command::Supervise { data, linger_ms } => {
            log_to_stderr();
            // Out of the agent's session and group: what ends the agent does not end its children. It
            // fails only for a process that leads a group already, which is as good.
            let _ = nix::unistd::setsid();
            let options = SuperviseOptions { data, linger: Duration::from_millis(linger_ms) };
            match runtime()?.block_on(supervise(options)) {
                Err(SuperviseError::Taken(_)) => Ok(()),
                other => Ok(other?),
            }
        }
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().thread_stack_size(512 * 1024).build().context("cannot start the runtime")
}

/// A token that is cancelled by SIGTERM or SIGINT. To be called inside the runtime.
fn stop_on_signals() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let token = stop.clone();
    #[expect(clippy::disallowed_methods, reason = "lives as long as the process; there is nothing to own it")]
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        token.cancel();
    });
    Ok(stop)
}

/// One JSON object on each line of standard error; `VIWORKS_LOG` is off, error, warn, info, debug or trace.
fn log_to_stderr() {
    let wanted = std::env::var("VIWORKS_LOG").ok();
    let level = wanted.and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::INFO);
    // Whoever read our standard error may be gone; that is no reason to fail.
    tracing_subscriber::fmt()
        .json()
        .log_internal_errors(false)
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .finish()
        .with(filter_fn(is_sayable))
        .init();
}

/// At `trace` the WebSocket library says whole frames, and in those are the keys of secret arguments.
fn is_sayable(metadata: &Metadata<'_>) -> bool {
    *metadata.level() != Level::TRACE || !metadata.target().starts_with("tungstenite")
}
