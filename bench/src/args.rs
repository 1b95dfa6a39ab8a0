//! What can be asked of the load generator.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::behaviour::Behaviour;
use crate::frames::Answers;
use crate::runs::broadcast::Shape;
use crate::store::{Kept, Kind};

/// Measures ViWorkS from its doors: real sockets, the real handshake, a process of its own.
#[derive(Debug, Parser)]
#[command(name = "viworks-bench", version)]
pub struct Cli {
    /// What to measure.
    #[command(subcommand)]
    pub scenario: Scenario,
    /// Append one JSON line for each result.
    #[arg(long, global = true, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Threads of the generator; one for each core when absent.
    #[arg(long, global = true)]
    pub threads: Option<usize>,
}

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum Scenario {
    /// Commands to one agent each: closed loop, or open loop with --rate.
    Commands(Commands),
    /// One command to all agents, until every result is kept.
    Broadcast(Broadcast),
    /// One command to fleets of growing sizes: what a target costs, and whether that grows; starts the host itself.
    Sizes(Sizes),
    /// Memory and CPU of connected agents while nothing happens.
    Idle(Idle),
    /// GET one agent and one command by id, closed loop.
    Reads(Reads),
    /// Baseline: a bare WebSocket hub, nothing stored.
    Hub(Hub),
    /// Baseline: a command's whole life in a store and nowhere else.
    Life(Life),
    /// Baseline: a bare JSON route behind a JWT.
    Route(Route),
    /// Telemetry reports a second that are stored, beside a plain client's batched inserts; starts the host itself.
    Telemetry(Telemetry),
    /// A day of one agent's telemetry out of a store that holds many agents' weeks.
    History(History),
    /// Submitting, dispatching, ending and listing over a long past, beside the same over none.
    Past(Past),
    /// The longest wait of whoever writes while old output, telemetry or audit entries are forgotten.
    Retention(Retention),
    /// Baselines and product in one run, with ratios; starts the host itself.
    All(All),
    /// Every axis on every store, product and baselines in turn, and one table; starts everything itself.
    Axes(Axes),
    /// The table of a file of results.
    Table(Table),
    /// The bare hub's own process.
    #[command(hide = true)]
    HubServer,
    /// The bare route's own process.
    #[command(hide = true)]
    RouteServer,
}

/// Where the product is, and its simulated agents.
#[derive(Clone, Debug, Args)]
pub struct Product {
    /// The operators' door, e.g. `http://127.0.0.1:8080`.
    #[arg(long, value_name = "URL")]
    pub api: String,
    /// The agents' door, e.g. ws://127.0.0.1:9090/ws/agent.
    #[arg(long, value_name = "URL")]
    pub agents_url: String,
    /// The body of a login, as the host leaves it in admin.json.
    #[arg(long, value_name = "FILE")]
    pub credential: PathBuf,
    /// Simulated agents.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub agents: u32,
    /// Keep the agents' identities here, and use them again.
    #[arg(long, value_name = "FILE")]
    pub identities: Option<PathBuf>,
    /// The host's process: its CPU, memory and writes are told for each operation.
    #[arg(long, value_name = "PID")]
    pub host_pid: Option<u32>,
    /// How the agents behave.
    #[command(flatten)]
    pub agent: Agent,
}

/// How simulated agents behave.
#[derive(Clone, Debug, Args)]
pub struct Agent {
    /// Each agent checks the signature of its first command and of every Nth after it; 0 = of none.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub verify_every: u32,
    /// Write ACK, STARTED, OUTPUT and RESULT each by itself instead of together.
    #[arg(long)]
    pub flush_each: bool,
    /// Send no telemetry, whatever the host asks for.
    #[arg(long)]
    pub no_telemetry: bool,
    /// Bytes of standard output in each result.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=1_048_576))]
    pub output_bytes: u32,
}

impl Agent {
    /// The behaviour these flags describe.
    pub fn behaviour(&self) -> Behaviour {
        let output: Vec<u8> = b"ok\n".iter().copied().cycle().take(self.output_bytes as usize).collect();
        Behaviour {
            verify_every: self.verify_every,
            flush_each: self.flush_each,
            telemetry: !self.no_telemetry,
            sample_every: None,
            answers: Answers::new(&output),
        }
    }
}

/// `commands`
#[derive(Clone, Debug, Args)]
pub struct Commands {
    /// Where the product is.
    #[command(flatten)]
    pub product: Product,
    /// Connections, each with one submission under way.
    #[arg(long, default_value_t = 256)]
    pub in_flight: usize,
    /// The measured part, e.g. 10s, 500ms, 2m.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub duration: Duration,
    /// Before the measured part.
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub warmup: Duration,
    /// Open loop: so many commands per second at fixed times, latency from the due time.
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    pub rate: Option<f64>,
    /// Open loop with independent arrivals instead of even spacing.
    #[arg(long, requires = "rate")]
    pub poisson: bool,
    /// Look every accepted command up at the end instead of 2,000 of them.
    #[arg(long)]
    pub check_all: bool,
}

/// `broadcast`
#[derive(Clone, Debug, Args)]
pub struct Broadcast {
    /// Where the product is.
    #[command(flatten)]
    pub product: Product,
    /// Commands, one after another; the first is warm-up.
    #[arg(long, default_value_t = 6)]
    pub repeat: usize,
    /// How they are let go.
    #[arg(long, value_enum, default_value = "plain")]
    pub shape: Shape,
}

/// `sizes`
#[derive(Clone, Debug, Args)]
pub struct Sizes {
    /// The host's binary.
    #[arg(long, value_name = "BIN")]
    pub host: PathBuf,
    /// A folder of plugins that serve `exec.run`.
    #[arg(long, value_name = "DIR")]
    pub plugins: PathBuf,
    /// Which store; PostgreSQL is started for it.
    #[arg(long, value_enum, default_value_t)]
    pub store: Kind,
    /// Simulated agents, ascending; each size has a host and a fleet of its own.
    #[arg(long, value_delimiter = ',', default_value = "100,1000,10000")]
    pub agents: Vec<usize>,
    /// Commands of each shape on each size; the first is warm-up when there are more.
    #[arg(long, default_value_t = 4)]
    pub repeat: usize,
    /// Fail when a target of the largest fleet costs more than so many times what one of the dearest smaller
    /// fleet does.
    #[arg(long, value_name = "RATIO")]
    pub at_most: Option<f64>,
    /// Where databases are made; on the file system that is meant.
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    pub work: PathBuf,
    /// Each agent checks the signature of its first command and of every Nth after it; 0 = of none.
    #[arg(long, default_value_t = 16, value_name = "N")]
    pub verify_every: u32,
}

/// `telemetry`
#[derive(Clone, Debug, Args)]
pub struct Telemetry {
    /// The host's binary.
    #[arg(long, value_name = "BIN")]
    pub host: PathBuf,
    /// A folder of plugins that serve `exec.run`.
    #[arg(long, value_name = "DIR")]
    pub plugins: PathBuf,
    /// Which store, for the product and for the plain client; PostgreSQL is started for them.
    #[arg(long, value_enum, default_value_t)]
    pub store: Kind,
    /// Simulated agents.
    #[arg(long, default_value_t = 1000)]
    pub agents: usize,
    /// Reports offered a second; what the host cannot store of them it counts.
    #[arg(long, default_value = "20000", value_name = "PER_SECOND", value_parser = rate)]
    pub rate: f64,
    /// Each measured part.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub duration: Duration,
    /// Where databases are made; on the file system that is meant.
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    pub work: PathBuf,
}

/// `history`
#[derive(Clone, Debug, Args)]
pub struct History {
    /// Which store; PostgreSQL is started for it.
    #[arg(long, value_enum, default_value_t)]
    pub store: Kind,
    /// Agents whose minutes are stored.
    #[arg(long, default_value_t = 1000)]
    pub agents: u64,
    /// Days of them.
    #[arg(long, default_value_t = 7)]
    pub days: u64,
    /// Questions, each about another agent.
    #[arg(long, default_value_t = 200)]
    pub questions: u64,
    /// Where the database is made.
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    pub work: PathBuf,
}

/// `past`
#[derive(Clone, Debug, Args)]
pub struct Past {
    /// Which store; PostgreSQL is started for it.
    #[arg(long, value_enum, default_value_t)]
    pub store: Kind,
    /// Finished invocations that are stored.
    #[arg(long, default_value_t = 1_000_000)]
    pub invocations: u64,
    /// Agents that they were of.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub agents: u64,
    /// How often each thing is timed, over each of the two stores.
    #[arg(long, default_value_t = 300)]
    pub rounds: u64,
    /// Where the databases are made.
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    pub work: PathBuf,
}

/// `retention`
#[derive(Clone, Debug, Args)]
pub struct Retention {
    /// What is forgotten.
    #[arg(long, value_enum, default_value_t)]
    pub of: Kept,
    /// Which store; PostgreSQL is started for it.
    #[arg(long, value_enum, default_value_t)]
    pub store: Kind,
    /// Pieces of output, reports or entries that are old enough to go.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1_000..=100_000_000))]
    pub rows: u64,
    /// Where the database is made.
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    pub work: PathBuf,
}

/// `idle`
#[derive(Clone, Debug, Args)]
pub struct Idle {
    /// Where the product is; --host-pid is needed.
    #[command(flatten)]
    pub product: Product,
    /// How long its CPU is watched.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub hold: Duration,
}

/// `reads`
#[derive(Clone, Debug, Args)]
pub struct Reads {
    /// The operators' door, e.g. `http://127.0.0.1:8080`.
    #[arg(long, value_name = "URL")]
    pub api: String,
    /// The body of a login, as the host leaves it in admin.json.
    #[arg(long, value_name = "FILE")]
    pub credential: PathBuf,
    /// The host's process.
    #[arg(long, value_name = "PID")]
    pub host_pid: Option<u32>,
    /// Connections.
    #[arg(long, default_value_t = 64)]
    pub connections: usize,
    /// The measured part of each of the two.
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub duration: Duration,
}

/// `hub`
#[derive(Clone, Debug, Args)]
pub struct Hub {
    /// Agents.
    #[arg(long, default_value_t = 1000)]
    pub agents: usize,
    /// Commands under way.
    #[arg(long, default_value_t = 256)]
    pub in_flight: usize,
    /// The measured part.
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub duration: Duration,
    /// Open loop: so many commands per second at fixed times.
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    pub rate: Option<f64>,
    /// Also time one command to all agents, so many times.
    #[arg(long, default_value_t = 6)]
    pub fan_out: usize,
}

/// `life`
#[derive(Clone, Debug, Args)]
pub struct Life {
    /// Which store; PostgreSQL is started for it.
    #[arg(long, value_enum, default_value_t)]
    pub store: Kind,
    /// Commands in each commit.
    #[arg(long, default_value_t = 64)]
    pub batch: usize,
    /// Connections that do so beside each other; one on SQLite.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub lanes: u8,
    /// Batches a second; one after the other when absent.
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    pub rate: Option<f64>,
    /// Where the database is made.
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    pub path: PathBuf,
    /// The measured part.
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub duration: Duration,
}

/// `route`
#[derive(Clone, Debug, Args)]
pub struct Route {
    /// Connections.
    #[arg(long, default_value_t = 64)]
    pub connections: usize,
    /// The measured part.
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub duration: Duration,
}

/// `all`
#[derive(Clone, Debug, Args)]
pub struct All {
    /// The host's binary.
    #[arg(long, value_name = "BIN")]
    pub host: PathBuf,
    /// A folder of plugins that serve `exec.run`.
    #[arg(long, value_name = "DIR")]
    pub plugins: PathBuf,
    /// Which store, for the product and for the bare client; PostgreSQL is started for them.
    #[arg(long, value_enum, default_value_t)]
    pub store: Kind,
    /// One short repetition with few agents: a look, not a figure.
    #[arg(long)]
    pub quick: bool,
    /// Simulated agents; 1000, or 200 with --quick, when absent.
    #[arg(long)]
    pub agents: Option<u32>,
    /// Repetitions of bare, product, bare; 3, or 1 with --quick, when absent.
    #[arg(long)]
    pub repeat: Option<usize>,
    /// Where databases are made; on the file system that is meant.
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    pub work: PathBuf,
    /// Fail when a median ratio misses its gate.
    #[arg(long)]
    pub gate: bool,
    /// How the agents behave. By default each checks every 16th signature: on a real fleet that work
    /// is not on the host's machine.
    #[arg(long, default_value_t = 16, value_name = "N")]
    pub verify_every: u32,
}

/// `axes`
#[derive(Clone, Debug, Args)]
pub struct Axes {
    /// The host's binary.
    #[arg(long, value_name = "BIN")]
    pub host: PathBuf,
    /// The agent's binary; without it, what real agents do is skipped.
    #[arg(long, value_name = "BIN")]
    pub agent: Option<PathBuf>,
    /// A folder of plugins that serve `exec.run`.
    #[arg(long, value_name = "DIR")]
    pub plugins: PathBuf,
    /// Which stores, one after the other; PostgreSQL is started for it.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Kind::Sqlite, Kind::Postgres])]
    pub store: Vec<Kind>,
    /// Only these groups: `life`, `overload`, `hosts`, `kill`, `urgent`, `telemetry`, `past`, `history`, `retention`, `crowd`,
    /// `growth`, `machines`, `start`, `soak`.
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// One short repetition of each: a look, not a figure.
    #[arg(long)]
    pub quick: bool,
    /// Agents of `crowd`; the limit of open files allows 19,500 at most where it is 20,000.
    #[arg(long, default_value_t = 10_000)]
    pub crowd: usize,
    /// Commands that wait in `urgent`.
    #[arg(long, default_value_t = 100_000)]
    pub waiting: usize,
    /// Finished invocations of `past`; 1,000,000, or 100,000 with --quick, when absent.
    #[arg(long)]
    pub invocations: Option<u64>,
    /// How long `soak` takes; with --quick it is left out.
    #[arg(long, default_value = "30m", value_parser = duration)]
    pub soak: Duration,
    /// Where databases are made; on the file system that is meant.
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    pub work: PathBuf,
}

/// `table`
#[derive(Clone, Debug, Args)]
pub struct Table {
    /// What `--json` of any run left.
    pub results: PathBuf,
    /// In Markdown, both stores side by side, as it stands in `docs/benchmarks.md`.
    #[arg(long)]
    pub markdown: bool,
}

/// Reads `10s`, `500ms` or `2m`.
fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err(format!("`{text}` has no unit; write 500ms, 10s or 2m")),
    };
    match number.parse::<f64>() {
        Ok(value) if value >= 0.0 && value * factor <= 86_400.0 => Ok(Duration::from_secs_f64(value * factor)),
        _ => Err(format!("`{number}` is no number of {unit} within a day")),
    }
}

/// Reads a rate above 0.
fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 1e6 => Ok(rate),
        _ => Err(format!("`{text}` is no rate; above 0, at most 1000000 per second")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_flags_agree_with_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        for wrong in ["10", "", "s", "-1s", "3h", "2d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rates_are_above_nothing() {
        assert_eq!(rate("50"), Ok(50.0));
        for wrong in ["0", "-1", "x", "inf", "NaN"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
