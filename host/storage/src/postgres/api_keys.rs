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
use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use super::failure::Failure;
use super::micros::micros;
use super::read::Statement;
use super::rows::{self, Cells};
use super::{PostgresStore, replies};
use crate::text;

const KEYS: &str = "select k.id, k.user_id, u.name, k.name, k.sha256, k.role, k.grants::text, k.created_at, k.expires_at, \
     k.last_used_at, k.revoked_at from api_keys k join users u on u.id = k.user_id";

fn key(row: &PgRow) -> Result<ApiKey, StoreError> {
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

async fn insert(connection: &mut PgConnection, key: &ApiKey, most: u32, stale: Timestamp) -> Result<(), Failure> {
    // Locked, so that two hosts do not both find room for the last one.
    let owner = sqlx::query("select 1 from users where id = $1 for update").bind(key.owner.0);
    if owner.fetch_optional(&mut *connection).await?.is_none() {
        return Err(StoreError::Conflict("the key's owner is gone".to_owned()).into());
    }
    sqlx::query("delete from api_keys where user_id = $1 and coalesce(revoked_at, expires_at) < $2")
        .bind(key.owner.0)
        .bind(micros(stale))
        .execute(&mut *connection)
        .await?;
    let good: i64 = sqlx::query_scalar(
        "select count(*) from api_keys where user_id = $1 and revoked_at is null and expires_at > $2",
    )
    .bind(key.owner.0)
    .bind(micros(key.created_at))
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
    sqlx::query(
        "insert into api_keys (id, user_id, name, sha256, role, grants, created_at, expires_at) \
         values ($1, $2, $3, $4, $5, $6::jsonb, $7, $8)",
    )
    .bind(id.0)
    .bind(owner.0)
    .bind(name)
    .bind(sha256)
    .bind(role.as_str())
    .bind(grants.as_deref().map(text::grants_text))
    .bind(micros(*created_at))
    .bind(micros(*expires_at))
    .execute(connection)
    .await?;
    Ok(())
}

#[async_trait]
impl ApiKeys for PostgresStore {
    async fn create_key(
        &self,
        key: ApiKey,
        most: u32,
        stale: Timestamp,
        audit: Entry,
        once: Option<Once>,
    ) -> Result<(), StoreError> {
        self.cold(move |connection, staged| {
            let (key, audit, once) = (key.clone(), audit.clone(), once.clone());
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
        let mut statement = Statement::new(format!("{KEYS} "));
        if let Some(owner) = owner {
            statement.push("where k.user_id = ").push_bind(owner.0);
        }
        statement.push(" order by k.id desc");
        self.rows(statement).await?.iter().map(key).collect()
    }

    async fn api_key(&self, id: KeyId) -> Result<Option<ApiKey>, StoreError> {
        let statement = Statement::new(format!("{KEYS} where k.id = $1")).bind(id.0);
        self.rows(statement).await?.first().map(key).transpose()
    }

    async fn key_of(&self, sha256: &str) -> Result<Option<(ApiKey, User)>, StoreError> {
        let statement = Statement::new(format!("{KEYS} where k.sha256 = $1")).bind(sha256);
        let Some(key) = self.rows(statement).await?.first().map(key).transpose()? else { return Ok(None) };
        // Deleted in between is as good as deleted before.
        Ok(self.user(key.owner).await?.map(|owner| (key, owner)))
    }

    async fn revoke_key(&self, id: KeyId, audit: Entry) -> Result<bool, StoreError> {
        self.cold(move |connection, staged| {
            let audit = audit.clone();
            Box::pin(async move {
                let done = sqlx::query("update api_keys set revoked_at = $1 where id = $2 and revoked_at is null")
                    .bind(micros(audit.at))
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
            let uses = uses.clone();
            Box::pin(async move {
                for (id, at) in uses {
                    sqlx::query("update api_keys set last_used_at = greatest(last_used_at, $1) where id = $2")
                        .bind(micros(at))
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
