//! Opening the file: its mode, the lock on it, its settings read back, its schema brought up to date.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use domain::audit::chain::Cause;
use plan::id::ChainId;
use ports::error::StoreError;
use ports::live::Live;

use super::connection::{Opening, Sqlite};
use super::copier::Copier;
use super::failure::Failure;
use super::lock::Lock;
use super::migrate::{SchemaError, migrate};
use super::query::{Error, query_scalar};
use super::readers::Readers;
use super::{Options, Shared, SqliteStore, Writer, agents};
use crate::intake::Intake;
use crate::tally::Tally;
use crate::trail::Trail;

/// Pages of 4 KiB in the write-ahead log that make a commit copy them into the database, should the copier beside the
/// writer not keep up.
const CHECKPOINT_PAGES: u32 = 32_768;
/// Page cache of the writer and of each reader, in KiB.
const WRITER_CACHE_KIB: u32 = 12 * 1024;
const READER_CACHE_KIB: u32 = 1024;

/// The number of the last event.
pub(super) const LAST_SEQ: &str =
    "select max(coalesce((select max(seq) from events), 0), coalesce((select max(seq) from outputs), 0))";

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file, its folder or its lock cannot be used.
    #[error("cannot use `{path}`: {source}; its folder must exist and belong to the user the host runs as")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another host has it open.
    #[error("`{path}` is in use by another host; stop that one first, or give this one a database of its own")]
    InUse {
        /// Which file.
        path: PathBuf,
    },
    /// A newer program wrote it.
    #[error(
        "`{path}` has schema {found}, and this program knows schemas up to {known}; run the newer program, \
         or restore the backup made before the upgrade"
    )]
    Newer {
        /// Which file.
        path: PathBuf,
        /// The schema's number.
        found: i64,
        /// The newest one this program knows.
        known: i64,
    },
    /// A setting that durability stands on did not take.
    #[error("`{path}` would run with {setting} = {found}, but it takes {needed}; check how SQLite was built")]
    Weak {
        /// Which file.
        path: PathBuf,
        /// Which setting.
        setting: &'static str,
        /// What it is.
        found: String,
        /// What it has to be.
        needed: &'static str,
    },
    /// The schema could not be brought up to date.
    #[error("the schema of `{path}` could not be brought up to date: {source}")]
    Schema {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: SchemaError,
    },
    /// The database would not open.
    #[error("`{path}` would not open: {source}")]
    Database {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: Error,
    },
}

/// Opens the store and brings its schema up to date. Sessions that were open when the last host ended
/// are closed in the rows; what they may have sent stays marked.
///
/// # Errors
/// See [`OpenError`].
pub async fn open(options: Options, live: Arc<dyn Live>) -> Result<(SqliteStore, Writer), OpenError> {
    let path = options.path.clone();
    let lock = Lock::of(&path)?;
    make_private(&path)?;
    let database = |source| OpenError::Database { path: path.clone(), source };

    let writing = writing(&options);
    let mut connection = writing.open().map_err(database)?;
    check(&mut connection, &path).await?;
    migrate(&mut connection, &path).await?;
    agents::close_sessions(&mut connection).await.map_err(database)?;
    let last: i64 = query_scalar(LAST_SEQ).fetch_one(&mut connection).await.map_err(database)?;
    let last = u64::try_from(last).unwrap_or(0);
    let chain = fresh_chain(&mut connection).await.map_err(database)?;

    let readers = Readers::open(&reading(&options), options.readers).map_err(database)?;

    let intake = Intake::new();
    let notary = options.notary;
    let trail = Trail::new(chain, Cause::Start, notary.clone());
    let last_seq = AtomicU64::new(last);
    let copier = Copier::of(&path).map_err(|source| OpenError::File { path: path.clone(), source })?;
    let shared = Arc::new(Shared { intake, tally: Tally::default(), copier, last_seq, notary, _lock: lock });
    let store = SqliteStore { shared: Arc::clone(&shared), readers: readers.clone() };
    Ok((store, Writer::new(shared, live, (connection, readers), writing, last, trail)))
}

/// SQLite gives its `-wal` and `-shm` files the mode of the database, so this one decides for all.
fn make_private(path: &Path) -> Result<(), OpenError> {
    let file = private(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        file.set_permissions(std::fs::Permissions::from_mode(0o600))
            .map_err(|source| OpenError::File { path: path.to_owned(), source })?;
    }
    drop(file);
    Ok(())
}

pub(super) fn private(path: &Path) -> Result<File, OpenError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options.open(path).map_err(|source| OpenError::File { path: path.to_owned(), source })
}

pub(super) fn writing(options: &Options) -> Opening {
    Opening::writing(&options.path, options.busy_timeout)
        .pragma("foreign_keys", "on")
        .pragma("journal_mode", "wal")
        .pragma("synchronous", "full")
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES.to_string())
        .pragma("cache_size", format!("-{WRITER_CACHE_KIB}"))
        .pragma("temp_store", "memory")
}

fn reading(options: &Options) -> Opening {
    writing(options).pragma("query_only", "on").pragma("cache_size", format!("-{READER_CACHE_KIB}"))
}

/// Reads back what durability and truth stand on.
async fn check(connection: &mut Sqlite, path: &Path) -> Result<(), OpenError> {
    let database = |source| OpenError::Database { path: path.to_owned(), source };
    let weak = |setting, found: String, needed| OpenError::Weak { path: path.to_owned(), setting, found, needed };
    let mode: String = query_scalar("pragma journal_mode").fetch_one(&mut *connection).await.map_err(database)?;
    if mode != "wal" {
        return Err(weak("journal_mode", mode, "wal"));
    }
    let level: i64 = query_scalar("pragma synchronous").fetch_one(&mut *connection).await.map_err(database)?;
    if level < 2 {
        return Err(weak("synchronous", level.to_string(), "2 (full) or more"));
    }
    let on: bool = query_scalar("pragma foreign_keys").fetch_one(&mut *connection).await.map_err(database)?;
    if !on {
        return Err(weak("foreign_keys", "0".to_owned(), "1"));
    }
    Ok(())
}

/// An id for a chain of audit entries, as good as random.
pub(super) async fn fresh_chain(connection: &mut Sqlite) -> Result<ChainId, Error> {
    let bytes: Vec<u8> = query_scalar("select randomblob(16)").fetch_one(connection).await?;
    Ok(ChainId(uuid::Builder::from_random_bytes(bytes.try_into().unwrap_or_default()).into_uuid()))
}

/// Opens the writer's connection again after a failure. It promises what the first one did, or there is none.
pub(super) async fn reconnect(writing: &Opening) -> Result<Sqlite, Failure> {
    let mut line = writing.open()?;
    match check(&mut line, writing.path()).await {
        Ok(()) => Ok(line),
        Err(OpenError::Database { source, .. }) => Err(source.into()),
        Err(weak) => Err(StoreError::Unavailable(weak.to_string()).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_store_that_would_not_reach_the_disk_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("weak.db");
        let strong = writing(&Options::new(&path)).creating();
        let mut line = strong.clone().pragma("synchronous", "normal").open().expect("opens");
        let refused = check(&mut line, &path).await.expect_err("too weak");
        assert!(refused.to_string().contains("synchronous = 1, but it takes 2 (full) or more"), "{refused}");
        line.close().expect("closes");
        let mut line = strong.open().expect("opens");
        check(&mut line, &path).await.expect("strong enough");
    }

    #[tokio::test]
    async fn a_connection_that_is_opened_again_promises_what_the_first_one_did() {
        for (setting, value, found) in [
            ("synchronous", "normal", "synchronous = 1"),
            ("journal_mode", "memory", "journal_mode = memory"),
            ("foreign_keys", "off", "foreign_keys = 0"),
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            let strong = writing(&Options::new(folder.path().join("kept.db")));
            strong.clone().creating().open().expect("opens").close().expect("closes");
            reconnect(&strong).await.expect("strong enough").close().expect("closes");
            let weak = reconnect(&strong.pragma(setting, value)).await.map(drop).expect_err("too weak");
            let refused = StoreError::from(weak);
            assert!(matches!(&refused, StoreError::Unavailable(why) if why.contains(found)), "{refused}");
        }
    }
}
