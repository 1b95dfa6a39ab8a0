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
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::failure::Failure;
use super::invocations::IS_OPEN;
use super::micros::micros;
use super::read::Statement;
use super::rows::{self, Cells};
use super::{PostgresStore, advance, plain};
use crate::staged::Staged;
use crate::{terms, text};

const SHARES: &str = "select site, state, reason, count(*), max(changed_at) from invocations where command_id = $1 \
     group by site, state, reason order by site, state, reason";
/// Names shown of a group.
const NAMES: u32 = 20;

fn shares(found: &[PgRow]) -> Result<Vec<Share>, StoreError> {
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

impl PostgresStore {
    pub(super) async fn shares_of(&self, command: CommandId) -> Result<Vec<Share>, StoreError> {
        shares(&self.rows(Statement::new(SHARES).bind(command.0)).await?)
    }

    pub(super) async fn grouped(
        &self,
        command: CommandId,
        by: &[String],
        limit: u32,
    ) -> Result<Vec<Group>, StoreError> {
        let text = format!(
            "select state, value::text, count(*), array_agg(agent_name order by agent_name) filter (where place <= {NAMES}) \
             from ( \
                 select state, value, agent_name, \
                     row_number() over (partition by state, value order by agent_name) as place from ( \
                         select i.state, i.agent_name, {} #> $2::text[] as value from invocations i \
                         where i.command_id = $1 and not ({IS_OPEN})) as ended) as placed \
             group by state, value order by count(*) desc, state, value limit $3",
            plain::json_in_sql("i.result")
        );
        let statement = Statement::new(text).bind(command.0).bind(by.to_vec()).bind(i64::from(limit));
        let group = |row| {
            let mut cells = Cells::new(row, "invocations");
            Ok(Group {
                state: rows::state(&mut cells)?,
                value: cells.compact_if_any()?,
                count: cells.number()?,
                agents: cells.take()?,
            })
        };
        self.rows(statement).await?.iter().map(group).collect()
    }
}

#[async_trait]
impl Delivery for PostgresStore {
    async fn retries(&self, now: Timestamp, limit: u32) -> Result<Vec<Due>, StoreError> {
        let text = format!(
            "select {}, {} from invocations i join commands c on c.id = i.command_id \
             where i.state = 'held' and i.reason = 'retry' and i.due_at <= $1 order by i.due_at limit $2 \
             for update of i skip locked",
            rows::DUE,
            rows::COMMAND
        );
        let statement = Statement::new(text).bind(micros(now)).bind(i64::from(limit));
        self.rows(statement).await?.iter().map(rows::due).collect()
    }

    async fn rolling(&self, after: Option<CommandId>, limit: u32) -> Result<Vec<CommandId>, StoreError> {
        let statement = Statement::new(
            "select distinct command_id from invocations \
             where state = 'held' and reason = 'rollout' and command_id > $1 order by command_id limit $2",
        );
        let statement = statement.bind(after.map_or(Uuid::nil(), |after| after.0)).bind(i64::from(limit));
        let found = self.rows(statement).await?;
        found.iter().map(|row| Ok(CommandId(Cells::new(row, "invocations").id()?))).collect()
    }

    async fn roll(&self, command: CommandId, now: Timestamp) -> Result<Rolled, StoreError> {
        self.cold(move |connection, staged| Box::pin(roll(connection, staged, command, now))).await
    }

    async fn wished(&self, after: Option<(CommandId, AgentId)>, limit: u32) -> Result<Vec<Open>, StoreError> {
        let text = format!(
            "select {} from invocations i join agents a on a.id = i.agent_id \
             where {IS_OPEN} and (i.cancel_requested_at is not null or i.halted_at is not null) \
             and (i.cancel_requested_at is not null or i.state = 'queued') \
             and (case when a.session_open then a.node_id = $3 else not a.maybe_sent end) \
             and (i.command_id, i.agent_id) > ($1, $2) order by i.command_id, i.agent_id limit $4",
            rows::OPEN
        );
        let (command, agent) = after.map_or((Uuid::nil(), Uuid::nil()), |(command, agent)| (command.0, agent.0));
        let statement = Statement::new(text).bind(command).bind(agent).bind(self.shared.node).bind(i64::from(limit));
        self.rows(statement).await?.iter().map(rows::open).collect()
    }

    async fn backlog(&self) -> Result<Vec<(AgentId, u64)>, StoreError> {
        let text = format!("select i.agent_id, count(*) from invocations i where {IS_OPEN} group by i.agent_id");
        let waiting = |row| {
            let mut cells = Cells::new(row, "invocations");
            Ok((AgentId(cells.id()?), cells.number()?))
        };
        self.rows(Statement::new(text)).await?.iter().map(waiting).collect()
    }

    async fn open_shares(&self) -> Result<Vec<OpenShare>, StoreError> {
        let text = format!(
            "select i.site, i.state, c.priority, count(*) from invocations i join commands c on c.id = i.command_id \
             where {IS_OPEN} group by i.site, i.state, c.priority"
        );
        let share = |row| {
            let mut cells = Cells::new(row, "invocations");
            Ok(OpenShare {
                site: cells.name()?,
                state: cells.read(rows::word("state", State::parse))?,
                priority: cells.read(rows::word("priority", Priority::parse))?,
                count: cells.number()?,
            })
        };
        self.rows(Statement::new(text)).await?.iter().map(share).collect()
    }

    async fn open_commands(&self, sites: Option<&[String]>) -> Result<Vec<(Status, u64)>, StoreError> {
        let mut statement = Statement::new(
            "select c.status, count(*) from commands c where c.status in ('scheduled', 'pending', 'running')",
        );
        if let Some(sites) = sites {
            statement.push(" and exists (select 1 from command_sites s where s.command_id = c.id and s.site = any(");
            statement.push_bind(sites.to_vec()).push("))");
        }
        statement.push(" group by c.status");
        let counted = |row| {
            let mut cells = Cells::new(row, "commands");
            Ok((cells.read(rows::word("status", Status::parse))?, cells.number()?))
        };
        self.rows(statement).await?.iter().map(counted).collect()
    }
}

async fn roll(
    tx: &mut PgConnection,
    staged: &mut Staged,
    command: CommandId,
    now: Timestamp,
) -> Result<Rolled, Failure> {
    let mut rolled =
        Rolled { decision: Decision::Done, released: Vec::new(), unsent: Vec::new(), cancelled: Vec::new() };
    let Some((rollout, mut tally)) = rollout_of(tx, command).await? else { return Ok(rolled) };
    if rollout.asks_for_last_end(&tally) {
        let row = sqlx::query(AssertSqlSafe(last_end())).bind(command.0).fetch_one(&mut *tx).await?;
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
            sqlx::query("update commands set error_message = $2 where id = $1")
                .bind(command.0)
                .bind(cause.to_string())
                .execute(&mut *tx)
                .await?;
            let held = open(tx, command, "i.state = 'held' and i.reason in ('rollout', 'retry')").await?;
            let keys: Vec<_> = held.iter().map(|one| (one.key, one.agent)).collect();
            advance_all(tx, staged, &keys, Event::Halt, now).await?;
            let mark = "update invocations set halted_at = $2 where command_id = $1 and state = 'queued'";
            sqlx::query(mark).bind(command.0).bind(micros(now)).execute(&mut *tx).await?;
            rolled.unsent = open(tx, command, "i.state = 'queued'").await?;
            if rollout.on_halt == OnHalt::Cancel {
                let sent = format!("{IS_OPEN} and i.state <> 'queued'");
                let text = format!(
                    "update invocations i set cancel_requested_at = coalesce(i.cancel_requested_at, $2) \
                     where i.command_id = $1 and {sent}"
                );
                sqlx::query(AssertSqlSafe(text)).bind(command.0).bind(micros(now)).execute(&mut *tx).await?;
                rolled.cancelled = open(tx, command, &sent).await?;
            }
        }
        Decision::Wait(_) | Decision::Done => {}
    }
    Ok(rolled)
}

/// When the last one that ended did.
fn last_end() -> String {
    format!("select max(i.changed_at) from invocations i where i.command_id = $1 and not ({IS_OPEN})")
}

/// How it is let go and how it stands, from its own row alone: a look costs the same for any number of targets.
/// Locks that row, so that hosts that look at one rollout at once take turns.
async fn rollout_of(tx: &mut PgConnection, command: CommandId) -> Result<Option<(Rollout, Tally)>, Failure> {
    let text = "select id, terms::text, counts::text from commands where id = $1 for no key update";
    let Some(row) = sqlx::query(text).bind(command.0).fetch_optional(tx).await? else { return Ok(None) };
    let mut cells = Cells::new(&row, "commands");
    cells.id()?;
    Ok(Some((cells.read(terms::parse)?.rollout, cells.read(text::parse_tallied)?.tally())))
}

async fn held(tx: &mut PgConnection, command: CommandId, limit: u32) -> Result<Vec<Due>, Failure> {
    let text = format!("select {} from commands c where c.id = $1", rows::COMMAND);
    let row = sqlx::query(AssertSqlSafe(text)).bind(command.0).fetch_one(&mut *tx).await?;
    let whole = Arc::new(rows::command(&mut Cells::new(&row, "commands"))?);
    let text = format!(
        "select {} from invocations i join commands c on c.id = i.command_id \
         where i.command_id = $1 and i.state = 'held' and i.reason = 'rollout' order by i.agent_id limit $2",
        rows::DUE
    );
    let found = sqlx::query(AssertSqlSafe(text)).bind(command.0).bind(i64::from(limit)).fetch_all(tx).await?;
    Ok(found.iter().map(|row| rows::due_of(row, &whole)).collect::<Result<_, _>>()?)
}

async fn open(tx: &mut PgConnection, command: CommandId, which: &str) -> Result<Vec<Open>, Failure> {
    let text =
        format!("select {} from invocations i where i.command_id = $1 and {which} order by i.agent_id", rows::OPEN);
    let found = sqlx::query(AssertSqlSafe(text)).bind(command.0).fetch_all(tx).await?;
    Ok(found.iter().map(rows::open).collect::<Result<_, _>>()?)
}

async fn advance_all(
    tx: &mut PgConnection,
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
    let advances: Vec<_> = keys.iter().map(advance).collect();
    advance::apply(tx, &advances, &[], staged).await?;
    Ok(())
}
