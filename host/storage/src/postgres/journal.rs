//! The event log, what is asked of the audit log, and who this installation is.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use domain::agent::AgentStatus;
use domain::alert::Severity;
use domain::alert::life::State;
use domain::alert::standing::Line;
use domain::audit::Entry;
use domain::event::{Event, What};
use plan::id::{AgentId, AlertId, ClusterId, CommandId};
use ports::error::StoreError;
use ports::journal::{AuditFilter, Cluster, Installation, Journal};
use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::PostgresStore;
use super::failure::Failure;
use super::micros::micros;
use super::read::Statement;
use super::rows::{self, Cells};
use crate::job::Job;
use crate::staged::Staged;
use crate::text;

/// Longest the store takes to say how it is.
const READY_WITHIN: Duration = Duration::from_secs(1);

/// Raises this node's batch number and the numbers of the last event and the last audit entry, in one statement; says whether the
/// server syncs. See the writer's head for why the numbers come from here.
pub(super) const MARK: &str = "with mark as (insert into nodes (id, batch, seen_at) values ($1, $2, now()) \
     on conflict (id) do update set batch = excluded.batch, seen_at = excluded.seen_at) \
     update event_counter set last = last + $3, last_audit = last_audit + $4 where only_row \
     returning last, last_audit, current_setting('fsync') <> 'off'";
pub(super) const EVENTS: &str = "insert into events (seq, at, kind, command_id, agent_id, attempt, state, reason, status, \
     counts, alert_id) select n.seq, n.at, n.kind, n.command_id, n.agent_id, n.attempt, n.state, n.reason, n.status, n.counts::jsonb, n.alert_id \
     from unnest($1::bigint[], $2::timestamptz[], $3::text[], $4::uuid[], $5::uuid[], $6::integer[], $7::text[], $8::text[], \
     $9::text[], $10::text[], $11::uuid[]) as n (seq, at, kind, command_id, agent_id, attempt, state, reason, status, counts, \
     alert_id)";

/// What a transaction got when it was marked.
pub(super) struct Marked {
    /// The number before that of its first event.
    pub events: u64,
    /// The number before that of its first audit entry.
    pub audits: u64,
    /// Whether the server syncs what it commits: a reload may have ended that.
    pub syncs: bool,
}

/// Marks the transaction as `batch` of `node` and takes numbers for what was staged. From here to the commit
/// no other host gets numbers.
pub(super) async fn mark(tx: &mut PgConnection, node: Uuid, batch: i64, staged: &Staged) -> Result<Marked, Failure> {
    let (events, audits) = (staged.last(), staged.audits().len() as u64);
    let marked = sqlx::query_as(MARK).bind(node).bind(batch).bind(number(events)).bind(number(audits));
    let (last, last_audit, syncs): (i64, i64, bool) = marked.fetch_one(tx).await?;
    let before = |last: i64, n: u64| u64::try_from(last).unwrap_or(0).saturating_sub(n);
    Ok(Marked { events: before(last, events), audits: before(last_audit, audits), syncs })
}

/// Writes the events that were staged; output events are rows of `outputs` already, and a change of plugins is
/// no business of a store.
pub(super) async fn insert(tx: &mut PgConnection, staged: &Staged) -> Result<(), sqlx::Error> {
    insert_events(tx, staged.events()).await
}

/// One event, spread over the columns.
#[derive(Default)]
struct Columns {
    command: Option<Uuid>,
    agent: Option<Uuid>,
    attempt: Option<i32>,
    state: Option<&'static str>,
    reason: Option<&'static str>,
    status: Option<&'static str>,
    counts: Option<String>,
    alert: Option<Uuid>,
}

impl Columns {
    fn of(what: &What) -> Option<Columns> {
        match what {
            What::State { command, agent, attempt, state, reason } => Some(Columns {
                command: Some(command.0),
                agent: Some(agent.0),
                attempt: i32::try_from(*attempt).ok(),
                state: Some(state.as_str()),
                reason: reason.map(|reason| reason.as_str()),
                ..Columns::default()
            }),
            What::Status { command, status, counts } => Some(Columns {
                command: Some(command.0),
                status: Some(status.as_str()),
                counts: Some(text::counts_text(counts)),
                ..Columns::default()
            }),
            What::Agent { agent, status } => {
                Some(Columns { agent: Some(agent.0), status: Some(status.as_str()), ..Columns::default() })
            }
            What::Alert { alert, agent, state, line } => Some(Columns {
                alert: Some(alert.0),
                agent: agent.map(|agent| agent.0),
                state: Some(state.as_str()),
                status: state.severity().map(Severity::as_str),
                reason: Some(line.as_str()),
                ..Columns::default()
            }),
            What::Output { .. } | What::Plugins { .. } => None,
        }
    }
}

async fn insert_events(tx: &mut PgConnection, events: &[Arc<Event>]) -> Result<(), sqlx::Error> {
    let rows: Vec<(&Event, Columns)> =
        events.iter().filter_map(|event| Some((&**event, Columns::of(&event.what)?))).collect();
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(EVENTS)
        .bind(rows.iter().map(|(event, _)| number(event.seq)).collect::<Vec<_>>())
        .bind(rows.iter().map(|(event, _)| micros(event.at)).collect::<Vec<_>>())
        .bind(rows.iter().map(|(event, _)| event.what.kind()).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, row)| row.command).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, row)| row.agent).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, row)| row.attempt).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, row)| row.state).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, row)| row.reason).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, row)| row.status).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, row)| row.counts.as_deref()).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, row)| row.alert).collect::<Vec<_>>())
        .execute(tx)
        .await?;
    Ok(())
}

/// No counter of ours reaches 2^63.
fn number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

fn event(row: &PgRow) -> Result<Arc<Event>, StoreError> {
    let mut cells = Cells::new(row, "events");
    let seq = cells.numbered()?;
    let at = cells.time()?;
    let kind: &str = cells.take()?;
    let what = match kind {
        "state" => {
            let (command, agent) = (CommandId(cells.take()?), AgentId(cells.take()?));
            let attempt = cells.attempt()?;
            What::State { command, agent, attempt, state: rows::state(&mut cells)?, reason: rows::reason(&mut cells)? }
        }
        "status" => {
            let command = CommandId(cells.take()?);
            cells.skip(4);
            What::Status { command, status: rows::status(&mut cells)?, counts: rows::counts(&mut cells)? }
        }
        "agent" => {
            cells.skip(1);
            let agent = AgentId(cells.take()?);
            cells.skip(3);
            What::Agent { agent, status: cells.read(rows::word("status of an agent", AgentStatus::parse))? }
        }
        "alert" => {
            cells.skip(1);
            let agent: Option<Uuid> = cells.take()?;
            cells.skip(1);
            let state: String = cells.take()?;
            let line = cells.read(rows::word("line of an alert", Line::parse))?;
            let severity = cells.read_some(rows::word("severity", Severity::parse))?;
            cells.skip(1);
            let state = State::parse(&state, severity).ok_or_else(|| cells.corrupt("no state of an alert"))?;
            What::Alert { alert: AlertId(cells.take()?), agent: agent.map(AgentId), state, line }
        }
        "output" => {
            let (command, agent) = (CommandId(cells.take()?), AgentId(cells.take()?));
            let attempt = cells.attempt()?;
            cells.skip(4);
            let stream = rows::stream(&mut cells)?;
            What::Output { command, agent, attempt, stream, offset: cells.number()?, data: cells.take()? }
        }
        other => return Err(cells.corrupt(format!("`{other}` is not a kind of event"))),
    };
    Ok(Arc::new(Event { seq, at, what }))
}

/// Events of all.
pub(super) fn events_of_all(after: u64, limit: u32) -> Statement {
    let text = "select seq, at, kind, command_id, agent_id, attempt, state, reason, status, counts::text, alert_id \
         from events where seq > $1 order by seq limit $2";
    Statement::new(text).bind(number(after)).bind(i64::from(limit))
}

/// Events and output of one command, merged by number.
pub(super) fn events_of_one(command: CommandId, after: u64, limit: u32) -> Statement {
    let text = "(select seq, at, kind, command_id, agent_id, attempt, state, reason, status, counts::text, \
             null as stream, null::bigint as byte_offset, null::bytea as data \
             from events where command_id = $1 and seq > $2 order by seq limit $3) \
         union all \
         (select seq, at, 'output', command_id, agent_id, attempt, null, null, null, null, stream, byte_offset, data \
             from outputs where command_id = $1 and seq > $2 \
             and at >= (select created_at - interval '1 day' from commands where id = $1) order by seq limit $3) \
         order by seq limit $3";
    Statement::new(text).bind(command.0).bind(number(after)).bind(i64::from(limit))
}

#[async_trait]
impl Journal for PostgresStore {
    async fn events(&self, command: Option<CommandId>, after: u64, limit: u32) -> Result<Vec<Arc<Event>>, StoreError> {
        let statement = match command {
            None => events_of_all(after, limit),
            Some(command) => events_of_one(command, after, limit),
        };
        self.rows(statement).await?.iter().map(event).collect()
    }

    async fn last_seq(&self) -> Result<u64, StoreError> {
        let row = self.row(Statement::new("select last from event_counter where only_row")).await?;
        let gone =
            || StoreError::Corrupt { table: "event_counter", key: "true".into(), what: "there is no row".into() };
        Cells::new(&row.ok_or_else(gone)?, "event_counter").numbered()
    }

    async fn audit(&self, entry: Entry) -> Result<(), StoreError> {
        self.cold(move |_, staged| {
            let entry = entry.clone();
            Box::pin(async move {
                staged.audit(entry);
                Ok(())
            })
        })
        .await
    }

    async fn audits_where(
        &self,
        filter: &AuditFilter,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(u64, Entry)>, StoreError> {
        self.audit_page(filter, before, limit).await
    }
}

#[async_trait]
impl Installation for PostgresStore {
    async fn cluster(&self, fresh: ClusterId) -> Result<Cluster, StoreError> {
        self.cold(move |connection, _| {
            Box::pin(async move {
                sqlx::query(
                    "insert into meta (key, value) values ('cluster_id', $1), ('cluster_epoch', '1') \
                     on conflict (key) do nothing",
                )
                .bind(fresh.to_string())
                .execute(&mut *connection)
                .await?;
                let id = fact(connection, "cluster_id", |text| text.parse().ok()).await?;
                let epoch = fact(connection, "cluster_epoch", |text| text.parse().ok()).await?;
                Ok(Cluster { id: ClusterId(id), epoch })
            })
        })
        .await
    }

    async fn ready(&self) -> Result<(), StoreError> {
        let asked = async {
            self.rows(Statement::new("select 1")).await?;
            // A real write: a full disk and a server that only reads show up here and nowhere earlier.
            self.cold(move |connection, _| {
                Box::pin(async move {
                    sqlx::query(
                        "insert into meta (key, value) values ('probe', '1') \
                         on conflict (key) do update set value = excluded.value",
                    )
                    .execute(connection)
                    .await?;
                    Ok(())
                })
            })
            .await
        };
        let late = || StoreError::Unavailable(format!("the database timed out: not ready within {READY_WITHIN:?}"));
        tokio::time::timeout(READY_WITHIN, asked).await.unwrap_or_else(|_| Err(late()))
    }

    async fn flush(&self) -> Result<(), StoreError> {
        self.write(1, Job::Flush).await
    }

    fn failed_commits(&self) -> u64 {
        self.shared.tally.failures.load(Ordering::Relaxed)
    }
}

pub(super) async fn fact<T>(
    connection: &mut PgConnection,
    key: &'static str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<T, Failure> {
    let text: String =
        sqlx::query_scalar("select value from meta where key = $1").bind(key).fetch_one(connection).await?;
    let unreadable = || StoreError::Corrupt { table: "meta", key: key.to_owned(), what: format!("value `{text}`") };
    Ok(read(&text).ok_or_else(unreadable)?)
}
