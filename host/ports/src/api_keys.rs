//! Rows of API keys.

use async_trait::async_trait;
use domain::access::{Caller, Grant, Role};
use domain::audit::Entry;
use domain::time::Timestamp;
use plan::id::{KeyId, UserId};

use crate::error::StoreError;
use crate::replies::Once;
use crate::users::User;

/// API keys. They go with their owner.
#[async_trait]
pub trait ApiKeys: Send + Sync {
    /// Stores a new key, with the reply that is kept for who asked, and lets go of those that have been useless
    /// since before `stale`.
    /// [`StoreError::Conflict`] when its owner is gone or has `most` good ones already.
    async fn create_key(
        &self,
        key: ApiKey,
        most: u32,
        stale: Timestamp,
        audit: Entry,
        once: Option<Once>,
    ) -> Result<(), StoreError>;

    /// All keys, or one user's; newest first.
    async fn api_keys(&self, owner: Option<UserId>) -> Result<Vec<ApiKey>, StoreError>;

    /// By id.
    async fn api_key(&self, id: KeyId) -> Result<Option<ApiKey>, StoreError>;

    /// By the digest of its text, with its owner, whether or not it is good.
    async fn key_of(&self, sha256: &str) -> Result<Option<(ApiKey, User)>, StoreError>;

    /// Makes a key useless; `false` when there is none, or it was revoked before.
    async fn revoke_key(&self, id: KeyId, audit: Entry) -> Result<bool, StoreError>;

    /// Writes down when keys were last used.
    async fn keys_used(&self, uses: Vec<(KeyId, Timestamp)>) -> Result<(), StoreError>;
}

/// One API key as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id.
    pub id: KeyId,
    /// Whose it is.
    pub owner: UserId,
    /// Its owner's name.
    pub owner_name: String,
    /// What it is for, in its maker's words.
    pub name: Option<String>,
    /// SHA-256 of its text, lower-case hex.
    pub sha256: String,
    /// It does no more than this role may.
    pub role: Role,
    /// It does nothing beyond these; absent = what its owner may.
    pub grants: Option<Vec<Grant>>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Useless from then on.
    pub expires_at: Timestamp,
    /// When it was last used, a minute behind.
    pub last_used_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

impl ApiKey {
    /// Whether it opens anything at `now`.
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && now < self.expires_at
    }

    /// Who is asking when its owner's row is `owner`.
    pub fn caller(&self, owner: &User) -> Caller {
        owner.caller().by_key(self.id, self.role, self.grants.clone())
    }
}
