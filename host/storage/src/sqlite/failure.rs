//! What SQLite's errors mean to callers.

use ports::error::StoreError;

/// Why a read or write did not happen: the database said no, or we did.
#[derive(Debug)]
pub(super) enum Failure {
    /// The database's word.
    Database(sqlx::Error),
    /// Ours.
    Store(StoreError),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Failure {
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
            Failure::Database(sqlx::Error::Database(error)) => {
                let refused = error.is_unique_violation() || error.is_foreign_key_violation();
                refused.then(|| error.message())
            }
            Failure::Database(_) | Failure::Store(_) => None,
        }
    }
}

/// SQLite's result codes for a file that is damaged or no database at all.
const DAMAGED: [&str; 2] = ["11", "26"];

fn store_error(error: &sqlx::Error) -> StoreError {
    if let sqlx::Error::Database(database) = error {
        if database.is_unique_violation() || database.is_foreign_key_violation() {
            return StoreError::Conflict(database.message().to_owned());
        }
        if database.code().is_some_and(|code| DAMAGED.contains(&code.as_ref())) {
            let what = database.message().to_owned();
            return StoreError::Corrupt { table: "sqlite_schema", key: "file".to_owned(), what };
        }
    }
    StoreError::Unavailable(error.to_string())
}
