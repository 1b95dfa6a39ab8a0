//! What is SQLite's own: the file, its lock, what survives an end of any kind, and how few commits
//! many writes take.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use domain::agent::Facts;
use domain::attempt::{Event, State};
use plan::id::CommandId;
use plan::outcome::Stream;
use ports::agents::Agents as _;
use ports::commands::Commands as _;
use ports::error::StoreError;
use ports::journal::{Installation as _, Journal as _};
use sqlx::{Connection as _, SqliteConnection};
use storage::sqlite::{OpenError, Options, open};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::task::JoinSet;

use crate::behaviours::fixtures::*;
use crate::behaviours::{Ground, Told};
use crate::lab;

async fn tamper(path: &std::path::Path, sql: &'static str) {
    let mut connection = SqliteConnection::connect(&format!("sqlite:{}", path.display())).await.expect("opens");
    sqlx::raw_sql(sql).execute(&mut connection).await.expect("tampered");
    connection.close().await.expect("closes");
}

#[tokio::test]
async fn a_thousand_accepts_at_once_take_few_commits() {
    let (Ground { store, .. }, _keep) = lab::fresh().await;
    let web = enrol(&store, "web-1", "eu").await;
    let before = store.counters();
    let mut callers = JoinSet::new();
    for _ in 0..1000 {
        let (store, new) = (store.clone(), command(&[&web]));
        callers.spawn(async move { store.accept(new).await });
    }
    assert!(callers.join_all().await.into_iter().all(|answer| answer.is_ok()));
    let after = store.counters();
    assert_eq!(after.writes - before.writes, 1000);
    assert!(after.commits - before.commits < 100, "{} commits", after.commits - before.commits);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_in_a_loop_keep_sharing_commits() {
    const CALLERS: u64 = 64;
    const EACH: u64 = 20;
    let (Ground { store, .. }, _keep) = lab::fresh().await;
    let web = enrol(&store, "web-1", "eu").await;
    let before = store.counters();
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (store, web) = (store.clone(), web.clone());
        callers.spawn(async move {
            for _ in 0..EACH {
                let new = command(&[&web]);
                let id = new.command.id;
                store.accept(new).await.expect("accepted");
                store.advance(finish(id, web.id, 1, true)).await.expect("advanced");
            }
        });
    }
    callers.join_all().await;
    let after = store.counters();
    let (commits, writes) = (after.commits - before.commits, after.writes - before.writes);
    assert_eq!(writes, CALLERS * EACH * 2);
    assert!(commits * 8 < writes, "{commits} commits for {writes} writes");
}

#[tokio::test]
async fn everything_is_there_again_after_reopening() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = lab::file(&folder);
    let (Ground { store, .. }, running) = lab::start(&path).await;
    let web = enrol(&store, "web-1", "eu").await;
    store.open_session(web.id, &Facts::default(), at(1)).await.expect("stored");
    let new = command(&[&web]);
    let id = new.command.id;
    store.accept(new).await.expect("accepted");
    store.append(chunk(id, web.id, 0, "abc"));
    store.advance(advance(id, web.id, 2, &[Event::Send])).await.expect("advanced");
    let view = store.command(id).await.expect("read");
    let (events, last) = (store.events(Some(id), 0, 100).await.expect("read"), store.last_seq().await.expect("read"));
    let cluster = store.cluster(plan::id::ClusterId(uuid())).await.expect("stored");
    // A note still in the queue at an orderly end is written.
    store.note(advance(id, web.id, 3, &[Event::Acknowledge]));
    running.finish().await;
    let refused = store.flush().await;
    assert!(matches!(&refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    drop(store);

    let (Ground { store, .. }, _running) = lab::start(&path).await;
    let now = store.command(id).await.expect("read").expect("there");
    assert_eq!(Some(&now.command), view.as_ref().map(|view| &view.command));
    assert_eq!(now.counts.of(State::Accepted), 1);
    let again = store.events(Some(id), 0, 100).await.expect("read");
    assert_eq!(again[..events.len()], events);
    assert_eq!(again.len(), events.len() + 1);
    assert_eq!(store.last_seq().await, Ok(last + 1));
    assert_eq!(store.cluster(plan::id::ClusterId(uuid())).await, Ok(cluster));
    // Bytes stored by the last host are known to this one.
    store.append(chunk(id, web.id, 1, "bcd"));
    store.flush().await.expect("flushed");
    let output = store.output(key(id), web.id, Stream::Stdout, 0, 100).await.expect("read");
    assert_eq!(output.iter().map(|chunk| chunk.data.clone()).collect::<Vec<_>>().concat(), b"abcd");
    // A session that was open when the host ended is closed, and what it may have sent stays marked.
    let agent = store.agents().await.expect("read").remove(0);
    assert!(agent.maybe_sent);
    let lost: Vec<CommandId> =
        store.abandoned(at(100), 10).await.expect("read").iter().map(|open| open.key.command).collect();
    assert_eq!(lost, [id]);
}

const CHILD: &str = "VIWORKS_STORAGE_CHILD";

/// Plays both parts: the parent starts this same test again as a child, which accepts and prints until
/// it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_accept_that_returned_is_lost_to_kill_nine() {
    if let Some(path) = std::env::var_os(CHILD) {
        accept_until_killed(path.as_ref()).await;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = lab::file(&folder);
    let mut printed = BTreeSet::new();
    for round in 1..=3 {
        let mut child = tokio::process::Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "file::no_accept_that_returned_is_lost_to_kill_nine", "--nocapture", "--test-threads=1"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the child starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let enough = printed.len() + 300;
        let reading = async {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some((_, id)) = line.split_once("accepted ") {
                    printed.insert(id.parse::<CommandId>().expect("an id"));
                }
                if printed.len() == enough {
                    child.start_kill().expect("killed");
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), reading).await.expect("the child accepts");
        child.wait().await.expect("ended");
        assert!(printed.len() >= enough, "round {round}: {} printed", printed.len());
    }
    let (Ground { store, .. }, _running) = lab::start(&path).await;
    for id in &printed {
        let view = store.command(*id).await.expect("read").expect("an accepted command is there");
        assert_eq!(view.counts.total(), 1);
        assert_eq!(store.invocations(*id, None, None, 10).await.expect("read").len(), 1);
        assert_eq!(store.events(Some(*id), 0, 10).await.expect("read").len(), 1);
    }
}

async fn accept_until_killed(path: &std::path::Path) -> ! {
    let (Ground { store, .. }, _running) = lab::start(path).await;
    // Ids of an earlier child are not to be met again.
    let last = store.last_seq().await.expect("read");
    for _ in 0..last * 4 {
        uuid();
    }
    let web = enrol(&store, &format!("web-{last}"), "eu").await;
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let (store, web) = (store.clone(), web.clone());
        callers.spawn(async move {
            loop {
                let new = command(&[&web]);
                let id = new.command.id;
                store.accept(new).await.expect("accepted");
                let line = format!("accepted {id}\n");
                std::io::stdout().lock().write_all(line.as_bytes()).expect("the parent reads");
            }
        });
    }
    callers.join_next().await;
    panic!("nobody killed this process");
}

#[tokio::test]
async fn every_file_is_for_the_owner_alone() {
    let (Ground { store, .. }, (_running, folder)) = lab::fresh().await;
    enrol(&store, "web-1", "eu").await;
    let mut names = BTreeSet::new();
    for file in std::fs::read_dir(folder.path()).expect("listed") {
        let file = file.expect("listed");
        let mode = file.metadata().expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.file_name());
        names.insert(file.file_name().into_string().expect("text"));
    }
    assert!(names.iter().any(|name| name.ends_with("-wal")), "{names:?}");
}

#[tokio::test]
async fn a_second_host_on_the_same_file_is_refused() {
    let (Ground { store, .. }, (running, folder)) = lab::fresh().await;
    let live = Arc::new(Told::default());
    let refused = open(Options::new(lab::file(&folder)), Arc::clone(&live) as _).await.err().expect("refused");
    assert!(matches!(refused, OpenError::InUse { .. }), "{refused}");
    running.finish().await;
    drop(store);
    open(Options::new(lab::file(&folder)), live).await.map(drop).expect("free again");
}

#[tokio::test]
async fn a_newer_schema_is_refused_with_the_cure() {
    let (Ground { store, .. }, (running, folder)) = lab::fresh().await;
    running.finish().await;
    drop(store);
    tamper(
        &lab::file(&folder),
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
         values (9999, 'from the future', true, x'00', 1)",
    )
    .await;
    let options = Options::new(lab::file(&folder));
    let refused = open(options, Arc::new(Told::default())).await.err().expect("refused");
    assert!(matches!(refused, OpenError::Newer { found: 9999, .. }), "{refused}");
    assert!(refused.to_string().contains("run the newer program"), "{refused}");
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_named() {
    let (Ground { store, .. }, (_running, folder)) = lab::fresh().await;
    let web = enrol(&store, "web-1", "eu").await;
    let new = command(&[&web]);
    let id = new.command.id;
    store.accept(new).await.expect("accepted");
    tamper(&lab::file(&folder), "update commands set status = 'asleep'; update invocations set outcome = '{'").await;
    let said = store.command(id).await.expect_err("unreadable");
    let what = "`asleep` is not a status".to_owned();
    assert_eq!(said, StoreError::Corrupt { table: "commands", key: id.to_string(), what });
    let said = store.invocation(id, web.id).await.expect_err("unreadable");
    let named = format!("{id}/{}", web.id);
    assert!(matches!(&said, StoreError::Corrupt { table: "invocations", key, .. } if *key == named), "{said}");
}

#[tokio::test]
async fn a_writer_that_is_cut_off_leaves_nobody_waiting() {
    let (Ground { store, .. }, (running, _folder)) = lab::fresh().await;
    enrol(&store, "web-1", "eu").await;
    drop(running);
    let answer = tokio::time::timeout(Duration::from_secs(10), store.flush()).await.expect("answered");
    assert!(matches!(&answer, Err(StoreError::Unavailable(_))), "{answer:?}");
}

#[tokio::test]
async fn chunks_of_no_attempt_are_counted() {
    let (Ground { store, .. }, _keep) = lab::fresh().await;
    let web = enrol(&store, "web-1", "eu").await;
    store.append(chunk(command(&[&web]).command.id, web.id, 0, "lost"));
    store.flush().await.expect("flushed");
    assert_eq!(store.counters().chunks_dropped, 1);
}
