//! What PostgreSQL's errors mean to callers and to the writer.
//!
//! Source: <https://www.postgresql.org/docs/current/errcodes-appendix.html>

use std::time::Duration;

use ports::error::StoreError;

/// Why a read or write did not happen: the database said no, it did not answer, or we said no.
#[derive(Debug)]
pub(super) enum Failure {
    /// The database's word, or the connection's.
    Database(sqlx::Error),
    /// Ours.
    Store(StoreError),
    /// No answer for so long.
    Silence(Duration),
    /// The server would not keep what it commits: this setting is off.
    Weak(&'static str),
    /// Another host changed a row that was about to be written.
    Overtaken,
    /// A command of many is refused by the schema, and which one is not known.
    Clash(String),
    /// The connection broke in the middle of a commit, and what became of it could not be found out.
    Unknown(String),
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
            Failure::Silence(span) => {
                StoreError::Unavailable(format!("the database timed out: no answer for {} ms", span.as_millis()))
            }
            Failure::Weak(setting) => StoreError::Unavailable(format!("the database runs with {setting} = off")),
            Failure::Clash(message) => StoreError::Conflict(message),
            Failure::Overtaken => StoreError::Unavailable("other hosts keep changing the same rows".to_owned()),
            Failure::Unknown(why) => StoreError::Unavailable(format!(
                "the connection broke during the commit, and whether it was stored is not known yet: {why}"
            )),
        }
    }
}

impl Failure {
    /// Whether a row was refused because of another row or of what stands in it, and what PostgreSQL
    /// says about which.
    pub fn refused_row(&self) -> Option<&str> {
        match self {
            Failure::Database(sqlx::Error::Database(error)) => {
                let class = error.code().is_some_and(|code| code.starts_with("23") || code.starts_with("22"));
                class.then(|| error.message())
            }
            Failure::Database(_)
            | Failure::Store(_)
            | Failure::Silence(_)
            | Failure::Weak(_)
            | Failure::Overtaken
            | Failure::Clash(_)
            | Failure::Unknown(_) => None,
        }
    }

    /// Whether the same transaction may well succeed at once when it is tried again: a deadlock, a
    /// conflict with another host.
    pub fn is_passing(&self) -> bool {
        match self {
            Failure::Overtaken => true,
            Failure::Database(sqlx::Error::Database(error)) => {
                error.code().is_some_and(|code| matches!(&*code, "40001" | "40P01" | "55P03"))
            }
            Failure::Database(_)
            | Failure::Store(_)
            | Failure::Silence(_)
            | Failure::Weak(_)
            | Failure::Clash(_)
            | Failure::Unknown(_) => false,
        }
    }

    /// Whether the connection is of no more use, or there was none.
    pub fn is_lost(&self) -> bool {
        match self {
            Failure::Silence(_) => true,
            Failure::Database(error) => is_lost(error),
            Failure::Store(_) | Failure::Weak(_) | Failure::Overtaken | Failure::Clash(_) | Failure::Unknown(_) => {
                false
            }
        }
    }
}

/// Whether a connection that answers this is of no more use, or there was none.
pub(super) fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            // Connection exceptions, shutting down, crashed, starting up, cut off, too many connections.
            code.starts_with("08") || code.starts_with("57P") || code == "25P03" || code == "53300"
        }),
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => true,
        _ => false,
    }
}

fn store_error(error: &sqlx::Error) -> StoreError {
    if let sqlx::Error::Database(database) = error {
        if database.is_unique_violation() || database.is_foreign_key_violation() {
            return StoreError::Conflict(database.message().to_owned());
        }
        // Data corrupted, index corrupted.
        if database.code().is_some_and(|code| matches!(&*code, "XX001" | "XX002")) {
            let what = database.message().to_owned();
            return StoreError::Corrupt { table: "pg_class", key: "file".to_owned(), what };
        }
    }
    StoreError::Unavailable(error.to_string())
}
