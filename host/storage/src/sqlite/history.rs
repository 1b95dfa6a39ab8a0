//! Attempts that a later one has taken the place of: how one gets there, how a late report amends it.

use domain::command::Attempt;
use domain::event::What;
use plan::id::{AgentId, CommandId};
use plan::outcome::Outcome;
use ports::commands::{Advance, Advanced};
use ports::error::StoreError;

use super::SqliteStore;
use super::bulk::{Bulk, Script};
use super::connection::Sqlite;
use super::failure::Failure;
use super::query::query;
use super::rows::{self, Cells};
use crate::again::Next;
use crate::fold::Standing;
use crate::staged::Staged;
use crate::text;

pub(super) static ARCHIVE: Bulk = Bulk::new(
    "with ended (id) as (values",
    "(?)",
    ") insert into attempts (command_id, agent_id, attempt, state, reason, started_at, changed_at, message, summary, \
     parse_fault, outcome, result) \
     select i.command_id, i.agent_id, i.attempt, i.state, i.reason, i.started_at, i.changed_at, i.message, i.summary, \
     i.parse_fault, i.outcome, i.result from ended e cross join invocations i on i.id = e.id",
);
pub(super) static AGAIN: Bulk = Bulk::new(
    "with again (id, changed_at, due_at, start_by) as (values",
    "(?, ?, ?, ?)",
    ") update invocations set attempt = invocations.attempt + 1, state = 'held', reason = 'retry', message = null, \
     started_at = null, changed_at = a.changed_at, due_at = a.due_at, start_by = a.start_by, outcome = null, result = null, \
     summary = null, parse_fault = null from again a where invocations.id = a.id",
);

/// An attempt whose end is written, and the one that follows.
pub(super) struct Followed<'a> {
    pub row: i64,
    pub standing: &'a Standing,
    pub next: Next,
}

/// Puts ended attempts into history and makes the next ones.
pub(super) fn follow(script: &mut Script, followed: &[Followed<'_>]) {
    script.add(&ARCHIVE, followed, |followed, values| _ = values.put(followed.row));
    script.add(&AGAIN, followed, |Followed { row, standing, next }, values| {
        values.put(*row).put(standing.changed_at.0).put(next.due_at.0).put(next.start_by.0);
    });
}

/// Applies a late report to the attempt it is about. Rare, so one row at a time.
pub(super) async fn amend(
    tx: &mut Sqlite,
    advance: &mut Advance,
    staged: &mut Staged,
) -> Result<Option<Advanced>, Failure> {
    let (command, agent, number) = (advance.key.command, advance.agent, advance.key.number);
    let found = query(
        "select command_id, agent_id, state, reason, started_at from attempts \
         where command_id = ? and agent_id = ? and attempt = ?",
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
    let answer = standing.apply(advance);
    if standing.changed() {
        let end = standing.end.as_ref();
        query(
            "update attempts set state = ?, reason = ?, message = ?, started_at = ?, changed_at = ?, outcome = ?, \
             result = ?, summary = ?, parse_fault = ? where command_id = ? and agent_id = ? and attempt = ?",
        )
        .bind(standing.state.as_str())
        .bind(standing.reason.map(|reason| reason.as_str()))
        .bind(standing.message.as_deref())
        .bind(standing.started_at.map(|at| at.0))
        .bind(standing.changed_at.0)
        .bind(end.map(|end| text::json(&end.outcome)))
        .bind(end.and_then(|end| end.result.as_deref()))
        .bind(end.and_then(|end| end.summary.as_deref()))
        .bind(end.and_then(|end| end.parse_fault.as_deref()))
        .bind(command.0)
        .bind(agent.0)
        .bind(number)
        .execute(&mut *tx)
        .await?;
        let Standing { state, reason, changed_at, .. } = standing;
        staged.event(changed_at, What::State { command, agent, attempt: number, state, reason });
    }
    Ok(Some(answer))
}

impl SqliteStore {
    pub(super) async fn attempts_of(&self, command: CommandId, agent: AgentId) -> Result<Vec<Attempt>, StoreError> {
        let found = query(
            "select command_id, agent_id, attempt, state, reason, message, started_at, changed_at, outcome, result, \
             summary, parse_fault from attempts where command_id = ? and agent_id = ? order by attempt",
        )
        .bind(command.0)
        .bind(agent.0)
        .fetch_all(&self.readers)
        .await
        .map_err(Failure::from)?;
        let attempt = |row| {
            let mut cells = Cells::new(row, "attempts");
            cells.pair()?;
            Ok(Attempt {
                number: cells.number()?,
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
        found.iter().map(attempt).collect()
    }
}
