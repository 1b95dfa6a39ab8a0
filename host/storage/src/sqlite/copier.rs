//! Copies the write-ahead log into the database beside the writer. A commit that has to copy thousands of pages lets
//! whoever writes wait for tens of milliseconds, again and again.
//!
//! Beside the writer the log's end is never reached while more is written, and only a log that was copied to its end
//! begins anew: the last few pages are left to the writer, between two commits. SQLite syncs the database where the end
//! is reached, and so it would be the writer who waits for all that was copied: it is synced here before.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tokio::sync::Notify;

use super::query::{Error, On, query};
use super::readers::Readers;

/// Pages of 4 KiB that are worth it. Hot pages are written once a copy and not once a commit, so a longer log is cheaper.
const WORTH: i64 = 8192;
/// Pages that may be left to the writer.
const FEW: i64 = 512;
/// Times that a copy is begun to get there.
const ROUNDS: usize = 4;
/// Commits between two looks at the log.
const COMMITS: u32 = 16;

/// What the writer and its copier tell each other.
pub(super) struct Copier {
    /// Closed when nobody uses the store any more and not before: whoever closes any handle of a file gives back all
    /// locks that this process has on it, SQLite's as well.
    database: Arc<File>,
    commits: AtomicU32,
    look: Notify,
    nearly: AtomicBool,
}

impl Copier {
    /// Of the database at `path`.
    ///
    /// # Errors
    /// When it does not open.
    pub fn of(path: &Path) -> std::io::Result<Copier> {
        let database = Arc::new(File::open(path)?);
        Ok(Copier { database, commits: AtomicU32::new(0), look: Notify::new(), nearly: AtomicBool::new(false) })
    }

    /// To be told of each commit; `true` when the writer is to copy what is left.
    pub fn committed(&self) -> bool {
        if self.commits.fetch_add(1, Ordering::Relaxed) + 1 >= COMMITS {
            self.commits.store(0, Ordering::Relaxed);
            self.look.notify_one();
        }
        self.nearly.swap(false, Ordering::AcqRel)
    }

    /// Copies whenever it is worth it. Ends when it is dropped.
    pub async fn run(&self, readers: &Readers) {
        loop {
            self.look.notified().await;
            if let Err(error) = self.copy(readers).await {
                tracing::warn!(%error, "the log could not be copied beside the writer; its commits will");
            }
        }
    }

    async fn copy(&self, readers: &Readers) -> Result<(), Error> {
        if left(readers, "noop").await? < WORTH {
            return Ok(());
        }
        for _ in 0..ROUNDS {
            if left(readers, "passive").await? <= FEW {
                break;
            }
        }
        let database = Arc::clone(&self.database);
        let synced = tokio::task::spawn_blocking(move || database.sync_data()).await;
        synced.map_err(std::io::Error::other).flatten()?;
        self.nearly.store(true, Ordering::Release);
        Ok(())
    }
}

/// Copies what is left. Waits for nobody; what a reader still needs stays in the log.
pub(super) async fn finish(on: impl On) -> Result<(), Error> {
    left(on, "passive").await.map(|_| ())
}

/// Pages in the log that are not copied, after a checkpoint of this kind.
async fn left(on: impl On, kind: &'static str) -> Result<i64, Error> {
    let asked = format!("pragma wal_checkpoint({kind})");
    let row = query(asked).fetch_one(on).await?;
    let (log, copied): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
    Ok(log - copied)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::connection::{Opening, Sqlite};
    use super::*;

    async fn write(writer: &mut Sqlite, rows: i64) {
        let text = "insert into t with recursive n (n) as (select 1 union all select n + 1 from n where n < ?) \
             select randomblob(4000) from n";
        query(text).bind(rows).execute(writer).await.expect("written");
        // Others go on meanwhile.
        tokio::task::yield_now().await;
    }

    async fn log(writer: &mut Sqlite) -> i64 {
        let told = query("pragma wal_checkpoint(noop)").fetch_one(writer).await.expect("told");
        told.try_get(1).expect("a number")
    }

    #[tokio::test]
    async fn a_long_log_is_copied_beside_the_writer_and_begins_anew() {
        let dir = tempfile::tempdir().expect("temp dir");
        let opening = Opening::writing(&dir.path().join("log.db"), Duration::ZERO)
            .creating()
            .pragma("journal_mode", "wal")
            .pragma("wal_autocheckpoint", "0");
        let mut writer = opening.open().expect("opens");
        let readers = Readers::open(&opening, 1).expect("opens");
        query("create table t (b blob)").execute(&mut writer).await.expect("made");

        let copier = Copier::of(&dir.path().join("log.db")).expect("opens");
        for _ in 1..COMMITS {
            write(&mut writer, 1).await;
            assert!(!copier.committed());
        }
        copier.copy(&readers).await.expect("looked");
        assert!(!copier.committed() && log(&mut writer).await > 0, "a short log is left as it is");

        write(&mut writer, WORTH).await;
        let running = copier.run(&readers);
        tokio::pin!(running);
        // More is written while it copies, so the end is the writer's.
        let mut commits = 0;
        while !copier.committed() {
            tokio::select! {
                () = &mut running => unreachable!("it runs until it is dropped"),
                () = write(&mut writer, 1) => {}
            }
            commits += 1;
            assert!(commits < 100_000, "never copied");
        }
        let before = log(&mut writer).await;
        finish(&mut writer).await.expect("copied");
        write(&mut writer, 1).await;
        let after = log(&mut writer).await;
        assert!(before > WORTH && after < 10, "{before} pages, then {after}");
    }
}
