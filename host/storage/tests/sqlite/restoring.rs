//! A restored file, a copy taken while the store is written to, and looking into one.

use std::path::PathBuf;
use std::time::Duration;

use plan::id::ClusterId;
use ports::commands::Commands as _;
use ports::journal::Installation as _;
use ports::restore::Restored;
use storage::sqlite::{Lock, OpenError, RestoredSqlite, SqliteStore, beside, inspect, snapshot};
use tempfile::TempDir;

use crate::behaviours::Ground;
use crate::behaviours::fixtures::*;
use crate::behaviours::restoring::Place;
use crate::lab::{self, Running};

crate::restoring!(place);

struct Folder(TempDir);

async fn place() -> Option<Folder> {
    Some(Folder(tempfile::tempdir().expect("a folder")))
}

impl Folder {
    fn file(&self) -> PathBuf {
        lab::file(&self.0)
    }
}

impl Place for Folder {
    type Store = SqliteStore;
    type Running = Running;

    async fn open(&self) -> (SqliteStore, Running) {
        let (Ground { store, .. }, running) = lab::start(&self.file()).await;
        (store, running)
    }

    async fn close(&self, running: Running) {
        running.finish().await;
    }

    async fn restored(&self) -> Box<dyn Restored> {
        let lock = Lock::of(&self.file()).expect("nobody has it");
        Box::new(RestoredSqlite::open(&self.file(), &lock).await.expect("opens"))
    }
}

#[tokio::test]
async fn a_copy_is_taken_while_the_store_is_written_to_and_has_every_command_whole() {
    let (Ground { store, .. }, (running, folder)) = lab::fresh().await;
    let web = enrol(&store, "web-1", "eu").await;
    let cluster = store.cluster(ClusterId(uuid())).await.expect("a cluster");
    for _ in 0..200 {
        store.accept(command(&[&web])).await.expect("accepted");
    }
    let (from, to) = (lab::file(&folder), folder.path().join("copy.db"));
    let writing = async {
        for _ in 0..200 {
            store.accept(command(&[&web])).await.expect("accepted while a copy is taken");
        }
    };
    let (copied, ()) = tokio::join!(snapshot(&from, &to, Duration::from_secs(5)), writing);
    copied.expect("copied");
    let (contents, wrong) = inspect(&to).await.expect("a store");
    assert_eq!((contents.cluster, wrong), (Some(cluster), vec![]));
    assert!((200..=400).contains(&contents.commands), "{contents:?}");
    assert_eq!((contents.open, contents.agents), (contents.commands, 1), "no command without its invocation");
    let beside: Vec<bool> = ["-wal", "-shm", "-journal"].map(|end| beside(&to, end).exists()).into();
    assert_eq!(beside, [false; 3], "looking leaves nothing behind");
    running.finish().await;
}

#[tokio::test]
async fn a_store_that_is_in_use_is_not_restored_over() {
    let (_ground, (_running, folder)) = lab::fresh().await;
    let refused = Lock::of(&lab::file(&folder)).err();
    assert!(matches!(refused, Some(OpenError::InUse { .. })), "{refused:?}");
}
