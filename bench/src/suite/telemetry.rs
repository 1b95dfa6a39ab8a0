//! Telemetry: reports a second that are on disk at the end, with the rules of the folder judging them, beside a plain
//! client that inserts rows of the same size in batches into a table of the same shape, and nothing else, and a door
//! that takes the same samples and forgets them; all in the same run.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::json;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, SqliteConnection};
use tokio::time::Instant;
use uuid::Uuid;

use crate::args::{Agent, Telemetry};
use crate::baseline::hub::Hub;
use crate::conditions::Conditions;
use crate::fleet::Fleet;
use crate::http::Origin;
use crate::identity::Identities;
use crate::operator::Operator;
use crate::report::{Measured, round};
use crate::store::Store;
use crate::suite::host::Host;
use crate::suite::keep;
use crate::usage::Meter;

/// Bytes of a sample of the usual size as the product packs it.
const ROW_BYTES: usize = 93;
/// Rows of a batch of the plain client: as many as the product's at most.
const BATCH: usize = 512;
/// Between two looks at what is stored.
const LOOK: Duration = Duration::from_millis(200);

/// What the host says became of telemetry.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Tally {
    taken: u64,
    stored: u64,
    dropped: u64,
    waiting: u64,
    #[serde(default)]
    passed_over: u64,
}

#[derive(Deserialize)]
struct Report {
    ingest: Tally,
}

/// Bare, door, product, bare; whether the product's run counts.
///
/// # Errors
/// When a host does not start or cannot be asked.
pub async fn run(asked: &Telemetry, json: Option<&Path>) -> Result<bool> {
    ensure!(asked.host.is_file(), "host {} is no file", asked.host.display());
    let store = Store::start(asked.store, &asked.work)?;
    let mut conditions = Conditions::look(&asked.work, &store.durability()?).await;
    let before = bare(asked, &store).await?;
    let mut hub = Hub::start(asked.agents).await?;
    let receive = hub.receive(Duration::from_secs(1), asked.duration).await?;
    hub.end().await?;
    let product = product(asked, &store).await?;
    let after = bare(asked, &store).await?;
    conditions.look_again().await;
    println!("\n{conditions}\n");
    let limit = f64::midpoint(before.rate, after.rate);
    let mut product = product.conclude(conditions.cores);
    product.note("of_bare_insert", round(product.rate / limit));
    product.note("of_bare_receive", round(product.rate / receive.rate));
    let mut good = true;
    for found in [before, receive, product, after] {
        good &= keep(found, &conditions, json)?;
    }
    Ok(good)
}

async fn product(asked: &Telemetry, store: &Store) -> Result<Measured> {
    let url = store.fresh()?;
    let host = Host::start(&asked.host, &asked.plugins, &asked.work, &url).await?;
    let operator = Operator::login(&host.api, &host.credential).await?;
    let door = Origin::parse(&host.agents)?;
    let identities = Identities::obtain(&operator, &door, asked.agents, None).await?;
    let mut behaviour = Agent { verify_every: 0, flush_each: false, no_telemetry: false, output_bytes: 3 }.behaviour();
    behaviour.sample_every = Some(Duration::from_secs_f64(asked.agents as f64 / asked.rate));
    let fleet = Fleet::connect(&door, &identities, behaviour).await?;
    let mut client = operator.client();
    let path = "/api/v1/health-report?limit=1";
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (meter, begun) = (Meter::start(Some(host.pid)), Instant::now());
    let first = operator.get::<Report>(&mut client, path).await?.ingest;
    tokio::time::sleep(asked.duration).await;
    let last = operator.get::<Report>(&mut client, path).await?.ingest;
    let seconds = begun.elapsed().as_secs_f64();
    let cost = meter.stop();
    let faults = fleet.faults();
    fleet.close().await?;
    // What waits is stored, and then nothing is missing but what was counted.
    let settled = loop {
        let now = operator.get::<Report>(&mut client, path).await?.ingest;
        if now.waiting == 0 {
            break now;
        }
        tokio::time::sleep(LOOK).await;
    };
    host.end().await?;
    let row_bytes = row_bytes(&url).await?;
    let mut found = Measured::new(
        "telemetry",
        json!({ "agents": asked.agents, "offered_per_s": asked.rate, "store": format!("{:?}", asked.store).to_lowercase() }),
    );
    found.operations = last.stored - first.stored;
    found.rate = found.operations as f64 / seconds;
    found.cost = cost;
    found.note("taken_per_s", round((last.taken - first.taken) as f64 / seconds));
    found.note("dropped", last.dropped - first.dropped);
    found.note("not_judged", last.passed_over - first.passed_over);
    found.note("row_bytes", round(row_bytes));
    if (row_bytes - ROW_BYTES as f64).abs() > 0.1 * ROW_BYTES as f64 {
        found.faults.push(format!("the plain client's rows have {ROW_BYTES} bytes, and the product's {row_bytes:.1}"));
    }
    found.faults.extend(faults);
    if settled.taken != settled.stored + settled.dropped {
        found.faults.push(format!("{} taken, {} stored, {} dropped", settled.taken, settled.stored, settled.dropped));
    }
    Ok(found)
}

/// Bytes of a report as the product has stored it, on average.
async fn row_bytes(url: &str) -> Result<f64> {
    let text = "select cast(coalesce(avg(length(report)), 0) as double precision) from telemetry";
    Ok(match url.strip_prefix("sqlite:") {
        Some(path) => {
            let mut store = SqliteConnectOptions::new().filename(path).connect().await?;
            sqlx::query_scalar(text).fetch_one(&mut store).await?
        }
        None => {
            let mut store = PgConnection::connect(url).await?;
            sqlx::query_scalar(text).fetch_one(&mut store).await?
        }
    })
}

/// Rows into a bare table, one batch a commit.
enum Bare {
    Sqlite(Box<SqliteConnection>, String),
    Postgres(Box<PgConnection>),
}

async fn bare(asked: &Telemetry, store: &Store) -> Result<Measured> {
    let url = store.fresh()?;
    let mut bare = match url.strip_prefix("sqlite:") {
        Some(path) => {
            let options = SqliteConnectOptions::new()
                .filename(path)
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full);
            let mut store = options.connect().await.with_context(|| format!("database {path}"))?;
            let table = "create table bare (block integer not null, agent_id blob not null, timestamp integer not null, \
                 created_at integer not null, report blob not null, primary key (block, agent_id, timestamp)) \
                 strict, without rowid";
            sqlx::query(table).execute(&mut store).await?;
            let insert = format!("insert into bare values {}", vec!["(?, ?, ?, ?, ?)"; BATCH].join(", "));
            Bare::Sqlite(Box::new(store), insert)
        }
        None => {
            let mut store = PgConnection::connect(&url).await.context("PostgreSQL")?;
            let table = "create table bare (agent_id uuid not null, timestamp timestamptz not null, \
                 created_at timestamptz not null, report bytea not null, primary key (agent_id, timestamp))";
            sqlx::query(table).execute(&mut store).await?;
            Bare::Postgres(Box::new(store))
        }
    };
    let (meter, begun) = (Meter::start(None), Instant::now());
    let mut rows = 0_u64;
    while begun.elapsed() < asked.duration {
        insert(&mut bare, rows, asked.agents as u64).await?;
        rows += BATCH as u64;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let mut found = Measured::new("telemetry-bare-insert", json!({ "batch": BATCH, "row_bytes": ROW_BYTES }));
    found.operations = rows;
    found.rate = rows as f64 / seconds;
    found.cost = meter.stop();
    Ok(found)
}

async fn insert(bare: &mut Bare, first: u64, agents: u64) -> Result<()> {
    let numbers: Vec<u64> = (first..first + BATCH as u64).collect();
    let agent = |number: &u64| Uuid::from_u128(u128::from(number % agents) << 64);
    let at = |number: &u64| 1_700_000_000_000_000 + (number / agents).cast_signed() * 1_000;
    match bare {
        Bare::Sqlite(store, text) => {
            let mut query = sqlx::query(AssertSqlSafe(text.as_str()));
            for number in &numbers {
                let at = at(number);
                query = query.bind(at / 60_000_000).bind(agent(number)).bind(at).bind(at).bind(vec![b'x'; ROW_BYTES]);
            }
            query.execute(&mut **store).await?;
        }
        Bare::Postgres(store) => {
            let text = "insert into bare select a, to_timestamp(t), to_timestamp(t), r \
                 from unnest($1::uuid[], $2::float8[], $3::bytea[]) as u (a, t, r)";
            sqlx::query(text)
                .bind(numbers.iter().map(agent).collect::<Vec<_>>())
                .bind(numbers.iter().map(|number| at(number) as f64 / 1e6).collect::<Vec<_>>())
                .bind(vec![vec![b'x'; ROW_BYTES]; BATCH])
                .execute(&mut **store)
                .await?;
        }
    }
    Ok(())
}
