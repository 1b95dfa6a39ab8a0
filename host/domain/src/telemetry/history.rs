//! What a question about the past is answered from: how fine, from when, and in which pieces.

use std::time::Duration;

use super::rollup::{Level, start};
use crate::time::Timestamp;

/// Most points of one series in one answer.
pub const MAX_POINTS: u32 = 2_000;
/// Most rows read for one answer about many machines.
pub const ROWS_OF_MANY: u64 = 200_000;
/// Steps there are.
pub const STEP: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(31 * 86_400);

/// How long each level is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Reports as they came.
    pub raw: Duration,
    /// Buckets of a minute.
    pub minute: Duration,
    /// Buckets of an hour.
    pub hour: Duration,
}

impl Default for Retention {
    /// 7 days, 30 days, 13 months.
    fn default() -> Retention {
        let days = |days: u64| Duration::from_secs(days * 86_400);
        Retention { raw: days(7), minute: days(30), hour: days(396) }
    }
}

impl Retention {
    /// How long this level is kept.
    pub fn of(&self, level: Level) -> Duration {
        match level {
            Level::Raw => self.raw,
            Level::Minute => self.minute,
            Level::Hour => self.hour,
        }
    }

    /// The coarsest level that is as fine as `step`, or the finest after it that still has everything since `from`.
    pub fn level(&self, from: Timestamp, step: Duration, now: Timestamp) -> Level {
        // The coarsest that is as fine as was asked for is the cheapest.
        let by_step = if step < Level::Minute.span() {
            Level::Raw
        } else if step < Level::Hour.span() {
            Level::Minute
        } else {
            Level::Hour
        };
        let kept = |level: &Level| *level == Level::Hour || now.since(from) <= self.of(*level);
        Level::ALL.into_iter().filter(|level| *level >= by_step).find(kept).unwrap_or(Level::Hour)
    }
}

/// Of how many rows of one agent a step is made, of an agent that reports once an `interval`.
pub fn rows_of_step(level: Level, step: Duration, interval: Duration) -> u64 {
    let between = match level {
        Level::Raw => interval.max(*STEP.start()),
        Level::Minute | Level::Hour => level.span(),
    };
    u64::try_from(step.as_micros().div_ceil(between.as_micros())).unwrap_or(u64::MAX).max(1)
}

/// Most steps of so many machines in one answer, when one step of one of them is made of `rows`; 0 when a step of all
/// of them is too much alone.
pub fn steps_of_many(rows: u64, machines: usize) -> u32 {
    let all = rows.saturating_mul(machines as u64).max(1);
    u32::try_from(ROWS_OF_MANY / all).unwrap_or(u32::MAX)
}

/// One page of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Where its first point begins.
    pub from: Timestamp,
    /// Where it ends; what begins here is on the next page.
    pub to: Timestamp,
    /// Between two points.
    pub step: Duration,
    /// What it is read from.
    pub level: Level,
    /// Where the next page begins, if there is one.
    pub next: Option<Timestamp>,
}

/// The page of `[from, to)` that begins at `after`, or at the beginning. A step finer than what is kept becomes
/// as fine as that is.
pub fn slice(
    (from, to): (Timestamp, Timestamp),
    after: Option<Timestamp>,
    step: Duration,
    points: u32,
    retention: &Retention,
    now: Timestamp,
) -> Slice {
    let level = retention.level(from, step, now);
    let step = step.max(level.span());
    let begin = start(after.unwrap_or(from).max(from), step);
    let points = points.clamp(1, MAX_POINTS);
    let end = begin + step * points;
    let (to, next) = if end < to { (end, Some(end)) } else { (to, None) };
    Slice { from: begin, to, step, level, next }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600;
    const DAY: u64 = 86_400;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_step_and_the_age_say_how_fine() {
        let now = Timestamp(2_000_000_000_000_000);
        for (age, step, level) in [
            (HOUR, 1, Level::Raw),
            (HOUR, 59, Level::Raw),
            (HOUR, 60, Level::Minute),
            (DAY, 300, Level::Minute),
            (DAY, HOUR, Level::Hour),
            (8 * DAY, 1, Level::Minute),
            (31 * DAY, 1, Level::Hour),
            (31 * DAY, 60, Level::Hour),
            (500 * DAY, 1, Level::Hour),
        ] {
            let from = now - secs(age);
            assert_eq!(Retention::default().level(from, secs(step), now), level, "{age} s ago, every {step} s");
        }
    }

    #[test]
    fn a_step_is_made_of_as_many_rows_as_lie_in_it() {
        for (level, step, interval, rows) in [
            (Level::Raw, 1, 30, 1),
            (Level::Raw, 59, 30, 2),
            (Level::Raw, 10, 0, 10),
            (Level::Minute, 60, 30, 1),
            (Level::Minute, 90, 30, 2),
            (Level::Hour, 31 * DAY, 30, 744),
        ] {
            assert_eq!(rows_of_step(level, secs(step), secs(interval)), rows, "{level:?} {step} {interval}");
        }
        for (rows, machines, steps) in
            [(5, 10_000, 4), (1, 1, 200_000), (744, 268, 1), (744, 269, 0), (u64::MAX, 2, 0), (7, 0, 200_000)]
        {
            assert_eq!(steps_of_many(rows, machines), steps, "{rows} {machines}");
        }
    }

    #[test]
    fn pages_follow_each_other_without_gap_or_overlap() {
        let now = Timestamp(2_000_000_000_000_000);
        let (from, to) = (now - secs(DAY), now);
        let (mut after, mut seen) = (None, Vec::new());
        loop {
            let page = slice((from, to), after, secs(300), 100, &Retention::default(), now);
            seen.push((page.from, page.to));
            let Some(next) = page.next else { break };
            after = Some(next);
        }
        assert_eq!(seen.len(), 3);
        assert!(seen.windows(2).all(|pair| pair[0].1 == pair[1].0));
        assert_eq!((seen[0].0, seen[2].1), (start(from, secs(300)), to));
    }
}
