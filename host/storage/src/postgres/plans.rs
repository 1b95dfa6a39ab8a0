//! How PostgreSQL goes about what it is asked all the time, in a session like those of the store.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;

use domain::attempt::Reason;
use plan::id::AttemptKey;
use plan::outcome::Stream;
use ports::agents::Agents as _;
use ports::commands::Commands as _;
use ports::delivery::Delivery as _;
use ports::hosts::Hosts as _;
use ports::journal::Journal as _;
use ports::plugin_life::PluginBook as _;
use servers::shared;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use tokio_util::sync::CancellationToken;

use super::{Options, PostgresStore, advance, audit, commands, history, journal, list, open, output};
use crate::plans::{self, Deaf, GROWING, HISTORY, Plan};

/// The writer's statements. Its session plans as those of the readers do.
const WRITTEN: [(&str, &str); 14] = [
    ("commands", commands::COMMANDS),
    ("sites", commands::SITES),
    ("invocations", commands::INVOCATIONS),
    ("standing", advance::STANDING),
    ("sessions", advance::FENCE),
    ("move", advance::MOVE),
    ("roll up", advance::ROLL_UP),
    ("archive", history::ARCHIVE),
    ("again", history::AGAIN),
    ("stored output", output::STORED),
    ("add output", output::INSERT),
    ("number", journal::MARK),
    ("events", journal::EVENTS),
    ("audit", audit::AUDITS),
];

/// How every statement is gone about, and by which server.
pub(crate) struct Answer {
    /// As PostgreSQL counts its versions.
    pub version: i32,
    /// Over a database without history, then over one with it.
    pub plans: [Vec<Plan>; 2],
    /// Indexes of what is not over, which are small whatever the history.
    pub partial: HashSet<String>,
}

/// A session and what it has been asked.
struct Session<'a> {
    store: &'a PostgresStore,
    /// What each statement is called here and in the session, its text, how many parameters it takes.
    asked: Vec<(&'static str, String, String, usize)>,
}

impl Session<'_> {
    /// Keeps the statement that was just prepared.
    async fn keep(&mut self, name: &'static str) {
        let latest = "select name, statement, cardinality(parameter_types)::text from pg_prepared_statements \
             order by prepare_time desc limit 1";
        let rows = self.rows(latest.to_owned()).await;
        let [prepared, text, parameters]: [String; 3] = rows[0].clone().try_into().expect("three columns");
        assert!(self.asked.iter().all(|(_, known, ..)| *known != prepared), "`{name}` asks what was asked before");
        self.asked.push((name, prepared, text, parameters.parse().expect("a number")));
    }

    /// Asks the store and keeps the statement by which it asked.
    async fn ask<T, E: std::fmt::Debug>(&mut self, name: &'static str, question: impl Future<Output = Result<T, E>>) {
        question.await.expect("answered");
        self.keep(name).await;
    }

    async fn plans(&self) -> Vec<Plan> {
        let mut plans = Vec::new();
        for (name, prepared, text, parameters) in &self.asked {
            let nulls = match parameters {
                0 => String::new(),
                n => format!(" ({})", vec!["null"; *n].join(", ")),
            };
            let explained = self.rows(format!("explain (costs off) execute \"{prepared}\"{nulls}")).await;
            let text = text.strip_prefix(&format!("prepare \"{name}\" as ")).unwrap_or(text);
            plans.push(Plan { name, text: text.to_owned(), steps: explained.concat() });
        }
        plans
    }

    /// What a statement that is not prepared answers, as text.
    async fn rows(&self, text: String) -> Vec<Vec<String>> {
        let found = self.store.readers.unprepared(text).await.expect("answers");
        found.iter().map(|row| (0..row.len()).map(|column| row.get(column)).collect()).collect()
    }
}

/// `None`, said aloud, when this machine has no PostgreSQL.
pub(crate) async fn ask() -> Option<Answer> {
    let url = shared::database()?;
    // Two connections: the writer's and one that reads.
    let options = Options { connections: 2, ..Options::new(&url) };
    let (store, writer) = open(options, Arc::new(Deaf)).await.expect("opens");
    let stop = CancellationToken::new();
    let (answer, ()) = tokio::join!(
        async {
            let answer = answer(&store, &url).await;
            stop.cancel();
            answer
        },
        writer.run(stop.clone())
    );
    Some(answer)
}

/// The days that have a partition are other ones each day; the one for all others is like them.
const NO_DAYS: &str = "do $$ declare name text; begin \
     for name in select relname from pg_class where relname ~ '^(outputs|audit_logs_[0-9]+)_[0-9]+$' loop \
         execute format('drop table %I', name); \
     end loop; end $$";

/// Statistics are taken when this test says so, and not in between by the server.
const BY_HAND: &str = "do $$ declare name text; begin \
     for name in select relname from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace loop \
         execute format('alter table %I set (autovacuum_enabled = off)', name); \
     end loop; end $$";

async fn answer(store: &PostgresStore, url: &str) -> Answer {
    let mut connection = PgConnection::connect(url).await.expect("connects");
    sqlx::raw_sql(NO_DAYS).execute(&mut connection).await.expect("dropped");
    sqlx::raw_sql(BY_HAND).execute(&mut connection).await.expect("set");
    let (machines, command) = plans::past(store).await;
    let (agent, key) = (machines[0].id, AttemptKey { command, number: 1 });
    let mut session = Session { store, asked: Vec::new() };
    for (name, text) in WRITTEN {
        session.rows(format!("prepare \"{name}\" as {text}")).await;
        session.keep(name).await;
    }
    // Asked already, to learn of the past.
    session.rows(format!("prepare \"by ids\" as {}", list::by_ids())).await;
    session.keep("by ids").await;
    let now = plans::now();
    session.ask("due", store.due(agent, 10)).await;
    session.ask("open", store.open(agent)).await;
    session.ask("overdue", store.overdue(now, None, 10)).await;
    session.ask("abandoned", store.abandoned(now, 10)).await;
    session.ask("sessions here", store.sessions_here()).await;
    session.ask("retries", store.retries(now, 10)).await;
    session.ask("rolling", store.rolling(None, 10)).await;
    session.ask("held", store.held(command, Reason::Rollout, None, 10)).await;
    session.ask("wished", store.wished(None, 10)).await;
    session.ask("first waiting", store.waiting()).await;
    session.ask("agents that changed", store.agents_since(u64::MAX >> 1, 10)).await;
    session.ask("silent hosts", store.bury(std::time::Duration::from_secs(6), now)).await;
    session.ask("backlog", store.backlog()).await;
    session.ask("open shares", store.open_shares()).await;
    session.ask("open commands", store.open_commands(None)).await;
    session.ask("plugin waits", store.plugin_waiting("docker", None, 10)).await;
    session.ask("plugins in use", store.plugin_digests_in_use()).await;
    session.ask("output", store.output(key, agent, Stream::Stdout, 3, 10)).await;
    session.ask("stored ranges", store.stored(key, agent, Stream::Stdout)).await;
    session.ask("events of all", store.events(None, 0, 10)).await;
    session.ask("events of one command", store.events(Some(command), 0, 10)).await;
    for (name, filter, page) in plans::lists(&machines[0], command) {
        session.ask(name, store.commands(&filter, &page)).await;
    }

    for (name, filter) in plans::audits() {
        session.ask(name, store.audits_where(&filter, Some(7), 50)).await;
    }

    let young = session.plans().await;
    multiply(&mut connection).await;
    plans::present(store, &machines).await;
    // Of every row, not of a sample: the page would be another each time.
    sqlx::raw_sql("set default_statistics_target = 1000").execute(&mut connection).await.expect("set");
    sqlx::raw_sql("vacuum (analyze)").execute(&mut connection).await.expect("analysed");
    let version = session.rows("show server_version_num".to_owned()).await.concat().concat();
    let partial = "select c.relname::text from pg_index i join pg_class c on c.oid = i.indexrelid \
         where i.indpred is not null";
    Answer {
        version: version.parse().expect("a number"),
        plans: [young, session.plans().await],
        partial: session.rows(partial.to_owned()).await.concat().into_iter().collect(),
    }
}

/// Copies the one command there is, with all that belongs to it.
async fn multiply(connection: &mut PgConnection) {
    for table in GROWING {
        let columns: Vec<String> = sqlx::query_scalar(
            "select column_name::text from information_schema.columns where table_schema = current_schema() \
             and table_name = $1 and is_generated = 'NEVER' and is_identity = 'NO' order by ordinal_position",
        )
        .bind(table)
        .fetch_all(&mut *connection)
        .await
        .expect("the columns");
        let copied = columns.iter().map(|column| {
            plans::replaced(table, column, "lpad(to_hex(n.n), 32, '0')::uuid").unwrap_or_else(|| format!("t.{column}"))
        });
        let copy = format!(
            "insert into {table} ({}) select {} from {table} t cross join generate_series(1, {HISTORY}) as n (n)",
            columns.join(", "),
            copied.collect::<Vec<_>>().join(", ")
        );
        sqlx::raw_sql(AssertSqlSafe(copy)).execute(&mut *connection).await.expect("copied");
    }
}

/// Steps that cost more the longer the history: a table read as a whole, or an index without a place to begin at.
fn walks(plan: &Plan, partial: &HashSet<String>) -> Vec<String> {
    let mut walks = Vec::new();
    for (n, step) in plan.steps.iter().enumerate() {
        let Some((how, table)) = step.split_once(" on ") else { continue };
        let table = table.split(' ').next().unwrap_or_default().trim_end_matches("_default");
        if !GROWING.contains(&table) || !how.contains("Scan") {
            continue;
        }
        let sought = plan.steps.get(n + 1).is_some_and(|next| next.trim_start().starts_with("Index Cond:"));
        let small = how.rsplit(' ').next().is_some_and(|index| partial.contains(index));
        if !(sought || small) {
            walks.push(step.clone());
        }
    }
    walks
}

#[tokio::test]
async fn no_statement_walks_a_table_that_grows_with_history() {
    let Some(answer) = ask().await else { return };
    for plan in answer.plans.iter().flatten() {
        let walks = walks(plan, &answer.partial);
        assert!(walks.is_empty(), "`{}` walks: {walks:#?}\n{:#?}\n{}", plan.name, plan.steps, plan.text);
    }
}
