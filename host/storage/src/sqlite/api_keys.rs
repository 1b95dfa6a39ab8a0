//! API keys: long-lived, each within what its owner may.

use async_trait::async_trait;
use domain::access::Role;
use domain::audit::Entry;
use domain::time::Timestamp;
use plan::id::{KeyId, UserId};
use ports::api_keys::{ApiKey, ApiKeys};
use ports::error::StoreError;
use ports::replies::Once;
use ports::users::{User, Users as _};

use super::connection::Sqlite;
use super::failure::Failure;
use super::query::{Row, query, query_scalar};
use super::rows::{self, Cells};
use super::{SqliteStore, replies};
use crate::text;

const KEYS: &str = "select k.id, k.user_id, u.name, k.name, k.sha256, k.role, k.grants, k.created_at, k.expires_at, \
     k.last_used_at, k.revoked_at from api_keys k join users u on u.id = k.user_id";

fn key(row: &Row) -> Result<ApiKey, StoreError> {
    let mut cells = Cells::new(row, "api_keys");
    Ok(ApiKey {
        id: KeyId(cells.id()?),
        owner: UserId(cells.take()?),
        owner_name: cells.take()?,
        name: cells.take()?,
        sha256: cells.take()?,
        role: cells.read(rows::word("role", Role::parse))?,
        grants: cells.read_some(text::parse_grants)?,
        created_at: cells.time()?,
        expires_at: cells.time()?,
        last_used_at: cells.time_if_any()?,
        revoked_at: cells.time_if_any()?,
    })
}

async fn insert(connection: &mut Sqlite, key: &ApiKey, most: u32, stale: Timestamp) -> Result<(), Failure> {
    let owner = query("select 1 from users where id = ?").bind(key.owner.0);
    if owner.fetch_optional(&mut *connection).await?.is_none() {
        return Err(StoreError::Conflict("the key's owner is gone".to_owned()).into());
    }
    query("delete from api_keys where user_id = ? and coalesce(revoked_at, expires_at) < ?")
        .bind(key.owner.0)
        .bind(stale.0)
        .execute(&mut *connection)
        .await?;
    let good: i64 =
        query_scalar("select count(*) from api_keys where user_id = ? and revoked_at is null and expires_at > ?")
            .bind(key.owner.0)
            .bind(key.created_at.0)
            .fetch_one(&mut *connection)
            .await?;
    if good >= i64::from(most) {
        return Err(StoreError::Conflict(format!("{good} keys are good; at most {most}")).into());
    }
    let ApiKey {
        id,
        owner,
        owner_name: _,
        name,
        sha256,
        role,
        grants,
        created_at,
        expires_at,
        last_used_at: _,
        revoked_at: _,
    } = key;
    query(
        "insert into api_keys (id, user_id, name, sha256, role, grants, created_at, expires_at) \
         values (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(id.0)
    .bind(owner.0)
    .bind(name)
    .bind(sha256)
    .bind(role.as_str())
    .bind(grants.as_deref().map(text::grants_text))
    .bind(created_at.0)
    .bind(expires_at.0)
    .execute(connection)
    .await?;
    Ok(())
}

#[async_trait]
impl ApiKeys for SqliteStore {
    async fn create_key(
        &self,
        key: ApiKey,
        most: u32,
        stale: Timestamp,
        audit: Entry,
        once: Option<Once>,
    ) -> Result<(), StoreError> {
        self.cold(move |connection, staged| {
            Box::pin(async move {
                insert(&mut *connection, &key, most, stale).await?;
                replies::keep(&mut *connection, once.as_ref()).await?;
                staged.audit(audit);
                Ok(())
            })
        })
        .await
    }

    async fn api_keys(&self, owner: Option<UserId>) -> Result<Vec<ApiKey>, StoreError> {
        let which = if owner.is_some() { "where k.user_id = ?" } else { "" };
        let sql = format!("{KEYS} {which} order by k.id desc");
        let mut query = query(sql);
        if let Some(owner) = owner {
            query = query.bind(owner.0);
        }
        query.fetch_all(&self.readers).await.map_err(Failure::from)?.iter().map(key).collect()
    }

    async fn api_key(&self, id: KeyId) -> Result<Option<ApiKey>, StoreError> {
        let query = query(format!("{KEYS} where k.id = ?")).bind(id.0);
        query.fetch_optional(&self.readers).await.map_err(Failure::from)?.as_ref().map(key).transpose()
    }

    async fn key_of(&self, sha256: &str) -> Result<Option<(ApiKey, User)>, StoreError> {
        let query = query(format!("{KEYS} where k.sha256 = ?")).bind(sha256);
        let found = query.fetch_optional(&self.readers).await.map_err(Failure::from)?;
        let Some(key) = found.as_ref().map(key).transpose()? else { return Ok(None) };
        // Deleted in between is as good as deleted before.
        Ok(self.user(key.owner).await?.map(|owner| (key, owner)))
    }

    async fn revoke_key(&self, id: KeyId, audit: Entry) -> Result<bool, StoreError> {
        self.cold(move |connection, staged| {
            Box::pin(async move {
                let done = query("update api_keys set revoked_at = ? where id = ? and revoked_at is null")
                    .bind(audit.at.0)
                    .bind(id.0)
                    .execute(connection)
                    .await?;
                let revoked = done.rows_affected() > 0;
                if revoked {
                    staged.audit(audit);
                }
                Ok(revoked)
            })
        })
        .await
    }

    async fn keys_used(&self, uses: Vec<(KeyId, Timestamp)>) -> Result<(), StoreError> {
        self.cold(move |connection, _| {
            Box::pin(async move {
                for (id, at) in uses {
                    query("update api_keys set last_used_at = max(coalesce(last_used_at, 0), ?) where id = ?")
                        .bind(at.0)
                        .bind(id.0)
                        .execute(&mut *connection)
                        .await?;
                }
                Ok(())
            })
        })
        .await
    }
}
