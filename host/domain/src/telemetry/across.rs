//! Many machines at once: how one series is spread over them.

use std::collections::BTreeMap;

use super::metric::Series;
use super::rollup::Bucket;

/// What several machines said in one step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Crowd {
    /// How many of them said anything that was asked for.
    pub reporting: u64,
    /// The average of each that has the series, with its place in the list of all machines.
    pub series: BTreeMap<Series, Vec<(usize, f64)>>,
}

impl Crowd {
    /// Takes in what the machine at `place` said in this step. Answers how many numbers that was, and how many series
    /// nobody else had: of a state there is no average.
    pub fn add(&mut self, place: usize, bucket: Bucket) -> (usize, usize) {
        self.reporting += 1;
        let before = self.series.len();
        let numbers = bucket.series.into_iter().filter(|(series, _)| series.metric.unit().words().is_empty());
        let added =
            numbers.map(|(series, summary)| self.series.entry(series).or_default().push((place, summary.avg())));
        (added.count(), self.series.len() - before)
    }
}

/// How numbers of several machines are spread.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    /// How many.
    pub count: usize,
    /// All together.
    pub sum: f64,
    /// The least.
    pub min: f64,
    /// The average.
    pub avg: f64,
    /// The one that 95 of 100 do not exceed.
    pub p95: f64,
    /// The most.
    pub max: f64,
    /// The place in the list of the one with the most.
    pub at_max: usize,
}

/// How these are spread; `None` when there are none.
pub fn spread(values: &[f64]) -> Option<Spread> {
    let (at_max, max) = values.iter().copied().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b))?;
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len();
    // The nearest rank: with fewer than 20 it is the most.
    let rank = (count * 95).div_ceil(100).max(1);
    let sum: f64 = sorted.iter().sum();
    Some(Spread { count, sum, min: sorted[0], avg: sum / count as f64, p95: sorted[rank - 1], max, at_max })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metric::Metric;
    use crate::telemetry::report::Reading;
    use crate::time::Timestamp;

    #[test]
    fn a_crowd_has_a_number_of_each_machine_and_none_of_states() {
        let said = |cpu: f64| {
            let state = Reading::labelled(Metric::ServiceState, "nginx.service", 1.0);
            Bucket::of(Timestamp(0), vec![Reading::new(Metric::CpuTotal, cpu), state])
        };
        let mut crowd = Crowd::default();
        assert_eq!((crowd.add(4, said(10.0)), crowd.add(7, said(30.0))), ((1, 1), (1, 0)));
        let series: Vec<_> = crowd.series.iter().map(|(series, all)| (series.to_string(), all.clone())).collect();
        assert_eq!((crowd.reporting, series), (2, vec![("cpu.total".to_owned(), vec![(4, 10.0), (7, 30.0)])]));
    }

    #[test]
    fn a_spread_names_the_one_with_the_most() {
        assert_eq!(spread(&[]), None);
        let found = spread(&[3.0, 9.0, 6.0]).expect("three");
        assert_eq!((found.min, found.avg, found.max, found.at_max, found.p95), (3.0, 6.0, 9.0, 1, 9.0));
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(spread(&hundred).map(|found| found.p95), Some(95.0));
    }
}
