//! What a long past costs: submitting, dispatching, ending and listing over a store without history and over one with
//! many finished invocations, in turn. The past is copied by SQL from commands that have ended in the product's way.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use domain::attempt::Event;
use domain::command::Status;
use plan::id::CommandId;
use ports::agents::Agents;
use ports::commands::{CommandFilter, Commands, Page};
use ports::delivery::Delivery;
use ports::journal::Installation;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use storage::{postgres, sqlite};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::args::Past;
use crate::conditions::Conditions;
use crate::latency::Recorder;
use crate::report::{Measured, round};
use crate::schedule::now_ns;
use crate::store::Store;
use crate::suite::keep;
use crate::usage::Meter;

#[expect(dead_code, reason = "the store's own tests store more")]
#[path = "../../../host/storage/tests/behaviours/fixtures.rs"]
pub mod fixtures;

use fixtures::{Machine, advance, command, enrol, finish};

/// At most so many times what it takes over an empty store.
const GOAL: f64 = 1.5;
/// What is timed.
const STEPS: [&str; 6] = ["submit", "dispatch", "roll_up", "list", "list_by_agent", "list_by_status"];
/// Agents enrolled at once.
const AT_ONCE: usize = 64;
/// Commands that each agent has behind it in either store: a page of them, so that both list as much.
pub const EACH: u64 = 50;
/// Between numbers of a copy and those of the next; more than the original has.
const APART: u64 = 10_000_000;

trait Rows: Commands + Delivery + Agents + Installation + Clone + Send + Sync + 'static {}

impl<S: Commands + Delivery + Agents + Installation + Clone + Send + Sync + 'static> Rows for S {}

/// A store at work, and who its commands are for.
struct Ground<S> {
    store: S,
    machines: Vec<Machine>,
    _writer: JoinSet<()>,
    times: [Recorder; STEPS.len()],
}

/// Fills one of two stores and times both in turn.
///
/// # Errors
/// When a store cannot be made or does not answer.
pub async fn run(asked: &Past, json: Option<&Path>) -> Result<bool> {
    let store = Store::start(asked.store, &asked.work)?;
    let mut conditions = Conditions::look(&asked.work, &store.durability()?).await;
    let (empty, full) = (store.fresh()?, store.fresh()?);
    let live = || Arc::new(bus::local::Local::default());
    let meter = Meter::start(None);
    let mut found = if empty.starts_with("sqlite:") {
        let mut grounds = Vec::new();
        for url in [&empty, &full] {
            let (opened, writer) =
                sqlite::open(sqlite::Options::new(url.trim_start_matches("sqlite:")), live()).await?;
            let mut running = JoinSet::new();
            running.spawn(writer.run(CancellationToken::new()));
            grounds.push(Ground::new(opened, running, asked).await?);
        }
        fill_sqlite(asked, full.trim_start_matches("sqlite:")).await?;
        compare(asked, &grounds).await?
    } else {
        let mut grounds = Vec::new();
        for url in [&empty, &full] {
            let (opened, writer) = postgres::open(postgres::Options::new(url), live()).await?;
            let mut running = JoinSet::new();
            running.spawn(writer.run(CancellationToken::new()));
            grounds.push(Ground::new(opened, running, asked).await?);
        }
        fill_postgres(asked, &full).await?;
        for url in [&empty, &full] {
            settle(url).await?;
        }
        compare(asked, &grounds).await?
    };
    found.cost = meter.stop();
    found.note("stored_bytes", store.bytes(&full)?);
    conditions.look_again().await;
    println!("\n{conditions}\n");
    keep(found, &conditions, json)
}

impl<S: Rows> Ground<S> {
    /// Enrols the agents and has commands end on each.
    async fn new(store: S, writer: JoinSet<()>, asked: &Past) -> Result<Ground<S>> {
        let mut machines = Vec::new();
        let numbers: Vec<u64> = (0..asked.agents).collect();
        for some in numbers.chunks(AT_ONCE) {
            let mut joining = JoinSet::new();
            for number in some {
                let (store, name) = (store.clone(), format!("web-{number}"));
                joining.spawn(async move {
                    let machine = enrol(&store, &name, "eu").await;
                    for _ in 0..EACH {
                        let new = command(&[&machine]);
                        let id = new.command.id;
                        store.accept(new).await?;
                        store.append(fixtures::chunk(
                            id,
                            machine.id,
                            0,
                            "some output of a usual length, in one piece\n",
                        ));
                        let all = [Event::Send, Event::Acknowledge, Event::Start];
                        store.advance(advance(id, machine.id, 5, &all)).await?;
                        store.advance(finish(id, machine.id, 9, true)).await?;
                    }
                    Ok::<_, ports::error::StoreError>(machine)
                });
            }
            for machine in joining.join_all().await {
                machines.push(machine?);
            }
        }
        store.flush().await?;
        Ok(Ground { store, machines, _writer: writer, times: std::array::from_fn(|_| Recorder::default()) })
    }

    /// One command's life and three looks at the list, each timed.
    async fn round(&self, number: u64) -> Result<()> {
        // Far apart, so that neighbours are not in memory because of each other.
        let machine = &self.machines[(number as usize * 7_919) % self.machines.len()];
        let new = command(&[machine]);
        let id: CommandId = new.command.id;
        let mut step = 0;
        let mut begun = now_ns();
        let mut lap = |begun: &mut u64| {
            let now = now_ns();
            self.times[step].record(0, now - *begun);
            (step, *begun) = (step + 1, now);
        };
        self.store.accept(new).await?;
        lap(&mut begun);
        let due = self.store.due(machine.id, 10).await?;
        ensure!(!due.is_empty(), "what was accepted is not due");
        self.store.advance(advance(id, machine.id, 5, &[Event::Send])).await?;
        lap(&mut begun);
        self.store.advance(finish(id, machine.id, 9, true)).await?;
        lap(&mut begun);
        let page = Page { before: None, limit: EACH as u32 };
        let any = CommandFilter::default;
        for filter in [
            any(),
            CommandFilter { agent: Some(machine.id), ..any() },
            CommandFilter { statuses: vec![Status::Failed, Status::Succeeded], ..any() },
        ] {
            ensure!(!self.store.commands(&filter, &page).await?.is_empty(), "nothing is listed");
            lap(&mut begun);
        }
        Ok(())
    }
}

async fn compare<S: Rows>(asked: &Past, grounds: &[Ground<S>]) -> Result<Measured> {
    let [empty, full] = grounds else { unreachable!("two are made") };
    for number in 0..asked.rounds {
        let (first, then) = if number.is_multiple_of(2) { (empty, full) } else { (full, empty) };
        first.round(number).await?;
        then.round(number).await?;
    }
    let mut found = Measured::new(
        "past",
        json!({
            "invocations": asked.invocations, "agents": asked.agents,
            "store": format!("{:?}", asked.store).to_lowercase(),
        }),
    );
    found.operations = 2 * asked.rounds;
    for (n, name) in STEPS.iter().enumerate() {
        let [before, after] = [empty, full].map(|ground| ground.times[n].quantiles());
        let ratio = after.p50_us / before.p50_us.max(1.0);
        found.note(&format!("{name}_p50_us"), json!([round(before.p50_us), round(after.p50_us)]));
        found.note(&format!("{name}_ratio"), round(ratio));
        found.note(&format!("{name}_p99_us"), json!([round(before.p99_us), round(after.p99_us)]));
        found.note(&format!("{name}_p99_ratio"), round(after.p99_us / before.p99_us.max(1.0)));
        if ratio > GOAL {
            found.faults.push(format!("{name} takes {ratio:.2} times as long as over an empty store"));
        }
    }
    Ok(found)
}

/// Copies of what each agent has behind it.
fn copies(asked: &Past) -> u64 {
    (asked.invocations / (asked.agents.max(1) * EACH)).max(1)
}

/// Tables with rows of all that ever happened, parents first.
const GROWING: [&str; 6] = ["commands", "command_sites", "invocations", "outputs", "events", "audit_logs"];

/// What a column of copy `n.n` is made of: ids that sort before all others, numbers below all others.
fn copied(table: &str, column: &str, id: impl Fn(&str) -> String) -> String {
    match (table, column) {
        ("commands", "id") => id("id"),
        (_, "command_id") => id("command_id"),
        ("audit_logs", "chain") => "null".to_owned(),
        ("audit_logs", "id") => format!("t.id - n.n * {APART}"),
        ("outputs" | "events", "seq") => format!("t.seq - n.n * {APART}"),
        _ => format!("t.{column}"),
    }
}

/// A statement that copies `original`, the table as it was.
fn copy(table: &str, columns: &[String], id: impl Fn(&str) -> String, numbers: &str) -> String {
    let made: Vec<String> = columns.iter().map(|column| copied(table, column, &id)).collect();
    // Of events, those of commands: each of them has one.
    let only = if table == "events" { "where t.command_id is not null" } else { "" };
    format!(
        "insert into {table} ({}) select {} from {numbers} cross join original t {only}",
        columns.join(", "),
        made.join(", ")
    )
}

/// Copies made by one statement.
const PIECE: u64 = 20;

/// From and to, one after the other.
fn pieces(copies: u64) -> impl Iterator<Item = (u64, u64)> {
    (1..=copies).step_by(PIECE as usize).map(move |from| (from, (from + PIECE - 1).min(copies)))
}

async fn fill_sqlite(asked: &Past, path: &str) -> Result<()> {
    let mut store = SqliteConnection::connect(&format!("sqlite:{path}")).await.context("SQLite")?;
    sqlx::raw_sql("pragma busy_timeout = 60000").execute(&mut store).await?;
    for table in GROWING {
        // Rows of the original: what is copied is not copied again.
        let original = format!("create temp table original as select * from {table}");
        sqlx::raw_sql(AssertSqlSafe(original)).execute(&mut store).await?;
        let columns = format!("select name from pragma_table_info('{table}')");
        let columns: Vec<String> = sqlx::query_scalar(AssertSqlSafe(columns)).fetch_all(&mut store).await?;
        let columns: Vec<String> =
            columns.into_iter().filter(|column| (table, column.as_str()) != ("invocations", "id")).collect();
        let id = |column: &str| format!("unhex(printf('%08x', n.n) || substr(hex(t.{column}), 9))");
        for (from, to) in pieces(copies(asked)) {
            let text = format!(
                "with recursive n (n) as (select {from} union all select n + 1 from n where n < {to}) {}",
                copy(table, &columns, id, "n")
            );
            sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut store).await.with_context(|| table.to_owned())?;
        }
        sqlx::raw_sql("drop table original").execute(&mut store).await?;
    }
    Ok(store.close().await?)
}

async fn fill_postgres(asked: &Past, url: &str) -> Result<()> {
    let mut store = PgConnection::connect(url).await.context("PostgreSQL")?;
    sqlx::raw_sql("set synchronous_commit = off").execute(&mut store).await?;
    for table in GROWING {
        let original = format!("create temp table original as select * from {table}");
        sqlx::raw_sql(AssertSqlSafe(original)).execute(&mut store).await?;
        let columns: Vec<String> = sqlx::query_scalar(
            "select column_name::text from information_schema.columns where table_schema = 'public' and table_name = $1 \
             and is_generated = 'NEVER' and is_identity = 'NO' order by ordinal_position",
        )
        .bind(table)
        .fetch_all(&mut store)
        .await?;
        let id = |column: &str| {
            format!("(lpad(to_hex(n.n), 8, '0') || substr(replace(t.{column}::text, '-', ''), 9))::uuid")
        };
        for (from, to) in pieces(copies(asked)) {
            let numbers = format!("generate_series({from}, {to}) as n (n)");
            let text = copy(table, &columns, id, &numbers);
            sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut store).await.with_context(|| table.to_owned())?;
        }
        sqlx::raw_sql("drop table original").execute(&mut store).await?;
    }
    Ok(store.close().await?)
}

/// The statistics are those of what is there, and what was written is on disk before anything is timed.
async fn settle(url: &str) -> Result<()> {
    let mut store = PgConnection::connect(url).await.context("PostgreSQL")?;
    sqlx::raw_sql("vacuum (analyze)").execute(&mut store).await?;
    sqlx::raw_sql("checkpoint").execute(&mut store).await?;
    Ok(store.close().await?)
}
