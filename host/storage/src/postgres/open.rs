//! Opening the store: what the server is and promises, the schema brought up to date, sessions of hosts
//! that are gone closed.

use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use ports::live::Live;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection};
use uuid::Uuid;

use super::cure;
use super::days;
use super::failure::Failure;
use super::line::Line;
use super::pruning;
use super::readers::Readers;
use super::together::Together;
use super::{Options, PostgresStore, Shared, Writer};
use crate::intake::Intake;
use crate::tally::Tally;

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/postgres");

/// The oldest server this is tested with.
const OLDEST: i32 = 150_000;
/// The first half of the advisory locks that living nodes hold.
pub(super) const NODE_LOCK: i32 = 0x7669_776f;
/// Nodes that hold their locks.
pub(super) const ALIVE: &str = "select n.id from nodes n join pg_locks l on l.locktype = 'advisory' and l.granted and l.objsubid = 2 \
     and l.database = (select oid from pg_database where datname = current_database()) \
     and l.classid::bigint = $1 and l.objid::bigint = (hashtext(n.id::text)::bigint & 4294967295)";
/// More than the statements there are.
const STATEMENTS: usize = 256;
/// Longest the server waits for our machine's word at all: then it takes us for gone and lets other hosts have our
/// locks.
const GONE_AFTER: Duration = Duration::from_secs(5);
/// Longest it waits for our word inside a transaction. Whoever is cut off there holds up the commits of all other
/// hosts, so this has to be over well before any of them is taken for dead for it.
const SPEECHLESS_AFTER: Duration = Duration::from_secs(2);

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL cannot be read.
    #[error("the URL of the database cannot be read: {0}; expected postgres://USER@HOST:PORT/DATABASE?sslmode=…")]
    Url(sqlx::Error),
    /// The server is too old.
    #[error("{place} is PostgreSQL {found}; version 15 or later is needed: upgrade the server")]
    Old {
        /// Which server.
        place: String,
        /// What it is.
        found: String,
    },
    /// The server does not promise that what it committed survives.
    #[error(
        "{place} runs with {setting} = off, and may lose what it said was committed; set {setting} = on in \
         postgresql.conf (or for this role or database), or allow it with database.allow_unsafe_durability = true"
    )]
    Weak {
        /// Which server.
        place: String,
        /// Which setting is off.
        setting: &'static str,
    },
    /// A newer program wrote it.
    #[error(
        "{place} has schema {found}, and this program knows schemas up to {known}; run the newer program, or \
         restore the backup made before the upgrade"
    )]
    Newer {
        /// Which database.
        place: String,
        /// The schema's number.
        found: i64,
        /// The newest one this program knows.
        known: i64,
    },
    /// The schema could not be brought up to date.
    #[error("the schema of {place} could not be brought up to date: {source}")]
    Schema {
        /// Which database.
        place: String,
        /// Why.
        source: MigrateError,
    },
    /// The database would not open.
    #[error("{place} would not open: {source}; {}", cure::of(.source))]
    Database {
        /// Which database.
        place: String,
        /// Why.
        source: sqlx::Error,
    },
    /// The server did not answer.
    #[error("{place} did not answer within {ms} ms; check that the server runs and that database.url names it")]
    Silent {
        /// Which database.
        place: String,
        /// How long.
        ms: u128,
    },
}

/// Opens the store and brings its schema up to date; hosts that start together take turns. Sessions that
/// were open when a host ended that is gone now are closed in the rows; what they may have sent stays
/// marked.
///
/// # Errors
/// See [`OpenError`].
pub async fn open(options: Options, live: Arc<dyn Live>) -> Result<(PostgresStore, Writer), OpenError> {
    let common = PgConnectOptions::from_str(&options.url).map_err(OpenError::Url)?.disable_statement_logging();
    let place = place(&common);
    let database = |source| OpenError::Database { place: place.clone(), source };

    // A migration takes as long as it takes, and waits for its turn.
    let connecting = common.clone().application_name("viworks start").options([("statement_timeout", "0")]);
    let connected = tokio::time::timeout(options.connect_timeout, connecting.connect()).await;
    let silent = |_| OpenError::Silent { place: place.clone(), ms: options.connect_timeout.as_millis() };
    let mut connection = connected.map_err(silent)?.map_err(database)?;
    check(&mut connection, &place, options.allow_unsafe_durability).await?;
    migrate(&mut connection, &place).await?;
    let node: Uuid =
        sqlx::query_scalar("select gen_random_uuid()").fetch_one(&mut connection).await.map_err(database)?;
    close_sessions(&mut connection).await.map_err(database)?;
    for room in [days::room(0), pruning::room(options.audit_days)] {
        sqlx::raw_sql(AssertSqlSafe(room)).execute(&mut connection).await.map_err(database)?;
    }
    connection.close().await.map_err(database)?;

    let common = common.statement_cache_capacity(STATEMENTS).options([
        ("statement_timeout", options.statement_timeout.as_millis().to_string()),
        ("idle_in_transaction_session_timeout", SPEECHLESS_AFTER.as_millis().to_string()),
        ("tcp_user_timeout", GONE_AFTER.as_millis().to_string()),
        ("tcp_keepalives_idle", GONE_AFTER.as_secs().to_string()),
        ("tcp_keepalives_interval", "1".to_owned()),
        ("tcp_keepalives_count", "3".to_owned()),
        ("jit", "off".to_owned()),
    ]);
    let common = planning(common);
    let (reading, most) = (common.clone().application_name("viworks reader"), options.connections.saturating_sub(1));
    let read_within = options.connect_timeout + options.statement_timeout;
    let readers = Readers::open(reading, most.max(1), options.connect_timeout, read_within).await.map_err(database)?;

    let line = Line::new(common, node, options.allow_unsafe_durability);
    let must_sync = !options.allow_unsafe_durability;
    let (intake, notary, audit_days) = (Intake::new(), options.notary, options.audit_days);
    let shared = Arc::new(Shared {
        intake,
        tally: Tally::default(),
        node,
        notary,
        audit_days,
        must_sync,
        wary: AtomicU32::default(),
    });
    let store = PostgresStore {
        shared: Arc::clone(&shared),
        readers: Arc::new(readers),
        read_within,
        by_id: Together::default(),
    };
    Ok((store, Writer::new(shared, live, line, options.statement_timeout)))
}

/// How statements are planned. Whatever is asked for has its index, and the same few things are asked for
/// ever: a plan is made once, and never walks a table, or sorts what an index has in order, because there
/// was little of it when it was made or because a `limit` that it does not know might be large.
fn planning(options: PgConnectOptions) -> PgConnectOptions {
    options.options([
        ("plan_cache_mode", "force_generic_plan"),
        ("enable_seqscan", "off"),
        ("enable_bitmapscan", "off"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
    ])
}

/// The database without user and password, for people.
pub(super) fn place(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or("?");
    match options.get_socket() {
        Some(socket) => format!("the database `{database}` at `{}`", socket.display()),
        None => format!("postgres://{}:{}/{database}", options.get_host(), options.get_port()),
    }
}

pub(super) async fn check(connection: &mut PgConnection, place: &str, allow_unsafe: bool) -> Result<(), OpenError> {
    let database = |source| OpenError::Database { place: place.to_owned(), source };
    let version: i32 = sqlx::query_scalar("select current_setting('server_version_num')::integer")
        .fetch_one(&mut *connection)
        .await
        .map_err(database)?;
    if version < OLDEST {
        let found = sqlx::query_scalar("show server_version").fetch_one(connection).await.map_err(database)?;
        return Err(OpenError::Old { place: place.to_owned(), found });
    }
    match weak_setting(connection).await.map_err(database)? {
        Some(setting) if !allow_unsafe => Err(OpenError::Weak { place: place.to_owned(), setting }),
        Some(setting) => {
            tracing::warn!(place, setting, "is off: the server may lose what it said was committed, as was allowed");
            Ok(())
        }
        None => Ok(()),
    }
}

/// The first setting that durability stands on and that is off. If none is, the session keeps what a session
/// may have of its own: a reload of the server's settings weakens no connection that is open.
async fn weak_setting(connection: &mut PgConnection) -> Result<Option<&'static str>, sqlx::Error> {
    let (fsync, synchronous_commit): (String, String) =
        sqlx::query_as("select current_setting('fsync'), current_setting('synchronous_commit')")
            .fetch_one(&mut *connection)
            .await?;
    if fsync == "off" {
        return Ok(Some("fsync"));
    }
    if synchronous_commit == "off" {
        return Ok(Some("synchronous_commit"));
    }
    // The value that was found, for it may promise more than `on`.
    sqlx::query("select set_config('synchronous_commit', $1, false)")
        .bind(synchronous_commit)
        .execute(connection)
        .await?;
    Ok(None)
}

/// As at the start, for the writer's later connections.
pub(super) async fn check_durability(connection: &mut PgConnection, allow_unsafe: bool) -> Result<(), Failure> {
    match weak_setting(connection).await? {
        Some(setting) if !allow_unsafe => Err(Failure::Weak(setting)),
        Some(_) | None => Ok(()),
    }
}

pub(super) async fn migrate(connection: &mut PgConnection, place: &str) -> Result<(), OpenError> {
    let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
    MIGRATIONS.run(connection).await.map_err(|error| match error {
        MigrateError::VersionMissing(found) if found > known => {
            OpenError::Newer { place: place.to_owned(), found, known }
        }
        source => OpenError::Schema { place: place.to_owned(), source },
    })
}

/// When an agent's host has last said that it lived, or when the session was opened after that: it was seen then.
pub(super) const WHEN_LAST_ALIVE: &str =
    "greatest(last_seen, (select n.seen_at from nodes n where n.id = agents.node_id))";

/// Closes the sessions of nodes that are gone: each living one holds its lock.
async fn close_sessions(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let text = format!(
        "with alive as materialized ({ALIVE}) update agents set session_open = false, last_seen = {WHEN_LAST_ALIVE} \
         where session_open and (node_id is null or node_id not in (select id from alive))"
    );
    sqlx::query(AssertSqlSafe(text)).bind(i64::from(NODE_LOCK)).execute(&mut *connection).await?;
    sqlx::query("delete from nodes where seen_at < now() - interval '7 days'").execute(connection).await?;
    Ok(())
}
