//! Telemetry: partitions by time, so that forgetting is dropping. It goes past the writer of commands: nobody
//! waits for it, no event comes of it, and its batches shall not hold up theirs.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use domain::telemetry::report::Report;
use domain::telemetry::rollup::{Bucket, Level};
use domain::time::Timestamp;
use plan::id::AgentId;
use ports::error::StoreError;
use ports::telemetry::Telemetry;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::PostgresStore;
use super::failure::Failure;
use super::micros::{Micros, micros};
use super::read::Statement;
use super::rows::Cells;
use crate::packed;
use crate::tiers::{AGENTS_AT_ONCE, Row, rolled, table};

const REPORTS: &str = "insert into telemetry (agent_id, timestamp, created_at, report) \
     select * from unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::bytea[])";
/// Has [`REPORTS`] go past what is there already. To look for it costs the server half as much again as to write, and
/// nearly all of what comes is new: who said something twice was cut off in between.
const NEW_ONLY: &str = "on conflict do nothing";
/// So many batches are written past what is there after one held some of it: who says things again says several.
const WARY: u32 = 64;
/// Longest wait for the lock on a table whose partitions change: nobody who writes waits longer behind us.
pub(super) const LOCK_WITHIN: &str = "50ms";
/// Times that room is made for the same rows: somebody else may be at it, and hold the lock meanwhile.
const ROOM_TRIES: usize = 20;
/// Partitions made ahead.
const AHEAD: i64 = 2;
const DAY: i64 = 86_400_000_000;

/// Microseconds of a partition.
fn part_span(level: Level) -> i64 {
    match level {
        Level::Raw | Level::Minute => DAY,
        Level::Hour => 30 * DAY,
    }
}

/// The number of the partition that holds `at`.
fn part(level: Level, at: Timestamp) -> i64 {
    at.0.div_euclid(part_span(level))
}

fn row(row: &PgRow, level: Level) -> Result<Row, StoreError> {
    let mut cells = Cells::new(row, table(level));
    let agent = AgentId(cells.take::<Uuid>()?);
    let Micros(at) = cells.take()?;
    Ok(Row { agent, at, report: cells.take()? })
}

/// Makes one partition. Its bounds are whole days, spelled out: they take no parameters. `if not exists` alone looks
/// before it waits for its turn: whoever makes the same one at the same moment is told that it is there after all.
fn making(level: Level, number: i64) -> String {
    let day = |number: i64| format!("{} days", number * (part_span(level) / DAY));
    let table = table(level);
    alone(&format!(
        "begin execute format('create table if not exists {table}_{number} partition of {table} \
         for values from (%L) to (%L)', 'epoch'::timestamptz + interval '{}', 'epoch'::timestamptz + interval '{}'); \
         exception when duplicate_table or duplicate_object or unique_violation then null; end;",
        day(number),
        day(number + 1)
    ))
}

/// One statement that gives up its wait for a lock.
pub(super) fn alone(work: &str) -> String {
    format!("do $$ begin perform set_config('lock_timeout', '{LOCK_WITHIN}', true); {work} end $$")
}

/// Whether the database says this of a statement, by its code.
fn says(failure: &Failure, code: &str) -> bool {
    matches!(failure, Failure::Database(sqlx::Error::Database(error)) if error.code().as_deref() == Some(code))
}

/// Whether a row is there already.
fn is_repeated(failure: &Failure) -> bool {
    says(failure, "23505")
}

/// Whether a row found no partition.
fn is_homeless(failure: &Failure) -> bool {
    says(failure, "23514")
}

/// Whether others held the lock for too long.
fn is_held_up(failure: &Failure) -> bool {
    says(failure, "55P03")
}

/// Writes `reports`, but for what is there already with [`NEW_ONLY`].
fn writing(reports: &[&Report], which: &str) -> Statement {
    Statement::new(format!("{REPORTS} {which}"))
        .bind(reports.iter().map(|report| report.agent.0).collect::<Vec<_>>())
        .bind(reports.iter().map(|report| micros(report.at)).collect::<Vec<_>>())
        .bind(reports.iter().map(|report| micros(report.received_at)).collect::<Vec<_>>())
        .bind(reports.iter().map(|report| packed::report(&report.readings)).collect::<Vec<_>>())
}

impl PostgresStore {
    /// Writes on a connection for reading, within the time that a read may take. Answers how many rows that was.
    pub(super) async fn aside(&self, statement: Statement) -> Result<u64, Failure> {
        self.readers.execute(statement).await
    }

    /// Makes the partitions for rows from `first` to `last` that are not there.
    async fn make_room(&self, level: Level, first: Timestamp, last: Timestamp) -> Result<(), Failure> {
        for number in part(level, first)..=part(level, last) {
            let asked = Statement::new("select to_regclass($1) is not null").bind(format!("{}_{number}", table(level)));
            let known = self.row(asked).await?.map(|row| Cells::new(&row, "pg_class").take()).transpose()?;
            if known == Some(true) {
                continue;
            }
            self.aside(Statement::new(making(level, number))).await?;
        }
        Ok(())
    }

    async fn insert_reports(&self, reports: &[Report]) -> Result<u64, Failure> {
        // In the order of the key, so that neighbours are written together.
        let mut reports: Vec<&Report> = reports.iter().collect();
        reports.sort_unstable_by_key(|report| (report.agent, report.at));
        let wary = &self.shared.wary;
        let calm = wary.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err();
        if calm {
            match self.aside(writing(&reports, "")).await {
                Err(failure) if is_repeated(&failure) => wary.store(WARY, Ordering::Relaxed),
                done => return done,
            }
        }
        self.aside(writing(&reports, NEW_ONLY)).await
    }

    async fn insert_buckets(&self, level: Level, made: &[Row]) -> Result<(), Failure> {
        let text = format!(
            "insert into {0} (agent_id, timestamp, report) select * from unnest($1::uuid[], $2::timestamptz[], \
             $3::bytea[]) on conflict (agent_id, timestamp) do update set report = excluded.report \
             where {0}.report is distinct from excluded.report",
            table(level)
        );
        let statement = Statement::new(text)
            .bind(made.iter().map(|row| row.agent.0).collect::<Vec<_>>())
            .bind(made.iter().map(|row| micros(row.at)).collect::<Vec<_>>())
            .bind(made.iter().map(|row| row.report.as_slice()).collect::<Vec<_>>());
        self.aside(statement).await.map(|_| ())
    }

    async fn agents_after(&self, above: Uuid) -> Result<Vec<Uuid>, StoreError> {
        let statement = Statement::new("select id from agents where id > $1 order by id limit $2")
            .bind(above)
            .bind(i64::from(AGENTS_AT_ONCE));
        let found = self.rows(statement).await?;
        found.iter().map(|row| Cells::new(row, "agents").take()).collect()
    }
}

#[async_trait]
impl Telemetry for PostgresStore {
    async fn store_reports(&self, reports: &[Report]) -> Result<u64, StoreError> {
        let at = || reports.iter().map(|report| report.at);
        let (Some(first), Some(last)) = (at().min(), at().max()) else { return Ok(0) };
        for _ in 0..ROOM_TRIES {
            match self.insert_reports(reports).await {
                Err(failure) if is_homeless(&failure) => {}
                done => return Ok(done?),
            }
            match self.make_room(Level::Raw, first, last).await {
                Err(failure) if is_held_up(&failure) => {}
                done => done?,
            }
        }
        Ok(self.insert_reports(reports).await?)
    }

    async fn buckets(
        &self,
        agent: AgentId,
        level: Level,
        from: Timestamp,
        to: Timestamp,
        at_most: u32,
    ) -> Result<Vec<Bucket>, StoreError> {
        let text = format!(
            "select agent_id, timestamp, report from {} where agent_id = $1 and timestamp >= $2 and timestamp < $3 \
             order by timestamp limit $4",
            table(level)
        );
        let statement = Statement::new(text).bind(agent.0).bind(micros(from)).bind(micros(to)).bind(i64::from(at_most));
        self.rows(statement).await?.iter().map(|found| row(found, level)?.bucket(level)).collect()
    }

    async fn rolled_until(&self, level: Level) -> Result<Option<Timestamp>, StoreError> {
        let statement = Statement::new("select until from telemetry_marks where level = $1").bind(level.as_str());
        let found = self.row(statement).await?;
        found.map(|row| Cells::new(&row, "telemetry_marks").take().map(|Micros(until)| until)).transpose()
    }

    async fn roll_up(&self, level: Level, from: Timestamp, until: Timestamp) -> Result<u64, StoreError> {
        let Some(below) = level.below() else { return Ok(0) };
        let (mut above, mut count) = (Uuid::nil(), 0);
        loop {
            let agents = self.agents_after(above).await?;
            let Some(last) = agents.last() else { break };
            above = *last;
            let text = format!(
                "select agent_id, timestamp, report from {} where agent_id = any($1) and timestamp >= $2 and timestamp < $3",
                table(below)
            );
            let statement = Statement::new(text).bind(agents).bind(micros(from)).bind(micros(until));
            let rows = self.rows(statement).await?;
            let rows = rows.iter().map(|found| row(found, below)).collect::<Result<Vec<_>, _>>()?;
            let made = rolled(rows, below, level.span());
            if made.is_empty() {
                continue;
            }
            match self.insert_buckets(level, &made).await {
                Err(failure) if is_homeless(&failure) => {
                    self.make_room(level, from, until).await?;
                    self.insert_buckets(level, &made).await?;
                }
                done => done?,
            }
            count += made.len() as u64;
        }
        let mark = "insert into telemetry_marks (level, until) values ($1, $2) on conflict (level) \
             do update set until = greatest(telemetry_marks.until, excluded.until)";
        self.aside(Statement::new(mark).bind(level.as_str()).bind(micros(until))).await?;
        Ok(count)
    }

    async fn forget(&self, level: Level, before: Timestamp, now: Timestamp) -> Result<bool, StoreError> {
        let ahead = now + Duration::from_micros((part_span(level) * AHEAD).unsigned_abs());
        self.make_room(level, now, ahead).await?;
        // The oldest that ends at `before` or earlier.
        let statement = Statement::new(
            "select substring(c.relname from '[0-9]+$')::bigint as n from pg_inherits i join pg_class c on c.oid = i.inhrelid \
             where i.inhparent = to_regclass($1) order by n limit 2",
        )
        .bind(table(level));
        let found = self.rows(statement).await?;
        let numbers =
            found.iter().map(|row| Cells::new(row, "pg_inherits").take::<i64>()).collect::<Result<Vec<_>, _>>()?;
        let is_old = |number: &&i64| (**number + 1).saturating_mul(part_span(level)) <= before.0;
        let Some(oldest) = numbers.first().filter(is_old) else { return Ok(false) };
        self.aside(Statement::new(alone(&format!("drop table if exists {}_{oldest};", table(level))))).await?;
        Ok(numbers.get(1).filter(is_old).is_some())
    }
}
