//! Agents: joining, sessions, what operators change.

use async_trait::async_trait;
use domain::agent::{Agent, AgentStatus, Facts};
use domain::audit::Entry;
use domain::time::Timestamp;
use plan::id::{AgentId, TokenId};
use ports::agents::{AgentChange, Agents, Expected, JoinToken, Joined, NewAgent, Order, Rotation};
use ports::error::StoreError;
use ports::replies::Once;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::failure::Failure;
use super::micros::micros;
use super::read::Statement;
use super::rows::{self, Cells};
use super::{PostgresStore, keys, plain, replies, tokens};
use crate::staged::Staged;
use crate::text;

/// Whose sessions are open at a host.
pub(super) const HERE: &str = "select id, session_epoch from agents where session_open and node_id = $1";

/// Reads one agent and stages the event that it changed.
async fn changed(
    connection: &mut PgConnection,
    staged: &mut Staged,
    agent: AgentId,
    at: Timestamp,
) -> Result<Option<Agent>, Failure> {
    let sql = format!("select {}, status from agents where id = $1", rows::AGENT);
    let Some(row) = sqlx::query(AssertSqlSafe(sql)).bind(agent.0).fetch_optional(connection).await? else {
        return Ok(None);
    };
    let mut cells = Cells::new(&row, "agents");
    let agent = rows::agent(&mut cells)?;
    staged.agent(at, agent.id, status(&mut cells)?);
    Ok(Some(agent))
}

/// After a change of one agent, if there was one: its audit entry, and what it is now.
async fn tell(
    connection: &mut PgConnection,
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

fn session(row: &PgRow) -> Result<(AgentId, u64), StoreError> {
    let mut cells = Cells::new(row, "agents");
    Ok((AgentId(cells.id()?), cells.number()?))
}

/// Refuses what was decided about an agent that is placed otherwise by now.
async fn as_expected(connection: &mut PgConnection, agent: AgentId, expected: Expected) -> Result<(), Failure> {
    let Some(expected) = expected else { return Ok(()) };
    let sql = format!("select {} from agents where id = $1 for update", rows::AGENT);
    let found = sqlx::query(AssertSqlSafe(sql)).bind(agent.0).fetch_optional(connection).await?;
    let Some(row) = found else { return Ok(()) };
    if rows::agent(&mut Cells::new(&row, "agents"))?.placed() == *expected {
        return Ok(());
    }
    Err(StoreError::Stale(format!("agent `{agent}`")).into())
}

async fn join(connection: &mut PgConnection, staged: &mut Staged, new: NewAgent) -> Result<Joined, Failure> {
    let NewAgent { token, secret_sha256, id, name, public_key, needs_approval, at, audit } = new;
    let token = match tokens::usable(connection, token, &secret_sha256, at).await? {
        Ok(token) => token,
        Err(why) => return Ok(Joined::TokenRefused(why)),
    };
    if keys::is_retired(connection, &public_key).await? {
        return Ok(Joined::KeyRetired);
    }
    let stored = sqlx::query(
        "insert into agents (id, agent_id, site, created_at, updated_at, public_key, labels, awaits_approval) \
         values ($1, $2, $3, $4, $4, $5, $6::jsonb, $7) on conflict (agent_id) do nothing",
    )
    .bind(id.0)
    .bind(&name)
    .bind(&token.site)
    .bind(micros(at))
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
    connection: &mut PgConnection,
    staged: &mut Staged,
    agent: AgentId,
    (facts, node): (&Facts, Uuid),
    at: Timestamp,
) -> Result<Option<u64>, Failure> {
    let Facts { version, os, kernel, container_engine, capabilities, .. } = facts;
    let capabilities: Vec<_> = capabilities.iter().map(|capability| plain::text(capability)).collect();
    let row = sqlx::query(
        "update agents set version = $1, os = $2, kernel = $3, container_engine = $4, capabilities = $5, \
         connection_info = $6::jsonb, session_epoch = session_epoch + 1, session_open = true, node_id = $7, \
         maybe_sent = true, last_seen = $8, updated_at = $8 where id = $9 and revoked_at is null \
         and not awaits_approval returning id, session_epoch, status",
    )
    .bind(plain::text(version))
    .bind(plain::text(os))
    .bind(plain::text(kernel))
    .bind(plain::text_if_any(container_engine.as_deref()))
    .bind(capabilities)
    .bind(plain::json(text::json(&text::ConnectionInfo::of(facts))))
    .bind(node)
    .bind(micros(at))
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
    connection: &mut PgConnection,
    staged: &mut Staged,
    agent: AgentId,
    epoch: u64,
    at: Timestamp,
    maybe_sent: bool,
) -> Result<(), Failure> {
    let row = sqlx::query(
        "update agents set session_open = false, maybe_sent = $1, last_seen = greatest(last_seen, $2) \
         where id = $3 and session_epoch = $4 and session_open returning id, status",
    )
    .bind(maybe_sent)
    .bind(micros(at))
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
impl Agents for PostgresStore {
    async fn agents(&self) -> Result<Vec<Agent>, StoreError> {
        let sql = format!("select {} from agents order by agent_id", rows::AGENT);
        self.rows(Statement::new(sql)).await?.iter().map(|row| rows::agent(&mut Cells::new(row, "agents"))).collect()
    }

    async fn agent(&self, agent: AgentId) -> Result<Option<Agent>, StoreError> {
        let sql = format!("select {} from agents where id = $1", rows::AGENT);
        let found = self.rows(Statement::new(sql).bind(agent.0)).await?;
        found.first().map(|row| rows::agent(&mut Cells::new(row, "agents"))).transpose()
    }

    async fn join(&self, new: NewAgent) -> Result<Joined, StoreError> {
        self.cold(move |connection, staged| Box::pin(join(connection, staged, new.clone()))).await
    }

    async fn open_session(&self, agent: AgentId, facts: &Facts, at: Timestamp) -> Result<Option<u64>, StoreError> {
        let (facts, node) = (facts.clone(), self.shared.node);
        self.cold(move |connection, staged| {
            let facts = facts.clone();
            Box::pin(async move { begin_session(connection, staged, agent, (&facts, node), at).await })
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
        let found = self.rows(Statement::new(HERE).bind(self.shared.node)).await?;
        found.iter().map(session).collect()
    }

    async fn alive(&self, _: Timestamp) -> Result<(), StoreError> {
        // Every transaction says so, and there is one each second.
        Ok(())
    }

    async fn change(&self, agent: AgentId, change: AgentChange, audit: Entry) -> Result<Option<Agent>, StoreError> {
        self.cold(move |connection, staged| {
            let (change, audit) = (change.clone(), audit.clone());
            Box::pin(async move {
                let AgentChange { site, labels, maintenance, expected } = change;
                let at = audit.at;
                as_expected(&mut *connection, agent, expected).await?;
                sqlx::query(
                    "update agents set site = coalesce($1, site), labels = coalesce($2::jsonb, labels), \
                     maintenance = coalesce($3, maintenance), updated_at = $4 where id = $5",
                )
                .bind(site)
                .bind(labels.as_ref().map(text::json))
                .bind(maintenance)
                .bind(micros(at))
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
            let (expected, audit) = (expected.clone(), audit.clone());
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
            let Order { agent, expected, at, audit } = order.clone();
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
            let Order { agent, expected, at, audit } = order.clone();
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
            let Order { agent, expected, at, audit } = order.clone();
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
            let (keys, audit) = (keys.clone(), audit.clone());
            Box::pin(async move {
                let done = keys::rotate(connection, agent, &keys, at).await?;
                tell(connection, staged, (agent, done), audit).await
            })
        })
        .await
    }

    async fn create_token(&self, token: JoinToken, audit: Entry, once: Option<Once>) -> Result<(), StoreError> {
        self.cold(move |connection, staged| {
            let (token, audit, once) = (token.clone(), audit.clone(), once.clone());
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
        tokens::one(self, token).await
    }

    async fn tokens(&self) -> Result<Vec<JoinToken>, StoreError> {
        tokens::all(self).await
    }

    async fn forget_tokens(&self, before: Timestamp, most: u32) -> Result<u64, StoreError> {
        self.cold(move |connection, _| Box::pin(async move { Ok(tokens::forget(connection, before, most).await?) }))
            .await
    }

    async fn revoke_token(&self, token: TokenId, at: Timestamp, audit: Entry) -> Result<bool, StoreError> {
        self.cold(move |connection, staged| {
            let audit = audit.clone();
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
