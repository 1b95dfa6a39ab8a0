//! A batch of advances and output: read where the attempts stand, fold, write what changed.

use std::collections::HashMap;

use domain::attempt::State;
use domain::event::What;
use domain::time::Timestamp;
use plan::id::{AgentId, CommandId};
use ports::commands::{Advance, Advanced, Chunk};
use sqlx::SqliteConnection;

use super::bulk::Bulk;
use super::failure::Failure;
use super::output::{self, Streams};
use super::rows::{self, Cells};
use crate::fold::Standing;
use crate::intake::Entry;
use crate::job::Reply;
use crate::rollup::Rollup;
use crate::staged::Staged;
use crate::text;

static STANDING: Bulk = Bulk::new(
    "with wanted (command_id, agent_id) as (values",
    "(?, ?)",
    ") select i.command_id, i.agent_id, i.id, i.attempt, i.state, i.reason, i.started_at, c.rowid, c.status, c.counts \
     from wanted w cross join invocations i on i.command_id = w.command_id and i.agent_id = w.agent_id \
     cross join commands c on c.id = i.command_id",
);
static MOVE: Bulk = Bulk::new(
    "with moved (id, state, reason, message, started_at, changed_at, outcome, result, summary, parse_fault) as (values",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    ") update invocations set state = m.state, reason = m.reason, message = m.message, started_at = m.started_at, \
     changed_at = m.changed_at, outcome = m.outcome, result = m.result, summary = m.summary, \
     parse_fault = m.parse_fault from moved m where invocations.id = m.id",
);
static ROLL_UP: Bulk = Bulk::new(
    "with moved (id, status, counts, executed_at, completed_at) as (values",
    "(?, ?, ?, ?, ?)",
    ") update commands set status = m.status, counts = m.counts, \
     executed_at = coalesce(commands.executed_at, m.executed_at), completed_at = m.completed_at \
     from moved m where commands.rowid = m.id",
);

/// One invocation in this batch.
struct Slot {
    row: i64,
    command: CommandId,
    agent: AgentId,
    attempt: u32,
    /// Where its command's rollup is.
    of: usize,
    standing: Standing,
}

/// One command in this batch.
struct Parent {
    row: i64,
    id: CommandId,
    rollup: Rollup,
    moved: bool,
    /// Whether one of its invocations ended.
    ended: bool,
}

/// Applies advances in order and stores output. Answers where each advance left its attempt, and how
/// many chunks belong to no stored attempt.
pub(super) async fn apply(
    tx: &mut SqliteConnection,
    advances: &mut [(Advance, Option<Reply<Option<Advanced>>>)],
    chunks: &[Entry<Chunk>],
    streams: &mut Streams,
    staged: &mut Staged,
) -> Result<(Vec<Option<Advanced>>, u64), Failure> {
    if advances.is_empty() && chunks.is_empty() {
        return Ok((Vec::new(), 0));
    }
    let mut wanted: Vec<(CommandId, AgentId)> =
        advances.iter().map(|(advance, _)| (advance.key.command, advance.agent)).collect();
    wanted.extend(streams.unknown(chunks));
    wanted.sort_unstable();
    wanted.dedup();
    let (mut slots, mut parents) = standing(tx, &wanted).await?;
    let place: HashMap<(CommandId, AgentId), usize> =
        slots.iter().enumerate().map(|(at, slot)| ((slot.command, slot.agent), at)).collect();

    let answers: Vec<Option<Advanced>> = advances
        .iter_mut()
        .map(|(advance, _)| {
            let slot = &mut slots[*place.get(&(advance.key.command, advance.agent))?];
            // Only the latest attempt is inline; an attempt beyond it does not exist.
            (slot.attempt == advance.key.number).then(|| slot.standing.apply(advance))
        })
        .collect();

    let latest = |command: CommandId, agent: AgentId| place.get(&(command, agent)).map(|at| slots[*at].attempt);
    let cut = output::cut(tx, chunks, streams, latest).await?;
    slots.retain(|slot| slot.standing.changed());
    for Slot { of, standing, .. } in &slots {
        let parent = &mut parents[*of];
        parent.moved = true;
        parent.ended |= standing.state.is_terminal();
        parent.rollup.shift(standing.was(), standing.state, standing.changed_at);
        if let Some(at) = standing.started_at {
            parent.rollup.started(at);
        }
    }
    parents.retain(|parent| parent.moved);

    // A reader of the events should see an attempt run before it speaks, and end after; and a status
    // change after the states that made it.
    stage_states(&slots, |state| !state.is_terminal(), staged);
    stage_statuses(&parents, |parent| !parent.ended, staged);
    let numbered = cut.stage(staged);
    stage_states(&slots, State::is_terminal, staged);
    stage_statuses(&parents, |parent| parent.ended, staged);

    output::insert(tx, &numbered).await?;
    write_slots(tx, &slots).await?;
    write_parents(tx, &parents).await?;
    Ok((answers, numbered.refused))
}

async fn standing(
    tx: &mut SqliteConnection,
    wanted: &[(CommandId, AgentId)],
) -> Result<(Vec<Slot>, Vec<Parent>), Failure> {
    let found = STANDING.fetch(tx, wanted, |(command, agent), values| _ = values.put(command.0).put(agent.0)).await?;
    let mut slots = Vec::with_capacity(found.len());
    let mut parents: Vec<Parent> = Vec::new();
    for row in &found {
        let mut cells = Cells::new(row, "invocations");
        let (command, agent) = cells.pair()?;
        let (row, attempt) = (cells.take()?, cells.number()?);
        let standing = Standing::new(rows::state(&mut cells)?, rows::reason(&mut cells)?, cells.time_if_any()?);
        // Wanted is sorted, so the invocations of one command come in a row.
        if parents.last().is_none_or(|parent| parent.id != command) {
            let parent_row = cells.take()?;
            let status = rows::status(&mut cells)?;
            let rollup = Rollup::new(rows::counts(&mut cells)?, status);
            parents.push(Parent { row: parent_row, id: command, rollup, moved: false, ended: false });
        }
        slots.push(Slot { row, command, agent, attempt, of: parents.len() - 1, standing });
    }
    Ok((slots, parents))
}

fn stage_states(slots: &[Slot], which: impl Fn(State) -> bool, staged: &mut Staged) {
    for Slot { command, agent, attempt, standing, .. } in slots {
        let Standing { state, reason, changed_at, .. } = standing;
        if which(*state) {
            let what =
                What::State { command: *command, agent: *agent, attempt: *attempt, state: *state, reason: *reason };
            staged.event(*changed_at, what);
        }
    }
}

fn stage_statuses(parents: &[Parent], which: impl Fn(&Parent) -> bool, staged: &mut Staged) {
    for parent in parents.iter().filter(|parent| which(parent)) {
        let Parent { id, rollup, .. } = parent;
        if rollup.status_changed() {
            let what = What::Status { command: *id, status: rollup.status(), counts: rollup.counts() };
            staged.event(rollup.changed_at, what);
        }
    }
}

async fn write_slots(tx: &mut SqliteConnection, slots: &[Slot]) -> Result<(), sqlx::Error> {
    let micros = |at: Option<Timestamp>| at.map(|at| at.0);
    MOVE.execute(tx, slots, |slot, values| {
        let Standing { state, reason, message, started_at, changed_at, end, .. } = &slot.standing;
        let end = end.as_ref();
        values
            .put(slot.row)
            .text(state.as_str())
            .text_if_any(reason.map(|reason| reason.as_str()))
            .text_if_any(message.as_deref())
            .put(micros(*started_at))
            .put(changed_at.0)
            .put(end.map(|end| text::json(&end.outcome)))
            .text_if_any(end.and_then(|end| end.result.as_deref()))
            .text_if_any(end.and_then(|end| end.summary.as_deref()))
            .text_if_any(end.and_then(|end| end.parse_fault.as_deref()));
    })
    .await?;
    Ok(())
}

async fn write_parents(tx: &mut SqliteConnection, parents: &[Parent]) -> Result<(), sqlx::Error> {
    ROLL_UP
        .execute(tx, parents, |Parent { row, rollup, .. }, values| {
            values
                .put(*row)
                .text(rollup.status().as_str())
                .put(text::counts_text(&rollup.counts()))
                .put(rollup.started_at.map(|at| at.0))
                .put(rollup.completed_at().map(|at| at.0));
        })
        .await?;
    Ok(())
}
