//! Latencies: HDR histograms, three significant digits, 1 µs to 120 s, recorded on several shards and
//! merged at the end. Percentiles are never averaged.

use std::sync::Mutex;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Shards of one recorder; more than the threads that record at once.
const SHARDS: usize = 8;
/// Shortest latency told apart from nothing, in nanoseconds.
const LOW_NS: u64 = 1_000;
/// Longest latency; what takes longer counts as this. Nanoseconds.
const HIGH_NS: u64 = 120_000_000_000;

/// Collects latencies from many tasks.
pub struct Recorder {
    shards: Vec<Mutex<Histogram<u64>>>,
}

impl Default for Recorder {
    fn default() -> Recorder {
        Recorder { shards: (0..SHARDS).map(|_| Mutex::new(empty())).collect() }
    }
}

fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(LOW_NS, HIGH_NS, 3).expect("bounds and digits are constants that fit")
}

impl Recorder {
    /// Adds one latency in nanoseconds. `shard` is any number; equal ones share a lock.
    pub fn record(&self, shard: usize, latency_ns: u64) {
        let mut histogram = self.shards[shard % SHARDS].lock().expect("no holder panics");
        histogram.saturating_record(latency_ns);
    }

    /// Everything recorded so far, as one histogram.
    pub fn merged(&self) -> Histogram<u64> {
        let mut all = empty();
        for shard in &self.shards {
            all.add(&*shard.lock().expect("no holder panics")).expect("shards have equal bounds");
        }
        all
    }

    /// Everything recorded so far, in numbers.
    pub fn quantiles(&self) -> Quantiles {
        Quantiles::of(&self.merged())
    }
}

/// A histogram in numbers. Microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// How many latencies.
    pub count: u64,
    /// The shortest.
    pub min_us: f64,
    /// Half are no longer.
    pub p50_us: f64,
    /// Nine of ten are no longer.
    pub p90_us: f64,
    /// 99 of 100 are no longer.
    pub p99_us: f64,
    /// 999 of 1000 are no longer.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
    /// Share between 35 and 55 ms: a second mode there is Nagle's algorithm against delayed ACKs.
    pub mode_40ms_share: f64,
}

impl Quantiles {
    /// Reads a histogram of nanoseconds.
    pub fn of(histogram: &Histogram<u64>) -> Quantiles {
        if histogram.is_empty() {
            return Quantiles::default();
        }
        let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Quantiles {
            count: histogram.len(),
            min_us: histogram.min() as f64 / 1e3,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: histogram.max() as f64 / 1e3,
            mode_40ms_share: histogram.count_between(35_000_000, 55_000_000) as f64 / histogram.len() as f64,
        }
    }
}

impl std::fmt::Display for Quantiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |us: f64| us / 1e3;
        write!(
            f,
            "p50 {:.3}  p90 {:.3}  p99 {:.3}  p99.9 {:.3}  max {:.3} ms",
            ms(self.p50_us),
            ms(self.p90_us),
            ms(self.p99_us),
            ms(self.p999_us),
            ms(self.max_us)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() <= expected * 0.002, "{found} is not {expected} to three digits");
    }

    #[test]
    fn shards_merge_into_what_one_histogram_would_have_said() {
        let (sharded, single) = (Recorder::default(), Recorder::default());
        for i in 0..10_000_u64 {
            let latency = (i * 7919) % 50_000_000 + 1_000;
            sharded.record(i as usize, latency);
            single.record(0, latency);
        }
        assert_eq!(sharded.merged().len(), 10_000);
        assert_eq!(sharded.quantiles(), single.quantiles());
    }

    #[test]
    fn percentiles_come_from_the_merge_and_not_from_an_average_of_shards() {
        let recorder = Recorder::default();
        // One shard holds only the slow tail: an average of per-shard p99s would be far off.
        (0..985).for_each(|_| recorder.record(0, 1_000_000));
        (0..15).for_each(|_| recorder.record(1, 1_000_000_000));
        let found = recorder.quantiles();
        near(found.p50_us, 1_000.0);
        near(found.p90_us, 1_000.0);
        near(found.p99_us, 1_000_000.0);
        near(found.max_us, 1_000_000.0);
    }

    #[test]
    fn a_mode_at_forty_milliseconds_is_seen() {
        let recorder = Recorder::default();
        (0..3).for_each(|_| recorder.record(0, 3_000_000));
        recorder.record(0, 41_000_000);
        near(recorder.quantiles().mode_40ms_share, 0.25);
    }

    #[test]
    fn nothing_recorded_is_all_zero_and_too_long_is_the_longest_there_is() {
        assert_eq!(Recorder::default().quantiles(), Quantiles::default());
        let recorder = Recorder::default();
        recorder.record(0, u64::MAX);
        near(recorder.quantiles().max_us, 120_000_000.0);
    }
}
