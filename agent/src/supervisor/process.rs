//! Processes and their groups: spawning, signalling, reaping, and finding who still holds a pipe.
//!
//! The supervisor is the reaper of everything its children leave behind (child subreaper), so it waits
//! for any process, not only for those it spawned.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::sync::oneshot;

use crate::supervisor::protocol::LaunchStep;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

/// A spawned process that leads its own group.
#[derive(Debug)]
pub struct Leader {
    /// Its id, which is its group's id too.
    pub pid: Pid,
    /// Write end of its standard input, if it has one.
    pub stdin: Option<OwnedFd>,
    /// Read end of its standard output.
    pub stdout: OwnedFd,
    /// Read end of its standard error.
    pub stderr: OwnedFd,
    /// How it ended, once it was reaped.
    pub exit: oneshot::Receiver<Exit>,
}

/// Spawns and reaps. Clones share one table.
#[derive(Clone, Debug, Default)]
pub struct Reaper {
    waiting: Arc<Mutex<HashMap<i32, oneshot::Sender<Exit>>>>,
}

impl Reaper {
    /// Spawns `step` in its own process group, with exactly the environment it names.
    ///
    /// # Errors
    /// What the system answered: no such file, not executable, no such directory, no more processes.
    pub fn spawn(&self, step: &LaunchStep, work: &Path) -> io::Result<Leader> {
        let cwd = step.cwd.as_deref().map_or(work, Path::new);
        let mut command = Command::new(&step.program);
        command.arg0(&step.name).args(&step.args).env_clear().envs(&step.env).current_dir(cwd).process_group(0);
        command.stdin(if step.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        // Spawning and entering into the table happen without a pause between them, and the one thread
        // that spawns is the one that reaps, so no end can slip through.
        let mut child = command.spawn()?;
        let pid = i32::try_from(child.id()).expect("process ids are below 2^22");
        let (sender, exit) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(pid, sender);
        Ok(Leader {
            pid: Pid::from_raw(pid),
            stdin: child.stdin.take().map(OwnedFd::from),
            stdout: child.stdout.take().expect("standard output was piped").into(),
            stderr: child.stderr.take().expect("standard error was piped").into(),
            exit,
        })
    }

    /// Reaps everything that has ended. To be called at every SIGCHLD, and before a group is signalled.
    pub fn reap(&self) {
        while let Ok(status) = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            let (pid, exit) = match status {
                WaitStatus::Exited(pid, code) => (pid, Exit::Code(code)),
                WaitStatus::Signaled(pid, signal, _) => (pid, Exit::Signal(signal as i32)),
                WaitStatus::StillAlive => return,
                _ => continue,
            };
            let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid.as_raw());
            if let Some(sender) = waiting {
                // Nobody listens any longer only when the attempt was given up.
                let _ = sender.send(exit);
            }
        }
    }
}

/// Sends `signal` to a whole group. A group that is gone is no error.
pub fn signal_group(group: Pid, signal: Signal) {
    if let Err(error) = killpg(group, signal)
        && error != Errno::ESRCH
    {
        tracing::warn!(group = group.as_raw(), %signal, %error, "cannot signal a process group");
    }
}

/// Whether any process of the group is left.
pub fn group_is_alive(group: Pid) -> bool {
    killpg(group, None) != Err(Errno::ESRCH)
}

/// Kills every process that still has an end of one of `pipes` open, by inode; this process excepted.
/// It finds what left its group and its parents but kept the output it was given.
pub fn kill_pipe_holders(pipes: &[u64]) {
    let Ok(processes) = std::fs::read_dir("/proc") else { return };
    let own = std::process::id();
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(files) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let holds = |inode: &u64| format!("pipe:[{inode}]");
        let links: Vec<String> = pipes.iter().map(holds).collect();
        let held = files
            .flatten()
            .filter_map(|file| std::fs::read_link(file.path()).ok())
            .any(|link| link.to_str().is_some_and(|link| links.iter().any(|held| held == link)));
        if held && pid != own {
            tracing::warn!(pid, "killing a process that left its group but kept its attempt's output open");
            let _ = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
        }
    }
}

/// The inode of a pipe.
pub fn pipe_inode(pipe: &OwnedFd) -> Option<u64> {
    let copy = pipe.try_clone().ok()?;
    std::fs::File::from(copy).metadata().ok().map(|metadata| metadata.ino())
}

/// When a process started, in clock ticks since boot; `None` when there is no such process.
pub fn start_ticks(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in brackets and may hold anything, so count from its end.
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}
