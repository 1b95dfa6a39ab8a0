//! Rows of users and their refresh tokens.

use std::time::Duration;

use async_trait::async_trait;
use domain::access::{Caller, Grant, Role};
use domain::audit::Entry;
use domain::time::Timestamp;
use plan::id::UserId;

use crate::error::StoreError;
use crate::replies::Once;

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

    /// Stores a new user, with the reply that is kept for who asked. [`StoreError::Conflict`] when the name is
    /// taken.
    async fn create(&self, user: User, audit: Entry, once: Option<Once>) -> Result<(), StoreError>;

    /// Changes a user; as they are then, `None` when there is none. [`StoreError::Conflict`] when nobody would
    /// be an admin afterwards, [`StoreError::Stale`] when they are no longer as expected.
    async fn change_user(&self, id: UserId, change: UserChange, audit: Entry) -> Result<Option<User>, StoreError>;

    /// By id, if the login whose refresh tokens are of `family` is theirs and has not ended.
    async fn logged_in(&self, id: UserId, family: &str) -> Result<Option<User>, StoreError>;

    /// Deletes a user. [`StoreError::Conflict`] when it is the last admin, [`StoreError::Stale`] when they are no
    /// longer as expected.
    async fn delete(&self, id: UserId, expected: Option<Box<User>>, audit: Entry) -> Result<bool, StoreError>;

    /// Stores a refresh token, together with the audit entry of the login.
    async fn add_refresh(&self, token: RefreshToken, audit: Entry) -> Result<(), StoreError>;

    /// Swaps a refresh token for its successor, in one transaction. One that was used at most
    /// [`REPLAY_GRACE`] ago and whose successor nobody has used is given another: the answer may have been
    /// lost. Any other second use ends the whole family. Either is on
    /// record, under the name and the id of the user it was.
    async fn rotate(&self, old_sha256: &str, new: NewRefresh, at: Timestamp) -> Result<Rotated, StoreError>;

    /// Ends a family, named by itself or by the digest of one of its tokens. `false` when there is none that
    /// goes on.
    async fn end_family(&self, sha256: &str, audit: Entry) -> Result<bool, StoreError>;
}

/// How long after its use a refresh token may be used once more, should its answer have been lost.
pub const REPLAY_GRACE: Duration = Duration::from_secs(30);
/// Most logins of one user that go on; one more ends the one that was not refreshed for longest.
pub const MAX_LOGINS: u32 = 200;

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

impl User {
    /// Who is asking when they have logged in.
    pub fn caller(&self) -> Caller {
        Caller::user(self.id, &self.name, self.role, &self.grants)
    }
}

/// What becomes of a user; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserChange {
    /// Another role.
    pub role: Option<Role>,
    /// Other grants, in place of all.
    pub grants: Option<Vec<Grant>>,
    /// Another password, as its hash. Ends every login.
    pub password_hash: Option<String>,
    /// Ends every login: `token_version` rises and no refresh token is good any more.
    pub end_logins: bool,
    /// Only if they are still exactly this.
    pub expected: Option<Box<User>>,
}

impl UserChange {
    /// Whether every login of before ends.
    pub fn ends_logins(&self) -> bool {
        self.end_logins || self.password_hash.is_some()
    }
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
    /// The old token is used up, the new one stored; who that is, and the family.
    Rotated(Box<User>, String),
    /// No such token, expired, or its family was ended.
    Refused,
    /// It had been used before: stolen, or replayed too late. Its family is ended now.
    Reused(UserId),
}
