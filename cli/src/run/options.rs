//! The options of `viworks run` that every verb has.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use api::target::TargetBody;
use api::verb::Verb;
use clap::{Args, Command, ValueEnum};

use super::arguments::takes_program;
use super::delivery::{DeliveryOptions, option_of};
use super::follow::FollowOptions;
use crate::failure::Failure;
use crate::output::moment::parse_length;
use crate::output::{Format, escape};
use crate::schema::Flag;

const TARGET: &str = "Who (combined with and)";
const EXAMPLES: &str = "\
Examples:
  viworks run exec.run --all -- uptime
  viworks run docker.ps --site eu-1 -l env=prod
  viworks run exec.run -a web-01,web-02 --timeout 30s -- df -h
  viworks run docker.ps --help        flags of this verb, from its schema";

/// What `viworks run` takes besides the verb's own arguments.
#[derive(Clone, Debug, Args)]
pub struct RunOptions {
    /// The verb, e.g. docker.ps; its own flags come after it
    #[arg(value_name = "VERB")]
    pub verb: String,

    /// Agents at this site; may be repeated
    #[arg(short, long = "site", value_name = "SITE", value_delimiter = ',', help_heading = TARGET)]
    pub sites: Vec<String>,
    /// Agents with this label; all that are given must match
    #[arg(short, long = "label", value_name = "KEY=VALUE", value_delimiter = ',', help_heading = TARGET)]
    pub labels: Vec<String>,
    /// These agents, by name or id
    #[arg(short, long = "agent", value_name = "NAME", value_delimiter = ',', help_heading = TARGET)]
    pub agents: Vec<String>,
    /// Agents for which this holds, e.g. 'site = eu-1 and not agent = web-*'
    #[arg(short, long = "target", value_name = "EXPRESSION", help_heading = TARGET)]
    pub target: Option<String>,
    /// Every agent not in maintenance
    #[arg(long, help_heading = TARGET)]
    pub all: bool,
    /// Agents with this capability; all that are given must match
    #[arg(long = "capability", value_name = "NAME", value_delimiter = ',', help_heading = TARGET)]
    pub capabilities: Vec<String>,
    /// Agents with this operating system
    #[arg(long, value_name = "NAME", value_delimiter = ',', help_heading = TARGET)]
    pub os: Vec<String>,
    /// Agents with this container engine
    #[arg(long, value_name = "NAME", value_delimiter = ',', help_heading = TARGET)]
    pub container_engine: Vec<String>,
    /// Agents that are online, degraded, offline or maintenance
    #[arg(long, value_name = "STATUS", value_delimiter = ',', help_heading = TARGET)]
    pub status: Vec<String>,

    /// The verb's arguments as JSON, @FILE, or - for standard input; flags are laid over them
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    pub args: Option<String>,
    /// Place in the queue: critical, high, normal or low
    #[arg(long, value_name = "LEVEL", hide_possible_values = true)]
    pub priority: Option<Priority>,
    /// Not to be started later than this after now, e.g. 10m; 0 does not wait for agents that are away
    #[arg(long, value_name = "TIME", value_parser = parse_length)]
    pub start_within: Option<Duration>,
    /// Kill it on an agent after this long, e.g. 30s
    #[arg(long, value_name = "TIME", value_parser = parse_length)]
    pub timeout: Option<Duration>,
    /// Print the command's id and do not follow it
    #[arg(long, conflicts_with_all = ["wait", "group", "log_dir", "dry_run"])]
    pub detach: bool,
    /// How it is followed.
    #[command(flatten)]
    pub follow: FollowOptions,
    /// Show who it would run on and what it would do there; queue nothing
    #[arg(long, conflicts_with_all = ["wait", "group", "log_dir"])]
    pub dry_run: bool,
    /// Do not ask before changing many agents
    #[arg(short, long)]
    pub yes: bool,
    /// How to print data: table, wide, json, yaml, ndjson or name
    #[arg(short, long, value_name = "FORMAT", hide_possible_values = true)]
    pub output: Option<Format>,
    /// The context to use
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,

    /// Ends, retries and rollout.
    #[command(flatten)]
    pub delivery: DeliveryOptions,

    /// For exec.run: the program and its arguments
    #[arg(last = true, value_name = "PROGRAM [ARG]...")]
    pub program: Vec<String>,
}

/// A command's place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Priority {
    /// Before everything else.
    Critical,
    /// Before normal work.
    High,
    /// As most.
    Normal,
    /// After everything else.
    Low,
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Priority::Critical => "critical",
            Priority::High => "high",
            Priority::Normal => "normal",
            Priority::Low => "low",
        })
    }
}

/// `viworks run` before it knows its verb.
pub fn base_command() -> Command {
    RunOptions::augment_args(Command::new("run"))
        .bin_name("viworks run")
        .about("Run a verb on agents and follow it")
        .override_usage("viworks run VERB WHO [OPTIONS] [FLAGS OF THE VERB] [-- PROGRAM [ARG]...]")
        .after_help(EXAMPLES)
        .disable_version_flag(true)
}

/// The long flags that verbs may not have.
pub(super) fn reserved(base: &Command) -> BTreeSet<String> {
    let own = base.get_arguments().filter_map(|arg| arg.get_long().map(str::to_owned));
    own.chain(["help".to_owned(), "version".to_owned()]).collect()
}

/// `viworks run VERB` with the flags of its schema.
pub(super) fn with_flags(base: Command, verb: &Verb, flags: &[Flag]) -> Command {
    let heading = format!("Arguments of {}", verb.name);
    let mut taken = reserved(&base);
    taken.extend(flags.iter().map(|flag| flag.long.clone()));
    let (name, program) = (&verb.name, takes_program(verb));
    let rest = if program { " [-- PROGRAM [ARG]...]" } else { "" };
    base.about(escape::line(&format!("{name}: {}", verb.summary)))
        .override_usage(format!("viworks run {name} WHO [OPTIONS] [FLAGS]{rest}"))
        .mut_arg("verb", |arg| arg.hide(true))
        .mut_arg("program", |arg| arg.hide(!program))
        .args(flags.iter().map(|flag| flag.arg(&heading, &taken)))
        .after_help(format!("`viworks verb show {}` is its manual page.", verb.name))
}

/// The flag that sets what a pointer into the body points at.
pub(super) fn flag_of(pointer: &str, flags: &[Flag]) -> Option<String> {
    let mut parts = pointer.strip_prefix('/')?.split('/');
    match (parts.next()?, parts.next()) {
        ("args", Some(name)) => {
            let name = name.replace("~1", "/").replace("~0", "~");
            flags.iter().find(|flag| flag.property.name == name).map(|flag| format!("--{}", flag.long))
        }
        ("target", Some(list)) => Some(
            match list {
                "sites" => "--site",
                "labels" => "--label",
                "agents" => "--agent",
                "all" => "--all",
                "capabilities" => "--capability",
                "os" => "--os",
                "container_engine" => "--container-engine",
                "status" => "--status",
                "expr" => "--target",
                _ => return None,
            }
            .to_owned(),
        ),
        ("priority", None) => Some("--priority".to_owned()),
        ("start_within_ms", None) => Some("--start-within".to_owned()),
        ("run_timeout_ms", None) => Some("--timeout".to_owned()),
        _ => option_of(pointer).map(str::to_owned),
    }
}

/// Whole milliseconds, as the API counts.
pub(super) fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

impl RunOptions {
    /// Who is meant.
    ///
    /// # Errors
    /// When nobody is named: that never means everybody.
    pub fn target(&self) -> Result<TargetBody, Failure> {
        let target = TargetBody {
            all: self.all,
            agents: self.agents.clone(),
            sites: self.sites.clone(),
            labels: self.labels.clone(),
            capabilities: self.capabilities.clone(),
            os: self.os.clone(),
            container_engine: self.container_engine.clone(),
            status: self.status.clone(),
            expr: self.target.clone(),
        };
        if let Some(label) = target.labels.iter().find(|label| !label.contains('=')) {
            return Err(Failure::usage(format!("`{label}` is no label: write it as KEY=VALUE")));
        }
        let lists = [
            &target.agents,
            &target.sites,
            &target.labels,
            &target.capabilities,
            &target.os,
            &target.container_engine,
            &target.status,
        ];
        if let Some(empty) = lists.iter().find(|list| list.iter().any(String::is_empty)) {
            return Err(Failure::usage(format!("an empty name in `{}` means nobody: leave it out", empty.join(","))));
        }
        let narrowed = target.expr.is_some() || lists.iter().any(|list| !list.is_empty());
        if !target.all && !narrowed {
            return Err(Failure::usage("say who: --all, -a web-01,web-02, --site eu-1, -l env=prod, …"));
        }
        // Everybody at a site is everybody there: the lists alone say it.
        Ok(TargetBody { all: target.all && !narrowed, ..target })
    }
}
