//! What SQLite's errors mean to callers.

use ports::error::StoreError;
use rusqlite::{ErrorCode, ffi};

use super::query::Error;

/// Why a read or write did not happen: the database said no, or we did.
#[derive(Debug)]
pub(super) enum Failure {
    /// The database's word.
    Database(Error),
    /// Ours.
    Store(StoreError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Database(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::Store(error)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> StoreError {
        match failure {
            Failure::Store(error) => error,
            Failure::Database(error) => store_error(&error),
        }
    }
}

impl Failure {
    /// Whether a row was refused because of another row, and what SQLite says about which.
    pub fn constraint(&self) -> Option<&str> {
        match self {
            Failure::Database(error) => constraint(error),
            Failure::Store(_) => None,
        }
    }
}

fn constraint(error: &Error) -> Option<&str> {
    const OF_OTHER_ROWS: [i32; 4] = [
        ffi::SQLITE_CONSTRAINT_UNIQUE,
        ffi::SQLITE_CONSTRAINT_PRIMARYKEY,
        ffi::SQLITE_CONSTRAINT_ROWID,
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY,
    ];
    match error {
        Error::Sqlite(rusqlite::Error::SqliteFailure(code, said)) if OF_OTHER_ROWS.contains(&code.extended_code) => {
            Some(said.as_deref().unwrap_or("a constraint"))
        }
        _ => None,
    }
}

fn store_error(error: &Error) -> StoreError {
    if let Some(said) = constraint(error) {
        return StoreError::Conflict(said.to_owned());
    }
    if let Error::Sqlite(sqlite) = error
        && matches!(sqlite.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
    {
        return StoreError::Corrupt { table: "sqlite_schema", key: "file".to_owned(), what: error.to_string() };
    }
    StoreError::Unavailable(error.to_string())
}
