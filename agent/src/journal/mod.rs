//! The agent's memory: which attempts it accepted, started and finished, so that nothing is ever run
//! twice and no result is lost.
//!
//! Invariant: what the journal answered as written is on disk, and in the file where nothing follows from it
//! ([`Record::must_last`]).

mod compact;
mod record;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use plan::id::AttemptKey;
use plan::keyring::Keyring;
use plan::outcome::Outcome;

pub use crate::journal::compact::Clocks;
pub use crate::journal::record::{Accepted, Record, Settled};
use crate::log::{Log, LogError};
use crate::writer::Store;

/// Finished attempts kept whole however old they are.
pub const KEEP_FINISHED: usize = 10_000;
/// For how long finished attempts are kept whole however many there are.
pub const KEEP_FINISHED_MS: i64 = 7 * 24 * 3600 * 1000;
/// For how long after its validity a tombstone stays.
pub const KEEP_TOMBSTONE_MS: i64 = 24 * 3600 * 1000;
/// Below this size the file is never compacted.
const COMPACT_AT_BYTES: u64 = 4 << 20;

/// What a journal held when it was opened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recovered {
    /// The highest cluster epoch seen.
    pub highest_epoch: u64,
    /// The cluster's keys, if any but the one that was pinned when joining was followed.
    pub ring: Option<Keyring>,
    /// Attempts without a result, in the order they were accepted.
    pub unfinished: Vec<Unfinished>,
    /// Results the host has not acknowledged, oldest first.
    pub unacknowledged: Vec<Settled>,
    /// Acknowledged attempts that are still remembered, with the end of their validity.
    pub past: Vec<(AttemptKey, i64)>,
    /// Bytes of a torn last write that were cut off.
    pub cut_bytes: u64,
}

/// An attempt the journal holds without a result.
#[derive(Clone, Debug, PartialEq)]
pub struct Unfinished {
    /// As accepted.
    pub accepted: Accepted,
    /// The supervisor that may have been asked to start it.
    pub supervisor: Option<String>,
    /// Its first process, if it is known to have been spawned.
    pub pid: Option<u32>,
}

/// One thing to do for the writer thread.
#[derive(Clone, Debug)]
pub enum Job {
    /// Remember this.
    Append(Box<Record>, Clocks),
    /// Say how a finished attempt ended.
    Recall(AttemptKey),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Done {
    /// One [`Job::Append`] is written. They come in the order they were asked for.
    Written,
    /// Answer to [`Job::Recall`]; nothing when the attempt is not remembered as finished.
    Recalled(AttemptKey, Option<Outcome>),
    /// These are no longer remembered.
    Purged(Vec<AttemptKey>),
}

/// The journal file and where in it each finished attempt stands.
#[derive(Debug)]
pub struct Journal {
    log: Log,
    finished: HashMap<AttemptKey, u64>,
    compacted_size: u64,
    compact_at: u64,
}

/// Of two states of the cluster's keys the one that was followed further.
fn newer(known: Option<Keyring>, ring: Keyring) -> Option<Keyring> {
    Some(known.filter(|known| known.version() > ring.version()).unwrap_or(ring))
}

/// An attempt's life as read so far.
#[derive(Debug)]
enum Life {
    Unfinished(Box<Unfinished>, u64),
    Unacknowledged(Box<Settled>, u64),
    Past(i64),
}

/// Reads records in order and says what they come to.
#[derive(Debug, Default)]
pub struct Replay {
    lives: BTreeMap<AttemptKey, Life>,
    highest_epoch: u64,
    ring: Option<Keyring>,
    order: u64,
}

impl Replay {
    /// Takes the next record.
    pub fn take(&mut self, record: Record) {
        self.order += 1;
        match record {
            Record::Epoch { highest } => self.highest_epoch = self.highest_epoch.max(highest),
            Record::Keys { ring } => self.ring = newer(self.ring.take(), ring),
            Record::Accepted(accepted) => {
                let key = accepted.attempt;
                let unfinished = Box::new(Unfinished { accepted, supervisor: None, pid: None });
                self.lives.entry(key).or_insert(Life::Unfinished(unfinished, self.order));
            }
            Record::Starting { attempt, supervisor } => {
                if let Some(Life::Unfinished(unfinished, _)) = self.lives.get_mut(&attempt) {
                    unfinished.supervisor = Some(supervisor);
                }
            }
            Record::Started { attempt, pid, .. } => {
                if let Some(Life::Unfinished(unfinished, _)) = self.lives.get_mut(&attempt) {
                    unfinished.pid = Some(pid);
                }
            }
            Record::Result(settled) => {
                self.lives.insert(settled.attempt, Life::Unacknowledged(Box::new(settled), self.order));
            }
            Record::Acked { attempt } => {
                if let Some(Life::Unacknowledged(settled, _)) = self.lives.get(&attempt) {
                    let not_after_ms = settled.not_after_ms;
                    self.lives.insert(attempt, Life::Past(not_after_ms));
                }
            }
            Record::Finished(settled) | Record::Tombstone(settled) => {
                self.lives.insert(settled.attempt, Life::Past(settled.not_after_ms));
            }
        }
    }

    /// What all of them came to.
    pub fn finish(self) -> Recovered {
        let mut recovered = Recovered { highest_epoch: self.highest_epoch, ring: self.ring, ..Recovered::default() };
        let (mut unfinished, mut unacknowledged) = (Vec::new(), Vec::new());
        for (key, life) in self.lives {
            match life {
                Life::Unfinished(entry, order) => unfinished.push((order, *entry)),
                Life::Unacknowledged(settled, order) => unacknowledged.push((order, *settled)),
                Life::Past(not_after_ms) => recovered.past.push((key, not_after_ms)),
            }
        }
        unfinished.sort_by_key(|(order, _)| *order);
        unacknowledged.sort_by_key(|(order, _)| *order);
        recovered.unfinished = unfinished.into_iter().map(|(_, entry)| entry).collect();
        recovered.unacknowledged = unacknowledged.into_iter().map(|(_, settled)| settled).collect();
        recovered
    }
}

impl Journal {
    /// Opens or creates the journal in `dir`.
    ///
    /// # Errors
    /// [`LogError`], in particular when something that had been on disk was changed.
    pub fn open(dir: &Path) -> Result<(Journal, Recovered), LogError> {
        let fail = |source| LogError::Io { doing: "create", path: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(fail)?;
        let mut replay = Replay::default();
        let mut finished = HashMap::new();
        let (log, opened) = Log::open(&dir.join("log"), &mut |at, payload| {
            let record = Record::decode(payload)?;
            if let Record::Result(settled) | Record::Finished(settled) | Record::Tombstone(settled) = &record {
                finished.insert(settled.attempt, at);
            }
            replay.take(record);
            Ok(())
        })?;
        let recovered = Recovered { cut_bytes: opened.cut_bytes, ..replay.finish() };
        Ok((Journal { log, finished, compacted_size: 0, compact_at: COMPACT_AT_BYTES }, recovered))
    }

    /// Compacts whenever the file is over `bytes`, for tests that cannot write megabytes.
    pub fn compact_at(mut self, bytes: u64) -> Journal {
        self.compact_at = bytes;
        self
    }

    /// How often the disk was asked to confirm something.
    pub fn syncs(&self) -> u64 {
        self.log.syncs()
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.log.size()
    }

    fn recall(&self, attempt: AttemptKey) -> Result<Option<Outcome>, LogError> {
        let Some(at) = self.finished.get(&attempt) else { return Ok(None) };
        match Record::decode(&self.log.read(*at)?) {
            Ok(Record::Result(settled) | Record::Finished(settled) | Record::Tombstone(settled)) => {
                Ok(Some(settled.outcome))
            }
            Ok(_) | Err(_) => Ok(None),
        }
    }
}

impl Store for Journal {
    type Job = Job;
    type Done = Done;

    fn run(&mut self, jobs: Vec<Job>) -> Result<Vec<Done>, LogError> {
        let mut done = Vec::with_capacity(jobs.len());
        let mut payloads = Vec::new();
        let mut results = Vec::new();
        let mut recalls = Vec::new();
        let mut clocks = None;
        let mut must_last = false;
        for job in jobs {
            match job {
                Job::Append(record, now) => {
                    must_last |= record.must_last();
                    if let Record::Result(settled) | Record::Finished(settled) = &*record {
                        results.push((payloads.len(), settled.attempt));
                    }
                    payloads.push(record.encode());
                    clocks = Some(now);
                    done.push(Done::Written);
                }
                Job::Recall(attempt) => recalls.push(attempt),
            }
        }
        if !payloads.is_empty() {
            let places = if must_last { self.log.append(&payloads) } else { self.log.note(&payloads) }?;
            self.finished.extend(results.into_iter().map(|(index, attempt)| (attempt, places[index])));
        }
        for attempt in recalls {
            done.push(Done::Recalled(attempt, self.recall(attempt)?));
        }
        if let Some(now) = clocks
            && self.log.size() > self.compact_at.max(2 * self.compacted_size)
        {
            let purged = self.compact(now)?;
            if !purged.is_empty() {
                done.push(Done::Purged(purged));
            }
        }
        Ok(done)
    }
}
