//! How SQLite goes about what it is asked all the time.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::connection::Sqlite;
use super::{
    Options, SqliteStore, advance, agents, audit, commands, delivery, held, history, invocations, journal, list,
};
use super::{open, output, plugins};
use crate::plans::{self, Deaf, GROWING, HISTORY, Plan};

/// Statements over many rows are asked for 2^2 of them.
const SIZE: usize = 2;

/// How every statement is gone about: over a database without history, over one with it, and over that
/// one when statistics were taken of it.
pub(crate) struct Answer {
    pub plans: [Vec<Plan>; 3],
    /// Every table there is.
    pub tables: Vec<String>,
    /// Indexes of what is not over, which are small whatever the history.
    pub partial: Vec<String>,
}

/// Every statement and its text.
fn statements(lists: Vec<(&'static str, String)>) -> Vec<(&'static str, String)> {
    let bulks = [
        ("commands", &commands::COMMANDS),
        ("sites", &commands::SITES),
        ("invocations", &commands::INVOCATIONS),
        ("standing", &advance::STANDING),
        ("move", &advance::MOVE),
        ("roll up", &advance::ROLL_UP),
        ("archive", &history::ARCHIVE),
        ("again", &history::AGAIN),
        ("stored output", &output::STORED),
        ("add output", &output::INSERT),
        ("events", &journal::STATES),
        ("audit", &audit::AUDITS),
    ];
    let texts = [
        ("sessions", advance::FENCE.to_owned()),
        ("sessions here", agents::HERE.to_owned()),
        ("due", invocations::due()),
        ("open", invocations::open()),
        ("overdue", invocations::overdue()),
        ("abandoned", invocations::ABANDONED.to_owned()),
        ("retries", delivery::due_again()),
        ("rolling", delivery::ROLLING.to_owned()),
        ("held", held::held()),
        ("wished", delivery::WISHED.to_owned()),
        ("backlog", delivery::BACKLOG.to_owned()),
        ("open shares", delivery::OPEN_SHARES.to_owned()),
        ("open commands", delivery::OPEN_COMMANDS.to_owned()),
        ("plugin waits", plugins::WAITING.to_owned()),
        ("plugins in use", plugins::IN_USE.to_owned()),
        ("output", output::FROM.to_owned()),
        ("stored ranges", output::LENGTHS.to_owned()),
        ("events of all", journal::EVENTS_OF_ALL.to_owned()),
        ("events of one command", journal::EVENTS_OF_ONE.to_owned()),
    ];
    let bulks = bulks.map(|(name, bulk)| (name, bulk.text(SIZE).to_string()));
    bulks.into_iter().chain(texts).chain(lists).collect()
}

pub(crate) async fn ask() -> Answer {
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options::new(folder.path().join("viworks.db"));
    let (store, writer) = open(options.clone(), Arc::new(Deaf)).await.expect("opens");
    let stop = CancellationToken::new();
    let (answer, ()) = tokio::join!(
        async {
            let answer = answer(&store, &options).await;
            stop.cancel();
            answer
        },
        writer.run(stop.clone())
    );
    answer
}

async fn answer(store: &SqliteStore, options: &Options) -> Answer {
    let (machines, command) = plans::past(store).await;
    let lists = plans::lists(&machines[0], command);
    let lists = lists.iter().map(|(name, filter, page)| (*name, list::statement(filter, page).text)).collect();
    let audits = plans::audits().map(|(name, filter)| (name, audit::page(&filter, Some(7), 50).text));
    let statements = [statements(lists), audits.into()].concat();

    let mut connection = open::writing(options).open().expect("opens");
    let young = explain(&mut connection, &statements);
    multiply(&mut connection);
    plans::present(store, &machines).await;
    let old = explain(&mut connection, &statements);
    connection.batch("analyze").expect("analysed");
    // Statistics are read when a connection is opened.
    let mut connection = open::writing(options).open().expect("opens");
    let analysed = explain(&mut connection, &statements);
    let named = |which| format!("select name from sqlite_schema where {which} and name not like '%sql%' order by name");
    Answer {
        plans: [young, old, analysed],
        tables: texts(&mut connection, named("type = 'table'")),
        partial: texts(&mut connection, named("type = 'index' and sql like '% where %'")),
    }
}

fn texts(connection: &mut Sqlite, text: String) -> Vec<String> {
    let found = connection.ask(&text, &[]).expect("answers");
    found.rows.iter().map(|row| row.try_get(0).expect("text")).collect()
}

fn explain(connection: &mut Sqlite, statements: &[(&'static str, String)]) -> Vec<Plan> {
    let mut plans = Vec::new();
    for (name, text) in statements {
        let steps = connection.explain(text);
        plans.push(Plan { name, text: text.clone(), steps });
    }
    plans
}

/// Copies the one command there is, with all that belongs to it.
fn multiply(connection: &mut Sqlite) {
    for table in GROWING {
        let columns = texts(connection, format!("select name from pragma_table_info('{table}')"));
        let counted = |column: &String| matches!((table, column.as_str()), ("invocations", "id"));
        let columns: Vec<String> = columns.into_iter().filter(|column| !counted(column)).collect();
        let copied = columns.iter().map(|column| {
            plans::replaced(table, column, "unhex(printf('%032x', n.n))").unwrap_or_else(|| format!("t.{column}"))
        });
        let copy = format!(
            "with recursive n (n) as (select 1 union all select n + 1 from n where n < {HISTORY}) \
             insert into {table} ({}) select {} from {table} t cross join n",
            columns.join(", "),
            copied.collect::<Vec<_>>().join(", ")
        );
        connection.batch(&copy).expect("copied");
    }
}

/// Steps that cost more the longer the history: SQLite scans what it has no place in an index for. Tables
/// the statement does not name are left out: those are checks of foreign keys, which SQLite writes down for
/// an insert of many rows and passes over as long as no row lacks its parent.
fn walks(plan: &Plan, partial: &[String]) -> Vec<String> {
    let words: Vec<&str> = plan.text.split([' ', ',', '(', ')']).filter(|word| !word.is_empty()).collect();
    let mut names: Vec<&str> = GROWING.into_iter().filter(|table| words.contains(table)).collect();
    names.extend(words.windows(2).filter(|pair| GROWING.contains(&pair[0])).map(|pair| pair[1]));
    let walked = |step: &&String| {
        let scanned = step.strip_prefix("SCAN ").and_then(|what| what.split(' ').next());
        let small = partial.iter().any(|index| step.ends_with(index.as_str()));
        scanned.is_some_and(|name| names.contains(&name)) && !small
    };
    plan.steps.iter().filter(walked).cloned().collect()
}

#[tokio::test]
async fn no_statement_walks_a_table_that_grows_with_history() {
    let answer = ask().await;
    for plan in answer.plans.iter().flatten() {
        let walks = walks(plan, &answer.partial);
        assert!(walks.is_empty(), "`{}` walks: {walks:#?}\n{:#?}\n{}", plan.name, plan.steps, plan.text);
    }
}
