//! What hosts that share the database learn of each other: who lives, whose agents changed, what waits here.

use std::time::Duration;

use async_trait::async_trait;
use domain::agent::AgentStatus;
use domain::time::Timestamp;
use plan::id::{AgentId, AttemptKey, CommandId};
use ports::error::StoreError;
use ports::hosts::{Changes, Found, Hosts};
use sqlx::postgres::PgRow;
use sqlx::postgres::types::PgInterval;
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::PostgresStore;
use super::failure::Failure;
use super::journal::fact;
use super::open::{ALIVE, NODE_LOCK};
use super::read::Statement;
use super::rows::{self, Cells};
use crate::staged::Staged;

/// Hosts that are silent and have left sessions behind.
const DEAD: &str = "select n.id from nodes n where n.seen_at < now() - $1 \
     and exists (select 1 from agents a where a.session_open and a.node_id = n.id)";
/// Locks the rows in the order of their ids before it changes them, as every host does. A host that comes back
/// in between has said so by then, and keeps its sessions.
const BURY: &str = "with dead as materialized (select n.id, n.seen_at from nodes n where n.seen_at < now() - $1 \
         order by n.id for update skip locked), \
     left_behind as materialized (select a.id, d.seen_at from agents a join dead d on a.node_id = d.id \
         where a.session_open order by a.id for no key update of a) \
     update agents a set session_open = false, last_seen = greatest(a.last_seen, l.seen_at) \
     from left_behind l where a.id = l.id returning a.id, a.status";
/// How many agents are here.
const HERE: &str = "(select count(*) from agents a where a.session_open and a.node_id = $1)";
/// The first of what waits for each agent, a step of the index for each, until more agents were passed than are here;
/// whether the agent is here, and how many are.
const WAITING: &str = "with recursive first as ( \
         (select i.agent_id, i.command_id, i.attempt from invocations i \
             where i.state = 'queued' and i.cancel_requested_at is null \
             order by i.agent_id, i.turn, i.command_id limit 1) \
         union all select n.agent_id, n.command_id, n.attempt from first f cross join lateral ( \
             select i.agent_id, i.command_id, i.attempt from invocations i \
             where i.state = 'queued' and i.cancel_requested_at is null and i.agent_id > f.agent_id \
             order by i.agent_id, i.turn, i.command_id limit 1) n) \
     select f.agent_id, f.command_id, f.attempt, \
         exists (select 1 from agents a where a.id = f.agent_id and a.session_open and a.node_id = $1),";
/// The same of the agents that are here, a search in the index for each.
const WAITING_HERE: &str = "select a.id, f.command_id, f.attempt from agents a cross join lateral ( \
         select i.command_id, i.attempt from invocations i \
         where i.state = 'queued' and i.cancel_requested_at is null and i.agent_id = a.id \
         order by i.turn, i.command_id limit 1) f \
     where a.session_open and a.node_id = $1";

fn interval(time: Duration) -> PgInterval {
    PgInterval { microseconds: i64::try_from(time.as_micros()).unwrap_or(i64::MAX), ..PgInterval::default() }
}

fn found(row: &PgRow) -> Result<Found, StoreError> {
    let mut cells = Cells::new(row, "agents");
    let mut agent = rows::agent(&mut cells)?;
    let open = cells.take()?;
    agent.last_seen = agent.last_seen.max(cells.time_if_any()?);
    Ok(Found { agent, open })
}

/// Which agents; whether each has a session, and when the host of that has said last that it lives.
fn agents(which: &str) -> Statement {
    let alive = "case when session_open then (select n.seen_at from nodes n where n.id = node_id) end";
    Statement::new(format!("select {}, session_open, {alive} from agents {which}", rows::AGENT))
}

fn first(cells: &mut Cells<'_>) -> Result<(AgentId, AttemptKey), StoreError> {
    let (agent, command) = (AgentId(cells.take()?), CommandId(cells.take()?));
    Ok((agent, AttemptKey { command, number: cells.attempt()? }))
}

async fn bury(tx: &mut PgConnection, staged: &mut Staged, silence: Duration, at: Timestamp) -> Result<u64, Failure> {
    let closed = sqlx::query(BURY).bind(interval(silence)).fetch_all(tx).await?;
    for row in &closed {
        let mut cells = Cells::new(row, "agents");
        let agent = AgentId(cells.id()?);
        staged.agent(at, agent, cells.read(rows::word("status of an agent", AgentStatus::parse))?);
    }
    Ok(closed.len() as u64)
}

/// Compares with what is recorded, and records what took its place.
async fn agree(
    tx: &mut PgConnection,
    node: Uuid,
    what: &'static str,
    (mine, replace): (&[String], bool),
) -> Result<Option<String>, Failure> {
    let Some(present) = mine.first() else { return Ok(None) };
    sqlx::query("insert into meta (key, value) values ($1, $2) on conflict (key) do nothing")
        .bind(what)
        .bind(present)
        .execute(&mut *tx)
        .await?;
    let recorded: String = fact(tx, what, |text| Some(text.to_owned())).await?;
    let mut settled = mine.contains(&recorded);
    if !settled && replace {
        settled = is_alone(tx, node).await?;
    }
    if !settled {
        return Ok(Some(recorded));
    }
    if recorded != *present {
        sqlx::query("update meta set value = $2 where key = $1").bind(what).bind(present).execute(tx).await?;
    }
    Ok(None)
}

/// Whether no other host holds its lock.
async fn is_alone(tx: &mut PgConnection, node: Uuid) -> Result<bool, Failure> {
    let text = format!("select not exists ({ALIVE} and n.id <> $2)");
    Ok(sqlx::query_scalar(AssertSqlSafe(text)).bind(i64::from(NODE_LOCK)).bind(node).fetch_one(tx).await?)
}

#[async_trait]
impl Hosts for PostgresStore {
    fn is_shared(&self) -> bool {
        true
    }

    async fn beat(&self, silence: Duration) -> Result<u32, StoreError> {
        // Every transaction says that its host lives.
        self.cold(|_, _| Box::pin(async { Ok(()) })).await?;
        let statement = Statement::new("select count(*) from nodes where id <> $1 and seen_at >= now() - $2");
        let row = self.row(statement.bind(self.shared.node).bind(interval(silence))).await?;
        let others: i64 = row.map_or(Ok(0), |row| Cells::new(&row, "nodes").take())?;
        Ok(u32::try_from(others).unwrap_or(u32::MAX))
    }

    async fn bury(&self, silence: Duration, at: Timestamp) -> Result<u64, StoreError> {
        if self.rows(Statement::new(DEAD).bind(interval(silence))).await?.is_empty() {
            return Ok(0);
        }
        self.cold(move |connection, staged| Box::pin(bury(connection, staged, silence, at))).await
    }

    async fn agents_since(&self, after: u64, limit: u32) -> Result<Changes, StoreError> {
        let statement =
            Statement::new("select seq, agent_id from events where kind = 'agent' and seq > $1 order by seq limit $2");
        let number = i64::try_from(after).unwrap_or(i64::MAX);
        let events = self.rows(statement.bind(number).bind(i64::from(limit))).await?;
        let (mut ids, mut upto) = (Vec::<Uuid>::new(), after);
        for row in &events {
            let mut cells = Cells::new(row, "events");
            upto = cells.numbered()?;
            ids.push(cells.take()?);
        }
        if ids.is_empty() {
            return Ok(Changes { agents: Vec::new(), upto });
        }
        ids.sort_unstable();
        ids.dedup();
        let rows = self.rows(agents("where id = any($1::uuid[])").bind(ids)).await?;
        Ok(Changes { agents: rows.iter().map(found).collect::<Result<_, _>>()?, upto })
    }

    async fn agents_anywhere(&self) -> Result<Vec<Found>, StoreError> {
        self.rows(agents("order by agent_id")).await?.iter().map(found).collect()
    }

    async fn agent(&self, id: AgentId) -> Result<Option<Found>, StoreError> {
        self.row(agents("where id = $1").bind(id.0)).await?.as_ref().map(found).transpose()
    }

    async fn waiting(&self) -> Result<Vec<(AgentId, AttemptKey)>, StoreError> {
        let node = self.shared.node;
        // Whichever are fewer: the agents that are here, or those that something waits for.
        let text = format!("{WAITING} {HERE} from first f limit 1 + {HERE}");
        let steps = self.rows(Statement::new(text).bind(node)).await?;
        let (mut here, mut agents) = (Vec::new(), 0);
        for row in &steps {
            let mut cells = Cells::new(row, "invocations");
            let first = first(&mut cells)?;
            if cells.take()? {
                here.push(first);
            }
            agents = cells.number()?;
        }
        if steps.len() as u64 <= agents {
            return Ok(here);
        }
        let all = self.rows(Statement::new(WAITING_HERE).bind(node)).await?;
        all.iter().map(|row| first(&mut Cells::new(row, "invocations"))).collect()
    }

    async fn agree(&self, what: &'static str, mine: &[String], replace: bool) -> Result<Option<String>, StoreError> {
        let (mine, node) = (mine.to_vec(), self.shared.node);
        self.cold(move |connection, _| {
            let mine = mine.clone();
            Box::pin(async move { agree(connection, node, what, (&mine, replace)).await })
        })
        .await
    }
}
