//! One process from spawn to the last of its group: output, input, timeout, cancel.
//!
//! ```text
//!   running ──exit──▶ leftovers? ──none──▶ drained? ──▶ over
//!      │                 │TERM, grace, KILL     │200 ms: holders of the pipes are killed
//!      └─timeout, kill──▶┘                      └1 s: the pipes are given up
//! ```

use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use crate::spool::Keeper;
use crate::supervisor::process::{self, Exit, Leader, Reaper};

/// How often leftovers are looked for while there may be some.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Longest time a group gets to follow its leader by itself.
const LEFTOVER_GRACE: Duration = Duration::from_secs(2);
/// From the end of the group to the end of whoever still holds its pipes.
const HOLDERS_AFTER: Duration = Duration::from_millis(200);
/// From the end of the holders to giving the pipes up.
const GIVE_UP_AFTER: Duration = Duration::from_secs(1);
/// From KILL to admitting that something cannot be killed.
const UNKILLABLE_AFTER: Duration = Duration::from_secs(5);
const BUFFER_BYTES: usize = 16 * 1024;

/// Somebody wants the attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kill {
    /// From TERM to KILL.
    pub grace: Duration,
    /// Who.
    pub why: Why,
}

/// Who wants an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The host said CANCEL.
    Cancel,
    /// The supervisor itself is being stopped.
    Shutdown,
}

/// Readable bytes of both streams, for the agent to be told.
#[derive(Debug, Default)]
pub struct Totals {
    /// Of standard output and standard error.
    pub readable: [AtomicU64; 2],
    /// Woken when one of them changes.
    pub changed: Arc<Notify>,
}

/// Why a step is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepOver {
    /// Its process ended by itself.
    Exited,
    /// It was killed at a timeout.
    TimedOut,
    /// It was killed because somebody wanted it.
    Killed(Why),
    /// It was killed and did not die.
    Unkillable,
}

/// What ends a step besides itself.
#[derive(Debug)]
pub struct Bounds {
    /// Step or run timeout, whichever is sooner.
    pub limit: Instant,
    /// From TERM to KILL at the limit.
    pub grace: Duration,
    /// Set when somebody wants the attempt ended.
    pub kill: watch::Receiver<Option<Kill>>,
}

#[derive(Clone, Copy)]
enum Ending {
    No,
    Asked { over: StepOver, kill_at: Instant },
    Forced { over: StepOver, since: Instant },
}

/// Follows `leader` to the end of its whole group.
pub async fn follow(
    leader: Leader,
    stdin: Option<&str>,
    mut bounds: Bounds,
    keepers: &mut [Keeper; 2],
    totals: &Totals,
    reaper: &Reaper,
) -> (Option<Exit>, StepOver) {
    let group = leader.pid;
    let inodes: Vec<u64> = [&leader.stdout, &leader.stderr].into_iter().filter_map(process::pipe_inode).collect();
    let mut exit_told = leader.exit;
    let mut pipes = [receiver(leader.stdout), receiver(leader.stderr)];
    let mut buffers = [vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]];
    let feeding = feed(leader.stdin, stdin.unwrap_or_default());
    tokio::pin!(feeding);
    let (mut fed, mut exit, mut ending) = (false, None, Ending::No);
    let mut group_gone: Option<Instant> = None;
    let mut holders_killed = false;
    let mut look = Box::pin(sleep_until(bounds.limit));
    loop {
        let [out, err] = &mut pipes;
        let [out_buffer, err_buffer] = &mut buffers;
        let kill_at = match ending {
            Ending::Asked { kill_at, .. } => Some(kill_at),
            Ending::No | Ending::Forced { .. } => None,
        };
        let looking = exit.is_some() || matches!(ending, Ending::Forced { .. });
        tokio::select! {
            count = read(out, out_buffer) => take(count, &mut pipes[0], &buffers[0], &mut keepers[0], &totals.readable[0], &totals.changed),
            count = read(err, err_buffer) => take(count, &mut pipes[1], &buffers[1], &mut keepers[1], &totals.readable[1], &totals.changed),
            () = &mut feeding, if !fed => fed = true,
            told = &mut exit_told, if exit.is_none() => {
                exit = told.ok();
                look.as_mut().reset(Instant::now());
            }
            () = sleep_until(bounds.limit), if matches!(ending, Ending::No) && exit.is_none() => {
                reaper.reap();
                if let Ok(told) = exit_told.try_recv() {
                    exit = Some(told);
                    look.as_mut().reset(Instant::now());
                } else {
                    process::signal_group(group, Signal::SIGTERM);
                    ending = Ending::Asked { over: StepOver::TimedOut, kill_at: Instant::now() + bounds.grace };
                }
            }
            kill = wanted(&mut bounds.kill) => {
                // What had ended by itself before this moment keeps its own end.
                reaper.reap();
                if exit.is_none() && let Ok(told) = exit_told.try_recv() {
                    exit = Some(told);
                    look.as_mut().reset(Instant::now());
                }
                let sooner = Instant::now() + kill.grace;
                ending = match ending {
                    Ending::No if exit.is_none() => {
                        process::signal_group(group, Signal::SIGTERM);
                        Ending::Asked { over: StepOver::Killed(kill.why), kill_at: sooner }
                    }
                    Ending::Asked { over, kill_at } => Ending::Asked { over, kill_at: kill_at.min(sooner) },
                    Ending::No | Ending::Forced { .. } => ending,
                };
            }
            () = at(kill_at) => {
                process::signal_group(group, Signal::SIGKILL);
                if let Ending::Asked { over, .. } = ending {
                    ending = Ending::Forced { over, since: Instant::now() };
                    look.as_mut().reset(Instant::now());
                }
            }
            () = &mut look, if looking => {
                look.as_mut().reset(Instant::now() + LOOK_EVERY);
            }
        }
        let drained = pipes.iter().all(Option::is_none);
        if exit.is_some() && group_gone.is_none() {
            reaper.reap();
            if !process::group_is_alive(group) {
                group_gone = Some(Instant::now());
            } else if matches!(ending, Ending::No) {
                process::signal_group(group, Signal::SIGTERM);
                let grace = bounds.grace.min(LEFTOVER_GRACE);
                ending = Ending::Asked { over: StepOver::Exited, kill_at: Instant::now() + grace };
            }
        }
        if let Some(since) = group_gone {
            if drained {
                return (exit, over(ending));
            }
            let waited = since.elapsed();
            if waited >= HOLDERS_AFTER && !holders_killed {
                process::kill_pipe_holders(&inodes);
                holders_killed = true;
            }
            if waited >= HOLDERS_AFTER + GIVE_UP_AFTER {
                tracing::warn!(group = group.as_raw(), "output pipes stay open after their group is gone; given up");
                return (exit, over(ending));
            }
        } else if let Ending::Forced { over, since } = ending
            && since.elapsed() >= UNKILLABLE_AFTER
        {
            tracing::error!(group = group.as_raw(), "a process group did not die of KILL");
            let over = if exit.is_some() { over } else { StepOver::Unkillable };
            return (exit, over);
        }
    }
}

fn over(ending: Ending) -> StepOver {
    match ending {
        Ending::No => StepOver::Exited,
        Ending::Asked { over, .. } | Ending::Forced { over, .. } => over,
    }
}

fn receiver(pipe: OwnedFd) -> Option<pipe::Receiver> {
    pipe::Receiver::from_owned_fd(pipe).inspect_err(|error| tracing::error!(%error, "cannot read a child's pipe")).ok()
}

async fn read(pipe: &mut Option<pipe::Receiver>, buffer: &mut [u8]) -> io::Result<usize> {
    match pipe {
        Some(pipe) => pipe.read(buffer).await,
        None => pending().await,
    }
}

fn take(
    count: io::Result<usize>,
    pipe: &mut Option<pipe::Receiver>,
    buffer: &[u8],
    keeper: &mut Keeper,
    readable: &AtomicU64,
    changed: &Notify,
) {
    match count {
        Ok(count) if count > 0 => {
            keeper.write(&buffer[..count]);
            readable.store(keeper.readable(), Ordering::Release);
            changed.notify_one();
        }
        Ok(_) | Err(_) => *pipe = None,
    }
}

/// Writes the whole input and closes it. A child that stops reading is its own business.
async fn feed(pipe: Option<OwnedFd>, text: &str) {
    if let Some(mut sender) = pipe.and_then(|pipe| pipe::Sender::from_owned_fd(pipe).ok()) {
        let _ = sender.write_all(text.as_bytes()).await;
    }
}

/// Waits until somebody newly wants the attempt ended.
async fn wanted(kill: &mut watch::Receiver<Option<Kill>>) -> Kill {
    loop {
        if kill.changed().await.is_err() {
            pending::<()>().await;
        }
        if let Some(kill) = *kill.borrow_and_update() {
            return kill;
        }
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => pending().await,
    }
}
