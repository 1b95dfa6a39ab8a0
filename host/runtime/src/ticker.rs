//! The clock behind deadlines: an OS thread that moves the engine's epoch every millisecond while a
//! guest runs, and sleeps while none does.
//!
//! Invariant: it is no task of an executor, whose load would make ticks come late and in bursts.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::Engine;

/// From one tick to the next.
pub(crate) const TICK: Duration = Duration::from_millis(1);
/// Ticks without a guest until the clock sleeps: to be woken costs the next guest more than they do.
const LINGERS: u32 = 3;
/// How long an idle clock sleeps before it looks whether its engine still lives.
const IDLE: Duration = Duration::from_secs(1);

/// Keeps the thread's handle; the thread itself holds the engine weakly and ends with it.
pub(crate) struct Ticker {
    running: Arc<AtomicUsize>,
    thread: Thread,
}

impl Ticker {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system refuses another thread.
    pub(crate) fn start(engine: &Engine) -> io::Result<Ticker> {
        let engine = engine.weak();
        let running = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&running);
        let work = move || {
            let mut idle = 0;
            while let Some(engine) = engine.upgrade() {
                engine.increment_epoch();
                drop(engine);
                idle = if seen.load(Ordering::SeqCst) == 0 { idle + 1 } else { 0 };
                if idle > LINGERS {
                    thread::park_timeout(IDLE);
                } else {
                    tick();
                }
            }
        };
        let handle = thread::Builder::new().name("plugin-clock".into()).spawn(work)?;
        Ok(Ticker { running, thread: handle.thread().clone() })
    }

    /// Makes the clock tick until the answer is dropped.
    pub(crate) fn running(&self) -> Running<'_> {
        if self.running.fetch_add(1, Ordering::SeqCst) == 0 {
            self.thread.unpark();
        }
        Running { running: &self.running }
    }
}

#[expect(clippy::disallowed_methods, reason = "this thread is the clock: passing time is its whole job")]
fn tick() {
    thread::sleep(TICK);
}

/// Proof that a guest may be running.
pub(crate) struct Running<'a> {
    running: &'a AtomicUsize,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.running.fetch_sub(1, Ordering::SeqCst);
    }
}
