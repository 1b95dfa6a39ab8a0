//! Join tokens: each good for one agent, until it is used, expires or is revoked.

use domain::time::Timestamp;
use plan::id::{AgentId, TokenId};
use ports::agents::JoinToken;
use ports::error::StoreError;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use super::PostgresStore;
use super::failure::Failure;
use super::micros::micros;
use super::read::Statement;
use super::rows::Cells;
use crate::text;

const COLUMNS: &str = "id, secret_sha256, site, labels::text, needs_approval, created_by, created_at, expires_at, used_at, used_by, \
     revoked_at";

fn token(row: &PgRow) -> Result<JoinToken, StoreError> {
    let mut cells = Cells::new(row, "join_tokens");
    Ok(JoinToken {
        id: TokenId(cells.id()?),
        secret_sha256: cells.take()?,
        site: cells.take()?,
        labels: cells.json()?,
        needs_approval: cells.take()?,
        created_by: cells.take()?,
        created_at: cells.time()?,
        expires_at: cells.time()?,
        used_at: cells.time_if_any()?,
        used_by: cells.take::<Option<uuid::Uuid>>()?.map(AgentId),
        revoked_at: cells.time_if_any()?,
    })
}

/// The token, when it would let an agent in at `at`; else why not. Its row is locked, so that no other host
/// lets another agent in with it.
pub(super) async fn usable(
    connection: &mut PgConnection,
    id: TokenId,
    secret_sha256: &str,
    at: Timestamp,
) -> Result<Result<JoinToken, &'static str>, Failure> {
    let sql = format!("select {COLUMNS} from join_tokens where id = $1 for update");
    let row = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id.0).fetch_optional(connection).await?;
    let Some(row) = row else { return Ok(Err("no such token")) };
    let token = token(&row)?;
    Ok(if token.secret_sha256 != secret_sha256 {
        Err("wrong secret")
    } else if token.revoked_at.is_some() {
        Err("revoked")
    } else if token.used_at.is_some() {
        Err("used up")
    } else if token.expires_at <= at {
        Err("expired")
    } else {
        Ok(token)
    })
}

/// Marks a token as used by `agent`.
pub(super) async fn use_up(
    connection: &mut PgConnection,
    id: TokenId,
    agent: AgentId,
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query("update join_tokens set used_at = $1, used_by = $2 where id = $3")
        .bind(micros(at))
        .bind(agent.0)
        .bind(id.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// Stores a fresh token.
pub(super) async fn insert(connection: &mut PgConnection, token: &JoinToken) -> Result<(), sqlx::Error> {
    let JoinToken {
        id,
        secret_sha256,
        site,
        labels,
        needs_approval,
        created_by,
        created_at,
        expires_at,
        used_at,
        used_by,
        revoked_at,
    } = token;
    sqlx::query(
        "insert into join_tokens (id, secret_sha256, site, labels, needs_approval, created_by, created_at, expires_at, \
         used_at, used_by, revoked_at) values ($1, $2, $3, $4::jsonb, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(id.0)
    .bind(secret_sha256)
    .bind(site)
    .bind(text::json(labels))
    .bind(needs_approval)
    .bind(created_by)
    .bind(micros(*created_at))
    .bind(micros(*expires_at))
    .bind(used_at.map(micros))
    .bind(used_by.map(|agent| agent.0))
    .bind(revoked_at.map(micros))
    .execute(connection)
    .await?;
    Ok(())
}

/// One token.
pub(super) async fn one(store: &PostgresStore, id: TokenId) -> Result<Option<JoinToken>, StoreError> {
    let sql = format!("select {COLUMNS} from join_tokens where id = $1");
    store.rows(Statement::new(sql).bind(id.0)).await?.first().map(token).transpose()
}

/// Tokens, newest first.
pub(super) async fn all(store: &PostgresStore) -> Result<Vec<JoinToken>, StoreError> {
    let sql = format!("select {COLUMNS} from join_tokens order by id desc");
    store.rows(Statement::new(sql)).await?.iter().map(token).collect()
}

/// Makes a token useless; `false` when there is none.
pub(super) async fn revoke(connection: &mut PgConnection, id: TokenId, at: Timestamp) -> Result<bool, sqlx::Error> {
    let done = sqlx::query("update join_tokens set revoked_at = coalesce(revoked_at, $1) where id = $2")
        .bind(micros(at))
        .bind(id.0)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Forgets some that let nobody in any more since then; answers how many.
pub(super) async fn forget(connection: &mut PgConnection, before: Timestamp, most: u32) -> Result<u64, sqlx::Error> {
    let sql = "delete from join_tokens where id in \
         (select id from join_tokens where coalesce(used_at, revoked_at, expires_at) < $1 limit $2)";
    Ok(sqlx::query(sql).bind(micros(before)).bind(i64::from(most)).execute(connection).await?.rows_affected())
}
