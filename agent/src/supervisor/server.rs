//! The supervisor process: owns every child of one agent, outlives the agent, and exits when nobody
//! needs it.
//!
//! Invariant: an attempt is on disk as heard before anything of it is spawned, and its end is on disk
//! before it is told.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use plan::id::AttemptKey;
use plan::outcome::{Outcome, Stream};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::clock;
use crate::log::LogError;
use crate::spool::{Spool, hex};
use crate::supervisor::attempt::{Attempt, Told};
use crate::supervisor::memory::{Memo, Memory};
use crate::supervisor::peer::Peer;
use crate::supervisor::process::Reaper;
use crate::supervisor::protocol::{Event, Known, Launch, Report, Request, lock_path, socket_path};
use crate::supervisor::step::{Kill, Totals, Why};
use crate::writer::Writer;

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

/// Why a supervisor ended otherwise than because nobody needed it.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    /// There is one already, which is fine.
    #[error("another supervisor serves {}", .0.display())]
    Taken(PathBuf),
    /// Its log is not usable.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The system said no.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the system answered.
        source: std::io::Error,
    },
}

fn io(doing: &'static str) -> impl Fn(std::io::Error) -> SuperviseError {
    move |source| SuperviseError::Io { doing, source }
}

enum Held {
    Heard { launch: Box<Launch>, kill: watch::Sender<Option<Kill>> },
    Running { pid: Option<(u32, u64)>, kill: watch::Sender<Option<Kill>>, totals: Arc<Totals>, told: [u64; 2] },
    Ended { outcome: Outcome, on_disk: bool },
}

/// What to do when a record is on disk.
enum After {
    Spawn(AttemptKey),
    Tell(AttemptKey),
    Nothing,
}

struct Server {
    spool: Spool,
    work: PathBuf,
    instance: String,
    boot_id: String,
    writer: Writer<Memory>,
    after: VecDeque<After>,
    held: BTreeMap<AttemptKey, Held>,
    running: JoinSet<(AttemptKey, Outcome)>,
    tell: mpsc::Sender<(AttemptKey, Told)>,
    reaper: Reaper,
    changed: Arc<Notify>,
    peer: Option<Peer<Request, Event>>,
    stopping: bool,
}

/// Runs until nobody needs a supervisor any more, or SIGTERM.
///
/// # Errors
/// [`SuperviseError`].
pub async fn supervise(options: SuperviseOptions) -> Result<(), SuperviseError> {
    let _lock = take_lock(&options.data)?;
    nix::sys::prctl::set_child_subreaper(true).map_err(|errno| io("become the reaper of orphans")(errno.into()))?;
    let spool = Spool::open(&options.data).map_err(io("open the spool"))?;
    let work = options.data.join("work");
    std::fs::create_dir_all(&work).map_err(io("create the work directory"))?;
    let (memory, ends) = Memory::open(&options.data, &spool)?;
    let writer = Writer::start("supervisor-log", memory).map_err(io("start the log's thread"))?;
    let mut child_ended = signal(SignalKind::child()).map_err(io("listen for SIGCHLD"))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(io("listen for SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(io("listen for SIGINT"))?;
    let listener = listen(&options.data).map_err(io("listen on supervisor.sock"))?;
    let (tell, mut told) = mpsc::channel(64);
    let held = ends.into_iter().map(|(attempt, outcome)| (attempt, Held::Ended { outcome, on_disk: true })).collect();
    let mut server = Server {
        spool,
        work,
        instance: hex(&rand::random::<[u8; 16]>()),
        boot_id: clock::boot_id(),
        writer,
        after: VecDeque::new(),
        held,
        running: JoinSet::new(),
        tell,
        reaper: Reaper::default(),
        changed: Arc::new(Notify::new()),
        peer: None,
        stopping: false,
    };
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
        tokio::select! {
            done = server.writer.done() => server.on_disk(done?.len()),
            Some((attempt, told)) = told.recv() => server.on_told(attempt, told),
            Some(ended) = server.running.join_next() => match ended {
                Ok((attempt, outcome)) => {
                    // What it told before its end comes before its end.
                    while let Ok((attempt, told)) = told.try_recv() {
                        server.on_told(attempt, told);
                    }
                    server.on_ended(attempt, outcome);
                }
                Err(error) => tracing::error!(%error, "an attempt's task died; the next supervisor will settle it"),
            },
            heard = hear(&mut server.peer) => match heard {
                Ok(Some(request)) => server.on_request(request),
                Ok(None) => server.peer = None,
                Err(error) => {
                    tracing::error!(%error, "the agent's connection is unusable and was closed");
                    server.peer = None;
                }
            },
            accepted = listener.accept(), if peer_gone && !server.stopping => match accepted.and_then(|(stream, _)| Peer::new(stream)) {
                Ok(peer) => server.greet(peer),
                Err(error) => tracing::error!(%error, "cannot accept the agent's connection"),
            },
            () = server.changed.notified() => {}
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

impl Server {
    fn is_idle(&self) -> bool {
        let alive = |held: &Held| {
            matches!(held, Held::Heard { .. } | Held::Running { .. } | Held::Ended { on_disk: false, .. })
        };
        !self.held.values().any(alive) && self.running.is_empty() && !self.writer.is_busy()
    }

    fn write(&mut self, memo: Memo, after: After) {
        self.after.push_back(after);
        self.writer.push(memo);
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
                Held::Heard { .. } | Held::Running { pid: None, .. } | Held::Ended { on_disk: false, .. } => {
                    Known::Heard
                }
                Held::Running { pid: Some((pid, start_ticks)), totals, told, .. } => {
                    *told = [0, 1].map(|index: usize| totals.readable[index].load(Ordering::Acquire));
                    Known::Running { pid: *pid, start_ticks: *start_ticks, stdout: told[0], stderr: told[1] }
                }
                Held::Ended { outcome, on_disk: true } => Known::Ended { outcome: outcome.clone() },
            };
            attempts.push(Report { attempt: *attempt, state });
        }
        peer.send(&Event::Hello { instance: self.instance.clone(), pid: std::process::id(), attempts });
        self.peer = Some(peer);
    }

    fn on_request(&mut self, request: Request) {
        match request {
            Request::Start { launch } => {
                let attempt = launch.attempt;
                if self.stopping || self.held.contains_key(&attempt) {
                    tracing::warn!(%attempt, "asked to start what is known already, or while stopping; ignored");
                    return;
                }
                let memo = Memo::Heard { attempt, output_bytes: launch.output_bytes };
                self.held.insert(attempt, Held::Heard { launch, kill: watch::channel(None).0 });
                self.write(memo, After::Spawn(attempt));
            }
            Request::Kill { attempt, grace_ms } => {
                let wanted = Kill { grace: Duration::from_millis(grace_ms), why: Why::Cancel };
                if let Some(Held::Heard { kill, .. } | Held::Running { kill, .. }) = self.held.get(&attempt) {
                    kill.send_replace(Some(wanted));
                }
            }
            Request::Drop { attempt } => {
                if let Some(Held::Ended { .. }) = self.held.get(&attempt) {
                    self.held.remove(&attempt);
                    self.write(Memo::Dropped { attempt }, After::Nothing);
                }
            }
        }
    }

    fn on_disk(&mut self, count: usize) {
        for _ in 0..count {
            match self.after.pop_front() {
                Some(After::Spawn(attempt)) => self.spawn(attempt),
                Some(After::Tell(attempt)) => {
                    if let Some(Held::Ended { outcome, on_disk }) = self.held.get_mut(&attempt) {
                        *on_disk = true;
                        let event = Event::Ended { attempt, outcome: outcome.clone() };
                        self.send(&event);
                    }
                }
                Some(After::Nothing) | None => {}
            }
        }
    }

    fn spawn(&mut self, attempt: AttemptKey) {
        let Some(Held::Heard { launch, kill }) = self.held.remove(&attempt) else { return };
        let totals = Arc::new(Totals { changed: Arc::clone(&self.changed), ..Totals::default() });
        let task = Attempt {
            launch: *launch,
            spool: self.spool.clone(),
            work: self.work.clone(),
            reaper: self.reaper.clone(),
            kill: kill.subscribe_unseen(),
            totals: Arc::clone(&totals),
            tell: self.tell.clone(),
        };
        self.held.insert(attempt, Held::Running { pid: None, kill, totals, told: [0; 2] });
        self.running.spawn(task.run());
    }

    fn on_told(&mut self, attempt: AttemptKey, told: Told) {
        let (Told::Spawned { pid, start_ticks } | Told::Next { pid, start_ticks }) = told;
        let boot_id = self.boot_id.clone();
        self.write(Memo::Spawned { attempt, pid, start_ticks, boot_id }, After::Nothing);
        let Some(Held::Running { pid: known, .. }) = self.held.get_mut(&attempt) else { return };
        if known.is_none() {
            *known = Some((pid, start_ticks));
            self.send(&Event::Started { attempt, pid, start_ticks });
        }
    }

    fn on_ended(&mut self, attempt: AttemptKey, outcome: Outcome) {
        self.held.insert(attempt, Held::Ended { outcome: outcome.clone(), on_disk: false });
        self.write(Memo::Ended { attempt, outcome }, After::Tell(attempt));
    }

    fn tell_growth(&mut self) {
        let Some(peer) = &mut self.peer else { return };
        for (attempt, held) in &mut self.held {
            let Held::Running { totals, told, pid: Some(_), .. } = held else { continue };
            for (index, stream) in [Stream::Stdout, Stream::Stderr].into_iter().enumerate() {
                let bytes = totals.readable[index].load(Ordering::Acquire);
                if bytes > told[index] && peer.backlog() < MAX_BACKLOG_BYTES {
                    told[index] = bytes;
                    peer.send(&Event::Grew { attempt: *attempt, stream, bytes });
                }
            }
        }
    }

    fn stop(&mut self) {
        tracing::warn!("supervisor told to stop; ending its children");
        self.stopping = true;
        let wanted = Kill { grace: SHUTDOWN_GRACE, why: Why::Shutdown };
        for held in self.held.values() {
            if let Held::Heard { kill, .. } | Held::Running { kill, .. } = held {
                kill.send_replace(Some(wanted));
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

fn take_lock(data: &Path) -> Result<Flock<std::fs::File>, SuperviseError> {
    let path = lock_path(data);
    let mut options = std::fs::OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&path).map_err(io("open supervisor.lock"))?;
    let mut lock =
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, _)| SuperviseError::Taken(data.to_owned()))?;
    lock.set_len(0).map_err(io("write supervisor.lock"))?;
    writeln!(lock, "{}", std::process::id()).map_err(io("write supervisor.lock"))?;
    Ok(lock)
}

/// Binds the socket through the directory's own descriptor, because a socket's path may hold only 107
/// bytes and a data directory's may be longer.
fn listen(data: &Path) -> std::io::Result<UnixListener> {
    let path = socket_path(data);
    let _ = std::fs::remove_file(&path);
    let dir = std::fs::File::open(data)?;
    let listener = UnixListener::bind(format!("/proc/self/fd/{}/supervisor.sock", dir.as_raw_fd()))?;
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}
