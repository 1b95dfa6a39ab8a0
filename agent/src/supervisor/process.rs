//! Guards and what they run: spawning them, ordering them, hearing them, signalling and reaping them.
//!
//! The supervisor's only children are guards. A guard's word that nothing is left below it, or its exit, is the end of
//! everything that it started. One that was never signalled and gave that word is kept for another step. A guard that
//! somebody kills leaves its children to the supervisor, which is the next reaper above; they are then ended one by one.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getpid, pipe2};
use rustix::process::{WaitOptions, wait};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use crate::guard::order::{self, Streams};
use crate::guard::{self, Start, Word};
use crate::supervisor::spare::Spares;

/// From KILL to admitting that something cannot be killed.
pub const UNKILLABLE_AFTER: Duration = Duration::from_secs(5);
/// How often a guard that was killed itself is cleaned up after, until nothing is found.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

/// A running guard.
#[derive(Debug)]
pub struct Guard {
    /// Its process id.
    pub pid: Pid,
    /// The way it gets its orders by.
    pub orders: OwnedFd,
    /// What it tells.
    pub words: Words,
    /// Its end.
    pub gone: Gone,
}

/// The end of a guard.
#[derive(Debug)]
pub struct Gone(Option<oneshot::Receiver<()>>);

/// A guard that was given an order, and the ends of what connects its process to us.
#[derive(Debug)]
pub struct Guarded {
    /// The guard.
    pub guard: Guard,
    /// Write end of the process's standard input, if it has one.
    pub stdin: Option<OwnedFd>,
    /// Read end of its standard output.
    pub stdout: OwnedFd,
    /// Read end of its standard error.
    pub stderr: OwnedFd,
}

/// What a guard tells, line by line.
#[derive(Debug)]
pub struct Words {
    pipe: pipe::Receiver,
    unread: Vec<u8>,
}

/// Spawns and reaps. Clones share one table.
#[derive(Clone, Debug, Default)]
pub struct Reaper {
    guards: Arc<Mutex<HashMap<i32, oneshot::Sender<()>>>>,
    spares: Arc<Mutex<Spares<Guard>>>,
}

impl Reaper {
    /// Has a guard start `start`. What became of that is told in its first word.
    ///
    /// # Errors
    /// What the system answered to the wish for a guard: no more processes, descriptors or memory.
    pub fn start(&self, start: &Start, with_stdin: bool) -> io::Result<Guarded> {
        let pipe = || pipe2(OFlag::O_CLOEXEC);
        let ((stdout, its_stdout), (stderr, its_stderr)) = (pipe()?, pipe()?);
        let (its_stdin, stdin) = with_stdin.then(pipe).transpose()?.unzip();
        let streams =
            Streams { stdin: its_stdin.map(File::from), stdout: its_stdout.into(), stderr: its_stderr.into() };
        let guard = loop {
            let spare = lock(&self.spares).take();
            let is_spare = spare.is_some();
            let guard = spare.map_or_else(|| self.spawn(), Ok)?;
            if is_spare {
                // Somebody may have stopped it: what it is to start would never begin, and nothing would say so.
                self.signal(guard.pid, Signal::SIGCONT);
            }
            match order::give(&guard.orders, start, &streams) {
                Ok(()) => break guard,
                // It was killed since it was put aside, and has heard nothing.
                Err(error) if is_spare => tracing::warn!(guard = guard.pid.as_raw(), %error, "a spare guard is gone"),
                Err(error) => return Err(error),
            }
        };
        Ok(Guarded { guard, stdin, stdout, stderr })
    }

    /// Spawns a guard that waits for its first order.
    fn spawn(&self) -> io::Result<Guard> {
        let (words, report) = pipe2(OFlag::O_CLOEXEC)?;
        let words = Words { pipe: pipe::Receiver::from_owned_fd(words)?, unread: Vec::new() };
        let (orders, its_orders) = order::way()?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0("viworks-agent").arg(guard::NAME).arg(getpid().to_string());
        // The process gets its environment from its guard, and the guard needs none.
        command.env_clear().process_group(0);
        command.stdin(its_orders).stdout(report).stderr(Stdio::null());
        // Spawning and entering into the table happen without a pause between them, and the one thread
        // that spawns is the one that reaps, so no end can slip through.
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).expect("process ids are below 2^22");
        let (sender, gone) = oneshot::channel();
        lock(&self.guards).insert(pid, sender);
        Ok(Guard { pid: Pid::from_raw(pid), orders, words, gone: Gone(Some(gone)) })
    }

    /// Keeps a guard for another step: one that has said that nothing is left below it, and that was never signalled.
    /// A guard that is dropped instead ends by itself.
    pub fn keep(&self, guard: Guard) {
        lock(&self.spares).put(guard, Instant::now());
    }

    /// When a guard has been kept for long enough.
    pub fn spare_until(&self) -> Option<Instant> {
        lock(&self.spares).until()
    }

    /// Lets guards go that were kept for long enough.
    pub fn let_go(&self) {
        lock(&self.spares).let_go(Instant::now());
    }

    /// Signals a guard that was not reaped yet. One that was is no error: there is nothing left to signal.
    pub fn signal(&self, guard: Pid, signal: Signal) {
        if lock(&self.guards).contains_key(&guard.as_raw())
            && let Err(error) = kill(guard, signal)
        {
            tracing::warn!(guard = guard.as_raw(), %signal, %error, "cannot signal a guard");
        }
    }

    /// Reaps everything that has ended. To be called at every SIGCHLD.
    pub fn reap(&self) {
        loop {
            let pid = match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, _))) => pid.as_raw_nonzero().get(),
                Err(rustix::io::Errno::INTR) => continue,
                Ok(None) | Err(_) => return,
            };
            if let Some(sender) = lock(&self.guards).remove(&pid) {
                // Nobody listens any longer only when the attempt was given up.
                let _ = sender.send(());
            }
        }
    }

    /// Kills everything whose guard was killed: it is a child of ours now, and no guard. Answers whether
    /// there was anything.
    pub fn kill_orphans(&self) -> bool {
        let known = lock(&self.guards);
        let orphans: Vec<Pid> =
            guard::children(getpid()).into_iter().filter(|pid| !known.contains_key(&pid.as_raw())).collect();
        for orphan in &orphans {
            for pid in [*orphan].into_iter().chain(guard::below(*orphan)) {
                tracing::warn!(pid = pid.as_raw(), "killing a process whose guard was killed");
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
        !orphans.is_empty()
    }

    /// Kills everything whose guard was killed until nothing is found; `false` when something does not die.
    pub async fn sweep(&self) -> bool {
        let until = Instant::now() + UNKILLABLE_AFTER;
        while self.kill_orphans() {
            if Instant::now() >= until {
                return false;
            }
            sleep(LOOK_EVERY).await;
            self.reap();
        }
        true
    }

    /// Ends a guard that does not do what it is told, and everything below it; `false` when something does not die.
    /// One that is dead already is cleaned up after.
    pub async fn put_down(&self, guard: &mut Guard) -> bool {
        // A number that was reaped may be another's by now.
        let is_there = lock(&self.guards).contains_key(&guard.pid.as_raw());
        let below = if is_there { guard::below(guard.pid) } else { Vec::new() };
        // The guard first, so that it starts nothing more; what it starts until then falls to us.
        self.signal(guard.pid, Signal::SIGKILL);
        for pid in below {
            let _ = kill(pid, Signal::SIGKILL);
        }
        timeout(UNKILLABLE_AFTER, guard.gone.wait()).await.is_ok() && self.sweep().await
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gone {
    /// Waits until the guard was reaped: nothing is left below it, or it was killed itself. That stays so.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn wait(&mut self) {
        if let Some(gone) = &mut self.0 {
            let _ = gone.await;
            self.0 = None;
        }
    }
}

impl Words {
    /// The next word; `None` when the guard will say no more.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Word> {
        loop {
            if let Some(word) = self.take() {
                return Some(word);
            }
            let mut buffer = [0; 256];
            match self.pipe.read(&mut buffer).await {
                Ok(count) if count > 0 => self.unread.extend_from_slice(&buffer[..count]),
                Ok(_) | Err(_) => return None,
            }
        }
    }

    /// The next word, if it was said already. Asks the system itself: what the runtime knows may be older.
    pub fn said(&mut self) -> Option<Word> {
        let mut buffer = [0; 256];
        while let Ok(count) = nix::unistd::read(&self.pipe, &mut buffer)
            && count > 0
        {
            self.unread.extend_from_slice(&buffer[..count]);
        }
        self.take()
    }

    /// The next word that was read already.
    pub fn take(&mut self) -> Option<Word> {
        let end = self.unread.iter().position(|byte| *byte == b'\n')?;
        let word = serde_json::from_slice(&self.unread[..end]);
        self.unread.drain(..=end);
        word.inspect_err(|error| tracing::error!(%error, "a guard said something that is no word")).ok()
    }
}

/// Kills a whole group. A group that is gone is no error.
pub fn kill_group(group: Pid) {
    if let Err(error) = killpg(group, Signal::SIGKILL)
        && error != Errno::ESRCH
    {
        tracing::warn!(group = group.as_raw(), %error, "cannot kill a process group");
    }
}
