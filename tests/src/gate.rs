//! Commands that tell what they did and wait until the test lets them go on.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::wait::until;

/// A script that notes its start, prints `out`, waits at a gate, prints `end` and notes its end.
///
/// The gate is a named pipe: the script blocks on it without using any time, and is let go by itself
/// when the test is over.
pub struct Gated {
    dir: tempfile::TempDir,
    gate: File,
}

impl Gated {
    /// A new script with a closed gate.
    ///
    /// # Panics
    /// When the pipe cannot be made.
    #[expect(clippy::new_without_default, reason = "every call makes a folder and a pipe")]
    pub fn new() -> Gated {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("gate");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a named pipe");
        // For reading too, because opening for writing alone would wait for the reader.
        let gate = File::options().read(true).write(true).open(path).expect("the pipe opens");
        Gated { dir, gate }
    }

    /// Arguments of `exec.run`.
    pub fn args(&self) -> Value {
        let (notes, gate) = (self.notes_file(), self.dir.path().join("gate"));
        let script = format!(
            "echo start $$ >> {notes}; echo out; read go < {gate}; echo done >> {notes}; echo end",
            notes = notes.display(),
            gate = gate.display(),
        );
        json!({ "program": "sh", "args": ["-c", script] })
    }

    /// Lets it go on, now or when it gets there.
    ///
    /// # Panics
    /// When the pipe is broken.
    pub fn open(&mut self) {
        self.gate.write_all(b"go\n").expect("the pipe takes a line");
    }

    /// How often it was started: the oracle for "ran once".
    pub fn starts(&self) -> usize {
        self.notes().lines().filter(|line| line.starts_with("start")).count()
    }

    /// How often it came to its end.
    pub fn ends(&self) -> usize {
        self.notes().lines().filter(|line| *line == "done").count()
    }

    /// Waits until it has started; its process id.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn started(&self) -> i32 {
        until("the command starts", async || {
            let notes = self.notes();
            let line = notes.lines().find(|line| line.starts_with("start "))?;
            notes.ends_with('\n').then(|| line.trim_start_matches("start ").parse().expect("a process id"))
        })
        .await
    }

    fn notes(&self) -> String {
        std::fs::read_to_string(self.notes_file()).unwrap_or_default()
    }

    fn notes_file(&self) -> PathBuf {
        Path::new(self.dir.path()).join("notes")
    }
}
