//! The production store: PostgreSQL 15 or later, shared by any number of hosts.
//!
//! [`open`] gives the handle and the [`Writer`]; the handle answers reads by itself and queues writes,
//! and nothing is written until somebody runs the writer.
//!
//! While the server is away every caller is answered within `ANSWER_WITHIN`; what nobody waits for
//! stays queued, within the bounds of the queue, and is written when the server is back.

mod advance;
mod agents;
mod alerts;
mod api_keys;
mod audit;
mod channels;
mod commands;
mod cure;
mod failure;
mod delivery;
mod groups;
mod hosts;
mod held;
mod history;
mod invocations;
mod journal;
mod keys;
mod line;
mod list;
mod micros;
mod open;
mod output;
mod days;
mod plain;
mod pruning;
#[cfg(test)]
pub(crate) mod plans;
mod read;
mod readers;
mod plugins;
mod replies;
mod restore;
mod rows;
mod silences;
mod telemetry;
mod together;
mod tokens;
mod logins;
mod users;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use plan::id::CommandId;
use ports::error::StoreError;
use ports::seal::Notary;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::intake::{Intake, ROOM_WAIT, Refused};
use crate::job::{BoxFuture, Cold, Job, Reply, Undo};
use crate::staged::Staged;
pub use crate::tally::Counters;
use crate::tally::Tally;
use failure::Failure;
pub use open::{OpenError, open};
use readers::Readers;
pub use restore::RestoredPostgres;
use together::Together;
pub use writer::Writer;

/// Longest a caller waits for its write. A command still queued then is taken back; of one that is under
/// way it is said that its fate is not known.
const ANSWER_WITHIN: Duration = Duration::from_millis(2_800);

/// Where the store is and how it is used.
#[derive(Clone)]
pub struct Options {
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=…`; the database exists.
    pub url: String,
    /// Connections at most, at least 2; one of them writes.
    pub connections: u32,
    /// Longest wait for a connection, a new one or a free one.
    pub connect_timeout: Duration,
    /// Longest that one statement may run.
    pub statement_timeout: Duration,
    /// Open although the server may lose what it said was committed.
    pub allow_unsafe_durability: bool,
    /// Seals the audit log. Without it the log is not sealed, and whoever verifies it finds that.
    pub notary: Option<Arc<dyn Notary>>,
    /// How many days audit entries are kept: how wide the partitions of the log are made. For ever when absent.
    pub audit_days: Option<u32>,
}

impl Options {
    /// Twenty connections, two seconds to get one, ten seconds a statement, nothing unsafe, and no seals.
    pub fn new(url: impl Into<String>) -> Options {
        Options {
            url: url.into(),
            connections: 20,
            connect_timeout: Duration::from_secs(2),
            statement_timeout: Duration::from_secs(10),
            allow_unsafe_durability: false,
            notary: None,
            audit_days: None,
        }
    }
}

/// Without the URL, which may hold a password.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options {
            url: _,
            connections,
            connect_timeout,
            statement_timeout,
            allow_unsafe_durability,
            notary,
            audit_days,
        } = self;
        f.debug_struct("Options")
            .field("connections", connections)
            .field("connect_timeout", connect_timeout)
            .field("statement_timeout", statement_timeout)
            .field("allow_unsafe_durability", allow_unsafe_durability)
            .field("notary", notary)
            .field("audit_days", audit_days)
            .finish_non_exhaustive()
    }
}

/// The store. Cheap to clone; every port of it is answered by this handle.
#[derive(Clone)]
pub struct PostgresStore {
    shared: Arc<Shared>,
    readers: Arc<Readers>,
    /// Longest a read may take beside the wait for a connection.
    read_within: Duration,
    /// Those who wait for one command.
    by_id: Together<CommandId, PgRow>,
}

/// What handles and writer share.
struct Shared {
    intake: Intake<Job<PgConnection>>,
    tally: Tally,
    /// This start of this host.
    node: Uuid,
    /// Seals the audit log.
    notary: Option<Arc<dyn Notary>>,
    /// How many days audit entries are kept.
    audit_days: Option<u32>,
    /// Whether nothing is written while the server does not sync it.
    must_sync: bool,
    /// Batches of telemetry that are written with care yet, for one held what was there already.
    wary: AtomicU32,
}

impl PostgresStore {
    /// What the writer has done so far.
    pub fn counters(&self) -> Counters {
        self.shared.tally.read()
    }

    /// Queues a write and waits until it is on disk.
    async fn write<T>(&self, rows: usize, job: impl FnOnce(Reply<T>) -> Job<PgConnection>) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let written = async {
            self.shared.intake.wait_in(job(reply), rows).await.map_err(refused)?;
            let stopped = || StoreError::Unavailable("the writer stopped before it answered".to_owned());
            answer.await.unwrap_or_else(|_| Err(stopped()))
        };
        let late = || {
            let ms = ANSWER_WITHIN.as_millis();
            StoreError::Unavailable(format!("the database timed out: the write was not answered within {ms} ms"))
        };
        tokio::time::timeout(ANSWER_WITHIN, written).await.unwrap_or_else(|_| Err(late()))
    }

    /// Queues a rare write: `work` runs inside the next transaction, in a savepoint of its own, and once
    /// more each time that transaction has to be tried again.
    async fn cold<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'a> Fn(&'a mut PgConnection, &'a mut Staged) -> BoxFuture<'a, Result<T, Failure>> + Send + 'static,
    {
        self.write(4, |reply| Job::Cold(Box::new(Repeated { work, outcome: None, reply, is_lone: false }))).await
    }

    /// The same in a transaction of its own, for what takes locks in another order than the rest of a batch does.
    async fn lone<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'a> Fn(&'a mut PgConnection, &'a mut Staged) -> BoxFuture<'a, Result<T, Failure>> + Send + 'static,
    {
        self.write(4, |reply| Job::Cold(Box::new(Repeated { work, outcome: None, reply, is_lone: true }))).await
    }
}

/// A rare write made of a closure that can be run again.
struct Repeated<F, T> {
    work: F,
    outcome: Option<Result<T, StoreError>>,
    reply: Reply<T>,
    is_lone: bool,
}

impl<F, T> Cold<PgConnection> for Repeated<F, T>
where
    F: for<'a> Fn(&'a mut PgConnection, &'a mut Staged) -> BoxFuture<'a, Result<T, Failure>> + Send,
    T: Send,
{
    fn run<'a>(
        &'a mut self,
        connection: &'a mut PgConnection,
        staged: &'a mut Staged,
    ) -> BoxFuture<'a, Result<(), Undo>> {
        let work = (self.work)(connection, staged);
        let outcome = &mut self.outcome;
        Box::pin(async move {
            match work.await {
                Ok(answer) => {
                    *outcome = Some(Ok(answer));
                    Ok(())
                }
                Err(failure) => {
                    let undo = if failure.is_passing() || failure.is_lost() { Undo::Whole } else { Undo::Part };
                    *outcome = Some(Err(failure.into()));
                    Err(undo)
                }
            }
        })
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        let answer = match (committed, self.outcome) {
            (Ok(()), Some(outcome)) => outcome,
            (Ok(()), None) => Err(StoreError::Unavailable("the write was not run".to_owned())),
            (Err(error), _) => Err(error),
        };
        let _ = self.reply.send(answer);
    }

    fn is_lone(&self) -> bool {
        self.is_lone
    }
}

fn refused(refused: Refused) -> StoreError {
    StoreError::Unavailable(match refused {
        Refused::Full => format!("no room for another write within {} s", ROOM_WAIT.as_secs()),
        Refused::Closed => "the writer has stopped".to_owned(),
    })
}
