//! A SQLite store in a folder of its own, with its writer running.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage::sqlite::{Options, SqliteStore, open};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::behaviours::{Ground, Told};

/// A running writer. Dropped, it is cut off in the middle of whatever it does.
pub struct Running {
    stop: CancellationToken,
    writer: JoinSet<()>,
}

impl Running {
    /// Ends the writer in order: everything queued is written first.
    pub async fn finish(mut self) {
        self.stop.cancel();
        while self.writer.join_next().await.is_some() {}
    }
}

/// Opens the store at `path` and runs its writer.
pub async fn start(path: &Path) -> (Ground<SqliteStore>, Running) {
    let told = Arc::new(Told::default());
    let (store, writer) = open(Options::new(path), Arc::clone(&told) as _).await.expect("opens");
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(writer.run(stop.clone()));
    (Ground { store, told }, Running { stop, writer: tasks })
}

/// Where the database is in its folder.
pub fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("viworks.db")
}

/// A fresh store and what keeps it alive.
pub async fn fresh() -> (Ground<SqliteStore>, (Running, TempDir)) {
    let folder = tempfile::tempdir().expect("a folder");
    let (ground, running) = start(&file(&folder)).await;
    (ground, (running, folder))
}

/// The same, as every behaviour wants it.
pub async fn ground() -> Option<(Ground<SqliteStore>, (Running, TempDir))> {
    Some(fresh().await)
}
