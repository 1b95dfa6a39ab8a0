//! The binary under test, in a home of its own.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::host::{Host, PASSWORD};

/// No run of the program takes this long unless it hangs.
pub const CEILING: Duration = Duration::from_secs(60);

/// What a run left behind.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// The exit code, checked; on a surprise both outputs are shown.
    #[track_caller]
    pub fn ends_with(&self, code: i32) -> &Ran {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }
}

/// A home directory and what the environment says.
pub struct Program {
    pub home: tempfile::TempDir,
    env: Vec<(String, String)>,
}

impl Program {
    pub fn new() -> Program {
        Program { home: tempfile::tempdir().unwrap(), env: Vec::new() }
    }

    /// With a token from outside for this host.
    pub fn at(host: &Host) -> Program {
        Program::new().with("VIWORKS_URL", &host.url()).with("VIWORKS_TOKEN", &host.token())
    }

    /// Logged in to this host.
    pub async fn logged_in(host: &Host) -> Program {
        let program = Program::new();
        let password = program.file("password", &format!("{PASSWORD}\n"));
        let url = host.url();
        program
            .run(&["login", &url, "--name", "test", "--user", "ada", "--password-file", &password])
            .await
            .ends_with(0);
        program
    }

    pub fn with(mut self, name: &str, value: &str) -> Program {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A file in its home.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.home.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    pub fn contexts(&self) -> PathBuf {
        self.home.path().join("config/contexts.toml")
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_viworks"));
        self.prepare(command.args(words));
        command
    }

    /// Its home, its environment and no terminal.
    pub fn prepare(&self, command: &mut Command) {
        command
            .env_clear()
            .env("HOME", self.home.path())
            .env("VIWORKS_CONFIG", self.contexts())
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
    }

    /// As another program starts it: these words, then its own.
    pub fn under(&self, starter: &[&str], words: &[&str]) -> Command {
        let mut command = Command::new(starter[0]);
        self.prepare(command.args(&starter[1..]).arg(env!("CARGO_BIN_EXE_viworks")).args(words));
        command
    }

    pub async fn run(&self, words: &[&str]) -> Ran {
        ended(self.command(words)).await
    }

    /// With something on standard input.
    pub async fn run_with(&self, words: &[&str], input: &str) -> Ran {
        let mut child = self.command(words).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
        finished(child).await
    }
}

async fn ended(mut command: Command) -> Ran {
    finished(command.spawn().unwrap()).await
}

pub async fn finished(child: tokio::process::Child) -> Ran {
    let output = tokio::time::timeout(CEILING, child.wait_with_output()).await.expect("it hangs").unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
