//! The embedded store: SQLite in WAL mode with `synchronous=FULL`, one writer, many readers.
//!
//! [`open`] gives the handle and the [`Writer`]; the handle answers reads by itself and queues writes,
//! and nothing is written until somebody runs the writer.

mod advance;
mod agents;
mod alerts;
mod api_keys;
mod audit;
mod bulk;
mod channels;
mod commands;
mod connection;
mod copier;
mod failure;
mod delivery;
mod groups;
mod held;
mod history;
mod invocations;
mod journal;
mod keys;

mod list;
mod lock;
mod logins;
mod migrate;
mod open;
mod output;
#[cfg(test)]
pub(crate) mod plans;
mod plugins;
mod query;
mod readers;
mod replies;
mod restore;
mod rows;
mod silences;
mod snapshot;
mod telemetry;
mod tokens;
mod users;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use ports::error::StoreError;
use ports::seal::Notary;
use tokio::sync::oneshot;

use crate::intake::{Intake, ROOM_WAIT, Refused};
use crate::job::{BoxFuture, ColdOp, Job, Reply};
use crate::staged::Staged;
pub use crate::tally::Counters;
use crate::tally::Tally;
use connection::Sqlite;
use copier::Copier;
use failure::Failure;
pub use lock::Lock;
pub use migrate::SchemaError;
pub use open::{OpenError, open};
pub use query::Error;
use readers::Readers;
pub use restore::{RestoredSqlite, beside};
pub use snapshot::{Contents, inspect, snapshot};
pub use writer::Writer;

/// Where the store is and how it is used.
#[derive(Clone, Debug)]
pub struct Options {
    /// The database file; made with mode 0600 when there is none. Beside it stand `-wal`, `-shm` and `.lock`.
    pub path: PathBuf,
    /// Connections for reading, at least 1. Each is a thread.
    pub readers: u32,
    /// Longest a statement waits for a lock that another program holds on the file.
    pub busy_timeout: Duration,
    /// Seals the audit log. Without it the log is not sealed, and whoever verifies it finds that.
    pub notary: Option<Arc<dyn Notary>>,
}

impl Options {
    /// Four readers, five seconds, and no seals.
    pub fn new(path: impl Into<PathBuf>) -> Options {
        Options { path: path.into(), readers: 4, busy_timeout: Duration::from_secs(5), notary: None }
    }
}

/// The store. Cheap to clone; every port of it is answered by this handle.
#[derive(Clone)]
pub struct SqliteStore {
    // Dropped first: whoever closes the copier's file gives back what locks this process has on it.
    readers: Readers,
    shared: Arc<Shared>,
}

/// What handles and writer share.
struct Shared {
    intake: Intake<Job<Sqlite>>,
    tally: Tally,
    copier: Copier,
    /// The number of the last committed event.
    last_seq: AtomicU64,
    /// Seals what is pruned.
    notary: Option<Arc<dyn Notary>>,
    /// Held as long as anybody has the file open, so that no second host takes it for its own.
    _lock: Lock,
}

impl SqliteStore {
    /// What the writer has done so far.
    pub fn counters(&self) -> Counters {
        self.shared.tally.read()
    }

    /// Queues a write and waits until it is on disk.
    async fn write<T>(&self, rows: usize, job: impl FnOnce(Reply<T>) -> Job<Sqlite>) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.shared.intake.wait_in(job(reply), rows).await.map_err(refused)?;
        let stopped = || StoreError::Unavailable("the writer stopped before it answered".to_owned());
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Queues a rare write: `work` runs inside the next transaction, in a savepoint of its own.
    async fn cold<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a mut Sqlite, &'a mut Staged) -> BoxFuture<'a, Result<T, Failure>> + Send + 'static,
    {
        self.write(4, |reply| Job::Cold(Box::new(ColdOp::new(work, reply)))).await
    }
}

fn refused(refused: Refused) -> StoreError {
    StoreError::Unavailable(match refused {
        Refused::Full => format!("no room for another write within {} s", ROOM_WAIT.as_secs()),
        Refused::Closed => "the writer has stopped".to_owned(),
    })
}

/// One host has the store for itself.
impl ports::hosts::Hosts for SqliteStore {}
