//! Why an agent ends other than by being asked to.

use std::path::PathBuf;

use crate::document::DocumentError;
use crate::identity::IdentityError;
use crate::log::LogError;

/// Why an agent cannot run, or can no longer.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It has not joined, or its secrets are exposed.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Policy or settings are wrong.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The journal is not usable. Nothing more is done, because nothing more could be remembered.
    #[error("the journal is not usable: {0}")]
    Journal(#[from] LogError),
    /// The host's address is not one.
    #[error("identity.json: ws_url {0}")]
    Url(String),
    /// One agent for each data directory.
    #[error("another agent runs with {}; end it first", .0.display())]
    Taken(PathBuf),
    /// The system said no.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the system answered.
        source: std::io::Error,
    },
}
