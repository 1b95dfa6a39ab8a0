//! Replies kept under a caller's key.

use async_trait::async_trait;
use domain::time::Timestamp;
use ports::error::StoreError;
use ports::replies::{Kept, Once, Replies, Reply};

use super::SqliteStore;
use super::connection::Sqlite;
use super::failure::Failure;
use super::query::{Error, query};
use super::rows::Cells;

/// Stores replies beside what they are replies to. One that has expired makes room; one that has not is a
/// conflict.
pub(super) async fn insert<'a>(tx: &mut Sqlite, replies: impl Iterator<Item = &'a Once>) -> Result<(), Error> {
    for Once { principal, key, request_sha256, reply, created_at, expires_at } in replies {
        query("delete from idempotency where principal = ? and key = ? and expires_at <= ?")
            .bind(principal.as_str())
            .bind(key.as_str())
            .bind(created_at.0)
            .execute(&mut *tx)
            .await?;
        query(
            "insert into idempotency (principal, key, request_sha256, status, location, body, created_at, expires_at) \
             values (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(principal.as_str())
        .bind(key.as_str())
        .bind(request_sha256.as_str())
        .bind(reply.status)
        .bind(reply.location.as_deref())
        .bind(reply.body.as_str())
        .bind(created_at.0)
        .bind(expires_at.0)
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

/// Stores the reply to something rare. A key that another host has used in between is told as what passes: asked
/// again, the request finds its answer.
pub(super) async fn keep(connection: &mut Sqlite, once: Option<&Once>) -> Result<(), Failure> {
    match insert(connection, once.into_iter()).await.map_err(Failure::from) {
        Err(failure) if failure.constraint().is_some() => {
            Err(StoreError::Unavailable("the same request is being answered by another host".to_owned()).into())
        }
        kept => kept,
    }
}

#[async_trait]
impl Replies for SqliteStore {
    async fn reply(&self, principal: &str, key: &str, now: Timestamp) -> Result<Option<Kept>, StoreError> {
        let found = query(
            "select key, request_sha256, status, location, body from idempotency \
             where principal = ? and key = ? and expires_at > ?",
        )
        .bind(principal)
        .bind(key)
        .bind(now.0)
        .fetch_optional(&self.readers)
        .await
        .map_err(Failure::from)?;
        let Some(row) = found else { return Ok(None) };
        let mut cells = Cells::new(&row, "idempotency");
        cells.name()?;
        let request_sha256 = cells.take()?;
        let reply = Reply { status: cells.number()?, location: cells.take()?, body: cells.take()? };
        Ok(Some(Kept { request_sha256, reply }))
    }

    async fn forget_replies(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
        self.cold(move |connection, _| {
            Box::pin(async move {
                let done = query(
                    "delete from idempotency where (principal, key) in ( \
                         select principal, key from idempotency where expires_at < ? order by expires_at limit ?)",
                )
                .bind(now.0)
                .bind(limit)
                .execute(connection)
                .await?;
                Ok(done.rows_affected())
            })
        })
        .await
    }
}
