//! Starts the parts, waits for a signal, and stops them in the order that loses nothing: doors, then
//! sessions, then commits, then the store.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::certificate::Shown;
use crate::compose::{self, Host};
use crate::config::Config;
use crate::crowd::Crowd;
use crate::listen::Door;
use crate::store::Writing;
use crate::{bootstrap, listen};

/// How long the first look at the plugin folder may hold up the start.
const FIRST_SCAN: Duration = Duration::from_secs(30);

/// Runs a host until it is told to stop.
///
/// # Errors
/// What kept it from starting, or from stopping in order.
pub async fn run(config: Config) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (host, Writing { task: writing, stop: stop_writer }) = compose::build(&config).await?;
    let Host {
        store,
        plugins,
        plugins_handle,
        chronicle,
        reap,
        again,
        ingest,
        alerting,
        notifier,
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
    } = host;

    let work = TaskTracker::new();
    let stop_work = CancellationToken::new();
    let loading = work.spawn(plugins.run(stop_work.clone()));
    if tokio::time::timeout(FIRST_SCAN, plugins_handle.rescan()).await.is_err() {
        tracing::warn!("plugins are still being loaded; the host starts without waiting for the rest");
    }
    work.spawn(chronicle.run(stop_work.clone()));
    work.spawn(reap.run(stop_work.clone()));
    work.spawn(again.run(stop_work.clone()));
    work.spawn(ingest.run(stop_work.clone()));
    work.spawn(alerting.run(stop_work.clone()));
    work.spawn(notifier.run(stop_work.clone()));
    work.spawn(rollups.run(stop_work.clone()));
    work.spawn(forget.run(stop_work.clone()));
    work.spawn(rollouts.run(stop_work.clone()));
    work.spawn(wishes.run(stop_work.clone()));
    work.spawn(census.run(stop_work.clone()));
    work.spawn(heartbeat.run(stop_work.clone()));
    work.spawn(neighbours.run(stop_work.clone()));
    work.spawn(gaps.run(stop_work.clone()));
    if let Some(calls) = calls {
        work.spawn(calls.run(stop_work.clone()));
    }
    work.spawn(standing.run(stop_work.clone()));
    work.spawn(follow_keys.run(stop_work.clone()));
    work.spawn(key_ring.run(stop_work.clone()));
    bootstrap::first_admin(&accounts, &config.data.dir).await?;

    let doors = TaskTracker::new();
    let close_doors = CancellationToken::new();
    let (api_address, agents_address) = (api_listener.local_addr()?, agents_listener.local_addr()?);
    let (acceptor, pin) = match shown {
        Some(Shown { acceptor, pin, follow, .. }) => {
            if let Some(follow) = follow {
                work.spawn(follow.run(stop_work.clone()));
            }
            (Some(acceptor), pin)
        }
        None => (None, None),
    };
    let proxies = config.server.proxies()?;
    let door = |max_connections, of_one, for_life, tls| Door {
        max_connections,
        crowd: Crowd::new(of_one, proxies.clone()),
        for_life,
        tls,
        leaving: leaving.clone(),
    };
    let server = &config.server;
    let api_door = door(server.max_connections, server.max_connections_per_address, true, acceptor.clone());
    doors.spawn(listen::serve(api_listener, api, api_door, close_doors.clone(), doors.clone()));
    // Agents' sockets leave this count when they are WebSockets, so it bounds TLS handshakes, joins and upgrades; that
    // of their address they leave with HELLO.
    let agents_cfg = &config.agent_management;
    let agents_door =
        door(agents_cfg.max_unauthenticated, agents_cfg.max_unauthenticated_per_address, false, asking.or(acceptor));
    doors.spawn(listen::serve(agents_listener, agents, agents_door, close_doors.clone(), doors.clone()));
    bootstrap::write_listening(&config.data.dir, api_address, agents_address)?;
    if let Some(pin) = pin {
        tracing::info!(%pin, "TLS with a certificate of this host's own; clients pin its key");
    }
    tracing::info!(api = %api_address, agents = %agents_address, "ready");

    let mut writing = writing;
    let failed = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        ended = &mut writing => Some(format!("the store's writer ended: {ended:?}")),
        ended = loading => Some(format!("the plugin loader ended: {ended:?}")),
    };
    if let Some(why) = &failed {
        tracing::error!(why, "a part that must not end has ended; the host stops");
    }
    tracing::info!("stopping");
    bootstrap::remove_listening(&config.data.dir);
    leaving.cancel();
    // What has failed cannot serve anybody meanwhile.
    let drain = if failed.is_some() { Duration::ZERO } else { config.drain() };
    let graceful = async {
        tokio::time::sleep(drain).await;
        leave.cancel();
        close_doors.cancel();
        doors.close();
        sessions.close();
        sessions.wait().await;
        doors.wait().await;
        changes.close();
        changes.wait().await;
        stop_work.cancel();
        work.close();
        work.wait().await;
        _ = store.flush().await.inspect_err(|error| tracing::warn!(%error, "not everything noted is stored"));
        stop_writer.cancel();
        if !writing.is_finished() {
            _ = (&mut writing).await;
        }
    };
    let orderly = tokio::select! {
        stopped = tokio::time::timeout(drain + config.shutdown_timeout(), graceful) => stopped.is_ok(),
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
    };
    tracing::info!(orderly, "stopped");
    match failed {
        Some(why) => Err(anyhow::anyhow!(why)).context("stopped by a fault"),
        None if orderly => Ok(ExitCode::SUCCESS),
        None => Ok(ExitCode::from(1)),
    }
}
