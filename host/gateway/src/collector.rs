//! What an attempt printed, kept in memory while its session lasts, so that a short command's end
//! needs no read from the store.

use plan::outcome::{Outcome, Stream, StreamEnd};
use services::progress::Kept;

/// Most bytes kept in memory of one attempt; what prints more is read back from the store.
const MAX_BYTES: usize = 256 * 1024;

/// Output of one attempt.
#[derive(Clone, Debug, Default)]
pub struct Collector {
    stdout: Collected,
    stderr: Collected,
}

#[derive(Clone, Debug, Default)]
struct Collected {
    bytes: Vec<u8>,
    /// The end of the last chunk in the stream; less than it is a repetition.
    next: u64,
    /// What was left out: from, and up to.
    gap: Option<(u64, u64)>,
    overflowed: bool,
}

impl Collector {
    /// Takes a chunk in; repeated bytes are kept once.
    pub fn add(&mut self, stream: Stream, offset: u64, data: &[u8]) {
        match stream {
            Stream::Stdout => self.stdout.add(offset, data),
            Stream::Stderr => self.stderr.add(offset, data),
        }
    }

    /// Everything the agent says it kept, if all of it is here.
    pub fn take(self, outcome: &Outcome) -> Option<Kept> {
        let stdout = self.stdout.complete(&outcome.stdout)?;
        let stderr = self.stderr.complete(&outcome.stderr)?;
        Some(Kept { stdout, stderr })
    }
}

impl Collected {
    fn add(&mut self, offset: u64, data: &[u8]) {
        let end = offset.saturating_add(data.len() as u64);
        if end <= self.next {
            return;
        }
        let known = usize::try_from(self.next.saturating_sub(offset)).unwrap_or(usize::MAX);
        let fresh = data.get(known..).unwrap_or_default();
        if offset > self.next {
            // Between head and tail there is one gap at most; more are of what merely passed by.
            self.overflowed |= self.gap.replace((self.next, offset)).is_some();
        }
        self.next = end;
        if self.overflowed || self.bytes.len() + fresh.len() > MAX_BYTES {
            self.overflowed = true;
            self.bytes = Vec::new();
            return;
        }
        self.bytes.extend_from_slice(fresh);
    }

    fn complete(self, end: &StreamEnd) -> Option<Vec<u8>> {
        let in_place = match self.gap {
            None => end.head.saturating_add(end.tail) == end.bytes || end.tail == 0,
            Some((from, until)) => from == end.head && until == end.bytes.saturating_sub(end.tail),
        };
        let whole = !self.overflowed && self.bytes.len() as u64 == end.head.saturating_add(end.tail);
        (whole && in_place).then_some(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use plan::outcome::End;

    use super::*;

    fn outcome(bytes: u64, head: u64, tail: u64) -> Outcome {
        let stdout = StreamEnd { bytes, head, tail, sha256: String::new() };
        Outcome { stdout, ..Outcome::not_started(End::Exited) }
    }

    #[test]
    fn repeated_and_overlapping_chunks_are_kept_once() {
        let mut collector = Collector::default();
        for (offset, data) in [(0, "abc"), (0, "abc"), (2, "cde"), (5, "f")] {
            collector.add(Stream::Stdout, offset, data.as_bytes());
        }
        let kept = collector.take(&outcome(6, 6, 0)).expect("complete");
        assert_eq!(kept.stdout, b"abcdef");
    }

    #[test]
    fn a_gap_is_complete_only_when_the_agent_says_so() {
        let mut collector = Collector::default();
        collector.add(Stream::Stdout, 0, b"head");
        collector.add(Stream::Stdout, 100, b"tail");
        assert!(collector.clone().take(&outcome(104, 104, 0)).is_none());
        assert_eq!(collector.take(&outcome(104, 4, 4)).expect("complete").stdout, b"headtail");
    }

    #[test]
    fn what_passed_by_is_never_taken_for_the_tail() {
        let mut collector = Collector::default();
        // As many bytes as head and tail together, and not they.
        for (offset, data) in [(0, "head"), (50, "by"), (98, "il"), (96, "tail")] {
            collector.add(Stream::Stdout, offset, data.as_bytes());
        }
        assert!(collector.take(&outcome(100, 4, 4)).is_none());
        let mut collector = Collector::default();
        for (offset, data) in [(0, "head"), (50, "tail")] {
            collector.add(Stream::Stdout, offset, data.as_bytes());
        }
        assert!(collector.take(&outcome(100, 4, 4)).is_none());
    }

    #[test]
    fn what_is_too_long_is_left_to_the_store() {
        let mut collector = Collector::default();
        let data = vec![b'x'; MAX_BYTES];
        collector.add(Stream::Stdout, 0, &data);
        collector.add(Stream::Stdout, MAX_BYTES as u64, b"y");
        let bytes = MAX_BYTES as u64 + 1;
        assert!(collector.take(&outcome(bytes, bytes, 0)).is_none());
    }
}
