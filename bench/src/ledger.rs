//! What was accepted and what was acknowledged. Latency counts from the due time to the RESULT_ACK,
//! which the host sends only after its own commit.
//!
//! Invariant: an acknowledgement may overtake the answer that names its command; nothing is lost then.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use crate::latency::{Quantiles, Recorder};
use crate::schedule::Window;

/// Locks the ledger is split over.
const SHARDS: usize = 64;
/// How long after the window's end a command may still count as done at the offered rate.
const GRACE_NS: u64 = 1_000_000_000;

/// Hears of every RESULT_ACK.
pub trait Acks: Send + Sync {
    /// `command` was acknowledged at `at`, monotonic nanoseconds.
    fn acked(&self, command: u128, at: u64);
}

/// Hears and forgets; what a fleet starts with.
pub struct Unheard;

impl Acks for Unheard {
    fn acked(&self, _command: u128, _at: u64) {}
}

enum Entry {
    /// Accepted, not acknowledged.
    Awaited { due: u64, wake: Option<oneshot::Sender<()>> },
    /// Acknowledged, but the answer to its submission has not been read.
    Early(u64),
}

/// One run's ledger.
pub struct Ledger {
    window: Window,
    shards: Vec<Mutex<HashMap<u128, Entry>>>,
    recorder: Recorder,
    acked_inside: AtomicU64,
    on_time: AtomicU64,
    awaited: AtomicUsize,
    settled: Notify,
}

impl Ledger {
    /// Empty; only what falls into `window` is counted.
    pub fn new(window: Window) -> Ledger {
        Ledger {
            window,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            recorder: Recorder::default(),
            acked_inside: AtomicU64::new(0),
            on_time: AtomicU64::new(0),
            awaited: AtomicUsize::new(0),
            settled: Notify::new(),
        }
    }

    fn shard(&self, command: u128) -> (usize, &Mutex<HashMap<u128, Entry>>) {
        // The last bits of a UUIDv7 are random.
        let index = command as usize % SHARDS;
        (index, &self.shards[index])
    }

    /// `command`, which was due at `due`, has been accepted. The receiver hears when it is
    /// acknowledged; `None` when it is already.
    pub fn accepted(&self, command: u128, due: u64) -> Option<oneshot::Receiver<()>> {
        let (index, shard) = self.shard(command);
        let (wake, heard) = oneshot::channel();
        let mut entries = shard.lock().expect("no holder panics");
        match entries.remove(&command) {
            Some(Entry::Early(at)) => {
                drop(entries);
                self.complete(index, due, at);
                None
            }
            Some(Entry::Awaited { .. }) | None => {
                entries.insert(command, Entry::Awaited { due, wake: Some(wake) });
                self.awaited.fetch_add(1, Ordering::AcqRel);
                Some(heard)
            }
        }
    }

    fn complete(&self, shard: usize, due: u64, at: u64) {
        if self.window.holds(at) {
            self.acked_inside.fetch_add(1, Ordering::Relaxed);
        }
        if self.window.holds(due) {
            self.recorder.record(shard, at.saturating_sub(due));
            if at < self.window.to + GRACE_NS {
                self.on_time.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Waits until everything accepted is acknowledged; `false` when `patience` ends first.
    pub async fn drained(&self, patience: Duration) -> bool {
        let all = async {
            loop {
                let settled = self.settled.notified();
                tokio::pin!(settled);
                settled.as_mut().enable();
                if self.awaited.load(Ordering::Acquire) == 0 {
                    return;
                }
                settled.await;
            }
        };
        tokio::time::timeout(patience, all).await.is_ok()
    }

    /// Commands acknowledged inside the window.
    pub fn acked_inside(&self) -> u64 {
        self.acked_inside.load(Ordering::Relaxed)
    }

    /// Commands due inside the window and acknowledged no later than a second after it.
    pub fn on_time(&self) -> u64 {
        self.on_time.load(Ordering::Relaxed)
    }

    /// Latencies of the commands that were due inside the window.
    pub fn quantiles(&self) -> Quantiles {
        self.recorder.quantiles()
    }

    /// Commands accepted and never acknowledged; acknowledgements of commands nobody here submitted.
    pub fn open_ends(&self) -> (Vec<u128>, usize) {
        let mut unacknowledged = Vec::new();
        let mut unclaimed = 0;
        for shard in &self.shards {
            for (command, entry) in shard.lock().expect("no holder panics").iter() {
                match entry {
                    Entry::Awaited { .. } => unacknowledged.push(*command),
                    Entry::Early(_) => unclaimed += 1,
                }
            }
        }
        (unacknowledged, unclaimed)
    }
}

impl Acks for Ledger {
    fn acked(&self, command: u128, at: u64) {
        let (index, shard) = self.shard(command);
        let mut entries = shard.lock().expect("no holder panics");
        match entries.remove(&command) {
            Some(Entry::Awaited { due, wake }) => {
                drop(entries);
                self.complete(index, due, at);
                if let Some(wake) = wake {
                    _ = wake.send(());
                }
                if self.awaited.fetch_sub(1, Ordering::AcqRel) == 1 {
                    self.settled.notify_waiters();
                }
            }
            Some(Entry::Early(first)) => {
                entries.insert(command, Entry::Early(first));
            }
            None => {
                entries.insert(command, Entry::Early(at));
            }
        }
    }
}

/// Counts acknowledgements of one command that went to many agents.
pub struct Counter {
    agents: usize,
    seen: Mutex<HashMap<u128, Vec<u64>>>,
    complete: Notify,
}

impl Counter {
    /// Every command goes to this many agents.
    pub fn new(agents: usize) -> Counter {
        Counter { agents, seen: Mutex::default(), complete: Notify::new() }
    }

    /// Waits until all agents were told that their result of `command` is kept; the instants, in order
    /// of arrival. `None` when `patience` ends first.
    pub async fn all(&self, command: u128, patience: Duration) -> Option<Vec<u64>> {
        let reached = async {
            loop {
                let complete = self.complete.notified();
                tokio::pin!(complete);
                complete.as_mut().enable();
                if self.heard(command) >= self.agents {
                    return;
                }
                complete.await;
            }
        };
        tokio::time::timeout(patience, reached).await.ok()?;
        self.seen.lock().expect("no holder panics").remove(&command)
    }

    /// How many have acknowledged `command` so far.
    pub fn heard(&self, command: u128) -> usize {
        self.seen.lock().expect("no holder panics").get(&command).map_or(0, Vec::len)
    }
}

impl Acks for Counter {
    fn acked(&self, command: u128, at: u64) {
        let mut seen = self.seen.lock().expect("no holder panics");
        let instants = seen.entry(command).or_default();
        instants.push(at);
        if instants.len() == self.agents {
            self.complete.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn ledger() -> Ledger {
        Ledger::new(Window { from: 10 * MS, to: 20 * MS })
    }

    #[test]
    fn latency_counts_from_the_due_time_whichever_word_comes_first() {
        let ledger = ledger();
        let mut heard = ledger.accepted(1, 11 * MS).expect("not acknowledged yet");
        assert!(heard.try_recv().is_err());
        ledger.acked(1, 13 * MS);
        assert!(heard.try_recv().is_ok());
        ledger.acked(2, 18 * MS);
        assert!(ledger.accepted(2, 14 * MS).is_none());
        let found = ledger.quantiles();
        assert_eq!(found.count, 2);
        assert!((found.min_us - 2000.0).abs() < 4.0 && (found.max_us - 4000.0).abs() < 8.0, "{found:?}");
        assert_eq!((ledger.acked_inside(), ledger.on_time(), ledger.open_ends()), (2, 2, (vec![], 0)));
    }

    #[test]
    fn warm_up_and_stragglers_are_told_apart() {
        let ledger = ledger();
        // Due in the warm-up, done inside: counts for the rate, not for latency.
        ledger.accepted(1, 9 * MS);
        ledger.acked(1, 11 * MS);
        // Due inside, done after: counts for latency, not for the rate.
        ledger.accepted(2, 19 * MS);
        ledger.acked(2, 25 * MS);
        // Due inside, done far too late: not at the offered rate.
        ledger.accepted(3, 19 * MS);
        ledger.acked(3, 20 * MS + GRACE_NS);
        assert_eq!((ledger.acked_inside(), ledger.quantiles().count, ledger.on_time()), (1, 2, 1));
    }

    #[tokio::test]
    async fn what_is_never_acknowledged_stays_on_the_books() {
        let ledger = ledger();
        ledger.accepted(7, 11 * MS);
        ledger.acked(8, 12 * MS);
        assert!(!ledger.drained(Duration::ZERO).await);
        assert_eq!(ledger.open_ends(), (vec![7], 1));
        ledger.acked(7, 12 * MS);
        assert!(ledger.drained(Duration::ZERO).await);
    }

    #[tokio::test]
    async fn a_counter_waits_for_every_agent() {
        let counter = Counter::new(2);
        counter.acked(1, 5);
        counter.acked(2, 6);
        assert_eq!(counter.all(1, Duration::ZERO).await, None);
        counter.acked(1, 9);
        assert_eq!(counter.all(1, Duration::from_secs(5)).await, Some(vec![5, 9]));
    }
}
