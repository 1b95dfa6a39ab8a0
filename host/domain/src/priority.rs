//! Urgency, and the order of a queue: critical before high before normal before low, first in first
//! out inside a level.
//!
//! A level is worth [`AGEING`]: a command goes before a more urgent one once it has waited that much longer
//! for each level between them. So nothing starves: what is `low` waits at most three times as long for
//! newer commands. The order is fixed at acceptance, so that an index can hold it.

use std::fmt;
use std::time::Duration;

use crate::time::Timestamp;

/// What one level of urgency is worth in waiting.
pub const AGEING: Duration = Duration::from_secs(600);

/// From least to most urgent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// When nothing else waits.
    Low,
    /// The default.
    #[default]
    Normal,
    /// Before normal.
    High,
    /// Before everything.
    Critical,
}

impl Priority {
    /// All levels, least urgent first.
    pub const ALL: [Priority; 4] = [Priority::Low, Priority::Normal, Priority::High, Priority::Critical];

    /// The name used in JSON, SQL and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Priority::Low => "low",
            Priority::Normal => "normal",
            Priority::High => "high",
            Priority::Critical => "critical",
        }
    }

    /// The level called `name`, if there is one.
    pub fn parse(name: &str) -> Option<Priority> {
        Priority::ALL.into_iter().find(|priority| priority.as_str() == name)
    }

    /// 0 for critical to 3 for low: ascending is queue order.
    pub fn rank(self) -> u8 {
        match self {
            Priority::Critical => 0,
            Priority::High => 1,
            Priority::Normal => 2,
            Priority::Low => 3,
        }
    }

    /// The place in a queue of what was accepted at `accepted`: ascending is queue order.
    pub fn turn(self, accepted: Timestamp) -> i64 {
        (accepted + AGEING * u32::from(self.rank())).0
    }

    /// The level whose [`rank`](Self::rank) is `rank`, if there is one.
    pub fn from_rank(rank: i64) -> Option<Priority> {
        Priority::ALL.into_iter().find(|priority| i64::from(priority.rank()) == rank)
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_urgent_go_first_and_nothing_starves() {
        let (before, now) = (Timestamp(0), Timestamp(0) + AGEING);
        assert!(Priority::Critical.turn(now) < Priority::Normal.turn(now - Duration::from_secs(1)));
        assert!(Priority::Low.turn(before) < Priority::Low.turn(now), "first in, first out");
        let waited = now + AGEING * 3;
        assert!(Priority::Low.turn(now) < Priority::Critical.turn(waited + Duration::from_secs(1)));
        assert!(Priority::Low.turn(now) > Priority::Critical.turn(waited - Duration::from_secs(1)));
    }
}
