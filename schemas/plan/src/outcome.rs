//! How an attempt ended, as the agent saw it: facts about processes, no judgement. Whether the
//! command succeeded is for the verb to say.

use serde::{Deserialize, Serialize};

/// The end of one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Why nothing more will happen.
    pub end: End,
    /// One entry for each step that was started, in order. Empty when none was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepEnd>,
    /// Standard output of all steps, in order, as kept.
    #[serde(default)]
    pub stdout: StreamEnd,
    /// Standard error of all steps, in order, as kept.
    #[serde(default)]
    pub stderr: StreamEnd,
    /// From acceptance by the agent to this end, in milliseconds.
    #[serde(default)]
    pub duration_ms: u64,
}

impl Outcome {
    /// An end before any process was started.
    pub fn not_started(end: End) -> Outcome {
        Outcome { end, steps: Vec::new(), stdout: StreamEnd::default(), stderr: StreamEnd::default(), duration_ms: 0 }
    }
}

/// Why nothing more will happen in an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum End {
    /// Every step ran, or one ended other than with 0 and the rest was not run.
    Exited,
    /// Killed at a timeout, everything it started.
    TimedOut,
    /// Killed, or never started, because of a CANCEL. `started` tells which.
    Cancelled {
        /// Whether any process had been started.
        started: bool,
    },
    /// Not started: the time to start by, or to be without a host, was over when its turn came.
    Expired,
    /// Not started: refused.
    Rejected {
        /// Who refused and why.
        cause: RejectCause,
        /// A sentence for a person, naming the rule.
        message: String,
    },
    /// Started, then the agent, its supervisor or the machine died; the effect is not known.
    Interrupted {
        /// What is known about why.
        message: String,
    },
}

impl End {
    /// The name used in JSON and in logs.
    pub fn kind(&self) -> &'static str {
        match self {
            End::Exited => "exited",
            End::TimedOut => "timed_out",
            End::Cancelled { .. } => "cancelled",
            End::Expired => "expired",
            End::Rejected { .. } => "rejected",
            End::Interrupted { .. } => "interrupted",
        }
    }
}

/// Why an agent refused to start an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectCause {
    /// The signature does not match the pinned cluster key, or the envelope names somebody else.
    Signature,
    /// The envelope's validity is over, or its epoch is older than one seen before.
    Stale,
    /// The agent's own policy does not allow the plan.
    Policy,
    /// The plan is malformed or names something this agent cannot do.
    Plan,
    /// No room: too many attempts waiting or running, or no disk space. Always safe to retry.
    Busy,
    /// The process could not be spawned (program missing, not executable, no such directory).
    Spawn,
}

impl RejectCause {
    /// The name used in JSON and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            RejectCause::Signature => "signature",
            RejectCause::Stale => "stale",
            RejectCause::Policy => "policy",
            RejectCause::Plan => "plan",
            RejectCause::Busy => "busy",
            RejectCause::Spawn => "spawn",
        }
    }
}

/// How one step's process ended. Exactly one of `exit_code` and `signal` is set, or neither when
/// the process was still running when knowledge of it was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepEnd {
    /// Exit code, 0 to 255.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// From spawn to exit, in milliseconds.
    #[serde(default)]
    pub duration_ms: u64,
    /// Bytes of standard output this step produced, kept or not.
    #[serde(default)]
    pub stdout_bytes: u64,
    /// Bytes of standard error this step produced, kept or not.
    #[serde(default)]
    pub stderr_bytes: u64,
}

/// One stream's totals over a whole attempt. What is kept is the first `head` bytes and the last
/// `tail` bytes; between them lies a gap exactly when `head + tail < bytes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamEnd {
    /// Bytes produced, kept or not.
    pub bytes: u64,
    /// Bytes kept from the start.
    pub head: u64,
    /// Bytes kept from the end, not counting what `head` already holds.
    pub tail: u64,
    /// SHA-256 of everything produced, lower-case hex; empty when nothing was produced, or when more may have been than
    /// is known of.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sha256: String,
}

impl StreamEnd {
    /// Whether some of what was produced is not kept.
    pub fn truncated(&self) -> bool {
        self.head + self.tail < self.bytes
    }

    /// The same of a stream of which more may have been produced than is known of.
    #[must_use]
    pub fn of_a_part(self) -> StreamEnd {
        StreamEnd { sha256: String::new(), ..self }
    }
}

/// Which of a process's two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The name used in JSON and SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }

    /// The stream called `name`, if there is one.
    pub fn parse(name: &str) -> Option<Stream> {
        [Stream::Stdout, Stream::Stderr].into_iter().find(|stream| stream.as_str() == name)
    }
}
