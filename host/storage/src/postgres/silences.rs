//! Silences.

use async_trait::async_trait;
use domain::alert::mute::Silence;
use domain::audit::Entry;
use domain::time::Timestamp;
use plan::id::SilenceId;
use ports::alerts::{KeptSilence, Silences};
use ports::error::StoreError;
use ports::replies::Once;
use sqlx::postgres::PgRow;

use super::micros::micros;
use super::read::Statement;
use super::rows::Cells;
use super::{PostgresStore, plain, replies};
use crate::alarms;

fn silence(row: &PgRow) -> Result<KeptSilence, StoreError> {
    let mut cells = Cells::new(row, "silences");
    let id = SilenceId(cells.id()?);
    let (matcher, from, until) = (cells.read(alarms::matcher)?, cells.time()?, cells.time()?);
    let (created_by, created_at, comment) = (cells.take()?, cells.time()?, cells.take()?);
    Ok(KeptSilence { id, silence: Silence { matcher, from, until }, created_by, created_at, comment })
}

#[async_trait]
impl Silences for PostgresStore {
    async fn silences(&self, now: Timestamp) -> Result<Vec<KeptSilence>, StoreError> {
        let statement = Statement::new(
            "select id, matcher::text, from_at, until_at, created_by, created_at, comment from silences \
             where until_at > $1 order by id desc",
        );
        self.rows(statement.bind(micros(now))).await?.iter().map(silence).collect()
    }

    async fn add_silence(&self, silence: KeptSilence, audit: Entry, once: Option<Once>) -> Result<(), StoreError> {
        self.cold(move |connection, staged| {
            let (silence, audit, once) = (silence.clone(), audit.clone(), once.clone());
            Box::pin(async move {
                let KeptSilence { id, silence, created_by, created_at, comment } = silence;
                sqlx::query(
                    "insert into silences (id, matcher, from_at, until_at, created_by, created_at, comment) \
                     values ($1, $2::jsonb, $3, $4, $5, $6, $7)",
                )
                .bind(id.0)
                .bind(plain::json(alarms::matcher_text(&silence.matcher)))
                .bind(micros(silence.from))
                .bind(micros(silence.until))
                .bind(created_by)
                .bind(micros(created_at))
                .bind(plain::text(&comment))
                .execute(&mut *connection)
                .await?;
                replies::keep(connection, once.as_ref()).await?;
                staged.audit(audit);
                Ok(())
            })
        })
        .await
    }

    async fn end_silence(&self, id: SilenceId, now: Timestamp, audit: Entry) -> Result<bool, StoreError> {
        self.cold(move |connection, staged| {
            let audit = audit.clone();
            Box::pin(async move {
                let query = sqlx::query("update silences set until_at = $1 where id = $2 and until_at > $1");
                let ended = query.bind(micros(now)).bind(id.0).execute(connection).await?.rows_affected() == 1;
                if ended {
                    staged.audit(audit);
                }
                Ok(ended)
            })
        })
        .await
    }

    async fn forget_silences(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.cold(move |connection, _| {
            Box::pin(async move {
                let query = sqlx::query("delete from silences where until_at < $1").bind(micros(before));
                Ok(query.execute(connection).await?.rows_affected())
            })
        })
        .await
    }
}
