//! What an attempt has printed so far, as its agent is told of it: how much of the kept part may be read,
//! and the newest of what passes by behind it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plan::id::AttemptKey;
use plan::outcome::Stream;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::supervisor::protocol::Event;

/// Newest bytes of a stream that wait to pass by. Older ones are left out, so that a child which floods
/// its output costs no more than this many bytes for each [`PASS_EVERY`].
const RECENT_BYTES: usize = 32 * 1024;
/// Between two pieces of one stream that pass by.
pub const PASS_EVERY: Duration = Duration::from_millis(200);

/// What both streams of an attempt came to. Written by whoever reads the pipes.
#[derive(Debug, Default)]
pub struct Totals {
    readable: [AtomicU64; 2],
    recent: [Mutex<Recent>; 2],
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Recent {
    offset: u64,
    bytes: Vec<u8>,
}

/// What an agent was told of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown {
    readable: [u64; 2],
    passed: [u64; 2],
    passed_at: [Option<Instant>; 2],
}

impl Totals {
    /// Nothing yet; `changed` is woken when that changes.
    pub fn new(changed: Arc<Notify>) -> Totals {
        Totals { changed, ..Totals::default() }
    }

    /// Bytes came: so many may be read, and these pass by at `offset`.
    pub fn took(&self, index: usize, readable: u64, offset: u64, passing: &[u8]) {
        self.readable[index].store(readable, Ordering::Release);
        if !passing.is_empty() {
            let mut recent = self.recent[index].lock().unwrap_or_else(PoisonError::into_inner);
            if recent.bytes.is_empty() {
                recent.offset = offset;
            }
            recent.bytes.extend_from_slice(passing);
            let old = recent.bytes.len().saturating_sub(RECENT_BYTES);
            recent.bytes.drain(..old);
            recent.offset += old as u64;
        }
        self.changed.notify_one();
    }

    /// Readable bytes of standard output and standard error.
    pub fn readable(&self) -> [u64; 2] {
        [0, 1].map(|index: usize| self.readable[index].load(Ordering::Acquire))
    }
}

impl Shown {
    /// An agent that was just greeted with what may be read, and saw nothing pass by.
    pub fn greeted(totals: &Totals) -> Shown {
        Shown { readable: totals.readable(), ..Shown::default() }
    }

    /// Readable bytes of both streams, as told.
    pub fn readable(&self) -> [u64; 2] {
        self.readable
    }

    /// What is to be told now, and when to look again though nothing changes.
    pub fn news(&mut self, attempt: AttemptKey, totals: &Totals, now: Instant) -> (Vec<Event>, Option<Instant>) {
        let (mut events, mut later) = (Vec::new(), None);
        for (index, stream) in [Stream::Stdout, Stream::Stderr].into_iter().enumerate() {
            let bytes = totals.readable()[index];
            if bytes > self.readable[index] {
                self.readable[index] = bytes;
                events.push(Event::Grew { attempt, stream, bytes });
            }
            let recent = totals.recent[index].lock().unwrap_or_else(PoisonError::into_inner);
            let end = recent.offset + recent.bytes.len() as u64;
            if end <= self.passed[index] || recent.bytes.is_empty() {
                continue;
            }
            if let Some(due) = self.passed_at[index].map(|at| at + PASS_EVERY).filter(|due| *due > now) {
                later = Some(later.map_or(due, |later: Instant| later.min(due)));
                continue;
            }
            let offset = self.passed[index].max(recent.offset);
            let skipped = usize::try_from(offset - recent.offset).unwrap_or(usize::MAX);
            let data = STANDARD.encode(recent.bytes.get(skipped..).unwrap_or_default());
            (self.passed[index], self.passed_at[index]) = (end, Some(now));
            events.push(Event::Passed { attempt, stream, offset, data });
        }
        (events, later)
    }
}

#[cfg(test)]
mod tests {
    use plan::id::CommandId;
    use uuid::Uuid;

    use super::*;

    #[tokio::test]
    async fn a_flood_costs_one_piece_at_a_time_and_a_trickle_loses_nothing() {
        let attempt = AttemptKey { command: CommandId(Uuid::from_u128(1)), number: 1 };
        let (totals, mut told, mut now) = (Totals::default(), Shown::default(), Instant::now());
        let passed = |events: &[Event]| match events {
            [Event::Passed { offset, data, .. }] => Some((*offset, STANDARD.decode(data).expect("base64").len())),
            [] => None,
            other => panic!("{other:?}"),
        };
        totals.took(0, 100, 100, b"");
        assert_eq!(told.news(attempt, &totals, now).0, [Event::Grew { attempt, stream: Stream::Stdout, bytes: 100 }]);
        totals.took(0, 100, 100, b"abc");
        assert_eq!(passed(&told.news(attempt, &totals, now).0), Some((100, 3)));
        totals.took(0, 100, 103, b"de");
        let (events, later) = told.news(attempt, &totals, now);
        assert_eq!((passed(&events), later), (None, Some(now + PASS_EVERY)));
        now += PASS_EVERY;
        assert_eq!(passed(&told.news(attempt, &totals, now).0), Some((103, 2)));
        for piece in 0..100 {
            totals.took(0, 100, 105 + piece * 10_000, &[0; 10_000]);
        }
        assert_eq!(passed(&told.news(attempt, &totals, now).0), None);
        now += PASS_EVERY;
        let end = 105 + 1_000_000;
        assert_eq!(passed(&told.news(attempt, &totals, now).0), Some((end - RECENT_BYTES as u64, RECENT_BYTES)));
        assert_eq!(told.news(attempt, &totals, now).1, None);
    }
}
