//! Telemetry: rows stand by block, so that what comes together is written together, what is asked of one agent
//! is a short walk in each block, and what is forgotten is one end of the table.

use async_trait::async_trait;
use domain::telemetry::report::Report;
use domain::telemetry::rollup::{Bucket, Level};
use domain::time::Timestamp;
use plan::id::AgentId;
use ports::error::StoreError;
use ports::telemetry::Telemetry;
use uuid::Uuid;

use super::SqliteStore;
use super::bulk::{Bulk, Values};
use super::connection::Sqlite;
use super::failure::Failure;
use super::query::{self, Error, query, query_scalar};
use super::rows::Cells;
use crate::packed;
use crate::tiers::{AGENTS_AT_ONCE, Row, rolled, table};

/// Rows forgotten by one write, so that no other waits long for it.
const FORGOTTEN_AT_ONCE: i64 = 500;

static REPORTS: Bulk = Bulk::new(
    "insert into telemetry (block, agent_id, timestamp, created_at, report) values",
    "(?, ?, ?, ?, ?)",
    "on conflict do nothing",
);
static MINUTES: Bulk = Bulk::new(
    "insert into telemetry_minutes (block, agent_id, timestamp, report) values",
    "(?, ?, ?, ?)",
    "on conflict do update set report = excluded.report",
);
static HOURS: Bulk = Bulk::new(
    "insert into telemetry_hours (block, agent_id, timestamp, report) values",
    "(?, ?, ?, ?)",
    "on conflict do update set report = excluded.report",
);

/// Microseconds of a block.
fn block_span(level: Level) -> i64 {
    let seconds = match level {
        Level::Raw => 60,
        Level::Minute => 3_600,
        Level::Hour => 86_400,
    };
    seconds * 1_000_000
}

/// The block that holds `at`.
fn block(level: Level, at: Timestamp) -> i64 {
    at.0.div_euclid(block_span(level))
}

/// The blocks that hold what is from `from` on and before `to`.
const BLOCKS: &str = "with recursive blocks (n) as (select ?1 union all select n + 1 from blocks where n < ?2)";

fn row(row: &query::Row, level: Level) -> Result<Row, StoreError> {
    let mut cells = Cells::new(row, table(level));
    let agent = AgentId(cells.take::<Uuid>()?);
    Ok(Row { agent, at: Timestamp(cells.take()?), report: cells.take()? })
}

impl SqliteStore {
    /// What agents after `above`, up to `up_to`, have at `level` in a span.
    async fn of_agents(
        &self,
        level: Level,
        (above, up_to): (Uuid, Uuid),
        (from, to): (Timestamp, Timestamp),
    ) -> Result<Vec<Row>, StoreError> {
        let text = format!(
            "{BLOCKS} select t.agent_id, t.timestamp, t.report from blocks b cross join {} t on t.block = b.n \
             and t.agent_id > ?3 and t.agent_id <= ?4 where t.timestamp >= ?5 and t.timestamp < ?6",
            table(level)
        );
        let found = query(text)
            .bind(block(level, from))
            .bind(block(level, Timestamp(to.0 - 1)))
            .bind(above)
            .bind(up_to)
            .bind(from.0)
            .bind(to.0)
            .fetch_all(&self.readers)
            .await
            .map_err(Failure::from)?;
        found.iter().map(|found| row(found, level)).collect()
    }

    async fn agents_after(&self, above: Uuid) -> Result<Option<Uuid>, StoreError> {
        let last: Option<Uuid> =
            query_scalar("select max(id) from (select id from agents where id > ? order by id limit ?)")
                .bind(above)
                .bind(AGENTS_AT_ONCE)
                .fetch_one(&self.readers)
                .await
                .map_err(Failure::from)?;
        Ok(last)
    }
}

async fn store_buckets(tx: &mut Sqlite, level: Level, made: &[Row]) -> Result<u64, Error> {
    let bulk = if level == Level::Minute { &MINUTES } else { &HOURS };
    bulk.execute(tx, made, |row, values| {
        values.put(block(level, row.at)).put(row.agent.0).put(row.at.0).put(row.report.clone());
    })
}

#[async_trait]
impl Telemetry for SqliteStore {
    async fn store_reports(&self, reports: &[Report]) -> Result<u64, StoreError> {
        let packed = |Report { agent, at, received_at, readings }: &Report| {
            (block(Level::Raw, *at), agent.0, at.0, received_at.0, packed::report(readings))
        };
        let mut rows: Vec<(i64, Uuid, i64, i64, Vec<u8>)> = reports.iter().map(packed).collect();
        // In the order of the table, so that neighbours are written together.
        rows.sort_by_key(|(block, agent, at, ..)| (*block, *agent, *at));
        self.cold(move |connection, _| {
            Box::pin(async move {
                let put = |(block, agent, at, received_at, bytes): &(i64, Uuid, i64, i64, Vec<u8>),
                           values: &mut Values| {
                    values.put(*block).put(*agent).put(*at).put(*received_at).put(bytes.clone());
                };
                Ok::<_, Failure>(REPORTS.execute(connection, &rows, put)?)
            })
        })
        .await
    }

    async fn buckets(
        &self,
        agent: AgentId,
        level: Level,
        from: Timestamp,
        to: Timestamp,
        at_most: u32,
    ) -> Result<Vec<Bucket>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let text = format!(
            "{BLOCKS} select t.agent_id, t.timestamp, t.report from blocks b cross join {} t on t.block = b.n \
             and t.agent_id = ?3 and t.timestamp >= ?4 and t.timestamp < ?5 limit ?6",
            table(level)
        );
        let found = query(text)
            .bind(block(level, from))
            .bind(block(level, Timestamp(to.0 - 1)))
            .bind(agent.0)
            .bind(from.0)
            .bind(to.0)
            .bind(at_most)
            .fetch_all(&self.readers)
            .await
            .map_err(Failure::from)?;
        found.iter().map(|found| row(found, level)?.bucket(level)).collect()
    }

    async fn rolled_until(&self, level: Level) -> Result<Option<Timestamp>, StoreError> {
        let until: Option<i64> = query_scalar("select until from telemetry_marks where level = ?")
            .bind(level.as_str())
            .fetch_optional(&self.readers)
            .await
            .map_err(Failure::from)?;
        Ok(until.map(Timestamp))
    }

    async fn roll_up(&self, level: Level, from: Timestamp, until: Timestamp) -> Result<u64, StoreError> {
        let Some(below) = level.below() else { return Ok(0) };
        let (mut above, mut count) = (Uuid::nil(), 0);
        while let Some(up_to) = self.agents_after(above).await? {
            let rows = self.of_agents(below, (above, up_to), (from, until)).await?;
            above = up_to;
            let made = rolled(rows, below, level.span());
            if made.is_empty() {
                continue;
            }
            count += self
                .cold(move |connection, _| {
                    Box::pin(async move { Ok::<_, Failure>(store_buckets(connection, level, &made).await?) })
                })
                .await?;
        }
        self.cold(move |connection, _| {
            Box::pin(async move {
                query(
                    "insert into telemetry_marks (level, until) values (?, ?) \
                     on conflict (level) do update set until = max(until, excluded.until)",
                )
                .bind(level.as_str())
                .bind(until.0)
                .execute(connection)
                .await?;
                Ok::<_, Failure>(count)
            })
        })
        .await
    }

    async fn forget(&self, level: Level, before: Timestamp, _: Timestamp) -> Result<bool, StoreError> {
        let text = format!(
            "delete from {0} where (block, agent_id, timestamp) in (select block, agent_id, timestamp from {0} \
             where block < ? order by block, agent_id, timestamp limit ?)",
            table(level)
        );
        let end = block(level, before);
        self.cold(move |connection, _| {
            Box::pin(async move {
                let query = query(text).bind(end).bind(FORGOTTEN_AT_ONCE);
                let gone = query.execute(connection).await?.rows_affected();
                Ok::<_, Failure>(gone >= FORGOTTEN_AT_ONCE.unsigned_abs())
            })
        })
        .await
    }
}
