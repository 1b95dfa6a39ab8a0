//! Reading the files an operator writes: TOML with unknown keys refused and every fault placed on its
//! line.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Why a file cannot be used. The text names file and line.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },
    /// Somebody else may write to it.
    #[error(
        "{} may be written by others (mode {mode:04o}); make it writable by its owner only: chmod go-w {}",
        .path.display(), .path.display()
    )]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Something in it is wrong.
    #[error("{}:{line}: {message}", .path.display())]
    Faulty {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong and how to mend it.
        message: String,
    },
}

/// A file's path and text, for placing faults found after parsing.
#[derive(Debug)]
pub struct Document {
    path: PathBuf,
    text: String,
}

impl Document {
    /// Reads the file at `path`, which nobody but its owner may be able to write.
    ///
    /// # Errors
    /// [`DocumentError::Unreadable`], [`DocumentError::Exposed`].
    pub fn open(path: &Path) -> Result<Document, DocumentError> {
        let fail = |source| DocumentError::Unreadable { path: path.to_owned(), source };
        let metadata = std::fs::metadata(path).map_err(fail)?;
        if others_may_write(&metadata) {
            return Err(DocumentError::Exposed { path: path.to_owned(), mode: metadata.mode() & 0o7777 });
        }
        Ok(Document { path: path.to_owned(), text: std::fs::read_to_string(path).map_err(fail)? })
    }

    /// Reads the text as a `T`.
    ///
    /// # Errors
    /// [`DocumentError::Faulty`] at the line where it stops being one.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, DocumentError> {
        toml::from_str(&self.text)
            .map_err(|error| self.fault(error.span().map_or(0, |span| span.start), error.message().to_owned()))
    }

    /// A fault at byte `offset` of the text.
    pub fn fault(&self, offset: usize, message: String) -> DocumentError {
        let before = self.text.as_bytes().get(..offset).unwrap_or_default();
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        DocumentError::Faulty { path: self.path.clone(), line, message }
    }
}

/// Whether group or world may write.
pub fn others_may_write(metadata: &Metadata) -> bool {
    metadata.mode() & 0o022 != 0
}
