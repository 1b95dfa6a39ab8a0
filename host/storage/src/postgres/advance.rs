//! A batch of advances and output: read where the attempts stand, fold, write what changed.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use domain::attempt::{Reason, State};
use domain::event::What;
use domain::terms::Terms;
use plan::id::{AgentId, AttemptKey, CommandId};
use ports::commands::{Advance, Advanced, Chunk};
use ports::error::StoreError;
use sqlx::PgConnection;
use uuid::Uuid;

use super::failure::Failure;
use super::history::{self, Followed};
use super::micros::micros;
use super::output::{self, Numbered};
use super::plain;
use super::rows::{self, Cells};
use crate::again::{Next, Retrying};
use crate::fence::{Fences, Sessions};
use crate::fold::Standing;
use crate::intake::Entry;
use crate::job::Reply;
use crate::rollup::Rollup;
use crate::staged::Staged;
use crate::{terms, text};

/// Where the attempts stand. Their rows and those of their commands are locked, in the order of their
/// ids, so that hosts that lock the same rows never wait for each other in a circle; what comes back is
/// the latest there is, also when another host had to be waited for.
pub(super) const STANDING: &str = "select w.command_id, w.agent_id, i.attempt, i.state, i.reason, i.started_at, c.status, \
     c.counts::text, case when c.max_retries > 0 then c.terms::text end, c.created_at, c.run_timeout_ms, \
     i.cancel_requested_at is not null or c.error_message is not null \
     from unnest($1::uuid[], $2::uuid[]) as w (command_id, agent_id) \
     join invocations i on i.command_id = w.command_id and i.agent_id = w.agent_id \
     join commands c on c.id = i.command_id \
     order by w.command_id, w.agent_id for no key update of i, c";
/// Moves the attempts that are still where they were found. The locks see to that; were it otherwise,
/// fewer rows than asked for would change, and the transaction starts over.
pub(super) const MOVE: &str = "update invocations i set state = m.state, reason = m.reason, message = m.message, \
     started_at = m.started_at, changed_at = m.changed_at, outcome = m.outcome::json, result = m.result::json, \
     summary = m.summary, parse_fault = m.parse_fault \
     from unnest($1::uuid[], $2::uuid[], $3::integer[], $4::text[], $5::text[], $6::text[], $7::text[], $8::timestamptz[], \
     $9::timestamptz[], $10::text[], $11::text[], $12::text[], $13::text[]) \
     as m (command_id, agent_id, attempt, was, state, reason, message, started_at, changed_at, outcome, result, summary, \
     parse_fault) where i.command_id = m.command_id and i.agent_id = m.agent_id and i.attempt = m.attempt \
     and i.state = m.was";
pub(super) const ROLL_UP: &str = "update commands c set status = m.status, counts = m.counts::jsonb, \
     executed_at = coalesce(c.executed_at, m.executed_at), completed_at = m.completed_at \
     from unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[]) \
     as m (id, status, counts, executed_at, completed_at) where c.id = m.id";

/// What is known of agents' sessions. They are locked, so that none is opened before this transaction is
/// over: whoever opens one then finds what is written here.
pub(super) const FENCE: &str = "select a.id, a.session_epoch, a.maybe_sent, a.session_open and exists \
     (select 1 from nodes n where n.id = a.node_id and n.seen_at >= now() - interval '90 seconds') \
     from agents a where a.id = any($1::uuid[]) order by a.id for no key update of a";

/// One invocation in this batch.
struct Slot {
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
    id: CommandId,
    rollup: Rollup,
    /// Only of a command whose attempts may be followed by others; read once, however many it has.
    terms: Option<Arc<Terms>>,
    moved: bool,
    /// Whether one of its invocations ended.
    ended: bool,
}

/// Applies advances in order and cuts output to what is new. Answers where each advance left its attempt,
/// and the output with its numbers, to be stored when it is known where they begin.
pub(super) async fn apply<'a>(
    tx: &mut PgConnection,
    advances: &[(Advance, Option<Reply<Option<Advanced>>>)],
    chunks: &'a [Entry<Chunk>],
    staged: &mut Staged,
) -> Result<(Vec<Option<Advanced>>, Numbered<'a>), Failure> {
    if advances.is_empty() && chunks.is_empty() {
        return Ok((Vec::new(), Numbered::default()));
    }
    let mut wanted: Vec<(CommandId, AgentId)> =
        advances.iter().map(|(advance, _)| (advance.key.command, advance.agent)).collect();
    wanted.extend(chunks.iter().map(|Entry { job: chunk, .. }| (chunk.key.command, chunk.agent)));
    wanted.sort_unstable();
    wanted.dedup();
    let (mut slots, mut parents) = standing(tx, &wanted).await?;
    let fences = fences(tx, &Fences::asked(advances.iter().map(|(advance, _)| advance))).await?;
    let place: HashMap<(CommandId, AgentId), usize> =
        slots.iter().enumerate().map(|(at, slot)| ((slot.command, slot.agent), at)).collect();

    let mut answers: Vec<Option<Advanced>> = Vec::with_capacity(advances.len());
    for (advance, _) in advances {
        let slot = place.get(&(advance.key.command, advance.agent)).map(|at| &mut slots[*at]);
        answers.push(match slot {
            Some(slot) if slot.attempt == advance.key.number && slot.is_void(advance, &fences) => Some(slot.unmoved()),
            // A copy is folded in, for this transaction may have to be tried again.
            Some(slot) if slot.attempt == advance.key.number => Some(slot.standing.apply(&mut advance.clone())),
            Some(slot) if slot.attempt > advance.key.number => history::amend(tx, advance, staged).await?,
            // An attempt beyond the latest does not exist.
            Some(_) | None => None,
        });
    }

    let latest = |command: CommandId, agent: AgentId| place.get(&(command, agent)).map(|at| slots[*at].attempt);
    let cut = output::cut(tx, chunks, latest).await?;
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

    write_slots(tx, &slots).await?;
    let followed = slots.iter().filter_map(|slot| {
        let Slot { command, agent, standing, next, .. } = slot;
        Some(Followed { command: *command, agent: *agent, standing, next: (*next)? })
    });
    history::follow(tx, &followed.collect::<Vec<_>>()).await?;
    write_parents(tx, &parents).await?;
    Ok((answers, numbered))
}

async fn fences(tx: &mut PgConnection, agents: &[AgentId]) -> Result<Fences, Failure> {
    let mut fences = Fences::default();
    if agents.is_empty() {
        return Ok(fences);
    }
    let ids: Vec<Uuid> = agents.iter().map(|agent| agent.0).collect();
    for row in &sqlx::query(FENCE).bind(ids).fetch_all(tx).await? {
        let mut cells = Cells::new(row, "agents");
        let agent = AgentId(cells.id()?);
        let (epoch, maybe_sent, owned) = (cells.number()?, cells.take()?, cells.take()?);
        fences.put(agent, Sessions { epoch, maybe_sent, owned });
    }
    Ok(fences)
}

/// Where `wanted` stand; it is sorted, and what does not exist is left out.
async fn standing(tx: &mut PgConnection, wanted: &[(CommandId, AgentId)]) -> Result<(Vec<Slot>, Vec<Parent>), Failure> {
    let (commands, agents): (Vec<Uuid>, Vec<Uuid>) = wanted.iter().map(|(command, agent)| (command.0, agent.0)).unzip();
    let found = sqlx::query(STANDING).bind(commands).bind(agents).fetch_all(tx).await?;
    let mut slots = Vec::with_capacity(found.len());
    let mut parents: Vec<Parent> = Vec::new();
    for row in &found {
        let mut cells = Cells::new(row, "invocations");
        let (command, agent) = cells.pair()?;
        let attempt = cells.attempt()?;
        let (state, reason) = (rows::state(&mut cells)?, rows::reason(&mut cells)?);
        let standing = Standing::new(state, reason, cells.time_if_any()?);
        let (status, tallied) = (rows::status(&mut cells)?, cells.read(text::parse_tallied)?);
        // They come sorted, so the invocations of one command come in a row.
        if parents.last().is_none_or(|parent| parent.id != command) {
            let (rollup, terms) = (Rollup::new(tallied, status), cells.read_some(terms::parse)?.map(Arc::new));
            parents.push(Parent { id: command, rollup, terms, moved: false, ended: false });
        } else {
            cells.skip(1);
        }
        let terms = parents.last().and_then(|parent| parent.terms.clone());
        let retrying = terms.map(|terms| retrying(&mut cells, terms)).transpose()?;
        slots.push(Slot { command, agent, attempt, of: parents.len() - 1, standing, retrying, next: None });
    }
    Ok((slots, parents))
}

/// What a command with these terms says about trying again.
fn retrying(cells: &mut Cells<'_>, terms: Arc<Terms>) -> Result<Retrying, StoreError> {
    Ok(Retrying {
        terms,
        created_at: cells.time()?,
        run_timeout: Duration::from_millis(cells.number()?),
        over: cells.take()?,
    })
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

async fn write_slots(tx: &mut PgConnection, slots: &[Slot]) -> Result<(), Failure> {
    if slots.is_empty() {
        return Ok(());
    }
    let of = |read: fn(&Standing) -> Option<&str>| -> Vec<Option<Cow<'_, str>>> {
        slots.iter().map(|slot| plain::text_if_any(read(&slot.standing))).collect()
    };
    let outcomes = slots.iter().map(|slot| slot.standing.end.as_ref().map(|end| text::json(&end.outcome)));
    let results = slots.iter().map(|slot| plain::json_if_any(slot.standing.end.as_ref()?.result.as_deref()));
    let moved = sqlx::query(MOVE)
        .bind(slots.iter().map(|slot| slot.command.0).collect::<Vec<_>>())
        .bind(slots.iter().map(|slot| slot.agent.0).collect::<Vec<_>>())
        .bind(slots.iter().map(|slot| i32::try_from(slot.attempt).unwrap_or(i32::MAX)).collect::<Vec<_>>())
        .bind(slots.iter().map(|slot| slot.standing.was().as_str()).collect::<Vec<_>>())
        .bind(slots.iter().map(|slot| slot.standing.state.as_str()).collect::<Vec<_>>())
        .bind(slots.iter().map(|slot| slot.standing.reason.map(|reason| reason.as_str())).collect::<Vec<_>>())
        .bind(of(|standing| standing.message.as_deref()))
        .bind(slots.iter().map(|slot| slot.standing.started_at.map(micros)).collect::<Vec<_>>())
        .bind(slots.iter().map(|slot| micros(slot.standing.changed_at)).collect::<Vec<_>>())
        .bind(outcomes.collect::<Vec<_>>())
        .bind(results.collect::<Vec<_>>())
        .bind(of(|standing| standing.end.as_ref()?.summary.as_deref()))
        .bind(of(|standing| standing.end.as_ref()?.parse_fault.as_deref()))
        .execute(tx)
        .await?;
    if moved.rows_affected() != slots.len() as u64 { Err(Failure::Overtaken) } else { Ok(()) }
}

async fn write_parents(tx: &mut PgConnection, parents: &[Parent]) -> Result<(), sqlx::Error> {
    if parents.is_empty() {
        return Ok(());
    }
    sqlx::query(ROLL_UP)
        .bind(parents.iter().map(|parent| parent.id.0).collect::<Vec<_>>())
        .bind(parents.iter().map(|parent| parent.rollup.status().as_str()).collect::<Vec<_>>())
        .bind(parents.iter().map(|parent| text::tallied_text(parent.rollup.tallied())).collect::<Vec<_>>())
        .bind(parents.iter().map(|parent| parent.rollup.started_at.map(micros)).collect::<Vec<_>>())
        .bind(parents.iter().map(|parent| parent.rollup.completed_at().map(micros)).collect::<Vec<_>>())
        .execute(tx)
        .await?;
    Ok(())
}
