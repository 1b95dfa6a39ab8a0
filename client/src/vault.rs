//! What a client needs of the place where tokens live.

use std::fmt;

use chrono::{DateTime, Utc};

/// Tokens of one login.
#[derive(Clone, PartialEq, Eq)]
pub struct Held {
    /// For the `Authorization` header.
    pub access_token: String,
    /// Good for one renewal; absent when the login cannot be renewed.
    pub refresh_token: Option<String>,
    /// When the access token ends by this machine's clock, if known.
    pub expires_at: Option<DateTime<Utc>>,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// The place failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct VaultError(pub String);

/// Where tokens live between calls, shared with other processes.
pub trait Vault: Send + Sync + fmt::Debug {
    /// The tokens in force; `None` when nobody is logged in.
    ///
    /// # Errors
    /// When the place cannot be read.
    fn read(&self) -> Result<Option<Held>, VaultError>;

    /// Waits until no other process renews, then keeps others out until the answer is dropped. Blocks.
    ///
    /// # Errors
    /// When the place cannot be locked.
    fn begin(&self) -> Result<Box<dyn Exchange>, VaultError>;
}

/// The vault while this process alone may change it.
pub trait Exchange: Send {
    /// The tokens in force now; another process may have renewed them while we waited.
    ///
    /// # Errors
    /// When the place cannot be read.
    fn read(&self) -> Result<Option<Held>, VaultError>;

    /// Puts new tokens in their place, durably.
    ///
    /// # Errors
    /// When the place cannot be written.
    fn write(&mut self, held: &Held) -> Result<(), VaultError>;
}

/// A token given from outside, which cannot be renewed.
#[derive(Clone)]
pub struct FixedToken(pub String);

impl fmt::Debug for FixedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FixedToken(…)")
    }
}

impl Vault for FixedToken {
    fn read(&self) -> Result<Option<Held>, VaultError> {
        Ok(Some(Held { access_token: self.0.clone(), refresh_token: None, expires_at: None }))
    }

    fn begin(&self) -> Result<Box<dyn Exchange>, VaultError> {
        Err(VaultError("a token given from outside cannot be renewed".to_owned()))
    }
}

/// No login: for the call that makes one.
#[derive(Clone, Copy, Debug)]
pub struct Nobody;

impl Vault for Nobody {
    fn read(&self) -> Result<Option<Held>, VaultError> {
        Ok(None)
    }

    fn begin(&self) -> Result<Box<dyn Exchange>, VaultError> {
        Err(VaultError("there is no login to renew".to_owned()))
    }
}
