//! What handlers share: the services, the clock, the keys, and the small memories of this door.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use plan::id::{ClusterId, UserId};
use ports::clock::Clock;
use ports::paces::Paces;
use ports::plugins::Plugins;
use services::accounts::Accounts;
use services::alerts::Alerts;
use services::api_keys::KeyRing;
use services::audit::Audit;
use services::backtest::Backtests;
use services::browse::Browse;
use services::cancel::Cancel;
use services::channels::Channels;
use services::directory::Directory;
use services::enrol::Enrol;
use services::follow_up::FollowUp;
use services::groups::Groups;
use services::history::History;
use services::ingest::Ingest;
use services::meter::Meter;
use services::plugins::PluginOrders;
use services::refusals::Refusals;
use services::release::Release;
use services::replays::Replays;
use services::standing::Standing;
use services::statistics::Statistics;
use services::submit::Submit;
use tokio_util::task::TaskTracker;

use crate::described::{Describe, Kept};
use crate::external::External;
use crate::guesses::Guesses;
use crate::jwt::Tokens;
use crate::metrics::{AskVitals, Http};
use crate::pace::{Pace, Rate};
use crate::proxies::Proxies;
use crate::sessions::{Judges, Sessions};
use crate::streams::Streams;

/// Asks every part how it is: its name, and `ok` or what is wrong in words anybody may read.
pub type Readiness = Arc<dyn Fn() -> BoxFuture<'static, BTreeMap<String, String>> + Send + Sync>;

/// What the door is made of.
#[derive(Clone)]
pub struct Deps {
    /// Agents in memory.
    pub directory: Arc<Directory>,
    /// Saved groups.
    pub groups: Arc<Groups>,
    /// Accepts commands.
    pub submit: Arc<Submit>,
    /// Ends commands.
    pub cancel: Arc<Cancel>,
    /// Lets go what a restore held.
    pub release: Arc<Release>,
    /// Answers again what was answered before.
    pub replays: Arc<Replays>,
    /// Runs commands again.
    pub follow_up: Arc<FollowUp>,
    /// Reads commands and events.
    pub browse: Arc<Browse>,
    /// What became of telemetry on its way to the store.
    pub ingest: Arc<Ingest>,
    /// Telemetry of the past.
    pub history: Arc<History>,
    /// Between an agent's samples; zero = none wanted.
    pub telemetry_interval: Duration,
    /// Alerts, for people.
    pub alerts: Arc<Alerts>,
    /// Tries rules on the past.
    pub backtests: Arc<Backtests>,
    /// Where people are told.
    pub channels: Arc<Channels>,
    /// Machines in and out.
    pub enrol: Arc<Enrol>,
    /// Users.
    pub accounts: Arc<Accounts>,
    /// The audit log.
    pub audit: Arc<Audit>,
    /// Puts on record what was refused.
    pub refusals: Arc<Refusals>,
    /// API keys.
    pub keys: Arc<KeyRing>,
    /// What submitters of waiting commands may; told when users or keys change.
    pub standing: Arc<Standing>,
    /// Another issuer whose tokens count, too.
    pub external: Option<Arc<dyn External>>,
    /// Loaded verbs and plugins; read only here.
    pub plugins: Arc<dyn Plugins>,
    /// What operators want of plugins.
    pub orders: Arc<PluginOrders>,
    /// What an operator asks first.
    pub statistics: Arc<Statistics>,
    /// What happened so far.
    pub meter: Arc<Meter>,
    /// What the machines below have done.
    pub vitals: AskVitals,
    /// Access tokens.
    pub tokens: Arc<Tokens>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// How the parts are.
    pub readiness: Readiness,
    /// What hosts count together; absent: each by itself.
    pub paces: Option<Arc<dyn Paces>>,
    /// Changes under way, which go on when whoever asked for them hangs up.
    pub changes: TaskTracker,
}

/// What an operator sets.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names this host goes by, besides the loopback ones, without port; `*` is any.
    pub hosts: Vec<String>,
    /// Origins whose pages may use this API, e.g. `https://ops.example.org`. Also the CORS list.
    pub origins: Vec<String>,
    /// Proxies that may say on whose behalf they call.
    pub proxies: Proxies,
    /// How fast each principal may ask.
    pub principal_rate: Rate,
    /// How fast each address may ask that names no principal.
    pub address_rate: Rate,
    /// Live streams each principal may have; 0 = any number.
    pub streams: u32,
    /// The pin of the host's TLS key, when clients are to pin it.
    pub tls_pin: Option<String>,
    /// Where machines join, e.g. `http://10.0.0.5:9090`; told with each new join token.
    pub agents_url: Option<String>,
    /// The program's version.
    pub version: String,
    /// The installation.
    pub cluster: ClusterId,
    /// Failed logins one address may try for one name in a row.
    pub login_burst: u32,
    /// How long until it may try one more.
    pub login_refill: Duration,
    /// How often a live stream with nothing to say says so.
    pub heartbeat: Duration,
    /// How often a live stream makes sure that its reader still may.
    pub recheck: Duration,
}

impl Options {
    /// The defaults, for one installation.
    pub fn new(version: impl Into<String>, cluster: ClusterId) -> Options {
        Options {
            hosts: Vec::new(),
            origins: Vec::new(),
            proxies: Proxies::default(),
            principal_rate: Rate { per_second: 1_000, burst: 2_000 },
            address_rate: Rate { per_second: 50, burst: 200 },
            streams: 100,
            tls_pin: None,
            agents_url: None,
            version: version.into(),
            cluster,
            login_burst: 10,
            login_refill: Duration::from_secs(6),
            heartbeat: Duration::from_secs(15),
            // With what a session believes, a revoked reader is gone within 4 s.
            recheck: Duration::from_secs(2),
        }
    }
}

/// Everything handlers share.
#[derive(Clone)]
pub struct App(Arc<Inner>);

/// The fields of [`App`].
pub struct Inner {
    /// The services.
    pub deps: Deps,
    /// What an operator set.
    pub options: Options,
    /// Who the tokens and keys seen lately belong to.
    pub sessions: Sessions,
    /// How fast each may ask.
    pub pace: Pace,
    /// How many live streams each has.
    pub streams: Streams,
    /// Requests, counted.
    pub http: Http,
    /// Failed logins, counted.
    pub guesses: Guesses,
    /// The door's description, as it was made last.
    pub description: Kept,
}

impl App {
    /// Puts it together.
    pub fn new(deps: Deps, options: Options, describe: Describe) -> App {
        let guesses = Guesses::new(options.login_burst, options.login_refill, deps.paces.clone());
        let pace = Pace::new(options.principal_rate, options.address_rate, deps.paces.clone());
        let streams = Streams::new(options.streams);
        let (sessions, http, description) = (Sessions::default(), Http::default(), Kept::new(describe));
        App(Arc::new(Inner { deps, options, sessions, pace, streams, http, guesses, description }))
    }

    /// Those who can tell whose a bearer token is.
    pub fn judges(&self) -> Judges<'_> {
        let Deps { tokens, accounts, keys, external, .. } = &self.deps;
        Judges { tokens, accounts, keys, external: external.as_deref() }
    }

    /// Forgets what is remembered of a user whose row, logins or keys just changed.
    pub fn changed(&self, user: UserId) {
        self.sessions.forget(user);
        self.standing.changed();
    }
}

impl Deref for App {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Deref for Inner {
    type Target = Deps;

    fn deref(&self) -> &Deps {
        &self.deps
    }
}
