//! The audit log by days: partitions that are dropped whole, under checkpoints that hold.

use std::ops::Range;

use domain::audit::Entry;
use domain::audit::chain::{Chain, Link};
use domain::time::Timestamp;
use ports::error::StoreError;
use ports::journal::{Cut, Journal as _, Trail as _};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use storage::postgres::PostgresStore;

use crate::behaviours::Ground;
use crate::behaviours::audit::check;
use crate::behaviours::fixtures::*;
use crate::behaviours::place::{self, Place as _};
use crate::lab::Database;

const DAY: i64 = 86_400_000_000;

/// A moment of the day that many days after that of the fixtures.
fn on(day: i64) -> Timestamp {
    Timestamp((first() + day) * DAY + 3_600_000_000)
}

/// The fixtures' day.
fn first() -> i64 {
    NOON.0 / DAY
}

async fn write(store: &PostgresStore, days: &[i64]) {
    for day in days {
        store.audit(Entry { at: on(*day), ..entry("users.create") }).await.expect("stored");
    }
}

/// Drops what is older than that day; how much went with each step.
async fn prune(store: &PostgresStore, day: i64) -> Result<Vec<u64>, StoreError> {
    let mut steps = Vec::new();
    let mut audit = Some(Entry { at: on(9), ..entry("system.audit_prune") });
    loop {
        let before = Timestamp((first() + day) * DAY);
        match store.prune(Cut { before, most: 2, at: on(9), audit: audit.take() }).await? {
            0 => return Ok(steps),
            gone => steps.push(gone),
        }
        assert_eq!(check(store, &[]).await.faults, [], "whole after each step");
    }
}

/// The log's partitions of the days that the test has made some for, and how many entries are in each.
async fn parts(connection: &mut PgConnection) -> Vec<(i64, i64)> {
    let mut found = Vec::new();
    for day in 0..5 {
        let name = format!("audit_logs_{}_{}", first() + day, first() + day + 1);
        let there = sqlx::query_scalar("select to_regclass($1) is not null").bind(&name);
        if there.fetch_one(&mut *connection).await.expect("an answer") {
            let count = AssertSqlSafe(format!("select count(*) from {name}"));
            found.push((day, sqlx::query_scalar(count).fetch_one(&mut *connection).await.expect("a count")));
        }
    }
    found
}

/// Makes a partition for each of these days, as a host does ahead of time.
async fn make_parts(connection: &mut PgConnection, days: Range<i64>) {
    for day in days.map(|day| first() + day) {
        let next = day + 1;
        let text =
            format!("create table audit_logs_{day}_{next} partition of audit_logs for values from ({day}) to ({next})");
        sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut *connection).await.expect("made");
    }
}

async fn ends(store: &PostgresStore) -> Vec<Link> {
    store.chains().await.expect("read").iter().map(Chain::end).collect()
}

#[tokio::test]
async fn days_of_the_audit_log_are_dropped_as_a_whole_and_the_rest_verifies() {
    let Some(database) = Database::fresh() else { return };
    let mut connection = PgConnection::connect(&database.url).await.expect("connects");
    let (Ground { store, .. }, running) = place::open(&database).await;
    make_parts(&mut connection, 0..5).await;
    // A clock that goes back: the entry is filed behind those before it on its chain.
    write(&store, &[0, 0, 1, 0, 2]).await;
    running.finish().await;
    let (Ground { store, .. }, running) = place::open(&database).await;
    write(&store, &[1, 2, 2, 3]).await;
    let exported = ends(&store).await;
    assert_eq!(parts(&mut connection).await, [(0, 2), (1, 3), (2, 3), (3, 1), (4, 0)]);

    // Of two chains each; more than is asked for at a time where the log has no partitions.
    assert_eq!(prune(&store, 2).await.expect("dropped"), [2, 3]);
    assert_eq!(parts(&mut connection).await, [(2, 3), (3, 1), (4, 0)]);
    let report = check(&store, &exported).await;
    assert_eq!((report.faults.as_slice(), report.entries, report.pruned), (&[][..], 5, 5));
    assert_eq!(prune(&store, 2).await.expect("nothing more"), [0_u64; 0]);
    let actions: Vec<&str> = store.audits(None, 9).await.expect("read").iter().map(|(_, entry)| entry.action).collect();
    assert_eq!(actions.iter().filter(|action| **action == "system.audit_prune").count(), 1, "{actions:?}");

    // Days without entries go, and are nothing to tell.
    assert_eq!(prune(&store, 5).await.expect("dropped"), [3, 1]);
    assert_eq!(parts(&mut connection).await, []);
    let report = check(&store, &exported).await;
    assert_eq!((report.faults.as_slice(), report.entries, report.pruned), (&[][..], 2, 9));
    running.finish().await;

    let (Ground { store, .. }, _running) = place::open(&database).await;
    write(&store, &[9]).await;
    assert_eq!(check(&store, &exported).await.faults, [], "a chain begins after those that were cut");
}

#[tokio::test]
async fn entries_without_a_day_of_their_own_go_first_and_leave_no_gap() {
    let Some(database) = Database::fresh() else { return };
    let mut connection = PgConnection::connect(&database.url).await.expect("connects");
    let (Ground { store, .. }, _running) = place::open(&database).await;
    write(&store, &[0, 0, 0]).await;
    make_parts(&mut connection, 1..2).await;
    write(&store, &[1, 1, 2]).await;
    assert_eq!(prune(&store, 3).await.expect("dropped"), [2, 1, 2, 1]);
    let report = check(&store, &[]).await;
    assert_eq!((report.faults.as_slice(), report.entries, report.pruned), (&[][..], 1, 6));
}

#[tokio::test]
async fn a_day_that_somebody_reads_or_has_meddled_with_is_not_dropped() {
    let Some(database) = Database::fresh() else { return };
    let mut connection = PgConnection::connect(&database.url).await.expect("connects");
    let (Ground { store, .. }, _running) = place::open(&database).await;
    make_parts(&mut connection, 0..5).await;
    write(&store, &[0, 0, 1, 4]).await;

    // A reader that takes its time keeps the log from being dropped, and nobody from writing.
    sqlx::raw_sql("begin; select count(*) from audit_logs").execute(&mut connection).await.expect("read");
    let refused = prune(&store, 1).await;
    assert!(matches!(&refused, Err(StoreError::Unavailable(why)) if why.contains("in use")), "{refused:?}");
    write(&store, &[4]).await;
    let report = check(&store, &[]).await;
    assert_eq!((report.faults.as_slice(), report.entries, report.pruned), (&[][..], 5, 0), "nothing of it was done");
    sqlx::raw_sql("commit").execute(&mut connection).await.expect("done");
    assert_eq!(prune(&store, 1).await.expect("dropped"), [2]);

    // Filed under another day by somebody who wants a late entry forgotten with the early ones.
    database.many(Database::UNGUARD).await;
    let refile = format!("update audit_logs set day = {} where position = 5", first() + 1);
    database.many(&refile).await;
    let refused = prune(&store, 2).await;
    assert!(matches!(&refused, Err(StoreError::Corrupt { table: "audit_logs", .. })), "{refused:?}");
    assert_eq!(check(&store, &[]).await.pruned, 2, "no checkpoint beyond what was dropped");

    // One that is early enough, moved past others that are not.
    database.many(&format!("update audit_logs set day = {} where position = 5", first() + 4)).await;
    let backdate = "update audit_logs set timestamp = to_timestamp(0), day";
    database.many(&format!("{backdate} = {} where position = 6", first() + 1)).await;
    let refused = prune(&store, 2).await;
    assert!(matches!(&refused, Err(StoreError::Corrupt { table: "audit_logs", .. })), "{refused:?}");
    assert_eq!(check(&store, &[]).await.pruned, 2);
}

#[tokio::test]
async fn no_day_is_dropped_whose_last_entry_was_put_there() {
    let Some(database) = Database::fresh() else { return };
    let mut connection = PgConnection::connect(&database.url).await.expect("connects");
    let (Ground { store, .. }, _running) = place::open(&database).await;
    make_parts(&mut connection, 0..5).await;
    write(&store, &[0, 1, 4, 4, 4]).await;
    assert_eq!(prune(&store, 1).await.expect("dropped"), [1]);
    database.many(Database::UNGUARD).await;
    database.many("delete from audit_logs where position in (4, 5)").await;
    let refile =
        format!("set timestamp = (select timestamp from audit_logs where position = 2), day = {}", first() + 1);
    database.many(&format!("update audit_logs {refile} where position = 6")).await;
    let cut = Cut { before: Timestamp((first() + 2) * DAY), most: 2, at: on(9), audit: None };
    let refused = store.prune(cut).await;
    assert!(matches!(&refused, Err(StoreError::Corrupt { table: "audit_logs", .. })), "{refused:?}");
    let report = check(&store, &[]).await;
    assert!(report.faults_in_all > 0 && report.pruned == 1, "{report:?}");
}

#[tokio::test]
async fn what_is_written_while_its_day_is_looked_at_keeps_it() {
    let Some(database) = Database::fresh() else { return };
    let (Ground { store, .. }, _running) = place::open(&database).await;
    let mut connection = PgConnection::connect(&database.url).await.expect("connects");
    make_parts(&mut connection, 0..5).await;
    write(&store, &[0, 0]).await;
    let name = format!("audit_logs_{}_{}", first(), first() + 1);
    let detach =
        |last: Option<i64>| sqlx::query_scalar("select audit_logs_detach($1, $2, '50ms')").bind(&name).bind(last);
    for last in [None, Some(1)] {
        let detached: bool = detach(last).fetch_one(&mut connection).await.expect("an answer");
        assert!(!detached, "{last:?} is not its last entry");
    }
    let wait: String = sqlx::query_scalar("show lock_timeout").fetch_one(&mut connection).await.expect("a setting");
    assert_eq!((wait.as_str(), check(&store, &[]).await.entries), ("0", 2), "all is as it was");
    assert!(detach(Some(2)).fetch_one(&mut connection).await.expect("an answer"));
    // As a host leaves it that ends between the two; the next look cleans up.
    assert_eq!(parts(&mut connection).await[0], (0, 2), "detached, and there");
    assert_eq!(prune(&store, 0).await, Ok(Vec::new()));
    assert_eq!(parts(&mut connection).await[0], (1, 0));
}
