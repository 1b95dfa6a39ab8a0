//! Whether an agent's key counts: approval, revocation, deletion, and one key in the place of another.
//!
//! Invariant: a key that is retired is retired in the transaction that has it count no more, and never comes back.

use domain::time::Timestamp;
use plan::id::AgentId;
use ports::agents::Rotation;

use super::connection::Sqlite;
use super::query::{Error, query, query_scalar};

const APPROVE: &str = "update agents set awaits_approval = 0, updated_at = ?1 where id = ?2 and revoked_at is null";
const REVOKE: &str =
    "update agents set revoked_at = coalesce(revoked_at, ?1), updated_at = ?1 where id = ?2 and deleted_at is null";
const DELETE: &str = "update agents set deleted_at = ?1, revoked_at = coalesce(revoked_at, ?1), updated_at = ?1, \
         agent_id = agent_id || '~' || lower(hex(id)) where id = ?2 and deleted_at is null";
const ASK: &str = "update agents set rotation_asked_at = coalesce(rotation_asked_at, ?1), updated_at = ?1 \
         where id = ?2 and revoked_at is null";
const RETIRE: &str = "insert into retired_keys (public_key, agent_id, retired_at) \
         select public_key, id, ?1 from agents where id = ?2 on conflict do nothing";

async fn change(connection: &mut Sqlite, sql: &'static str, agent: AgentId, at: Timestamp) -> Result<bool, Error> {
    let done = query(sql).bind(at.0).bind(agent.0).execute(connection).await?;
    Ok(done.rows_affected() > 0)
}

/// Lets in an agent that waited for it; `false` when there is none.
pub(super) async fn approve(connection: &mut Sqlite, agent: AgentId, at: Timestamp) -> Result<bool, Error> {
    change(connection, APPROVE, agent, at).await
}

/// Revokes an agent's key; `false` when there is no such agent any more.
pub(super) async fn revoke(connection: &mut Sqlite, agent: AgentId, at: Timestamp) -> Result<bool, Error> {
    change(connection, RETIRE, agent, at).await?;
    change(connection, REVOKE, agent, at).await
}

/// Revokes an agent's key and gives its name free: no name has a `~`.
pub(super) async fn delete(connection: &mut Sqlite, agent: AgentId, at: Timestamp) -> Result<bool, Error> {
    change(connection, RETIRE, agent, at).await?;
    change(connection, DELETE, agent, at).await
}

/// Notes that an agent is to make another key.
pub(super) async fn ask_rotation(connection: &mut Sqlite, agent: AgentId, at: Timestamp) -> Result<bool, Error> {
    change(connection, ASK, agent, at).await
}

/// Puts one key in the place of another; `false` when that is not the agent's, or the new one was somebody's.
pub(super) async fn rotate(
    connection: &mut Sqlite,
    agent: AgentId,
    keys: &Rotation,
    at: Timestamp,
) -> Result<bool, Error> {
    let used: bool = query_scalar("select exists (select 1 from agents where public_key = ?)")
        .bind(&keys.to)
        .fetch_one(&mut *connection)
        .await?;
    if used || is_retired(connection, &keys.to).await? {
        return Ok(false);
    }
    let done = query(
        "update agents set public_key = ?1, rotation_asked_at = null, updated_at = ?2 \
         where id = ?3 and public_key = ?4 and revoked_at is null",
    )
    .bind(&keys.to)
    .bind(at.0)
    .bind(agent.0)
    .bind(&keys.from)
    .execute(&mut *connection)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    query("insert into retired_keys (public_key, agent_id, retired_at) values (?, ?, ?) on conflict do nothing")
        .bind(&keys.from)
        .bind(agent.0)
        .bind(at.0)
        .execute(connection)
        .await?;
    Ok(true)
}

/// Whether a key was revoked, or another took its place.
pub(super) async fn is_retired(connection: &mut Sqlite, key: &str) -> Result<bool, Error> {
    query_scalar("select exists (select 1 from retired_keys where public_key = ?)")
        .bind(key)
        .fetch_one(connection)
        .await
}
