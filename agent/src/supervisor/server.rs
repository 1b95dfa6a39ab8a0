//! The supervisor process: owns every child of one agent, outlives the agent, and exits when nobody
//! needs it.
//!
//! Invariant: an attempt is written down as heard before anything of it is spawned, and its end before it is told.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use plan::id::AttemptKey;
use plan::outcome::Outcome;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::clock::{self, Alarm};
use crate::log::LogError;
use crate::spool::Spool;
use crate::supervisor::attempt::{Attempt, Told};
use crate::supervisor::door;
use crate::supervisor::failure::{SuperviseError, io};
use crate::supervisor::growth::{PASS_EVERY, Shown, Totals};
use crate::supervisor::memory::{Memo, Memory};
use crate::supervisor::peer::Peer;
use crate::supervisor::process::Reaper;
use crate::supervisor::protocol::{Event, Known, Launch, Report, Request, socket_path};
use crate::supervisor::step::{Kill, Why};

/// How long a supervisor without children waits for an agent.
pub const LINGER: Duration = Duration::from_secs(60);
/// Growth is told only while the agent keeps up with what it was told before.
const MAX_BACKLOG_BYTES: usize = 16 * 1024;
/// From TERM to KILL when the supervisor itself is being stopped.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// How to run a supervisor.
#[derive(Clone, Debug)]
pub struct SuperviseOptions {
    /// The agent's data directory.
    pub data: PathBuf,
    /// How long to wait for an agent without children.
    pub linger: Duration,
}

enum Held {
    Running { pid: Option<(u32, u64)>, leash: Leash, totals: Arc<Totals>, told: Shown },
    Ended { outcome: Outcome },
}

/// What an attempt is ended by from outside.
struct Leash {
    kill: watch::Sender<Option<Kill>>,
    /// Without a host for this long it is ended; once it was told to, there is nothing more to tell.
    kill_after_ms: Option<u64>,
    grace: Duration,
}

struct Server {
    spool: Spool,
    work: PathBuf,
    instance: String,
    boot_id: String,
    memory: Memory,
    held: BTreeMap<AttemptKey, Held>,
    running: JoinSet<(AttemptKey, Outcome)>,
    tell: mpsc::Sender<(AttemptKey, Told)>,
    reaper: Reaper,
    changed: Arc<Notify>,
    peer: Option<Peer<Request, Event>>,
    stopping: bool,
    /// Since when the agent has had no session with its host; milliseconds since boot.
    host_gone_ms: Option<u64>,
    /// When to tell growth again though nothing changed.
    look_again: Option<Instant>,
}

/// Runs until nobody needs a supervisor any more, or SIGTERM. Standard output ends once agents are answered.
///
/// # Errors
/// [`SuperviseError`].
pub async fn supervise(options: SuperviseOptions) -> Result<(), SuperviseError> {
    let _lock = door::take_lock(&options.data)?;
    nix::sys::prctl::set_child_subreaper(true).map_err(|errno| io("become the reaper of orphans")(errno.into()))?;
    let spool = Spool::open(&options.data).map_err(io("open the spool"))?;
    let work = options.data.join("work");
    std::fs::create_dir_all(&work).map_err(io("create the work directory"))?;
    let (memory, ends) = Memory::open(&options.data, &spool)?;
    let mut child_ended = signal(SignalKind::child()).map_err(io("listen for SIGCHLD"))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(io("listen for SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(io("listen for SIGINT"))?;
    let listener = door::listen(&options.data).map_err(io("listen on supervisor.sock"))?;
    door::say_ready().map_err(io("end standard output"))?;
    let (tell, mut told) = mpsc::channel(64);
    let held = ends.into_iter().map(|(attempt, outcome)| (attempt, Held::Ended { outcome })).collect();
    let mut server = Server {
        spool,
        work,
        instance: HEXLOWER.encode(&rand::random::<[u8; 16]>()),
        boot_id: clock::boot_id(),
        memory,
        held,
        running: JoinSet::new(),
        tell,
        reaper: Reaper::default(),
        changed: Arc::new(Notify::new()),
        peer: None,
        stopping: false,
        host_gone_ms: Some(clock::now().mono_ms),
        look_again: None,
    };
    let mut leash = Alarm::default();
    tracing::info!(instance = server.instance, "supervisor ready");
    let mut idle_since = Instant::now();
    loop {
        let idle = server.is_idle();
        if idle && server.stopping {
            break;
        }
        if !idle || server.peer.is_some() {
            idle_since = Instant::now();
        }
        let peer_gone = server.peer.is_none();
        let (abandon_at, look_again) = (server.abandon_at(), server.look_again);
        let spare_until = server.reaper.spare_until();
        tokio::select! {
            Some((attempt, told)) = told.recv() => server.on_told(attempt, told)?,
            Some(ended) = server.running.join_next() => match ended {
                Ok((attempt, outcome)) => {
                    // What it told before its end comes before its end.
                    while let Ok((attempt, told)) = told.try_recv() {
                        server.on_told(attempt, told)?;
                    }
                    server.on_ended(attempt, outcome)?;
                }
                Err(error) => tracing::error!(%error, "an attempt's task died; the next supervisor will settle it"),
            },
            heard = hear(&mut server.peer) => match heard {
                Ok(Some(request)) => server.on_request(request)?,
                Ok(None) => server.agent_gone(),
                Err(error) => {
                    tracing::error!(%error, "the agent's connection is unusable and was closed");
                    server.agent_gone();
                }
            },
            accepted = listener.accept(), if peer_gone && !server.stopping => match accepted.and_then(|(stream, _)| Peer::new(stream)) {
                Ok(peer) => server.greet(peer),
                Err(error) => tracing::error!(%error, "cannot accept the agent's connection"),
            },
            () = server.changed.notified() => {}
            () = at(look_again) => {}
            () = at(spare_until) => server.reaper.let_go(),
            () = leash.at(abandon_at) => server.abandon(),
            _ = child_ended.recv() => server.reaper.reap(),
            _ = terminate.recv() => server.stop(),
            _ = interrupt.recv() => server.stop(),
            () = tokio::time::sleep_until(idle_since + options.linger), if idle && peer_gone => {
                tracing::info!("no children and no agent; supervisor exits");
                break;
            }
        }
        server.tell_growth();
    }
    // The socket goes before the lock, so that whoever finds the lock free finds no dead socket either.
    let _ = std::fs::remove_file(socket_path(&options.data));
    Ok(())
}

async fn hear(peer: &mut Option<Peer<Request, Event>>) -> std::io::Result<Option<Request>> {
    match peer {
        Some(peer) => peer.next().await,
        None => std::future::pending().await,
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

impl Server {
    fn is_idle(&self) -> bool {
        let alive = |held: &Held| matches!(held, Held::Running { .. });
        !self.held.values().any(alive) && self.running.is_empty()
    }

    fn send(&mut self, event: &Event) {
        if let Some(peer) = &mut self.peer {
            peer.send(event);
        }
    }

    fn greet(&mut self, mut peer: Peer<Request, Event>) {
        let mut attempts = Vec::with_capacity(self.held.len());
        for (attempt, held) in &mut self.held {
            let state = match held {
                Held::Running { pid: None, .. } => Known::Heard,
                Held::Running { pid: Some((pid, start_ticks)), totals, told, .. } => {
                    *told = Shown::greeted(totals);
                    let [stdout, stderr] = told.readable();
                    Known::Running { pid: *pid, start_ticks: *start_ticks, stdout, stderr }
                }
                Held::Ended { outcome } => Known::Ended { outcome: outcome.clone() },
            };
            attempts.push(Report { attempt: *attempt, state });
        }
        peer.send(&Event::Hello { instance: self.instance.clone(), pid: std::process::id(), attempts });
        self.peer = Some(peer);
    }

    fn on_request(&mut self, request: Request) -> Result<(), LogError> {
        match request {
            Request::Start { launch } => {
                let attempt = launch.attempt;
                if self.stopping || self.held.contains_key(&attempt) {
                    tracing::warn!(%attempt, "asked to start what is known already, or while stopping; ignored");
                    return Ok(());
                }
                self.memory.write(&Memo::Heard { attempt, output_bytes: launch.output_bytes })?;
                self.spawn(*launch);
            }
            Request::Kill { attempt, grace_ms } => {
                let wanted = Kill { grace: Duration::from_millis(grace_ms), why: Why::Cancel };
                if let Some(Held::Running { leash, .. }) = self.held.get(&attempt) {
                    leash.kill.send_replace(Some(wanted));
                }
            }
            Request::Host { here: true } => self.host_gone_ms = None,
            Request::Host { here: false } => self.host_gone(),
            Request::Drop { attempt } => {
                if let Some(Held::Ended { .. }) = self.held.get(&attempt) {
                    self.held.remove(&attempt);
                    self.memory.write(&Memo::Dropped { attempt })?;
                }
            }
        }
        Ok(())
    }

    fn spawn(&mut self, launch: Launch) {
        let attempt = launch.attempt;
        let grace = Duration::from_millis(launch.grace_ms);
        let leash = Leash { kill: watch::channel(None).0, kill_after_ms: launch.kill_after_ms, grace };
        let totals = Arc::new(Totals::new(Arc::clone(&self.changed)));
        let task = Attempt {
            launch,
            spool: self.spool.clone(),
            work: self.work.clone(),
            reaper: self.reaper.clone(),
            kill: leash.kill.subscribe_unseen(),
            totals: Arc::clone(&totals),
            tell: self.tell.clone(),
        };
        self.held.insert(attempt, Held::Running { pid: None, leash, totals, told: Shown::default() });
        // What has outlived its leave already is told so before it begins.
        self.abandon();
        self.running.spawn(task.run());
    }

    fn on_told(&mut self, attempt: AttemptKey, told: Told) -> Result<(), LogError> {
        let (Told::Spawned { pid, start_ticks } | Told::Next { pid, start_ticks }) = told;
        let boot_id = self.boot_id.clone();
        self.memory.write(&Memo::Spawned { attempt, pid, start_ticks, boot_id })?;
        if let Some(Held::Running { pid: known @ None, .. }) = self.held.get_mut(&attempt) {
            *known = Some((pid, start_ticks));
            self.send(&Event::Started { attempt, pid, start_ticks });
        }
        Ok(())
    }

    fn on_ended(&mut self, attempt: AttemptKey, outcome: Outcome) -> Result<(), LogError> {
        self.memory.write(&Memo::Ended { attempt, outcome: outcome.clone() })?;
        self.held.insert(attempt, Held::Ended { outcome: outcome.clone() });
        self.send(&Event::Ended { attempt, outcome });
        Ok(())
    }

    fn tell_growth(&mut self) {
        self.look_again = None;
        let Some(peer) = &mut self.peer else { return };
        let now = Instant::now();
        for (attempt, held) in &mut self.held {
            let Held::Running { totals, told, pid: Some(_), .. } = held else { continue };
            if peer.backlog() >= MAX_BACKLOG_BYTES {
                self.look_again = Some(now + PASS_EVERY);
                return;
            }
            let (events, later) = told.news(*attempt, totals, now);
            events.iter().for_each(|event| peer.send(event));
            self.look_again = [self.look_again, later].into_iter().flatten().min();
        }
    }

    fn agent_gone(&mut self) {
        self.peer = None;
        self.host_gone();
    }

    fn host_gone(&mut self) {
        self.host_gone_ms.get_or_insert_with(|| clock::now().mono_ms);
    }

    /// When the next attempt has been without a host for as long as its command allows.
    fn abandon_at(&self) -> Option<u64> {
        let gone_ms = self.host_gone_ms?;
        let allowed = |held: &Held| match held {
            Held::Running { leash, .. } => leash.kill_after_ms,
            Held::Ended { .. } => None,
        };
        self.held.values().filter_map(allowed).min().map(|allowed_ms| gone_ms.saturating_add(allowed_ms))
    }

    /// Ends every attempt that has been without a host for too long.
    fn abandon(&mut self) {
        let Some(gone_ms) = self.host_gone_ms else { return };
        let now_ms = clock::now().mono_ms;
        for (attempt, held) in &mut self.held {
            if let Held::Running { leash, .. } = held
                && leash.kill_after_ms.is_some_and(|allowed_ms| gone_ms.saturating_add(allowed_ms) <= now_ms)
            {
                tracing::warn!(%attempt, "without its host for longer than its command allows; ending it");
                leash.kill_after_ms = None;
                leash.kill.send_replace(Some(Kill { grace: leash.grace, why: Why::HostGone }));
            }
        }
    }

    fn stop(&mut self) {
        tracing::warn!("supervisor told to stop; ending its children");
        self.stopping = true;
        let wanted = Kill { grace: SHUTDOWN_GRACE, why: Why::Shutdown };
        for held in self.held.values() {
            if let Held::Running { leash, .. } = held {
                leash.kill.send_replace(Some(wanted));
            }
        }
    }
}

/// A subscription that also sees what was sent before it.
trait SubscribeUnseen<T> {
    fn subscribe_unseen(&self) -> watch::Receiver<T>;
}

impl<T> SubscribeUnseen<T> for watch::Sender<T> {
    fn subscribe_unseen(&self) -> watch::Receiver<T> {
        let mut receiver = self.subscribe();
        receiver.mark_changed();
        receiver
    }
}
