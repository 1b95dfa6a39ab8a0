//! What was shown of one stream. An agent that cannot keep up leaves bytes out and may send them later.

use std::ops::Range;

/// One stream of one attempt, as far as it was shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    /// Everything before this was shown, but for the holes.
    until: u64,
    /// Left out so far, ascending.
    holes: Vec<Range<u64>>,
}

/// Bytes that were not shown before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Where in the stream.
    pub bytes: Range<u64>,
    /// How many were left out just before.
    pub skipped: u64,
    /// Later ones have been shown already.
    pub late: bool,
}

impl Piece {
    /// Where it stands in a chunk that begins at `offset`.
    pub(super) fn within(&self, offset: u64) -> Range<usize> {
        let place = |at: u64| usize::try_from(at - offset).unwrap_or(usize::MAX);
        place(self.bytes.start)..place(self.bytes.end)
    }
}

impl Shown {
    /// Which parts of a chunk are new, in the order of the stream.
    pub(super) fn take(&mut self, offset: u64, length: u64) -> Vec<Piece> {
        let end = offset.saturating_add(length);
        let mut pieces = Vec::new();
        let mut left = Vec::new();
        for hole in std::mem::take(&mut self.holes) {
            let filled = hole.start.max(offset)..hole.end.min(end);
            if filled.is_empty() {
                left.push(hole);
                continue;
            }
            left.extend([hole.start..filled.start, filled.end..hole.end].into_iter().filter(|rest| !rest.is_empty()));
            pieces.push(Piece { bytes: filled, skipped: 0, late: true });
        }
        self.holes = left;
        if end > self.until {
            let start = offset.max(self.until);
            let skipped = start - self.until;
            if skipped > 0 {
                self.holes.push(self.until..start);
            }
            pieces.push(Piece { bytes: start..end, skipped, late: false });
            self.until = end;
        }
        pieces
    }

    /// Nothing more will come: how many bytes never did.
    pub(super) fn give_up(&mut self) -> u64 {
        self.holes.drain(..).map(|hole| hole.end - hole.start).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(bytes: Range<u64>, skipped: u64) -> Piece {
        Piece { bytes, skipped, late: false }
    }

    fn late(bytes: Range<u64>) -> Piece {
        Piece { bytes, skipped: 0, late: true }
    }

    #[test]
    fn every_byte_is_shown_once_whatever_order_it_comes_in() {
        let mut shown = Shown::default();
        assert_eq!(shown.take(0, 10), [new(0..10, 0)]);
        assert_eq!(shown.take(20, 10), [new(20..30, 10)]);
        assert_eq!(shown.take(25, 10), [new(30..35, 0)], "the rest was shown");
        assert_eq!(shown.take(12, 3), [late(12..15)]);
        assert_eq!(shown.take(0, 40), [late(10..12), late(15..20), new(35..40, 0)]);
        assert_eq!(shown.give_up(), 0);
    }

    #[test]
    fn what_never_came_is_counted_once() {
        let mut shown = Shown::default();
        shown.take(5, 5);
        shown.take(20, 1);
        assert_eq!(shown.take(7, 0), []);
        assert_eq!((shown.give_up(), shown.give_up()), (15, 0));
    }

    #[test]
    fn a_piece_knows_its_place_in_the_chunk_it_came_in() {
        assert_eq!(late(12..15).within(10), 2..5);
    }
}
