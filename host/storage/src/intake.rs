//! The one queue before the writer, and natural batching: the writer takes what has gathered while
//! its last commit was on the way to the disk.
//!
//! Two kinds of entries. *Waited* ones hold a permit until they are answered and make the writer go at
//! once; when no permit comes free in [`ROOM_WAIT`] the caller is told that the store is full. *Lazy*
//! ones wait for nobody: they ride with the next commit, or go alone after [`LAZY`].
//!
//! Invariant: entries leave in the order they came; offering a lazy entry never waits.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Longest a lazy entry waits when nothing else comes. Nobody waits for it, so this is in no hot path;
/// it bounds what a crash may forget.
pub(crate) const LAZY: Duration = Duration::from_millis(20);
/// Longest a caller waits for room before it is told that the store is full.
pub(crate) const ROOM_WAIT: Duration = Duration::from_secs(2);
/// Waited entries in the queue and under way.
const WAITED: usize = 16 * 1024;
/// Lazy entries without bytes in the queue; past this they are dropped.
const NOTES: usize = 64 * 1024;
/// Bytes of output in the queue; past this chunks are dropped and counted.
const BYTES: usize = 64 * 1024 * 1024;
/// Bytes of output that make the writer go although nobody waits.
const EAGER_BYTES: usize = 1024 * 1024;
/// Rows after which a batch is full; the rest makes the next one.
const BATCH_ROWS: usize = 2048;
/// Bytes of output after which a batch is full.
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// How often the writer lets callers that are ready to run go first, as long as more come.
const COURTESY: usize = 4;

/// Why an entry was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// No room in time.
    Full,
    /// The writer has ended.
    Closed,
}

/// The queue. `J` is what is queued.
pub(crate) struct Intake<J> {
    queue: Mutex<Queue<J>>,
    wake: Notify,
    room: Arc<Semaphore>,
    room_wait: Duration,
}

/// One thing to write.
pub(crate) struct Entry<J> {
    /// The thing.
    pub job: J,
    rows: usize,
    kind: Kind,
}

/// An entry without its thing, to be joined with another form of it.
pub(crate) struct Rest {
    rows: usize,
    kind: Kind,
}

impl<J> Entry<J> {
    /// The thing and the rest.
    pub fn split(self) -> (J, Rest) {
        (self.job, Rest { rows: self.rows, kind: self.kind })
    }

    /// An entry that nobody waits for.
    pub fn note(job: J, rows: usize) -> Entry<J> {
        Entry { job, rows, kind: Kind::Note }
    }

    /// The same entry with its thing in another form.
    pub fn map<K>(self, form: impl FnOnce(J) -> K) -> Entry<K> {
        let (job, rest) = self.split();
        rest.join(form(job))
    }
}

impl Rest {
    /// Makes an entry again.
    pub fn join<J>(self, job: J) -> Entry<J> {
        Entry { job, rows: self.rows, kind: self.kind }
    }
}

enum Kind {
    Waited { _permit: OwnedSemaphorePermit },
    Note,
    Bytes(usize),
}

struct Queue<J> {
    entries: VecDeque<Entry<J>>,
    waited: usize,
    notes: usize,
    bytes: usize,
    /// When the oldest lazy entry came into a queue without any.
    lazy_since: Option<Instant>,
    closed: bool,
}

enum Next {
    Go,
    Wait(Option<Instant>),
    End,
}

impl<J> Queue<J> {
    fn count(&mut self, entry: &Entry<J>) {
        match entry.kind {
            Kind::Waited { .. } => self.waited += 1,
            Kind::Note => self.notes += 1,
            Kind::Bytes(bytes) => self.bytes += bytes,
        }
        if !matches!(entry.kind, Kind::Waited { .. }) && self.lazy_since.is_none() {
            self.lazy_since = Some(Instant::now());
        }
    }

    fn is_urgent(&self) -> bool {
        self.waited > 0 || self.bytes >= EAGER_BYTES
    }

    /// Takes one batch from the front.
    fn drain(&mut self) -> Vec<Entry<J>> {
        let (mut rows, mut bytes, mut n) = (0, 0, 0);
        for entry in &self.entries {
            rows += entry.rows;
            bytes += if let Kind::Bytes(more) = entry.kind { more } else { 0 };
            if n > 0 && (rows > BATCH_ROWS || bytes > BATCH_BYTES) {
                break;
            }
            n += 1;
        }
        let batch: Vec<Entry<J>> = self.entries.drain(..n).collect();
        for entry in &batch {
            match entry.kind {
                Kind::Waited { .. } => self.waited -= 1,
                Kind::Note => self.notes -= 1,
                Kind::Bytes(bytes) => self.bytes -= bytes,
            }
        }
        if self.notes == 0 && self.bytes == 0 {
            self.lazy_since = None;
        }
        batch
    }
}

impl<J> Intake<J> {
    /// An empty, open queue.
    pub fn new() -> Intake<J> {
        Intake::with(WAITED, ROOM_WAIT)
    }

    fn with(waited: usize, room_wait: Duration) -> Intake<J> {
        let queue = Queue { entries: VecDeque::new(), waited: 0, notes: 0, bytes: 0, lazy_since: None, closed: false };
        Intake { queue: Mutex::new(queue), wake: Notify::new(), room: Arc::new(Semaphore::new(waited)), room_wait }
    }

    /// Every change of the queue is whole before anything can panic, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, Queue<J>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues something that its caller waits for; `rows` is about how many rows it writes.
    pub async fn wait_in(&self, job: J, rows: usize) -> Result<(), Refused> {
        let permit = match Arc::clone(&self.room).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let room = Arc::clone(&self.room).acquire_owned();
                tokio::time::timeout(self.room_wait, room)
                    .await
                    .map_err(|_| Refused::Full)?
                    .map_err(|_| Refused::Closed)?
            }
        };
        self.push(Entry { job, rows, kind: Kind::Waited { _permit: permit } })
    }

    /// Queues something nobody waits for.
    pub fn note(&self, job: J, rows: usize) -> Result<(), Refused> {
        self.push(Entry { job, rows, kind: Kind::Note })
    }

    /// Queues `bytes` of output nobody waits for.
    pub fn bytes(&self, job: J, bytes: usize) -> Result<(), Refused> {
        self.push(Entry { job, rows: 1, kind: Kind::Bytes(bytes) })
    }

    fn push(&self, entry: Entry<J>) -> Result<(), Refused> {
        let mut queue = self.lock();
        if queue.closed {
            return Err(Refused::Closed);
        }
        let full = match entry.kind {
            Kind::Waited { .. } => false,
            Kind::Note => queue.notes >= NOTES,
            Kind::Bytes(bytes) => queue.bytes + bytes > BYTES,
        };
        if full {
            return Err(Refused::Full);
        }
        let was_idle = queue.entries.is_empty();
        let was_urgent = queue.is_urgent();
        queue.count(&entry);
        queue.entries.push_back(entry);
        let wake = was_idle || (!was_urgent && queue.is_urgent());
        drop(queue);
        if wake {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Puts entries of a failed batch back in front, oldest first. `false` when the queue is closed:
    /// then there is no later to try again at.
    pub fn put_back(&self, entries: Vec<Entry<J>>) -> bool {
        let mut queue = self.lock();
        if queue.closed {
            return false;
        }
        for entry in entries.into_iter().rev() {
            queue.count(&entry);
            queue.entries.push_front(entry);
        }
        true
    }

    /// The next batch, as soon as there is reason to write one; `None` when `stop` was asked for and
    /// everything that came before it has been taken.
    pub async fn take(&self, stop: &CancellationToken) -> Option<Vec<Entry<J>>> {
        loop {
            let deadline = match self.look() {
                Next::Go => {
                    self.let_others_in().await;
                    return Some(self.lock().drain());
                }
                Next::End => return None,
                Next::Wait(deadline) => deadline,
            };
            let lazy = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.wake.notified() => {}
                () = lazy => {}
                () = stop.cancelled() => self.lock().closed = true,
            }
        }
    }

    /// Waits until `until`, but no longer than until somebody waits for a write or `stop` is asked for.
    pub async fn pause(&self, until: Instant, stop: &CancellationToken) {
        while self.lock().waited == 0 && !stop.is_cancelled() {
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep_until(until) => break,
                () = stop.cancelled() => break,
            }
        }
        // The wake-up may have been meant for `take`.
        self.wake.notify_one();
    }

    fn look(&self) -> Next {
        let queue = self.lock();
        if queue.entries.is_empty() {
            return if queue.closed { Next::End } else { Next::Wait(None) };
        }
        let due = queue.lazy_since.map(|since| since + LAZY);
        if queue.is_urgent() || queue.closed || due.is_none_or(|due| due <= Instant::now()) {
            return Next::Go;
        }
        Next::Wait(due)
    }

    /// Callers answered by the last commit are about to come back with their next write; without
    /// this the first of them would get a commit of its own. Costs an idle store one empty turn.
    async fn let_others_in(&self) {
        let mut before = self.lock().entries.len();
        for _ in 0..COURTESY {
            tokio::task::yield_now().await;
            let now = self.lock().entries.len();
            if now == before {
                break;
            }
            before = now;
        }
    }

    /// Ends the queue: nothing more is taken in, and what is in it is dropped.
    pub fn close(&self) {
        let dropped = {
            let mut queue = self.lock();
            queue.closed = true;
            std::mem::take(&mut queue.entries)
        };
        drop(dropped);
        self.room.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(batch: Option<Vec<Entry<u32>>>) -> Option<Vec<u32>> {
        batch.map(|batch| batch.into_iter().map(|entry| entry.job).collect())
    }

    #[tokio::test]
    async fn a_batch_is_everything_that_waits_in_the_order_it_came() {
        let (intake, stop) = (Intake::new(), CancellationToken::new());
        intake.note(1, 1).expect("room");
        intake.wait_in(2, 1).await.expect("room");
        intake.bytes(3, 10).expect("room");
        assert_eq!(jobs(intake.take(&stop).await), Some(vec![1, 2, 3]));
    }

    #[tokio::test]
    async fn a_lone_note_goes_after_a_while() {
        let (intake, stop) = (Intake::new(), CancellationToken::new());
        let begun = Instant::now();
        intake.note(1, 1).expect("room");
        assert!(matches!(intake.look(), Next::Wait(Some(_))));
        assert_eq!(jobs(intake.take(&stop).await), Some(vec![1]));
        assert!(begun.elapsed() >= LAZY, "{:?}", begun.elapsed());
        assert!(matches!(intake.look(), Next::Wait(None)));
    }

    #[tokio::test]
    async fn a_waited_write_goes_at_once() {
        let intake = Intake::new();
        intake.wait_in(1, 1).await.expect("room");
        assert!(matches!(intake.look(), Next::Go));
    }

    #[tokio::test]
    async fn much_output_goes_at_once() {
        let intake = Intake::new();
        intake.bytes(1, EAGER_BYTES - 1).expect("room");
        assert!(matches!(intake.look(), Next::Wait(Some(_))));
        intake.bytes(2, 1).expect("room");
        assert!(matches!(intake.look(), Next::Go));
    }

    #[tokio::test]
    async fn callers_that_are_ready_share_the_batch_of_the_first() {
        let (intake, stop) = (Arc::new(Intake::new()), CancellationToken::new());
        let mut callers = tokio::task::JoinSet::new();
        for n in 0..100 {
            let intake = Arc::clone(&intake);
            callers.spawn(async move { intake.wait_in(n, 1).await });
        }
        let batch = jobs(intake.take(&stop).await).expect("open");
        assert_eq!(batch.len(), 100);
    }

    #[tokio::test]
    async fn a_full_queue_says_so_after_a_bounded_wait() {
        let (intake, stop) = (Intake::with(2, Duration::from_millis(1)), CancellationToken::new());
        for n in 0..2 {
            intake.wait_in(n, 1).await.expect("room");
        }
        assert_eq!(intake.wait_in(2, 1).await, Err(Refused::Full));
        drop(intake.take(&stop).await);
        assert_eq!(intake.wait_in(3, 1).await, Ok(()));
    }

    #[tokio::test]
    async fn output_past_its_share_of_memory_is_refused_at_once() {
        let (intake, stop) = (Intake::new(), CancellationToken::new());
        assert_eq!(intake.bytes(1, BYTES), Ok(()));
        assert_eq!(intake.bytes(2, 1), Err(Refused::Full));
        assert_eq!(intake.note(3, 1), Ok(()));
        assert_eq!(jobs(intake.take(&stop).await), Some(vec![1]));
        assert_eq!(intake.bytes(4, 1), Ok(()));
    }

    #[tokio::test]
    async fn stopping_first_writes_what_is_there() {
        let (intake, stop) = (Intake::new(), CancellationToken::new());
        intake.note(1, 1).expect("room");
        stop.cancel();
        assert_eq!(jobs(intake.take(&stop).await), Some(vec![1]));
        assert_eq!(jobs(intake.take(&stop).await), None);
        assert_eq!(intake.wait_in(2, 1).await, Err(Refused::Closed));
    }

    #[tokio::test]
    async fn a_pause_ends_when_somebody_waits() {
        let (intake, stop) = (Arc::new(Intake::new()), CancellationToken::new());
        intake.note(1, 1).expect("room");
        let far = Instant::now() + Duration::from_secs(3600);
        let (pausing, waiting) = tokio::join!(intake.pause(far, &stop), intake.wait_in(2, 1));
        assert_eq!((pausing, waiting), ((), Ok(())));
        assert_eq!(jobs(intake.take(&stop).await), Some(vec![1, 2]));
    }

    #[tokio::test]
    async fn what_is_put_back_comes_first_again() {
        let (intake, stop) = (Intake::new(), CancellationToken::new());
        for n in 1..=2 {
            intake.bytes(n, 10).expect("room");
        }
        let batch = intake.take(&stop).await.expect("open");
        intake.bytes(3, 10).expect("room");
        assert!(intake.put_back(batch));
        assert_eq!(jobs(intake.take(&stop).await), Some(vec![1, 2, 3]));
    }
}
