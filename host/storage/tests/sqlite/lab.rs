//! A SQLite store in a folder of its own.

use std::path::PathBuf;
use std::sync::Arc;

use ports::live::Live;
use ports::restore::Restored;
use sqlx::sqlite::{SqliteConnectOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use storage::sqlite::{Lock, Options, RestoredSqlite, SqliteStore, open};
use tempfile::TempDir;

use crate::behaviours::audit::Key;
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
        let options = Options { notary: Some(Key::ours()), ..Options::new(&self.path) };
        let (store, writer) = open(options, live).await.map_err(|error| error.to_string())?;
        Ok((store, Box::new(move |stop| Box::pin(writer.run(stop)))))
    }

    async fn restored(&self) -> Box<dyn Restored> {
        let lock = Lock::of(&self.path).expect("nobody has it");
        Box::new(RestoredSqlite::open(&self.path, &lock, Some(Key::ours())).await.expect("opens"))
    }

    async fn sql(&self, statement: &'static str) -> Result<Option<String>, sqlx::Error> {
        let mut connection = SqliteConnectOptions::new().filename(&self.path).connect().await?;
        let answer = sqlx::query_scalar(statement).fetch_optional(&mut connection).await?;
        connection.close().await?;
        Ok(answer)
    }

    async fn many(&self, statements: &str) {
        let options = SqliteConnectOptions::new().filename(&self.path).synchronous(SqliteSynchronous::Off);
        let mut connection = options.connect().await.expect("opens");
        let text = AssertSqlSafe(format!("begin; {statements}; commit"));
        sqlx::raw_sql(text).execute(&mut connection).await.expect("done");
        connection.close().await.expect("closes");
    }

    const UNGUARD: &'static str = "drop trigger audit_logs_stay; drop trigger audit_logs_remain";

    const EDITS: &'static [&'static str] = &[
        "timestamp = timestamp + 1",
        "details = details || ' '",
        "hash = randomblob(32)",
        "ip_address = null, actor = 'x'",
    ];
}
