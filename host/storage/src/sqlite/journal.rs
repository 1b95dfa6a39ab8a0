//! The event log, what is asked of the audit log, and who this installation is.

use std::sync::Arc;
use std::sync::atomic::Ordering;

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
use uuid::Uuid;

use super::SqliteStore;
use super::bulk::{Bulk, Script, Values};
use super::connection::Sqlite;
use super::failure::Failure;
use super::query::{Row, query, query_scalar};
use super::readers::Readers;
use super::rows::{self, Cells};
use crate::job::Job;
use crate::staged::Staged;
use crate::text;

pub(super) static STATES: Bulk = Bulk::new(
    "insert into events (seq, at, kind, command_id, agent_id, attempt, state, reason) values",
    "(?, ?, 'state', ?, ?, ?, ?, ?)",
    "",
);
pub(super) static STATUSES: Bulk =
    Bulk::new("insert into events (seq, at, kind, command_id, status, counts) values", "(?, ?, 'status', ?, ?, ?)", "");
static SESSIONS: Bulk =
    Bulk::new("insert into events (seq, at, kind, agent_id, status) values", "(?, ?, 'agent', ?, ?)", "");
static ALERTS: Bulk = Bulk::new(
    "insert into events (seq, at, kind, alert_id, agent_id, state, status, reason) values",
    "(?, ?, 'alert', ?, ?, ?, ?, ?)",
    "",
);
pub(super) const EVENTS_OF_ALL: &str = "select seq, at, kind, command_id, agent_id, attempt, state, reason, status, counts, alert_id \
     from events where seq > ? order by seq limit ?";
/// Events and output of one command, merged by number.
pub(super) const EVENTS_OF_ONE: &str = "select * from (select seq, at, kind, command_id, agent_id, attempt, state, reason, \
         status, counts, null as stream, null as byte_offset, null as data \
         from events where command_id = ?1 and seq > ?2 order by seq limit ?3) \
     union all \
     select * from (select seq, at, 'output', command_id, agent_id, attempt, null, null, null, null, \
         stream, byte_offset, data \
         from outputs where command_id = ?1 and seq > ?2 order by seq limit ?3) \
     order by seq limit ?3";

/// Writes the events that were staged; output events are rows of `outputs` already, and a change of plugins is
/// no business of a store.
pub(super) fn insert(script: &mut Script, staged: &Staged) {
    let (mut states, mut statuses, mut sessions, mut alerts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for event in staged.events() {
        match &event.what {
            What::State { .. } => states.push(&**event),
            What::Status { .. } => statuses.push(&**event),
            What::Agent { .. } => sessions.push(&**event),
            What::Alert { .. } => alerts.push(&**event),
            What::Output { .. } | What::Plugins { .. } => {}
        }
    }
    script.add(&STATES, &states, |event, values| put_event(event, values));
    script.add(&STATUSES, &statuses, |event, values| put_event(event, values));
    script.add(&SESSIONS, &sessions, |event, values| put_event(event, values));
    script.add(&ALERTS, &alerts, |event, values| put_event(event, values));
}

fn put_event(event: &Event, values: &mut Values) {
    values.put(number(event.seq)).put(event.at.0);
    match &event.what {
        What::State { command, agent, attempt, state, reason } => {
            values.put(command.0).put(agent.0).put(i64::from(*attempt)).put(state.as_str());
            values.put(reason.map(|reason| reason.as_str()));
        }
        What::Status { command, status, counts } => {
            values.put(command.0).put(status.as_str()).put(text::counts_text(counts));
        }
        What::Agent { agent, status } => _ = values.put(agent.0).put(status.as_str()),
        What::Alert { alert, agent, state, line } => {
            values.put(alert.0).put(agent.map(|agent| agent.0)).put(state.as_str());
            values.put(state.severity().map(Severity::as_str)).put(line.as_str());
        }
        What::Output { .. } | What::Plugins { .. } => {}
    }
}

/// No counter of ours reaches 2^63.
fn number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

fn event(row: &Row) -> Result<Arc<Event>, StoreError> {
    let mut cells = Cells::new(row, "events");
    let seq = cells.numbered()?;
    let at = cells.time()?;
    let kind: &str = cells.take()?;
    let what = match kind {
        "state" => {
            let (command, agent) = (CommandId(cells.take()?), AgentId(cells.take()?));
            let attempt = cells.number()?;
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
            let attempt = cells.number()?;
            cells.skip(4);
            let stream = rows::stream(&mut cells)?;
            What::Output { command, agent, attempt, stream, offset: cells.number()?, data: cells.take()? }
        }
        other => return Err(cells.corrupt(format!("`{other}` is not a kind of event"))),
    };
    Ok(Arc::new(Event { seq, at, what }))
}

async fn events_of_all(readers: &Readers, after: u64, limit: u32) -> Result<Vec<Row>, Failure> {
    let query = query(EVENTS_OF_ALL);
    Ok(query.bind(number(after)).bind(limit).fetch_all(readers).await?)
}

async fn events_of_one(readers: &Readers, command: CommandId, after: u64, limit: u32) -> Result<Vec<Row>, Failure> {
    let query = query(EVENTS_OF_ONE);
    Ok(query.bind(command.0).bind(number(after)).bind(limit).fetch_all(readers).await?)
}

#[async_trait]
impl Journal for SqliteStore {
    async fn events(&self, command: Option<CommandId>, after: u64, limit: u32) -> Result<Vec<Arc<Event>>, StoreError> {
        let found = match command {
            None => events_of_all(&self.readers, after, limit).await?,
            Some(command) => events_of_one(&self.readers, command, after, limit).await?,
        };
        found.iter().map(event).collect()
    }

    async fn last_seq(&self) -> Result<u64, StoreError> {
        Ok(self.shared.last_seq.load(Ordering::Acquire))
    }

    async fn audit(&self, entry: Entry) -> Result<(), StoreError> {
        self.cold(move |_, staged| {
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
impl Installation for SqliteStore {
    async fn cluster(&self, fresh: ClusterId) -> Result<Cluster, StoreError> {
        self.cold(move |connection, _| {
            Box::pin(async move {
                query(
                    "insert into meta (key, value) values ('cluster_id', ?), ('cluster_epoch', '1') \
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
        let one: i64 = query_scalar("select 1").fetch_one(&self.readers).await.map_err(Failure::from)?;
        self.cold(move |connection, _| {
            Box::pin(async move {
                // A real write: a full disk and a read-only file show up here and nowhere earlier.
                query("insert into meta (key, value) values ('probe', ?) on conflict (key) do update set value = excluded.value")
                    .bind(one.to_string())
                    .execute(connection)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    async fn flush(&self) -> Result<(), StoreError> {
        self.write(1, Job::Flush).await
    }

    fn failed_commits(&self) -> u64 {
        self.shared.tally.failures.load(Ordering::Relaxed)
    }
}

pub(super) async fn fact<T>(
    connection: &mut Sqlite,
    key: &'static str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<T, Failure> {
    let text: String = query_scalar("select value from meta where key = ?").bind(key).fetch_one(connection).await?;
    let unreadable = || StoreError::Corrupt { table: "meta", key: key.to_owned(), what: format!("value `{text}`") };
    Ok(read(&text).ok_or_else(unreadable)?)
}
