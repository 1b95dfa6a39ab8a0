//! What a question about the past is answered from: how fine, from when, and in which pieces.

use std::time::Duration;

use super::rollup::{Level, start};
use crate::time::Timestamp;

/// Most points of one series in one answer.
pub const MAX_POINTS: u32 = 2_000;
/// Rows that a page about many machines is read from, unless its first step alone is more.
pub const ROWS_OF_MANY: u64 = 200_000;
/// Most rows read for one answer about many machines: a step that is more is refused.
pub const ROWS_OF_MANY_MAX: u64 = 1_000_000;
/// Most machines of one answer: each is a read of its own.
pub const MACHINES_MAX: usize = 10_000;
/// Longest that something is still there after it may be forgotten: both stores forget by the day.
const FORGOTTEN_BY: Duration = Duration::from_secs(2 * 86_400);
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

/// Up to where rows of each level are made. What comes after is read from the level below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Minutes; `None` when there are none yet.
    pub minute: Option<Timestamp>,
    /// Hours.
    pub hour: Option<Timestamp>,
    /// From when on reports are all still there.
    pub raw_since: Timestamp,
    /// From when on minutes are.
    pub minute_since: Timestamp,
    /// From when on hours are.
    pub hour_since: Timestamp,
    /// Nothing is of later than this; `None` when that is not known.
    pub until: Option<Timestamp>,
}

impl Marks {
    /// Up to where a span is read at `level` itself, and what the rest of it is made from. A span that ends inside of a
    /// bucket has less of it than the bucket, so that part is made from the level below as long as that is kept: it is
    /// the same before and after the bucket itself is made.
    pub fn split(&self, level: Level, (from, to): (Timestamp, Timestamp)) -> (Timestamp, Option<Level>) {
        let (made, below_since) = match level {
            Level::Raw => return (to, None),
            Level::Minute => (self.minute, self.raw_since),
            Level::Hour => (self.hour, self.minute_since),
        };
        let last = start(to, level.span());
        let end = if last >= below_since { last } else { to };
        (made.unwrap_or(from).min(end).clamp(from, to.max(from)), level.below())
    }

    /// What of a span there can be rows of at `level`: nothing was said after now, and what is before that is forgotten.
    pub fn kept(&self, level: Level, (from, to): (Timestamp, Timestamp)) -> (Timestamp, Timestamp) {
        let since = match level {
            Level::Raw => self.raw_since,
            Level::Minute => self.minute_since,
            Level::Hour => self.hour_since,
        };
        (from.max(since - FORGOTTEN_BY), self.until.map_or(to, |until| to.min(until)))
    }

    /// From how many rows a span of one machine is read that reports once an `interval`.
    pub fn rows(&self, level: Level, span: (Timestamp, Timestamp), interval: Duration) -> u64 {
        let (from, to) = self.kept(level, span);
        let between = match level {
            Level::Raw => interval.max(*STEP.start()),
            Level::Minute | Level::Hour => level.span(),
        };
        let (made, below) = self.split(level, (from, to));
        let rows = made.since(from).as_micros().div_ceil(between.as_micros());
        let rows = u64::try_from(rows).unwrap_or(u64::MAX);
        match below {
            Some(below) if made < to => rows.saturating_add(self.rows(below, (made, to), interval)),
            Some(_) | None => rows,
        }
    }
}

/// One page of a question. Only the end of the last one lies inside of a bucket of the level.
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

/// A question with nothing left open: whatever time has passed, it is the same for each of its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// From then on.
    pub from: Timestamp,
    /// Until then.
    pub to: Timestamp,
    /// Between two points: so many buckets of `level`.
    pub step: Duration,
    /// What it is read from.
    pub level: Level,
}

impl Window {
    /// What is asked at `now` about `[from, to)`. A step that is no whole number of buckets of what is kept becomes the next
    /// longer one that is.
    pub fn new((from, to): (Timestamp, Timestamp), step: Duration, retention: &Retention, now: Timestamp) -> Window {
        let level = retention.level(from, step, now);
        Window { from, to, step: whole(step, level), level }
    }

    /// Whether this is what a wish for `step` has become.
    pub fn has_step(&self, step: Duration) -> bool {
        whole(step, self.level) == self.step
    }

    /// How many steps it has.
    pub fn steps(&self) -> u64 {
        let (span, step) = (self.to.since(start(self.from, self.step)), self.step.max(*STEP.start()));
        u64::try_from(span.as_micros().div_ceil(step.as_micros())).unwrap_or(u64::MAX)
    }

    /// The page that begins at `after`, or at the beginning.
    pub fn page(&self, after: Option<Timestamp>, points: u32) -> Slice {
        let Window { from, to, step, level } = *self;
        let begin = start(after.unwrap_or(from).max(from), step);
        let end = begin + step * points.clamp(1, MAX_POINTS);
        let (to, next) = if end < to { (end, Some(end)) } else { (to, None) };
        Slice { from: begin, to, step, level, next }
    }

    /// The same with as many steps, `points` at most and one at least, as cost no more than `most`; and what they
    /// cost. More steps must never cost less.
    pub fn page_within(
        &self,
        after: Option<Timestamp>,
        points: u32,
        most: u64,
        cost: impl Fn(&Slice) -> u64,
    ) -> (Slice, u64) {
        let (mut fit, mut too_many) = (1, points.clamp(1, MAX_POINTS) + 1);
        while too_many - fit > 1 {
            let middle = u32::midpoint(fit, too_many);
            if cost(&self.page(after, middle)) <= most {
                fit = middle;
            } else {
                too_many = middle;
            }
        }
        let page = self.page(after, fit);
        (page, cost(&page))
    }
}

/// The shortest step of whole buckets of a level that is no shorter than this one.
fn whole(step: Duration, level: Level) -> Duration {
    let bucket = level.span().as_secs().max(1);
    Duration::from_secs(step.as_secs().div_ceil(bucket) * bucket)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600;
    const DAY: u64 = 86_400;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// So long after the beginning of an hour.
    fn at(seconds: u64) -> Timestamp {
        start(Timestamp(2_000_000_000 * 1_000_000), secs(HOUR)) + secs(seconds)
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
    fn what_is_not_rolled_up_yet_is_read_from_as_many_rows_as_lie_below() {
        let interval = secs(30);
        let marks = |minute, hour| Marks { minute: Some(minute), hour: Some(hour), ..Marks::default() };
        let rolled = marks(at(3 * DAY), at(3 * DAY));
        let late = marks(at(DAY - 240), at(DAY - 2 * HOUR));
        for (marks, level, step, rows) in [
            (rolled, Level::Raw, 59, 2),
            (rolled, Level::Minute, 90, 1 + 1),
            (rolled, Level::Hour, DAY, 24),
            (late, Level::Raw, DAY, 2_880),
            (late, Level::Minute, DAY, 1_436 + 8),
            (late, Level::Hour, DAY, 22 + 116 + 8),
            (Marks::default(), Level::Hour, DAY, 2_880),
        ] {
            assert_eq!(marks.rows(level, (at(0), at(step)), interval), rows, "{marks:?} {level:?} {step}");
        }
        assert_eq!(rolled.rows(Level::Raw, (at(0), at(10)), Duration::ZERO), 10, "nobody says more than one a second");
        assert_eq!(rolled.rows(Level::Hour, (at(HOUR), at(0)), interval), 0);
    }

    #[test]
    fn a_span_that_ends_inside_of_a_bucket_is_read_from_below_as_long_as_that_is_kept() {
        let (from, to) = (at(0), at(2 * HOUR + 90));
        for (minute, hour) in [(0, 0), (HOUR, HOUR), (2 * HOUR, 2 * HOUR), (2 * HOUR + 60, 2 * HOUR), (DAY, DAY)] {
            let marks = Marks { minute: Some(at(minute)), hour: Some(at(hour)), ..Marks::default() };
            let ends = [(Level::Hour, hour.min(2 * HOUR)), (Level::Minute, minute.min(2 * HOUR + 60))];
            for (level, end) in ends {
                assert_eq!(marks.split(level, (from, to)), (at(end), level.below()), "{level:?} {marks:?}");
            }
            assert_eq!(marks.split(Level::Raw, (from, to)), (to, None));
        }
        let rolled = Marks { minute: Some(at(DAY)), hour: Some(at(DAY)), ..Marks::default() };
        let fading = Marks { raw_since: at(2 * HOUR + 61), minute_since: at(2 * HOUR), ..rolled };
        assert_eq!(fading.split(Level::Hour, (from, to)).0, at(2 * HOUR), "its minutes are there still");
        assert_eq!(fading.split(Level::Minute, (from, to)).0, to, "a whole bucket is better than nothing");
        let gone = Marks { minute_since: at(2 * HOUR + 1), ..fading };
        assert_eq!(gone.split(Level::Hour, (from, to)).0, to);
        let short = (at(60), at(90));
        assert_eq!(rolled.split(Level::Hour, short).0, at(60), "it begins in the bucket, too");
    }

    #[test]
    fn nothing_is_read_where_nothing_can_be() {
        let now = at(9 * DAY);
        let marks = Marks {
            minute: Some(now),
            hour: Some(now),
            raw_since: now - secs(7 * DAY),
            minute_since: now - secs(8 * DAY),
            hour_since: now - secs(9 * DAY),
            until: Some(now + secs(120)),
        };
        let second = secs(1);
        for (level, span, rows) in [
            (Level::Hour, (now, now + secs(400 * DAY)), 120),
            (Level::Hour, (now + secs(DAY), now + secs(400 * DAY)), 0),
            (Level::Raw, (Timestamp(0), now), 9 * DAY),
            (Level::Minute, (Timestamp(0), now), 10 * 1_440),
            (Level::Hour, (Timestamp(0), now), 11 * 24),
        ] {
            assert_eq!(marks.rows(level, span, second), rows, "{level:?} {span:?}");
        }
    }

    #[test]
    fn a_page_has_as_many_steps_as_it_may_cost_and_one_at_least() {
        let window =
            Window { from: Timestamp(0), to: Timestamp(0) + secs(10 * HOUR), step: secs(60), level: Level::Minute };
        let cost = |each: u64| move |page: &Slice| each * (page.to.since(page.from).as_secs() / 60);
        for (points, most, each, steps) in [
            (100, 1_000, 10, 100),
            (100, 999, 10, 99),
            (100, 10, 10, 1),
            (100, 9, 10, 1),
            (0, 9, 1, 1),
            (9_999, 9_999, 1, 600),
        ] {
            let (page, rows) = window.page_within(None, points, most, cost(each));
            assert_eq!((page.to.since(page.from), rows), (secs(60 * steps), each * steps), "{points} {most} {each}");
        }
    }

    #[test]
    fn pages_follow_each_other_without_gap_or_overlap() {
        let now = Timestamp(2_000_000_000_000_000);
        let (from, to) = (now - secs(DAY), now);
        let window = Window::new((from, to), secs(300), &Retention::default(), now);
        let (mut after, mut seen) = (None, Vec::new());
        loop {
            let page = window.page(after, 100);
            seen.push((page.from, page.to));
            let Some(next) = page.next else { break };
            after = Some(next);
        }
        assert_eq!((seen.len(), window.steps()), (3, DAY / 300 + 1), "neither end is where a step begins");
        assert!(seen.windows(2).all(|pair| pair[0].1 == pair[1].0));
        assert_eq!((seen[0].0, seen[2].1), (start(from, secs(300)), to));
    }

    #[test]
    fn a_step_finer_than_what_is_kept_becomes_as_fine_as_that() {
        let now = Timestamp(2_000_000_000_000_000);
        let of = |age: u64, step: u64| Window::new((now - secs(age), now), secs(step), &Retention::default(), now);
        assert_eq!((of(DAY, 10).step, of(8 * DAY, 10).step, of(31 * DAY, 10).step), (secs(10), secs(60), secs(HOUR)));
        let coarse = of(8 * DAY, 10);
        assert!(coarse.has_step(secs(10)) && coarse.has_step(secs(60)) && !coarse.has_step(secs(61)));
        // A step begins where a bucket does, or what its first one says would be of no step.
        assert_eq!((of(DAY, 90).step, of(DAY, 5_400).step, of(DAY, 59).step), (secs(120), secs(2 * HOUR), secs(59)));
        assert!(of(DAY, 90).has_step(secs(90)) && of(DAY, 90).has_step(secs(120)));
    }
}
