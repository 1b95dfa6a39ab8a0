//! A database that came out of a backup: what was not over is held, and the epoch rises.

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use domain::attempt::{Reason, State};
use domain::audit::chain::Cause;
use domain::command::Status;
use domain::event::What;
use domain::restore;
use domain::time::Timestamp;
use plan::id::{ChainId, ClusterId, CommandId};
use ports::error::StoreError;
use ports::journal::Cluster;
use ports::restore::{Adopt, EVENTS_SINCE, Held, Restored};
use ports::seal::Notary;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection};
use uuid::Uuid;

use super::failure::Failure;
use super::micros::micros;
use super::open::{self, OpenError, WHEN_LAST_ALIVE};
use super::rows::{self, Cells};
use super::{Options, audit, journal};
use crate::staged::Staged;
use crate::text;
use crate::trail::Trail;

/// How long a host that was stopped may take to be gone.
const LEAVING: Duration = Duration::from_secs(2);
/// How many hosts work with the database: each holds a lock on its id.
const LIVING: &str = "select count(*) from pg_locks where locktype = 'advisory' and granted and objsubid = 2 \
     and database = (select oid from pg_database where datname = current_database()) and classid::bigint = $1";

/// A restored database, open.
pub struct RestoredPostgres {
    connection: PgConnection,
    notary: Option<Arc<dyn Notary>>,
}

impl RestoredPostgres {
    /// Opens the database and brings its schema up to date.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(options: &Options) -> Result<RestoredPostgres, OpenError> {
        let common = PgConnectOptions::from_str(&options.url).map_err(OpenError::Url)?.disable_statement_logging();
        let place = open::place(&common);
        // Everything here takes as long as it takes.
        let connecting = common.application_name("viworks restore").options([("statement_timeout", "0")]);
        let connected = tokio::time::timeout(options.connect_timeout, connecting.connect()).await;
        let silent = |_| OpenError::Silent { place: place.clone(), ms: options.connect_timeout.as_millis() };
        let database = |source| OpenError::Database { place: place.clone(), source };
        let mut connection = connected.map_err(silent)?.map_err(database)?;
        open::check(&mut connection, &place, options.allow_unsafe_durability).await?;
        open::migrate(&mut connection, &place).await?;
        Ok(RestoredPostgres { connection, notary: options.notary.clone() })
    }
}

#[async_trait]
impl Restored for RestoredPostgres {
    async fn cluster(&mut self) -> Result<Cluster, StoreError> {
        Ok(cluster(&mut self.connection).await?)
    }

    async fn adopt(&mut self, adopt: Adopt) -> Result<Held, StoreError> {
        Ok(adopt_rows(&mut self.connection, adopt, self.notary.clone()).await?)
    }

    async fn close(self: Box<Self>) -> Result<(), StoreError> {
        Ok(self.connection.close().await.map_err(Failure::from)?)
    }
}

async fn cluster(connection: &mut PgConnection) -> Result<Cluster, Failure> {
    let id = journal::fact(connection, "cluster_id", |text| text.parse().ok()).await?;
    let epoch = journal::fact(connection, "cluster_epoch", |text| text.parse().ok()).await?;
    Ok(Cluster { id: ClusterId(id), epoch })
}

/// Waits for hosts that were stopped just now: a server lets go of a lock a moment after whoever held it has left.
async fn gone(connection: &mut PgConnection) -> Result<(), Failure> {
    let until = Instant::now() + LEAVING;
    while living(connection).await? > 0 && Instant::now() < until {
        tokio::time::sleep(LEAVING / 40).await;
    }
    Ok(())
}

async fn living(connection: &mut PgConnection) -> Result<i64, Failure> {
    Ok(sqlx::query_scalar(LIVING).bind(i64::from(open::NODE_LOCK)).fetch_one(connection).await?)
}

async fn adopt_rows(
    connection: &mut PgConnection,
    adopt: Adopt,
    notary: Option<Arc<dyn Notary>>,
) -> Result<Held, Failure> {
    let Adopt { epoch, at, audit } = adopt;
    gone(connection).await?;
    let mut tx = connection.begin().await?;
    // A host that starts asks `meta` who it is before it does anything: it waits here, and learns the new epoch.
    // One that has asked already holds its lock and is seen.
    sqlx::query("lock table meta in access exclusive mode").execute(&mut *tx).await?;
    let living = living(&mut tx).await?;
    if living > 0 {
        return Err(StoreError::Conflict(format!("{living} hosts work with this database; stop them first")).into());
    }
    let before = cluster(&mut tx).await?;
    if epoch <= before.epoch {
        return Err(StoreError::Conflict(format!("epoch {epoch} is not above {}", before.epoch)).into());
    }
    sqlx::query("update meta set value = $1 where key = 'cluster_epoch'")
        .bind(epoch.to_string())
        .execute(&mut *tx)
        .await?;
    let gap = i64::try_from(EVENTS_SINCE).unwrap_or(i64::MAX);
    let last = raise_counter(&mut tx, gap).await?;
    let invocations = hold(&mut tx, last, at).await?;
    let held = i64::try_from(invocations).unwrap_or(i64::MAX);
    let mut staged = Staged::after(u64::try_from(raise_counter(&mut tx, held).await?).unwrap_or(0));
    let commands = roll_up(&mut tx, at, &mut staged).await?;
    let told = i64::try_from(staged.events().len()).unwrap_or(i64::MAX);
    raise_counter(&mut tx, told).await?;
    let text = format!(
        "update agents set session_open = false, maybe_sent = true, node_id = null, \
         last_seen = case when session_open then {WHEN_LAST_ALIVE} else last_seen end"
    );
    sqlx::query(AssertSqlSafe(text)).execute(&mut *tx).await?;
    sqlx::query("update refresh_tokens set ended_at = $1 where ended_at is null")
        .bind(micros(at))
        .execute(&mut *tx)
        .await?;
    sqlx::query("update join_tokens set revoked_at = $1 where used_at is null and revoked_at is null")
        .bind(micros(at))
        .execute(&mut *tx)
        .await?;
    staged.audit(audit);
    journal::insert(&mut tx, &staged).await?;
    // A chain of its own says that a restore came in between: what the chains before had after the backup is gone.
    let chain: Uuid = sqlx::query_scalar("select gen_random_uuid()").fetch_one(&mut *tx).await?;
    let audits: i64 = sqlx::query_scalar(
        "update event_counter set last_audit = last_audit + 1 where only_row returning last_audit - 1",
    )
    .fetch_one(&mut *tx)
    .await?;
    let trail = Trail::new(ChainId(chain), Cause::Restore, notary);
    audit::insert(&mut tx, staged.audits(), u64::try_from(audits).unwrap_or(0), &trail).await?;
    tx.commit().await?;
    Ok(Held { commands, invocations })
}

async fn raise_counter(tx: &mut PgConnection, by: i64) -> Result<i64, Failure> {
    let raised = sqlx::query_scalar("update event_counter set last = last + $1 where only_row returning last");
    Ok(raised.bind(by).fetch_one(tx).await?)
}

/// Holds what [`restore::held`] holds, spelled as the partial index has it. Its events are numbered from
/// `last` + 1.
async fn hold(tx: &mut PgConnection, last: i64, at: Timestamp) -> Result<u64, Failure> {
    let moved = sqlx::query(
        "with held as ( \
             update invocations set state = $3, reason = $4, changed_at = $2 \
             where state in ('held', 'queued', 'sent', 'accepted', 'running') \
                 and not (state = $3 and reason is not distinct from $4) \
             returning command_id, agent_id, attempt \
         ) insert into events (seq, at, kind, command_id, agent_id, attempt, state, reason) \
         select $1 + row_number() over (order by command_id, agent_id), $2, 'state', command_id, agent_id, attempt, \
                $3, $4 from held",
    );
    let moved = moved.bind(last).bind(micros(at)).bind(State::Held.as_str()).bind(Reason::Restored.as_str());
    Ok(moved.execute(tx).await?.rows_affected())
}

/// Brings the commands that are not over in step; answers how many there are.
async fn roll_up(tx: &mut PgConnection, at: Timestamp, staged: &mut Staged) -> Result<u64, Failure> {
    let found = sqlx::query(
        "select id, status, counts::text from commands where status in ('scheduled', 'pending', 'running') order by id",
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
        sqlx::query("update commands set status = $1, counts = $2::jsonb where id = $3")
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
