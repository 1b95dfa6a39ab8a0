//! Opens the store that was chosen and hands out its ports. Nobody else knows which stores there are.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ports::agents::Agents;
use ports::alerts::{Alerts, Silences};
use ports::api_keys::ApiKeys;
use ports::channels::Channels;
use ports::commands::Commands;
use ports::delivery::Delivery;
use ports::error::StoreError;
use ports::groups::Groups;
use ports::hosts::Hosts;
use ports::journal::{Installation, Journal, Trail};
use ports::live::Live;
use ports::plugin_life::PluginBook;
use ports::replies::Replies;
use ports::seal::Notary;
use ports::telemetry::Telemetry;
use ports::users::Users;
use storage::sqlite::Counters;
use storage::{postgres, sqlite};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Store};

/// Longest wait for a store that is asked how it is. Two waits of the embedded store for its lock, of the batch
/// before and of its own, fit into it.
const ASK_WITHIN: Duration = Duration::from_millis(2_800);

/// An open store, as the rooms see it.
#[derive(Clone)]
pub struct Rows {
    /// Commands and everything below them.
    pub commands: Arc<dyn Commands>,
    /// What background work asks of them.
    pub delivery: Arc<dyn Delivery>,
    /// Replies kept for callers who ask again.
    pub replies: Arc<dyn Replies>,
    /// Agents and join tokens.
    pub agents: Arc<dyn Agents>,
    /// Hosts beside this one.
    pub hosts: Arc<dyn Hosts>,
    /// Saved groups.
    pub groups: Arc<dyn Groups>,
    /// Users and logins.
    pub users: Arc<dyn Users>,
    /// API keys.
    pub api_keys: Arc<dyn ApiKeys>,
    /// Events and the audit log.
    pub journal: Arc<dyn Journal>,
    /// The audit log on its chains.
    pub trail: Arc<dyn Trail>,
    /// What becomes of plugins.
    pub plugins: Arc<dyn PluginBook>,
    /// What machines said of themselves.
    pub telemetry: Arc<dyn Telemetry>,
    /// Alerts.
    pub alerts: Arc<dyn Alerts>,
    /// Silences.
    pub silences: Arc<dyn Silences>,
    /// Channels.
    pub channels: Arc<dyn Channels>,
    /// The whole.
    pub whole: Arc<dyn Installation>,
    /// What its writer has done.
    pub counters: Arc<dyn Fn() -> Counters + Send + Sync>,
}

impl Rows {
    fn of<S>(store: S, counters: impl Fn(&S) -> Counters + Send + Sync + 'static) -> Rows
    where
        S: Commands
            + Delivery
            + Replies
            + Agents
            + Hosts
            + Groups
            + Users
            + ApiKeys
            + Journal
            + Trail
            + PluginBook
            + Telemetry
            + Alerts
            + Silences
            + Channels
            + Installation
            + 'static,
    {
        let store = Arc::new(store);
        let counting = store.clone();
        Rows {
            commands: store.clone(),
            delivery: store.clone(),
            replies: store.clone(),
            agents: store.clone(),
            hosts: store.clone(),
            groups: store.clone(),
            users: store.clone(),
            api_keys: store.clone(),
            journal: store.clone(),
            trail: store.clone(),
            plugins: store.clone(),
            telemetry: store.clone(),
            alerts: store.clone(),
            silences: store.clone(),
            channels: store.clone(),
            whole: store,
            counters: Arc::new(move || counters(&counting)),
        }
    }
}

/// What writes, and the way to end it.
pub struct Writing {
    /// Ends when `stop` is cancelled and everything queued before is written.
    pub task: JoinHandle<()>,
    /// Set to end it.
    pub stop: CancellationToken,
}

/// Opens the store. The rooms above read and write while they are built, so it writes from here on.
///
/// # Errors
/// What keeps it from being used, and how to mend it.
pub async fn open(config: &Config, live: Arc<dyn Live>, notary: Arc<dyn Notary>) -> anyhow::Result<(Rows, Writing)> {
    let stop = CancellationToken::new();
    let (rows, task) = match config.store()? {
        Store::Sqlite { path, readers, busy_timeout } => {
            let options = sqlite::Options { path, readers, busy_timeout, notary: Some(notary) };
            let (store, writer) = sqlite::open(options, live).await.context("database.url")?;
            (Rows::of(store, sqlite::SqliteStore::counters), start(writer.run(stop.clone()))?)
        }
        Store::Postgres { url, shown, connections, connect_timeout, statement_timeout, allow_unsafe_durability } => {
            let url = url.reveal().to_owned();
            let options = postgres::Options {
                url,
                connections,
                connect_timeout,
                statement_timeout,
                allow_unsafe_durability,
                notary: Some(notary),
                audit_days: config.audit.kept(),
            };
            let (store, writer) = postgres::open(options, live).await.context("database.url")?;
            tracing::info!(database = shown, "PostgreSQL is open");
            (Rows::of(store, postgres::PostgresStore::counters), start(writer.run(stop.clone()))?)
        }
    };
    Ok((rows, Writing { task, stop }))
}

/// Runs the writer on a thread of its own: SQLite is called and waited for there, and with PostgreSQL the dozens of steps
/// of a commit would each wait behind whatever else is due, where everybody waits for it.
fn start(writer: impl Future<Output = ()> + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    let thread = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(tokio::task::spawn_blocking(move || thread.block_on(writer)))
}

/// `ok`, or why the store does not take work, in words that strangers may read.
pub async fn health(whole: &dyn Installation) -> String {
    let cause = match tokio::time::timeout(ASK_WITHIN, whole.ready()).await {
        Ok(Ok(())) => return "ok".to_owned(),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the store is not ready");
            public_cause(&error)
        }
        Err(_) => {
            tracing::warn!("the store does not answer within {} ms", ASK_WITHIN.as_millis());
            "it does not answer in time"
        }
    };
    format!("unavailable: {cause}")
}

/// What the two databases say, reduced to what an operator can act on. Their own words may hold
/// names and addresses.
fn public_cause(error: &StoreError) -> &'static str {
    let said = match error {
        StoreError::Unavailable(said) => said.to_lowercase(),
        StoreError::Conflict(_) | StoreError::Stale(_) => return "it refuses the probe",
        StoreError::Corrupt { .. } => return "it is damaged",
    };
    const WORDS: [(&str, &str); 16] = [
        ("connection refused", "nothing listens at its address"),
        ("starting up", "it is starting"),
        ("shutting down", "it is shutting down"),
        ("recovery", "it is recovering"),
        ("too many connections", "it takes no more connections"),
        ("too many clients", "it takes no more connections"),
        ("authentication", "it refuses the login"),
        ("pg_hba", "it refuses the login"),
        ("certificate", "its certificate is not trusted"),
        ("not support tls", "it does not speak TLS"),
        ("the database runs with", "it may lose what it commits"),
        ("timed out", "it does not answer in time"),
        ("is locked", "another program holds it locked"),
        ("is full", "the disk is full"),
        ("no space", "the disk is full"),
        ("read-only", "it is read-only"),
    ];
    let known = WORDS.into_iter().find(|(word, _)| said.contains(word));
    known.map_or("it does not take writes", |(_, cause)| cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_learn_the_kind_of_trouble_and_no_names() {
        let away = |said: &str| StoreError::Unavailable(said.to_owned());
        let corrupt = StoreError::Corrupt { table: "users", key: "ada".into(), what: "role".into() };
        for (error, cause) in [
            (
                away("error communicating with database: Connection refused (os error 111)"),
                "nothing listens at its address",
            ),
            (away("error returned from database: the database system is starting up"), "it is starting"),
            (away("password authentication failed for user \"ops\""), "it refuses the login"),
            (away("error returned from database: (code: 5) database is locked"), "another program holds it locked"),
            (away("error returned from database: (code: 13) database or disk is full"), "the disk is full"),
            (away("no pg_hba.conf entry for host \"10.0.0.7\", user \"ops\", no encryption"), "it refuses the login"),
            (away("attempting to establish a TLS connection: server does not support TLS"), "it does not speak TLS"),
            (away("the database runs with fsync = off"), "it may lose what it commits"),
            (away("host db-7.internal said something new"), "it does not take writes"),
            (corrupt, "it is damaged"),
        ] {
            assert_eq!(public_cause(&error), cause, "{error}");
        }
    }
}
