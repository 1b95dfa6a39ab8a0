//! A batch of advances and output: read where the attempts stand, fold, write what changed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use domain::attempt::{Reason, State};
use domain::command::Status;
use domain::event::What;
use domain::terms::Terms;
use domain::time::Timestamp;
use plan::id::{AgentId, AttemptKey, CommandId};
use ports::commands::{Advance, Advanced, Chunk};
use ports::error::StoreError;

use super::bulk::{Bulk, Script, Values};
use super::connection::Sqlite;
use super::failure::Failure;
use super::history::{self, Followed};
use super::output::{self, Streams};
use super::query::{Row, query};
use super::rows::{self, Cells};
use crate::again::{Next, Retrying};
use crate::fence::{Fences, Sessions};
use crate::fold::Standing;
use crate::intake::Entry;
use crate::job::Reply;
use crate::rollup::Rollup;
use crate::staged::Staged;
use crate::{terms, text};

/// The row of a command whose attempts may be followed by others has its terms.
pub(super) static STANDING: Bulk = Bulk::new(
    "with wanted (place, command_id, agent_id) as (values",
    "(?, ?, ?)",
    ") select w.place, i.id, i.attempt, i.state, i.reason, i.started_at, c.rowid, c.status, c.counts, \
     case when c.max_retries > 0 then c.terms end, c.created_at, c.run_timeout_ms, \
     i.cancel_requested_at is not null or c.error_message is not null \
     from wanted w cross join invocations i on i.command_id = w.command_id and i.agent_id = w.agent_id \
     cross join commands c on c.id = i.command_id",
);
pub(super) static MOVE: Bulk = Bulk::new(
    "with moved (id, state, reason, message, started_at, changed_at, outcome, result, summary, parse_fault) as (values",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    ") update invocations set state = m.state, reason = m.reason, message = m.message, started_at = m.started_at, \
     changed_at = m.changed_at, outcome = m.outcome, result = m.result, summary = m.summary, \
     parse_fault = m.parse_fault from moved m where invocations.id = m.id",
);
pub(super) static ROLL_UP: Bulk = Bulk::new(
    "with moved (id, status, counts, executed_at, completed_at) as (values",
    "(?, ?, ?, ?, ?)",
    ") update commands set status = m.status, counts = m.counts, \
     executed_at = coalesce(commands.executed_at, m.executed_at), completed_at = m.completed_at \
     from moved m where commands.rowid = m.id",
);

/// What is known of an agent's sessions. Nobody else writes here, so nobody else owns one.
pub(super) const FENCE: &str = "select id, session_epoch, maybe_sent, session_open from agents where id = ?";

/// One invocation in this batch.
struct Slot {
    row: i64,
    command: CommandId,
    agent: AgentId,
    attempt: u32,
    /// Where its command's rollup is.
    of: usize,
    standing: Standing,
    retrying: Option<Retrying>,
    /// The attempt after this one.
    next: Option<Next>,
}

impl Slot {
    fn key(&self) -> AttemptKey {
        AttemptKey { command: self.command, number: self.attempt }
    }

    /// Whether this advance comes on a word that does not count any more.
    fn is_void(&self, advance: &Advance, fences: &Fences) -> bool {
        fences.is_void(self.agent, advance.word, self.standing.state, self.standing.reason)
    }

    fn unmoved(&self) -> Advanced {
        Advanced { state: self.standing.state, moved: false }
    }

    /// Where the invocation stands, and why: between two attempts it is held.
    fn stands(&self) -> (State, Option<Reason>) {
        if self.next.is_some() {
            (State::Held, Some(Reason::Retry))
        } else {
            (self.standing.state, self.standing.reason)
        }
    }
}

/// One command in this batch.
struct Parent {
    row: i64,
    id: CommandId,
    rollup: Rollup,
    /// Only of a command whose attempts may be followed by others; read once, however many it has.
    terms: Option<Arc<Terms>>,
    moved: bool,
    /// Whether one of its invocations ended.
    ended: bool,
}

/// Applies advances in order and has the script store them and output. Answers where each advance left its attempt, and how
/// many chunks belong to no stored attempt.
pub(super) async fn apply(
    tx: &mut Sqlite,
    script: &mut Script,
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
    let (mut slots, mut parents) = standing(tx, script, &wanted)?;
    let fences = fences(tx, &Fences::asked(advances.iter().map(|(advance, _)| advance))).await?;
    let place: HashMap<(CommandId, AgentId), usize> =
        slots.iter().enumerate().map(|(at, slot)| ((slot.command, slot.agent), at)).collect();

    let mut answers: Vec<Option<Advanced>> = Vec::with_capacity(advances.len());
    for (advance, _) in advances {
        let slot = place.get(&(advance.key.command, advance.agent)).map(|at| &mut slots[*at]);
        answers.push(match slot {
            Some(slot) if slot.attempt == advance.key.number && slot.is_void(advance, &fences) => Some(slot.unmoved()),
            Some(slot) if slot.attempt == advance.key.number => Some(slot.standing.apply(advance)),
            Some(slot) if slot.attempt > advance.key.number => history::amend(tx, advance, staged).await?,
            // An attempt beyond the latest does not exist.
            Some(_) | None => None,
        });
    }

    let latest = |command: CommandId, agent: AgentId| place.get(&(command, agent)).map(|at| slots[*at].attempt);
    let cut = output::cut(tx, chunks, streams, latest).await?;
    slots.retain(|slot| slot.standing.changed());
    for slot in &mut slots {
        slot.next = slot.retrying.as_ref().and_then(|retrying| retrying.next(slot.key(), slot.agent, &slot.standing));
    }
    for slot in &slots {
        let Slot { of, standing, .. } = slot;
        let parent = &mut parents[*of];
        parent.moved = true;
        parent.ended |= slot.stands().0.is_terminal();
        parent.rollup.shift(standing.before(), slot.stands(), standing.changed_at);
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
    stage_next(&slots, staged);
    stage_statuses(&parents, |parent| parent.ended, staged);

    output::insert(script, &numbered);
    write_slots(script, &slots);
    let followed = slots.iter().filter_map(|slot| {
        let Slot { row, standing, next, .. } = slot;
        Some(Followed { row: *row, standing, next: (*next)? })
    });
    history::follow(script, &followed.collect::<Vec<_>>());
    write_parents(script, &parents);
    Ok((answers, numbered.refused))
}

async fn fences(tx: &mut Sqlite, agents: &[AgentId]) -> Result<Fences, Failure> {
    let mut fences = Fences::default();
    for agent in agents {
        if let Some(row) = query(FENCE).bind(agent.0).fetch_optional(&mut *tx).await? {
            let mut cells = Cells::new(&row, "agents");
            cells.id()?;
            let (epoch, maybe_sent, owned) = (cells.number()?, cells.take()?, cells.take()?);
            fences.put(*agent, Sessions { epoch, maybe_sent, owned });
        }
    }
    Ok(fences)
}

/// One row of [`STANDING`].
struct Found<'r> {
    place: usize,
    row: i64,
    attempt: u32,
    state: State,
    reason: Option<Reason>,
    started_at: Option<Timestamp>,
    command_row: i64,
    status: Status,
    counts: &'r str,
    terms: Option<&'r str>,
    created_at: Timestamp,
    run_timeout: Duration,
    over: bool,
}

/// Runs the script and answers where `wanted` stand; it is sorted, and what does not exist is left out.
fn standing(
    tx: &mut Sqlite,
    script: &mut Script,
    wanted: &[(CommandId, AgentId)],
) -> Result<(Vec<Slot>, Vec<Parent>), Failure> {
    let placed: Vec<(i64, &(CommandId, AgentId))> = (0..).zip(wanted).collect();
    let put = |(place, (command, agent)): &(i64, &(CommandId, AgentId)), values: &mut Values| {
        values.put(*place).put(command.0).put(agent.0);
    };
    script.run(tx)?;
    let rows = STANDING.fetch(tx, &placed, put)?;
    let mut found = rows.iter().map(|row| Found::read(row, wanted)).collect::<Result<Vec<Found<'_>>, StoreError>>()?;
    // Wanted is sorted, so the invocations of one command come in a row.
    found.sort_unstable_by_key(|found| found.place);
    let mut slots = Vec::with_capacity(found.len());
    let mut parents: Vec<Parent> = Vec::new();
    for found in &found {
        let (command, agent) = wanted[found.place];
        if parents.last().is_none_or(|parent| parent.id != command) {
            let unreadable = |what| StoreError::Corrupt { table: "commands", key: command.to_string(), what };
            parents.push(found.parent(command).map_err(unreadable)?);
        }
        let Found { row, attempt, state, reason, started_at, .. } = *found;
        let standing = Standing::new(state, reason, started_at);
        let terms = parents.last().and_then(|parent| parent.terms.clone());
        let retrying = terms.map(|terms| found.retrying(terms));
        slots.push(Slot { row, command, agent, attempt, of: parents.len() - 1, standing, retrying, next: None });
    }
    Ok((slots, parents))
}

impl<'r> Found<'r> {
    fn read(row: &'r Row, wanted: &[(CommandId, AgentId)]) -> Result<Found<'r>, StoreError> {
        let mut cells = Cells::new(row, "invocations");
        let place: usize = cells.number()?;
        cells.is_of(wanted[place]);
        Ok(Found {
            place,
            row: cells.take()?,
            attempt: cells.number()?,
            state: rows::state(&mut cells)?,
            reason: rows::reason(&mut cells)?,
            started_at: cells.time_if_any()?,
            command_row: cells.take()?,
            status: rows::status(&mut cells)?,
            counts: cells.take()?,
            terms: cells.take()?,
            created_at: cells.time()?,
            run_timeout: Duration::from_millis(cells.number()?),
            over: cells.take()?,
        })
    }

    fn retrying(&self, terms: Arc<Terms>) -> Retrying {
        let Found { created_at, run_timeout, over, .. } = *self;
        Retrying { terms, created_at, run_timeout, over }
    }

    fn parent(&self, id: CommandId) -> Result<Parent, String> {
        let rollup = Rollup::new(text::parse_tallied(self.counts)?, self.status);
        let terms = self.terms.map(terms::parse).transpose()?.map(Arc::new);
        Ok(Parent { row: self.command_row, id, rollup, terms, moved: false, ended: false })
    }
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

/// The attempts that follow.
fn stage_next(slots: &[Slot], staged: &mut Staged) {
    for Slot { command, agent, attempt, standing, .. } in slots.iter().filter(|slot| slot.next.is_some()) {
        let (state, reason) = (State::Held, Some(Reason::Retry));
        let what = What::State { command: *command, agent: *agent, attempt: attempt + 1, state, reason };
        staged.event(standing.changed_at, what);
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

fn write_slots(script: &mut Script, slots: &[Slot]) {
    let micros = |at: Option<Timestamp>| at.map(|at| at.0);
    script.add(&MOVE, slots, |slot, values| {
        let Standing { state, reason, message, started_at, changed_at, end, .. } = &slot.standing;
        let end = end.as_ref();
        values
            .put(slot.row)
            .put(state.as_str())
            .put(reason.map(|reason| reason.as_str()))
            .put(message.as_deref())
            .put(micros(*started_at))
            .put(changed_at.0)
            .put(end.map(|end| text::json(&end.outcome)))
            .put(end.and_then(|end| end.result.as_deref()))
            .put(end.and_then(|end| end.summary.as_deref()))
            .put(end.and_then(|end| end.parse_fault.as_deref()));
    });
}

fn write_parents(script: &mut Script, parents: &[Parent]) {
    script.add(&ROLL_UP, parents, |Parent { row, rollup, .. }, values| {
        values
            .put(*row)
            .put(rollup.status().as_str())
            .put(text::tallied_text(rollup.tallied()))
            .put(rollup.started_at.map(|at| at.0))
            .put(rollup.completed_at().map(|at| at.0));
    });
}
