//! Invocations: what is stored of them, what waits, what is late, and asking to cancel.

use domain::attempt::State;
use domain::audit::Entry;
use domain::command::Invocation;
use domain::time::Timestamp;
use plan::id::{AgentId, CommandId};
use ports::commands::{Due, Open, Overdue, Place};
use ports::error::StoreError;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::micros::micros;
use super::read::Statement;
use super::{PostgresStore, rows};

/// States as the partial indexes spell them.
pub(super) const IS_OPEN: &str = "i.state in ('held', 'queued', 'sent', 'accepted', 'running')";
const AWAITS_START: &str = "i.state in ('held', 'queued', 'sent')";
const IN_FLIGHT: &str = "i.state in ('sent', 'accepted', 'running')";

/// What waits for an agent.
pub(super) fn due(agent: AgentId, limit: u32) -> Statement {
    let text = format!(
        "select {}, {} from invocations i join commands c on c.id = i.command_id \
         where i.agent_id = $1 and i.state = 'queued' and i.cancel_requested_at is null \
         order by i.turn, i.command_id limit $2",
        rows::DUE,
        rows::COMMAND
    );
    Statement::new(text).bind(agent.0).bind(i64::from(limit))
}

/// What an agent has that is not over.
pub(super) fn open(agent: AgentId) -> Statement {
    let text = format!(
        "select {} from invocations i where i.agent_id = $1 and {IS_OPEN} order by i.turn, i.command_id",
        rows::OPEN
    );
    Statement::new(text).bind(agent.0)
}

/// What has not started in time. Rows that another host is moving at this moment are left to it.
pub(super) fn overdue(now: Timestamp, after: Option<Place>, limit: u32) -> Statement {
    let text = format!(
        "select {}, i.start_by from invocations i where {AWAITS_START} and i.start_by < $1 \
         and (i.start_by, i.command_id, i.agent_id) > ($2, $3, $4) \
         order by i.start_by, i.command_id, i.agent_id limit $5 for update skip locked",
        rows::OPEN
    );
    let (start_by, command, agent) =
        after.map_or((Timestamp(0), Uuid::nil(), Uuid::nil()), |(at, command, agent)| (at, command.0, agent.0));
    let statement = Statement::new(text).bind(micros(now)).bind(micros(start_by)).bind(command).bind(agent);
    statement.bind(i64::from(limit))
}

/// What agents had that have stayed away. A session counts for nothing when its host has not written
/// since either. Rows that another host is moving at this moment are left to it.
pub(super) fn abandoned(seen_before: Timestamp, limit: u32) -> Statement {
    let text = format!(
        "select {} from invocations i join agents a on a.id = i.agent_id \
         where {IN_FLIGHT} and coalesce(a.last_seen, a.created_at) < $1 \
         and not (a.session_open and exists (select 1 from nodes n where n.id = a.node_id and n.seen_at >= $1)) \
         limit $2 for update of i skip locked",
        rows::OPEN
    );
    Statement::new(text).bind(micros(seen_before)).bind(i64::from(limit))
}

impl PostgresStore {
    pub(super) async fn invocation_page(
        &self,
        command: CommandId,
        state: Option<State>,
        after: Option<AgentId>,
        limit: u32,
    ) -> Result<Vec<Invocation>, StoreError> {
        let text = format!(
            "select {} from invocations i where i.command_id = $1 and i.agent_id > $2 \
             and ($3::text is null or i.state = $3) order by i.agent_id limit $4",
            rows::INVOCATION
        );
        let statement = Statement::new(text)
            .bind(command.0)
            .bind(after.map_or(Uuid::nil(), |agent| agent.0))
            .bind(state.map(State::as_str))
            .bind(i64::from(limit));
        self.rows(statement).await?.iter().map(rows::invocation).collect()
    }

    pub(super) async fn one_invocation(
        &self,
        command: CommandId,
        agent: AgentId,
    ) -> Result<Option<Invocation>, StoreError> {
        let text =
            format!("select {} from invocations i where i.command_id = $1 and i.agent_id = $2", rows::INVOCATION);
        let statement = Statement::new(text).bind(command.0).bind(agent.0);
        self.row(statement).await?.as_ref().map(rows::invocation).transpose()
    }

    pub(super) async fn due_of(&self, agent: AgentId, limit: u32) -> Result<Vec<Due>, StoreError> {
        self.rows(due(agent, limit)).await?.iter().map(rows::due).collect()
    }

    pub(super) async fn open_of(&self, agent: AgentId) -> Result<Vec<Open>, StoreError> {
        opens(&self.rows(open(agent)).await?)
    }

    pub(super) async fn past_deadline(
        &self,
        now: Timestamp,
        after: Option<Place>,
        limit: u32,
    ) -> Result<Vec<Overdue>, StoreError> {
        self.rows(overdue(now, after, limit)).await?.iter().map(rows::overdue).collect()
    }

    pub(super) async fn without_agent(&self, seen_before: Timestamp, limit: u32) -> Result<Vec<Open>, StoreError> {
        opens(&self.rows(abandoned(seen_before, limit)).await?)
    }

    pub(super) async fn cancel(
        &self,
        command: CommandId,
        sites: Option<Vec<String>>,
        at: Timestamp,
        audit: Entry,
    ) -> Result<Vec<Open>, StoreError> {
        self.cold(move |connection, staged| {
            let (audit, sites) = (audit.clone(), sites.clone());
            Box::pin(async move {
                let text = format!(
                    "update invocations i set cancel_requested_at = coalesce(i.cancel_requested_at, $1) \
                     where i.command_id = $2 and ($3::text[] is null or i.site = any($3)) and {IS_OPEN} returning {}",
                    rows::OPEN
                );
                let query = sqlx::query(AssertSqlSafe(text)).bind(micros(at)).bind(command.0);
                let mut open = opens(&query.bind(sites).fetch_all(connection).await?)?;
                open.sort_by_key(|open| open.agent);
                staged.audit(audit);
                Ok(open)
            })
        })
        .await
    }
}

fn opens(found: &[PgRow]) -> Result<Vec<Open>, StoreError> {
    found.iter().map(rows::open).collect()
}
