//! What background work asks: retries that are due, rollouts, rollups, how much waits.

use std::sync::Arc;

use async_trait::async_trait;
use domain::attempt::{Event, State};
use domain::command::Status;
use domain::priority::Priority;
use domain::rollout::{Decision, OnHalt, Rollout, Share, Tally};
use domain::time::Timestamp;
use plan::id::{AgentId, AttemptKey, CommandId};
use ports::commands::{Advance, Due, Group, Open, Word};
use ports::delivery::{Delivery, OpenShare, Rolled};
use ports::error::StoreError;
use uuid::Uuid;

use super::bulk::Script;
use super::connection::Sqlite;
use super::failure::Failure;
use super::output::Streams;
use super::query::{Row, query};
use super::rows::{self, Cells};
use super::{SqliteStore, advance};
use crate::staged::Staged;
use crate::{terms, text};

const SHARES: &str = "select site, state, reason, count(*), max(changed_at) from invocations where command_id = ? \
     group by site, state, reason order by site, state, reason";
/// When the last one that ended did.
const LAST_END: &str = "select max(changed_at) from invocations where command_id = ? and not is_open";
/// Commands with agents that their rollout has not let go yet.
pub(super) const ROLLING: &str = "select distinct command_id from invocations indexed by invocations_held \
     where state = 'held' and reason = 'rollout' and command_id > ? order by command_id limit ?";
/// How much waits for each agent.
pub(super) const BACKLOG: &str =
    "select agent_id, count(*) from invocations indexed by invocations_open where is_open group by agent_id";
/// How much is not over, by site, state and priority.
pub(super) const OPEN_SHARES: &str = "select i.site, i.state, c.priority, count(*) \
     from invocations i indexed by invocations_open cross join commands c on c.id = i.command_id \
     where i.is_open group by i.site, i.state, c.priority";
/// Commands that are not over, in sight of some sites or of all.
pub(super) const OPEN_COMMANDS: &str = "select c.status, count(*) from commands c indexed by commands_status \
     where c.status in ('scheduled', 'pending', 'running') and (?1 is null or exists (select 1 from command_sites s \
     where s.site in (select value from json_each(?1)) and s.command_id = c.id)) group by c.status";
/// What is asked to end and can be ended.
pub(super) const WISHED: &str = "select i.command_id, i.agent_id, i.attempt, i.state, i.reason, i.cancel_requested_at \
     from invocations i indexed by invocations_wished cross join agents a on a.id = i.agent_id \
     where i.is_open and (i.cancel_requested_at is not null or i.halted_at is not null) \
     and (i.cancel_requested_at is not null or i.state = 'queued') and (a.session_open or not a.maybe_sent) \
     and (i.command_id, i.agent_id) > (?, ?) order by i.command_id, i.agent_id limit ?";
/// Names shown of a group.
const NAMES: u32 = 20;

/// What is to be tried again by now.
pub(super) fn due_again() -> String {
    format!(
        "select {}, {} from invocations i indexed by invocations_due cross join commands c on c.id = i.command_id \
         where i.state = 'held' and i.reason = 'retry' and i.due_at <= ? order by i.due_at limit ?",
        rows::DUE,
        rows::COMMAND
    )
}

fn shares(found: &[Row]) -> Result<Vec<Share>, StoreError> {
    let share = |row| {
        let mut cells = Cells::new(row, "invocations");
        Ok(Share {
            site: cells.take()?,
            state: rows::state(&mut cells)?,
            reason: rows::reason(&mut cells)?,
            count: cells.number()?,
            changed_at: cells.time()?,
        })
    };
    found.iter().map(share).collect()
}

impl SqliteStore {
    pub(super) async fn shares_of(&self, command: CommandId) -> Result<Vec<Share>, StoreError> {
        let found = query(SHARES).bind(command.0).fetch_all(&self.readers).await.map_err(Failure::from)?;
        shares(&found)
    }

    pub(super) async fn grouped(
        &self,
        command: CommandId,
        by: &[String],
        limit: u32,
    ) -> Result<Vec<Group>, StoreError> {
        // `->` answers JSON text whatever stands there, and nothing where nothing does.
        let value = by.iter().fold("result".to_owned(), |sql, _| format!("({sql} -> ?)"));
        let sql = format!(
            "select state, value, count(*), json_group_array(agent_name) filter (where place <= {NAMES}) from ( \
                 select state, value, agent_name, \
                     row_number() over (partition by state, value order by agent_name) as place from ( \
                         select state, agent_name, {value} as value from invocations \
                         where command_id = ? and not is_open)) \
             group by state, value order by count(*) desc, state, value limit ?"
        );
        let mut query = query(sql);
        for step in by {
            query = query.bind(path(step));
        }
        let found = query.bind(command.0).bind(limit).fetch_all(&self.readers).await.map_err(Failure::from)?;
        let group = |row| {
            let mut cells = Cells::new(row, "invocations");
            Ok(Group {
                state: rows::state(&mut cells)?,
                value: cells.take()?,
                count: cells.number()?,
                agents: cells.json()?,
            })
        };
        found.iter().map(group).collect()
    }
}

/// One step of a JSON Pointer as SQLite's path: a number is a place in a list.
fn path(step: &str) -> String {
    match step.parse::<u32>() {
        Ok(place) => format!("$[{place}]"),
        Err(_) => format!("$.\"{}\"", step.replace('"', "\\\"")),
    }
}

#[async_trait]
impl Delivery for SqliteStore {
    async fn retries(&self, now: Timestamp, limit: u32) -> Result<Vec<Due>, StoreError> {
        let query = query(due_again()).bind(now.0).bind(limit);
        query.fetch_all(&self.readers).await.map_err(Failure::from)?.iter().map(rows::due).collect()
    }

    async fn rolling(&self, after: Option<CommandId>, limit: u32) -> Result<Vec<CommandId>, StoreError> {
        let after: Vec<u8> = after.map_or_else(Vec::new, |after| after.0.as_bytes().to_vec());
        let query = query(ROLLING).bind(after).bind(limit);
        let found = query.fetch_all(&self.readers).await.map_err(Failure::from)?;
        found.iter().map(|row| Ok(CommandId(Cells::new(row, "invocations").id()?))).collect()
    }

    async fn roll(&self, command: CommandId, now: Timestamp) -> Result<Rolled, StoreError> {
        self.cold(move |connection, staged| Box::pin(roll(connection, staged, command, now))).await
    }

    async fn wished(&self, after: Option<(CommandId, AgentId)>, limit: u32) -> Result<Vec<Open>, StoreError> {
        // Nothing is below an empty blob.
        let bytes = |id: Option<Uuid>| id.map_or_else(Vec::new, |id| id.as_bytes().to_vec());
        let (command, agent) = (after.map(|after| after.0.0), after.map(|after| after.1.0));
        let query = query(WISHED).bind(bytes(command)).bind(bytes(agent)).bind(limit);
        let found = query.fetch_all(&self.readers).await.map_err(Failure::from)?;
        found.iter().map(rows::open).collect()
    }

    async fn backlog(&self) -> Result<Vec<(AgentId, u64)>, StoreError> {
        let found = query(BACKLOG).fetch_all(&self.readers).await.map_err(Failure::from)?;
        let waiting = |row| {
            let mut cells = Cells::new(row, "invocations");
            Ok((AgentId(cells.id()?), cells.number()?))
        };
        found.iter().map(waiting).collect()
    }

    async fn open_shares(&self) -> Result<Vec<OpenShare>, StoreError> {
        let found = query(OPEN_SHARES).fetch_all(&self.readers).await.map_err(Failure::from)?;
        let share = |row| {
            let mut cells = Cells::new(row, "invocations");
            Ok(OpenShare {
                site: cells.name()?,
                state: cells.read(rows::word("state", State::parse))?,
                priority: cells.read(rows::word("priority", Priority::parse))?,
                count: cells.number()?,
            })
        };
        found.iter().map(share).collect()
    }

    async fn open_commands(&self, sites: Option<&[String]>) -> Result<Vec<(Status, u64)>, StoreError> {
        let query = query(OPEN_COMMANDS).bind(sites.map(text::json));
        let found = query.fetch_all(&self.readers).await.map_err(Failure::from)?;
        let counted = |row| {
            let mut cells = Cells::new(row, "commands");
            Ok((cells.read(rows::word("status", Status::parse))?, cells.number()?))
        };
        found.iter().map(counted).collect()
    }
}

async fn roll(tx: &mut Sqlite, staged: &mut Staged, command: CommandId, now: Timestamp) -> Result<Rolled, Failure> {
    let mut rolled =
        Rolled { decision: Decision::Done, released: Vec::new(), unsent: Vec::new(), cancelled: Vec::new() };
    let Some((rollout, mut tally)) = rollout_of(tx, command).await? else { return Ok(rolled) };
    if rollout.asks_for_last_end(&tally) {
        let row = query(LAST_END).bind(command.0).fetch_one(&mut *tx).await?;
        tally.last_end = Cells::new(&row, "invocations").time_if_any()?;
    }
    rolled.decision = rollout.decide(&tally, now);
    match rolled.decision {
        Decision::Release(count) => {
            let held = held(tx, command, count).await?;
            let keys: Vec<_> = held.iter().map(|due| (due.key(), due.agent)).collect();
            advance_all(tx, staged, &keys, Event::Release, now).await?;
            rolled.released = held;
        }
        Decision::Halt(cause) => {
            query("update commands set error_message = ? where id = ?")
                .bind(cause.to_string())
                .bind(command.0)
                .execute(&mut *tx)
                .await?;
            let held = open(tx, command, "state = 'held' and reason in ('rollout', 'retry')").await?;
            let keys: Vec<_> = held.iter().map(|one| (one.key, one.agent)).collect();
            advance_all(tx, staged, &keys, Event::Halt, now).await?;
            let mark = "update invocations set halted_at = ? where command_id = ? and state = 'queued'";
            query(mark).bind(now.0).bind(command.0).execute(&mut *tx).await?;
            rolled.unsent = open(tx, command, "state = 'queued'").await?;
            if rollout.on_halt == OnHalt::Cancel {
                query(
                    "update invocations set cancel_requested_at = coalesce(cancel_requested_at, ?) \
                     where command_id = ? and is_open and state <> 'queued'",
                )
                .bind(now.0)
                .bind(command.0)
                .execute(&mut *tx)
                .await?;
                rolled.cancelled = open(tx, command, "is_open and state <> 'queued'").await?;
            }
        }
        Decision::Wait(_) | Decision::Done => {}
    }
    Ok(rolled)
}

/// How it is let go and how it stands, from its own row alone: a look costs the same for any number of targets.
async fn rollout_of(tx: &mut Sqlite, command: CommandId) -> Result<Option<(Rollout, Tally)>, Failure> {
    let query = query("select id, terms, counts from commands where id = ?").bind(command.0);
    let Some(row) = query.fetch_optional(tx).await? else { return Ok(None) };
    let mut cells = Cells::new(&row, "commands");
    cells.id()?;
    Ok(Some((cells.read(terms::parse)?.rollout, cells.read(text::parse_tallied)?.tally())))
}

async fn held(tx: &mut Sqlite, command: CommandId, limit: u32) -> Result<Vec<Due>, Failure> {
    let sql = format!("select {} from commands c where c.id = ?", rows::COMMAND);
    let row = query(sql).bind(command.0).fetch_one(&mut *tx).await?;
    let whole = Arc::new(rows::command(&mut Cells::new(&row, "commands"))?);
    let sql = format!(
        "select {} from invocations i indexed by invocations_held cross join commands c on c.id = i.command_id \
         where i.command_id = ? and i.state = 'held' and i.reason = 'rollout' order by i.agent_id limit ?",
        rows::DUE
    );
    let found = query(sql).bind(command.0).bind(limit).fetch_all(tx).await?;
    Ok(found.iter().map(|row| rows::due_of(row, &whole)).collect::<Result<_, _>>()?)
}

async fn open(tx: &mut Sqlite, command: CommandId, which: &str) -> Result<Vec<Open>, Failure> {
    let sql = format!("select {} from invocations where command_id = ? and {which} order by agent_id", rows::OPEN);
    let found = query(sql).bind(command.0).fetch_all(tx).await?;
    Ok(found.iter().map(rows::open).collect::<Result<_, _>>()?)
}

async fn advance_all(
    tx: &mut Sqlite,
    staged: &mut Staged,
    keys: &[(AttemptKey, AgentId)],
    event: Event,
    at: Timestamp,
) -> Result<(), Failure> {
    let advance = |(key, agent): &(AttemptKey, AgentId)| {
        (
            Advance { key: *key, agent: *agent, events: vec![event], at, message: None, end: None, word: Word::Anyone },
            None,
        )
    };
    let mut advances: Vec<_> = keys.iter().map(advance).collect();
    let mut script = Script::default();
    advance::apply(tx, &mut script, &mut advances, &[], &mut Streams::default(), staged).await?;
    script.run(tx)?;
    Ok(())
}
