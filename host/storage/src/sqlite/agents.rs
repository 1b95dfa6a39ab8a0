//! Agents: joining, sessions, what operators change.

use async_trait::async_trait;
use domain::agent::{Agent, AgentStatus, Facts};
use domain::audit::Entry;
use domain::time::Timestamp;
use plan::id::{AgentId, TokenId};
use ports::agents::{AgentChange, Agents, Expected, JoinToken, Joined, NewAgent, Order, Rotation};
use ports::error::StoreError;
use ports::replies::Once;

use super::connection::Sqlite;
use super::failure::Failure;
use super::query::{Error, Row, query};
use super::rows::{self, Cells};
use super::{SqliteStore, keys, replies, tokens};
use crate::staged::Staged;
use crate::text;

/// Whose sessions are open. Nobody else writes here, so they are open at this host.
pub(super) const HERE: &str = "select id, session_epoch from agents where session_open";

/// When the last host said that it lived, or when the session was opened after that: its agent was seen then.
const WHEN_LAST_ALIVE: &str =
    "coalesce(max(last_seen, (select cast(value as integer) from meta where key = 'alive_at')), last_seen)";

/// Closes the sessions that a host left open when it ended.
pub(super) async fn close_sessions(connection: &mut Sqlite) -> Result<(), Error> {
    let text = format!("update agents set session_open = 0, last_seen = {WHEN_LAST_ALIVE} where session_open");
    query(text).execute(connection).await.map(drop)
}

/// Reads one agent and stages the event that it changed.
async fn changed(
    connection: &mut Sqlite,
    staged: &mut Staged,
    agent: AgentId,
    at: Timestamp,
) -> Result<Option<Agent>, Failure> {
    let sql = format!("select {}, status from agents where id = ?", rows::AGENT);
    let Some(row) = query(sql).bind(agent.0).fetch_optional(connection).await? else {
        return Ok(None);
    };
    let mut cells = Cells::new(&row, "agents");
    let agent = rows::agent(&mut cells)?;
    staged.agent(at, agent.id, status(&mut cells)?);
    Ok(Some(agent))
}

/// After a change of one agent, if there was one: its audit entry, and what it is now.
async fn tell(
    connection: &mut Sqlite,
    staged: &mut Staged,
    (agent, done): (AgentId, bool),
    audit: Entry,
) -> Result<Option<Agent>, Failure> {
    if !done {
        return Ok(None);
    }
    let agent = changed(connection, staged, agent, audit.at).await?;
    if agent.is_some() {
        staged.audit(audit);
    }
    Ok(agent)
}

fn status(cells: &mut Cells<'_>) -> Result<AgentStatus, StoreError> {
    cells.read(rows::word("status of an agent", AgentStatus::parse))
}

fn session(row: &Row) -> Result<(AgentId, u64), StoreError> {
    let mut cells = Cells::new(row, "agents");
    Ok((AgentId(cells.id()?), cells.number()?))
}

/// Refuses what was decided about an agent that is placed otherwise by now.
async fn as_expected(connection: &mut Sqlite, agent: AgentId, expected: Expected) -> Result<(), Failure> {
    let Some(expected) = expected else { return Ok(()) };
    let sql = format!("select {} from agents where id = ?", rows::AGENT);
    let found = query(sql).bind(agent.0).fetch_optional(connection).await?;
    let Some(row) = found else { return Ok(()) };
    if rows::agent(&mut Cells::new(&row, "agents"))?.placed() == *expected {
        return Ok(());
    }
    Err(StoreError::Stale(format!("agent `{agent}`")).into())
}

async fn join(connection: &mut Sqlite, staged: &mut Staged, new: NewAgent) -> Result<Joined, Failure> {
    let NewAgent { token, secret_sha256, id, name, public_key, needs_approval, at, audit } = new;
    let token = match tokens::usable(connection, token, &secret_sha256, at).await? {
        Ok(token) => token,
        Err(why) => return Ok(Joined::TokenRefused(why)),
    };
    if keys::is_retired(connection, &public_key).await? {
        return Ok(Joined::KeyRetired);
    }
    let stored = query(
        "insert into agents (id, agent_id, site, created_at, updated_at, public_key, labels, awaits_approval) \
         values (?, ?, ?, ?, ?, ?, ?, ?) on conflict (agent_id) do nothing",
    )
    .bind(id.0)
    .bind(&name)
    .bind(&token.site)
    .bind(at.0)
    .bind(at.0)
    .bind(&public_key)
    .bind(text::json(&token.labels))
    .bind(needs_approval || token.needs_approval)
    .execute(&mut *connection)
    .await?;
    if stored.rows_affected() == 0 {
        return Ok(Joined::NameTaken);
    }
    tokens::use_up(connection, token.id, id, at).await?;
    staged.audit(audit);
    let agent = changed(connection, staged, id, at).await?;
    let gone = || StoreError::Unavailable(format!("agent `{id}` vanished while it joined"));
    Ok(Joined::Enrolled(Box::new(agent.ok_or_else(gone)?)))
}

async fn begin_session(
    connection: &mut Sqlite,
    staged: &mut Staged,
    agent: AgentId,
    facts: &Facts,
    at: Timestamp,
) -> Result<Option<u64>, Failure> {
    let Facts { version, os, kernel, container_engine, capabilities, .. } = facts;
    let row = query(
        "update agents set version = ?, os = ?, kernel = ?, container_engine = ?, capabilities = ?, \
         connection_info = ?, session_epoch = session_epoch + 1, session_open = 1, maybe_sent = 1, last_seen = ?, \
         updated_at = ? where id = ? and revoked_at is null and not awaits_approval \
         returning id, session_epoch, status",
    )
    .bind(version)
    .bind(os)
    .bind(kernel)
    .bind(container_engine)
    .bind(text::json(capabilities))
    .bind(text::json(&text::ConnectionInfo::of(facts)))
    .bind(at.0)
    .bind(at.0)
    .bind(agent.0)
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let mut cells = Cells::new(&row, "agents");
    cells.id()?;
    let epoch = cells.number()?;
    staged.agent(at, agent, status(&mut cells)?);
    Ok(Some(epoch))
}

async fn end_session(
    connection: &mut Sqlite,
    staged: &mut Staged,
    agent: AgentId,
    epoch: u64,
    at: Timestamp,
    maybe_sent: bool,
) -> Result<(), Failure> {
    let row = query(
        "update agents set session_open = 0, maybe_sent = ?, last_seen = max(coalesce(last_seen, ?), ?) \
         where id = ? and session_epoch = ? and session_open returning id, status",
    )
    .bind(maybe_sent)
    .bind(at.0)
    .bind(at.0)
    .bind(agent.0)
    .bind(i64::try_from(epoch).unwrap_or(i64::MAX))
    .fetch_optional(connection)
    .await?;
    if let Some(row) = row {
        let mut cells = Cells::new(&row, "agents");
        cells.id()?;
        staged.agent(at, agent, status(&mut cells)?);
    }
    Ok(())
}

#[async_trait]
impl Agents for SqliteStore {
    async fn agents(&self) -> Result<Vec<Agent>, StoreError> {
        let sql = format!("select {} from agents order by agent_id", rows::AGENT);
        let found = query(sql).fetch_all(&self.readers).await.map_err(Failure::from)?;
        found.iter().map(|row| rows::agent(&mut Cells::new(row, "agents"))).collect()
    }

    async fn agent(&self, agent: AgentId) -> Result<Option<Agent>, StoreError> {
        let sql = format!("select {} from agents where id = ?", rows::AGENT);
        let found = query(sql).bind(agent.0).fetch_optional(&self.readers).await;
        found.map_err(Failure::from)?.map(|row| rows::agent(&mut Cells::new(&row, "agents"))).transpose()
    }

    async fn join(&self, new: NewAgent) -> Result<Joined, StoreError> {
        self.cold(move |connection, staged| Box::pin(join(connection, staged, new))).await
    }

    async fn open_session(&self, agent: AgentId, facts: &Facts, at: Timestamp) -> Result<Option<u64>, StoreError> {
        let facts = facts.clone();
        self.cold(move |connection, staged| {
            Box::pin(async move { begin_session(connection, staged, agent, &facts, at).await })
        })
        .await
    }

    async fn close_session(
        &self,
        agent: AgentId,
        epoch: u64,
        at: Timestamp,
        maybe_sent: bool,
    ) -> Result<(), StoreError> {
        self.cold(move |connection, staged| Box::pin(end_session(connection, staged, agent, epoch, at, maybe_sent)))
            .await
    }

    async fn sessions_here(&self) -> Result<Vec<(AgentId, u64)>, StoreError> {
        let found = query(HERE).fetch_all(&self.readers).await.map_err(Failure::from)?;
        found.iter().map(session).collect()
    }

    async fn alive(&self, at: Timestamp) -> Result<(), StoreError> {
        self.cold(move |connection, _| {
            Box::pin(async move {
                let text = "insert into meta (key, value) values ('alive_at', ?) \
                     on conflict (key) do update set value = excluded.value";
                query(text).bind(at.0.to_string()).execute(connection).await?;
                Ok(())
            })
        })
        .await
    }

    async fn change(&self, agent: AgentId, change: AgentChange, audit: Entry) -> Result<Option<Agent>, StoreError> {
        self.cold(move |connection, staged| {
            Box::pin(async move {
                let AgentChange { site, labels, maintenance, expected } = change;
                let at = audit.at;
                as_expected(&mut *connection, agent, expected).await?;
                query(
                    "update agents set site = coalesce(?, site), labels = coalesce(?, labels), \
                     maintenance = coalesce(?, maintenance), updated_at = ? where id = ?",
                )
                .bind(site)
                .bind(labels.as_ref().map(text::json))
                .bind(maintenance)
                .bind(at.0)
                .bind(agent.0)
                .execute(&mut *connection)
                .await?;
                let agent = changed(connection, staged, agent, at).await?;
                if agent.is_some() {
                    staged.audit(audit);
                }
                Ok(agent)
            })
        })
        .await
    }

    async fn approve(&self, agent: AgentId, expected: Expected, audit: Entry) -> Result<Option<Agent>, StoreError> {
        self.cold(move |connection, staged| {
            Box::pin(async move {
                as_expected(&mut *connection, agent, expected).await?;
                let done = keys::approve(connection, agent, audit.at).await?;
                tell(connection, staged, (agent, done), audit).await
            })
        })
        .await
    }

    async fn revoke(&self, order: Order) -> Result<Option<Agent>, StoreError> {
        self.cold(move |connection, staged| {
            let Order { agent, expected, at, audit } = order;
            Box::pin(async move {
                as_expected(&mut *connection, agent, expected).await?;
                let done = keys::revoke(connection, agent, at).await?;
                tell(connection, staged, (agent, done), audit).await
            })
        })
        .await
    }

    async fn delete_agent(&self, order: Order) -> Result<Option<Agent>, StoreError> {
        self.cold(move |connection, staged| {
            let Order { agent, expected, at, audit } = order;
            Box::pin(async move {
                as_expected(&mut *connection, agent, expected).await?;
                let done = keys::delete(connection, agent, at).await?;
                tell(connection, staged, (agent, done), audit).await
            })
        })
        .await
    }

    async fn ask_rotation(&self, order: Order) -> Result<Option<Agent>, StoreError> {
        self.cold(move |connection, staged| {
            let Order { agent, expected, at, audit } = order;
            Box::pin(async move {
                as_expected(&mut *connection, agent, expected).await?;
                let done = keys::ask_rotation(connection, agent, at).await?;
                tell(connection, staged, (agent, done), audit).await
            })
        })
        .await
    }

    async fn rotate_key(
        &self,
        agent: AgentId,
        keys: Rotation,
        at: Timestamp,
        audit: Entry,
    ) -> Result<Option<Agent>, StoreError> {
        self.cold(move |connection, staged| {
            Box::pin(async move {
                let done = keys::rotate(connection, agent, &keys, at).await?;
                tell(connection, staged, (agent, done), audit).await
            })
        })
        .await
    }

    async fn create_token(&self, token: JoinToken, audit: Entry, once: Option<Once>) -> Result<(), StoreError> {
        self.cold(move |connection, staged| {
            Box::pin(async move {
                tokens::insert(&mut *connection, &token).await?;
                replies::keep(&mut *connection, once.as_ref()).await?;
                staged.audit(audit);
                Ok(())
            })
        })
        .await
    }

    async fn token(&self, token: TokenId) -> Result<Option<JoinToken>, StoreError> {
        Ok(tokens::one(&self.readers, token).await?)
    }

    async fn tokens(&self) -> Result<Vec<JoinToken>, StoreError> {
        Ok(tokens::all(&self.readers).await?)
    }

    async fn forget_tokens(&self, before: Timestamp, most: u32) -> Result<u64, StoreError> {
        self.cold(move |connection, _| Box::pin(async move { Ok(tokens::forget(connection, before, most).await?) }))
            .await
    }

    async fn revoke_token(&self, token: TokenId, at: Timestamp, audit: Entry) -> Result<bool, StoreError> {
        self.cold(move |connection, staged| {
            Box::pin(async move {
                let found = tokens::revoke(connection, token, at).await?;
                if found {
                    staged.audit(audit);
                }
                Ok(found)
            })
        })
        .await
    }
}
