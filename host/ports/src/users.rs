//! Rows of users and their refresh tokens.

use async_trait::async_trait;
use domain::access::{Grant, Role};
use domain::audit::Entry;
use domain::time::Timestamp;
use plan::id::UserId;

use crate::error::StoreError;

/// Users and refresh tokens.
#[async_trait]
pub trait Users: Send + Sync {
    /// How many users there are.
    async fn count(&self) -> Result<u64, StoreError>;

    /// By id.
    async fn user(&self, id: UserId) -> Result<Option<User>, StoreError>;

    /// By name.
    async fn user_named(&self, name: &str) -> Result<Option<User>, StoreError>;

    /// All, by name.
    async fn users(&self) -> Result<Vec<User>, StoreError>;

    /// Stores a new user. [`StoreError::Conflict`] when the name is taken.
    async fn create(&self, user: User, audit: Entry) -> Result<(), StoreError>;

    /// Sets a password hash and raises `token_version`, which ends every token of before.
    async fn set_password(&self, id: UserId, password_hash: String, audit: Entry) -> Result<bool, StoreError>;

    /// Deletes a user. [`StoreError::Conflict`] when it is the last admin.
    async fn delete(&self, id: UserId, audit: Entry) -> Result<bool, StoreError>;

    /// Stores a refresh token, together with the audit entry of the login.
    async fn add_refresh(&self, token: RefreshToken, audit: Entry) -> Result<(), StoreError>;

    /// Swaps a refresh token for its successor, in one transaction. A token used a second time ends
    /// its whole family. Either is on record, under the name and the id of the user it was.
    async fn rotate(&self, old_sha256: &str, new: NewRefresh, at: Timestamp) -> Result<Rotated, StoreError>;

    /// Ends the family a refresh token belongs to. `false` when there is no such token.
    async fn end_family(&self, sha256: &str, audit: Entry) -> Result<bool, StoreError>;
}

/// One person or program that may log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// Its unique name.
    pub name: String,
    /// Argon2id, PHC text.
    pub password_hash: String,
    /// Its role.
    pub role: Role,
    /// Its grants.
    pub grants: Vec<Grant>,
    /// Tokens made under another version are void.
    pub token_version: u64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A refresh token as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefreshToken {
    /// SHA-256 of the token, lower-case hex.
    pub sha256: String,
    /// The user.
    pub user: UserId,
    /// SHA-256 of the first token of this login; all its successors share it.
    pub family: String,
    /// Useless from then on.
    pub expires_at: Timestamp,
}

/// A refresh token's successor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRefresh {
    /// SHA-256 of the new token, lower-case hex.
    pub sha256: String,
    /// Useless from then on.
    pub expires_at: Timestamp,
    /// What is recorded of the swap; whose token it is, is added.
    pub audit: Entry,
    /// What is recorded when the old token was used before; whose it is, is added.
    pub alarm: Entry,
}

/// What came of a rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rotated {
    /// The old token is used up, the new one stored.
    Rotated(Box<User>),
    /// No such token, expired, or its family was ended.
    Refused,
    /// It had been used before: stolen or replayed. Its family is ended now.
    Reused(UserId),
}
