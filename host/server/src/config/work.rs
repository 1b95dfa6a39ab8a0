//! What concerns the work: plugins, agents, commands, telemetry.

use std::path::PathBuf;
use std::time::Duration;

use domain::telemetry::history::Retention;
use serde::Deserialize;

use super::{Config, Wrong, wrong};

/// `[plugins]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Plugins {
    /// The folder that is watched; `plugins` in the data directory when absent.
    pub dir: Option<PathBuf>,
    /// What a plugin without an operator's file may plan: `none`, or what it `requested`.
    pub default_grants: DefaultGrants,
    /// Look at the folder every two seconds instead of waiting for its events: for network mounts.
    pub poll: bool,
    /// What is asked of plugins' signatures: `off`, `warn` or `enforce`.
    pub signatures: Signatures,
    /// Whose signatures count, and what is denied whoever signed it.
    pub trust_file: Option<PathBuf>,
    /// Threads that run plugins; 0 = one for each core.
    pub threads: usize,
}

impl Default for Plugins {
    fn default() -> Plugins {
        Plugins {
            dir: None,
            default_grants: DefaultGrants::None,
            poll: false,
            signatures: Signatures::Off,
            trust_file: None,
            threads: 0,
        }
    }
}

/// What is asked of plugins' signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signatures {
    /// Nothing.
    Off,
    /// That the log tells of those that do not count.
    Warn,
    /// That they are there and count.
    Enforce,
}

/// What a plugin without an operator's file may plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DefaultGrants {
    /// Nothing, until approved.
    None,
    /// What its manifest requests.
    Requested,
}

/// `[agent_management]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentManagement {
    /// Whether every agent that joins waits for approval: `off` or `required`.
    pub approval: Approval,
    /// Sessions this host holds at once.
    pub max_agents: usize,
    /// Sockets that have not said HELLO yet.
    pub max_unauthenticated: usize,
    /// Of one address; 0 = as many as there is room for.
    pub max_unauthenticated_per_address: usize,
    /// Between an agent's heartbeats.
    pub heartbeat_ms: u64,
    /// Without a session for this long, what an agent had is lost.
    pub lost_after_ms: u64,
}

impl Default for AgentManagement {
    fn default() -> AgentManagement {
        AgentManagement {
            approval: Approval::Off,
            max_agents: 20_000,
            max_unauthenticated: 256,
            max_unauthenticated_per_address: 64,
            heartbeat_ms: 15_000,
            lost_after_ms: 900_000,
        }
    }
}

/// Whether agents that join wait for approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Approval {
    /// Those do whose join token says so.
    Off,
    /// All do.
    Required,
}

/// `[command]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Command {
    /// Attempts one agent runs at once.
    pub agent_concurrency: u32,
    /// Attempts that all agents of this host run at once.
    pub max_running: usize,
    /// Invocations of one agent that are not over; past it submissions are refused.
    pub max_waiting_per_agent: u64,
    /// Invocations of all agents that are not over; past it submissions are refused.
    pub max_waiting: u64,
    /// How long output is kept.
    pub output_days: u32,
}

impl Default for Command {
    fn default() -> Command {
        Command {
            agent_concurrency: 4,
            max_running: 20_000,
            max_waiting_per_agent: 100_000,
            max_waiting: 1_000_000,
            output_days: 30,
        }
    }
}

impl Command {
    /// How long output is kept.
    pub fn output(&self) -> Duration {
        Duration::from_secs(u64::from(self.output_days) * 86_400)
    }
}

/// `[telemetry]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// Between an agent's samples; 0 = none.
    pub interval_ms: u64,
    /// Most by which the wait for a sample is shorter or longer than that, percent of it.
    pub jitter_pct: u32,
    /// How long samples are kept as they came.
    pub raw_days: u32,
    /// How long what remains of each minute is kept.
    pub minute_days: u32,
    /// How long what remains of each hour is kept.
    pub hour_days: u32,
}

impl Telemetry {
    /// Most by which the wait for a sample is shorter or longer than the interval.
    pub fn jitter(&self) -> Duration {
        Duration::from_millis(self.interval_ms.saturating_mul(u64::from(self.jitter_pct)) / 100)
    }

    /// How long each level is kept.
    pub fn retention(&self) -> Retention {
        let days = |days: u32| Duration::from_secs(u64::from(days) * 86_400);
        Retention { raw: days(self.raw_days), minute: days(self.minute_days), hour: days(self.hour_days) }
    }
}

impl Default for Telemetry {
    fn default() -> Telemetry {
        Telemetry { interval_ms: 30_000, jitter_pct: 10, raw_days: 7, minute_days: 30, hour_days: 396 }
    }
}

/// `[notifications]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Notifications {
    /// Whether messages may go to this machine and private networks, and without TLS.
    pub private_networks: bool,
}

/// Says what could never work.
pub(super) fn check(config: &Config) -> Result<(), Wrong> {
    trust(&config.plugins)?;
    let agents = &config.agent_management;
    if agents.max_agents == 0 {
        return wrong("agent_management.max_agents", "at least 1");
    }
    if agents.max_unauthenticated == 0 {
        return wrong("agent_management.max_unauthenticated", "at least 1");
    }
    if !(1_000..=300_000).contains(&agents.heartbeat_ms) {
        return wrong("agent_management.heartbeat_ms", "1000 to 300000");
    }
    if config.command.agent_concurrency == 0 || config.command.agent_concurrency > 1_000 {
        return wrong("command.agent_concurrency", "1 to 1000");
    }
    if !(1..=1_000_000).contains(&config.command.max_running) {
        return wrong("command.max_running", "1 to 1000000");
    }
    if !(1..=10_000_000).contains(&config.command.max_waiting_per_agent) {
        return wrong("command.max_waiting_per_agent", "1 to 10000000");
    }
    if !(1..=10_000_000).contains(&config.command.max_waiting) {
        return wrong("command.max_waiting", "1 to 10000000");
    }
    if !(3..=36_500).contains(&config.command.output_days) {
        return wrong(
            "command.output_days",
            "3 to 36500: an attempt may run for a day, and its output come a day late",
        );
    }
    if config.telemetry.interval_ms != 0 && config.telemetry.interval_ms < 1_000 {
        return wrong("telemetry.interval_ms", "0 for none, else at least 1000");
    }
    if config.telemetry.jitter_pct > 50 {
        return wrong("telemetry.jitter_pct", "0 to 50: percent of the interval, either way");
    }
    let kept = &config.telemetry;
    for (key, days, least) in [
        ("telemetry.raw_days", kept.raw_days, 1),
        ("telemetry.minute_days", kept.minute_days, kept.raw_days),
        ("telemetry.hour_days", kept.hour_days, kept.minute_days),
    ] {
        if !(least..=36_500).contains(&days) {
            return wrong(key, format!("{least} to 36500: what is coarser is kept at least as long"));
        }
    }
    Ok(())
}

/// Reads the trust file as the host will: better no start than one that lets in what is denied.
fn trust(plugins: &Plugins) -> Result<(), Wrong> {
    match (&plugins.trust_file, plugins.signatures) {
        (Some(file), _) => match runtime::Trust::load(file) {
            Ok(_) => Ok(()),
            Err(error) => wrong("plugins.trust_file", error.to_string()),
        },
        (None, Signatures::Off) => Ok(()),
        (None, Signatures::Warn | Signatures::Enforce) => {
            wrong("plugins.signatures", "needs plugins.trust_file: without one nobody's signature counts")
        }
    }
}
