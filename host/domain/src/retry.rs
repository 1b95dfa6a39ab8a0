//! Whether an attempt that ended is followed by another, and when.
//!
//! Tried again without asking is only what certainly had no effect: the agent was too busy to take it,
//! or it never started. What may have had an effect is tried again only if the verb is idempotent or
//! the caller says so.

use std::time::Duration;

use plan::outcome::RejectCause;

use crate::attempt::{Reason, State};
use crate::time::Timestamp;

/// Most attempts a caller may ask for.
pub const ATTEMPTS_MAX: u32 = 20;
/// Attempts of a verb that is idempotent, when the caller does not say.
pub const ATTEMPTS_IDEMPOTENT: u32 = 3;
/// Back-off before the second attempt, at most, when the caller does not say.
pub const BACKOFF_DEFAULT: Duration = Duration::from_secs(5);
/// Longest back-off there is.
pub const BACKOFF_MAX: Duration = Duration::from_secs(3600);

/// Ends that may have had an effect and are tried again only on request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// It ran to its end and the verb calls it a failure.
    Failed,
    /// It was killed at its run timeout.
    TimedOut,
    /// It may have started, then its supervisor or machine died, or its start hung.
    Interrupted,
    /// The agent went away for too long. It may still be running.
    Lost,
}

impl Cause {
    /// All of them.
    pub const ALL: [Cause; 4] = [Cause::Failed, Cause::TimedOut, Cause::Interrupted, Cause::Lost];

    /// The name used in JSON, SQL and on screen: that of the state.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Failed => State::Failed.as_str(),
            Cause::TimedOut => State::TimedOut.as_str(),
            Cause::Interrupted => State::Interrupted.as_str(),
            Cause::Lost => State::Lost.as_str(),
        }
    }

    /// The cause called `name`, if there is one.
    pub fn parse(name: &str) -> Option<Cause> {
        Cause::ALL.into_iter().find(|cause| cause.as_str() == name)
    }
}

/// When an invocation is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in all, 1 to [`ATTEMPTS_MAX`].
    pub max_attempts: u32,
    /// What is tried again besides what certainly had no effect.
    pub on: Vec<Cause>,
    /// Longest wait before the second attempt; it doubles with each.
    pub backoff: Duration,
}

impl Retry {
    /// One attempt.
    pub fn none() -> Retry {
        Retry { max_attempts: 1, on: Vec::new(), backoff: BACKOFF_DEFAULT }
    }

    /// What a verb gets when the caller does not say.
    pub fn of_verb(idempotent: bool) -> Retry {
        if idempotent {
            Retry {
                max_attempts: ATTEMPTS_IDEMPOTENT,
                on: vec![Cause::Interrupted, Cause::Lost],
                backoff: BACKOFF_DEFAULT,
            }
        } else {
            Retry::none()
        }
    }

    /// When the next attempt of an invocation is due, if there is to be one. `attempt` has just come to
    /// `state`; `chance` is in 0..1; nothing is tried again that could not start before `finish_by`.
    pub fn next(
        &self,
        attempt: u32,
        state: State,
        reason: Option<Reason>,
        now: Timestamp,
        finish_by: Option<Timestamp>,
        chance: f64,
    ) -> Option<Timestamp> {
        if attempt >= self.max_attempts || !self.covers(state, reason, finish_by) {
            return None;
        }
        let due = now + self.wait(attempt, chance);
        finish_by.is_none_or(|end| due < end).then_some(due)
    }

    fn covers(&self, state: State, reason: Option<Reason>, finish_by: Option<Timestamp>) -> bool {
        match state {
            State::Rejected => reason == Some(Reason::Agent(RejectCause::Busy)),
            // How long to wait for a start was the caller's word. Only a later end of all gives room for more.
            State::Expired => reason == Some(Reason::Deadline) && finish_by.is_some(),
            State::Failed => self.on.contains(&Cause::Failed),
            State::TimedOut => self.on.contains(&Cause::TimedOut),
            State::Interrupted => self.on.contains(&Cause::Interrupted),
            State::Lost => self.on.contains(&Cause::Lost),
            State::Held
            | State::Queued
            | State::Sent
            | State::Accepted
            | State::Running
            | State::Succeeded
            | State::Cancelled
            | State::Skipped => false,
        }
    }

    /// Full jitter: anywhere between nothing and the doubled back-off, so that many do not return at once.
    fn wait(&self, attempt: u32, chance: f64) -> Duration {
        let doubled = self.backoff.saturating_mul(1 << attempt.saturating_sub(1).min(20));
        doubled.min(BACKOFF_MAX).mul_f64(chance.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempt::Withdrawn;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    fn all() -> Retry {
        Retry { max_attempts: 3, on: Cause::ALL.to_vec(), backoff: Duration::from_secs(10) }
    }

    #[test]
    fn only_named_causes_are_tried_again() {
        let busy = Some(Reason::Agent(RejectCause::Busy));
        let later = Some(NOW + Duration::from_secs(7200));
        let table = [
            (State::Succeeded, None, [false, false]),
            (State::Failed, None, [false, true]),
            (State::TimedOut, None, [false, true]),
            (State::Interrupted, None, [false, true]),
            (State::Lost, Some(Reason::AgentGone), [false, true]),
            (State::Cancelled, Some(Reason::Killed), [false, false]),
            (State::Skipped, Some(Reason::Halted), [false, false]),
            (State::Rejected, busy, [true, true]),
            (State::Rejected, Some(Reason::Agent(RejectCause::Policy)), [false, false]),
            (State::Rejected, Some(Reason::Withdrawn(Withdrawn::Submitter)), [false, false]),
            (State::Expired, Some(Reason::Deadline), [true, true]),
            (State::Expired, Some(Reason::Offline), [false, false]),
            (State::Running, None, [false, false]),
        ];
        for (state, reason, expected) in table {
            let timid = Retry { on: Vec::new(), ..all() };
            let found = [timid, all()].map(|retry| retry.next(1, state, reason, NOW, later, 0.5).is_some());
            assert_eq!(found, expected, "{state} {reason:?}");
        }
        assert_eq!(all().next(1, State::Expired, Some(Reason::Deadline), NOW, None, 0.5), None);
    }

    #[test]
    fn verbs_that_may_not_run_twice_run_once() {
        assert_eq!(Retry::of_verb(false), Retry::none());
        assert_eq!(Retry::of_verb(true).max_attempts, 3);
        assert_eq!(Retry::of_verb(true).next(1, State::Failed, None, NOW, None, 0.5), None, "a failure is an answer");
    }

    #[test]
    fn attempts_are_counted_and_the_end_of_all_is_kept() {
        assert!(all().next(2, State::Failed, None, NOW, None, 1.0).is_some());
        assert_eq!(all().next(3, State::Failed, None, NOW, None, 1.0), None);
        assert_eq!(all().next(1, State::Failed, None, NOW, Some(NOW + Duration::from_secs(10)), 1.0), None);
        assert!(all().next(1, State::Failed, None, NOW, Some(NOW + Duration::from_secs(11)), 1.0).is_some());
    }

    #[test]
    fn the_wait_doubles_up_to_its_cap_and_is_jittered_whole() {
        let due = |attempt, chance| {
            let retry = Retry { max_attempts: ATTEMPTS_MAX, ..all() };
            retry.next(attempt, State::Failed, None, NOW, None, chance).expect("a retry").since(NOW)
        };
        assert_eq!(due(1, 0.0), Duration::ZERO);
        assert_eq!([1, 2, 3].map(|attempt| due(attempt, 1.0).as_secs()), [10, 20, 40]);
        assert_eq!(due(19, 1.0), BACKOFF_MAX);
        assert_eq!(due(2, 0.25), Duration::from_secs(5));
    }
}
