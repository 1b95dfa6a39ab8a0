//! The guard: one small process between the supervisor and a process it runs. Everything that process
//! starts, however often it forks and whatever session it opens, is and stays below the guard, because
//! orphans go to the nearest reaper above them, and that is the guard.
//!
//! ```text
//!   supervisor ─── guard ─── leader ─── …
//!                    │          └ orphans: setsid, double forks
//!                    └─────────────┘
//!   SIGUSR1: TERM to everything below      SIGTERM: KILL to everything below until nothing is left
//! ```
//!
//! When nothing is left below it, it says so, or has ended: either is the proof that a step is over. Then it is as
//! good as a new one, and waits for another order or for the end of the way those come. When the supervisor dies, the
//! kernel sends it SIGTERM: nothing runs on without somebody who answers for it.
//!
//! Invariant: one thread, no runtime, no file of the agent's is opened; at most one order at a time.

pub mod order;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, getpid, getppid};
use rustix::process::{WaitOptions, WaitStatus, wait};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::guard::order::Streams;

/// First argument of a process that is to be a guard. The second is the process id of its supervisor.
pub const NAME: &str = "guard";
/// Sends TERM to everything below the guard.
pub const ASK: Signal = Signal::SIGUSR1;
/// Kills everything below the guard.
pub const FORCE: Signal = Signal::SIGTERM;
/// Passes over the tree for one signal: what forks while it is looked at is found by the next.
const PASSES: usize = 16;

/// What a guard is to start. Read from a file descriptor, so that it stands in no argument list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The file, absolute.
    pub program: String,
    /// What the process is told it is called.
    pub name: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: BTreeMap<String, String>,
    /// Its working directory.
    pub cwd: PathBuf,
    /// Not to be started after this, milliseconds since boot.
    pub start_by_mono_ms: Option<u64>,
}

/// What a guard tells: one JSON value on each line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// The process was started and leads a group of its own.
    Started {
        /// Its id.
        pid: u32,
        /// When it started, in clock ticks since boot.
        start_ticks: u64,
    },
    /// The system refused to start it.
    Refused {
        /// The system's error number.
        errno: i32,
    },
    /// Its time to start was over.
    Late,
    /// It exited by itself. What it left behind may go on.
    Exited {
        /// With this code.
        code: i32,
    },
    /// A signal ended it. What it left behind may go on.
    Killed {
        /// This one.
        signal: i32,
    },
    /// Everything below is sent TERM. What is told of an end before this word was not caused by it.
    Asking,
    /// Nothing is left below. Another order may come.
    Clear,
}

/// The supervisor of the guard that a process with these arguments is to be; `None` when it is to be something else.
pub fn asked_for(mut arguments: impl Iterator<Item = OsString>) -> Option<Pid> {
    let name = arguments.nth(1)?;
    let parent = arguments.next()?;
    (name == NAME).then(|| parent.to_str()?.parse().ok().map(Pid::from_raw)).flatten()
}

/// Starts what it is ordered to, one after the other, each to the end of everything that it started. Orders come by
/// standard input, [`Word`]s go to standard output.
///
/// # Errors
/// What the system answered before anything was started.
pub fn guard(parent: Pid) -> io::Result<()> {
    prctl::set_child_subreaper(true)?;
    // What is the guard's own, its memory and the way it tells by, is no business of what it starts, which is the same
    // user's and may be followed by another's.
    prctl::set_dumpable(false)?;
    let orders = io::stdin().as_fd().try_clone_to_owned()?;
    let pipe = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let mut report = Report { pipe, untold: Vec::new() };
    let_go_of_streams()?;
    let mut signals = SigSet::empty();
    for signal in [ASK, FORCE, Signal::SIGCHLD] {
        signals.add(signal);
    }
    while let Some((start, streams)) = order::take(&orders)? {
        // Until what it starts is watched, the supervisor's death must not be the guard's: that would leave somebody
        // alone. It is looked at below.
        prctl::set_pdeathsig(None::<Signal>)?;
        if getppid() != parent || !run(&start, streams, parent, &signals, &mut report)? {
            return Ok(());
        }
        // Nothing is below, so whatever signal comes now may end the guard.
        signals.thread_unblock()?;
    }
    Ok(())
}

/// Starts one process and watches it; whether the guard is as good as new.
fn run(start: &Start, streams: Streams, parent: Pid, signals: &SigSet, report: &mut Report) -> io::Result<bool> {
    if start.start_by_mono_ms.is_some_and(|instant_ms| clock::now().mono_ms > instant_ms) {
        report.tell(Word::Late);
        return Ok(false);
    }
    let leader = match launch(start, streams) {
        Ok(pid) => pid,
        Err(error) => {
            report.tell(Word::Refused { errno: error.raw_os_error().unwrap_or(Errno::EINVAL as i32) });
            return Ok(false);
        }
    };
    // Only now, because a child inherits what is blocked. What ended before is seen by the first look, and
    // a supervisor that died before is no longer our parent.
    signals.thread_block()?;
    prctl::set_pdeathsig(FORCE)?;
    let pid = leader.as_raw().unsigned_abs();
    report.tell(Word::Started { pid, start_ticks: start_ticks(pid).unwrap_or(0) });
    let mut leader = Leader { pid: leader, in_doubt: false };
    if getppid() != parent {
        force(&mut leader, report);
        return Ok(false);
    }
    watch(&mut leader, signals, report)
}

/// The process that was started.
struct Leader {
    pid: Pid,
    /// It was sent TERM, which ends it whatever it does, unless it was on its way out already. How it ended
    /// says which, so [`Word::Asking`] waits for that.
    in_doubt: bool,
}

/// Tells the supervisor.
struct Report {
    pipe: File,
    untold: Vec<u8>,
}

impl Report {
    /// Tells this with what was noted before.
    fn tell(&mut self, word: Word) {
        self.note(word);
        self.tell_noted();
    }

    /// Has this told together with what comes next.
    fn note(&mut self, word: Word) {
        self.untold.extend(serde_json::to_vec(&word).expect("a word holds nothing that JSON cannot"));
        self.untold.push(b'\n');
    }

    fn tell_noted(&mut self) {
        // Nobody listens only when the supervisor is dead, and then the kernel says so too.
        let _ = self.pipe.write_all(&self.untold);
        self.untold.clear();
    }
}

fn launch(start: &Start, streams: Streams) -> io::Result<Pid> {
    let mut command = Command::new(&start.program);
    command.arg0(&start.name).args(&start.args).env_clear().envs(&start.env).current_dir(&start.cwd);
    // Without one of its own it gets the guard's, which is nothing.
    if let Some(stdin) = streams.stdin {
        command.stdin(stdin);
    }
    let child = command.stdout(streams.stdout).stderr(streams.stderr).process_group(0).spawn()?;
    // The streams are the child's alone from here on: whoever reads them waits for the last holder to go.
    Ok(Pid::from_raw(i32::try_from(child.id()).expect("process ids are below 2^22")))
}

/// What comes in and goes out by the guard's own streams is held elsewhere, where no child finds it.
fn let_go_of_streams() -> io::Result<()> {
    dup2_stdin(&File::options().read(true).open("/dev/null")?)?;
    let nothing = File::options().write(true).open("/dev/null")?;
    dup2_stdout(&nothing)?;
    Ok(dup2_stderr(&nothing)?)
}

/// Watches to the end; whether the guard is as good as new then.
fn watch(leader: &mut Leader, signals: &SigSet, report: &mut Report) -> io::Result<bool> {
    while reap(leader, report) {
        match signals.wait()? {
            // What ended by itself before it was asked to is told first.
            ASK if !reap(leader, report) => break,
            ASK => ask(leader, report),
            FORCE => {
                force(leader, report);
                return Ok(false);
            }
            _ => {}
        }
    }
    Ok(true)
}

/// Sends TERM to everything, the leader before those below it.
fn ask(leader: &mut Leader, report: &mut Report) {
    let before = dies_of_term(leader.pid);
    signal_tree(Signal::SIGTERM, 1);
    // Looked at on both sides, for it may have begun to catch TERM in between.
    leader.in_doubt = before && dies_of_term(leader.pid);
    if !leader.in_doubt {
        report.tell(Word::Asking);
    }
}

/// Whether TERM is the end of this process: it neither catches, ignores nor blocks it. Of one that has
/// ended and was not reaped: whether it was.
fn dies_of_term(pid: Pid) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
    let lacks_term = |field: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(field));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_some_and(|mask| mask & (1 << (Signal::SIGTERM as i32 - 1)) == 0)
    };
    ["SigBlk:", "SigIgn:", "SigCgt:"].into_iter().all(lacks_term)
}

/// Kills and reaps until nothing is left.
fn force(leader: &mut Leader, report: &mut Report) {
    loop {
        signal_tree(Signal::SIGKILL, PASSES);
        // Blocks for one end at most; what was forked meanwhile is killed in the next round.
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) => note_end(pid, status, leader, report),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
        if !reap(leader, report) {
            return;
        }
    }
}

/// Reaps what has ended and tells it; `false` when nothing is left, which is told with it.
fn reap(leader: &mut Leader, report: &mut Report) -> bool {
    let is_left = loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => note_end(pid, status, leader, report),
            Ok(None) | Err(rustix::io::Errno::INTR) => break true,
            Err(_) => break false,
        }
    };
    if !is_left {
        report.note(Word::Clear);
    }
    report.tell_noted();
    is_left
}

fn note_end(pid: rustix::process::Pid, status: WaitStatus, leader: &mut Leader, report: &mut Report) {
    if pid.as_raw_nonzero().get() != leader.pid.as_raw() {
        return;
    }
    // Had TERM come first, a process that does not catch it would have ended of it.
    if let Some(code) = status.exit_status() {
        report.note(Word::Exited { code });
    } else if let Some(signal) = status.terminating_signal() {
        if leader.in_doubt && [Signal::SIGTERM as i32, Signal::SIGKILL as i32].contains(&signal) {
            report.note(Word::Asking);
        }
        report.note(Word::Killed { signal });
    }
}

/// Signals everything below this process, looking again while that finds somebody new.
fn signal_tree(signal: Signal, passes: usize) {
    let mut known = Vec::new();
    for _ in 0..passes {
        let fresh: Vec<Pid> = below(getpid()).into_iter().filter(|pid| !known.contains(pid)).collect();
        if fresh.is_empty() {
            return;
        }
        for pid in fresh {
            // It may have ended between the look and this; nobody else is called so in such a short time.
            let _ = kill(pid, signal);
            known.push(pid);
        }
    }
}

/// Every process below `root`, parents before children.
pub fn below(root: Pid) -> Vec<Pid> {
    let mut found = vec![root];
    let mut at = 0;
    while at < found.len() {
        for child in children(found[at]) {
            if !found.contains(&child) {
                found.push(child);
            }
        }
        at += 1;
    }
    found.remove(0);
    found
}

/// The children of one process, of all its threads.
pub fn children(parent: Pid) -> Vec<Pid> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{parent}/task")) else { return Vec::new() };
    let mut found = Vec::new();
    for thread in threads.flatten() {
        match std::fs::read_to_string(thread.path().join("children")) {
            Ok(text) => found.extend(text.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw)),
            // Kernels without this file are rare; on those every process is asked who its parent is.
            Err(error) if error.kind() == io::ErrorKind::NotFound && thread.path().exists() => {
                return children_by_looking_at_all(parent);
            }
            Err(_) => {}
        }
    }
    found
}

fn children_by_looking_at_all(parent: Pid) -> Vec<Pid> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numbers = processes.flatten().filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |pid: &u32| field(*pid, 1) == Some(parent.as_raw().unsigned_abs().into());
    numbers.filter(is_child).filter_map(|pid| i32::try_from(pid).ok()).map(Pid::from_raw).collect()
}

/// When a process started, in clock ticks since boot; `None` when there is no such process.
pub fn start_ticks(pid: u32) -> Option<u64> {
    field(pid, 19)
}

/// Whether somebody stopped a process.
pub fn is_stopped(pid: Pid) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    text.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with(['T', 't']))
}

/// A numeric field of `/proc/<pid>/stat`, counted from the state, which is 0.
fn field(pid: u32, index: usize) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in brackets and may hold anything, so count from its end.
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_whitespace().nth(index)?.parse().ok()
}
