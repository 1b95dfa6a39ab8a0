//! What every session shares: settings, the use cases it calls, and the way to end it.

use std::sync::Arc;
use std::time::Duration;

use ports::clock::{Clock, Ids};
use ports::seal::{Seal, Vault};
use services::directory::Directory;
use services::dispatch::Dispatch;
use services::enrol::Enrol;
use services::ingest::Ingest;
use services::presence::Presence;
use services::progress::Progress;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::certificate::Certificates;
use crate::connected::Connected;
use crate::patience::Patience;
use crate::slots::Slots;

/// Settings of the agents' door.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where agents are told to open sessions, e.g. `ws://127.0.0.1:9090/ws/agent`.
    pub ws_url: String,
    /// Between an agent's heartbeats.
    pub heartbeat: Duration,
    /// Between an agent's telemetry samples; zero = none wanted.
    pub telemetry: Duration,
    /// Most by which the wait for a sample differs from that.
    pub telemetry_jitter: Duration,
    /// Attempts one agent runs at once.
    pub agent_concurrency: u32,
    /// Sessions this host holds at once.
    pub max_agents: usize,
    /// Sockets that have not said HELLO yet.
    pub max_unauthenticated: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            ws_url: String::new(),
            heartbeat: Duration::from_millis(wire::limits::HEARTBEAT_MS),
            telemetry: Duration::from_secs(30),
            telemetry_jitter: Duration::from_secs(3),
            agent_concurrency: 4,
            max_agents: 20_000,
            max_unauthenticated: 256,
        }
    }
}

/// What every session shares.
pub struct Gateway {
    /// Settings.
    pub options: Options,
    /// Sessions there are.
    pub connected: Arc<Connected>,
    /// Attempts running over all of them.
    pub slots: Arc<Slots>,
    /// Who there is.
    pub directory: Arc<Directory>,
    /// Opens and closes sessions.
    pub presence: Arc<Presence>,
    /// Takes reports.
    pub progress: Arc<Progress>,
    /// Takes telemetry.
    pub ingest: Arc<Ingest>,
    /// Reads what waits.
    pub dispatch: Arc<Dispatch>,
    /// Enrols machines.
    pub enrol: Arc<Enrol>,
    /// What waits for a store that is away.
    pub patience: Arc<Patience>,
    /// The cluster's key.
    pub seal: Arc<dyn Seal>,
    /// Gives agents certificates, where they show such.
    pub certificates: Option<Certificates>,
    /// Unwraps the keys of secrets.
    pub vault: Arc<dyn Vault>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Nonces.
    pub ids: Arc<dyn Ids>,
    /// Room for sockets without HELLO.
    pub unauthenticated: Semaphore,
    /// Room for agents that wait for approval.
    pub anteroom: Semaphore,
    /// Every session, so that the host can wait for their ends.
    pub sessions: TaskTracker,
    /// Set when the host leaves: every session says GOODBYE and ends.
    pub stop: CancellationToken,
}
