//! Single rows that many ask for at once, and rows as an earlier version wrote them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use plan::id::CommandId;
use ports::commands::Commands as _;
use ports::error::StoreError;
use sqlx::{Connection as _, PgConnection};
use storage::postgres::PostgresStore;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::behaviours::Ground;
use crate::behaviours::fixtures::*;
use crate::behaviours::place::{self, CEILING, Place as _};
use crate::lab::{Database, breathe};

/// Callers, far more than there are connections.
const CALLERS: usize = 300;

/// Keeps everybody from reading commands until it ends.
async fn bar(database: &Database) -> PgConnection {
    let mut connection = PgConnection::connect(&database.url).await.expect("connects");
    let text = "begin; lock table commands in access exclusive mode";
    sqlx::raw_sql(text).execute(&mut connection).await.expect("locked");
    connection
}

/// Questions of the store that wait behind the bar.
async fn held_up(database: &Database) -> usize {
    let asked = "select count(*)::text from pg_stat_activity where datname = current_database() \
         and application_name = 'viworks reader' and wait_event_type = 'Lock'";
    database.sql(asked).await.expect("answered").and_then(|count| count.parse().ok()).expect("a number")
}

async fn until(what: impl AsyncFn() -> bool) {
    let reached = async {
        while !what().await {
            breathe().await;
        }
    };
    tokio::time::timeout(CEILING, reached).await.expect("it comes to that");
}

async fn accepted(store: &PostgresStore, web: &Machine) -> CommandId {
    let new = command(&[web]);
    let id = new.command.id;
    store.accept(new).await.expect("accepted");
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_ask_at_once_take_few_questions_and_each_gets_its_own() {
    let Some(database) = Database::fresh() else { return };
    let (Ground { store, .. }, _running) = place::open(&database).await;
    let web = enrol(&store, "web-1", "eu").await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(accepted(&store, &web).await);
    }
    let unknown = CommandId(Uuid::from_u128(1));
    ids.push(unknown);

    let mut barrier = bar(&database).await;
    let begun = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for n in 0..CALLERS {
        let (store, id, begun) = (store.clone(), ids[n % ids.len()], Arc::clone(&begun));
        callers.spawn(async move {
            begun.fetch_add(1, Ordering::SeqCst);
            let answer = store.command(id).await.expect("read");
            (id, answer.map(|view| view.command.id))
        });
    }
    until(async || begun.load(Ordering::SeqCst) == CALLERS && held_up(&database).await > 0).await;
    assert!(held_up(&database).await <= 2, "the others wait here");
    // Some leave, whatever they wait for.
    let mut leavers = JoinSet::new();
    for _ in 0..CALLERS {
        let (store, id) = (store.clone(), ids[0]);
        leavers.spawn(async move { store.command(id).await.is_ok() });
    }
    leavers.shutdown().await;
    sqlx::raw_sql("rollback").execute(&mut barrier).await.expect("rolled back");
    while let Some(caller) = callers.join_next().await {
        let (asked, found) = caller.expect("no caller panics");
        assert_eq!(found, (asked != unknown).then_some(asked));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_told_that_a_command_is_stored_finds_it_however_many_read_beside() {
    let Some(database) = Database::fresh() else { return };
    let (Ground { store, .. }, _running) = place::open(&database).await;
    let web = enrol(&store, "web-1", "eu").await;
    let mut writers = JoinSet::new();
    for _ in 0..24 {
        let (store, web) = (store.clone(), web.clone());
        writers.spawn(async move {
            for _ in 0..20 {
                let id = accepted(&store, &web).await;
                assert!(store.command(id).await.expect("read").is_some(), "`{id}` was stored before it was asked for");
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.expect("each finds its own");
    }
}

#[tokio::test]
async fn a_failed_question_is_told_to_all_who_waited_and_to_nobody_after() {
    let Some(database) = Database::fresh() else { return };
    let (Ground { store, .. }, _running) = place::open(&database).await;
    let web = enrol(&store, "web-1", "eu").await;
    let id = accepted(&store, &web).await;
    let mut barrier = bar(&database).await;
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let store = store.clone();
        callers.spawn(async move { store.command(id).await });
    }
    until(async || held_up(&database).await > 0).await;
    // Not broken, so that it is not asked again on another connection.
    let cancel = "select count(pg_cancel_backend(pid))::text from pg_stat_activity where datname = current_database() \
         and application_name = 'viworks reader'";
    while !callers.is_empty() {
        database.sql(cancel).await.expect("cancelled");
        while let Some(caller) = callers.try_join_next() {
            let told = caller.expect("no caller panics");
            assert!(matches!(told, Err(StoreError::Unavailable(_))), "{told:?}");
        }
        breathe().await;
    }
    sqlx::raw_sql("rollback").execute(&mut barrier).await.expect("rolled back");
    assert!(store.command(id).await.expect("read").is_some());
}

#[tokio::test]
async fn results_are_kept_without_nul_and_those_of_an_earlier_version_grouped_without() {
    let Some(database) = Database::fresh() else { return };
    let (Ground { store, .. }, _running) = place::open(&database).await;
    let web = enrol(&store, "web-1", "eu").await;
    let id = accepted(&store, &web).await;
    let mut end = finish(id, web.id, 2, true);
    end.end.as_mut().expect("an end").result = Some(r#"["\u0000","\\u0000"]"#.to_owned());
    store.advance(end).await.expect("stored");
    let found = store.invocation(id, web.id).await.expect("read").expect("there");
    assert_eq!(found.result.as_deref(), Some(r#"["\ufffd","\\u0000"]"#));
    let kept = r#"update invocations set result = '{"out":"a\u0000\u0000b\\u0000\\\u0000\"c","path":["C:\\u0000"]}'"#;
    database.many(kept).await;
    for (by, value) in [("out", "\"a\u{fffd}\u{fffd}b\\\\u0000\\\\\u{fffd}\\\"c\""), ("path", r#"["C:\\u0000"]"#)] {
        let found = store.groups(id, &[by.to_owned()], 10).await.expect("read");
        assert_eq!(found.iter().map(|group| group.value.as_deref()).collect::<Vec<_>>(), [Some(value)]);
    }
}
