//! Attempts that a later one has taken the place of: how one gets there, how a late report amends it.

use domain::command::Attempt;
use domain::event::What;
use plan::id::{AgentId, CommandId};
use plan::outcome::Outcome;
use ports::commands::{Advance, Advanced};
use ports::error::StoreError;
use sqlx::PgConnection;
use uuid::Uuid;

use super::failure::Failure;
use super::micros::micros;
use super::read::Statement;
use super::rows::{self, Cells};
use super::{PostgresStore, plain};
use crate::again::Next;
use crate::fold::Standing;
use crate::staged::Staged;
use crate::text;

pub(super) const ARCHIVE: &str = "insert into attempts (command_id, agent_id, attempt, state, reason, started_at, changed_at, \
     message, summary, parse_fault, outcome, result) \
     select i.command_id, i.agent_id, i.attempt, i.state, i.reason, i.started_at, i.changed_at, i.message, i.summary, \
     i.parse_fault, i.outcome, i.result from unnest($1::uuid[], $2::uuid[]) as e (command_id, agent_id) \
     join invocations i on i.command_id = e.command_id and i.agent_id = e.agent_id";
pub(super) const AGAIN: &str = "update invocations i set attempt = i.attempt + 1, state = 'held', reason = 'retry', message = null, \
     started_at = null, changed_at = a.changed_at, due_at = a.due_at, start_by = a.start_by, outcome = null, result = null, \
     summary = null, parse_fault = null \
     from unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[]) \
     as a (command_id, agent_id, changed_at, due_at, start_by) \
     where i.command_id = a.command_id and i.agent_id = a.agent_id";

/// An attempt whose end is written, and the one that follows.
pub(super) struct Followed<'a> {
    pub command: CommandId,
    pub agent: AgentId,
    pub standing: &'a Standing,
    pub next: Next,
}

/// Puts ended attempts into history and makes the next ones.
pub(super) async fn follow(tx: &mut PgConnection, followed: &[Followed<'_>]) -> Result<(), sqlx::Error> {
    if followed.is_empty() {
        return Ok(());
    }
    let (commands, agents): (Vec<Uuid>, Vec<Uuid>) =
        followed.iter().map(|followed| (followed.command.0, followed.agent.0)).unzip();
    sqlx::query(ARCHIVE).bind(commands.clone()).bind(agents.clone()).execute(&mut *tx).await?;
    sqlx::query(AGAIN)
        .bind(commands)
        .bind(agents)
        .bind(followed.iter().map(|followed| micros(followed.standing.changed_at)).collect::<Vec<_>>())
        .bind(followed.iter().map(|followed| micros(followed.next.due_at)).collect::<Vec<_>>())
        .bind(followed.iter().map(|followed| micros(followed.next.start_by)).collect::<Vec<_>>())
        .execute(tx)
        .await?;
    Ok(())
}

/// Applies a late report to the attempt it is about. Rare, so one row at a time.
pub(super) async fn amend(
    tx: &mut PgConnection,
    advance: &Advance,
    staged: &mut Staged,
) -> Result<Option<Advanced>, Failure> {
    let (command, agent) = (advance.key.command, advance.agent);
    let number = i32::try_from(advance.key.number).unwrap_or(i32::MAX);
    let found = sqlx::query(
        "select command_id, agent_id, state, reason, started_at from attempts \
         where command_id = $1 and agent_id = $2 and attempt = $3 for update",
    )
    .bind(command.0)
    .bind(agent.0)
    .bind(number)
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = found else { return Ok(None) };
    let mut cells = Cells::new(&row, "attempts");
    cells.pair()?;
    let mut standing = Standing::new(rows::state(&mut cells)?, rows::reason(&mut cells)?, cells.time_if_any()?);
    // A copy, for this transaction may have to be tried again.
    let answer = standing.apply(&mut advance.clone());
    if standing.changed() {
        let end = standing.end.as_ref();
        sqlx::query(
            "update attempts set state = $4, reason = $5, message = $6, started_at = $7, changed_at = $8, \
             outcome = $9::json, result = $10::json, summary = $11, parse_fault = $12 \
             where command_id = $1 and agent_id = $2 and attempt = $3",
        )
        .bind(command.0)
        .bind(agent.0)
        .bind(number)
        .bind(standing.state.as_str())
        .bind(standing.reason.map(|reason| reason.as_str()))
        .bind(plain::text_if_any(standing.message.as_deref()))
        .bind(standing.started_at.map(micros))
        .bind(micros(standing.changed_at))
        .bind(end.map(|end| text::json(&end.outcome)))
        .bind(plain::json_if_any(end.and_then(|end| end.result.as_deref())))
        .bind(plain::text_if_any(end.and_then(|end| end.summary.as_deref())))
        .bind(plain::text_if_any(end.and_then(|end| end.parse_fault.as_deref())))
        .execute(&mut *tx)
        .await?;
        let Standing { state, reason, changed_at, .. } = standing;
        staged.event(changed_at, What::State { command, agent, attempt: advance.key.number, state, reason });
    }
    Ok(Some(answer))
}

impl PostgresStore {
    pub(super) async fn attempts_of(&self, command: CommandId, agent: AgentId) -> Result<Vec<Attempt>, StoreError> {
        let statement = Statement::new(
            "select command_id, agent_id, attempt, state, reason, message, started_at, changed_at, outcome::text, \
             result::text, summary, parse_fault from attempts where command_id = $1 and agent_id = $2 order by attempt",
        );
        let attempt = |row| {
            let mut cells = Cells::new(row, "attempts");
            cells.pair()?;
            Ok(Attempt {
                number: cells.attempt()?,
                state: rows::state(&mut cells)?,
                reason: rows::reason(&mut cells)?,
                message: cells.take()?,
                started_at: cells.time_if_any()?,
                changed_at: cells.time()?,
                outcome: cells.read_some(|text| text::parse::<Outcome>(text))?,
                result: cells.take()?,
                summary: cells.take()?,
                parse_fault: cells.take()?,
            })
        };
        self.rows(statement.bind(command.0).bind(agent.0)).await?.iter().map(attempt).collect()
    }
}
