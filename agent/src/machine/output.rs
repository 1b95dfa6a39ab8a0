//! How far the streams of an attempt were sent, and what is to be sent next: first what is kept from the
//! start, then, while it still grows, what passes by; at the end what is kept of the rest.
//!
//! ```text
//!   0          head                                  bytes - tail        bytes
//!   ├───────────┼──────────────────────────────────────┼───────────────────┤
//!   kept, sent at once    passes by: sent as it comes,   kept, sent at the end,
//!                         left out when it is too fast   unless it went by whole
//! ```

use plan::id::AttemptKey;
use plan::outcome::{Outcome, Stream, StreamEnd};
use wire::frame::{Gone, Have};
use wire::limits::MAX_OUTPUT_CHUNK_BYTES;

use crate::spool::head_bytes;

/// Output that is still growing is sent at once and then at most this often, so that a child which
/// prints byte by byte does not cost a frame for each.
pub(super) const COALESCE_MS: u64 = 40;
/// Most bytes of one stream that wait to pass by; older ones are left out.
const MAX_PASSING_BYTES: usize = 64 * 1024;

/// How far both streams of an attempt were sent in this session.
#[derive(Clone, Debug, Default)]
pub(super) struct Output {
    streams: [Cursor; 2],
    /// Whether the attempt stands in the lane.
    pub in_lane: bool,
    sent_at_ms: Option<u64>,
}

#[derive(Clone, Debug, Default)]
struct Cursor {
    /// Everything before this was sent.
    whole: u64,
    /// What was sent last ended here.
    next: u64,
    /// Since here nothing was left out before `next`.
    unbroken_from: u64,
    /// Kept bytes that may be read, while the stream grows.
    readable: u64,
    passing: Passing,
    end: Option<StreamEnd>,
}

/// Bytes that pass by.
#[derive(Clone, Debug, Default)]
struct Passing {
    offset: u64,
    bytes: Vec<u8>,
}

/// A piece of output to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Which attempt.
    pub attempt: AttemptKey,
    /// Which stream.
    pub stream: Stream,
    /// Where it begins.
    pub offset: u64,
    /// At most how many bytes. What is really read is told by [`super::Machine::sent`].
    pub length: usize,
    /// The bytes, if they pass by; to be read from the spool when absent.
    pub bytes: Option<Vec<u8>>,
    /// What is no longer kept of the stream, if the host is to know.
    pub gone: Option<Gone>,
    /// The stream's end, once known.
    pub end: Option<StreamEnd>,
}

impl Output {
    /// The output of an attempt that is over.
    pub fn ended(outcome: &Outcome) -> Output {
        let cursor = |end: &StreamEnd| Cursor { end: Some(end.clone()), ..Cursor::default() };
        Output { streams: [cursor(&outcome.stdout), cursor(&outcome.stderr)], ..Output::default() }
    }

    /// Learns the end without forgetting what was sent.
    pub fn end(&mut self, outcome: &Outcome) {
        for (cursor, end) in self.streams.iter_mut().zip([&outcome.stdout, &outcome.stderr]) {
            cursor.end = Some(end.clone());
            cursor.passing = Passing::default();
        }
    }

    /// Another session: everything is to be sent again that the host does not say it has.
    pub fn rewind(&mut self) {
        for cursor in &mut self.streams {
            (cursor.whole, cursor.next, cursor.unbroken_from) = (0, 0, 0);
            cursor.passing = Passing::default();
        }
        (self.in_lane, self.sent_at_ms) = (false, None);
    }

    /// The host has stored everything below these offsets.
    pub fn had(&mut self, have: Have) {
        for (cursor, offset) in self.streams.iter_mut().zip([have.stdout, have.stderr]) {
            if offset > cursor.whole {
                (cursor.whole, cursor.next, cursor.unbroken_from) = (offset, offset, 0);
            }
        }
    }

    /// A stream has this many readable kept bytes now.
    pub fn grew(&mut self, stream: Stream, bytes: u64) {
        let cursor = &mut self.streams[index(stream)];
        cursor.readable = cursor.readable.max(bytes);
    }

    /// These bytes pass by behind what is kept from the start.
    pub fn passed(&mut self, stream: Stream, offset: u64, bytes: &[u8]) {
        let passing = &mut self.streams[index(stream)].passing;
        if passing.offset + passing.bytes.len() as u64 != offset {
            *passing = Passing { offset, bytes: Vec::new() };
        }
        passing.bytes.extend_from_slice(bytes);
        passing.drop_first(passing.bytes.len().saturating_sub(MAX_PASSING_BYTES));
    }

    /// Whether anything is left to send.
    pub fn pending(&self) -> bool {
        self.streams.iter().any(|cursor| cursor.wanted().is_some())
    }

    /// Bytes on disk, as far as known.
    pub fn kept_bytes(&self) -> u64 {
        self.streams.iter().map(|cursor| cursor.end.as_ref().map_or(cursor.readable, |end| end.head + end.tail)).sum()
    }

    /// The next piece that is due; `Err` says when one will be. `limit` is what is kept of each stream.
    pub fn due(&self, attempt: AttemptKey, limit: u64, now_ms: u64) -> Result<Chunk, Option<u64>> {
        let mut later = None;
        for (stream, cursor) in [Stream::Stdout, Stream::Stderr].into_iter().zip(&self.streams) {
            let Some((offset, bytes)) = cursor.wanted() else { continue };
            let due_ms = self.sent_at_ms.map_or(0, |sent| sent + COALESCE_MS);
            if cursor.end.is_some() || bytes >= MAX_OUTPUT_CHUNK_BYTES as u64 || due_ms <= now_ms {
                let length = bytes.min(MAX_OUTPUT_CHUNK_BYTES as u64) as usize;
                let (bytes, gone) = match cursor.end.is_none() && offset >= cursor.readable {
                    true => (Some(cursor.passing.from(offset)[..length].to_vec()), gone(offset + length as u64, limit)),
                    false => (None, None),
                };
                return Ok(Chunk { attempt, stream, offset, length, bytes, gone, end: cursor.end.clone() });
            }
            later = Some(due_ms);
        }
        Err(later)
    }

    /// `bytes` from `offset` were sent.
    pub fn sent(&mut self, stream: Stream, offset: u64, bytes: u64, now_ms: u64) {
        let cursor = &mut self.streams[index(stream)];
        if offset != cursor.next {
            cursor.unbroken_from = offset;
        }
        cursor.next = offset + bytes;
        if offset <= cursor.whole {
            cursor.whole = cursor.whole.max(cursor.next);
        }
        let passed = usize::try_from(cursor.next.saturating_sub(cursor.passing.offset)).unwrap_or(usize::MAX);
        cursor.passing.drop_first(passed.min(cursor.passing.bytes.len()));
        self.sent_at_ms = Some(now_ms);
    }

    /// What is left of the stream cannot be read; nothing more of it is sent.
    pub fn unreadable(&mut self, stream: Stream) {
        let cursor = &mut self.streams[index(stream)];
        let over = cursor.end.as_ref().map_or(cursor.readable, |end| end.bytes);
        (cursor.whole, cursor.next, cursor.unbroken_from) = (over, over, 0);
    }
}

/// What is let go of a stream that has grown to `total` bytes: all between its head and its tail.
fn gone(total: u64, limit: u64) -> Option<Gone> {
    let from = head_bytes(limit);
    let until = total.saturating_sub(limit - from);
    (until > from).then_some(Gone { from, until })
}

impl Passing {
    fn drop_first(&mut self, count: usize) {
        self.bytes.drain(..count);
        self.offset += count as u64;
    }

    fn from(&self, offset: u64) -> &[u8] {
        let skipped = usize::try_from(offset.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        self.bytes.get(skipped..).unwrap_or_default()
    }
}

impl Cursor {
    /// Where the next bytes to send begin, and how many there are in one piece.
    fn wanted(&self) -> Option<(u64, u64)> {
        let Some(end) = &self.end else {
            if self.whole < self.readable {
                return Some((self.whole, self.readable - self.whole));
            }
            let from = self.whole.max(self.next).max(self.passing.offset);
            let bytes = self.passing.from(from).len() as u64;
            return (bytes > 0).then_some((from, bytes));
        };
        if self.whole < end.head {
            return Some((self.whole, end.head - self.whole));
        }
        let tail = end.bytes - end.tail;
        // What went by may have had gaps; then the whole tail is sent, and the host keeps each byte once.
        let sent = if self.unbroken_from <= tail { self.next } else { tail };
        let from = sent.max(self.whole).max(tail);
        (from < end.bytes && end.tail > 0).then(|| (from, end.bytes - from))
    }
}

fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

#[cfg(test)]
mod tests {
    use plan::id::CommandId;
    use plan::outcome::End;
    use uuid::Uuid;

    use super::*;

    const LIMIT: u64 = 400;

    fn key() -> AttemptKey {
        AttemptKey { command: CommandId(Uuid::from_u128(1)), number: 1 }
    }

    fn ended(bytes: u64, head: u64, tail: u64) -> Outcome {
        let stdout = StreamEnd { bytes, head, tail, sha256: String::new() };
        Outcome { stdout, ..Outcome::not_started(End::Exited) }
    }

    /// Sends everything that is due; ranges of it, and what was said to be gone last.
    fn drain(output: &mut Output) -> (Vec<(u64, u64)>, Option<Gone>) {
        let (mut ranges, mut gone) = (Vec::new(), None);
        while let Ok(chunk) = output.due(key(), LIMIT, u64::MAX) {
            output.sent(chunk.stream, chunk.offset, chunk.length as u64, 0);
            ranges.push((chunk.offset, chunk.offset + chunk.length as u64));
            gone = chunk.gone.or(gone);
        }
        (ranges, gone)
    }

    #[test]
    fn what_passes_by_is_sent_after_the_head_and_not_again_at_the_end() {
        let mut output = Output::default();
        output.grew(Stream::Stdout, 300);
        output.passed(Stream::Stdout, 300, &[0; 50]);
        assert_eq!(drain(&mut output), (vec![(0, 300), (300, 350)], None));
        output.passed(Stream::Stdout, 350, &[0; 250]);
        assert_eq!(drain(&mut output), (vec![(350, 600)], Some(Gone { from: 300, until: 500 })));
        output.end(&ended(610, 300, 100));
        assert_eq!(drain(&mut output).0, [(600, 610)]);
    }

    #[test]
    fn a_tail_with_a_gap_is_sent_whole_at_the_end() {
        let mut output = Output::default();
        output.grew(Stream::Stdout, 300);
        output.passed(Stream::Stdout, 300, &[0; 10]);
        drain(&mut output);
        // Too fast: a piece is missing inside what the tail will be.
        output.passed(Stream::Stdout, 950, &[0; 20]);
        assert_eq!(drain(&mut output).0, [(950, 970)]);
        output.end(&ended(1000, 300, 100));
        assert_eq!(drain(&mut output).0, [(900, 1000)]);
        assert!(!output.pending());
    }

    #[test]
    fn what_was_left_out_of_a_stream_that_is_kept_whole_is_sent_at_the_end() {
        let mut output = Output::default();
        output.grew(Stream::Stdout, 300);
        output.passed(Stream::Stdout, 340, &[0; 20]);
        assert_eq!(drain(&mut output).0, [(0, 300), (340, 360)]);
        output.end(&ended(380, 380, 0));
        assert_eq!(drain(&mut output).0, [(300, 380)]);
    }

    #[test]
    fn a_new_session_begins_where_the_host_says() {
        let mut output = Output::default();
        output.grew(Stream::Stdout, 300);
        drain(&mut output);
        output.rewind();
        output.had(Have { attempt: key(), stdout: 120, stderr: 0 });
        assert_eq!(drain(&mut output).0, [(120, 300)]);
        output.rewind();
        output.end(&ended(1000, 300, 100));
        output.had(Have { attempt: key(), stdout: 950, stderr: 0 });
        assert_eq!(drain(&mut output).0, [(950, 1000)]);
        output.rewind();
        assert_eq!(drain(&mut output).0, [(0, 300), (900, 1000)], "a host that says nothing has nothing");
    }

    #[test]
    fn what_waits_to_pass_by_is_bounded() {
        let mut output = Output::default();
        for piece in 0..20 {
            output.passed(Stream::Stdout, piece * 10_000, &[0; 10_000]);
        }
        let first = output.due(key(), LIMIT, 0).expect("is due");
        assert_eq!(first.offset, 200_000 - MAX_PASSING_BYTES as u64);
    }
}
