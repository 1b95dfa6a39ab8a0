//! Connections for reading: some with a thread each, for what may take long, and some that are used where the caller
//! is, for one row by its key.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError, mpsc};
use std::thread;
use std::time::Duration;

use rusqlite::ErrorCode;
use rusqlite::types::Value;
use tokio::sync::oneshot;

use super::connection::{Opening, Sqlite};
use super::query::{Answer, Error, On, Row};

/// Longest a question waits until a connection is free for it.
const FREE_WITHIN: Duration = Duration::from_secs(30);
/// Connections that are used where the caller is.
const NEAR: usize = 2;

type Job = Box<dyn FnOnce(&mut Sqlite) + Send>;

/// The connections. Those with a thread are closed by it, soon after the last clone of this is dropped.
#[derive(Clone)]
pub(super) struct Readers {
    jobs: mpsc::Sender<Job>,
    near: Arc<[Mutex<Sqlite>; NEAR]>,
}

impl Readers {
    /// Opens `threads` connections, each on a thread of its own, and those besides.
    pub fn open(opening: &Opening, threads: u32) -> Result<Readers, Error> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..threads.max(1) {
            let (mut line, queue) = (opening.open()?, Arc::clone(&queue));
            let next = move || queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok();
            thread::Builder::new().name(format!("sqlite-reader-{number}")).spawn(move || {
                while let Some(job) = next() {
                    if catch_unwind(AssertUnwindSafe(|| job(&mut line))).is_err() {
                        tracing::error!("a read panicked");
                    }
                }
            })?;
        }
        // Whoever calls from here must not wait for another program's lock.
        let hasty = opening.clone().busy_timeout(Duration::ZERO);
        let near = Arc::new([Mutex::new(hasty.open()?), Mutex::new(hasty.open()?)]);
        Ok(Readers { jobs, near })
    }

    /// For one row by its key: asked where the caller is, unless both connections for that are in use. That reads a
    /// few pages, which are mostly in memory, and costs less than going to a thread and back; a row with a large result is
    /// on more of them, and where they are not in memory a thread that all share waits for the disk.
    pub fn near(&self) -> Near<'_> {
        Near(self)
    }

    /// Runs a statement for as long as `take` wants another of its rows, and answers what it has made of them.
    pub async fn each<T: Send + 'static>(
        &self,
        (text, values): (Cow<'_, str>, Vec<Value>),
        mut made: T,
        mut take: impl FnMut(&mut T, Row) -> bool + Send + 'static,
    ) -> Result<T, Error> {
        let text = text.into_owned();
        let job = move |line: &mut Sqlite| line.each(&text, &values, |row| take(&mut made, row)).map(|()| made);
        self.told(job).await
    }

    async fn told<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Sqlite) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let ((reply, answer), (begun, begins)) = (oneshot::channel(), oneshot::channel::<()>());
        let caller = Caller::default();
        let has_left = caller.0.clone();
        let job = move |line: &mut Sqlite| {
            // Nobody waits any more when the caller has gone: neither for its turn nor for its end.
            if has_left.load(Ordering::Relaxed) {
                return;
            }
            drop(begun);
            let watch = has_left.clone();
            let answer = line.until(Some(move || watch.load(Ordering::Relaxed))).and_then(|()| job(line));
            _ = line.until(None::<fn() -> bool>);
            _ = reply.send(answer);
        };
        self.jobs.send(Box::new(job)).map_err(|_| Error::Lost)?;
        // Closed without a word when it begins.
        _ = tokio::time::timeout(FREE_WITHIN, begins).await.map_err(|_| Error::NoReader)?;
        answer.await.map_err(|_| Error::Lost)?
    }
}

/// Whether whoever asked has left, answered or not.
#[derive(Default)]
struct Caller(Arc<AtomicBool>);

impl Drop for Caller {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl On for &Readers {
    async fn run(self, text: Cow<'_, str>, values: Vec<Value>) -> Result<Answer, Error> {
        let text = text.into_owned();
        self.told(move |line| line.ask(&text, &values)).await
    }
}

/// See [`Readers::near`].
pub(super) struct Near<'a>(&'a Readers);

impl Near<'_> {
    fn ask(&self, text: &str, values: &[Value]) -> Option<Result<Answer, Error>> {
        let mut line = self.0.near.iter().find_map(|line| match line.try_lock() {
            Ok(line) => Some(line),
            Err(TryLockError::Poisoned(line)) => Some(line.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        })?;
        let answer = line.ask(text, values);
        let is_busy = |error: &Error| matches!(error, Error::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy));
        Some(answer).filter(|answer| !answer.as_ref().is_err_and(is_busy))
    }
}

impl On for Near<'_> {
    async fn run(self, text: Cow<'_, str>, values: Vec<Value>) -> Result<Answer, Error> {
        match self.ask(&text, &values) {
            Some(answer) => answer,
            None => self.0.run(text, values).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::query::{query, query_scalar};
    use super::*;

    const LONG: &str = "with recursive n (n) as (select 1 union all select n + 1 from n) select count(*) from n";

    fn readers(threads: u32) -> (tempfile::TempDir, Readers) {
        let folder = tempfile::tempdir().expect("a folder");
        let opening = Opening::writing(&folder.path().join("read.db"), Duration::ZERO).creating();
        (folder, Readers::open(&opening, threads).expect("opens"))
    }

    #[tokio::test]
    async fn who_has_left_is_not_read_for_any_more() {
        let (_folder, readers) = readers(1);
        for _ in 0..3 {
            tokio::select! {
                biased;
                endless = query(LONG).fetch_all(&readers) => panic!("it ends: {endless:?}"),
                () = tokio::task::yield_now() => {}
            }
        }
        let one: i64 = query_scalar("select 1").fetch_one(&readers).await.expect("a reader comes free");
        assert_eq!(one, 1);
    }

    #[tokio::test]
    async fn a_panic_costs_one_answer() {
        let (_folder, readers) = readers(1);
        let panics = readers.each(("select 1".into(), Vec::new()), (), |(), _| panic!("on purpose"));
        assert!(matches!(panics.await, Err(Error::Lost)));
        let one: i64 = query_scalar("select 1").fetch_one(&readers).await.expect("the reader goes on");
        assert_eq!(one, 1);
    }
}
