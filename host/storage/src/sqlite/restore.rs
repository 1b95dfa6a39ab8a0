//! A file that came out of a backup: what was not over is held, and the epoch rises.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use domain::attempt::{Reason, State};
use domain::audit::chain::Cause;
use domain::command::Status;
use domain::event::What;
use domain::restore;
use domain::time::Timestamp;
use plan::id::{ClusterId, CommandId};
use ports::error::StoreError;
use ports::journal::Cluster;
use ports::restore::{Adopt, EVENTS_SINCE, Held, Restored};
use ports::seal::Notary;

use super::bulk::Script;
use super::connection::Sqlite;
use super::failure::Failure;
use super::lock::Lock;
use super::open::{self, OpenError};
use super::query::{query, query_scalar};
use super::rows::{self, Cells};
use super::{Options, agents, audit, journal, migrate};
use crate::staged::Staged;
use crate::text;
use crate::trail::Trail;

/// A restored file, open.
pub struct RestoredSqlite {
    connection: Sqlite,
    notary: Option<Arc<dyn Notary>>,
}

impl RestoredSqlite {
    /// Opens the file at `path`, which exists, and brings its schema up to date. Whoever holds the lock
    /// of the store it is, or will be, is alone with it. `notary` seals what the audit log says of it.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(path: &Path, _lock: &Lock, notary: Option<Arc<dyn Notary>>) -> Result<RestoredSqlite, OpenError> {
        let database = |source| OpenError::Database { path: path.to_owned(), source };
        let mut connection = open::writing(&Options::new(path)).open().map_err(database)?;
        migrate::migrate(&mut connection, path).await?;
        Ok(RestoredSqlite { connection, notary })
    }
}

#[async_trait]
impl Restored for RestoredSqlite {
    async fn cluster(&mut self) -> Result<Cluster, StoreError> {
        Ok(cluster(&mut self.connection).await?)
    }

    async fn adopt(&mut self, adopt: Adopt) -> Result<Held, StoreError> {
        Ok(adopt_rows(&mut self.connection, adopt, self.notary.clone()).await?)
    }

    async fn close(self: Box<Self>) -> Result<(), StoreError> {
        // The last to close writes the log into the file and removes it.
        Ok(self.connection.close().map_err(Failure::from)?)
    }
}

async fn cluster(connection: &mut Sqlite) -> Result<Cluster, Failure> {
    let id = journal::fact(connection, "cluster_id", |text| text.parse().ok()).await?;
    let epoch = journal::fact(connection, "cluster_epoch", |text| text.parse().ok()).await?;
    Ok(Cluster { id: ClusterId(id), epoch })
}

async fn adopt_rows(connection: &mut Sqlite, adopt: Adopt, notary: Option<Arc<dyn Notary>>) -> Result<Held, Failure> {
    // A chain of its own says that a restore came in between: what the chains before had after the backup is gone.
    let trail = Trail::new(open::fresh_chain(connection).await?, Cause::Restore, notary);
    connection.batch("begin immediate")?;
    let done = adopt_in(connection, adopt, &trail).await;
    connection.end(done)
}

async fn adopt_in(tx: &mut Sqlite, adopt: Adopt, trail: &Trail) -> Result<Held, Failure> {
    let Adopt { epoch, at, audit } = adopt;
    let before = cluster(tx).await?;
    if epoch <= before.epoch {
        return Err(StoreError::Conflict(format!("epoch {epoch} is not above {}", before.epoch)).into());
    }
    query("update meta set value = ? where key = 'cluster_epoch'").bind(epoch.to_string()).execute(&mut *tx).await?;
    let last: i64 = query_scalar(open::LAST_SEQ).fetch_one(&mut *tx).await?;
    let last = u64::try_from(last).unwrap_or(0).saturating_add(EVENTS_SINCE);
    let invocations = hold(tx, last, at).await?;
    let mut staged = Staged::after(last + invocations);
    let commands = roll_up(tx, at, &mut staged).await?;
    agents::close_sessions(tx).await?;
    query("update agents set maybe_sent = 1").execute(&mut *tx).await?;
    query("update refresh_tokens set ended_at = ? where ended_at is null").bind(at.0).execute(&mut *tx).await?;
    query("update join_tokens set revoked_at = ? where used_at is null and revoked_at is null")
        .bind(at.0)
        .execute(&mut *tx)
        .await?;
    staged.audit(audit);
    let mut script = Script::default();
    journal::insert(&mut script, &staged);
    audit::insert(tx, &mut script, staged.audits(), trail).await?;
    script.run(tx)?;
    Ok(Held { commands, invocations })
}

/// Holds what is open: `is_open` is what [`restore::held`] holds. Its events are numbered from `last` + 1.
async fn hold(tx: &mut Sqlite, last: u64, at: Timestamp) -> Result<u64, Failure> {
    let (held, restored) = (State::Held.as_str(), Reason::Restored.as_str());
    let told = query(
        "insert into events (seq, at, kind, command_id, agent_id, attempt, state, reason) \
         select ?1 + row_number() over (order by command_id, agent_id), ?2, 'state', command_id, agent_id, attempt, \
                ?3, ?4 \
         from invocations where is_open and not (state = ?3 and reason is ?4)",
    );
    let last = i64::try_from(last).unwrap_or(i64::MAX);
    told.bind(last).bind(at.0).bind(held).bind(restored).execute(&mut *tx).await?;
    let moved = query(
        "update invocations set state = ?2, reason = ?3, changed_at = ?1 \
         where is_open and not (state = ?2 and reason is ?3)",
    );
    let moved = moved.bind(at.0).bind(held).bind(restored).execute(&mut *tx).await?;
    Ok(moved.rows_affected())
}

/// Brings the commands that are not over in step; answers how many there are.
async fn roll_up(tx: &mut Sqlite, at: Timestamp, staged: &mut Staged) -> Result<u64, Failure> {
    let found = query(
        "select id, status, counts from commands where status in ('scheduled', 'pending', 'running') order by id",
    );
    let found = found.fetch_all(&mut *tx).await?;
    for row in &found {
        let mut cells = Cells::new(row, "commands");
        let id = CommandId(cells.id()?);
        let was = rows::status(&mut cells)?;
        let mut tallied = cells.read(text::parse_tallied)?;
        // Held because of the restore: no rollout lets any of it go.
        (tallied.counts, tallied.by_rollout) = (restore::counts(&tallied.counts), 0);
        let counts = tallied.counts;
        let status = Status::of(&counts);
        query("update commands set status = ?, counts = ? where id = ?")
            .bind(status.as_str())
            .bind(text::tallied_text(&tallied))
            .bind(id.0)
            .execute(&mut *tx)
            .await?;
        if status != was {
            staged.event(at, What::Status { command: id, status, counts });
        }
    }
    Ok(found.len() as u64)
}

/// The path of the file that is beside `path` and called the same, with `end` at its end.
pub fn beside(path: &Path, end: &str) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(end);
    PathBuf::from(beside)
}
