//! One report of one machine: what is believed of what it said, and when it was.
//!
//! An agent is trusted to be itself and no further: a report that cannot be true is refused as a whole, for
//! half of it would be a lie with good manners. A wrong clock is no lie; the host's own takes its place.

use std::fmt;
use std::sync::Arc;

use plan::id::AgentId;

use super::metric::{MAX_LABEL, Metric, Series};
use crate::time::Timestamp;

/// Most series of one report.
pub const MAX_SERIES: usize = 1_024;
/// A clock may be this far off, in milliseconds, and its word on when still counts.
pub const TOLERATED_SKEW_MS: i64 = 120_000;

/// One number.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Of which series.
    pub series: Series,
    /// How much.
    pub value: f64,
}

impl Reading {
    /// A number of a metric without label.
    pub fn new(metric: Metric, value: f64) -> Reading {
        Reading { series: Series::of(metric), value }
    }

    /// A number of one thing.
    pub fn labelled(metric: Metric, label: impl Into<String>, value: f64) -> Reading {
        Reading { series: Series { metric, label: label.into() }, value }
    }
}

/// A report that is believed.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Whose.
    pub agent: AgentId,
    /// When it was taken: the agent's word, or the host's when that is not believed.
    pub at: Timestamp,
    /// When it came.
    pub received_at: Timestamp,
    /// Its numbers, shared: the latest word of an agent, what is stored and what is judged are the same ones.
    pub readings: Arc<[Reading]>,
}

/// Why a report is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// More than [`MAX_SERIES`] series.
    TooManySeries,
    /// A label over [`MAX_LABEL`] bytes.
    LongLabel,
    /// A label that is empty where there has to be one, or holds control characters.
    BadLabel,
    /// A series stands twice.
    Twice,
    /// A number that is none.
    NotANumber,
    /// A number that cannot be.
    OutOfRange,
    /// It is not later than the one before.
    NotNew,
    /// It is not written as reports are.
    Malformed,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Refusal; 8] = [
        Refusal::TooManySeries,
        Refusal::LongLabel,
        Refusal::BadLabel,
        Refusal::Twice,
        Refusal::NotANumber,
        Refusal::OutOfRange,
        Refusal::NotNew,
        Refusal::Malformed,
    ];

    /// The name used in JSON and in counters.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::TooManySeries => "too_many_series",
            Refusal::LongLabel => "long_label",
            Refusal::BadLabel => "bad_label",
            Refusal::Twice => "twice",
            Refusal::NotANumber => "not_a_number",
            Refusal::OutOfRange => "out_of_range",
            Refusal::NotNew => "not_new",
            Refusal::Malformed => "malformed",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether all these numbers can be.
///
/// # Errors
/// The first reason why not.
pub fn check(readings: &[Reading]) -> Result<(), Refusal> {
    if readings.len() > MAX_SERIES {
        return Err(Refusal::TooManySeries);
    }
    for Reading { series, value } in readings {
        let Series { metric, label } = series;
        if label.len() > MAX_LABEL {
            return Err(Refusal::LongLabel);
        }
        if label.is_empty() != metric.label().is_empty() || label.chars().any(char::is_control) {
            return Err(Refusal::BadLabel);
        }
        if !value.is_finite() {
            return Err(Refusal::NotANumber);
        }
        let (least, most) = metric.unit().range();
        if !(least..=most).contains(value) {
            return Err(Refusal::OutOfRange);
        }
    }
    // Some dozens: to sort them costs less than to hash each.
    let mut series: Vec<&Series> = readings.iter().map(|reading| &reading.series).collect();
    series.sort_unstable();
    if series.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Refusal::Twice);
    }
    Ok(())
}

/// What is known of an agent's clock within one session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// The latest instant it named, and what was made of it.
    latest: Option<(i64, Timestamp)>,
}

impl Watch {
    /// When a report was taken that names `said_ms` and came at `now`, and how far the agent's clock is ahead,
    /// in milliseconds. Beyond [`TOLERATED_SKEW_MS`] the host's clock is believed.
    ///
    /// # Errors
    /// [`Refusal::NotNew`] for what was sent before, or is older than what was.
    pub fn settle(&mut self, said_ms: i64, now: Timestamp) -> Result<(Timestamp, i64), Refusal> {
        let skew_ms = said_ms.saturating_sub(now.as_millis());
        let is_believed = skew_ms.unsigned_abs() <= TOLERATED_SKEW_MS.unsigned_abs();
        let at = if is_believed { Timestamp::from_millis(said_ms) } else { Timestamp::from_millis(now.as_millis()) };
        if let Some((latest_ms, latest)) = self.latest {
            // A clock that was set right names an earlier instant than before, and is believed again.
            if at <= latest || (!is_believed && said_ms <= latest_ms) {
                return Err(Refusal::NotNew);
            }
        }
        self.latest = Some((said_ms, at));
        Ok((at, skew_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000_000);
    const NOW_MS: i64 = 1_700_000_000_000;

    #[test]
    fn what_cannot_be_is_refused() {
        let disk = |label: &str| Reading::labelled(Metric::DiskUsedPct, label, 1.0);
        let many = |n: usize| (0..n).map(|n| disk(&n.to_string())).collect::<Vec<_>>();
        for (readings, expected) in [
            (vec![], Ok(())),
            (vec![Reading::new(Metric::CpuTotal, 0.0), disk("/"), disk("/var")], Ok(())),
            (vec![Reading::new(Metric::CpuTotal, 100.0)], Ok(())),
            (vec![Reading::new(Metric::CpuTotal, 100.1)], Err(Refusal::OutOfRange)),
            (vec![Reading::new(Metric::MemUsed, -1.0)], Err(Refusal::OutOfRange)),
            (vec![Reading::new(Metric::MemUsed, 1e19)], Err(Refusal::OutOfRange)),
            (vec![Reading::new(Metric::Load1, f64::NAN)], Err(Refusal::NotANumber)),
            (vec![Reading::new(Metric::Load1, f64::INFINITY)], Err(Refusal::NotANumber)),
            (vec![Reading::labelled(Metric::ContainerState, "web", 8.0)], Err(Refusal::OutOfRange)),
            (vec![disk("/"), disk("/")], Err(Refusal::Twice)),
            (vec![disk("")], Err(Refusal::BadLabel)),
            (vec![disk("a\nb")], Err(Refusal::BadLabel)),
            (vec![Reading::labelled(Metric::CpuTotal, "x", 1.0)], Err(Refusal::BadLabel)),
            (vec![disk(&"x".repeat(10_240))], Err(Refusal::LongLabel)),
            (many(MAX_SERIES), Ok(())),
            (many(10_000), Err(Refusal::TooManySeries)),
        ] {
            assert_eq!(check(&readings), expected, "{:?}", readings.first());
        }
    }

    #[test]
    fn a_clock_that_is_a_little_off_is_believed_and_one_far_off_is_not() {
        for (off_ms, believed) in [(0, true), (-120_000, true), (120_000, true), (-120_001, false), (120_001, false)] {
            let (at, skew) = Watch::default().settle(NOW_MS + off_ms, NOW).expect("the first");
            assert_eq!((at == Timestamp::from_millis(NOW_MS + off_ms), skew), (believed, off_ms));
        }
        for absurd in [i64::MIN, 0, i64::MAX] {
            assert_eq!(Watch::default().settle(absurd, NOW).map(|(at, _)| at), Ok(NOW));
        }
    }

    #[test]
    fn a_report_sent_again_is_not_new() {
        for first in [NOW_MS, NOW_MS - 3_600_000, NOW_MS + 3_600_000] {
            let mut watch = Watch::default();
            watch.settle(first, NOW).expect("the first");
            let later = Timestamp(NOW.0 + 30_000_000);
            assert_eq!(watch.settle(first, later), Err(Refusal::NotNew));
            assert_eq!(watch.settle(first - 1, later), Err(Refusal::NotNew));
            assert!(watch.settle(first + 30_000, later).is_ok());
        }
    }

    #[test]
    fn a_clock_set_right_is_believed_at_once() {
        let mut watch = Watch::default();
        watch.settle(NOW_MS + 86_400_000, NOW).expect("a day ahead");
        let later = Timestamp(NOW.0 + 30_000_000);
        assert_eq!(watch.settle(NOW_MS + 30_000, later), Ok((later, 0)));
    }
}
