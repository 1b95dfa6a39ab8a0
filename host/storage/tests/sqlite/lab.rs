//! A SQLite store in a folder of its own.

use std::path::PathBuf;
use std::sync::Arc;

use ports::live::Live;
use ports::restore::Restored;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use storage::sqlite::{Lock, Options, RestoredSqlite, SqliteStore, open};
use tempfile::TempDir;

use crate::behaviours::place::{Place, Writing};

/// A database file.
pub struct File {
    pub path: PathBuf,
    /// Removed with everything in it at the end; `None` = somebody else's.
    _folder: Option<TempDir>,
}

impl Place for File {
    type Store = SqliteStore;

    fn fresh() -> Option<File> {
        let folder = tempfile::tempdir().expect("a folder");
        Some(File { path: folder.path().join("viworks.db"), _folder: Some(folder) })
    }

    fn at(address: &str) -> File {
        File { path: PathBuf::from(address), _folder: None }
    }

    fn address(&self) -> String {
        self.path.to_str().expect("a path of plain letters").to_owned()
    }

    async fn try_open(&self, live: Arc<dyn Live>) -> Result<(SqliteStore, Writing), String> {
        let (store, writer) = open(Options::new(&self.path), live).await.map_err(|error| error.to_string())?;
        Ok((store, Box::new(move |stop| Box::pin(writer.run(stop)))))
    }

    async fn restored(&self) -> Box<dyn Restored> {
        let lock = Lock::of(&self.path).expect("nobody has it");
        Box::new(RestoredSqlite::open(&self.path, &lock).await.expect("opens"))
    }

    async fn sql(&self, statement: &'static str) -> Result<Option<String>, sqlx::Error> {
        let mut connection = SqliteConnectOptions::new().filename(&self.path).connect().await?;
        let answer = sqlx::query_scalar(statement).fetch_optional(&mut connection).await?;
        connection.close().await?;
        Ok(answer)
    }
}
