//! Telemetry on its way to the store. Doors hand reports over and never wait. Nobody waits for a report to be stored
//! either, so a batch gathers until it is full or [`GATHER`] is over: a fleet that says little costs a commit a
//! second and not one a report. What finds no room, or a store that stays away, is dropped and counted: at any
//! moment `taken = stored + repeated + dropped + waiting`.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::telemetry::report::{Refusal, Report};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use plan::id::AgentId;
use ports::error::StoreError;
use ports::telemetry::{MAX_BATCH, Telemetry};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::feed::Feed;

/// Reports that wait at most; at a kilobyte or two each some tens of megabytes.
pub const WAITING_MAX: usize = 16_384;
/// Of one agent: whoever floods crowds out nobody but itself.
pub const WAITING_OF_ONE: usize = 8;
/// Longest a report waits for others to be stored with. A crash forgets no more than that, and what the store is at.
pub const GATHER: Duration = Duration::from_secs(1);
/// Batches under way: while one waits for the disk, the next is prepared.
const AT_ONCE: usize = 2;
/// A batch that the store did not take for so long is given up: what is older than that would miss its roll-up.
const GIVE_UP: Duration = Duration::from_secs(45);
/// Before a batch is tried again.
const PAUSE: Duration = Duration::from_millis(500);

/// The way in.
pub struct Ingest {
    telemetry: Arc<dyn Telemetry>,
    onward: Arc<Feed>,
    queue: Mutex<Queue>,
    wake: Notify,
    counts: Counts,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Report>,
    of_agent: HashMap<AgentId, usize>,
    /// When the first of those that wait came, or others were taken away before it.
    since: Option<Instant>,
    /// One agent has no room left before the next batch.
    crowded: bool,
    /// Being written.
    under_way: usize,
}

impl Queue {
    fn has_room(&self, agent: AgentId) -> bool {
        self.waiting.len() < WAITING_MAX && self.of_agent.get(&agent).is_none_or(|count| *count < WAITING_OF_ONE)
    }

    /// Whether nothing is won by waiting for more.
    fn is_ripe(&self) -> bool {
        self.crowded || self.waiting.len() >= MAX_BATCH
    }
}

#[derive(Default)]
struct Counts {
    taken: AtomicU64,
    stored: AtomicU64,
    repeated: AtomicU64,
    dropped: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
}

/// What became of reports since the host started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Believed, and handed over.
    pub taken: u64,
    /// On disk.
    pub stored: u64,
    /// On disk already.
    pub repeated: u64,
    /// Lost for want of room, or of a store.
    pub dropped: u64,
    /// Not there yet.
    pub waiting: u64,
    /// Not believed, by reason.
    pub refused: Vec<(Refusal, u64)>,
    /// On disk, and seen by no rule: they came faster than rules judge.
    pub passed_over: u64,
}

impl Ingest {
    /// Nothing is written until it runs. What is stored goes `onward` to be judged.
    pub fn new(telemetry: Arc<dyn Telemetry>, onward: Arc<Feed>) -> Ingest {
        Ingest { telemetry, onward, queue: Mutex::default(), wake: Notify::new(), counts: Counts::default() }
    }

    /// Takes a report over. Never waits.
    pub fn take(&self, report: Report) {
        self.counts.taken.fetch_add(1, Ordering::Relaxed);
        let mut queue = self.queue();
        if !queue.has_room(report.agent) {
            drop(queue);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let was_ripe = queue.is_ripe();
        let of_agent = queue.of_agent.entry(report.agent).or_default();
        *of_agent += 1;
        queue.crowded |= *of_agent >= WAITING_OF_ONE;
        queue.waiting.push_back(report);
        // Between the first and the one that makes it ripe nobody has to be woken.
        let wake = queue.waiting.len() == 1 || (!was_ripe && queue.is_ripe());
        queue.since.get_or_insert_with(Instant::now);
        drop(queue);
        if wake {
            self.wake.notify_one();
        }
    }

    /// Counts a report of an agent as taken and lost if there is no room for it; `false` when there is. Asked before
    /// a report is read: under a flood, reading what is dropped would take the time that storing needs.
    pub fn loses(&self, agent: AgentId) -> bool {
        if self.queue().has_room(agent) {
            return false;
        }
        self.counts.taken.fetch_add(1, Ordering::Relaxed);
        self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Counts a report that is not believed.
    pub fn refuse(&self, why: Refusal) {
        let place = Refusal::ALL.iter().position(|known| *known == why);
        if let Some(count) = place.and_then(|place| self.counts.refused.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What became of reports.
    pub fn tally(&self) -> Tally {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { taken, stored, repeated, dropped, refused } = &self.counts;
        let waiting = {
            let queue = self.queue();
            queue.waiting.len() + queue.under_way
        };
        Tally {
            taken: read(taken),
            stored: read(stored),
            repeated: read(repeated),
            dropped: read(dropped),
            waiting: waiting as u64,
            refused: Refusal::ALL.into_iter().zip(refused.iter().map(read)).collect(),
            passed_over: self.onward.passed_over(),
        }
    }

    /// Writes until `stop`, and then once more what waits. Rules see batches in the order they were taken in.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut writing = FuturesOrdered::new();
        loop {
            tokio::select! {
                biased;
                Some(stored) = writing.next() => self.onward.give(stored),
                () = self.gathered(&stop), if writing.len() < AT_ONCE => {
                    let batch = self.next_batch();
                    if batch.is_empty() {
                        break;
                    }
                    writing.push_back(self.write(batch, &stop));
                }
            }
        }
        while let Some(stored) = writing.next().await {
            self.onward.give(stored);
        }
    }

    /// Waits until there is a batch to write, or nothing and `stop`. Cancelled, it loses nothing.
    async fn gathered(&self, stop: &CancellationToken) {
        loop {
            let until = {
                let queue = self.queue();
                if queue.is_ripe() || stop.is_cancelled() {
                    return;
                }
                queue.since.map(|since| since + GATHER)
            };
            let over = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.wake.notified() => {}
                () = over => return,
                () = stop.cancelled() => return,
            }
        }
    }

    fn next_batch(&self) -> Vec<Report> {
        let mut queue = self.queue();
        let n = queue.waiting.len().min(MAX_BATCH);
        let batch: Vec<Report> = queue.waiting.drain(..n).collect();
        for report in &batch {
            if let Some(count) = queue.of_agent.get_mut(&report.agent) {
                *count -= 1;
                if *count == 0 {
                    queue.of_agent.remove(&report.agent);
                }
            }
        }
        queue.crowded = false;
        queue.since = (!queue.waiting.is_empty()).then(Instant::now);
        queue.under_way += batch.len();
        batch
    }

    /// Answers what rules are to see.
    async fn write(&self, batch: Vec<Report>, stop: &CancellationToken) -> Vec<Report> {
        let size = batch.len() as u64;
        let give_up = Instant::now() + GIVE_UP;
        let outcome = loop {
            match self.telemetry.store_reports(&batch).await {
                Err(StoreError::Unavailable(_)) if Instant::now() < give_up && !stop.is_cancelled() => {
                    tokio::select! {
                        () = tokio::time::sleep(PAUSE) => {}
                        () = stop.cancelled() => {}
                    }
                }
                outcome => break outcome,
            }
        };
        let n = batch.len();
        let stored = match outcome {
            Ok(new) => {
                self.counts.stored.fetch_add(new, Ordering::Relaxed);
                self.counts.repeated.fetch_add(size.saturating_sub(new), Ordering::Relaxed);
                batch
            }
            Err(error) => {
                tracing::error!(%error, reports = size, "telemetry is lost: the store did not take it");
                self.counts.dropped.fetch_add(size, Ordering::Relaxed);
                Vec::new()
            }
        };
        // Last: whoever sees nothing wait finds everything counted.
        self.queue().under_way -= n;
        stored
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "ingest/tests.rs"]
mod tests;
