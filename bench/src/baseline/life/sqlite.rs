//! Lives in SQLite: WAL, `synchronous=FULL`, one statement a batch.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _, SqliteConnection};

use super::{Luggage, ascending, whole};

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

/// Lives in one file.
pub struct Lives {
    store: SqliteConnection,
    batch: usize,
    insert: Arc<str>,
    claim: Arc<str>,
    finish: Arc<str>,
    luggage: Luggage,
    born: u64,
}

impl Lives {
    /// Makes the file and its table.
    pub async fn open(path: &Path, batch: usize) -> Result<Lives> {
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
            luggage: Luggage::default(),
            born: 0,
        })
    }

    /// One commit: a batch is born.
    pub async fn insert(&mut self) -> Result<()> {
        let mut insert = sqlx::query(AssertSqlSafe(self.insert.clone()));
        for _ in 0..self.batch {
            self.born += 1;
            let id = ascending(self.born).to_be_bytes().to_vec();
            insert = insert.bind(id).bind("agent-0001").bind(0_i64).bind(&self.luggage.body);
        }
        insert.execute(&mut self.store).await?;
        Ok(())
    }

    /// One commit: a batch is running.
    pub async fn claim(&mut self) -> Result<Vec<Vec<u8>>> {
        let claimed = sqlx::query(AssertSqlSafe(self.claim.clone())).fetch_all(&mut self.store).await?;
        whole("claimed", claimed.len() as u64, self.batch)?;
        claimed.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// One commit: a batch is over.
    pub async fn finish(&mut self, claimed: &[Vec<u8>]) -> Result<()> {
        let mut finish = sqlx::query(AssertSqlSafe(self.finish.clone()));
        for id in claimed {
            finish = finish.bind(id).bind(&self.luggage.result);
        }
        let finished = finish.execute(&mut self.store).await?;
        whole("finished", finished.rows_affected(), self.batch)
    }

    /// Lives begun and lives ended.
    pub async fn count(&mut self) -> Result<(u64, u64)> {
        let query = "select count(*) from life where state = 'succeeded' and result is not null";
        let ended: i64 = sqlx::query_scalar(query).fetch_one(&mut self.store).await?;
        Ok((self.born, u64::try_from(ended).unwrap_or(0)))
    }

    /// Lets the file go.
    pub async fn close(self) -> Result<()> {
        Ok(self.store.close().await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_life_ends_with_its_result() {
        let dir = tempfile::tempdir().expect("temp dir");
        for batch in [1, 7] {
            let mut lives = Lives::open(&dir.path().join(format!("{batch}.db")), batch).await.expect("opened");
            for _ in 0..3 {
                lives.insert().await.expect("born");
                let claimed = lives.claim().await.expect("claimed");
                lives.finish(&claimed).await.expect("finished");
            }
            let rows =
                sqlx::query("select state, length(result) from life").fetch_all(&mut lives.store).await.expect("rows");
            assert_eq!(
                (lives.count().await.expect("counted"), rows.len()),
                ((3 * batch as u64, 3 * batch as u64), 3 * batch)
            );
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
