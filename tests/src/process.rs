//! Processes that tests start, look at and end, one by one and by their id.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::until;

/// One process with a log.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it; what it prints is appended to `log`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(command: &mut Command, log: &Path) -> Process {
        let file = File::options().create(true).append(true).open(log).expect("a log file");
        let err = file.try_clone().expect("a second handle of the log");
        let child = command.stdin(Stdio::null()).stdout(file).stderr(err).spawn().expect("the program starts");
        Process { child, log: log.to_owned() }
    }

    /// Its id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("process ids are small")
    }

    /// Fails the test if it has ended by itself.
    ///
    /// # Panics
    /// With its log, when it has.
    pub fn assert_alive(&mut self) {
        if let Some(status) = self.child.try_wait().expect("own child") {
            panic!("{} ended with {status}:\n{}", self.log.display(), tail(&self.log));
        }
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill9(&mut self) {
        // Fails only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM; how it ended.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.end_by(Signal::SIGTERM).await
    }

    /// Sends it a signal that it ends by; how it ended.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn end_by(&mut self, signal: Signal) -> ExitStatus {
        let _ = kill(Pid::from_raw(self.pid()), signal);
        until(&format!("a process ends after {signal}"), async || self.child.try_wait().expect("own child")).await
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), tail(&self.log));
        }
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// Whether a process with this id exists and is no zombie.
pub fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state stands after the name in parentheses, which may hold anything.
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// `kill -9` of one process that is no child of ours; waits until it is gone.
pub async fn kill9(pid: i32) {
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    until("a killed process is gone", async || (!is_alive(pid)).then_some(())).await;
}

/// `kill -9` of one process, without waiting.
pub fn kill9_now(pid: i32) {
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
}
