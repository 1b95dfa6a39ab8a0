//! Who did what, for the record. An entry is committed in the same transaction as its action: no
//! audit, no action.
//!
//! Entries hang on chains ([`chain`]), so that whoever changes the store behind the host's back is
//! found out ([`check`]).

pub mod chain;
pub mod check;

use crate::time::Timestamp;

/// One line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// `info` for what was done, `warn` for what was refused.
    pub level: Level,
    /// The area: `auth`, `agents`, `groups`, `commands`, `users`, `plugins`, `system`.
    pub category: &'static str,
    /// What was done, e.g. `command.submit`.
    pub action: &'static str,
    /// Name of the user or agent who did it; absent when nobody is known.
    pub actor: Option<String>,
    /// What it was done to, e.g. (`command`, its id).
    pub resource: Option<(&'static str, String)>,
    /// Digests and numbers, never payloads or secrets; JSON text of an object.
    pub details: String,
    /// The peer's address.
    pub ip_address: Option<String>,
    /// The peer's program.
    pub user_agent: Option<String>,
    /// The request it belongs to.
    pub correlation_id: Option<String>,
}

/// How much an entry should worry its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something was done.
    Info,
    /// Something was refused.
    Warn,
}

impl Level {
    /// The name used in JSON and SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Info => "info",
            Level::Warn => "warn",
        }
    }

    /// Reads such a name.
    pub fn parse(text: &str) -> Option<Level> {
        [Level::Info, Level::Warn].into_iter().find(|level| level.as_str() == text)
    }
}
