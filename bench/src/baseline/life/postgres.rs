//! Lives in PostgreSQL: one statement a batch, rows sent as arrays, by as many connections as are asked for.

use anyhow::{Context as _, Result};
use sqlx::{Connection as _, PgConnection, Row as _};
use uuid::Uuid;

use super::{Luggage, ascending, whole};

const SCHEMA: [&str; 2] = [
    "create table life (
        id uuid not null primary key,
        agent text not null,
        priority smallint not null,
        state text not null,
        created_at timestamptz not null,
        body text not null,
        result text
    )",
    "create index life_queue on life (agent, priority, id) where state = 'queued'",
];
const INSERT: &str = "insert into life \
    select id, $2, 2, 'queued', now(), body, null from unnest($1::uuid[], $3::text[]) as born (id, body)";
const CLAIM: &str = "update life set state = 'running' where id in \
    (select id from life where state = 'queued' and agent = $2 order by priority, id limit $1 for update skip locked) returning id";
const FINISH: &str = "update life set state = 'succeeded', result = done.result \
    from unnest($1::uuid[], $2::text[]) as done (id, result) where life.id = done.id";

/// Lives in one database.
pub struct Lives {
    store: PgConnection,
    batch: usize,
    bodies: Vec<String>,
    results: Vec<String>,
    /// Whose queue it works on: nobody else does.
    agent: String,
    born: u64,
}

impl Lives {
    /// Makes the table.
    pub async fn open(url: &str, batch: usize) -> Result<Lives> {
        let mut store = PgConnection::connect(url).await.context("PostgreSQL")?;
        for statement in SCHEMA {
            sqlx::query(statement).execute(&mut store).await?;
        }
        Ok(Lives::on(store, batch, 0))
    }

    /// One more connection to the same table.
    pub async fn beside(url: &str, batch: usize, lane: usize) -> Result<Lives> {
        Ok(Lives::on(PgConnection::connect(url).await.context("PostgreSQL")?, batch, lane))
    }

    fn on(store: PgConnection, batch: usize, lane: usize) -> Lives {
        let Luggage { body, result } = Luggage::default();
        let agent = format!("agent-{lane:04}");
        Lives { store, batch, bodies: vec![body; batch], results: vec![result; batch], agent, born: 0 }
    }

    /// One commit: a batch is born.
    pub async fn insert(&mut self) -> Result<()> {
        let first = self.born + 1;
        self.born += self.batch as u64;
        let ids: Vec<Uuid> = (first..=self.born).map(|number| Uuid::from_u128(ascending(number))).collect();
        sqlx::query(INSERT).bind(ids).bind(&self.agent).bind(&self.bodies).execute(&mut self.store).await?;
        Ok(())
    }

    /// One commit: a batch is running.
    pub async fn claim(&mut self) -> Result<Vec<Uuid>> {
        let limit = i64::try_from(self.batch)?;
        let claimed = sqlx::query(CLAIM).bind(limit).bind(&self.agent).fetch_all(&mut self.store).await?;
        whole("claimed", claimed.len() as u64, self.batch)?;
        claimed.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// One commit: a batch is over.
    pub async fn finish(&mut self, claimed: &[Uuid]) -> Result<()> {
        let finished = sqlx::query(FINISH).bind(claimed).bind(&self.results).execute(&mut self.store).await?;
        whole("finished", finished.rows_affected(), self.batch)
    }

    /// Lives begun and lives ended.
    pub async fn count(&mut self) -> Result<(u64, u64)> {
        let query = "select count(*) from life where state = 'succeeded' and result is not null";
        let ended: i64 = sqlx::query_scalar(query).fetch_one(&mut self.store).await?;
        Ok((self.born, u64::try_from(ended)?))
    }

    /// Lets the connection go.
    pub async fn close(self) -> Result<()> {
        Ok(self.store.close().await?)
    }
}
