//! A server under a small supervisor that outlives us by a moment: whatever ends this program, `kill -9`
//! too, the supervisor notices, ends the server with everything it started, and removes its folder.
//!
//! The supervisor is a shell in a process group of its own whose standard input is a pipe that only we
//! hold. It starts the server when it reads `start`; when it reads the end it cleans up and ends.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// Longest a server may take to begin or to be gone.
pub const CEILING: Duration = Duration::from_secs(120);

/// The supervisor of one server.
pub(crate) struct Supervised {
    shell: Child,
    orders: Mutex<Option<ChildStdin>>,
    dir: PathBuf,
}

impl Supervised {
    /// Starts a supervisor on a new folder with a short name, which it removes at the end.
    ///
    /// `script` gets the folder as `$1` and `words` after it; what it prints goes to `supervisor.log` there.
    ///
    /// # Errors
    /// When there is no folder, or no shell.
    pub fn start(script: &str, words: &[&str]) -> anyhow::Result<Supervised> {
        // Sockets live in it, and their paths have little room; a long TMPDIR would not do.
        let dir = tempfile::Builder::new().prefix("vw").tempdir_in("/tmp").context("no folder in /tmp")?.keep();
        let log = std::fs::File::create(dir.join("supervisor.log")).context("no log")?;
        let mut shell = Command::new("/bin/bash");
        shell.args(["-c", script, "supervisor"]).arg(&dir).args(words).current_dir("/");
        shell.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let mut shell = shell.spawn().context("no /bin/bash")?;
        let orders = Mutex::new(shell.stdin.take());
        Ok(Supervised { shell, orders, dir })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Has the server started.
    ///
    /// # Errors
    /// When the supervisor is gone.
    pub fn order_start(&self) -> anyhow::Result<()> {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let pipe = orders.as_mut().context("the supervisor was told to end")?;
        pipe.write_all(b"start\n").with_context(|| format!("the supervisor is gone: {}", self.log("supervisor.log")))
    }

    /// The last lines of a log in the folder.
    pub fn log(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.dir.join(name)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Ends it and waits until supervisor, server and folder are gone.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn end(&mut self) -> anyhow::Result<()> {
        drop(self.orders.lock().unwrap_or_else(PoisonError::into_inner).take());
        let gone = wait(|| self.shell.try_wait().ok().flatten());
        if gone.is_none() {
            bail!("the supervisor of {} does not end: {}", self.dir.display(), self.log("supervisor.log"));
        }
        Ok(())
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{error:#}");
        }
    }
}

/// Looks until there is something, up to [`CEILING`].
pub(crate) fn wait<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if begun.elapsed() > CEILING {
            return None;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
