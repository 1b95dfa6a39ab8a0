//! Builds the rooms and starts none: everything that can be wrong with the configuration, the keys or
//! the store is wrong here, before anybody can connect.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bus::local::Local;
use gateway::connected::Connected;
use gateway::room::Gateway;
use gateway::slots::Slots;
use plan::id::ClusterId;
use ports::clock::{Clock, Ids};
use ports::journal::Installation;
use ports::seal::{Seal, Vault};
use rest::pace::Rate;
use rest::passwords::Argon2Pool;
use runtime::{CacheOptions, Compile, DefaultGrants, Signatures};
use services::accounts::Accounts;
use services::again::Again;
use services::api_keys::KeyRing;
use services::audit::Audit;
use services::backlog::{Backlog, Bounds};
use services::browse::Browse;
use services::cancel::{Cancel, SettleUnowned};
use services::chronicle::Chronicle;
use services::digest::sha256_hex;
use services::directory::Directory;
use services::dispatch::Dispatch;
use services::doubt::Doubts;
use services::enrol::Enrol;
use services::follow_up::FollowUp;
use services::groups::Groups;
use services::plugins::PluginOrders;
use services::presence::Presence;
use services::progress::Progress;
use services::reap::Reap;
use services::refusals::Refusals;
use services::release::Release;
use services::replays::Replays;
use services::rollouts::{Begun, Rollouts};
use services::standing::{Known, Standing};
use services::submit::Submit;
use services::wishes::Wishes;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backup;
use crate::bootstrap;
use crate::certificate;
use crate::clock::{RandomIds, WallClock};
use crate::cluster_key::{ClusterKey, KeyFile};
use crate::config::{self, Config};
use crate::counted::Counted;
use crate::keys::{self, AuditKey, SecretKey};
use crate::store::{self, Rows, Writing};
use crate::token_keys;

/// Passwords hashed at once, and waiting to be: argon2id is dear on purpose.
const HASHERS: usize = 2;
const HASH_QUEUE: usize = 32;

/// A host, built and not started.
pub struct Host {
    /// The store, for flushing at the end.
    pub store: Arc<dyn Installation>,
    /// Loads plugins.
    pub plugins: runtime::Service,
    /// Waits for the first look at the plugin folder.
    pub plugins_handle: runtime::Handle,
    /// Writes down what becomes of plugins.
    pub chronicle: Chronicle,
    /// Ends what its clocks ran out on.
    pub reap: Reap,
    /// Lets go what is tried again.
    pub again: Again,
    /// Lets targets go step by step.
    pub rollouts: Rollouts,
    /// Brings wishes of other hosts to the sessions here.
    pub wishes: Wishes,
    /// Follows what submitters of waiting commands may.
    pub standing: Arc<Standing>,
    /// Follows the token key.
    pub follow_keys: token_keys::Follow,
    /// API keys: writes down when they were used.
    pub key_ring: Arc<KeyRing>,
    /// Users, for the first administrator.
    pub accounts: Arc<Accounts>,
    /// The operators' routes.
    pub api: axum::Router,
    /// The agents' routes.
    pub agents: axum::Router,
    /// Where operators connect.
    pub api_listener: TcpListener,
    /// Where agents connect.
    pub agents_listener: TcpListener,
    /// TLS of both listeners.
    pub shown: Option<certificate::Shown>,
    /// Every agent's session.
    pub sessions: TaskTracker,
    /// Set to send every agent away.
    pub leave: CancellationToken,
}

/// Builds every room.
///
/// # Errors
/// What cannot be used, and how to mend it.
pub async fn build(config: &Config) -> anyhow::Result<(Host, Writing)> {
    backup::refuse_unfinished(config)?;
    let data = &config.data.dir;
    keys::private_dir(data)?;
    let key_dir = data.join("keys");
    keys::private_dir(&key_dir)?;
    bootstrap::remove_listening(data);
    let cluster_key = KeyFile::load_or_make(&key_dir.join("cluster.key"))?;

    let shown = certificate::build(config, &key_dir).context("tls")?;
    let tls_pin = shown.as_ref().and_then(|shown| shown.pin).map(|pin| pin.to_string());

    let backlog = Arc::new(Backlog::new(Bounds {
        per_agent: config.command.max_waiting_per_agent,
        in_all: config.command.max_waiting,
    }));
    let live = Arc::new(Counted { live: Arc::new(Local::default()), backlog: backlog.clone() });
    let notary = AuditKey::in_data(data)?;
    let vault: Arc<dyn Vault> = Arc::new(SecretKey::in_data(data, sha256_hex)?);
    let (rows, writing) = store::open(config, live.clone(), notary.clone()).await?;

    let clock: Arc<dyn Clock> = Arc::new(WallClock);
    let ids: Arc<dyn Ids> = Arc::new(RandomIds);
    let fresh = ClusterId(ids.command().0);
    let cluster = rows.whole.cluster(fresh).await.context("the store does not say who this installation is")?;
    let seal: Arc<dyn Seal> = Arc::new(ClusterKey::new(cluster_key, cluster, sha256_hex)?);

    let Rows {
        commands,
        delivery,
        replies,
        agents: agent_rows,
        groups,
        users,
        api_keys,
        journal,
        trail,
        plugins: book,
        whole,
    } = rows;
    let refusals = Arc::new(Refusals::new(journal.clone()));
    let audit =
        Arc::new(Audit { journal: journal.clone(), trail, notary, clock: clock.clone(), verifying: Semaphore::new(1) });
    let known = book.plugin_records().await.context("what is known of plugins cannot be read")?;
    let mut options = runtime_options(config, &clock, &ids)?;
    (options.records, options.book) = (known.clone(), Some(book.clone()));
    let (plugins, plugins_handle) = options.build()?;
    let verbs = Arc::new(plugins_handle.clone());
    let orders = Arc::new(PluginOrders { life: verbs.clone(), book: book.clone(), clock: clock.clone() });
    let chronicle = Chronicle { life: verbs.clone(), book, live: live.clone(), clock: clock.clone(), known };
    backlog.recount(delivery.as_ref()).await.context("what waits cannot be counted")?;
    let begun = Arc::new(Begun::default());
    let directory = Arc::new(Directory::load(agent_rows.as_ref()).await.context("agents cannot be read")?);
    let doubts = Arc::new(Doubts::default());
    let connected = Arc::new(Connected::default());
    let link = connected.clone();

    let browse = Arc::new(Browse { commands: commands.clone(), journal: journal.clone(), live: live.clone() });
    let settle = Arc::new(SettleUnowned { commands: commands.clone(), clock: clock.clone() });
    let groups = Arc::new(Groups { groups, directory: directory.clone(), clock: clock.clone() });
    let standing = Arc::new(Standing {
        users: users.clone(),
        keys: api_keys.clone(),
        clock: clock.clone(),
        known: Known::default(),
    });
    let key_ring = Arc::new(KeyRing { keys: api_keys, clock: clock.clone(), ids: ids.clone(), used: Arc::default() });
    let submit = Arc::new(Submit {
        standing: standing.clone(),
        plugins: verbs.clone(),
        directory: directory.clone(),
        groups: groups.clone(),
        commands: commands.clone(),
        link: link.clone(),
        doubts: doubts.clone(),
        backlog: backlog.clone(),
        begun: begun.clone(),
        seal: seal.clone(),
        vault: vault.clone(),
        clock: clock.clone(),
        ids: ids.clone(),
    });
    let follow_up = Arc::new(FollowUp { browse: browse.clone(), submit: submit.clone() });
    let replays = Arc::new(Replays {
        replies: replies.clone(),
        vault: vault.clone(),
        clock: clock.clone(),
        under_way: Arc::default(),
    });
    let again =
        Again { commands: commands.clone(), delivery: delivery.clone(), link: link.clone(), clock: clock.clone() };
    let rollouts = Rollouts {
        delivery: delivery.clone(),
        live,
        begun,
        link: link.clone(),
        settle: settle.clone(),
        clock: clock.clone(),
    };
    let wishes = Wishes { delivery: delivery.clone(), link: link.clone(), settle: settle.clone() };
    let cancel = Arc::new(Cancel {
        commands: commands.clone(),
        browse: browse.clone(),
        settle: settle.clone(),
        link: link.clone(),
        clock: clock.clone(),
    });
    let release = Arc::new(Release {
        commands: commands.clone(),
        browse: browse.clone(),
        link: link.clone(),
        seal: seal.clone(),
        clock: clock.clone(),
    });
    let enrol = Arc::new(Enrol {
        agents: agent_rows.clone(),
        directory: directory.clone(),
        link: link.clone(),
        refusals: refusals.clone(),
        doubts: doubts.clone(),
        seal: seal.clone(),
        tls_pin: tls_pin.clone(),
        clock: clock.clone(),
        ids: ids.clone(),
    });
    let accounts = Arc::new(Accounts {
        users,
        refusals: refusals.clone(),
        passwords: Arc::new(Argon2Pool::new(HASHERS, HASH_QUEUE)?),
        clock: clock.clone(),
        ids: ids.clone(),
    });
    let reap = Reap {
        commands: commands.clone(),
        agents: agent_rows.clone(),
        whole: whole.clone(),
        directory: directory.clone(),
        link,
        doubts,
        settle,
        replies,
        backlog,
        delivery,
        clock: clock.clone(),
        lost_after: Duration::from_millis(config.agent_management.lost_after_ms),
        since: clock.now(),
    };

    let api_listener = listen("server.bind", config.server.bind).await?;
    let agents_listener = listen("server.agents_bind", config.server.agents_bind).await?;
    let leave = CancellationToken::new();
    let sessions = TaskTracker::new();
    let default_url = format!(
        "{}://{}{}",
        if shown.is_some() { "wss" } else { "ws" },
        agents_listener.local_addr()?,
        wire::limits::PATH
    );
    let ws_url = config.server.agents_url.clone().unwrap_or(default_url);
    let join_url = ws_url.trim_end_matches(wire::limits::PATH).replacen("ws", "http", 1);
    let gateway = Arc::new(Gateway {
        options: gateway::room::Options {
            ws_url,
            heartbeat: Duration::from_millis(config.agent_management.heartbeat_ms),
            telemetry: Duration::from_millis(config.telemetry.interval_ms),
            agent_concurrency: config.command.agent_concurrency,
            max_agents: config.agent_management.max_agents,
            max_unauthenticated: config.agent_management.max_unauthenticated,
        },
        connected,
        slots: Slots::new(config.command.max_running),
        directory: directory.clone(),
        presence: Arc::new(Presence {
            agents: agent_rows.clone(),
            commands: commands.clone(),
            directory: directory.clone(),
            clock: clock.clone(),
        }),
        progress: Arc::new(Progress {
            commands: commands.clone(),
            whole: whole.clone(),
            plugins: verbs.clone(),
            directory: directory.clone(),
            clock: clock.clone(),
        }),
        dispatch: Arc::new(Dispatch {
            commands: commands.clone(),
            plugins: verbs.clone(),
            seal: seal.clone(),
            standing: standing.clone(),
            directory: directory.clone(),
            clock: clock.clone(),
        }),
        enrol: enrol.clone(),
        patience: Arc::default(),
        seal,
        vault,
        clock: clock.clone(),
        ids,
        unauthenticated: Semaphore::new(config.agent_management.max_unauthenticated),
        sessions: sessions.clone(),
        stop: leave.clone(),
    });
    let agents = gateway::router::router(gateway);

    let tokens = Arc::new(token_keys::tokens(config, cluster.id.to_string())?);
    let follow_keys = token_keys::Follow { tokens: tokens.clone(), config: config.clone() };
    let mut options = rest::Options::new(env!("CARGO_PKG_VERSION"), cluster.id);
    options.agents_url = Some(join_url);
    options.hosts.clone_from(&config.server.allowed_hosts);
    options.origins.clone_from(&config.security.cors_origins);
    let security = &config.security;
    options.principal_rate = Rate { per_second: security.requests_per_second, burst: security.request_burst };
    options.address_rate = Rate { per_second: security.anonymous_per_second, burst: security.anonymous_burst };
    options.proxies = config.server.proxies()?;
    options.tls_pin = tls_pin;
    let deps = rest::Deps {
        directory,
        groups,
        submit,
        cancel,
        release,
        replays,
        follow_up,
        browse,
        enrol,
        accounts: accounts.clone(),
        audit,
        refusals,
        keys: key_ring.clone(),
        standing: standing.clone(),
        external: external(config)?,
        plugins: verbs,
        orders,
        tokens,
        clock,
        readiness: readiness(whole.clone(), leave.clone()),
    };
    let api = rest::router(deps, options);
    let host = Host {
        store: whole,
        plugins,
        plugins_handle,
        chronicle,
        reap,
        again,
        rollouts,
        wishes,
        standing,
        follow_keys,
        key_ring,
        accounts,
        api,
        agents,
        api_listener,
        agents_listener,
        shown,
        sessions,
        leave,
    };
    Ok((host, writing))
}

fn runtime_options(config: &Config, clock: &Arc<dyn Clock>, ids: &Arc<dyn Ids>) -> anyhow::Result<runtime::Options> {
    let folder = config.plugin_dir();
    if !folder.exists() {
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("plugin folder {} cannot be made", folder.display()))?;
    }
    let (cache, kept) = (config.data.dir.join("compiled"), config.data.dir.join("plugin-versions"));
    keys::private_dir(&cache)?;
    keys::private_dir(&kept)?;
    let mut options = runtime::Options::new(folder, clock.clone());
    options.default_grants = match config.plugins.default_grants {
        config::DefaultGrants::None => DefaultGrants::None,
        config::DefaultGrants::Requested => DefaultGrants::Requested,
    };
    options.signatures = match config.plugins.signatures {
        config::Signatures::Off => Signatures::Off,
        config::Signatures::Warn => Signatures::Warn,
        config::Signatures::Enforce => Signatures::Enforce,
    };
    options.trust_file = config.plugins.trust_file.clone();
    let program = std::env::current_exe().context("this program does not know where it is")?;
    options.compile = Compile::Child { program, args: vec!["compile-worker".to_owned()] };
    options.cache = Some(CacheOptions { dir: cache, fresh_key: ids.secret() });
    options.kept = Some(kept);
    options.poll = config.plugins.poll;
    options.threads = Some(config.plugins.threads).filter(|threads| *threads > 0);
    Ok(options)
}

/// How the parts are, in words that strangers may read.
fn readiness(whole: Arc<dyn Installation>, leave: CancellationToken) -> rest::Readiness {
    Arc::new(move || {
        let (whole, leaving) = (whole.clone(), leave.is_cancelled());
        Box::pin(async move {
            let lifecycle = if leaving { "leaving" } else { "ok" };
            BTreeMap::from([
                ("database".to_owned(), store::health(whole.as_ref()).await),
                ("lifecycle".to_owned(), lifecycle.to_owned()),
            ])
        })
    })
}

/// Another issuer whose tokens count.
#[cfg(feature = "oidc")]
fn external(config: &Config) -> anyhow::Result<Option<Arc<dyn rest::external::External>>> {
    let Some(oidc) = &config.auth.oidc else { return Ok(None) };
    let issuer = rest::oidc::Oidc::new(oidc.options()).context("auth.oidc")?;
    Ok(Some(Arc::new(issuer)))
}

#[cfg(not(feature = "oidc"))]
fn external(_: &Config) -> anyhow::Result<Option<Arc<dyn rest::external::External>>> {
    Ok(None)
}

async fn listen(key: &str, address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("{key}: cannot listen on {address}; is something else there?"))
}
