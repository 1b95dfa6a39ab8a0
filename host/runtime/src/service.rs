//! The plugin service: options, a service that runs until it is stopped, and the handle everybody else holds.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc as blocking;
use std::thread;
use std::time::{Duration, Instant};

use domain::nearest::nearest;
use domain::verb::VerbName;
use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use plan::policy::Rules;
use ports::clock::Clock;
use ports::plugins::{PluginStatus, Plugins, ResolveError, Verb};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::compile::{CacheError, CacheOptions, Compile, Compiler};
use crate::engine::{Allocation, EngineError, Sandbox};
use crate::folder::{self, FolderId};
use crate::gates::Gates;
use crate::gates::operator::DefaultGrants;
use crate::loader::{Loader, Memory, Report};
use crate::pool::{self, Pool};
use crate::published::Published;
pub use crate::published::Transition;
use crate::registry::Snapshot;
use crate::settle::{QUIET, Settle};
use crate::verbs::Machinery;

/// From one regular look at the folder to the next.
const RESCAN: Duration = Duration::from_secs(30);
/// The same where no events come.
const POLL: Duration = Duration::from_secs(2);
/// How long plugins go on serving when all of them vanished at once.
const LOST_AFTER: Duration = Duration::from_secs(60);
/// Changed paths that may wait to be noted; more than that is noted as "look at everything".
const HINTS: usize = 1024;
/// Callers that may wait for a scan.
const CALLERS: usize = 64;
/// Stack of the thread that leads files through the gates, which compiles and runs them.
pub(crate) const GATE_STACK: usize = 16 * 1024 * 1024;

/// How the service works.
#[derive(Clone)]
pub struct Options {
    /// The plugin folder. Only ever read.
    pub folder: PathBuf,
    /// What a plugin may plan while its operator has not said.
    pub default_grants: DefaultGrants,
    /// Where compiling happens.
    pub compile: Compile,
    /// Where compiled plugins are kept, if anywhere.
    pub cache: Option<CacheOptions>,
    /// Looks every two seconds instead of waiting for events: for network mounts.
    pub poll: bool,
    /// How long plugins go on serving when all of them vanished at once.
    pub lost_after: Duration,
    /// Threads that run guests; one more than there are cores when absent.
    pub threads: Option<usize>,
    /// The host's clock.
    pub clock: Arc<dyn Clock>,
}

impl Options {
    /// Options for `folder` with every choice at its default: no grants, compiling in this process, no cache.
    pub fn new(folder: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Options {
        Options {
            folder: folder.into(),
            default_grants: DefaultGrants::None,
            compile: Compile::InProcess,
            cache: None,
            poll: false,
            lost_after: LOST_AFTER,
            threads: None,
            clock,
        }
    }

    /// Sets up engine, threads and handle. The folder is not touched before [`Service::run`].
    ///
    /// # Errors
    /// When the engine, its threads or the cache cannot be had.
    pub fn build(self) -> Result<(Service, Handle), BuildError> {
        let threads = self.threads.unwrap_or_else(pool::default_threads);
        let sandbox = Sandbox::new(threads)?;
        let compiler = Compiler::new(self.compile, self.cache)?;
        let pool = Arc::new(Pool::start(threads, pool::QUEUE)?);
        let published = Arc::new(Published::new());
        let (rescan, rescans) = mpsc::channel(CALLERS);
        let handle = Handle { published: Arc::clone(&published), rescan, allocation: sandbox.allocation() };
        let loader = Loader {
            folder: self.folder,
            gates: Gates::new(sandbox.clone(), compiler),
            machinery: Machinery { sandbox, pool },
            defaults: self.default_grants,
            clock: self.clock,
            lost_after: self.lost_after,
            published,
            memory: Memory::default(),
        };
        Ok((Service { loader, rescans, poll: self.poll }, handle))
    }
}

/// The service could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// No engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// No cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// No threads.
    #[error("plugin threads cannot be started: {0}")]
    Threads(#[from] io::Error),
}

/// The part that watches and loads. Inert until it is run.
pub struct Service {
    loader: Loader,
    rescans: mpsc::Receiver<oneshot::Sender<()>>,
    poll: bool,
}

impl Service {
    /// Loads what is in the folder, then follows it until `stop`.
    ///
    /// # Errors
    /// When the loader's thread cannot be started or is lost.
    pub async fn run(self, stop: CancellationToken) -> io::Result<()> {
        let Service { mut loader, mut rescans, poll } = self;
        let mut watch = Watch::new(loader.folder.clone(), poll);
        let (orders, inbox) = blocking::sync_channel::<Order>(1);
        let thread = thread::Builder::new().name("plugin-loader".into()).stack_size(GATE_STACK);
        // Not joined: it ends with `orders`, and a compilation under way need not hold up a shutdown.
        thread.spawn(move || {
            while let Ok(Order { unsettled, done }) = inbox.recv() {
                // Nobody listens any more once the service was stopped.
                _ = done.send(loader.scan(&unsettled));
            }
        })?;
        let mut settle = Settle::default();
        let mut callers: Vec<oneshot::Sender<()>> = Vec::new();
        let mut due = Instant::now();
        loop {
            let wake = settle.next().map_or(due, |next| next.min(due));
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                Some(path) = watch.hints.recv() => {
                    settle.touch(path, Instant::now());
                    continue;
                }
                Some(caller) = rescans.recv() => {
                    // Whoever asks wants to know how things are now, settled or not.
                    callers.push(caller);
                    while let Ok(caller) = rescans.try_recv() {
                        callers.push(caller);
                    }
                    settle = Settle::default();
                }
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            watch.renew();
            let (done, report) = oneshot::channel();
            let unsettled = settle.release(Instant::now());
            if orders.try_send(Order { unsettled, done }).is_err() {
                return Err(io::Error::other("the plugin loader's thread is lost"));
            }
            let Report { again } = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                report = report => report.map_err(|_| io::Error::other("the plugin loader's thread is lost"))?,
            };
            for caller in callers.drain(..) {
                // A caller who went away has its answer: it did not want one.
                _ = caller.send(());
            }
            let overflowed = watch.overflowed.swap(false, Ordering::Relaxed).then_some(QUIET);
            let wait = [again, overflowed].into_iter().flatten().fold(watch.interval(), Duration::min);
            due = Instant::now() + wait;
        }
    }
}

/// One scan to be made.
struct Order {
    unsettled: Vec<String>,
    done: oneshot::Sender<Report>,
}

/// The eye on the folder. What it reports are hints; losing one costs time, not truth.
struct Watch {
    folder: PathBuf,
    poll: bool,
    watcher: Option<(RecommendedWatcher, FolderId)>,
    hint: mpsc::Sender<String>,
    hints: mpsc::Receiver<String>,
    overflowed: Arc<AtomicBool>,
}

impl Watch {
    fn new(folder: PathBuf, poll: bool) -> Watch {
        let (hint, hints) = mpsc::channel(HINTS);
        Watch { folder, poll, watcher: None, hint, hints, overflowed: Arc::default() }
    }

    /// How often to look without being told to.
    fn interval(&self) -> Duration {
        if self.watcher.is_some() { RESCAN } else { POLL }
    }

    /// Watches the folder that has the name now. Called before each scan, so that what happens after
    /// the scan has looked is seen by the watch, and a folder that was replaced is watched again.
    fn renew(&mut self) {
        if self.poll {
            return;
        }
        let Ok(id) = folder::identify(&self.folder) else {
            self.watcher = None;
            return;
        };
        if self.watcher.as_ref().is_some_and(|(_, watched)| *watched == id) {
            return;
        }
        let (hint, overflowed) = (self.hint.clone(), Arc::clone(&self.overflowed));
        let watching =
            notify::recommended_watcher(move |event| pass_on(event, &hint, &overflowed)).and_then(|mut watcher| {
                watcher.watch(&self.folder, RecursiveMode::NonRecursive)?;
                Ok(watcher)
            });
        self.watcher = match watching {
            Ok(watcher) => Some((watcher, id)),
            Err(error) => {
                tracing::warn!(folder = %self.folder.display(), error = %error, "plugin folder cannot be watched; looking every 2 s");
                None
            }
        };
    }
}

/// Turns an event into names of files worth a look.
fn pass_on(event: notify::Result<Event>, hint: &mpsc::Sender<String>, overflowed: &AtomicBool) {
    let Ok(event) = event else {
        overflowed.store(true, Ordering::Relaxed);
        return;
    };
    if event.need_rescan() {
        overflowed.store(true, Ordering::Relaxed);
    }
    // Reading is not changing; our own reading least of all.
    if matches!(event.kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write)) {
        return;
    }
    for name in event.paths.iter().filter_map(|path| path.file_name()).filter_map(|name| name.to_str()) {
        if !folder::is_ignored(name) && hint.try_send(name.to_owned()).is_err() {
            overflowed.store(true, Ordering::Relaxed);
        }
    }
}

/// The service does not run, or not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("plugin service is not running")]
pub struct NotRunning;

/// What everybody else holds. Cloning it is cheap.
#[derive(Clone)]
pub struct Handle {
    published: Arc<Published>,
    rescan: mpsc::Sender<oneshot::Sender<()>>,
    allocation: Allocation,
}

impl Handle {
    /// Looks at the folder now and comes back when what was found is in force.
    ///
    /// # Errors
    /// When the service does not run.
    ///
    /// # Cancel safety
    /// The scan is made whether or not anybody waits for it.
    pub async fn rescan(&self) -> Result<(), NotRunning> {
        let (done, scanned) = oneshot::channel();
        self.rescan.send(done).await.map_err(|_| NotRunning)?;
        scanned.await.map_err(|_| NotRunning)
    }

    /// Tells of every new generation.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.published.changes()
    }

    /// Transitions later than the one numbered `after`, oldest first; the last 512 are kept.
    pub fn transitions(&self, after: u64) -> Vec<Transition> {
        self.published.transitions(after)
    }

    /// Whether instances come from reserved memory; if not, every call is several times slower.
    pub fn allocation(&self) -> Allocation {
        self.allocation
    }
}

impl Plugins for Handle {
    fn resolve(&self, name: &str) -> Result<Arc<dyn Verb>, ResolveError> {
        let snapshot = self.published.now();
        if let Some(verb) = snapshot.verbs.get(name) {
            return Ok(Arc::clone(verb) as Arc<dyn Verb>);
        }
        let name = name.to_owned();
        match snapshot.gone.get(&name) {
            Some(why) => Err(ResolveError::Unavailable { why: why.clone(), name }),
            None => {
                Err(ResolveError::Unknown { nearest: nearest(&name, snapshot.verbs.keys().map(String::as_str)), name })
            }
        }
    }

    fn pinned(&self, name: &VerbName, digest: &str) -> Option<Arc<dyn Verb>> {
        let snapshot = self.published.now();
        let now = snapshot.verbs.get(name.as_str());
        if let Some(verb) = now.filter(|verb| verb.plugin().digest == digest) {
            return Some(Arc::clone(verb) as Arc<dyn Verb>);
        }
        let pinned = snapshot.version(digest).and_then(|version| Snapshot::verb_of(&version, name.as_str()));
        pinned.or_else(|| now.cloned()).map(|verb| verb as Arc<dyn Verb>)
    }

    fn verbs(&self) -> Vec<Arc<dyn Verb>> {
        self.published.now().verbs.values().map(|verb| Arc::clone(verb) as Arc<dyn Verb>).collect()
    }

    fn plugins(&self) -> Vec<PluginStatus> {
        let snapshot = self.published.now();
        let mut plugins: Vec<PluginStatus> = snapshot
            .entries
            .iter()
            .map(|(file, entry)| {
                let build = entry.serving.as_ref().map(|version| &version.build);
                let verbs = build.map(|build| build.verbs.iter().map(|verb| verb.traits.name.to_string()).collect());
                PluginStatus {
                    name: entry.plugin.clone(),
                    state: entry.state.as_str(),
                    active: build.map(|build| build.identity.clone()),
                    file: file.clone(),
                    verbs: verbs.unwrap_or_default(),
                    grant: Rules::clone(&entry.grant),
                    faults: build.map_or(0, |build| build.faults.total.load(Ordering::Relaxed)),
                    refusal: entry.refusal.clone(),
                }
            })
            .collect();
        plugins.sort_by(|a, b| (&a.name, &a.file).cmp(&(&b.name, &b.file)));
        plugins
    }

    fn grant(&self, plugin: &str) -> Option<Arc<Rules>> {
        self.published.now().grants.get(plugin).cloned()
    }

    fn generation(&self) -> u64 {
        self.published.now().generation
    }
}

/// The folder's path is for people only; nothing opens it through this.
impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let folder: &Path = &self.folder;
        f.debug_struct("Options")
            .field("folder", &folder)
            .field("default_grants", &self.default_grants)
            .field("compile", &self.compile)
            .field("poll", &self.poll)
            .finish_non_exhaustive()
    }
}
