//! Join tokens: each good for one agent, until it is used, expires or is revoked.

use domain::time::Timestamp;
use plan::id::{AgentId, TokenId};
use ports::agents::JoinToken;
use ports::error::StoreError;

use super::connection::Sqlite;
use super::failure::Failure;
use super::query::{Error, Row, query};
use super::readers::Readers;
use super::rows::Cells;
use crate::text;

const COLUMNS: &str = "id, secret_sha256, site, labels, needs_approval, created_by, created_at, expires_at, used_at, used_by, \
     revoked_at";

fn token(row: &Row) -> Result<JoinToken, StoreError> {
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

/// The token, when it would let an agent in at `at`; else why not.
pub(super) async fn usable(
    connection: &mut Sqlite,
    id: TokenId,
    secret_sha256: &str,
    at: Timestamp,
) -> Result<Result<JoinToken, &'static str>, Failure> {
    let sql = format!("select {COLUMNS} from join_tokens where id = ?");
    let row = query(sql).bind(id.0).fetch_optional(connection).await?;
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
pub(super) async fn use_up(connection: &mut Sqlite, id: TokenId, agent: AgentId, at: Timestamp) -> Result<(), Error> {
    query("update join_tokens set used_at = ?, used_by = ? where id = ?")
        .bind(at.0)
        .bind(agent.0)
        .bind(id.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// Stores a fresh token.
pub(super) async fn insert(connection: &mut Sqlite, token: &JoinToken) -> Result<(), Error> {
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
    query(
        "insert into join_tokens (id, secret_sha256, site, labels, needs_approval, created_by, created_at, expires_at, \
         used_at, used_by, revoked_at) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(id.0)
    .bind(secret_sha256)
    .bind(site)
    .bind(text::json(labels))
    .bind(needs_approval)
    .bind(created_by)
    .bind(created_at.0)
    .bind(expires_at.0)
    .bind(used_at.map(|at| at.0))
    .bind(used_by.map(|agent| agent.0))
    .bind(revoked_at.map(|at| at.0))
    .execute(connection)
    .await?;
    Ok(())
}

/// One token.
pub(super) async fn one(readers: &Readers, id: TokenId) -> Result<Option<JoinToken>, Failure> {
    let sql = format!("select {COLUMNS} from join_tokens where id = ?");
    let found = query(sql).bind(id.0).fetch_optional(readers).await?;
    Ok(found.as_ref().map(token).transpose()?)
}

/// Tokens, newest first.
pub(super) async fn all(readers: &Readers) -> Result<Vec<JoinToken>, Failure> {
    let sql = format!("select {COLUMNS} from join_tokens order by id desc");
    let found = query(sql).fetch_all(readers).await?;
    Ok(found.iter().map(token).collect::<Result<_, _>>()?)
}

/// Makes a token useless; `false` when there is none.
pub(super) async fn revoke(connection: &mut Sqlite, id: TokenId, at: Timestamp) -> Result<bool, Error> {
    let done = query("update join_tokens set revoked_at = coalesce(revoked_at, ?) where id = ?")
        .bind(at.0)
        .bind(id.0)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Forgets some that let nobody in any more since then; answers how many.
pub(super) async fn forget(connection: &mut Sqlite, before: Timestamp, most: u32) -> Result<u64, Error> {
    let sql = "delete from join_tokens where id in \
         (select id from join_tokens where coalesce(used_at, revoked_at, expires_at) < ? limit ?)";
    Ok(query(sql).bind(before.0).bind(i64::from(most)).execute(connection).await?.rows_affected())
}
