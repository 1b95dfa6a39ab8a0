//! How an attempt ended, as the agent saw it: facts about processes, no judgement. Whether the
//! command succeeded is for the verb to say.

use serde::{Deserialize, Serialize};

use crate::step::{MAX_ARG_BYTES, MAX_STEPS};

/// Most bytes of an end's sentence. An agent may name a step's directory in it, of [`MAX_ARG_BYTES`] at most.
pub const MAX_MESSAGE_BYTES: usize = 2 * MAX_ARG_BYTES;
/// The highest count of bytes or milliseconds, which is as far as a store counts.
pub const MAX_COUNT: u64 = i64::MAX as u64;
/// Digits of a SHA-256.
const SUM_DIGITS: usize = 64;

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

    /// Checks what holds for every end, for whoever hears of one from an agent: it is kept for years, and counted with.
    ///
    /// # Errors
    /// The first fault, in document order.
    pub fn check(&self) -> Result<(), OutcomeFault> {
        if let End::Rejected { message, .. } | End::Interrupted { message } = &self.end
            && message.len() > MAX_MESSAGE_BYTES
        {
            return fault("/end/message", format!("{} bytes; at most {MAX_MESSAGE_BYTES}", message.len()));
        }
        if self.steps.len() > MAX_STEPS {
            return fault("/steps", format!("{} steps; a plan has at most {MAX_STEPS}", self.steps.len()));
        }
        for (index, step) in self.steps.iter().enumerate() {
            let counts = [step.duration_ms, step.stdout_bytes, step.stderr_bytes];
            if counts.into_iter().any(|count| count > MAX_COUNT) {
                return fault(&format!("/steps/{index}"), format!("counts are at most {MAX_COUNT}"));
            }
        }
        self.stdout.check("/stdout")?;
        self.stderr.check("/stderr")?;
        if self.duration_ms > MAX_COUNT {
            return fault("/duration_ms", format!("at most {MAX_COUNT}"));
        }
        Ok(())
    }
}

/// Why an end cannot be, whatever was run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pointer}: {message}")]
pub struct OutcomeFault {
    /// JSON Pointer into the outcome, e.g. `/stdout/sha256`.
    pub pointer: String,
    /// What is wrong there and what would be right.
    pub message: String,
}

fn fault(pointer: &str, message: String) -> Result<(), OutcomeFault> {
    Err(OutcomeFault { pointer: pointer.to_owned(), message })
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
        self.kept() < self.bytes
    }

    /// Bytes kept from both ends.
    pub fn kept(&self) -> u64 {
        self.head.saturating_add(self.tail)
    }

    fn check(&self, pointer: &str) -> Result<(), OutcomeFault> {
        if self.bytes > MAX_COUNT {
            return fault(&format!("{pointer}/bytes"), format!("at most {MAX_COUNT}"));
        }
        if self.head.checked_add(self.tail).is_none_or(|kept| kept > self.bytes) {
            return fault(pointer, "more bytes are kept, in `head` and `tail`, than `bytes` were produced".to_owned());
        }
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if !matches!(self.sha256.len(), 0 | SUM_DIGITS) || !self.sha256.bytes().all(is_digit) {
            let rule = format!("{SUM_DIGITS} lower-case hexadecimal digits, or none");
            return fault(&format!("{pointer}/sha256"), rule);
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(bytes: usize) -> Outcome {
        Outcome::not_started(End::Rejected { cause: RejectCause::Policy, message: "m".repeat(bytes) })
    }

    fn stream(bytes: u64, head: u64, tail: u64) -> StreamEnd {
        StreamEnd { bytes, head, tail, sha256: "0a".repeat(32) }
    }

    #[test]
    fn an_end_is_held_to_form_at_every_edge() {
        let good = Outcome::not_started(End::Exited);
        let steps = |count| Outcome { steps: vec![StepEnd::default(); count], ..good.clone() };
        let step = |step| Outcome { steps: vec![StepEnd::default(), step], ..good.clone() };
        let stdout = |stdout| Outcome { stdout, ..good.clone() };
        let sum = |sha256: &str| Outcome {
            stderr: StreamEnd { sha256: sha256.to_owned(), ..stream(1, 1, 0) },
            ..good.clone()
        };
        let interrupted = |bytes| Outcome::not_started(End::Interrupted { message: "m".repeat(bytes) });
        let over = MAX_COUNT + 1;
        for (outcome, place) in [
            (good.clone(), None),
            (Outcome { duration_ms: MAX_COUNT, ..good.clone() }, None),
            (Outcome { duration_ms: over, ..good.clone() }, Some("/duration_ms")),
            (rejected(MAX_MESSAGE_BYTES), None),
            (rejected(MAX_MESSAGE_BYTES + 1), Some("/end/message")),
            (interrupted(MAX_MESSAGE_BYTES), None),
            (interrupted(MAX_MESSAGE_BYTES + 1), Some("/end/message")),
            (steps(MAX_STEPS), None),
            (steps(MAX_STEPS + 1), Some("/steps")),
            (step(StepEnd { stdout_bytes: MAX_COUNT, ..StepEnd::default() }), None),
            (step(StepEnd { stdout_bytes: over, ..StepEnd::default() }), Some("/steps/1")),
            (step(StepEnd { stderr_bytes: over, ..StepEnd::default() }), Some("/steps/1")),
            (step(StepEnd { duration_ms: over, ..StepEnd::default() }), Some("/steps/1")),
            (stdout(stream(10, 6, 4)), None),
            (stdout(stream(10, 0, 0)), None),
            (stdout(stream(MAX_COUNT, MAX_COUNT, 0)), None),
            (stdout(stream(over, 0, 0)), Some("/stdout/bytes")),
            (stdout(stream(10, 7, 4)), Some("/stdout")),
            (stdout(stream(5, 10, 0)), Some("/stdout")),
            (stdout(stream(5, 0, 10)), Some("/stdout")),
            (stdout(stream(5, u64::MAX, 6)), Some("/stdout")),
            (sum(""), None),
            (sum(&"f".repeat(64)), None),
            (sum(&"f".repeat(63)), Some("/stderr/sha256")),
            (sum(&"f".repeat(65)), Some("/stderr/sha256")),
            (sum(&"F".repeat(64)), Some("/stderr/sha256")),
            (sum(&"g".repeat(64)), Some("/stderr/sha256")),
            (sum(&"é".repeat(32)), Some("/stderr/sha256")),
        ] {
            assert_eq!(
                outcome.check().err().map(|fault| fault.pointer).as_deref(),
                place,
                "{:.300}",
                format!("{outcome:?}")
            );
        }
    }

    #[test]
    fn more_than_can_be_counted_is_not_taken_for_less() {
        assert!(!stream(u64::MAX, u64::MAX, 6).truncated());
        assert!(stream(10, 6, 3).truncated());
    }
}
