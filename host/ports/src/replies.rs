//! Replies that are kept under an `Idempotency-Key`, so that the same request asked again gets the same
//! answer and does nothing twice.

use async_trait::async_trait;
use domain::time::Timestamp;

use crate::error::StoreError;

/// Kept replies. They are stored with what they are replies to, see [`crate::commands::NewCommand::once`].
#[async_trait]
pub trait Replies: Send + Sync {
    /// The reply kept for this caller's key, unless it has expired by `now`.
    async fn reply(&self, principal: &str, key: &str, now: Timestamp) -> Result<Option<Kept>, StoreError>;

    /// Forgets replies that expired before `now`, at most `limit`; how many.
    async fn forget_replies(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError>;
}

/// A request that may be asked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Once {
    /// Whose key it is.
    pub principal: String,
    /// The key: 1 to 255 printable ASCII characters.
    pub key: String,
    /// SHA-256 of method, path and body under a key, hex.
    pub request_sha256: String,
    /// What was answered.
    pub reply: Reply,
    /// When it was.
    pub created_at: Timestamp,
    /// The key may be used for something else after this.
    pub expires_at: Timestamp,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Where what was made can be read.
    pub location: Option<String>,
    /// The body, JSON text.
    pub body: String,
}

/// A kept reply and what it was the reply to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// SHA-256 of method, path and body under a key, hex.
    pub request_sha256: String,
    /// What was answered.
    pub reply: Reply,
}
