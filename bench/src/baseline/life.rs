//! A command's whole life in the embedded store and nowhere else: inserted, claimed, finished, three
//! commits that survive power loss, as many commands a commit as `batch` says.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _, SqliteConnection};

use crate::latency::Recorder;
use crate::report::{Measured, round};
use crate::schedule::{Window, now_ns};
use crate::usage::{Cost, Meter};

/// What the figures promise.
pub const DURABILITY: &str = "SQLite WAL, synchronous=FULL";

const SCHEMA: [&str; 2] = [
    "create table life (
        id blob not null primary key,
        agent text not null,
        priority integer not null,
        state text not null,
        created_at integer not null,
        body text not null,
        result text
    ) strict",
    "create index life_queue on life (priority, id) where state = 'queued'",
];

/// Lives in a database of their own.
struct Lives {
    store: SqliteConnection,
    batch: usize,
    insert: Arc<str>,
    claim: Arc<str>,
    finish: Arc<str>,
    body: String,
    result: String,
    born: u64,
}

impl Lives {
    async fn open(path: &Path, batch: usize) -> Result<Lives> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let mut store = options.connect().await.with_context(|| format!("database {}", path.display()))?;
        for statement in SCHEMA {
            sqlx::query(statement).execute(&mut store).await?;
        }
        let rows = |row: &str| vec![row; batch].join(", ");
        Ok(Lives {
            store,
            batch,
            insert: format!("insert into life values {}", rows("(?, ?, 2, 'queued', ?, ?, null)")).into(),
            claim: format!(
                "update life set state = 'running' where id in
                 (select id from life where state = 'queued' order by priority, id limit {batch}) returning id"
            )
            .into(),
            finish: format!(
                "with done(id, result) as (values {})
                 update life set state = 'succeeded', result = done.result from done where life.id = done.id",
                rows("(?, ?)")
            )
            .into(),
            body: "b".repeat(150),
            result: "r".repeat(250),
            born: 0,
        })
    }

    /// One batch from birth to end; `committed` hears how long each of the three commits took.
    async fn live(&mut self, mut committed: impl FnMut(u64)) -> Result<()> {
        let mut began = now_ns();
        let mut commit = || {
            let now = now_ns();
            committed(now - began);
            began = now;
        };
        let mut insert = sqlx::query(AssertSqlSafe(self.insert.clone()));
        for _ in 0..self.batch {
            self.born += 1;
            // Ids ascend with time, as the product's do.
            let id = (u128::from(now_ns()) << 64) | u128::from(self.born);
            insert = insert.bind(id.to_be_bytes().to_vec()).bind("agent-0001").bind(0_i64).bind(&self.body);
        }
        insert.execute(&mut self.store).await?;
        commit();
        let claimed = sqlx::query(AssertSqlSafe(self.claim.clone())).fetch_all(&mut self.store).await?;
        commit();
        if claimed.len() != self.batch {
            bail!("claimed {} of {} commands", claimed.len(), self.batch);
        }
        let mut finish = sqlx::query(AssertSqlSafe(self.finish.clone()));
        for row in &claimed {
            finish = finish.bind(row.try_get::<Vec<u8>, _>(0)?).bind(&self.result);
        }
        let finished = finish.execute(&mut self.store).await?;
        commit();
        if finished.rows_affected() != self.batch as u64 {
            bail!("finished {} of {} commands", finished.rows_affected(), self.batch);
        }
        Ok(())
    }
}

/// Lives batches in a fresh database in `dir` for `duration`, after `warmup`.
///
/// # Errors
/// When the store fails, or a command's life does.
pub async fn run(dir: &Path, batch: usize, warmup: Duration, duration: Duration) -> Result<Measured> {
    if batch == 0 || batch > 1_000 {
        bail!("batch is {batch}; 1 to 1000 commands a commit");
    }
    let home = tempfile::tempdir_in(dir).with_context(|| format!("directory {}", dir.display()))?;
    let mut lives = Lives::open(&home.path().join("life.db"), batch).await?;
    let window = Window::after(warmup, duration);
    while now_ns() < window.from {
        lives.live(|_| ()).await?;
    }
    let (whole, commits) = (Recorder::default(), Recorder::default());
    let meter = Meter::start(None);
    let mut found = Measured::new("life", json!({ "batch": batch, "duration_s": duration.as_secs_f64() }));
    let began = now_ns();
    let mut last = began;
    while last < window.to {
        lives.live(|took| commits.record(0, took)).await?;
        let now = now_ns();
        whole.record(0, now - last);
        found.operations += batch as u64;
        last = now;
    }
    let cost = meter.stop();
    // The store lives in this process: its CPU is what is measured.
    found.cost = Cost { generator_cpu_s: 0.0, server_cpu_s: Some(cost.generator_cpu_s), ..cost };
    found.rate = found.operations as f64 * 1e9 / (last - began) as f64;
    found.latency = whole.quantiles();
    found.note("commit_p50_us", round(commits.quantiles().p50_us));
    found.note("commit_p99_us", round(commits.quantiles().p99_us));
    found.note("durability", DURABILITY);
    let ended: i64 = sqlx::query_scalar("select count(*) from life where state = 'succeeded' and result is not null")
        .fetch_one(&mut lives.store)
        .await?;
    if u64::try_from(ended).unwrap_or(0) != lives.born {
        found.faults.push(format!("{ended} of {} lives ended", lives.born));
    }
    lives.store.close().await?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_life_is_three_commits_and_ends() {
        let dir = tempfile::tempdir().expect("temp dir");
        for batch in [1, 7] {
            let mut lives = Lives::open(&dir.path().join(format!("{batch}.db")), batch).await.expect("opened");
            let mut commits = 0;
            for _ in 0..3 {
                lives.live(|_| commits += 1).await.expect("lived");
            }
            let rows =
                sqlx::query("select state, length(result) from life").fetch_all(&mut lives.store).await.expect("rows");
            assert_eq!((commits, rows.len()), (9, 3 * batch));
            assert!(rows.iter().all(|row| row.get::<String, _>(0) == "succeeded" && row.get::<i64, _>(1) == 250));
        }
    }

    #[tokio::test]
    async fn the_store_is_as_durable_as_the_figures_say() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut lives = Lives::open(&dir.path().join("x.db"), 1).await.expect("opened");
        let mode: String = sqlx::query_scalar("pragma journal_mode").fetch_one(&mut lives.store).await.expect("mode");
        let level: i64 = sqlx::query_scalar("pragma synchronous").fetch_one(&mut lives.store).await.expect("level");
        assert_eq!((mode.as_str(), level), ("wal", 2));
    }
}
