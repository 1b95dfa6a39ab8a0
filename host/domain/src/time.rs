//! Instants and spans. An instant is microseconds since 1970-01-01 UTC; only doors turn it into text.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A span in whole milliseconds, rounded down.
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// An instant on the host's clock: microseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The instant `ms` milliseconds after 1970-01-01 UTC.
    pub fn from_millis(ms: i64) -> Timestamp {
        Timestamp(ms.saturating_mul(1000))
    }

    /// Whole milliseconds since 1970-01-01 UTC, rounded down.
    pub fn as_millis(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The time from `earlier` to here; zero when `earlier` is not earlier.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Whether less than `span` has passed since `earlier`. When that lies ahead it does not: a clock that was set back
    /// cannot tell for how long whatever was noted before is good.
    pub fn is_soon_after(self, earlier: Timestamp, span: Duration) -> bool {
        self >= earlier && self.since(earlier) < span
    }
}

impl Add<Duration> for Timestamp {
    type Output = Timestamp;

    /// Saturates at the end of time rather than wrapping round to its beginning.
    fn add(self, span: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Timestamp;

    fn sub(self, span: Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_saturate_instead_of_wrapping() {
        assert_eq!(Timestamp(i64::MAX) + Duration::from_secs(1), Timestamp(i64::MAX));
        assert_eq!(Timestamp(5).since(Timestamp(9)), Duration::ZERO);
        assert_eq!(Timestamp::from_millis(-1).as_millis(), -1);
    }

    #[test]
    fn nothing_is_soon_after_what_lies_ahead() {
        let span = Duration::from_micros(10);
        for (now, is_soon) in [(0, false), (89, false), (99, false), (100, true), (109, true), (110, false)] {
            assert_eq!(Timestamp(now).is_soon_after(Timestamp(100), span), is_soon, "{now}");
        }
    }
}
