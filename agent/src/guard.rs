//! The guard: one small process between the supervisor and each process it runs. Everything that process
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
//! It ends when nothing is left below it, so its end is the proof that a step is over. When the
//! supervisor dies, the kernel sends it SIGTERM: nothing runs on without somebody who answers for it.
//!
//! Invariant: one thread, no runtime, no file of the agent's is opened.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, close, dup2_stderr, dup2_stdin, dup2_stdout, getpid, getppid};
use serde::{Deserialize, Serialize};

use crate::clock;

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
}

/// Where a guard finds what it needs: numbers of descriptors it inherited, and its parent.
#[derive(Clone, Copy, Debug)]
pub struct Inherited {
    /// Holds a [`Start`] as JSON.
    pub start: i32,
    /// Takes [`Word`]s.
    pub report: i32,
    /// The supervisor's process id.
    pub parent: i32,
}

/// Runs to the end of everything it started.
///
/// # Errors
/// What the system answered before anything was started.
pub fn guard(inherited: Inherited) -> io::Result<()> {
    prctl::set_child_subreaper(true)?;
    let mut report = take_over(inherited.report, File::options().write(true))?;
    let start = take_over(inherited.start, File::options().read(true))?;
    let start: Start = serde_json::from_reader(io::BufReader::new(start)).map_err(io::Error::other)?;
    if getppid() != Pid::from_raw(inherited.parent) {
        return Ok(());
    }
    if start.start_by_mono_ms.is_some_and(|instant_ms| clock::now().mono_ms > instant_ms) {
        tell(&mut report, Word::Late);
        return Ok(());
    }
    let leader = match launch(&start) {
        Ok(pid) => pid,
        Err(error) => {
            tell(&mut report, Word::Refused { errno: error.raw_os_error().unwrap_or(Errno::EINVAL as i32) });
            return Ok(());
        }
    };
    // Only now, because a child inherits what is blocked. What ended before is seen by the first look, and
    // a supervisor that died before is no longer our parent.
    let mut signals = SigSet::empty();
    for signal in [ASK, FORCE, Signal::SIGCHLD] {
        signals.add(signal);
    }
    signals.thread_block()?;
    prctl::set_pdeathsig(FORCE)?;
    let pid = leader.as_raw().unsigned_abs();
    tell(&mut report, Word::Started { pid, start_ticks: start_ticks(pid).unwrap_or(0) });
    let_go_of_streams()?;
    let mut leader = Leader { pid: leader, in_doubt: false };
    if getppid() != Pid::from_raw(inherited.parent) {
        return force(&mut leader, &mut report);
    }
    watch(&mut leader, &signals, &mut report)
}

/// The process that was started.
struct Leader {
    pid: Pid,
    /// It was sent TERM, which ends it whatever it does, unless it was on its way out already. How it ended
    /// says which, so [`Word::Asking`] waits for that.
    in_doubt: bool,
}

/// Opens an inherited descriptor anew, closed on exec, and gives up the inherited one.
fn take_over(number: i32, options: &std::fs::OpenOptions) -> io::Result<File> {
    let file = options.open(format!("/proc/self/fd/{number}"))?;
    close(number)?;
    Ok(file)
}

fn launch(start: &Start) -> io::Result<Pid> {
    let mut command = Command::new(&start.program);
    command.arg0(&start.name).args(&start.args).env_clear().envs(&start.env).current_dir(&start.cwd);
    let child = command.process_group(0).spawn()?;
    Ok(Pid::from_raw(i32::try_from(child.id()).expect("process ids are below 2^22")))
}

/// The streams are the child's; whoever reads them waits for the last holder to go.
fn let_go_of_streams() -> io::Result<()> {
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&nothing)?;
    dup2_stdout(&nothing)?;
    Ok(dup2_stderr(&nothing)?)
}

fn watch(leader: &mut Leader, signals: &SigSet, report: &mut File) -> io::Result<()> {
    while reap(leader, report) {
        match signals.wait()? {
            // What ended by itself before it was asked to is told first.
            ASK if reap(leader, report) => ask(leader, report),
            FORCE => return force(leader, report),
            _ => {}
        }
    }
    Ok(())
}

/// Sends TERM to everything, the leader before those below it.
fn ask(leader: &mut Leader, report: &mut File) {
    let before = dies_of_term(leader.pid);
    signal_tree(Signal::SIGTERM, 1);
    // Looked at on both sides, for it may have begun to catch TERM in between.
    leader.in_doubt = before && dies_of_term(leader.pid);
    if !leader.in_doubt {
        tell(report, Word::Asking);
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
fn force(leader: &mut Leader, report: &mut File) -> io::Result<()> {
    loop {
        signal_tree(Signal::SIGKILL, PASSES);
        // Blocks for one end at most; what was forked meanwhile is killed in the next round.
        match waitpid(None, None) {
            Ok(status) => told(status, leader, report),
            Err(Errno::EINTR) => {}
            Err(_) => return Ok(()),
        }
        if !reap(leader, report) {
            return Ok(());
        }
    }
}

/// Reaps what has ended; `false` when nothing is left.
fn reap(leader: &mut Leader, report: &mut File) -> bool {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => return true,
            Ok(status) => told(status, leader, report),
            Err(_) => return false,
        }
    }
}

fn told(status: WaitStatus, leader: &mut Leader, report: &mut File) {
    match status {
        // Had TERM come first, a process that does not catch it would have ended of it.
        WaitStatus::Exited(pid, code) if pid == leader.pid => tell(report, Word::Exited { code }),
        WaitStatus::Signaled(pid, signal, _) if pid == leader.pid => {
            if leader.in_doubt && matches!(signal, Signal::SIGTERM | Signal::SIGKILL) {
                tell(report, Word::Asking);
            }
            tell(report, Word::Killed { signal: signal as i32 });
        }
        _ => {}
    }
}

fn tell(report: &mut File, word: Word) {
    let mut line = serde_json::to_vec(&word).expect("a word holds nothing that JSON cannot");
    line.push(b'\n');
    // Nobody listens only when the supervisor is dead, and then the kernel says so too.
    let _ = report.write_all(&line);
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

/// A numeric field of `/proc/<pid>/stat`, counted from the state, which is 0.
fn field(pid: u32, index: usize) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in brackets and may hold anything, so count from its end.
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_whitespace().nth(index)?.parse().ok()
}
