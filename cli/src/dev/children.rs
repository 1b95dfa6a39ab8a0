//! The processes that `viworks dev` owns: started, watched, stopped.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::count;
use crate::signals::Signals;

/// Between looks at something that is not ready yet.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// From asking to killing.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Lines shown of the log of a child that died.
const LOG_TAIL: usize = 20;

struct Running {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

/// The children there are, in the order they were started. Dropped, they are killed.
pub(super) struct Children {
    running: Vec<Running>,
    signals: Signals,
}

impl Children {
    /// None yet. From now on what would end this process is for [`Children::wait`] to see.
    pub(super) fn new() -> Result<Children, Failure> {
        let signals = Signals::new().map_err(|error| Failure::new(Exit::Error, format!("signals: {error}")))?;
        Ok(Children { running: Vec::new(), signals })
    }

    /// Starts one; what it prints goes to `log`.
    pub(super) fn start(
        &mut self,
        name: &'static str,
        program: &Path,
        args: &[&str],
        log: &Path,
    ) -> Result<(), Failure> {
        let fail = |error: std::io::Error| Failure::new(Exit::Error, format!("{}: {error}", program.display()));
        let file = File::create(log).map_err(fail)?;
        let mut command = alone(program, args);
        command.stdout(file.try_clone().map_err(fail)?).stderr(file);
        let child = command.spawn().map_err(fail)?;
        self.running.push(Running { name, child, log: log.to_owned() });
        Ok(())
    }

    /// Looks until there is an answer. Fails when patience is over, a child dies or a signal comes first.
    pub(super) async fn until<T>(
        &mut self,
        patience: Duration,
        what: &str,
        mut look: impl AsyncFnMut() -> Option<T>,
    ) -> Result<T, Failure> {
        let begun = Instant::now();
        loop {
            if let Some(found) = look().await {
                return Ok(found);
            }
            if begun.elapsed() > patience {
                let logs: Vec<String> = self.running.iter().map(|child| tail(&child.log)).collect();
                let seconds = patience.as_secs();
                return Err(Failure::new(Exit::Error, format!("{what} within {seconds} s\n{}", logs.join("\n"))));
            }
            match tokio::time::timeout(LOOK_EVERY, self.wait()).await {
                Ok(ended) => ended?,
                Err(_) => continue,
            }
        }
    }

    /// Waits for a signal or for a child that dies: both are failures, and the first is [`Exit::Interrupted`].
    pub(super) async fn wait(&mut self) -> Result<(), Failure> {
        let deaths = self.running.iter_mut().map(|running| {
            Box::pin(async {
                let status = running.child.wait().await;
                let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                format!("the {} ended with {how}\n{}", running.name, tail(&running.log))
            })
        });
        let deaths: Vec<_> = deaths.collect();
        let death = async {
            match deaths.is_empty() {
                true => std::future::pending().await,
                false => futures_util::future::select_all(deaths).await.0,
            }
        };
        tokio::select! {
            () = self.signals.next() => Err(Failure::new(Exit::Interrupted, "")),
            why = death => Err(Failure::new(Exit::Error, why)),
        }
    }

    /// Ends all, the last started first, and says how each went.
    pub(super) async fn stop(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(mut running) = self.running.pop() {
            let Some(pid) = running.child.id() else { continue };
            ask_to_end(pid);
            let how = match tokio::time::timeout(STOP_WITHIN, running.child.wait()).await {
                Ok(_) => "stopped",
                Err(_) => {
                    let _ = running.child.kill().await;
                    "killed, it did not stop"
                }
            };
            lines.push(format!("{} {how}", running.name));
        }
        lines
    }
}

/// Runs one to its end, with a secret in its environment.
pub(super) async fn finish(program: &Path, args: &[&str], secret: (&str, &str)) -> Result<(), Failure> {
    let fail = |why: String| Failure::new(Exit::Error, format!("{} {}: {why}", program.display(), args[0]));
    let done = alone(program, args).env(secret.0, secret.1).output().await.map_err(|error| fail(error.to_string()))?;
    if done.status.success() {
        return Ok(());
    }
    Err(fail(String::from_utf8_lossy(&done.stderr).trim().to_owned()))
}

/// A child that Ctrl-C does not reach, so that the two can be stopped in order, and that does not outlive us.
fn alone(program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    #[cfg(unix)]
    command.process_group(0);
    command
}

/// Asks a process to end.
#[cfg(unix)]
pub(super) fn ask_to_end(pid: u32) {
    use nix::sys::signal::{Signal, kill};

    // Gone already is as good as ended.
    let _ = i32::try_from(pid).map(|pid| kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM));
}

/// Nobody can be asked here; whoever owns it kills it.
#[cfg(not(unix))]
pub(super) fn ask_to_end(_pid: u32) {}

/// The last lines of a log, under its name.
fn tail(log: &Path) -> String {
    let text = std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(LOG_TAIL)..];
    format!("last {} of {}:\n{}", count::of(last.len(), "line", "lines"), log.display(), last.join("\n"))
}
