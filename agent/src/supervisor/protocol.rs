//! What agent and supervisor say to each other over their Unix socket: one JSON value on each line.
//!
//! The supervisor serves one agent at a time and reads everything an old connection still held before
//! it greets the next, so "I never heard of it" in a greeting is proof that nothing was spawned.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use plan::id::AttemptKey;
use plan::outcome::{Outcome, Stream};
use serde::{Deserialize, Serialize};

/// Longest line either side accepts. A greeting with ten thousand finished attempts stays below.
pub const MAX_LINE_BYTES: usize = 16 << 20;

/// The socket of the supervisor whose data lies in `data`.
pub fn socket_path(data: &Path) -> PathBuf {
    data.join("supervisor.sock")
}

/// The file that holds the living supervisor's process id, locked while it lives.
pub fn lock_path(data: &Path) -> PathBuf {
    data.join("supervisor.lock")
}

/// What an agent asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Request {
    /// Run this.
    Start {
        /// What to run.
        launch: Box<Launch>,
    },
    /// End this: TERM to the group, KILL after the grace.
    Kill {
        /// Which attempt.
        attempt: AttemptKey,
        /// From TERM to KILL, milliseconds.
        grace_ms: u64,
    },
    /// Whether the agent has a session with its host. Without an agent there is none either.
    Host {
        /// Whether it has.
        here: bool,
    },
    /// The agent has this attempt's end on disk; it need not be remembered any longer.
    Drop {
        /// Which attempt.
        attempt: AttemptKey,
    },
}

/// What a supervisor says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "tell", rename_all = "snake_case")]
pub enum Event {
    /// First line of every connection: everything this supervisor remembers.
    Hello {
        /// Made when this process started; another name is another process, and the old one is dead.
        instance: String,
        /// Its process id.
        pid: u32,
        /// Every attempt it was asked to start and not told to drop.
        attempts: Vec<Report>,
    },
    /// The first process of an attempt was spawned.
    Started {
        /// Which attempt.
        attempt: AttemptKey,
        /// The process.
        pid: u32,
        /// When it started, in clock ticks since boot.
        start_ticks: u64,
    },
    /// A stream has this many readable bytes now.
    Grew {
        /// Which attempt.
        attempt: AttemptKey,
        /// Which stream.
        stream: Stream,
        /// Readable from its start.
        bytes: u64,
    },
    /// Bytes behind those that are kept for good, for whoever looks on live. Some may be left out.
    Passed {
        /// Which attempt.
        attempt: AttemptKey,
        /// Which stream.
        stream: Stream,
        /// Where in the stream the first byte stands.
        offset: u64,
        /// The bytes, standard base64 with padding.
        data: String,
    },
    /// An attempt is over and its end is on disk.
    Ended {
        /// Which attempt.
        attempt: AttemptKey,
        /// How; `duration_ms` counts from the first spawn.
        outcome: Outcome,
    },
}

/// One attempt as the supervisor remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Which attempt.
    pub attempt: AttemptKey,
    /// What is known.
    pub state: Known,
}

/// What a supervisor knows of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Known {
    /// Asked for, not spawned yet.
    Heard,
    /// A process of it runs.
    Running {
        /// The first process.
        pid: u32,
        /// When it started, in clock ticks since boot.
        start_ticks: u64,
        /// Readable bytes of standard output.
        stdout: u64,
        /// Readable bytes of standard error.
        stderr: u64,
    },
    /// Over.
    Ended {
        /// How.
        outcome: Outcome,
    },
}

/// Everything needed to run one attempt. Nothing in it is looked up again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// Which attempt.
    pub attempt: AttemptKey,
    /// Run in order until one does not exit with 0.
    pub steps: Vec<LaunchStep>,
    /// Not to be started after this instant, milliseconds since boot.
    pub start_by_mono_ms: u64,
    /// The whole attempt is killed this long after its first spawn. Milliseconds.
    pub run_timeout_ms: u64,
    /// Bytes kept of each stream.
    pub output_bytes: u64,
    /// From TERM to KILL at a timeout. Milliseconds.
    pub grace_ms: u64,
    /// Killed when the agent had no session with its host for this long. Milliseconds.
    #[serde(default)]
    pub kill_after_ms: Option<u64>,
    /// Values that are blotted out of the output.
    #[serde(default)]
    pub secrets: Vec<String>,
}

/// One process to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchStep {
    /// The file, absolute, links followed.
    pub program: String,
    /// What the process is told it is called: the path in the policy, before links were followed.
    pub name: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: BTreeMap<String, String>,
    /// Its working directory; the agent's own when absent.
    pub cwd: Option<String>,
    /// Its standard input; closed when absent.
    pub stdin: Option<String>,
    /// Killed after this long. Milliseconds.
    pub timeout_ms: Option<u64>,
}
