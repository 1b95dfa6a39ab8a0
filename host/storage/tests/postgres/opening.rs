//! What a server has to promise before a store opens on it, and openers that come together.

use std::sync::Arc;

use domain::attempt::{Event, State};
use futures_util::future::join_all;
use ports::commands::Commands as _;
use ports::error::StoreError;
use ports::journal::Installation as _;
use servers::postgres::{End, Postgres};
use servers::shared;
use storage::postgres::{OpenError, Options, open};

use crate::behaviours::fixtures::*;
use crate::behaviours::place::{self, Place as _};
use crate::behaviours::{Ground, Told};
use crate::lab::{Database, breathe, options};

/// Why it does not open.
async fn refusal(options: Options) -> OpenError {
    open(options, Arc::new(Told::default())).await.err().expect("refused")
}

/// Refuses `setting` = off with the cure, opens on it when that is allowed, and never mentions the password.
async fn assert_refused(url: &str, setting: &str) {
    let refused = refusal(options(url)).await;
    assert!(matches!(&refused, OpenError::Weak { setting: found, .. } if *found == setting), "{refused}");
    let said = refused.to_string();
    for word in [&format!("{setting} = off"), &format!("set {setting} = on"), "allow_unsafe_durability = true"] {
        assert!(said.contains(word), "{said}");
    }
    let allowed = Options { allow_unsafe_durability: true, ..options(url) };
    open(allowed, Arc::new(Told::default())).await.map(drop).expect("allowed");
}

fn start_with(server: &mut Postgres, settings: &[(&str, &str)]) {
    server.stop(End::Fast).expect("it ends");
    server.set(settings);
    server.start().expect("it starts");
}

#[tokio::test]
async fn a_server_that_may_lose_commits_is_refused_with_the_cure() {
    let Some(mut server) = shared::own(&[("fsync", "off")]) else { return };
    let url = server.create_database("kept").expect("made");
    assert_refused(&url, "fsync").await;
    start_with(&mut server, &[("synchronous_commit", "off")]);
    assert_refused(&url, "synchronous_commit").await;

    start_with(&mut server, &[]);
    open(options(&url), Arc::new(Told::default())).await.map(drop).expect("nothing is off");
    let others = [
        ("alter database kept set synchronous_commit = off", "alter database kept reset synchronous_commit"),
        ("alter role viworks set synchronous_commit = off", "alter role viworks reset synchronous_commit"),
        (
            "alter role viworks in database kept set synchronous_commit = off",
            "alter role viworks in database kept reset synchronous_commit",
        ),
    ];
    for (weaken, mend) in others {
        server.sql(weaken).expect("set");
        assert_refused(&url, "synchronous_commit").await;
        server.sql(mend).expect("reset");
    }
    assert_refused(&format!("{url}?options=-c%20synchronous_commit%3Doff"), "synchronous_commit").await;
    open(options(&url), Arc::new(Told::default())).await.map(drop).expect("nothing is off any more");
    // Weaker than that of replicas, but a commit is on this server's disk.
    server.sql("alter database kept set synchronous_commit = local").expect("set");
    open(options(&url), Arc::new(Told::default())).await.map(drop).expect("durable here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_back_weaker_is_read_but_not_written() {
    for setting in ["fsync", "synchronous_commit"] {
        let Some(mut server) = shared::own(&[]) else { return };
        let database = Database::at(&server.url());
        let (Ground { store, .. }, _running) = place::open(&database).await;
        let web = enrol(&store, "web-1", "eu").await;
        let new = command(&[&web]);
        let id = new.command.id;
        store.accept(new).await.expect("accepted");
        start_with(&mut server, &[(setting, "off")]);
        let said = store.accept(command(&[&web])).await.expect_err("not durable");
        let weak = format!("the database runs with {setting} = off");
        assert!(matches!(&said, StoreError::Unavailable(why) if *why == weak), "{said}");
        assert!(store.command(id).await.expect("read").is_some());

        start_with(&mut server, &[]);
        let accepting = async {
            while store.accept(command(&[&web])).await.is_err() {
                breathe().await
            }
        };
        tokio::time::timeout(place::CEILING, accepting).await.expect("accepted again");
    }
}

/// Changes a setting of a server that runs.
fn reload_with(server: &Postgres, change: &str) {
    server.sql(change).expect("set");
    server.sql("select pg_reload_conf()").expect("told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_syncing_while_it_runs_is_not_written_until_it_syncs_again() {
    let Some(server) = shared::own(&[]) else { return };
    let (Ground { store, .. }, _running) = place::open(&Database::at(&server.url())).await;
    let web = enrol(&store, "web-1", "eu").await;
    let new = command(&[&web]);
    let id = new.command.id;
    store.accept(new).await.expect("accepted");
    let accepting = async |wanted: bool| loop {
        let answer = store.accept(command(&[&web])).await;
        if answer.is_ok() == wanted {
            break answer;
        }
        breathe().await
    };
    reload_with(&server, "alter system set fsync = off");
    let said = tokio::time::timeout(place::CEILING, accepting(false)).await.expect("refused").expect_err("not synced");
    let weak = "the database runs with fsync = off";
    assert!(matches!(&said, StoreError::Unavailable(why) if *why == weak), "{said}");
    store.note(advance(id, web.id, 2, &[Event::Send]));
    assert!(store.flush().await.is_err());

    reload_with(&server, "alter system reset fsync");
    tokio::time::timeout(place::CEILING, accepting(true)).await.expect("answered").expect("accepted again");
    let invocation = store.invocation(id, web.id).await.expect("read").expect("there");
    assert_eq!(invocation.state, State::Sent, "what nobody waited for was kept");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_without_the_password() {
    let closed = servers::port::free().expect("a port");
    let said = refusal(options(&format!("postgres://ops:hunter2@127.0.0.1:{closed}/viworks"))).await.to_string();
    assert!(said.contains(&format!("postgres://127.0.0.1:{closed}/viworks would not open")), "{said}");
    assert!(said.contains("database.url") && !said.contains("hunter2"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_openers_at_once_take_turns() {
    const OPENERS: usize = 8;
    for _ in 0..3 {
        let Some(database) = Database::fresh() else { return };
        let opened = join_all((0..OPENERS).map(|_| place::open(&database))).await;
        assert_eq!(opened.len(), OPENERS);
        let applied = database.sql("select count(*)::text from _sqlx_migrations where success").await.expect("read");
        let known = std::fs::read_dir("../../migrations/postgres").expect("listed").count();
        assert_eq!(applied, Some(known.to_string()), "each migration ran once");
        for (n, (Ground { store, .. }, _)) in opened.iter().enumerate() {
            let web = enrol(store, &format!("web-{n}"), "eu").await;
            store.accept(command(&[&web])).await.expect("accepted");
            assert_eq!(store.counters().writes, 3);
        }
    }
}
