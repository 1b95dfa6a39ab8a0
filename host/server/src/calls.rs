//! Who hears of what is committed: listeners here, and, by Redis, other hosts.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Context as _;
use bus::local::Local;
use bus::redis::{self, Calls, Line};
use ports::live::Live;
use rest::metrics::{AskVitals, Vitals};
use storage::sqlite::Counters;
use tokio::sync::Notify;

use crate::config::{Config, Store};

/// Everybody who hears, built and not started.
pub struct Wired {
    /// Told of everything that is committed here.
    pub live: Arc<dyn Live>,
    /// The listeners here.
    pub local: Local,
    /// Calls to and from other hosts, when there is a Redis.
    pub calls: Option<Calls>,
    /// How the line to it is.
    pub line: Option<Line>,
    /// Rung when work of another host may wait.
    pub work: Arc<Notify>,
    /// Rung when another host wrote something.
    pub written: Arc<Notify>,
}

/// Builds them.
///
/// # Errors
/// `redis.url` cannot be read.
pub fn build(config: &Config, me: String) -> anyhow::Result<Wired> {
    let local = match config.store()? {
        Store::Sqlite { .. } => Local::default(),
        Store::Postgres { .. } => Local::shared(),
    };
    let here: Arc<dyn Live> = Arc::new(local.clone());
    let Some(url) = &config.redis.url else {
        let (work, written) = (Arc::default(), Arc::default());
        return Ok(Wired { live: here, local, calls: None, line: None, work, written });
    };
    let options = redis::Options {
        url: url.reveal().to_owned(),
        prefix: config.redis.prefix.clone(),
        root_certificate: config.redis.root_certificate()?,
    };
    // Its words may hold the URL, and that a password.
    let built = redis::build(&options, me, here).ok();
    let built = built.context("redis.url cannot be read, or redis.root_certificate holds no certificate")?;
    let (caller, calls, line) = built;
    let (work, written) = (calls.work.clone(), calls.written.clone());
    Ok(Wired { live: Arc::new(caller), local, calls: Some(calls), line: Some(line), work, written })
}

/// What store and Redis have done, as the operators' door tells it.
pub fn vitals(counters: Arc<dyn Fn() -> Counters + Send + Sync>, line: Option<Line>) -> AskVitals {
    Arc::new(move || {
        let Counters { commits, writes, audits, chunks_dropped, notes_dropped } = counters();
        let redis_away = line.as_ref().is_some_and(|line| !line.is_up()).into();
        let redis_requests = line.as_ref().map_or(0, |line| line.counters().requests.load(Ordering::Relaxed));
        Vitals { commits, writes, audits, chunks_dropped, notes_dropped, redis_away, redis_requests }
    })
}

/// `ok`, or what is missing, in words that strangers may read. A host without Redis takes work all the same.
pub fn health(line: &Line) -> String {
    if line.is_up() {
        return "ok".to_owned();
    }
    "degraded: Redis is away; hosts find each other's work by looking, within 2 s, and each counts requests by itself"
        .to_owned()
}
