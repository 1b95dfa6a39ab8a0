//! When a file that is being written is quiet enough to be read.
//!
//! Invariant: pure; time is an argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Without a sign for this long, a path is quiet.
pub(crate) const QUIET: Duration = Duration::from_millis(250);
/// A path that never is quiet is read this long after its first sign.
pub(crate) const CAP: Duration = Duration::from_secs(2);

/// Paths that changed and were not looked at since.
#[derive(Debug, Default)]
pub(crate) struct Settle {
    pending: BTreeMap<String, Signs>,
}

#[derive(Clone, Copy, Debug)]
struct Signs {
    first: Instant,
    last: Instant,
}

impl Signs {
    fn due(self) -> Instant {
        (self.last + QUIET).min(self.first + CAP)
    }
}

impl Settle {
    /// Something happened to `path`.
    pub(crate) fn touch(&mut self, path: String, now: Instant) {
        self.pending.entry(path).and_modify(|signs| signs.last = now).or_insert(Signs { first: now, last: now });
    }

    /// When the next path may be read.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.pending.values().map(|signs| signs.due()).min()
    }

    /// Forgets paths that may be read now and names those that may not.
    pub(crate) fn release(&mut self, now: Instant) -> Vec<String> {
        self.pending.retain(|_, signs| signs.due() > now);
        self.pending.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_once_it_is_quiet() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut settle = Settle::default();
        settle.touch("a".into(), at(0));
        settle.touch("a".into(), at(200));
        settle.touch("b".into(), at(300));
        assert_eq!(settle.next(), Some(at(450)));
        assert_eq!(settle.release(at(449)), ["a", "b"]);
        assert_eq!(settle.release(at(450)), ["b"], "each path settles by itself");
        assert!(settle.release(at(550)).is_empty());
        assert_eq!(settle.next(), None);
    }

    #[test]
    fn a_path_that_never_is_quiet_is_read_at_the_cap() {
        let start = Instant::now();
        let mut settle = Settle::default();
        for ms in (0..1900).step_by(100) {
            settle.touch("a".into(), start + Duration::from_millis(ms));
            assert_eq!(settle.release(start + Duration::from_millis(ms)), ["a"]);
        }
        settle.touch("a".into(), start + Duration::from_millis(1990));
        assert_eq!(settle.next(), Some(start + CAP));
        assert!(settle.release(start + CAP).is_empty());
    }
}
