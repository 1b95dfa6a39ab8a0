//! When an alert fires so often that each time tells nobody anything.
//!
//! Invariant: pure; what is remembered is as long as the limit, whatever happens.

use std::time::Duration;

use crate::time::Timestamp;

/// What is too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// So many times…
    pub times: usize,
    /// …within this time.
    pub within: Duration,
    /// It is over when it did not fire for so long.
    pub quiet: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { times: 4, within: Duration::from_secs(60 * 60), quiet: Duration::from_secs(30 * 60) }
    }
}

/// When one alert fired of late.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flaps {
    /// Oldest first; at most as many as the limit.
    fired: Vec<Timestamp>,
    flapping: bool,
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It flaps from now on.
    Began,
    /// It does not any more.
    Ended,
}

impl Flaps {
    /// What was stored.
    pub fn restored(fired: Vec<Timestamp>, flapping: bool) -> Flaps {
        Flaps { fired, flapping }
    }

    /// When it fired of late, oldest first.
    pub fn fired_at(&self) -> &[Timestamp] {
        &self.fired
    }

    /// Whether it flaps.
    pub fn is_flapping(&self) -> bool {
        self.flapping
    }

    /// It fired.
    pub fn fired(&mut self, limits: Limits, now: Timestamp) -> Option<Turn> {
        self.fired.push(now);
        let excess = self.fired.len().saturating_sub(limits.times);
        self.fired.drain(..excess);
        let often = self.fired.len() >= limits.times
            && self.fired.first().is_some_and(|first| now.since(*first) <= limits.within);
        if often && !self.flapping {
            self.flapping = true;
            return Some(Turn::Began);
        }
        None
    }

    /// Time went by.
    pub fn look(&mut self, limits: Limits, now: Timestamp) -> Option<Turn> {
        let quiet = self.fired.last().is_none_or(|last| now.since(*last) >= limits.quiet);
        if self.flapping && quiet {
            *self = Flaps::default();
            return Some(Turn::Ended);
        }
        None
    }

    /// When to look again, if there is anything to see.
    pub fn deadline(&self, limits: Limits) -> Option<Timestamp> {
        self.fired.last().filter(|_| self.flapping).map(|last| *last + limits.quiet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minute(minutes: i64) -> Timestamp {
        Timestamp::from_millis(minutes * 60_000)
    }

    #[test]
    fn four_times_within_an_hour_is_flapping_until_half_an_hour_is_quiet() {
        let (limits, mut flaps) = (Limits::default(), Flaps::default());
        let turns: Vec<Option<Turn>> = [0, 20, 40, 61, 62].map(|at| flaps.fired(limits, minute(at))).to_vec();
        assert_eq!(turns, [None, None, None, None, Some(Turn::Began)], "0, 20, 40, 61 are not within an hour");
        assert_eq!(flaps.fired(limits, minute(70)), None, "it is told once");
        assert_eq!(flaps.deadline(limits), Some(minute(100)));
        assert_eq!(flaps.look(limits, minute(99)), None);
        assert_eq!(flaps.look(limits, minute(100)), Some(Turn::Ended));
        assert_eq!((flaps.look(limits, minute(200)), flaps.deadline(limits)), (None, None));
    }

    #[test]
    fn what_is_remembered_does_not_grow() {
        let mut flaps = Flaps::default();
        for at in 0..1000 {
            flaps.fired(Limits::default(), minute(at));
        }
        assert_eq!(flaps.fired_at().len(), 4);
    }
}
