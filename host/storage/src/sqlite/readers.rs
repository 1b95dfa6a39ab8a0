//! Connections for reading: some with a thread each, for what may take long, and some that are used where the caller
//! is, for one row by its key.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError, TryLockError, mpsc};
use std::thread;
use std::time::Duration;

use rusqlite::ErrorCode;
use rusqlite::types::Value;
use tokio::sync::oneshot;

use super::connection::{Opening, Sqlite};
use super::query::{Answer, Error, On, Row};

/// Longest a question waits for its answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Connections that are used where the caller is.
const NEAR: usize = 2;

type Job = Box<dyn FnOnce(&mut Sqlite) + Send>;

/// The connections. They are closed when the last clone of this is dropped.
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
                    job(&mut line);
                }
            })?;
        }
        // Whoever calls from here must not wait for another program's lock.
        let hasty = opening.clone().busy_timeout(Duration::ZERO);
        let near = Arc::new([Mutex::new(hasty.open()?), Mutex::new(hasty.open()?)]);
        Ok(Readers { jobs, near })
    }

    /// For one row by its key: asked where the caller is, unless both connections for that are in use. That reads a
    /// few pages, which are mostly in memory, and costs less than going to a thread and back.
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
        let (reply, answer) = oneshot::channel();
        let job = move |line: &mut Sqlite| {
            // Nobody waits any more when the caller has gone.
            if !reply.is_closed() {
                _ = reply.send(job(line));
            }
        };
        self.jobs.send(Box::new(job)).map_err(|_| Error::NoReader)?;
        let answer = tokio::time::timeout(ANSWER_WITHIN, answer).await;
        answer.map_err(|_| Error::NoReader)?.map_err(|_| Error::NoReader)?
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
