//! One process from spawn to the last of what it started: output, input, timeout, cancel.
//!
//! ```text
//!   running ──exit──▶ leftovers? ──none──▶ guard clear ─▶ drained? ──▶ over
//!      │                 │TERM, grace, KILL                  └1.2 s: the pipes are given up
//!      └─timeout, kill──▶┘
//! ```
//!
//! The guard's word, or its end, proves that nothing is left, so a step is over only after it.

use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::clock::Alarm;
use crate::guard::{ASK, FORCE, Word, is_stopped};
use crate::supervisor::process::{Exit, Guarded, Reaper, UNKILLABLE_AFTER, Words};
use crate::supervisor::sink::Sink;

/// Longest time leftovers get to follow their leader by themselves.
const LEFTOVER_GRACE: Duration = Duration::from_secs(2);
/// From the guard's word or end to giving up pipes that somebody outside holds.
const GIVE_UP_AFTER: Duration = Duration::from_millis(1_200);
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
    /// The machine was without its host for longer than the command allows.
    HostGone,
    /// The supervisor itself is being stopped.
    Shutdown,
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
    /// Its guard was killed, and with it the knowledge of its end.
    Unguarded,
}

/// What ends a step besides itself.
#[derive(Debug)]
pub struct Bounds {
    /// Step or run timeout, whichever is sooner, milliseconds since boot.
    pub limit_ms: u64,
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

/// What a guard has told of its process.
#[derive(Default)]
struct Heard {
    exit: Option<Exit>,
    /// Whether that may come from what the guard was asked for.
    asking: bool,
    /// Nothing is left.
    clear: bool,
}

impl Heard {
    fn take(&mut self, word: Word) {
        match word {
            // What had ended before has its own end.
            Word::Asking => self.asking |= self.exit.is_none(),
            Word::Clear => self.clear = true,
            word => self.exit = self.exit.or_else(|| ended(word)),
        }
    }

    /// Takes everything that was said by now.
    fn take_all(&mut self, words: &mut Words) {
        let mut next = words.said();
        while let Some(word) = next {
            self.take(word);
            next = words.take();
        }
    }
}

/// Follows a started process to the end of everything it started.
pub async fn follow(
    guarded: Guarded,
    stdin: Option<&str>,
    mut bounds: Bounds,
    alarm: &mut Alarm,
    sinks: &mut [Sink; 2],
    reaper: &Reaper,
) -> (Option<Exit>, StepOver) {
    let Guarded { mut guard, stdin: input, stdout, stderr } = guarded;
    let pid = guard.pid;
    let mut pipes = [receiver(stdout), receiver(stderr)];
    let mut buffers = [vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]];
    let feeding = feed(input, stdin.unwrap_or_default());
    tokio::pin!(feeding);
    let (mut fed, mut heard, mut ending) = (false, Heard::default(), Ending::No);
    let mut is_mute = false;
    let mut empty_since: Option<Instant> = None;
    loop {
        let [out, err] = &mut pipes;
        let [out_buffer, err_buffer] = &mut buffers;
        let limit = Some(bounds.limit_ms).filter(|_| matches!(ending, Ending::No) && heard.exit.is_none());
        // When to do something by ourselves: kill, admit, give up.
        let next = match (empty_since, ending) {
            (Some(since), _) => Some(since + GIVE_UP_AFTER),
            (None, Ending::Asked { kill_at, .. }) => Some(kill_at),
            (None, Ending::Forced { since, .. }) => Some(since + UNKILLABLE_AFTER),
            (None, Ending::No) => None,
        };
        tokio::select! {
            count = read(out, out_buffer) => take(count, &mut pipes[0], &buffers[0], &mut sinks[0]),
            count = read(err, err_buffer) => take(count, &mut pipes[1], &buffers[1], &mut sinks[1]),
            () = &mut feeding, if !fed => fed = true,
            word = guard.words.next(), if empty_since.is_none() && !is_mute => match word {
                Some(word) => {
                    heard.take(word);
                    // An end and that nothing is left come in one piece, and nobody has to be asked to go then.
                    while let Some(word) = guard.words.take() {
                        heard.take(word);
                    }
                }
                // The guard is about to be reaped; `gone` tells.
                None => {
                    is_mute = true;
                    reaper.reap();
                }
            },
            () = guard.gone.wait(), if empty_since.is_none() => empty_since = Some(Instant::now()),
            () = alarm.at(limit) => {
                // What had ended by itself before this moment keeps its own end.
                heard.take_all(&mut guard.words);
                if heard.exit.is_none() {
                    reaper.signal(pid, ASK);
                    ending = Ending::Asked { over: StepOver::TimedOut, kill_at: Instant::now() + bounds.grace };
                }
            }
            kill = wanted(&mut bounds.kill) => {
                heard.take_all(&mut guard.words);
                let sooner = Instant::now() + kill.grace;
                ending = match ending {
                    Ending::No if heard.exit.is_none() => {
                        reaper.signal(pid, ASK);
                        Ending::Asked { over: StepOver::Killed(kill.why), kill_at: sooner }
                    }
                    Ending::Asked { over, kill_at } => Ending::Asked { over, kill_at: kill_at.min(sooner) },
                    Ending::No | Ending::Forced { .. } => ending,
                };
            }
            () = at(next) => match (empty_since, ending) {
                (Some(_), _) => {
                    tracing::warn!(guard = pid.as_raw(), "output pipes stay open though nothing of the attempt is left; given up");
                    return (heard.exit, over(ending, &heard));
                }
                (None, Ending::Asked { over, .. }) => {
                    reaper.signal(pid, FORCE);
                    // What it guards may have stopped it, being the same user.
                    reaper.signal(pid, Signal::SIGCONT);
                    ending = Ending::Forced { over, since: Instant::now() };
                }
                // It was stopped again, and so again it would be.
                (None, Ending::Forced { .. }) if is_stopped(pid) && reaper.put_down(&mut guard).await => {
                    empty_since = Some(Instant::now());
                }
                (None, Ending::Forced { .. }) => {
                    tracing::error!(guard = pid.as_raw(), "something of an attempt did not die of KILL");
                    return (heard.exit, if heard.exit.is_some() { over(ending, &heard) } else { StepOver::Unkillable });
                }
                (None, Ending::No) => {}
            }
        }
        if heard.clear {
            empty_since.get_or_insert_with(Instant::now);
        }
        if empty_since.is_some() {
            if heard.exit.is_none() {
                heard.take_all(&mut guard.words);
            }
            if heard.exit.is_none() {
                reaper.sweep().await;
            }
            if pipes.iter().all(Option::is_none) {
                // One that was signalled may have the signal before it still.
                if heard.clear && heard.exit.is_some() && matches!(ending, Ending::No) {
                    reaper.keep(guard);
                }
                return (heard.exit, over(ending, &heard));
            }
        } else if heard.exit.is_some() && matches!(ending, Ending::No) {
            // Leftovers; a guard that has none left meanwhile takes no notice.
            reaper.signal(pid, ASK);
            let kill_at = Instant::now() + bounds.grace.min(LEFTOVER_GRACE);
            ending = Ending::Asked { over: StepOver::Exited, kill_at };
        }
    }
}

fn ended(word: Word) -> Option<Exit> {
    match word {
        Word::Exited { code } => Some(Exit::Code(code)),
        Word::Killed { signal } => Some(Exit::Signal(signal)),
        Word::Started { .. } | Word::Refused { .. } | Word::Late | Word::Asking | Word::Clear => None,
    }
}

/// Why it is over.
fn over(ending: Ending, heard: &Heard) -> StepOver {
    match ending {
        Ending::No if heard.exit.is_none() => StepOver::Unguarded,
        Ending::No => StepOver::Exited,
        // Its own end stands.
        Ending::Asked { .. } | Ending::Forced { .. } if heard.exit.is_some() && !heard.asking => StepOver::Exited,
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

fn take(count: io::Result<usize>, pipe: &mut Option<pipe::Receiver>, buffer: &[u8], sink: &mut Sink) {
    match count {
        Ok(count) if count > 0 => sink.take(&buffer[..count]),
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
pub(super) async fn wanted(kill: &mut watch::Receiver<Option<Kill>>) -> Kill {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_of_what_was_asked_only_if_the_guard_asked_before_it() {
        let heard = |words: &[Word]| {
            let mut heard = Heard::default();
            words.iter().for_each(|word| heard.take(*word));
            heard
        };
        let asked = Ending::Asked { over: StepOver::TimedOut, kill_at: Instant::now() };
        let (exited, killed) = (Word::Exited { code: 3 }, Word::Killed { signal: 15 });
        for (words, exit, end) in [
            (&[exited, Word::Clear][..], Some(Exit::Code(3)), StepOver::Exited),
            (&[exited, Word::Asking, Word::Clear], Some(Exit::Code(3)), StepOver::Exited),
            (&[Word::Asking, exited, Word::Clear], Some(Exit::Code(3)), StepOver::TimedOut),
            (&[Word::Asking, killed], Some(Exit::Signal(15)), StepOver::TimedOut),
            (&[], None, StepOver::TimedOut),
        ] {
            let heard = heard(words);
            assert_eq!((heard.exit, over(asked, &heard)), (exit, end), "{words:?}");
            assert_eq!(heard.clear, words.last() == Some(&Word::Clear), "{words:?}");
        }
        assert_eq!(over(Ending::No, &heard(&[])), StepOver::Unguarded);
    }
}
