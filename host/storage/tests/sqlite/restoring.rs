//! A copy taken while the store is written to, looking into one, and a file that is in use.

use std::time::Duration;

use plan::id::ClusterId;
use ports::commands::Commands as _;
use ports::journal::Installation as _;
use storage::sqlite::{Lock, OpenError, beside, inspect, snapshot};

use crate::behaviours::Ground;
use crate::behaviours::fixtures::*;
use crate::behaviours::place::{self, Place as _};
use crate::lab::File;

#[tokio::test]
async fn a_copy_is_taken_while_the_store_is_written_to_and_has_every_command_whole() {
    let file = File::fresh().expect("a file");
    let (Ground { store, .. }, running) = place::open(&file).await;
    let web = enrol(&store, "web-1", "eu").await;
    let cluster = store.cluster(ClusterId(uuid())).await.expect("a cluster");
    for _ in 0..200 {
        store.accept(command(&[&web])).await.expect("accepted");
    }
    let (from, to) = (file.path.clone(), file.path.with_file_name("copy.db"));
    let writing = async {
        for _ in 0..200 {
            store.accept(command(&[&web])).await.expect("accepted while a copy is taken");
        }
    };
    let there = tokio::runtime::Handle::current();
    let (begun, begins) = tokio::sync::oneshot::channel();
    let (source, copy) = (from.clone(), to.clone());
    let copying = tokio::task::spawn_blocking(move || {
        begun.send(()).expect("somebody waits");
        there.block_on(snapshot(&source, &copy, Duration::from_secs(5)))
    });
    begins.await.expect("it begins");
    let (copied, ()) = tokio::join!(copying, writing);
    copied.expect("no panic").expect("copied");
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
    let file = File::fresh().expect("a file");
    let (_ground, _running) = place::open(&file).await;
    let refused = Lock::of(&file.path).err();
    assert!(matches!(refused, Some(OpenError::InUse { .. })), "{refused:?}");
}
