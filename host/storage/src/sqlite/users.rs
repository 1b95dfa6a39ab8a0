//! Users, their grants and their refresh tokens.

use async_trait::async_trait;
use domain::access::{Grant, Role};
use domain::audit::Entry;
use domain::time::Timestamp;
use plan::id::UserId;
use ports::error::StoreError;
use ports::users::{NewRefresh, RefreshToken, Rotated, User, Users};
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, SqliteConnection};
use uuid::Uuid;

use super::SqliteStore;
use super::failure::Failure;
use super::rows::{self, Cells};
use crate::staged::Staged;
use crate::text;

/// A user and one of its grants; a user without grants is one row with none.
const USERS: &str = "select u.id, u.name, u.password_hash, u.role, u.token_version, u.created_at, \
     g.sites, g.verbs, g.effects from users u left join grants g on g.user_id = u.id";

/// Rows of [`USERS`] back into users; rows of one user follow each other.
fn users(found: &[SqliteRow]) -> Result<Vec<User>, StoreError> {
    let mut users: Vec<User> = Vec::new();
    for row in found {
        let mut cells = Cells::new(row, "users");
        let user = User {
            id: UserId(cells.id()?),
            name: cells.take()?,
            password_hash: cells.take()?,
            role: cells.read(rows::word("role", Role::parse))?,
            token_version: cells.number()?,
            created_at: cells.time()?,
            grants: Vec::new(),
        };
        if users.last().is_none_or(|last| last.id != user.id) {
            users.push(user);
        }
        let sites: Option<&str> = cells.take()?;
        if let (Some(sites), Some(user)) = (sites, users.last_mut()) {
            let (verbs, effects): (&str, &str) = (cells.take()?, cells.take()?);
            user.grants.push(text::parse_grant(sites, verbs, effects).map_err(|what| cells.corrupt(what))?);
        }
    }
    Ok(users)
}

async fn by_id(connection: &mut SqliteConnection, id: Uuid) -> Result<Option<User>, Failure> {
    let sql = format!("{USERS} where u.id = ? order by g.position");
    let found = sqlx::query(AssertSqlSafe(sql)).bind(id).fetch_all(connection).await?;
    Ok(users(&found)?.pop())
}

async fn insert(connection: &mut SqliteConnection, user: &User) -> Result<(), Failure> {
    let User { id, name, password_hash, role, grants, token_version, created_at } = user;
    let stored = sqlx::query(
        "insert into users (id, name, password_hash, role, token_version, created_at) values (?, ?, ?, ?, ?, ?) \
         on conflict (name) do nothing",
    )
    .bind(id.0)
    .bind(name)
    .bind(password_hash)
    .bind(role.as_str())
    .bind(i64::try_from(*token_version).unwrap_or(i64::MAX))
    .bind(created_at.0)
    .execute(&mut *connection)
    .await?;
    if stored.rows_affected() == 0 {
        return Err(StoreError::Conflict(format!("there is a user named `{name}` already")).into());
    }
    for (position, grant) in (0_i64..).zip(grants) {
        insert_grant(connection, id.0, position, grant).await?;
    }
    Ok(())
}

async fn insert_grant(
    connection: &mut SqliteConnection,
    user: Uuid,
    position: i64,
    grant: &Grant,
) -> Result<(), sqlx::Error> {
    let [sites, verbs, effects] = text::grant_texts(grant);
    sqlx::query("insert into grants (user_id, position, sites, verbs, effects) values (?, ?, ?, ?, ?)")
        .bind(user)
        .bind(position)
        .bind(sites)
        .bind(verbs)
        .bind(effects)
        .execute(connection)
        .await?;
    Ok(())
}

async fn delete(connection: &mut SqliteConnection, id: UserId) -> Result<bool, Failure> {
    let Some(user) = by_id(connection, id.0).await? else { return Ok(false) };
    if user.role == Role::Admin {
        let admins: i64 = sqlx::query_scalar("select count(*) from users where role = ?")
            .bind(Role::Admin.as_str())
            .fetch_one(&mut *connection)
            .await?;
        if admins <= 1 {
            let what = format!("`{}` is the last admin; make another one first", user.name);
            return Err(StoreError::Conflict(what).into());
        }
    }
    sqlx::query("delete from users where id = ?").bind(id.0).execute(connection).await?;
    Ok(true)
}

async fn insert_refresh(connection: &mut SqliteConnection, token: &RefreshToken) -> Result<(), sqlx::Error> {
    let RefreshToken { sha256, user, family, expires_at } = token;
    sqlx::query("insert into refresh_tokens (sha256, user_id, family, expires_at) values (?, ?, ?, ?)")
        .bind(sha256)
        .bind(user.0)
        .bind(family)
        .bind(expires_at.0)
        .execute(connection)
        .await?;
    Ok(())
}

async fn end_family(connection: &mut SqliteConnection, family: &str, at: Timestamp) -> Result<(), sqlx::Error> {
    sqlx::query("update refresh_tokens set ended_at = coalesce(ended_at, ?) where family = ?")
        .bind(at.0)
        .bind(family)
        .execute(connection)
        .await?;
    Ok(())
}

async fn rotate(
    connection: &mut SqliteConnection,
    staged: &mut Staged,
    old_sha256: &str,
    new: NewRefresh,
    at: Timestamp,
) -> Result<Rotated, Failure> {
    let row = sqlx::query(
        "select sha256, user_id, family, expires_at, used_at, ended_at from refresh_tokens where sha256 = ?",
    )
    .bind(old_sha256)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(Rotated::Refused) };
    let mut cells = Cells::new(&row, "refresh_tokens");
    cells.name()?;
    let (user, family): (Uuid, String) = (cells.take()?, cells.take()?);
    let (expires_at, used_at, ended_at) = (cells.time()?, cells.time_if_any()?, cells.time_if_any()?);
    if ended_at.is_some() || expires_at <= at {
        return Ok(Rotated::Refused);
    }
    if used_at.is_some() {
        end_family(connection, &family, at).await?;
        staged.audit(Entry { resource: Some(("user", user.to_string())), ..new.alarm });
        return Ok(Rotated::Reused(UserId(user)));
    }
    let Some(owner) = by_id(connection, user).await? else { return Ok(Rotated::Refused) };
    sqlx::query("update refresh_tokens set used_at = ? where sha256 = ?")
        .bind(at.0)
        .bind(old_sha256)
        .execute(&mut *connection)
        .await?;
    let NewRefresh { sha256, expires_at, audit, alarm: _ } = new;
    staged.audit(Entry { actor: Some(owner.name.clone()), ..audit });
    insert_refresh(connection, &RefreshToken { sha256, user: UserId(user), family, expires_at }).await?;
    Ok(Rotated::Rotated(Box::new(owner)))
}

#[async_trait]
impl Users for SqliteStore {
    async fn count(&self) -> Result<u64, StoreError> {
        let n: i64 =
            sqlx::query_scalar("select count(*) from users").fetch_one(&self.readers).await.map_err(Failure::from)?;
        Ok(u64::try_from(n).unwrap_or(0))
    }

    async fn user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        let sql = format!("{USERS} where u.id = ? order by g.position");
        let query = sqlx::query(AssertSqlSafe(sql)).bind(id.0);
        Ok(users(&query.fetch_all(&self.readers).await.map_err(Failure::from)?)?.pop())
    }

    async fn user_named(&self, name: &str) -> Result<Option<User>, StoreError> {
        let sql = format!("{USERS} where u.name = ? order by g.position");
        let query = sqlx::query(AssertSqlSafe(sql)).bind(name);
        Ok(users(&query.fetch_all(&self.readers).await.map_err(Failure::from)?)?.pop())
    }

    async fn users(&self) -> Result<Vec<User>, StoreError> {
        let sql = format!("{USERS} order by u.name, g.position");
        let found = sqlx::query(AssertSqlSafe(sql)).fetch_all(&self.readers).await.map_err(Failure::from)?;
        users(&found)
    }

    async fn create(&self, user: User, audit: Entry) -> Result<(), StoreError> {
        self.cold(move |connection, staged| {
            Box::pin(async move {
                insert(connection, &user).await?;
                staged.audit(audit);
                Ok(())
            })
        })
        .await
    }

    async fn set_password(&self, id: UserId, password_hash: String, audit: Entry) -> Result<bool, StoreError> {
        self.cold(move |connection, staged| {
            Box::pin(async move {
                let set =
                    sqlx::query("update users set password_hash = ?, token_version = token_version + 1 where id = ?")
                        .bind(password_hash)
                        .bind(id.0)
                        .execute(&mut *connection)
                        .await?;
                if set.rows_affected() == 0 {
                    return Ok(false);
                }
                sqlx::query("update refresh_tokens set ended_at = coalesce(ended_at, ?) where user_id = ?")
                    .bind(audit.at.0)
                    .bind(id.0)
                    .execute(connection)
                    .await?;
                staged.audit(audit);
                Ok(true)
            })
        })
        .await
    }

    async fn delete(&self, id: UserId, audit: Entry) -> Result<bool, StoreError> {
        self.cold(move |connection, staged| {
            Box::pin(async move {
                let deleted = delete(connection, id).await?;
                if deleted {
                    staged.audit(audit);
                }
                Ok(deleted)
            })
        })
        .await
    }

    async fn add_refresh(&self, token: RefreshToken, audit: Entry) -> Result<(), StoreError> {
        self.cold(move |connection, staged| {
            Box::pin(async move {
                // Logins are when old ones are swept: what has expired is refused with or without its row.
                sqlx::query("delete from refresh_tokens where expires_at < ?")
                    .bind(audit.at.0)
                    .execute(&mut *connection)
                    .await?;
                insert_refresh(connection, &token).await?;
                staged.audit(audit);
                Ok(())
            })
        })
        .await
    }

    async fn rotate(&self, old_sha256: &str, new: NewRefresh, at: Timestamp) -> Result<Rotated, StoreError> {
        let old = old_sha256.to_owned();
        self.cold(move |connection, staged| Box::pin(async move { rotate(connection, staged, &old, new, at).await }))
            .await
    }

    async fn end_family(&self, sha256: &str, audit: Entry) -> Result<bool, StoreError> {
        let sha256 = sha256.to_owned();
        self.cold(move |connection, staged| {
            Box::pin(async move {
                let family: Option<String> = sqlx::query_scalar("select family from refresh_tokens where sha256 = ?")
                    .bind(sha256)
                    .fetch_optional(&mut *connection)
                    .await?;
                let Some(family) = family else { return Ok(false) };
                end_family(connection, &family, audit.at).await?;
                staged.audit(audit);
                Ok(true)
            })
        })
        .await
    }
}
