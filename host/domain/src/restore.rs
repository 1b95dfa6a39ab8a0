//! What becomes of a store that came out of a backup. The host it was made from may have gone on since: sent
//! what reads `queued` here, seen the end of what reads `running`, raised its epoch by a restore of its own.

use crate::attempt::{Reason, State, Step};
use crate::counts::Counts;
use crate::time::Timestamp;

/// The highest epoch there may be: every JSON reader keeps it whole.
pub const MAX_EPOCH: u64 = (1 << 53) - 1;

/// Where an attempt stands after a restore: whatever was not over waits until somebody lets it go.
pub fn held(state: State, reason: Option<Reason>) -> Step {
    match (state, reason) {
        (State::Held, Some(Reason::Restored)) => Step::Stay,
        (State::Held | State::Queued | State::Sent | State::Accepted | State::Running, _) => {
            Step::To(State::Held, Some(Reason::Restored))
        }
        (
            State::Succeeded
            | State::Failed
            | State::TimedOut
            | State::Cancelled
            | State::Expired
            | State::Rejected
            | State::Skipped
            | State::Interrupted
            | State::Lost,
            _,
        ) => Step::Stay,
    }
}

/// A command's counts after a restore.
pub fn counts(before: &Counts) -> Counts {
    let mut after = Counts::default();
    for (state, n) in before.iter() {
        let to = match held(state, None) {
            Step::To(to, _) => to,
            Step::Stay => state,
        };
        after.add(to, n);
    }
    after
}

/// Why there is no epoch for a restored store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EpochError {
    /// The one asked for would not rise.
    #[error("epoch {asked} is not above {stored}, which the backup has; ask for a higher one, or for none")]
    TooLow {
        /// Asked for.
        asked: u64,
        /// In the backup.
        stored: u64,
    },
    /// There is no higher one.
    #[error("epoch {0} is beyond {MAX_EPOCH}, the highest there may be")]
    TooHigh(u64),
}

/// The epoch of a restored store: above the one it has, and above any that its agents may have seen since.
/// Those were chosen here too, earlier, so the time in milliseconds is above them.
///
/// # Errors
/// See [`EpochError`].
pub fn epoch(stored: u64, now: Timestamp, asked: Option<u64>) -> Result<u64, EpochError> {
    let by_itself = || stored.saturating_add(1).max(u64::try_from(now.as_millis()).unwrap_or(0));
    let epoch = asked.unwrap_or_else(by_itself);
    if epoch <= stored {
        Err(EpochError::TooLow { asked: epoch, stored })
    } else if epoch > MAX_EPOCH {
        Err(EpochError::TooHigh(epoch))
    } else {
        Ok(epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_not_over_is_held_and_what_is_over_stays() {
        for state in State::ALL {
            let step = held(state, None);
            let expected = if state.is_terminal() { Step::Stay } else { Step::To(State::Held, Some(Reason::Restored)) };
            assert_eq!(step, expected, "{state}");
        }
        assert_eq!(held(State::Held, Some(Reason::Retry)), Step::To(State::Held, Some(Reason::Restored)));
        assert_eq!(held(State::Held, Some(Reason::Restored)), Step::Stay);
        assert_eq!(held(State::Queued, Some(Reason::Restored)), Step::To(State::Held, Some(Reason::Restored)));
    }

    #[test]
    fn counts_lose_nobody() {
        use State::*;
        let before: Counts = [Queued, Sent, Running, Held, Succeeded, Lost].into_iter().collect();
        let after: Counts = [Held, Held, Held, Held, Succeeded, Lost].into_iter().collect();
        assert_eq!(counts(&before), after);
        assert_eq!(counts(&after), after);
    }

    #[test]
    fn an_epoch_is_above_every_earlier_one() {
        let at = |ms: i64| Timestamp::from_millis(ms);
        // The host went from 1 to some epoch by a restore; a second restore of the same backup is above that.
        let first = epoch(1, at(1_700_000_000_000), None).expect("an epoch");
        let second = epoch(1, at(1_700_000_000_001), None).expect("an epoch");
        assert!(first > 1 && second > first);
        // A clock that went back, or counts from nothing, still raises what the backup has.
        assert_eq!(epoch(first, at(5), None), Ok(first + 1));
        assert_eq!(epoch(7, at(-5), None), Ok(8));
        assert_eq!(epoch(7, at(5), Some(9)), Ok(9));
        assert_eq!(epoch(7, at(5), Some(7)), Err(EpochError::TooLow { asked: 7, stored: 7 }));
        assert_eq!(epoch(7, at(5), Some(MAX_EPOCH + 1)), Err(EpochError::TooHigh(MAX_EPOCH + 1)));
        assert_eq!(epoch(MAX_EPOCH, at(5), None), Err(EpochError::TooHigh(MAX_EPOCH + 1)));
    }
}
