//! The plugin service: options, and a service that runs until it is stopped.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc as blocking;
use std::thread;
use std::time::{Duration, Instant};

use domain::plugin::Record;
use domain::plugin::breaker::Limits;
use ports::clock::Clock;
use ports::error::StoreError;
use ports::plugin_life::PluginBook;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::compile::{CacheError, CacheOptions, Compile, Compiler};
use crate::engine::{EngineError, Sandbox};
use crate::gates::Gates;
use crate::gates::operator::DefaultGrants;
use crate::handle::{Ask, Handle};
use crate::kept::Kept;
use crate::loader::{Loader, Memory, Report};
use crate::pool::{self, Pool};
use crate::published::Published;
use crate::settle::{QUIET, Settle};
use crate::signature::{Policy, Signatures};
use crate::verbs::{Alarm, Machinery};
use crate::watch::Watch;

/// How long plugins go on serving when all of them vanished at once.
const LOST_AFTER: Duration = Duration::from_secs(60);
/// How soon a store that did not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// How often versions that are kept for somebody are asked about.
const STILL_NEEDED: Duration = Duration::from_secs(30);
/// Commands that wait, read at a time.
const WAITING: u32 = 500;
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
    /// What is asked of signatures.
    pub signatures: Signatures,
    /// Whose signatures count, and what is denied; read again whenever it changes.
    pub trust_file: Option<PathBuf>,
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
    /// When a version has failed too often.
    pub breaker: Limits,
    /// Where the bytes of earlier versions are kept, if anywhere.
    pub kept: Option<PathBuf>,
    /// What was known of plugins when the last host stopped.
    pub records: Vec<Record>,
    /// Says which commands wait, and what they were planned with; without it, nothing is taken to.
    pub book: Option<Arc<dyn PluginBook>>,
    /// The host's clock.
    pub clock: Arc<dyn Clock>,
}

impl Options {
    /// Options for `folder` with every choice at its default: no grants, compiling in this process, no cache.
    pub fn new(folder: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Options {
        Options {
            folder: folder.into(),
            default_grants: DefaultGrants::None,
            signatures: Signatures::Off,
            trust_file: None,
            compile: Compile::InProcess,
            cache: None,
            poll: false,
            lost_after: LOST_AFTER,
            threads: None,
            breaker: Limits::default(),
            kept: None,
            records: Vec::new(),
            book: None,
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
        let (asks, asked) = mpsc::channel(CALLERS);
        let handle = Handle { published: Arc::clone(&published), asks, allocation: sandbox.allocation() };
        let alarm = Arc::new(Alarm { limits: self.breaker, bell: Notify::new(), begun: Instant::now() });
        let ledger = self.records.into_iter().map(|record| (record.name.clone(), record)).collect();
        let loader = Loader {
            folder: self.folder,
            gates: Gates::new(sandbox.clone(), compiler),
            machinery: Machinery { sandbox, pool, alarm: Arc::clone(&alarm) },
            defaults: self.default_grants,
            policy: Policy::new(self.signatures, self.trust_file),
            clock: self.clock,
            lost_after: self.lost_after,
            published,
            kept: Kept::new(self.kept),
            asks: self.book.is_some(),
            memory: Memory::knowing(ledger),
        };
        Ok((Service { loader, asked, alarm, book: self.book, poll: self.poll }, handle))
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
    asked: mpsc::Receiver<Ask>,
    alarm: Arc<Alarm>,
    book: Option<Arc<dyn PluginBook>>,
    poll: bool,
}

/// Work for the loader's thread.
type Job = Box<dyn FnOnce(&mut Loader) + Send>;

impl Service {
    /// Loads what is in the folder, then follows it until `stop`.
    ///
    /// # Errors
    /// When the loader's thread cannot be started or is lost.
    pub async fn run(self, stop: CancellationToken) -> io::Result<()> {
        let Service { mut loader, asked, alarm, book, poll } = self;
        let watch = Watch::new(loader.folder.clone(), poll);
        let (jobs, inbox) = blocking::sync_channel::<Job>(1);
        let thread = thread::Builder::new().name("plugin-loader".into()).stack_size(GATE_STACK);
        // Not joined: it ends with `jobs`, and a compilation under way need not hold up a shutdown.
        thread.spawn(move || {
            while let Ok(job) = inbox.recv() {
                job(&mut loader);
            }
        })?;
        let watching = Watching { watch, asked, alarm, desk: Desk { jobs, book } };
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            ended = watching.follow() => ended,
        }
    }
}

/// The loop, and what it listens to.
struct Watching {
    watch: Watch,
    asked: mpsc::Receiver<Ask>,
    alarm: Arc<Alarm>,
    desk: Desk,
}

impl Watching {
    async fn follow(self) -> io::Result<()> {
        let Watching { mut watch, mut asked, alarm, desk } = self;
        let mut settle = Settle::default();
        let mut callers: Vec<oneshot::Sender<()>> = Vec::new();
        let (mut due, mut remembered) = (Instant::now(), desk.book.is_none());
        loop {
            let wake = settle.next().map_or(due, |next| next.min(due));
            let mut report = None;
            tokio::select! {
                Some(path) = watch.hints.recv() => {
                    settle.touch(path, Instant::now());
                    continue;
                }
                () = alarm.bell.notified() => report = Some(desk.ask(Loader::publish).await?),
                Some(ask) = asked.recv() => match ask {
                    // Whoever asks wants to know how things are now, settled or not.
                    Ask::Rescan(caller) => {
                        callers.push(caller);
                        settle = Settle::default();
                    }
                    Ask::Order { name, order, actor, done } => {
                        let carried = desk.ask(move |loader| loader.carry_out(&name, order, &actor)).await?;
                        report = carried.as_ref().ok().cloned();
                        // A caller who went away has its answer: it did not want one.
                        _ = done.send(carried.map(drop));
                        if report.is_none() {
                            continue;
                        }
                    }
                },
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            let report = match report {
                Some(report) => report,
                None => {
                    watch.renew();
                    let unsettled = settle.release(Instant::now());
                    desk.ask(move |loader| loader.scan(&unsettled)).await?
                }
            };
            let mut again = desk.follow_up(&report).await?;
            if !remembered {
                remembered = desk.remember().await?;
                again = again.or((!remembered).then_some(ASK_AGAIN));
            }
            for caller in callers.drain(..) {
                _ = caller.send(());
            }
            let overflowed = watch.overflowed.swap(false, Ordering::Relaxed).then_some(QUIET);
            let wait = [report.again, again, overflowed].into_iter().flatten().fold(watch.interval(), Duration::min);
            due = Instant::now() + wait;
        }
    }
}

/// The way to the loader's thread, and to the store for what the loader wants to know.
struct Desk {
    jobs: blocking::SyncSender<Job>,
    book: Option<Arc<dyn PluginBook>>,
}

impl Desk {
    /// Lets the loader do something and waits for its answer.
    async fn ask<T: Send + 'static>(&self, work: impl FnOnce(&mut Loader) -> T + Send + 'static) -> io::Result<T> {
        let lost = || io::Error::other("the plugin loader's thread is lost");
        let (done, answer) = oneshot::channel();
        // Nobody listens any more once the service was stopped.
        let job = move |loader: &mut Loader| _ = done.send(work(loader));
        self.jobs.try_send(Box::new(job)).map_err(|_| lost())?;
        answer.await.map_err(|_| lost())
    }

    /// Finds out what the loader wants to know. Answers how soon to try again when the store did not say.
    async fn follow_up(&self, report: &Report) -> io::Result<Option<Duration>> {
        let Some(book) = &self.book else { return Ok(None) };
        let mut again = None;
        let mut leaving = !report.leaving.is_empty();
        for (plugin, digest) in &report.questions {
            match self.weigh(book.as_ref(), plugin, digest).await? {
                Ok(broken) => {
                    let digest = digest.clone();
                    let report = self.ask(move |loader| loader.weighed(digest, broken)).await?;
                    leaving |= !report.leaving.is_empty();
                }
                Err(error) => {
                    tracing::warn!(plugin, digest, %error, "what an update would break is not known yet; the version before serves on");
                    again = Some(ASK_AGAIN);
                }
            }
        }
        if leaving {
            match book.plugin_digests_in_use().await {
                Ok(in_use) => {
                    self.ask(move |loader| loader.release(&in_use.into_iter().collect())).await?;
                    again = again.or(Some(STILL_NEEDED));
                }
                Err(error) => {
                    tracing::debug!(%error, "which plugin versions are in use is not known; all are kept");
                    again = again.or(Some(STILL_NEEDED));
                }
            }
        }
        Ok(again)
    }

    /// What the version with `digest` would break of the commands of `plugin` that are not over.
    async fn weigh(&self, book: &dyn PluginBook, plugin: &str, digest: &str) -> io::Result<Result<String, StoreError>> {
        let mut after = None;
        loop {
            let page = match book.plugin_waiting(plugin, after, WAITING).await {
                Ok(page) => page,
                Err(error) => return Ok(Err(error)),
            };
            let over = page.len() < WAITING as usize;
            after = page.last().map(|waiting| waiting.command);
            let digest = digest.to_owned();
            let broken = self.ask(move |loader| loader.weigh(&digest, &page)).await?;
            if broken.is_some() || over {
                return Ok(Ok(broken.unwrap_or_default()));
            }
        }
    }

    /// After a start, builds what commands that are not over were planned with. Whether the store said what
    /// that is.
    async fn remember(&self) -> io::Result<bool> {
        let Some(book) = &self.book else { return Ok(true) };
        match book.plugin_digests_in_use().await {
            Ok(in_use) => {
                self.ask(move |loader| loader.remember(&in_use.into_iter().collect())).await?;
                Ok(true)
            }
            Err(error) => {
                tracing::debug!(%error, "which plugin versions are in use is not known yet");
                Ok(false)
            }
        }
    }
}

/// The folder's path is for people only; nothing opens it through this.
impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let folder: &Path = &self.folder;
        f.debug_struct("Options")
            .field("folder", &folder)
            .field("default_grants", &self.default_grants)
            .field("signatures", &self.signatures)
            .field("trust_file", &self.trust_file)
            .field("compile", &self.compile)
            .field("poll", &self.poll)
            .finish_non_exhaustive()
    }
}
