//! What is old: output and telemetry, written by SQL in the form of the product, and audit entries, written by the store,
//! for it forgets none that does not hang on its chain; of some days, the last of them yesterday, in partitions of their
//! days where there are such.

use anyhow::{Context as _, Result};
use domain::audit::{Entry, Level};
use domain::time::Timestamp;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use ports::journal::Journal;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};

use super::retention::now;
use crate::args::Retention;
use crate::store::Kept;

/// Microseconds.
pub(super) const DAY: i64 = 86_400_000_000;
/// On so many days it came.
const DAYS: i64 = 10;
/// Bytes of each piece of output.
const OUTPUT_BYTES: u64 = 200;
/// Bytes of each report: those of a machine of the usual size.
const REPORT_BYTES: u64 = 440;
/// Audit entries under way at once.
const AT_ONCE: usize = 512;

/// When the first of it came, and the time between two, in microseconds.
fn spread(asked: &Retention) -> (i64, i64) {
    let today = now().0.div_euclid(DAY);
    ((today - DAYS) * DAY, DAYS * DAY / i64::try_from(asked.rows + 1).unwrap_or(i64::MAX))
}

/// Fills the store at this address, of either kind, or makes what [`entries`] come into.
///
/// # Errors
/// The database's.
pub(super) async fn fill(asked: &Retention, url: &str) -> Result<()> {
    match url.strip_prefix("sqlite:") {
        Some(path) => fill_sqlite(asked, path).await,
        None => fill_postgres(asked, url).await,
    }
}

async fn fill_sqlite(asked: &Retention, path: &str) -> Result<()> {
    let mut store = SqliteConnection::connect(&format!("sqlite:{path}")).await.context("SQLite")?;
    sqlx::raw_sql("pragma busy_timeout = 60000").execute(&mut store).await?;
    let (first, apart) = spread(asked);
    let rows = asked.rows;
    let numbers = format!("with recursive n (n) as (select 1 union all select n + 1 from n where n < {rows})");
    let at = format!("{first} + n.n * {apart}");
    let text = match asked.of {
        Kept::Output => format!(
            "{numbers} insert into outputs (seq, command_id, agent_id, attempt, stream, byte_offset, at, data) \
             select n.n - 1000000000, o.command_id, o.agent_id, o.attempt, o.stream, n.n * {OUTPUT_BYTES}, {at}, \
                 zeroblob({OUTPUT_BYTES}) \
             from n cross join (select * from outputs order by seq limit 1) o"
        ),
        // Its block is its minute.
        Kept::Telemetry => format!(
            "{numbers} insert into telemetry (block, agent_id, timestamp, created_at, report) \
             select ({at}) / 60000000, a.id, {at}, {at}, zeroblob({REPORT_BYTES}) \
             from n cross join (select id from agents limit 1) a"
        ),
        Kept::Audit => return Ok(()),
    };
    sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut store).await?;
    Ok(store.close().await?)
}

async fn fill_postgres(asked: &Retention, url: &str) -> Result<()> {
    let mut store = PgConnection::connect(url).await.context("PostgreSQL")?;
    let (first, apart) = spread(asked);
    let rows = asked.rows;
    for day in first / DAY..first / DAY + DAYS {
        let of_times = |table: &str| {
            format!(
                "create table {table}_{day} partition of {table} for values from (to_timestamp({})) to (to_timestamp({}))",
                day * 86_400,
                (day + 1) * 86_400
            )
        };
        let text = match asked.of {
            Kept::Output => of_times("outputs"),
            Kept::Telemetry => of_times("telemetry"),
            Kept::Audit => format!(
                "create table audit_logs_{day}_{0} partition of audit_logs for values from ({day}) to ({0})",
                day + 1
            ),
        };
        sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut store).await?;
    }
    let numbers = format!("generate_series(1::bigint, {rows}) as n (n)");
    let at = format!("to_timestamp(({first} + n.n * {apart}) / 1e6)");
    let text = match asked.of {
        Kept::Output => format!(
            "insert into outputs (seq, command_id, agent_id, attempt, stream, byte_offset, at, data) \
             select n.n - 1000000000, o.command_id, o.agent_id, o.attempt, o.stream, n.n * {OUTPUT_BYTES}, {at}, \
                 convert_to(repeat('.', {OUTPUT_BYTES}), 'UTF8') \
             from {numbers} cross join (select * from outputs order by seq limit 1) o"
        ),
        Kept::Telemetry => format!(
            "insert into telemetry (agent_id, timestamp, created_at, report) \
             select a.id, {at}, {at}, convert_to(repeat('.', {REPORT_BYTES}), 'UTF8') \
             from {numbers} cross join (select id from agents limit 1) a"
        ),
        Kept::Audit => return Ok(()),
    };
    sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut store).await?;
    sqlx::raw_sql("checkpoint").execute(&mut store).await?;
    Ok(store.close().await?)
}

/// Writes old audit entries, in the order of their times.
///
/// # Errors
/// The store's.
pub(super) async fn entries(asked: &Retention, store: &impl Journal) -> Result<()> {
    let (first, apart) = spread(asked);
    let written = (0..i64::try_from(asked.rows).unwrap_or(i64::MAX)).map(|number| {
        store.audit(Entry {
            at: Timestamp(first + number * apart),
            level: Level::Info,
            category: "users",
            action: "users.create",
            actor: Some("bench".to_owned()),
            resource: None,
            details: "{}".to_owned(),
            ip_address: None,
            user_agent: None,
            correlation_id: None,
        })
    });
    Ok(stream::iter(written).buffered(AT_ONCE).try_collect::<()>().await?)
}
