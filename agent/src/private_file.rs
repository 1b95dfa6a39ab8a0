//! The files in which an agent keeps who it is: its owner's alone, and whole or not at all.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::log::sync_parent;

/// Why there is no usable identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Nobody joined from here.
    #[error("{} does not exist; join first: viworks-agent join URL --token TOKEN --name NAME --data DIR", .0.display())]
    NotJoined(PathBuf),
    /// Others may read a secret.
    #[error("{} may be read by others (mode {mode:04o}); run chmod 600 {}", .path.display(), .path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file does not say what it should.
    #[error("{}: {message}", .path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The file system said no.
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },
}

/// Reads a file that only its owner can read; `None` when it is not there.
///
/// # Errors
/// [`IdentityError`].
pub fn read_secret(path: &Path) -> Result<Option<String>, IdentityError> {
    let fail = |source| IdentityError::Io { doing: "read", path: path.to_owned(), source };
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    if metadata.mode() & 0o077 != 0 {
        return Err(IdentityError::Exposed { path: path.to_owned(), mode: metadata.mode() & 0o7777 });
    }
    std::fs::read_to_string(path).map(Some).map_err(fail)
}

/// Writes beside, syncs, renames: the file is either the old one or the new one.
///
/// # Errors
/// [`IdentityError::Io`].
pub fn write_secret(path: &Path, text: &str) -> Result<(), IdentityError> {
    let fail = |doing| move |source| IdentityError::Io { doing, path: path.to_owned(), source };
    let beside = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&beside).map_err(fail("create"))?;
    file.write_all(text.as_bytes()).map_err(fail("write"))?;
    file.sync_all().map_err(fail("sync"))?;
    std::fs::rename(&beside, path).map_err(fail("rename"))?;
    sync_parent(path).map_err(fail("sync the directory of"))
}
