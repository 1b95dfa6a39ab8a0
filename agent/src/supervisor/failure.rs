//! Why a supervisor cannot go on.

use std::path::PathBuf;

use crate::log::LogError;

/// Why a supervisor ended otherwise than because nobody needed it.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    /// There is one already, which is fine.
    #[error("another supervisor serves {}", .0.display())]
    Taken(PathBuf),
    /// Its log is not usable.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The system said no.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the system answered.
        source: std::io::Error,
    },
}

/// Says what was being done when the system said no.
pub(super) fn io(doing: &'static str) -> impl Fn(std::io::Error) -> SuperviseError {
    move |source| SuperviseError::Io { doing, source }
}
