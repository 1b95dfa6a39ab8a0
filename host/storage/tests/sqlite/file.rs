//! What is SQLite's own: the file and its lock.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use domain::agent::Facts;
use domain::attempt::{Event, State};
use futures_util::future::join_all;
use ports::agents::Agents as _;
use ports::commands::Commands as _;
use ports::error::StoreError;
use ports::journal::Installation as _;
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;
use storage::sqlite::{OpenError, Options, open};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::behaviours::fixtures::*;
use crate::behaviours::place::{self, Place as _};
use crate::behaviours::{Ground, Told};
use crate::lab::File;

#[tokio::test]
async fn every_file_is_for_the_owner_alone() {
    let file = File::fresh().expect("a folder");
    let (Ground { store, .. }, _running) = place::open(&file).await;
    enrol(&store, "web-1", "eu").await;
    let mut names = BTreeSet::new();
    for file in std::fs::read_dir(file.path.parent().expect("a folder")).expect("listed") {
        let file = file.expect("listed");
        let mode = file.metadata().expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.file_name());
        names.insert(file.file_name().into_string().expect("text"));
    }
    assert!(names.iter().any(|name| name.ends_with("-wal")), "{names:?}");
}

#[tokio::test]
async fn a_second_host_on_the_same_file_is_refused() {
    let file = File::fresh().expect("a folder");
    let (Ground { store, .. }, running) = place::open(&file).await;
    let live = Arc::new(Told::default());
    let refused = open(Options::new(&file.path), Arc::clone(&live) as _).await.err().expect("refused");
    assert!(matches!(refused, OpenError::InUse { .. }), "{refused}");
    running.finish().await;
    drop(store);
    open(Options::new(&file.path), live).await.map(drop).expect("free again");
}

#[tokio::test]
async fn agents_of_a_host_that_died_were_last_seen_when_it_last_said_that_it_lived() {
    let file = File::fresh().expect("a folder");
    let (Ground { store, .. }, running) = place::open(&file).await;
    let mut agents = Vec::new();
    for (name, opened) in [("before", 1), ("left", 2), ("since", 50)] {
        let agent = enrol(&store, name, "eu").await;
        store.open_session(agent.id, &Facts::default(), at(opened)).await.expect("stored").expect("known");
        agents.push(agent.id);
    }
    store.close_session(agents[1], 1, at(5), false).await.expect("stored");
    for lived in [20, 40] {
        store.alive(at(lived)).await.expect("stored");
    }
    running.finish().await;
    drop(store);

    let (Ground { store, .. }, _running) = place::open(&file).await;
    assert_eq!(store.sessions_here().await, Ok(vec![]));
    let mut found = Vec::new();
    for id in agents {
        found.push(store.agent(id).await.expect("read").expect("there").last_seen);
    }
    assert_eq!(found, [Some(at(40)), Some(at(5)), Some(at(50))]);
}

#[tokio::test]
async fn of_several_openers_at_once_one_gets_the_file_and_the_others_hear_why() {
    for _ in 0..10 {
        let file = File::fresh().expect("a folder");
        let openers = (0..8).map(|_| open(Options::new(&file.path), Arc::new(Told::default())));
        // The one that got it keeps it until all have tried.
        let (opened, refused): (Vec<_>, Vec<_>) = join_all(openers).await.into_iter().partition(Result::is_ok);
        assert_eq!((opened.len(), refused.len()), (1, 7));
        for refused in refused.into_iter().filter_map(Result::err) {
            assert!(matches!(refused, OpenError::InUse { .. }), "{refused}");
        }
    }
}

#[tokio::test]
async fn a_commit_that_fails_is_told_of_for_what_was_noted_in_it_is_lost() {
    let file = File::fresh().expect("a folder");
    let options = Options { busy_timeout: Duration::from_millis(10), ..Options::new(&file.path) };
    let (store, writer) = open(options, Arc::new(Told::default())).await.expect("opens");
    let mut tasks = JoinSet::new();
    tasks.spawn(writer.run(CancellationToken::new()));
    let web = enrol(&store, "web-1", "eu").await;
    let new = command(&[&web]);
    let id = new.command.id;
    store.accept(new).await.expect("accepted");
    assert_eq!(store.failed_commits(), 0);
    let mut other = SqliteConnectOptions::new().filename(&file.path).connect().await.expect("opens");
    sqlx::query("begin immediate").execute(&mut other).await.expect("locked");
    store.note(advance(id, web.id, 2, &[Event::Send, Event::Start]));
    assert!(matches!(store.flush().await, Err(StoreError::Unavailable(_))));
    sqlx::query("rollback").execute(&mut other).await.expect("let go");
    store.flush().await.expect("written");
    assert_eq!(store.invocation(id, web.id).await.expect("read").expect("there").state, State::Queued);
    assert_eq!((store.failed_commits(), store.counters().notes_dropped), (1, 1));
}
