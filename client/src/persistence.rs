//! When to ask again what a host has put off, and when to leave it.
//!
//! Invariant: what might have been done is asked again only where doing it twice is the same as once.

use std::time::Duration;

/// How often a request that the host put off (429, 503) is sent again, and how long that may take.
///
/// ```
/// # use std::time::Duration;
/// # use viworks_client::Persistence;
/// let persistence = Persistence { further: 5, longest_wait: Duration::from_secs(30) };
/// assert!(Persistence::default().further < persistence.further);
/// assert_eq!(Persistence::NONE.further, 0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persistence {
    /// Most further attempts.
    pub further: u32,
    /// A `Retry-After` beyond this is handed to the caller at once.
    pub longest_wait: Duration,
}

/// Wait before the second attempt where the host names none; doubled at each further one.
const FIRST_WAIT: Duration = Duration::from_millis(200);

impl Persistence {
    /// Every answer is handed to the caller.
    pub const NONE: Persistence = Persistence { further: 0, longest_wait: Duration::ZERO };

    /// How long to wait before attempt `attempt` + 1, which is the first further one for 1; `None` when the
    /// answer is to be handed on. `repeatable`: doing it twice is the same as once. `jitter` is 0 to 1.
    pub(crate) fn wait(
        &self,
        attempt: u32,
        status: u16,
        retry_after: Option<u64>,
        repeatable: bool,
        jitter: f64,
    ) -> Option<Duration> {
        // A request over the limit was not looked at; one that a host in trouble broke off may have been done.
        let put_off = status == 429 || (status == 503 && repeatable);
        if !put_off || attempt > self.further {
            return None;
        }
        let wait = match retry_after {
            Some(seconds) => Duration::from_secs(seconds),
            None => FIRST_WAIT.saturating_mul(1 << (attempt - 1).min(10)).mul_f64(0.5 + jitter / 2.0),
        };
        (wait <= self.longest_wait).then_some(wait)
    }
}

impl Default for Persistence {
    fn default() -> Persistence {
        Persistence { further: 3, longest_wait: Duration::from_secs(10) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_put_off_is_asked_again_and_not_for_ever() {
        let default = Persistence::default();
        let ms = Duration::from_millis;
        for (attempt, status, retry_after, repeatable, wait) in [
            (1, 429, Some(2), false, Some(ms(2000))),
            (1, 429, Some(11), false, None),
            (1, 429, None, false, Some(ms(200))),
            (3, 429, None, false, Some(ms(800))),
            (4, 429, None, false, None),
            (1, 503, Some(1), true, Some(ms(1000))),
            (1, 503, Some(1), false, None),
            (1, 500, None, true, None),
            (1, 409, Some(1), true, None),
            (1, 200, None, true, None),
        ] {
            let found = default.wait(attempt, status, retry_after, repeatable, 1.0);
            assert_eq!(
                found, wait,
                "attempt {attempt}: {status}, retry after {retry_after:?}, repeatable {repeatable}"
            );
        }
        assert_eq!(default.wait(1, 429, None, false, 0.0), Some(ms(100)), "spread, so that many do not return at once");
        assert_eq!(Persistence::NONE.wait(1, 429, Some(0), true, 0.0), None);
    }
}
