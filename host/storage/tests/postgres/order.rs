//! Hosts that write at once: what is numbered comes in the order of commits, and nobody waits in a circle.

use std::future::Future;
use std::pin::pin;

use domain::alert::Severity;
use domain::audit::Entry;
use ports::alerts::Alerts as _;
use ports::channels::Channels as _;
use ports::commands::Commands as _;
use ports::journal::{Cut, Journal as _, Trail as _};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::behaviours::Ground;
use crate::behaviours::alerts::began;
use crate::behaviours::audit::check;
use crate::behaviours::fixtures::*;
use crate::behaviours::place::{self, CEILING, Place as _};
use crate::lab::{Database, breathe};

/// Another host in the middle of a transaction, as far as the database can tell. It notices a circle of waits long before
/// ours does, so that it is the one that is cut off for it.
async fn other(database: &Database, so_far: &str) -> PgConnection {
    let mut connection = PgConnection::connect(&database.url).await.expect("connects");
    let text = format!("begin; set local deadlock_timeout = '10ms'; {so_far}");
    sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut connection).await.expect("begun");
    connection
}

async fn run(connection: &mut PgConnection, statement: &'static str) {
    sqlx::raw_sql(statement).execute(connection).await.expect("not in a circle");
}

/// Goes on with `work` until somebody waits for a lock; what it answered if it was done before.
async fn until_held_up<T>(database: &Database, work: impl Future<Output = T>) -> Option<T> {
    let waits = async {
        let asked = "select (count(*) > 0)::text from pg_stat_activity \
             where datname = current_database() and wait_event_type = 'Lock'";
        while database.sql(asked).await.expect("an answer").as_deref() != Some("true") {
            breathe().await;
        }
    };
    let either = async {
        tokio::select! {
            done = work => Some(done),
            () = waits => None,
        }
    };
    tokio::time::timeout(CEILING, either).await.expect("it waits or is done")
}

#[tokio::test]
async fn news_of_alerts_are_seen_in_the_order_of_their_numbers() {
    let Some(database) = Database::fresh() else { return };
    let (Ground { store, .. }, _running) = place::open(&database).await;
    let theirs = r#"insert into alert_news (at, subject) values (to_timestamp(0), '{"rule":"memory"}')"#;
    let mut other = other(&database, theirs).await;
    let mut ours = pin!(store.keep_alerts(vec![began(1, None, "/srv", Severity::Critical)], Vec::new(), None));
    let done = until_held_up(&database, ours.as_mut()).await;
    let all = async || store.news(0, at(1000), 9).await.expect("read");
    // Whoever read on behind ours by now would never see theirs.
    assert!(all().await.is_empty(), "theirs has a lower number");
    run(&mut other, "commit").await;
    let stale = match done {
        Some(stale) => stale,
        None => ours.await,
    };
    assert!(stale.expect("kept").is_empty());
    let subjects: Vec<String> = all().await.into_iter().map(|(_, subject)| subject).collect();
    assert_eq!(subjects, [r#"{"rule":"memory"}"#, r#"{"rule":"disk"}"#]);
}

#[tokio::test]
async fn old_audit_entries_are_dropped_behind_whoever_adds_some() {
    let Some(database) = Database::fresh() else { return };
    let (Ground { store, .. }, _running) = place::open(&database).await;
    for _ in 0..2 {
        store.audit(entry("users.create")).await.expect("stored");
    }
    // As every batch does, with the numbers first and the ends of chains after them.
    let mut other = other(&database, "update event_counter set last_audit = last_audit where only_row").await;
    let audit = Some(Entry { at: at(2), ..entry("system.audit_prune") });
    let mut pruning = pin!(store.prune(Cut { before: at(1), most: 9, at: at(2), audit }));
    assert_eq!(until_held_up(&database, pruning.as_mut()).await, None, "numbers are handed out elsewhere");
    run(&mut other, "update audit_chains set sealed_at = sealed_at").await;
    run(&mut other, "commit").await;
    assert_eq!(pruning.await, Ok(2));
    let report = check(&store, &[]).await;
    assert_eq!((report.faults.as_slice(), report.entries, report.pruned), (&[][..], 1, 2));
}

#[tokio::test]
async fn room_in_the_audit_log_is_made_beside_whoever_writes() {
    let Some(database) = Database::fresh() else { return };
    let (Ground { store, .. }, _running) = place::open(&database).await;
    let mut connection = PgConnection::connect(&database.url).await.expect("connects");
    let made = "select c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid \
         where i.inhparent = 'audit_logs'::regclass and c.relname <> 'audit_logs_default'";
    let made = async |connection: &mut PgConnection| -> Vec<String> {
        sqlx::query_scalar(made).fetch_all(connection).await.expect("an answer")
    };
    let drop_made = async |connection: &mut PgConnection| {
        let parts = made(connection).await;
        assert_eq!(parts.len(), 1, "of thirty days");
        sqlx::raw_sql(AssertSqlSafe(format!("drop table {}", parts[0]))).execute(connection).await.expect("dropped");
    };
    drop_made(&mut connection).await;
    // Into the log, and in the middle of it, as the batch of another host that has not committed yet.
    let writes = "insert into audit_logs_default (id, timestamp, level, category, action, details) \
         values (1000, now(), 'info', 'test', 'test.done', '{}')";
    let mut beside = other(&database, "lock table only audit_logs in row exclusive mode").await;
    store.forget_output(NOON).await.expect("a step");
    assert_eq!(made(&mut connection).await.len(), 1, "nobody was waited for");
    run(&mut beside, "commit").await;

    // Where the lock on what has no day is not to be had, it is made another time.
    drop_made(&mut connection).await;
    let mut beside = other(&database, writes).await;
    store.forget_output(NOON).await.expect("a step");
    assert_eq!(made(&mut connection).await, [""; 0]);
    run(&mut beside, "commit").await;
    store.forget_output(NOON).await.expect("a step");
    assert_eq!(made(&mut connection).await.len(), 1);
    // What came meanwhile has a place, and keeps it.
    let day = sqlx::query_scalar("select day from audit_logs where id = 1000");
    assert_eq!(day.fetch_one(&mut connection).await.ok(), Some(i64::MAX));
}
