//! What a caller may ask of a command's delivery besides who, what and how urgent: its clocks, what
//! happens when its agent loses the host, when it is tried again, and how its targets are let go.

use std::time::Duration;

use crate::deadline::{self, OutOfRange, START_NOW, START_WITHIN_DEFAULT, START_WITHIN_MAX, Unreasonable};
use crate::retry::{ATTEMPTS_MAX, BACKOFF_DEFAULT, BACKOFF_MAX, Cause, Retry};
use crate::rollout::Rollout;
use crate::time::Timestamp;

/// Longest an agent may be without its host before what may not outlast it is killed.
pub const KILL_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);
/// Furthest end of all that may be asked for.
pub const FINISH_WITHIN_MAX: Duration = Duration::from_secs(31 * 24 * 3600);

/// What a caller asks for. Absent: the verb's or the product's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// See [`Terms::start_within`]; milliseconds.
    pub start_within_ms: Option<u64>,
    /// See [`Terms::finish_by`].
    pub finish_by: Option<Timestamp>,
    /// See [`Terms::kill_after`]; milliseconds.
    pub kill_after_ms: Option<u64>,
    /// See [`Terms::retry`].
    pub retry: Option<RetryWish>,
    /// See [`Terms::rollout`].
    pub rollout: Rollout,
}

/// When to try again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryWish {
    /// Attempts in all.
    pub max_attempts: u32,
    /// Causes besides those that certainly had no effect; absent: what the verb allows.
    pub on: Option<Vec<Cause>>,
    /// Longest wait before the second attempt, milliseconds.
    pub backoff_ms: Option<u64>,
}

fn unreasonable(pointer: &'static str) -> impl Fn(OutOfRange) -> Unreasonable {
    move |range| Unreasonable { pointer, message: range.to_string() }
}

impl Wishes {
    /// What they come to for a verb that is `idempotent` or not.
    ///
    /// # Errors
    /// The first that is out of its bounds.
    pub fn agree(&self, idempotent: bool, now: Timestamp) -> Result<Terms, Unreasonable> {
        let Wishes { start_within_ms, finish_by, kill_after_ms, retry, rollout } = self;
        let start_within = deadline::start_within(*start_within_ms).map_err(unreasonable("/start_within_ms"))?;
        if finish_by.is_some_and(|end| end <= now || end > now + FINISH_WITHIN_MAX) {
            let days = FINISH_WITHIN_MAX.as_secs() / 86_400;
            let message = format!("the end of all lies after now and within {days} days");
            return Err(Unreasonable { pointer: "/finish_by", message });
        }
        let kill_after = kill_after_ms.map(|ms| deadline::bounded(Some(ms), 0, Duration::ZERO, KILL_AFTER_MAX));
        let kill_after = kill_after.transpose().map_err(unreasonable("/kill_after_ms"))?;
        let retry = match retry {
            Some(wish) => wish.agree(idempotent)?,
            None => Retry::of_verb(idempotent),
        };
        rollout.check()?;
        Ok(Terms { start_within, finish_by: *finish_by, kill_after, retry, rollout: rollout.clone() })
    }
}

impl RetryWish {
    fn agree(&self, idempotent: bool) -> Result<Retry, Unreasonable> {
        let RetryWish { max_attempts, on, backoff_ms } = self;
        if !(1..=ATTEMPTS_MAX).contains(max_attempts) {
            let message = format!("1 to {ATTEMPTS_MAX} attempts");
            return Err(Unreasonable { pointer: "/retry/max_attempts", message });
        }
        let backoff = deadline::bounded(*backoff_ms, 1, BACKOFF_DEFAULT, BACKOFF_MAX)
            .map_err(unreasonable("/retry/backoff_ms"))?;
        let on = on.clone().unwrap_or_else(|| Retry::of_verb(idempotent).on);
        Ok(Retry { max_attempts: *max_attempts, on, backoff })
    }
}

/// The terms of one command, immutable once it is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Each attempt may wait this long to start, from when it is eligible. Zero: agents that are not
    /// connected are not waited for.
    pub start_within: Duration,
    /// Nothing of it runs after this.
    pub finish_by: Option<Timestamp>,
    /// An attempt is killed when its agent has had no session for this long; absent: it goes on.
    pub kill_after: Option<Duration>,
    /// When an attempt is followed by another.
    pub retry: Retry,
    /// How its targets are let go.
    pub rollout: Rollout,
}

impl Default for Terms {
    /// An hour to start, one attempt, everything at once, and an agent without its host goes on.
    fn default() -> Terms {
        Terms {
            start_within: START_WITHIN_DEFAULT,
            finish_by: None,
            kill_after: None,
            retry: Retry::none(),
            rollout: Rollout::default(),
        }
    }
}

impl Terms {
    /// How long an attempt really waits: connected agents get a moment even when nobody is waited for.
    pub fn patience(&self) -> Duration {
        if self.start_within.is_zero() { START_NOW } else { self.start_within }
    }

    /// Nothing of the first attempts starts after this.
    pub fn start_by(&self, accepted: Timestamp) -> Timestamp {
        self.capped(accepted + self.patience())
    }

    /// Nothing of an attempt that is due at `due` starts after this.
    pub fn next_start_by(&self, accepted: Timestamp, due: Timestamp, run_timeout: Duration) -> Timestamp {
        (due + self.patience()).min(self.not_after(accepted, run_timeout))
    }

    /// No attempt at all starts after this: the envelope's own limit, signed once for all attempts.
    pub fn not_after(&self, accepted: Timestamp, run_timeout: Duration) -> Timestamp {
        if self.retry.max_attempts <= 1 {
            return self.start_by(accepted);
        }
        if let Some(end) = self.finish_by {
            return end;
        }
        let one = self.patience().saturating_add(run_timeout).saturating_add(BACKOFF_MAX);
        accepted + one.saturating_mul(self.retry.max_attempts).min(START_WITHIN_MAX)
    }

    fn capped(&self, at: Timestamp) -> Timestamp {
        self.finish_by.map_or(at, |end| at.min(end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp(1_000_000_000);
    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn one_attempt_starts_within_its_patience_and_before_the_end_of_all() {
        let terms = Terms { start_within: MINUTE, ..Terms::default() };
        assert_eq!(terms.start_by(NOON), NOON + MINUTE);
        assert_eq!(terms.not_after(NOON, MINUTE), NOON + MINUTE);
        let ends = Terms { finish_by: Some(NOON + MINUTE / 2), ..terms.clone() };
        assert_eq!(ends.start_by(NOON), NOON + MINUTE / 2);
        let now = Terms { start_within: Duration::ZERO, ..terms };
        assert_eq!(now.start_by(NOON), NOON + START_NOW);
    }

    #[test]
    fn every_attempt_fits_into_what_is_signed() {
        let retry = Retry { max_attempts: 3, ..Retry::of_verb(true) };
        let terms = Terms { start_within: MINUTE, retry, ..Terms::default() };
        let mut due = NOON;
        for _ in 0..3 {
            let start_by = terms.next_start_by(NOON, due, MINUTE);
            assert_eq!(start_by, due + MINUTE, "each waits as long as the first");
            due = start_by + MINUTE + BACKOFF_MAX;
        }
        let ends = Terms { finish_by: Some(NOON + MINUTE * 10), ..terms };
        assert_eq!(ends.not_after(NOON, MINUTE), NOON + MINUTE * 10);
        assert_eq!(ends.next_start_by(NOON, NOON + MINUTE * 10, MINUTE), NOON + MINUTE * 10);
    }

    #[test]
    fn wishes_are_held_to_their_edges_and_the_place_is_named() {
        let ms = |span: Duration| u64::try_from(span.as_millis()).expect("fits");
        let place = |wishes: Wishes| wishes.agree(false, NOON).err().map(|wrong| wrong.pointer);
        let none = Wishes::default();
        assert_eq!(none.agree(false, NOON), Ok(Terms::default()));
        assert_eq!(none.agree(true, NOON).map(|terms| terms.retry.max_attempts), Ok(3));
        let end = |finish_by| Wishes { finish_by: Some(finish_by), ..Wishes::default() };
        assert_eq!(place(end(NOON)), Some("/finish_by"));
        assert_eq!(place(end(NOON + FINISH_WITHIN_MAX)), None);
        assert_eq!(place(end(NOON + FINISH_WITHIN_MAX + MINUTE)), Some("/finish_by"));
        let kill = |span| Wishes { kill_after_ms: Some(ms(span)), ..Wishes::default() };
        assert_eq!(place(kill(KILL_AFTER_MAX)), None);
        assert_eq!(place(kill(KILL_AFTER_MAX + MINUTE)), Some("/kill_after_ms"));
        let retry = |max_attempts, backoff_ms| Wishes {
            retry: Some(RetryWish { max_attempts, on: None, backoff_ms }),
            ..Wishes::default()
        };
        assert_eq!(place(retry(20, Some(ms(BACKOFF_MAX)))), None);
        assert_eq!(place(retry(0, None)), Some("/retry/max_attempts"));
        assert_eq!(place(retry(21, None)), Some("/retry/max_attempts"));
        assert_eq!(place(retry(2, Some(0))), Some("/retry/backoff_ms"));
        assert_eq!(place(retry(2, Some(ms(BACKOFF_MAX) + 1))), Some("/retry/backoff_ms"));
    }
}
