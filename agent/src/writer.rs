//! A thread that has the disk confirm things. What is pushed in one go, and what gathers while one write is on its
//! way, goes together, and one fsync covers it all. No timers.
//!
//! Full says: nothing is ever dropped or blocked. What gathers is bounded by who asks, because every
//! job belongs to an attempt that was admitted, and admission is bounded.

use std::sync::mpsc::{SyncSender, sync_channel};

use tokio::sync::mpsc;

use crate::log::LogError;

/// What the thread does with jobs.
pub trait Store: Send + 'static {
    /// One thing to do.
    type Job: Send + 'static;
    /// What came of it.
    type Done: Send + 'static;

    /// Does all `jobs`, in order, with as few fsyncs as it can. What it answers is on disk.
    ///
    /// # Errors
    /// [`LogError`]: nothing is known about these jobs; the process must end.
    fn run(&mut self, jobs: Vec<Self::Job>) -> Result<Vec<Self::Done>, LogError>;
}

/// The handle of one writer thread, which ends when the handle is dropped.
#[derive(Debug)]
pub struct Writer<S: Store> {
    waiting: Vec<S::Job>,
    in_flight: bool,
    batches: SyncSender<Vec<S::Job>>,
    done: mpsc::Receiver<Result<Vec<S::Done>, LogError>>,
}

impl<S: Store> Writer<S> {
    /// Starts the thread.
    ///
    /// # Errors
    /// What the system answered to the wish for a thread.
    pub fn start(name: &str, mut store: S) -> std::io::Result<Writer<S>> {
        let (batches, taken) = sync_channel::<Vec<S::Job>>(1);
        let (tell, done) = mpsc::channel(1);
        std::thread::Builder::new().name(name.to_owned()).stack_size(256 * 1024).spawn(move || {
            while let Ok(batch) = taken.recv() {
                let result = store.run(batch);
                let failed = result.is_err();
                if tell.blocking_send(result).is_err() || failed {
                    break;
                }
            }
        })?;
        Ok(Writer { waiting: Vec::new(), in_flight: false, batches, done })
    }

    /// Adds a job, which begins at [`Writer::send`] or after the batch in flight.
    pub fn push(&mut self, job: S::Job) {
        self.waiting.push(job);
    }

    /// Waits for the batch in flight; pends while there is none.
    ///
    /// # Errors
    /// See [`Store::run`].
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn done(&mut self) -> Result<Vec<S::Done>, LogError> {
        if !self.in_flight {
            std::future::pending::<()>().await;
        }
        let result = self.done.recv().await;
        self.in_flight = false;
        let result = result.unwrap_or_else(|| Err(gone()))?;
        self.send();
        Ok(result)
    }

    /// Whether anything is not on disk yet.
    pub fn is_busy(&self) -> bool {
        self.in_flight
    }

    /// Begins what was pushed, unless a batch is in flight.
    pub fn send(&mut self) {
        if self.in_flight || self.waiting.is_empty() {
            return;
        }
        self.in_flight = true;
        // A send fails only when the thread has ended, which `done` then reports.
        let _ = self.batches.send(std::mem::take(&mut self.waiting));
    }
}

fn gone() -> LogError {
    let source = std::io::Error::other("the writer thread has ended");
    LogError::Io { doing: "write", path: "journal".into(), source }
}
