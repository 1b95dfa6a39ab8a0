//! Replies kept under a caller's key.

use async_trait::async_trait;
use domain::time::Timestamp;
use ports::error::StoreError;
use ports::replies::{Kept, Once, Replies, Reply};
use sqlx::PgConnection;

use super::PostgresStore;
use super::failure::Failure;
use super::micros::micros;
use super::read::Statement;
use super::rows::Cells;

/// Stores replies beside what they are replies to. One that has expired makes room; one that has not is a
/// conflict.
pub(super) async fn insert<'a>(
    tx: &mut PgConnection,
    replies: impl Iterator<Item = &'a Once>,
) -> Result<(), sqlx::Error> {
    for Once { principal, key, request_sha256, reply, created_at, expires_at } in replies {
        sqlx::query("delete from idempotency where principal = $1 and key = $2 and expires_at <= $3")
            .bind(principal.as_str())
            .bind(key.as_str())
            .bind(micros(*created_at))
            .execute(&mut *tx)
            .await?;
        sqlx::query(
            "insert into idempotency (principal, key, request_sha256, status, location, body, created_at, expires_at) \
             values ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(principal.as_str())
        .bind(key.as_str())
        .bind(request_sha256.as_str())
        .bind(i32::from(reply.status))
        .bind(reply.location.as_deref())
        .bind(reply.body.as_str())
        .bind(micros(*created_at))
        .bind(micros(*expires_at))
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

/// Stores the reply to something rare. A key that another host has used in between is told as what passes: asked
/// again, the request finds its answer.
pub(super) async fn keep(connection: &mut PgConnection, once: Option<&Once>) -> Result<(), Failure> {
    match insert(connection, once.into_iter()).await.map_err(Failure::from) {
        Err(failure) if failure.refused_row().is_some() => {
            Err(StoreError::Unavailable("the same request is being answered by another host".to_owned()).into())
        }
        kept => kept,
    }
}

#[async_trait]
impl Replies for PostgresStore {
    async fn reply(&self, principal: &str, key: &str, now: Timestamp) -> Result<Option<Kept>, StoreError> {
        let statement = Statement::new(
            "select key, request_sha256, status::bigint, location, body from idempotency \
             where principal = $1 and key = $2 and expires_at > $3",
        );
        let found = self.row(statement.bind(principal).bind(key).bind(micros(now))).await?;
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
                let done = sqlx::query(
                    "delete from idempotency where (principal, key) in ( \
                         select principal, key from idempotency where expires_at < $1 order by expires_at limit $2 \
                         for update skip locked)",
                )
                .bind(micros(now))
                .bind(i64::from(limit))
                .execute(connection)
                .await?;
                Ok(done.rows_affected())
            })
        })
        .await
    }
}
