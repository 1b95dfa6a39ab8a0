//! Output by the day.

use domain::time::Timestamp;
use plan::outcome::Stream;
use ports::commands::{Chunk, Commands as _};
use ports::journal::Installation as _;
use sqlx::{Connection as _, PgConnection};

use crate::behaviours::Ground;
use crate::behaviours::fixtures::*;
use crate::behaviours::place::{self, Place as _};
use crate::lab::Database;

const DAY: i64 = 86_400_000_000;

#[tokio::test]
async fn a_day_of_output_is_dropped_as_a_whole_and_what_comes_late_for_it_has_a_place() {
    let Some(database) = Database::fresh() else { return };
    let (Ground { store, .. }, _running) = place::open(&database).await;
    let mut connection = PgConnection::connect(&database.url).await.expect("connects");
    // The day on which the store was opened, whatever day it is by now.
    let today = "select min(substring(c.relname from '[0-9]+$')::bigint) from pg_inherits i \
         join pg_class c on c.oid = i.inhrelid where i.inhparent = 'outputs'::regclass and c.relname ~ '^outputs_[0-9]+$'";
    let today: i64 = sqlx::query_scalar(today).fetch_one(&mut connection).await.expect("a day");
    let web = enrol(&store, "web-1", "eu").await;
    let new = with(command(&[&web]), |command| command.created_at = Timestamp(today * DAY));
    let id = new.command.id;
    store.accept(new).await.expect("accepted");
    let printed = |offset: u64, day: i64| Chunk { at: Timestamp(day * DAY + 1), ..chunk(id, web.id, offset, "abc") };
    for (offset, day) in [(0, today), (3, today + 1), (6, today + 2)] {
        store.append(printed(offset, day));
    }
    store.flush().await.expect("written");
    let rows = async |connection: &mut PgConnection, table: String| -> Option<i64> {
        let there: bool = sqlx::query_scalar("select to_regclass($1) is not null")
            .bind(&table)
            .fetch_one(&mut *connection)
            .await
            .expect("an answer");
        let count = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select count(*) from {table}")));
        if there { Some(count.fetch_one(connection).await.expect("a count")) } else { None }
    };
    for day in today..=today + 2 {
        assert_eq!(rows(&mut connection, format!("outputs_{day}")).await, Some(1), "it was made ahead");
    }
    // All but the last day.
    while store.forget_output(Timestamp((today + 2) * DAY)).await.expect("a step") {}
    assert_eq!(rows(&mut connection, format!("outputs_{}", today + 1)).await, None);
    let left = store.output(key(id), web.id, Stream::Stdout, 0, 100).await.expect("read");
    assert_eq!(left, [printed(6, today + 2)]);
    // The middle again, late: its day is gone, and it is stored all the same.
    store.append(printed(3, today + 1));
    store.append(printed(6, today + 2));
    store.flush().await.expect("written");
    assert_eq!(rows(&mut connection, "outputs_default".to_owned()).await, Some(1));
    assert_eq!(rows(&mut connection, format!("outputs_{}", today + 2)).await, Some(1), "no byte twice");
}
