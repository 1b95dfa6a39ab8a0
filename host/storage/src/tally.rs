//! What a writer has done, counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the writer has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Transactions on disk.
    pub commits: u64,
    /// Accepts, advances, chunks and rare writes in them.
    pub writes: u64,
    /// Audit entries in them.
    pub audits: u64,
    /// Chunks of output that were not stored: the queue was full, or no such attempt is stored.
    pub chunks_dropped: u64,
    /// Notes that were not stored, because the queue was full or a commit failed.
    pub notes_dropped: u64,
}

/// The same while it is counted.
#[derive(Default)]
pub(crate) struct Tally {
    pub commits: AtomicU64,
    pub writes: AtomicU64,
    pub audits: AtomicU64,
    pub chunks_dropped: AtomicU64,
    pub notes_dropped: AtomicU64,
    /// Commits that failed, and notes that found the queue full: after each, the host has what may be lost said again.
    pub failures: AtomicU64,
}

impl Tally {
    /// A note found no room.
    pub fn note_refused(&self) {
        self.notes_dropped.fetch_add(1, Ordering::Relaxed);
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// How far it is.
    pub fn read(&self) -> Counters {
        let Tally { commits, writes, audits, chunks_dropped, notes_dropped, failures: _ } = self;
        Counters {
            commits: commits.load(Ordering::Relaxed),
            writes: writes.load(Ordering::Relaxed),
            audits: audits.load(Ordering::Relaxed),
            chunks_dropped: chunks_dropped.load(Ordering::Relaxed),
            notes_dropped: notes_dropped.load(Ordering::Relaxed),
        }
    }
}
