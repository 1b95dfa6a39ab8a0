//! Slow password hashing, done where it cannot hold up anything else.

use async_trait::async_trait;

/// Hashes passwords and compares them with their hashes.
#[async_trait]
pub trait Passwords: Send + Sync {
    /// A fresh salted hash, as PHC text.
    async fn hash(&self, password: &str) -> Result<String, PasswordError>;

    /// Whether `password` is the one `hash` was made of. Without a hash (there is no such user) the
    /// same work is done and the answer is `false`, so that time tells nobody who exists.
    async fn verify(&self, password: &str, hash: Option<&str>) -> Result<bool, PasswordError>;
}

/// Why a password was neither hashed nor compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Too many wait already; trying again soon is right.
    #[error("too many passwords are being hashed")]
    Busy,
    /// The stored hash cannot be read, or the machine has no memory for it.
    #[error("password hash unusable: {0}")]
    Unusable(String),
}
