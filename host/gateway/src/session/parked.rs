//! Results that wait for their turn at the store: so many of them, and so much.

use std::collections::VecDeque;
use std::sync::Arc;

use domain::command::Command;
use plan::id::AttemptKey;
use plan::outcome::{End, Outcome, StepEnd};
use wire::limits::MAX_HELLO_ATTEMPTS;

/// Most bytes of the results of one agent that wait: 10,000 of an honest one are less, and a few with the longest
/// of sentences are not to take the host's memory.
pub const PARKED_BYTES: usize = 8 * 1024 * 1024;

/// A result that waits.
pub(super) type Result = (AttemptKey, Option<Arc<Command>>, Outcome);

/// Those that wait, in the order they came.
#[derive(Default)]
pub(super) struct Parked {
    waiting: VecDeque<Result>,
    bytes: usize,
}

impl Parked {
    /// Puts one behind the others; `false` when there is no room.
    pub fn push(&mut self, result: Result) -> bool {
        let bytes = self.bytes + weight(&result);
        if self.waiting.len() >= MAX_HELLO_ATTEMPTS || bytes > PARKED_BYTES {
            return false;
        }
        self.bytes = bytes;
        self.waiting.push_back(result);
        true
    }

    /// Takes the first.
    pub fn pop(&mut self) -> Option<Result> {
        let result = self.waiting.pop_front()?;
        self.bytes -= weight(&result);
        Some(result)
    }
}

/// Bytes that a result takes up, without the command: nothing is sent while results wait, so few of them bring one.
fn weight(result: &Result) -> usize {
    let (_, _, Outcome { end, steps, stdout, stderr, duration_ms: _ }) = result;
    let message = match end {
        End::Rejected { message, .. } | End::Interrupted { message } => message.len(),
        End::Exited | End::TimedOut | End::Cancelled { .. } | End::Expired => 0,
    };
    let texts = message + stdout.sha256.len() + stderr.sha256.len();
    size_of::<Result>() + size_of::<StepEnd>() * steps.len() + texts
}

#[cfg(test)]
mod tests {
    use plan::id::CommandId;
    use plan::outcome::{MAX_MESSAGE_BYTES, StreamEnd};
    use plan::step::MAX_STEPS;
    use uuid::Uuid;

    use super::*;

    fn said(outcome: Outcome) -> Result {
        (AttemptKey { command: CommandId(Uuid::from_u128(1)), number: 1 }, None, outcome)
    }

    fn interrupted(bytes: usize) -> Result {
        said(Outcome::not_started(End::Interrupted { message: "m".repeat(bytes) }))
    }

    #[test]
    fn so_much_may_wait_and_no_more_until_some_of_it_is_taken() {
        let mut parked = Parked::default();
        let least = weight(&interrupted(0));
        let mut left = PARKED_BYTES;
        while left > 0 {
            // The last two share what is left, so that neither is longer than an end may be nor shorter than none.
            let bytes = if left < 2 * (least + MAX_MESSAGE_BYTES) { left / 2 } else { least + MAX_MESSAGE_BYTES };
            let bytes = if left - bytes < least { left } else { bytes };
            assert!(parked.push(interrupted(bytes - least)), "{left} bytes are left");
            left -= bytes;
        }
        assert!(!parked.push(interrupted(0)), "one byte more than there is room for");
        let (.., first) = parked.pop().expect("the first");
        assert!(parked.push(said(first)), "its place is free");
        while parked.pop().is_some() {}
        assert_eq!(parked.bytes, 0);
    }

    #[test]
    fn as_many_results_of_an_honest_agent_wait_as_it_may_hold() {
        let mut parked = Parked::default();
        let stream = || StreamEnd { bytes: 1, head: 1, tail: 0, sha256: "0a".repeat(32) };
        let outcome = Outcome {
            steps: vec![StepEnd::default(); MAX_STEPS],
            stdout: stream(),
            stderr: stream(),
            ..Outcome::not_started(End::Exited)
        };
        for _ in 0..MAX_HELLO_ATTEMPTS {
            assert!(parked.push(said(outcome.clone())));
        }
        assert!(!parked.push(said(Outcome::not_started(End::Exited))));
    }
}
