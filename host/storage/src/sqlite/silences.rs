//! Silences.

use async_trait::async_trait;
use domain::alert::mute::Silence;
use domain::audit::Entry;
use domain::time::Timestamp;
use plan::id::SilenceId;
use ports::alerts::{KeptSilence, Silences};
use ports::error::StoreError;
use ports::replies::Once;

use super::failure::Failure;
use super::query::{Row, query};
use super::rows::Cells;
use super::{SqliteStore, replies};
use crate::alarms;

fn silence(row: &Row) -> Result<KeptSilence, StoreError> {
    let mut cells = Cells::new(row, "silences");
    let id = SilenceId(cells.id()?);
    let (matcher, from, until) = (cells.read(alarms::matcher)?, cells.time()?, cells.time()?);
    let (created_by, created_at, comment) = (cells.take()?, cells.time()?, cells.take()?);
    Ok(KeptSilence { id, silence: Silence { matcher, from, until }, created_by, created_at, comment })
}

#[async_trait]
impl Silences for SqliteStore {
    async fn silences(&self, now: Timestamp) -> Result<Vec<KeptSilence>, StoreError> {
        let found = query(
            "select id, matcher, from_at, until_at, created_by, created_at, comment from silences \
             where until_at > ? order by id desc",
        )
        .bind(now.0)
        .fetch_all(&self.readers)
        .await
        .map_err(Failure::from)?;
        found.iter().map(silence).collect()
    }

    async fn add_silence(&self, silence: KeptSilence, audit: Entry, once: Option<Once>) -> Result<(), StoreError> {
        let KeptSilence { id, silence, created_by, created_at, comment } = silence;
        self.cold(move |connection, staged| {
            Box::pin(async move {
                query(
                    "insert into silences (id, matcher, from_at, until_at, created_by, created_at, comment) \
                     values (?, ?, ?, ?, ?, ?, ?)",
                )
                .bind(id.0)
                .bind(alarms::matcher_text(&silence.matcher))
                .bind(silence.from.0)
                .bind(silence.until.0)
                .bind(created_by)
                .bind(created_at.0)
                .bind(comment)
                .execute(&mut *connection)
                .await?;
                replies::keep(connection, once.as_ref()).await?;
                staged.audit(audit);
                Ok::<_, Failure>(())
            })
        })
        .await
    }

    async fn end_silence(&self, id: SilenceId, now: Timestamp, audit: Entry) -> Result<bool, StoreError> {
        self.cold(move |connection, staged| {
            Box::pin(async move {
                let query = query("update silences set until_at = ?1 where id = ?2 and until_at > ?1");
                let ended = query.bind(now.0).bind(id.0).execute(connection).await?.rows_affected() == 1;
                if ended {
                    staged.audit(audit);
                }
                Ok::<_, Failure>(ended)
            })
        })
        .await
    }

    async fn forget_silences(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.cold(move |connection, _| {
            Box::pin(async move {
                let query = query("delete from silences where until_at < ?").bind(before.0);
                Ok::<_, Failure>(query.execute(connection).await?.rows_affected())
            })
        })
        .await
    }
}
