//! Contexts: the hosts somebody has logged in to, and which of them is meant.
//!
//! Invariant: the file holds tokens, so it is only ever written whole, readable by its owner alone,
//! and by one process at a time.

mod choose;
mod command;
mod login;
mod store;
mod vault;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tls::Trusted;

use crate::failure::Failure;

pub use choose::Choice;
pub use command::{ContextCommand, run};
pub use login::{LoginOptions, login, logout, password};
pub use store::{Store, StoreError};
pub use vault::ContextVault;

/// Targets of a verb that changes something above which `run` asks, and what `command cancel` may end without asking,
/// when the file does not say.
pub const DEFAULT_CONFIRM_ABOVE: u64 = 10;

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contexts {
    /// The context that is meant when nobody says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// `run` asks before a verb that changes something starts on more agents than this, `command cancel` before more
    /// than this ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_above: Option<u64>,
    /// Contexts by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub contexts: BTreeMap<String, Context>,
}

/// One login at one host.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// The host's address.
    pub url: String,
    /// PEM file with the authorities that may speak for the host; absent: this machine's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The pin of the host's TLS key, 64 hexadecimal digits; wins over `ca`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// The user who logged in.
    pub user: String,
    /// Absent after a logout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_token: Option<String>,
    /// Absent after a logout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// RFC 3339: when the access token ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("url", &self.url).field("user", &self.user).finish_non_exhaustive()
    }
}

impl Context {
    /// Who is believed to be its host.
    ///
    /// # Errors
    /// See [`trusted`].
    pub fn trusted(&self) -> Result<Trusted, Failure> {
        trusted(self.pin.as_deref(), self.ca.as_deref())
    }
}

/// Who is believed to be a host: one pinned key, the authorities in a file, or this machine's.
///
/// # Errors
/// It is no pin, or the file cannot be read.
pub fn trusted(pin: Option<&str>, ca: Option<&Path>) -> Result<Trusted, Failure> {
    Trusted::chosen(pin, ca).map_err(|error| Failure::usage(error.to_string()))
}

/// Whether a text can name a context: it must not be mistaken for a flag or break a line.
pub fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._:-[]@".contains(c))
        && !text.starts_with('-')
}
