//! An attempt as the machine holds it.

use std::collections::BTreeMap;

use plan::envelope::{Envelope, RunLimits};
use plan::id::AttemptKey;
use plan::outcome::{End, Outcome, Stream, StreamEnd};
use plan::step::Plan;
use wire::limits::MAX_OUTPUT_CHUNK_BYTES;

use crate::journal::Settled;

/// Output that is still growing is sent at once and then at most this often, so that a child which
/// prints byte by byte does not cost a frame for each.
pub(super) const COALESCE_MS: u64 = 40;

/// An attempt that has no durable result yet.
///
/// ```text
///            slot, locks, time        fsync, start sent         spawned
///   Waiting ───────────────▶ Starting ──────────▶ Launched ───────────▶ Running
///      │ expired, cancelled     │ cancelled          │ ended               │ ended
///      └────────────────────────┴────────▶ Settling ◀┴─────────────────────┘
///                                             │ fsync
///                                             ▼ Kept (until RESULT_ACK)
/// ```
///
/// `Launched` also stands for "may have been asked for before the agent restarted"; the supervisor's
/// greeting decides.
#[derive(Clone, Debug)]
pub(super) struct Active {
    /// Arrival order.
    pub order: u64,
    pub about: About,
    /// What to run. Absent only when the envelope read from the journal no longer checks.
    pub task: Option<Task>,
    /// When it was received; absent when the machine was rebooted since.
    pub received_mono_ms: Option<u64>,
    pub phase: Phase,
    /// Grace of a CANCEL that has not taken effect yet.
    pub cancel: Option<u64>,
    /// The host wants no word of it.
    pub forgotten: bool,
    /// Accepted by an earlier process: started only after a WELCOME, whose cancels come first.
    pub restored: bool,
    pub output: Output,
}

/// What is remembered of an envelope when its plan is no longer needed.
#[derive(Clone, Debug, Default)]
pub(super) struct About {
    pub verb: String,
    pub submitter: String,
    pub not_after_ms: i64,
}

/// What to run and when at the latest to begin.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub plan: Plan,
    pub limits: RunLimits,
    pub start_by: StartBy,
}

/// The last instant at which an attempt may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartBy {
    /// Milliseconds since boot.
    Mono(u64),
    /// The machine was rebooted since acceptance: the host's clock, to be turned into ours at WELCOME.
    Host(i64),
}

#[derive(Clone, Debug)]
pub(super) enum Phase {
    Waiting,
    /// `starting` is on its way to disk; nothing was sent to the supervisor.
    Starting {
        supervisor: String,
    },
    /// The supervisor was asked, or may have been.
    Launched {
        supervisor: String,
    },
    Running {
        pid: u32,
    },
    /// The result is on its way to disk.
    Settling(Box<Settled>),
}

impl Phase {
    /// Whether it counts against the number of attempts at once, and holds its locks.
    pub fn holds_slot(&self) -> bool {
        match self {
            Phase::Starting { .. } | Phase::Launched { .. } | Phase::Running { .. } => true,
            Phase::Waiting | Phase::Settling(_) => false,
        }
    }

    /// Whether a process of it may have been started.
    pub fn may_have_started(&self) -> bool {
        match self {
            Phase::Launched { .. } | Phase::Running { .. } => true,
            Phase::Settling(settled) => match settled.outcome.end {
                End::Exited | End::TimedOut | End::Interrupted { .. } => true,
                End::Cancelled { started } => started,
                End::Expired | End::Rejected { .. } => false,
            },
            Phase::Waiting | Phase::Starting { .. } => false,
        }
    }
}

/// A finished attempt whose result the host has not acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub settled: Settled,
    pub output: Output,
    /// RESULT was sent in this session.
    pub told: bool,
}

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
    next: u64,
    readable: u64,
    end: Option<StreamEnd>,
}

/// A piece of output to be read from the spool and sent.
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
        self.streams[0].end = Some(outcome.stdout.clone());
        self.streams[1].end = Some(outcome.stderr.clone());
    }

    /// Another session: everything is to be sent again.
    pub fn rewind(&mut self) {
        for cursor in &mut self.streams {
            cursor.next = 0;
        }
        (self.in_lane, self.sent_at_ms) = (false, None);
    }

    pub fn grew(&mut self, stream: Stream, bytes: u64) {
        let cursor = &mut self.streams[index(stream)];
        cursor.readable = cursor.readable.max(bytes);
    }

    /// Whether anything is left to send.
    pub fn pending(&self) -> bool {
        self.streams.iter().any(|cursor| cursor.gap().is_some())
    }

    /// Bytes on disk, as far as known.
    pub fn kept_bytes(&self) -> u64 {
        self.streams.iter().map(|cursor| cursor.end.as_ref().map_or(cursor.readable, |end| end.head + end.tail)).sum()
    }

    /// The next piece that is due; `Err` says when one will be.
    pub fn due(&self, attempt: AttemptKey, now_ms: u64) -> Result<Chunk, Option<u64>> {
        let mut later = None;
        for (stream, cursor) in [Stream::Stdout, Stream::Stderr].into_iter().zip(&self.streams) {
            let Some((offset, bytes)) = cursor.gap() else { continue };
            let due_ms = self.sent_at_ms.map_or(0, |sent| sent + COALESCE_MS);
            if cursor.end.is_some() || bytes >= MAX_OUTPUT_CHUNK_BYTES as u64 || due_ms <= now_ms {
                let length = bytes.min(MAX_OUTPUT_CHUNK_BYTES as u64) as usize;
                return Ok(Chunk { attempt, stream, offset, length, end: cursor.end.clone() });
            }
            later = Some(due_ms);
        }
        Err(later)
    }

    /// `bytes` from `offset` were sent.
    pub fn sent(&mut self, stream: Stream, offset: u64, bytes: u64, now_ms: u64) {
        self.streams[index(stream)].next = offset + bytes;
        self.sent_at_ms = Some(now_ms);
    }

    /// What is left of the stream cannot be read; nothing more of it is sent.
    pub fn unreadable(&mut self, stream: Stream) {
        let cursor = &mut self.streams[index(stream)];
        cursor.next = cursor.end.as_ref().map_or(cursor.readable, |end| end.bytes);
    }
}

impl Cursor {
    /// Where the next bytes to send begin, and how many there are in one piece.
    fn gap(&self) -> Option<(u64, u64)> {
        let Some(end) = &self.end else {
            return (self.next < self.readable).then(|| (self.next, self.readable - self.next));
        };
        if self.next < end.head {
            return Some((self.next, end.head - self.next));
        }
        let from = self.next.max(end.bytes - end.tail);
        (from < end.bytes && end.tail > 0).then(|| (from, end.bytes - from))
    }
}

fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

impl About {
    pub fn of(envelope: &Envelope) -> About {
        About {
            verb: envelope.verb.clone(),
            submitter: envelope.submitter.clone(),
            not_after_ms: envelope.not_after_ms,
        }
    }
}

/// Active attempts by key.
pub(super) type Actives = BTreeMap<AttemptKey, Active>;
