//! Which bytes of a stream are stored already, so that a chunk that comes twice, or overlaps another,
//! is cut to what is new.

use std::ops::Range;

/// The stored bytes of one stream of one attempt, as ranges that neither touch nor overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coverage(Vec<Range<u64>>);

impl Coverage {
    /// Adds `new` and answers the parts of it that were not there, in order.
    pub fn add(&mut self, new: Range<u64>) -> Vec<Range<u64>> {
        // Nearly always a stream grows at its end.
        if let Some(last) = self.0.last_mut()
            && last.end == new.start
        {
            last.end = new.end;
            return vec![new];
        }
        let first = self.0.partition_point(|range| range.end < new.start);
        let after = self.0.partition_point(|range| range.start <= new.end);
        let mut fresh = Vec::new();
        let mut at = new.start;
        let mut whole = new.clone();
        for range in &self.0[first..after] {
            if at < range.start {
                fresh.push(at..range.start);
            }
            at = at.max(range.end);
            whole.start = whole.start.min(range.start);
            whole.end = whole.end.max(range.end);
        }
        if at < new.end {
            fresh.push(at..new.end);
        }
        self.0.splice(first..after, [whole]);
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_new_bytes_pass() {
        let cases: &[(Range<u64>, &[Range<u64>])] = &[
            (10..20, std::slice::from_ref(&(10..20))),
            (10..20, &[]),
            (12..15, &[]),
            (5..12, std::slice::from_ref(&(5..10))),
            (18..25, std::slice::from_ref(&(20..25))),
            (30..40, std::slice::from_ref(&(30..40))),
            (0..50, &[0..5, 25..30, 40..50]),
            (50..51, std::slice::from_ref(&(50..51))),
            (0..51, &[]),
        ];
        let mut coverage = Coverage::default();
        for (new, fresh) in cases {
            assert_eq!(coverage.add(new.clone()), fresh.to_vec(), "{new:?}");
        }
        assert_eq!(coverage.0.len(), 1);
    }

    #[test]
    fn any_order_of_any_overlaps_passes_each_byte_once() {
        // A fixed multiplicative walk stands in for chance.
        let mut seed = 1_u64;
        let mut coverage = Coverage::default();
        let mut seen = [0_u8; 128];
        for _ in 0..500 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let start = (seed >> 33) % 120;
            let end = start + 1 + (seed >> 50) % 8;
            for fresh in coverage.add(start..end) {
                for byte in fresh {
                    seen[usize::try_from(byte).expect("small")] += 1;
                }
            }
            assert!(seen.iter().all(|times| *times <= 1));
        }
        assert!(coverage.0.len() < 10);
    }
}
