//! Refresh tokens: each good once, all of one login a family that ends as a whole.

use domain::audit::Entry;
use domain::time::Timestamp;
use plan::id::UserId;
use ports::users::{MAX_LOGINS, NewRefresh, REPLAY_GRACE, RefreshToken, Rotated};
use uuid::Uuid;

use super::connection::Sqlite;
use super::failure::Failure;
use super::query::{Error, query};
use super::rows::Cells;
use crate::staged::Staged;

/// Whether the login of user `u` whose family is the next parameter goes on.
pub(super) const LIVE: &str = "exists (select 1 from refresh_tokens r where r.family = ? and r.user_id = u.id \
     and r.ended_at is null)";

/// Stores a token.
pub(super) async fn insert(connection: &mut Sqlite, token: &RefreshToken) -> Result<(), Error> {
    let RefreshToken { sha256, user, family, expires_at } = token;
    query("insert into refresh_tokens (sha256, user_id, family, expires_at) values (?, ?, ?, ?)")
        .bind(sha256)
        .bind(user.0)
        .bind(family)
        .bind(expires_at.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// Ends one login.
pub(super) async fn end_family(connection: &mut Sqlite, family: &str, at: Timestamp) -> Result<(), Error> {
    query("update refresh_tokens set ended_at = coalesce(ended_at, ?) where family = ?")
        .bind(at.0)
        .bind(family)
        .execute(connection)
        .await?;
    Ok(())
}

/// Ends every login of a user.
pub(super) async fn end_all(connection: &mut Sqlite, user: UserId, at: Timestamp) -> Result<(), Error> {
    query("update refresh_tokens set ended_at = coalesce(ended_at, ?) where user_id = ?")
        .bind(at.0)
        .bind(user.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// Ends the logins of a user that were not refreshed for longest, but for one less than a user may have.
pub(super) async fn make_room(connection: &mut Sqlite, user: UserId, at: Timestamp) -> Result<(), Error> {
    query(
        "update refresh_tokens set ended_at = ?1 where user_id = ?2 and ended_at is null and family not in \
         (select family from refresh_tokens where user_id = ?2 and ended_at is null and used_at is null \
         group by family order by max(expires_at) desc, family limit ?3)",
    )
    .bind(at.0)
    .bind(user.0)
    .bind(i64::from(MAX_LOGINS) - 1)
    .execute(connection)
    .await?;
    Ok(())
}

/// Swaps a token for its successor; whose it is and of which family, or why not.
pub(super) async fn rotate(
    connection: &mut Sqlite,
    staged: &mut Staged,
    old_sha256: &str,
    new: &NewRefresh,
    at: Timestamp,
) -> Result<Result<(Uuid, String), Rotated>, Failure> {
    let row = query(
        "select sha256, user_id, family, expires_at, used_at, ended_at, successor from refresh_tokens \
         where sha256 = ?",
    )
    .bind(old_sha256)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(Err(Rotated::Refused)) };
    let mut cells = Cells::new(&row, "refresh_tokens");
    cells.name()?;
    let (user, family): (Uuid, String) = (cells.take()?, cells.take()?);
    let (expires_at, used_at, ended_at) = (cells.time()?, cells.time_if_any()?, cells.time_if_any()?);
    let successor: Option<String> = cells.take()?;
    if ended_at.is_some() || expires_at <= at {
        return Ok(Err(Rotated::Refused));
    }
    if let Some(used_at) = used_at {
        let lately = at.since(used_at) <= REPLAY_GRACE;
        let again = match successor {
            Some(successor) if lately => supersede(connection, &successor, at).await?,
            Some(_) | None => false,
        };
        if !again {
            end_family(connection, &family, at).await?;
            staged.audit(Entry { resource: Some(("user", user.to_string())), ..new.alarm.clone() });
            return Ok(Err(Rotated::Reused(UserId(user))));
        }
    }
    let NewRefresh { sha256, expires_at, audit: _, alarm: _ } = new;
    query("update refresh_tokens set used_at = coalesce(used_at, ?), successor = ? where sha256 = ?")
        .bind(at.0)
        .bind(sha256)
        .bind(old_sha256)
        .execute(&mut *connection)
        .await?;
    let (sha256, expires_at) = (sha256.clone(), *expires_at);
    insert(connection, &RefreshToken { sha256, user: UserId(user), family: family.clone(), expires_at }).await?;
    Ok(Ok((user, family)))
}

/// Uses up a successor whose answer was lost; `false` when somebody has used it. It has no successor of its
/// own, so whoever comes with it later holds what another took the place of.
async fn supersede(connection: &mut Sqlite, sha256: &str, at: Timestamp) -> Result<bool, Error> {
    let unused = query("update refresh_tokens set used_at = ? where sha256 = ? and used_at is null")
        .bind(at.0)
        .bind(sha256)
        .execute(connection)
        .await?;
    Ok(unused.rows_affected() > 0)
}
