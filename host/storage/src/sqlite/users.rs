//! Users and their grants. Their refresh tokens are in `logins`.

use async_trait::async_trait;
use domain::access::{Grant, Role};
use domain::audit::Entry;
use domain::time::Timestamp;
use plan::id::UserId;
use ports::error::StoreError;
use ports::replies::Once;
use ports::users::{NewRefresh, RefreshToken, Rotated, User, UserChange, Users};
use uuid::Uuid;

use super::connection::Sqlite;
use super::failure::Failure;
use super::query::{Error, Row, query, query_scalar};
use super::rows::{self, Cells};
use super::{SqliteStore, logins, replies};
use crate::staged::Staged;
use crate::text;

/// A user and one of its grants; a user without grants is one row with none.
pub(super) const USERS: &str = "select u.id, u.name, u.password_hash, u.role, u.token_version, u.created_at, \
     g.sites, g.verbs, g.effects from users u left join grants g on g.user_id = u.id";

/// Rows of [`USERS`] back into users; rows of one user follow each other.
pub(super) fn users(found: &[Row]) -> Result<Vec<User>, StoreError> {
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

async fn by_id(connection: &mut Sqlite, id: Uuid) -> Result<Option<User>, Failure> {
    let sql = format!("{USERS} where u.id = ? order by g.position");
    let found = query(sql).bind(id).fetch_all(connection).await?;
    Ok(users(&found)?.pop())
}

async fn insert(connection: &mut Sqlite, user: &User) -> Result<(), Failure> {
    let User { id, name, password_hash, role, grants, token_version, created_at } = user;
    let stored = query(
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

async fn insert_grant(connection: &mut Sqlite, user: Uuid, position: i64, grant: &Grant) -> Result<(), Error> {
    let [sites, verbs, effects] = text::grant_texts(grant);
    query("insert into grants (user_id, position, sites, verbs, effects) values (?, ?, ?, ?, ?)")
        .bind(user)
        .bind(position)
        .bind(sites)
        .bind(verbs)
        .bind(effects)
        .execute(connection)
        .await?;
    Ok(())
}

/// Refuses what would leave nobody to manage users.
async fn keep_an_admin(connection: &mut Sqlite, user: &User) -> Result<(), Failure> {
    if user.role != Role::Admin {
        return Ok(());
    }
    let admins: i64 = query_scalar("select count(*) from users where role = ?")
        .bind(Role::Admin.as_str())
        .fetch_one(connection)
        .await?;
    if admins <= 1 {
        let what = format!("`{}` is the last admin; make another one first", user.name);
        return Err(StoreError::Conflict(what).into());
    }
    Ok(())
}

/// Refuses what was decided about somebody who is another by now.
fn as_expected(user: &User, expected: Option<&User>) -> Result<(), Failure> {
    match expected {
        Some(expected) if expected != user => Err(StoreError::Stale(format!("user `{}`", user.name)).into()),
        Some(_) | None => Ok(()),
    }
}

async fn delete(connection: &mut Sqlite, id: UserId, expected: Option<&User>) -> Result<bool, Failure> {
    let Some(user) = by_id(connection, id.0).await? else { return Ok(false) };
    as_expected(&user, expected)?;
    keep_an_admin(connection, &user).await?;
    let deleted = query("delete from users where id = ?").bind(id.0).execute(connection).await?;
    Ok(deleted.rows_affected() > 0)
}

async fn change(
    connection: &mut Sqlite,
    id: UserId,
    wanted: UserChange,
    at: Timestamp,
) -> Result<Option<User>, Failure> {
    let Some(user) = by_id(connection, id.0).await? else { return Ok(None) };
    as_expected(&user, wanted.expected.as_deref())?;
    if wanted.role.is_some_and(|role| role != Role::Admin) {
        keep_an_admin(connection, &user).await?;
    }
    let ends_logins = wanted.ends_logins();
    let UserChange { role, grants, password_hash, end_logins: _, expected: _ } = wanted;
    query(
        "update users set role = coalesce(?, role), password_hash = coalesce(?, password_hash), \
         token_version = token_version + ? where id = ?",
    )
    .bind(role.map(Role::as_str))
    .bind(password_hash)
    .bind(i64::from(ends_logins))
    .bind(id.0)
    .execute(&mut *connection)
    .await?;
    if ends_logins {
        logins::end_all(connection, id, at).await?;
    }
    if let Some(grants) = grants {
        query("delete from grants where user_id = ?").bind(id.0).execute(&mut *connection).await?;
        for (position, grant) in (0_i64..).zip(&grants) {
            insert_grant(connection, id.0, position, grant).await?;
        }
    }
    by_id(connection, id.0).await
}

async fn rotate(
    connection: &mut Sqlite,
    staged: &mut Staged,
    old_sha256: &str,
    new: NewRefresh,
    at: Timestamp,
) -> Result<Rotated, Failure> {
    let (user, family) = match logins::rotate(connection, staged, old_sha256, &new, at).await? {
        Ok(owner) => owner,
        Err(refused) => return Ok(refused),
    };
    let Some(owner) = by_id(connection, user).await? else { return Ok(Rotated::Refused) };
    staged.audit(Entry { actor: Some(owner.name.clone()), ..new.audit });
    Ok(Rotated::Rotated(Box::new(owner), family))
}

#[async_trait]
impl Users for SqliteStore {
    async fn count(&self) -> Result<u64, StoreError> {
        let n: i64 =
            query_scalar("select count(*) from users").fetch_one(&self.readers).await.map_err(Failure::from)?;
        Ok(u64::try_from(n).unwrap_or(0))
    }

    async fn user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        let sql = format!("{USERS} where u.id = ? order by g.position");
        let query = query(sql).bind(id.0);
        Ok(users(&query.fetch_all(&self.readers).await.map_err(Failure::from)?)?.pop())
    }

    async fn user_named(&self, name: &str) -> Result<Option<User>, StoreError> {
        let sql = format!("{USERS} where u.name = ? order by g.position");
        let query = query(sql).bind(name);
        Ok(users(&query.fetch_all(&self.readers).await.map_err(Failure::from)?)?.pop())
    }

    async fn users(&self) -> Result<Vec<User>, StoreError> {
        let sql = format!("{USERS} order by u.name, g.position");
        let found = query(sql).fetch_all(&self.readers).await.map_err(Failure::from)?;
        users(&found)
    }

    async fn create(&self, user: User, audit: Entry, once: Option<Once>) -> Result<(), StoreError> {
        self.cold(move |connection, staged| {
            Box::pin(async move {
                insert(&mut *connection, &user).await?;
                replies::keep(&mut *connection, once.as_ref()).await?;
                staged.audit(audit);
                Ok(())
            })
        })
        .await
    }

    async fn change_user(&self, id: UserId, wanted: UserChange, audit: Entry) -> Result<Option<User>, StoreError> {
        self.cold(move |connection, staged| {
            Box::pin(async move {
                let changed = change(connection, id, wanted, audit.at).await?;
                if changed.is_some() {
                    staged.audit(audit);
                }
                Ok(changed)
            })
        })
        .await
    }

    async fn logged_in(&self, id: UserId, family: &str) -> Result<Option<User>, StoreError> {
        let sql = format!("{USERS} where u.id = ? and {} order by g.position", logins::LIVE);
        let query = query(sql).bind(id.0).bind(family);
        Ok(users(&query.fetch_all(&self.readers).await.map_err(Failure::from)?)?.pop())
    }

    async fn delete(&self, id: UserId, expected: Option<Box<User>>, audit: Entry) -> Result<bool, StoreError> {
        self.cold(move |connection, staged| {
            Box::pin(async move {
                let deleted = delete(connection, id, expected.as_deref()).await?;
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
                query("delete from refresh_tokens where expires_at < ?")
                    .bind(audit.at.0)
                    .execute(&mut *connection)
                    .await?;
                logins::make_room(connection, token.user, audit.at).await?;
                logins::insert(connection, &token).await?;
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
                let ended = query(
                    "update refresh_tokens set ended_at = ?1 where ended_at is null and family in (?2, \
                     coalesce((select family from refresh_tokens where sha256 = ?2), ?2))",
                )
                .bind(audit.at.0)
                .bind(sha256)
                .execute(connection)
                .await?;
                if ended.rows_affected() == 0 {
                    return Ok(false);
                }
                staged.audit(audit);
                Ok(true)
            })
        })
        .await
    }
}
