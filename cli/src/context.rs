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

use serde::{Deserialize, Serialize};

pub use choose::Choice;
pub use command::{ContextCommand, run};
pub use login::{LoginOptions, login, logout, password};
pub use store::{Store, StoreError};
pub use vault::ContextVault;

/// Targets of a verb that changes something above which `run` asks, when the file does not say.
pub const DEFAULT_CONFIRM_ABOVE: u64 = 10;

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contexts {
    /// The context that is meant when nobody says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// `run` asks before a verb that changes something starts on more agents than this.
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

/// Whether a text can name a context: it must not be mistaken for a flag or break a line.
pub fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._:-[]@".contains(c))
        && !text.starts_with('-')
}
