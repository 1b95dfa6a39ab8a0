//! The processes that `up` owns: started, watched, stopped.
//!
//! Signals that end this process are blocked from the first start on, and taken by one thread, so
//! that nothing is left behind. A child would inherit the block, so it starts as this program again,
//! which lets signals through and then becomes the child.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

/// Between looks at something that is not ready yet.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// From TERM to KILL.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Lines shown of the log of a child that died.
const LOG_TAIL: usize = 20;

/// Which child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// A `viworks-host`, the first with number 1.
    Host(u8),
    /// `viworks-agent`.
    Agent,
}

impl Which {
    /// What it is called, and its log.
    pub fn name(self) -> String {
        match self {
            Which::Host(1) => "host".to_owned(),
            Which::Host(number) => format!("host-{number}"),
            Which::Agent => "agent".to_owned(),
        }
    }
}

enum Event {
    Signal,
    Exited(Which, Option<ExitStatus>),
}

struct Running {
    which: Which,
    pid: u32,
    log: PathBuf,
}

/// Why waiting ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interrupted {
    /// Somebody asked for the end.
    Signal,
    /// A child ended by itself; the text says which, how, and what it said last.
    Died(String),
}

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Interrupted::Signal => f.write_str("asked to stop"),
            Interrupted::Died(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Interrupted {}

/// The children there are, in the order they were started.
pub struct Children {
    running: Vec<Running>,
    sender: Sender<Event>,
    events: Receiver<Event>,
}

impl Children {
    /// No children yet; from now on INT, TERM and HUP arrive here.
    ///
    /// # Errors
    /// When signals cannot be blocked.
    pub fn new() -> anyhow::Result<Children> {
        let signals = signals();
        signals.thread_block().context("signals cannot be blocked")?;
        let (sender, events) = channel();
        let told = sender.clone();
        thread::spawn(move || while signals.wait().is_ok() && told.send(Event::Signal).is_ok() {});
        Ok(Children { running: Vec::new(), sender, events })
    }

    /// Starts one; what it prints goes to `log`, whose last text is kept beside it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self, which: Which, program: &Path, args: &[OsString], log: &Path) -> anyhow::Result<()> {
        if log.exists() {
            std::fs::rename(log, log.with_extension("previous.log")).context("the last log cannot be put aside")?;
        }
        let file = File::create(log).with_context(|| format!("{} cannot be made", log.display()))?;
        let mut command = Command::new(std::env::current_exe().context("this program cannot be found")?);
        command.arg("exec").arg(std::process::id().to_string()).arg("--").arg(program).args(args);
        // A group of its own: Ctrl-C reaches this process alone, which then stops all in order.
        command.process_group(0).stdin(Stdio::null());
        command.stdout(file.try_clone().context("a log cannot be shared")?).stderr(file);
        let child = command.spawn().with_context(|| format!("{} cannot be started", program.display()))?;
        self.running.push(Running { which, pid: child.id(), log: log.to_owned() });
        let told = self.sender.clone();
        thread::spawn(move || report_end(child, which, &told));
        Ok(())
    }

    /// Its process id; 0 when it does not run.
    pub fn pid(&self, which: Which) -> u32 {
        self.running.iter().find(|child| child.which == which).map_or(0, |child| child.pid)
    }

    /// Looks until there is an answer.
    ///
    /// # Errors
    /// `what`, when `patience` is over; [`Interrupted`] when a child dies or a signal comes first.
    pub fn until<T>(
        &mut self,
        patience: Duration,
        what: &str,
        mut look: impl FnMut() -> Option<T>,
    ) -> anyhow::Result<T> {
        let begun = Instant::now();
        loop {
            if let Some(found) = look() {
                return Ok(found);
            }
            if begun.elapsed() > patience {
                let logs: Vec<String> = self.running.iter().map(|child| tail(&child.log)).collect();
                anyhow::bail!("{what} within {} s\n{}", patience.as_secs(), logs.join("\n"));
            }
            match self.events.recv_timeout(LOOK_EVERY) {
                Ok(event) => return Err(self.interrupted(&event).into()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(Interrupted::Signal.into()),
            }
        }
    }

    /// Waits for a signal, or for a child that dies.
    pub fn wait(&mut self) -> Interrupted {
        match self.events.recv() {
            Ok(event) => self.interrupted(&event),
            Err(_) => Interrupted::Signal,
        }
    }

    fn interrupted(&mut self, event: &Event) -> Interrupted {
        let Event::Exited(which, status) = event else { return Interrupted::Signal };
        let status = status.map_or_else(|| "for an unknown reason".to_owned(), |status| format!("with {status}"));
        let log = self.running.iter().find(|child| child.which == *which).map(|child| tail(&child.log));
        self.running.retain(|child| child.which != *which);
        Interrupted::Died(format!("the {} ended {status}\n{}", which.name(), log.unwrap_or_default()))
    }

    /// Ends all, the last started first: TERM, patience, KILL. Says how each went.
    pub fn stop(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(child) = self.running.pop() {
            let name = child.which.name();
            signal(child.pid, Signal::SIGTERM);
            let asked = Instant::now();
            let in_time = self.wait_for(child.which, STOP_WITHIN);
            if !in_time {
                signal(child.pid, Signal::SIGKILL);
                self.wait_for(child.which, STOP_WITHIN);
            }
            let how = if in_time { "stopped" } else { "killed, it did not stop" };
            lines.push(format!("{name} {how} after {:.1} s", asked.elapsed().as_secs_f64()));
        }
        lines
    }

    fn wait_for(&mut self, which: Which, patience: Duration) -> bool {
        let begun = Instant::now();
        loop {
            let Some(left) = patience.checked_sub(begun.elapsed()) else { return false };
            match self.events.recv_timeout(left) {
                Ok(Event::Exited(ended, _)) if ended == which => return true,
                Ok(Event::Exited(ended, _)) => self.running.retain(|child| child.which != ended),
                // Asked again while stopping: it goes as fast as it can already.
                Ok(Event::Signal) => {}
                Err(_) => return false,
            }
        }
    }
}

fn report_end(mut child: Child, which: Which, told: &Sender<Event>) {
    let status = child.wait().ok();
    // Nobody listens any more when everything is over.
    let _ = told.send(Event::Exited(which, status));
}

fn signal(pid: u32, signal: Signal) {
    // Gone already is as good as ended.
    let _ = i32::try_from(pid).map(|pid| kill(Pid::from_raw(pid), signal));
}

fn signals() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect()
}

/// The last lines of a log, under its name.
fn tail(log: &Path) -> String {
    let text = std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(LOG_TAIL)..];
    format!("last {} lines of {}:\n{}", last.len(), log.display(), last.join("\n"))
}

/// A program to become.
#[derive(clap::Args)]
pub struct ExecOptions {
    /// Process id of the starter
    starter: i32,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    words: Vec<OsString>,
}

/// Lets signals through, asks to be ended with the starter, and becomes the program.
///
/// # Errors
/// When it cannot; on success it never returns.
pub fn become_program(options: &ExecOptions) -> anyhow::Result<ExitCode> {
    signals().thread_unblock().context("signals cannot be let through")?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGTERM).context("the end of the starter cannot be watched")?;
    if nix::unistd::getppid().as_raw() != options.starter {
        anyhow::bail!("whoever started this is gone already");
    }
    let (program, args) = options.words.split_first().context("no program was named")?;
    let error = Command::new(program).args(args).exec();
    Err(error).with_context(|| format!("{} cannot be started", Path::new(program).display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_a_log_is_shown() {
        let dir = tempfile::tempdir().expect("temp dir");
        let log = dir.path().join("host.log");
        let lines: Vec<String> = (1..=30).map(|number| format!("line {number}")).collect();
        std::fs::write(&log, lines.join("\n")).expect("written");
        let shown = tail(&log);
        assert!(
            shown.starts_with("last 20 lines of ") && shown.contains("\nline 11\n") && shown.ends_with("line 30"),
            "{shown}"
        );
        assert!(!shown.contains("line 10\n"));
        assert!(tail(&dir.path().join("none.log")).starts_with("last 0 lines"));
    }
}
