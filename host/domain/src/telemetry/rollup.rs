//! Roll-ups: many numbers of a span as few. A bucket is made of what lies in its span and of nothing else, in
//! the order of time; so it is the same however often, by whomever and in however many pieces it is made.

use std::collections::BTreeMap;
use std::time::Duration;

use super::metric::Series;
use super::report::Reading;
use crate::time::Timestamp;

/// How fine what is stored is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// As it came.
    Raw,
    /// One bucket a minute.
    Minute,
    /// One bucket an hour.
    Hour,
}

impl Level {
    /// From the finest to the coarsest.
    pub const ALL: [Level; 3] = [Level::Raw, Level::Minute, Level::Hour];

    /// The name used in JSON and SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Raw => "raw",
            Level::Minute => "minute",
            Level::Hour => "hour",
        }
    }

    /// Between the beginnings of two buckets; zero for what has none.
    pub fn span(self) -> Duration {
        match self {
            Level::Raw => Duration::ZERO,
            Level::Minute => Duration::from_secs(60),
            Level::Hour => Duration::from_secs(3_600),
        }
    }

    /// What buckets of this level are made of.
    pub fn below(self) -> Option<Level> {
        match self {
            Level::Raw => None,
            Level::Minute => Some(Level::Raw),
            Level::Hour => Some(Level::Minute),
        }
    }
}

/// Where the bucket of `span` begins that holds `at`.
pub fn start(at: Timestamp, span: Duration) -> Timestamp {
    let span = i64::try_from(span.as_micros()).unwrap_or(i64::MAX).max(1);
    Timestamp(at.0 - at.0.rem_euclid(span))
}

/// What remains of the numbers of one series in a span.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
    /// All together; divided by `count`, their average.
    pub sum: f64,
    /// The last.
    pub last: f64,
    /// How many.
    pub count: u64,
}

impl Summary {
    /// Of one number.
    pub fn of(value: f64) -> Summary {
        Summary { min: value, max: value, sum: value, last: value, count: 1 }
    }

    /// The average.
    pub fn avg(&self) -> f64 {
        self.sum / self.count.max(1) as f64
    }

    /// Takes in what came after.
    pub fn add(&mut self, later: &Summary) {
        self.min = self.min.min(later.min);
        self.max = self.max.max(later.max);
        self.sum += later.sum;
        self.last = later.last;
        self.count = self.count.saturating_add(later.count);
    }
}

/// All series of one agent in one span.
#[derive(Clone, Debug, PartialEq)]
pub struct Bucket {
    /// Where the span begins.
    pub start: Timestamp,
    /// Each series once, in their order.
    pub series: Vec<(Series, Summary)>,
}

impl Bucket {
    /// One report as a bucket of its own.
    pub fn of(at: Timestamp, readings: Vec<Reading>) -> Bucket {
        let series = readings.into_iter().map(|reading| (reading.series, Summary::of(reading.value))).collect();
        Bucket { start: at, series }
    }
}

/// Rolls buckets of one agent, in the order of time, up into coarser ones. Those rolled up so far, and more after them,
/// become the same as all of them at once.
pub fn roll(finer: impl IntoIterator<Item = Bucket>, span: Duration) -> Vec<Bucket> {
    let mut rolled: Vec<Bucket> = Vec::new();
    let mut open: Option<(Timestamp, BTreeMap<Series, Summary>)> = None;
    let close = |(start, series): (Timestamp, BTreeMap<Series, Summary>)| Bucket {
        start,
        series: series.into_iter().collect(),
    };
    for bucket in finer {
        let begins = start(bucket.start, span);
        if open.as_ref().is_some_and(|(at, _)| *at != begins) {
            rolled.extend(open.take().map(close));
        }
        let (_, into) = open.get_or_insert_with(|| (begins, BTreeMap::new()));
        for (series, summary) in bucket.series {
            into.entry(series).and_modify(|known| known.add(&summary)).or_insert(summary);
        }
    }
    rolled.extend(open.map(close));
    rolled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metric::Metric;

    const MINUTE: Duration = Duration::from_secs(60);

    fn report(second: i64, cpu: f64) -> Bucket {
        Bucket::of(Timestamp(second * 1_000_000), vec![Reading::new(Metric::CpuTotal, cpu)])
    }

    fn only(bucket: &Bucket) -> Summary {
        assert_eq!(bucket.series.len(), 1);
        bucket.series[0].1
    }

    #[test]
    fn a_bucket_keeps_least_most_average_last_and_how_many() {
        let rolled = roll([report(0, 10.0), report(30, 30.0), report(59, 20.0), report(60, 90.0)], MINUTE);
        assert_eq!(rolled.iter().map(|bucket| bucket.start.0).collect::<Vec<_>>(), [0, 60_000_000]);
        assert_eq!(only(&rolled[0]), Summary { min: 10.0, max: 30.0, sum: 60.0, last: 20.0, count: 3 });
        assert_eq!(only(&rolled[0]).avg(), 20.0);
        assert_eq!(only(&rolled[1]), Summary::of(90.0));
    }

    #[test]
    fn hours_made_of_minutes_are_hours_made_of_reports() {
        let reports: Vec<Bucket> = (0..480).map(|n| report(n * 17, f64::from(n as i32 % 97))).collect();
        let hour = Duration::from_secs(3_600);
        let direct = roll(reports.clone(), hour);
        assert_eq!(roll(roll(reports, MINUTE), hour), direct);
    }

    #[test]
    fn what_is_rolled_up_in_pieces_is_what_is_rolled_up_at_once() {
        // Sums of these depend on their order.
        let said: Vec<Bucket> = (0..500_u32).map(|n| report(i64::from(n) * 7, 0.1 + f64::from(n % 13) / 3.0)).collect();
        let whole = roll(said.clone(), MINUTE);
        for piece in [1, 7, 100, 499, 500] {
            let more = |rolled: Vec<Bucket>, rows: &[Bucket]| roll([rolled, rows.to_vec()].concat(), MINUTE);
            assert_eq!(said.chunks(piece).fold(Vec::new(), more), whole, "{piece}");
        }
    }

    #[test]
    fn a_series_that_comes_and_goes_is_in_the_buckets_it_was_in() {
        let mut later = report(61, 2.0);
        later.series.push((Series { metric: Metric::DiskUsed, label: "/".into() }, Summary::of(5.0)));
        let rolled = roll([report(1, 1.0), later], MINUTE);
        assert_eq!((rolled[0].series.len(), rolled[1].series.len()), (1, 2));
    }

    #[test]
    fn spans_before_1970_begin_at_their_beginning() {
        assert_eq!(start(Timestamp(-1), MINUTE), Timestamp(-60_000_000));
        assert_eq!(start(Timestamp(0), MINUTE), Timestamp(0));
    }
}
