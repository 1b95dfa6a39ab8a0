//! Builds the rooms and starts none: everything that can be wrong with the configuration, the keys or
//! the store is wrong here, before anybody can connect.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bus::board::SharedBoard;
use bus::gaps::Gaps;
use bus::paces::SharedPaces;
use bus::redis::Calls;
use gateway::certificate::Certificates;
use gateway::connected::Connected;
use gateway::room::Gateway;
use gateway::slots::Slots;
use plan::id::ClusterId;
use ports::clock::{Clock, Ids};
use ports::journal::Installation;
use ports::paces::Paces;
use ports::seal::{Seal, Vault};
use rest::passwords::Argon2Pool;
use services::accounts::Accounts;
use services::again::Again;
use services::alerting::Alerting;
use services::api_keys::KeyRing;
use services::audit::Audit;
use services::backlog::{Backlog, Bounds};
use services::browse::Browse;
use services::cancel::{Cancel, SettleUnowned};
use services::census::Census;
use services::chronicle::Chronicle;
use services::digest::sha256_hex;
use services::directory::Directory;
use services::dispatch::Dispatch;
use services::doubt::Doubts;
use services::enrol::Enrol;
use services::feed::Feed;
use services::follow_up::FollowUp;
use services::groups::Groups;
use services::history::History;
use services::ingest::Ingest;
use services::lease::{Heartbeat, Lease};
use services::meter::Meter;
use services::neighbours::Neighbours;
use services::notify::Notifier;
use services::plugins::PluginOrders;
use services::presence::Presence;
use services::progress::Progress;
use services::reap::Reap;
use services::refusals::Refusals;
use services::release::Release;
use services::replays::Replays;
use services::rollouts::{Begun, Rollouts};
use services::rollups::Rollups;
use services::standing::Standing;
use services::statistics::Statistics;
use services::submit::Submit;
use services::wishes::Wishes;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::agent_authority::AgentAuthority;
use crate::alerts;
use crate::alike;
use crate::backup;
use crate::bootstrap;
use crate::calls::{self, Wired};
use crate::certificate;
use crate::clock::{RandomIds, WallClock};
use crate::cluster_key::{ClusterKey, KeyFile};
use crate::config::{self, Config};
use crate::counted::Counted;
use crate::doors;
use crate::keys::{self, AuditKey, SecretKey};
use crate::listen;
use crate::plugins;
use crate::readiness;
use crate::store::{self, Rows, Writing};
use crate::token_keys;
use crate::trail;

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
    /// Brings telemetry to the store.
    pub ingest: Arc<Ingest>,
    /// Makes alerts of what rules find.
    pub alerting: Alerting,
    /// Tells of alerts.
    pub notifier: Arc<Notifier>,
    /// Rolls telemetry up and forgets it.
    pub rollups: Rollups,
    /// Forgets old output.
    pub forget: services::forget::Forget,
    /// Lets targets go step by step.
    pub rollouts: Rollouts,
    /// Brings wishes of other hosts to the sessions here.
    pub wishes: Wishes,
    /// Follows who is no agent any more.
    pub census: Census,
    /// Says that this host lives, and buries those that do not.
    pub heartbeat: Heartbeat,
    /// Learns what other hosts did.
    pub neighbours: Neighbours,
    /// Has listeners read what other hosts wrote.
    pub gaps: Gaps,
    /// Calls other hosts, and hears them.
    pub calls: Option<Calls>,
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
    /// TLS of the agents' listener where it asks for certificates.
    pub asking: Option<TlsAcceptor>,
    /// Every agent's session.
    pub sessions: TaskTracker,
    /// Changes that callers asked for.
    pub changes: TaskTracker,
    /// Set when this host is about to leave, for balancers to notice.
    pub leaving: CancellationToken,
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
    let meter = Arc::new(Meter::default());
    let Wired { live, local, calls, line, work, written } = calls::build(config, RandomIds.command().to_string())?;
    let live = Arc::new(Counted { live, backlog: backlog.clone(), meter: meter.clone() });
    let notary = AuditKey::in_data(data)?;
    let vault: Arc<dyn Vault> = Arc::new(SecretKey::in_data(data, sha256_hex)?);
    let (rows, writing) = store::open(config, live.clone(), notary.clone()).await?;

    let clock: Arc<dyn Clock> = Arc::new(WallClock);
    let ids: Arc<dyn Ids> = Arc::new(RandomIds);
    let fresh = ClusterId(ids.command().0);
    let cluster = rows.whole.cluster(fresh).await.context("the store does not say who this installation is")?;
    alike::same_keys(rows.hosts.as_ref(), &cluster_key, config).await?;
    let authority = AgentAuthority::build(config, cluster.id)?;
    let required = config.tls.agent_certificates == config::AgentCertificates::Required;
    let asking = shown.as_ref().zip(authority.as_ref());
    let asking = asking.map(|(shown, authority)| shown.asking(authority, required)).transpose()?;
    let seal: Arc<dyn Seal> = Arc::new(ClusterKey::new(cluster_key, cluster, sha256_hex)?);

    let Rows {
        commands,
        delivery,
        replies,
        agents: agent_rows,
        hosts,
        groups,
        users,
        api_keys,
        journal,
        trail,
        plugins: book,
        telemetry,
        alerts: alert_rows,
        silences,
        channels,
        whole,
        counters,
    } = rows;
    let refusals = Arc::new(Refusals::new(journal.clone()));
    let audit =
        Arc::new(Audit { journal: journal.clone(), trail, notary, clock: clock.clone(), verifying: Semaphore::new(1) });
    let known = book.plugin_records().await.context("what is known of plugins cannot be read")?;
    let mut options = plugins::options(config, &clock, &ids)?;
    (options.records, options.book) = (known.clone(), Some(book.clone()));
    let (plugins, plugins_handle) = options.build()?;
    let verbs = Arc::new(plugins_handle.clone());
    let orders = Arc::new(PluginOrders { life: verbs.clone(), book: book.clone(), clock: clock.clone() });
    let chronicle = Chronicle { life: verbs.clone(), book, live: live.clone(), clock: clock.clone(), known };
    backlog.recount(delivery.as_ref()).await.context("what waits cannot be counted")?;
    let begun = Arc::new(Begun::default());
    // Before the agents are read, so that no change falls between the two.
    let after = journal.last_seq().await.context("the event log cannot be read")?;
    let loaded = Directory::load_among(hosts.as_ref(), agent_rows.as_ref()).await;
    let directory = Arc::new(loaded.context("agents cannot be read")?);
    _ = meter.directory.set(directory.clone());
    _ = line.as_ref().map(|line| directory.board.set(Arc::new(SharedBoard::of(line, clock.clone()))));
    let doubts = Arc::new(Doubts::default());
    let connected = Arc::new(Connected::default());
    let link = connected.clone();
    let lease = Arc::new(Lease::new(hosts.clone()));
    let heartbeat = Heartbeat { lease: lease.clone(), hosts: hosts.clone(), link: link.clone(), clock: clock.clone() };
    let neighbours =
        Neighbours { hosts: hosts.clone(), directory: directory.clone(), link: link.clone(), call: work, after };
    let gaps = Gaps { local, journal: journal.clone(), call: written };

    let browse = Arc::new(Browse { commands: commands.clone(), journal: journal.clone(), live: live.clone() });
    let settle = Arc::new(SettleUnowned { commands: commands.clone(), clock: clock.clone() });
    let groups = Arc::new(Groups { groups, directory: directory.clone(), clock: clock.clone() });
    let standing = Arc::new(Standing::new(users.clone(), api_keys.clone(), journal.clone(), clock.clone()));
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
        meter: meter.clone(),
    });
    let statistics = Arc::new(Statistics {
        delivery: delivery.clone(),
        directory: directory.clone(),
        plugins: verbs.clone(),
        meter: meter.clone(),
        clock: clock.clone(),
        since: clock.now(),
        kept: Mutex::default(),
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
        approval: config.agent_management.approval == config::Approval::Required,
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
    let census = Census {
        commands: commands.clone(),
        directory: directory.clone(),
        settle: settle.clone(),
        clock: clock.clone(),
    };
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

    let feed = Arc::new(Feed::default());
    let ingest = Arc::new(Ingest::new(telemetry.clone(), feed.clone()));
    let retention = config.telemetry.retention();
    let history = Arc::new(History::new(telemetry.clone(), retention, clock.clone()));
    let forget = trail::forgetting(config, &commands, &agent_rows, &audit.trail, &clock);
    let alarms = alerts::build(
        config,
        alerts::Parts {
            rows: alert_rows,
            silences,
            channels,
            journal: journal.clone(),
            plugins: verbs.clone(),
            is_shared: hosts.is_shared(),
            feed,
            directory: directory.clone(),
            history: history.clone(),
            vault: vault.clone(),
            clock: clock.clone(),
            ids: ids.clone(),
        },
    );
    let rollups = Rollups { telemetry, retention, clock: clock.clone() };

    let api_listener = listen::bind("server.bind", config.server.bind).await?;
    let agents_listener = listen::bind("server.agents_bind", config.server.agents_bind).await?;
    let (leaving, leave) = (CancellationToken::new(), CancellationToken::new());
    let (sessions, changes) = (TaskTracker::new(), TaskTracker::new());
    let default_url = format!(
        "{}://{}{}",
        if shown.is_some() { "wss" } else { "ws" },
        agents_listener.local_addr()?,
        wire::limits::PATH
    );
    let ws_url = config.server.agents_url.clone().unwrap_or(default_url);
    let join_url = ws_url.trim_end_matches(wire::limits::PATH).replacen("ws", "http", 1);
    let gateway = Arc::new(Gateway {
        options: doors::of_agents(config, ws_url),
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
            meter: meter.clone(),
        }),
        dispatch: Arc::new(Dispatch {
            commands: commands.clone(),
            plugins: verbs.clone(),
            seal: seal.clone(),
            standing: standing.clone(),
            directory: directory.clone(),
            lease: lease.clone(),
            clock: clock.clone(),
        }),
        enrol: enrol.clone(),
        ingest: ingest.clone(),
        patience: Arc::default(),
        seal,
        certificates: authority.map(|authority| Certificates {
            authority,
            required,
            directory: directory.clone(),
            clock: clock.clone(),
        }),
        vault,
        clock: clock.clone(),
        ids,
        unauthenticated: Semaphore::new(config.agent_management.max_unauthenticated),
        anteroom: Semaphore::new(config.agent_management.max_unauthenticated),
        sessions: sessions.clone(),
        stop: leave.clone(),
    });
    let agents = gateway::router::router(gateway);

    let tokens = Arc::new(token_keys::tokens(config, cluster.id.to_string())?);
    let follow_keys = token_keys::Follow { tokens: tokens.clone(), config: config.clone(), journal };
    let options = doors::of_callers(config, cluster.id, join_url, tls_pin)?;
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
        ingest: ingest.clone(),
        history,
        alerts: alarms.alerts,
        channels: alarms.channels,
        backtests: alarms.backtests,
        telemetry_interval: Duration::from_millis(config.telemetry.interval_ms),
        accounts: accounts.clone(),
        audit,
        refusals,
        keys: key_ring.clone(),
        standing: standing.clone(),
        external: token_keys::external(config)?,
        plugins: verbs,
        orders,
        statistics,
        meter,
        vitals: calls::vitals(counters, line.clone()),
        paces: line.as_ref().map(|line| Arc::new(SharedPaces::of(line)) as Arc<dyn Paces>),
        changes: changes.clone(),
        tokens,
        clock,
        readiness: readiness::of(whole.clone(), line, leaving.clone()),
    };
    let api = rest::router(deps, options);
    let host = Host {
        store: whole,
        plugins,
        plugins_handle,
        chronicle,
        reap,
        again,
        ingest,
        alerting: alarms.alerting,
        notifier: alarms.notifier,
        rollups,
        forget,
        rollouts,
        wishes,
        census,
        heartbeat,
        neighbours,
        gaps,
        calls,
        standing,
        follow_keys,
        key_ring,
        accounts,
        api,
        agents,
        api_listener,
        agents_listener,
        shown,
        asking,
        sessions,
        changes,
        leaving,
        leave,
    };
    Ok((host, writing))
}
