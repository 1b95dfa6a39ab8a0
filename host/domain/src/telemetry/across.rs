//! Many machines at once: how one series is spread over them.

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

    #[test]
    fn a_spread_names_the_one_with_the_most() {
        assert_eq!(spread(&[]), None);
        let found = spread(&[3.0, 9.0, 6.0]).expect("three");
        assert_eq!((found.min, found.avg, found.max, found.at_max, found.p95), (3.0, 6.0, 9.0, 1, 9.0));
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(spread(&hundred).map(|found| found.p95), Some(95.0));
    }
}
