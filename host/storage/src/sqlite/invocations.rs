//! Invocations: what is stored of them, what waits, what is late, and asking to cancel.

use domain::attempt::State;
use domain::audit::Entry;
use domain::command::Invocation;
use domain::time::Timestamp;
use plan::id::{AgentId, CommandId};
use ports::commands::{Due, Open, Overdue, Place};
use ports::error::StoreError;
use uuid::Uuid;

use super::failure::Failure;
use super::query::{Row, query};
use super::{SqliteStore, rows};

/// What agents had that have stayed away.
pub(super) const ABANDONED: &str = "select i.command_id, i.agent_id, i.attempt, i.state, i.reason, i.cancel_requested_at \
     from invocations i indexed by invocations_in_flight cross join agents a on a.id = i.agent_id \
     where i.in_flight and not a.session_open and coalesce(a.last_seen, a.created_at) < ? limit ?";

/// What waits for an agent.
pub(super) fn due() -> String {
    format!(
        "select {}, {} from invocations i indexed by invocations_open cross join commands c on c.id = i.command_id \
         where i.agent_id = ? and i.is_open and i.state = 'queued' and i.cancel_requested_at is null \
         order by i.turn, i.command_id limit ?",
        rows::DUE,
        rows::COMMAND
    )
}

/// What an agent has that is not over.
pub(super) fn open() -> String {
    format!(
        "select {} from invocations indexed by invocations_open where agent_id = ? and is_open \
         order by turn, command_id",
        rows::OPEN
    )
}

/// Whether an agent has anything that is not over.
pub(super) const HAS_OPEN: &str =
    "select 1 from invocations indexed by invocations_open where agent_id = ? and is_open limit 1";

/// What has not started in time.
pub(super) fn overdue() -> String {
    format!(
        "select {}, start_by from invocations indexed by invocations_deadline where awaits_start and start_by < ? \
         and (start_by, command_id, agent_id) > (?, ?, ?) order by start_by, command_id, agent_id limit ?",
        rows::OPEN
    )
}

impl SqliteStore {
    pub(super) async fn invocation_page(
        &self,
        command: CommandId,
        state: Option<State>,
        after: Option<AgentId>,
        limit: u32,
    ) -> Result<Vec<Invocation>, StoreError> {
        let sql = format!(
            "select {} from invocations i where i.command_id = ? and i.agent_id > ? and (? is null or i.state = ?) \
             order by i.agent_id limit ?",
            rows::INVOCATION
        );
        let state = state.map(State::as_str);
        let after: Vec<u8> = after.map_or_else(Vec::new, |agent| agent.0.as_bytes().to_vec());
        let query = query(sql).bind(command.0).bind(after).bind(state).bind(state).bind(limit);
        let found = query.fetch_all(&self.readers).await.map_err(Failure::from)?;
        found.iter().map(rows::invocation).collect()
    }

    pub(super) async fn one_invocation(
        &self,
        command: CommandId,
        agent: AgentId,
    ) -> Result<Option<Invocation>, StoreError> {
        let sql = format!("select {} from invocations i where i.command_id = ? and i.agent_id = ?", rows::INVOCATION);
        let query = query(sql).bind(command.0).bind(agent.0);
        let found = query.fetch_optional(self.readers.near()).await.map_err(Failure::from)?;
        found.as_ref().map(rows::invocation).transpose()
    }

    /// Asked where the caller is, before anything is read by a thread: of most agents nothing is open, and all of them
    /// are asked after when they come back together.
    async fn has_open(&self, agent: AgentId) -> Result<bool, StoreError> {
        let found = query(HAS_OPEN).bind(agent.0).fetch_optional(self.readers.near()).await;
        Ok(found.map_err(Failure::from)?.is_some())
    }

    pub(super) async fn due_of(&self, agent: AgentId, limit: u32) -> Result<Vec<Due>, StoreError> {
        if !self.has_open(agent).await? {
            return Ok(Vec::new());
        }
        let query = query(due()).bind(agent.0).bind(limit);
        let found = query.fetch_all(&self.readers).await.map_err(Failure::from)?;
        found.iter().map(rows::due).collect()
    }

    pub(super) async fn open_of(&self, agent: AgentId) -> Result<Vec<Open>, StoreError> {
        if !self.has_open(agent).await? {
            return Ok(Vec::new());
        }
        let query = query(open()).bind(agent.0);
        opens(&query.fetch_all(&self.readers).await.map_err(Failure::from)?)
    }

    pub(super) async fn past_deadline(
        &self,
        now: Timestamp,
        after: Option<Place>,
        limit: u32,
    ) -> Result<Vec<Overdue>, StoreError> {
        let (start_by, command, agent) =
            after.map_or((0, Uuid::nil(), Uuid::nil()), |(at, command, agent)| (at.0, command.0, agent.0));
        let query = query(overdue()).bind(now.0).bind(start_by).bind(command).bind(agent).bind(limit);
        query.fetch_all(&self.readers).await.map_err(Failure::from)?.iter().map(rows::overdue).collect()
    }

    pub(super) async fn without_agent(&self, seen_before: Timestamp, limit: u32) -> Result<Vec<Open>, StoreError> {
        let query = query(ABANDONED).bind(seen_before.0).bind(limit);
        opens(&query.fetch_all(&self.readers).await.map_err(Failure::from)?)
    }

    pub(super) async fn cancel(
        &self,
        command: CommandId,
        sites: Option<Vec<String>>,
        at: Timestamp,
        audit: Entry,
    ) -> Result<Vec<Open>, StoreError> {
        self.cold(move |connection, staged| {
            Box::pin(async move {
                let sql = format!(
                    "update invocations set cancel_requested_at = coalesce(cancel_requested_at, ?) \
                     where command_id = ? and (? is null or site in (select value from json_each(?))) and is_open \
                     returning {}",
                    rows::OPEN
                );
                let sites = sites.map(|sites| crate::text::json(&sites));
                let query = query(sql).bind(at.0).bind(command.0).bind(sites.clone()).bind(sites);
                let mut open = opens(&query.fetch_all(connection).await?)?;
                open.sort_by_key(|open| open.agent);
                staged.audit(audit);
                Ok(open)
            })
        })
        .await
    }
}

fn opens(found: &[Row]) -> Result<Vec<Open>, StoreError> {
    found.iter().map(rows::open).collect()
}
