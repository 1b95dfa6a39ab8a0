//! Guards and what they run: spawning them, hearing them, signalling and reaping them.
//!
//! The supervisor's only children are guards, and each guard's exit is the end of everything below it. A
//! guard that somebody kills leaves its children to the supervisor, which is the next reaper above; they
//! are then ended one by one.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, pipe2};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use crate::guard::{self, Start, Word};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

/// A running guard and the ends of what connects its process to us.
#[derive(Debug)]
pub struct Guarded {
    /// The guard's process id.
    pub guard: Pid,
    /// Write end of the process's standard input, if it has one.
    pub stdin: Option<OwnedFd>,
    /// Read end of its standard output.
    pub stdout: OwnedFd,
    /// Read end of its standard error.
    pub stderr: OwnedFd,
    /// What the guard tells.
    pub words: Words,
    /// Resolves when the guard was reaped: nothing is left below it, or it was killed itself.
    pub gone: oneshot::Receiver<()>,
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
}

impl Reaper {
    /// Spawns a guard that is to start `start`. What became of that is told in its first word.
    ///
    /// # Errors
    /// What the system answered to the wish for a guard: no more processes, descriptors or memory.
    pub fn spawn(&self, start: &Start, with_stdin: bool) -> io::Result<Guarded> {
        let mut order = File::from(memfd_create(c"viworks-start", MFdFlags::MFD_CLOEXEC)?);
        order.write_all(&serde_json::to_vec(start).expect("a start holds nothing that JSON cannot"))?;
        let (words, report) = pipe2(OFlag::O_CLOEXEC)?;
        let words = Words { pipe: pipe::Receiver::from_owned_fd(words)?, unread: Vec::new() };
        let own = getpid();
        let mut command = Command::new("/proc/self/exe");
        command.arg0("viworks-agent").arg("guard");
        for number in [order.as_raw_fd(), report.as_raw_fd(), own.as_raw()] {
            command.arg(number.to_string());
        }
        // The process gets its environment from its guard, and the guard needs none.
        command.env_clear().process_group(0);
        command.stdin(if with_stdin { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        // One thread spawns and nothing else is spawned in between, so no other process inherits these.
        for fd in [order.as_fd(), report.as_fd()] {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        // Spawning and entering into the table happen without a pause between them, and the one thread
        // that spawns is the one that reaps, so no end can slip through.
        let mut child = command.spawn()?;
        let pid = i32::try_from(child.id()).expect("process ids are below 2^22");
        let (sender, gone) = oneshot::channel();
        self.lock().insert(pid, sender);
        Ok(Guarded {
            guard: Pid::from_raw(pid),
            stdin: child.stdin.take().map(OwnedFd::from),
            stdout: child.stdout.take().expect("standard output was piped").into(),
            stderr: child.stderr.take().expect("standard error was piped").into(),
            words,
            gone,
        })
    }

    /// Signals a guard that was not reaped yet. One that was is no error: there is nothing left to signal.
    pub fn signal(&self, guard: Pid, signal: Signal) {
        if self.lock().contains_key(&guard.as_raw())
            && let Err(error) = kill(guard, signal)
        {
            tracing::warn!(guard = guard.as_raw(), %signal, %error, "cannot signal a guard");
        }
    }

    /// Reaps everything that has ended. To be called at every SIGCHLD.
    pub fn reap(&self) {
        loop {
            let pid = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _)) => pid,
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(_) | Err(_) => continue,
            };
            if let Some(sender) = self.lock().remove(&pid.as_raw()) {
                // Nobody listens any longer only when the attempt was given up.
                let _ = sender.send(());
            }
        }
    }

    /// Kills everything whose guard was killed: it is a child of ours now, and no guard. Answers whether
    /// there was anything.
    pub fn kill_orphans(&self) -> bool {
        let known = self.lock();
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

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<i32, oneshot::Sender<()>>> {
        self.guards.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn take(&mut self) -> Option<Word> {
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
