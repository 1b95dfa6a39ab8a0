//! Users, their grants and their refresh tokens.

use async_trait::async_trait;
use domain::access::{Grant, Role};
use domain::audit::Entry;
use domain::time::Timestamp;
use plan::effect::Effect;
use plan::id::UserId;
use ports::error::StoreError;
use ports::users::{NewRefresh, RefreshToken, Rotated, User, Users};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::PostgresStore;
use super::failure::Failure;
use super::micros::micros;
use super::read::Statement;
use super::rows::{self, Cells};
use crate::staged::Staged;

/// A user and one of its grants; a user without grants is one row with none.
const USERS: &str = "select u.id, u.name, u.password_hash, u.role, u.token_version, u.created_at, \
     g.sites, g.verbs, g.effects from users u left join grants g on g.user_id = u.id";

/// Rows of [`USERS`] back into users; rows of one user follow each other.
fn users(found: &[PgRow]) -> Result<Vec<User>, StoreError> {
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
        let sites: Option<Vec<String>> = cells.take()?;
        if let (Some(sites), Some(user)) = (sites, users.last_mut()) {
            let (verbs, names): (Vec<String>, Vec<String>) = (cells.take()?, cells.take()?);
            let effect = |name: &String| Effect::parse(name).ok_or_else(|| format!("`{name}` is not an effect"));
            let effects = names.iter().map(effect).collect::<Result<_, _>>().map_err(|what| cells.corrupt(what))?;
            user.grants.push(Grant { sites, verbs, effects });
        }
    }
    Ok(users)
}

async fn by_id(connection: &mut PgConnection, id: Uuid) -> Result<Option<User>, Failure> {
    let sql = format!("{USERS} where u.id = $1 order by g.position");
    let found = sqlx::query(AssertSqlSafe(sql)).bind(id).fetch_all(connection).await?;
    Ok(users(&found)?.pop())
}

async fn insert(connection: &mut PgConnection, user: &User) -> Result<(), Failure> {
    let User { id, name, password_hash, role, grants, token_version, created_at } = user;
    let stored = sqlx::query(
        "insert into users (id, name, password_hash, role, token_version, created_at) values ($1, $2, $3, $4, $5, $6) \
         on conflict (name) do nothing",
    )
    .bind(id.0)
    .bind(name)
    .bind(password_hash)
    .bind(role.as_str())
    .bind(i64::try_from(*token_version).unwrap_or(i64::MAX))
    .bind(micros(*created_at))
    .execute(&mut *connection)
    .await?;
    if stored.rows_affected() == 0 {
        return Err(StoreError::Conflict(format!("there is a user named `{name}` already")).into());
    }
    for (position, grant) in (0_i32..).zip(grants) {
        insert_grant(connection, id.0, position, grant).await?;
    }
    Ok(())
}

async fn insert_grant(
    connection: &mut PgConnection,
    user: Uuid,
    position: i32,
    grant: &Grant,
) -> Result<(), sqlx::Error> {
    let Grant { sites, verbs, effects } = grant;
    let effects: Vec<&str> = effects.iter().map(|effect| effect.as_str()).collect();
    sqlx::query("insert into grants (user_id, position, sites, verbs, effects) values ($1, $2, $3, $4, $5)")
        .bind(user)
        .bind(position)
        .bind(sites)
        .bind(verbs)
        .bind(effects)
        .execute(connection)
        .await?;
    Ok(())
}

async fn delete(connection: &mut PgConnection, id: UserId) -> Result<bool, Failure> {
    let Some(user) = by_id(connection, id.0).await? else { return Ok(false) };
    if user.role == Role::Admin {
        // All of them are locked: two hosts that delete one of the last two each must not both succeed.
        let admins: i64 = sqlx::query_scalar(
            "select count(*) from (select id from users where role = $1 order by id for update) as admins",
        )
        .bind(Role::Admin.as_str())
        .fetch_one(&mut *connection)
        .await?;
        if admins <= 1 {
            let what = format!("`{}` is the last admin; make another one first", user.name);
            return Err(StoreError::Conflict(what).into());
        }
    }
    sqlx::query("delete from users where id = $1").bind(id.0).execute(connection).await?;
    Ok(true)
}

async fn insert_refresh(connection: &mut PgConnection, token: &RefreshToken) -> Result<(), sqlx::Error> {
    let RefreshToken { sha256, user, family, expires_at } = token;
    sqlx::query("insert into refresh_tokens (sha256, user_id, family, expires_at) values ($1, $2, $3, $4)")
        .bind(sha256)
        .bind(user.0)
        .bind(family)
        .bind(micros(*expires_at))
        .execute(connection)
        .await?;
    Ok(())
}

async fn end_family(connection: &mut PgConnection, family: &str, at: Timestamp) -> Result<(), sqlx::Error> {
    sqlx::query("update refresh_tokens set ended_at = coalesce(ended_at, $1) where family = $2")
        .bind(micros(at))
        .bind(family)
        .execute(connection)
        .await?;
    Ok(())
}

async fn rotate(
    connection: &mut PgConnection,
    staged: &mut Staged,
    old_sha256: &str,
    new: NewRefresh,
    at: Timestamp,
) -> Result<Rotated, Failure> {
    let row = sqlx::query(
        "select sha256, user_id, family, expires_at, used_at, ended_at from refresh_tokens where sha256 = $1 \
         for update",
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
    sqlx::query("update refresh_tokens set used_at = $1 where sha256 = $2")
        .bind(micros(at))
        .bind(old_sha256)
        .execute(&mut *connection)
        .await?;
    let NewRefresh { sha256, expires_at, audit, alarm: _ } = new;
    staged.audit(Entry { actor: Some(owner.name.clone()), ..audit });
    insert_refresh(connection, &RefreshToken { sha256, user: UserId(user), family, expires_at }).await?;
    Ok(Rotated::Rotated(Box::new(owner)))
}

#[async_trait]
impl Users for PostgresStore {
    async fn count(&self) -> Result<u64, StoreError> {
        let rows = self.rows(Statement::new("select count(*) from users")).await?;
        rows.first().map_or(Ok(0), |row| Cells::new(row, "users").number())
    }

    async fn user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        let statement = Statement::new(format!("{USERS} where u.id = $1 order by g.position")).bind(id.0);
        Ok(users(&self.rows(statement).await?)?.pop())
    }

    async fn user_named(&self, name: &str) -> Result<Option<User>, StoreError> {
        let statement = Statement::new(format!("{USERS} where u.name = $1 order by g.position")).bind(name);
        Ok(users(&self.rows(statement).await?)?.pop())
    }

    async fn users(&self) -> Result<Vec<User>, StoreError> {
        let sql = format!("{USERS} order by u.name, g.position");
        users(&self.rows(Statement::new(sql)).await?)
    }

    async fn create(&self, user: User, audit: Entry) -> Result<(), StoreError> {
        self.cold(move |connection, staged| {
            let (user, audit) = (user.clone(), audit.clone());
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
            let (password_hash, audit) = (password_hash.clone(), audit.clone());
            Box::pin(async move {
                let set =
                    sqlx::query("update users set password_hash = $1, token_version = token_version + 1 where id = $2")
                        .bind(password_hash)
                        .bind(id.0)
                        .execute(&mut *connection)
                        .await?;
                if set.rows_affected() == 0 {
                    return Ok(false);
                }
                sqlx::query("update refresh_tokens set ended_at = coalesce(ended_at, $1) where user_id = $2")
                    .bind(micros(audit.at))
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
            let audit = audit.clone();
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
            let (token, audit) = (token.clone(), audit.clone());
            Box::pin(async move {
                // Logins are when old ones are swept: what has expired is refused with or without its row.
                sqlx::query("delete from refresh_tokens where expires_at < $1")
                    .bind(micros(audit.at))
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
        self.cold(move |connection, staged| {
            let (old, new) = (old.clone(), new.clone());
            Box::pin(async move { rotate(connection, staged, &old, new, at).await })
        })
        .await
    }

    async fn end_family(&self, sha256: &str, audit: Entry) -> Result<bool, StoreError> {
        let sha256 = sha256.to_owned();
        self.cold(move |connection, staged| {
            let (sha256, audit) = (sha256.clone(), audit.clone());
            Box::pin(async move {
                let family: Option<String> = sqlx::query_scalar("select family from refresh_tokens where sha256 = $1")
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
