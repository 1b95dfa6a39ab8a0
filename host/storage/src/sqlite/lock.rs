//! The lock on a store: a file beside the database, locked as long as anybody works with it.

use std::fs::{File, TryLockError};
use std::path::Path;

use super::open::{OpenError, private};
use super::restore::beside;

/// Held as long as anybody has the store open, so that no second host takes it for its own.
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock of the store whose database is at `path`, whether there is one yet or not.
    ///
    /// # Errors
    /// [`OpenError::InUse`], or its file cannot be used.
    pub fn of(path: &Path) -> Result<Lock, OpenError> {
        let beside = beside(path, ".lock");
        let file = private(&beside)?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { file }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(OpenError::File { path: beside, source }),
        }
    }
}

impl Drop for Lock {
    /// Closing would leave it to a process that is being started just now, which has the file until it is another program.
    fn drop(&mut self) {
        _ = self.file.unlock();
    }
}
