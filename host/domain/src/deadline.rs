//! The clocks of a command: their defaults, their bounds, and what a caller's wishes come to.

use std::time::Duration;

use crate::time::millis;

/// How long a command may wait to start when the caller does not say.
pub const START_WITHIN_DEFAULT: Duration = Duration::from_secs(3600);
/// Longest a command may wait to start.
pub const START_WITHIN_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// What connected agents get when the caller asks for `start_within` 0; unconnected ones get nothing.
pub const START_NOW: Duration = Duration::from_secs(10);
/// Longest run timeout.
pub const RUN_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);
/// From TERM to KILL.
pub const GRACE_DEFAULT: Duration = Duration::from_secs(5);
/// Without a session for this long, what an agent had is lost.
pub const LOST_AFTER_DEFAULT: Duration = Duration::from_secs(15 * 60);
/// Bytes kept of each output stream.
pub const OUTPUT_BYTES_DEFAULT: u64 = 1024 * 1024;

/// A wish outside its bounds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{asked_ms} ms is out of range: {min_ms} to {max_ms} ms")]
pub struct OutOfRange {
    /// What was asked for.
    pub asked_ms: u64,
    /// The least there is.
    pub min_ms: u64,
    /// The most there is.
    pub max_ms: u64,
}

/// A wish that cannot be granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pointer}: {message}")]
pub struct Unreasonable {
    /// JSON Pointer into the request.
    pub pointer: &'static str,
    /// What would be right.
    pub message: String,
}

/// How long a command may wait to start.
///
/// # Errors
/// More than [`START_WITHIN_MAX`].
pub fn start_within(asked_ms: Option<u64>) -> Result<Duration, OutOfRange> {
    bounded(asked_ms, 0, START_WITHIN_DEFAULT, START_WITHIN_MAX)
}

/// How long one attempt may run.
///
/// # Errors
/// 0, or more than [`RUN_TIMEOUT_MAX`].
pub fn run_timeout(asked_ms: Option<u64>, verb_default_ms: u64) -> Result<Duration, OutOfRange> {
    bounded(asked_ms, 1, Duration::from_millis(verb_default_ms), RUN_TIMEOUT_MAX)
}

pub(crate) fn bounded(
    asked_ms: Option<u64>,
    min_ms: u64,
    default: Duration,
    max: Duration,
) -> Result<Duration, OutOfRange> {
    let max_ms = millis(max);
    match asked_ms {
        None => Ok(default.min(max)),
        Some(ms) if (min_ms..=max_ms).contains(&ms) => Ok(Duration::from_millis(ms)),
        Some(asked_ms) => Err(OutOfRange { asked_ms, min_ms, max_ms }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_held_to_their_edges() {
        assert_eq!(start_within(None), Ok(START_WITHIN_DEFAULT));
        assert_eq!(start_within(Some(0)), Ok(Duration::ZERO));
        assert_eq!(start_within(Some(2_592_000_000)), Ok(START_WITHIN_MAX));
        assert!(start_within(Some(2_592_000_001)).is_err());
        assert_eq!(run_timeout(None, 60_000), Ok(Duration::from_secs(60)));
        assert!(run_timeout(Some(0), 60_000).is_err());
        assert_eq!(run_timeout(Some(1), 60_000), Ok(Duration::from_millis(1)));
        assert_eq!(run_timeout(Some(86_400_000), 60_000), Ok(RUN_TIMEOUT_MAX));
        assert!(run_timeout(Some(86_400_001), 60_000).is_err());
    }
}
