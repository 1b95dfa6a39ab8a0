//! What of a stream's output is here when its attempt is over.

use std::ops::Range;

use plan::outcome::{End, Outcome, Stream, StreamEnd};

/// Whether all of it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wholeness {
    /// Every byte.
    Complete,
    /// More was written than is kept: its beginning and its end are here.
    Truncated,
    /// Bytes are not here that should be, or, where the agent does not know how much was written, may not be.
    Partial,
}

impl Wholeness {
    /// The name used in JSON and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Wholeness::Complete => "complete",
            Wholeness::Truncated => "truncated",
            Wholeness::Partial => "partial",
        }
    }
}

/// What is here of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remains {
    /// Whether all of it is.
    pub wholeness: Wholeness,
    /// Bytes written, as far as is known.
    pub bytes: u64,
    /// Bytes of those that are not here.
    pub missing: u64,
    /// Where they would be, ascending.
    pub gaps: Vec<Range<u64>>,
}

impl Remains {
    /// What is here of `stream`, of which the bytes `stored` are, ascending.
    pub fn of(outcome: &Outcome, stream: Stream, stored: &[Range<u64>]) -> Remains {
        let StreamEnd { bytes, head, tail, sha256 } = match stream {
            Stream::Stdout => &outcome.stdout,
            Stream::Stderr => &outcome.stderr,
        };
        let bytes = stored.last().map_or(0, |last| last.end).max(*bytes);
        let (mut gaps, mut at) = (Vec::new(), 0);
        for range in stored {
            if range.start > at {
                gaps.push(at..range.start);
            }
            at = at.max(range.end);
        }
        if at < bytes {
            gaps.push(at..bytes);
        }
        let cut = *head..bytes.saturating_sub(*tail);
        let unsure = matches!(outcome.end, End::Interrupted { .. }) && sha256.is_empty();
        let wholeness = match &gaps[..] {
            gaps if unsure || !gaps.iter().all(|gap| cut.start <= gap.start && gap.end <= cut.end) => {
                Wholeness::Partial
            }
            [] => Wholeness::Complete,
            _ => Wholeness::Truncated,
        };
        Remains { wholeness, bytes, missing: gaps.iter().map(|gap| gap.end - gap.start).sum(), gaps }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(end: StreamEnd, stored: &[Range<u64>]) -> (Wholeness, u64, u64, Vec<Range<u64>>) {
        let outcome = Outcome { stdout: end, ..Outcome::not_started(End::Exited) };
        let Remains { wholeness, bytes, missing, gaps } = Remains::of(&outcome, Stream::Stdout, stored);
        (wholeness, bytes, missing, gaps)
    }

    fn end(bytes: u64, head: u64, tail: u64) -> StreamEnd {
        StreamEnd { bytes, head, tail, sha256: "ab".into() }
    }

    #[test]
    fn what_was_cut_is_told_from_what_was_lost() {
        use Wholeness::{Complete, Partial, Truncated};
        let whole = |range: Range<u64>| vec![range];
        assert_eq!(of(StreamEnd::default(), &[]), (Complete, 0, 0, vec![]));
        assert_eq!(of(end(10, 10, 0), &[0..4, 4..10]), (Complete, 10, 0, vec![]));
        assert_eq!(of(end(10, 10, 0), &[0..4, 6..10]), (Partial, 10, 2, whole(4..6)));
        assert_eq!(of(end(10, 10, 0), &[]), (Partial, 10, 10, whole(0..10)));
        assert_eq!(of(end(100, 10, 20), &[0..10, 80..100]), (Truncated, 100, 70, whole(10..80)));
        // More than is kept came by and is still here.
        assert_eq!(of(end(100, 10, 20), &[0..50, 80..100]), (Truncated, 100, 30, whole(50..80)));
        assert_eq!(of(end(100, 10, 20), &whole(0..100)), (Complete, 100, 0, vec![]));
        assert_eq!(of(end(100, 10, 20), &[0..10, 81..100]), (Partial, 100, 71, whole(10..81)));
    }

    #[test]
    fn an_attempt_that_was_interrupted_is_whole_only_if_its_agent_knows() {
        let interrupted = |end: StreamEnd, stored: &[Range<u64>]| {
            let end = Outcome { stdout: end, ..Outcome::not_started(End::Interrupted { message: String::new() }) };
            Remains::of(&end, Stream::Stdout, stored)
        };
        assert_eq!(interrupted(end(4, 4, 0), std::slice::from_ref(&(0..4))).wholeness, Wholeness::Complete);
        let unknown = interrupted(StreamEnd::default(), std::slice::from_ref(&(0..4)));
        assert_eq!((unknown.wholeness, unknown.bytes, unknown.missing), (Wholeness::Partial, 4, 0));
    }
}
