//! How much of one stream of an attempt the store is given to hold. What an agent is to keep of it stands in the
//! envelope; this holds one that does not.

use std::ops::Range;

use domain::deadline::OUTPUT_BYTES_DEFAULT;

/// Most bytes of one stream of an attempt that a session has the store hold: four times what an agent is asked to
/// keep. An honest one comes to half of that: all it keeps, the next [`LET_GO_BYTES`], and its tail once more at
/// the end.
///
/// A session counts by itself, so an agent that comes again begins anew: what it can have stored grows with its
/// sessions, and is forgotten with the attempt's output.
pub const HELD_BYTES: u64 = 4 * OUTPUT_BYTES_DEFAULT;

/// The store is told to let go of output when there is this much more of it.
const LET_GO_BYTES: u64 = 128 * 1024;

/// What went to the store of one stream in this session.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    /// As much as it may hold.
    bytes: u64,
    /// Where the last byte of it ends.
    end: u64,
    /// Up to where it was told to let go.
    gone: u64,
}

impl Held {
    /// Counts bytes that end at `end`; `false` when they are too many. The same bytes once more count once more.
    pub fn takes(&mut self, bytes: u64, end: u64) -> bool {
        self.bytes = self.bytes.saturating_add(bytes);
        self.end = self.end.max(end);
        self.bytes <= HELD_BYTES
    }

    /// Whether the store is to let go of these bytes now: of what has been there, and in large pieces. Then it holds
    /// what stands before and behind them at most.
    pub fn lets_go(&mut self, gone: &Range<u64>) -> bool {
        let is_due = gone.end <= self.end && gone.end >= self.gone.saturating_add(LET_GO_BYTES);
        if gone.is_empty() || !is_due {
            return false;
        }
        self.gone = gone.end;
        self.bytes = self.bytes.min(gone.start.saturating_add(self.end - gone.end));
        true
    }

    /// Whether the store was told to let go of anything.
    pub fn has_let_go(&self) -> bool {
        self.gone > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: u64 = 32 * 1024;

    #[test]
    fn what_is_kept_and_what_passes_by_of_an_honest_stream_never_comes_near_the_bound() {
        let limit = OUTPUT_BYTES_DEFAULT;
        let (head, tail) = (limit - limit / 4, limit / 4);
        let (mut held, mut end, mut most) = (Held::default(), 0, 0);
        while end < 100 * limit {
            end += CHUNK;
            assert!(held.takes(CHUNK, end), "at {end}");
            most = most.max(held.bytes);
            held.lets_go(&(head..end.saturating_sub(tail)));
        }
        for piece in 0..tail / CHUNK {
            assert!(held.takes(CHUNK, end - tail + (piece + 1) * CHUNK), "the tail once more");
        }
        assert!(most.max(held.bytes) <= HELD_BYTES / 2, "{most}, {}", held.bytes);
    }

    #[test]
    fn what_is_said_to_be_gone_frees_no_more_than_it_says() {
        let mut held = Held::default();
        assert!(held.takes(HELD_BYTES, HELD_BYTES));
        assert!(!held.takes(1, HELD_BYTES + 1));
        for nothing in [0..HELD_BYTES + 2, 9..9, 0..LET_GO_BYTES - 1] {
            assert!(!held.lets_go(&nothing) && held.bytes > HELD_BYTES, "{nothing:?}");
        }
        // Far ahead there is nothing that could be let go of.
        assert!(!held.takes(1, u64::MAX / 2));
        assert!(held.lets_go(&(1..HELD_BYTES)) && held.bytes > HELD_BYTES, "what stands behind may be all of it");
        assert!(held.lets_go(&(1_000..u64::MAX / 2)));
        assert_eq!(held.bytes, 1_000);
        assert!(held.takes(HELD_BYTES - 1_000, u64::MAX / 2) && !held.takes(1, 1));
    }
}
