//! `viworks`, logged in at one host, as a script uses it.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;
use tokio::process::{Child, Command};

use crate::host::TestHost;
use crate::programs::program;

/// The command line of the host's first administrator.
pub struct Cli {
    contexts: PathBuf,
}

/// How a call ended.
#[derive(Debug)]
pub struct Ran {
    /// The exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// Standard output as JSON.
    ///
    /// # Panics
    /// When it is none, or something else besides.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("JSON and nothing else: {self:?}"))
    }
}

impl Cli {
    /// Logs in.
    ///
    /// # Panics
    /// When the host refuses.
    pub async fn login(host: &TestHost) -> Cli {
        let cli = Cli { contexts: host.scratch().join("cli.toml") };
        let credential = host.credential_file().display().to_string();
        let login = cli.run(&["login", &host.url(), "--credential", &credential]).await;
        assert_eq!(login.code, Some(0), "{login:?}");
        cli
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(program("viworks"));
        command.args(words).env("VIWORKS_CONFIG", &self.contexts).env("NO_COLOR", "1");
        for name in ["VIWORKS_URL", "VIWORKS_TOKEN", "VIWORKS_CONTEXT"] {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Starts `viworks` with these words; what it prints can be read as it comes. Dropped, it is killed.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(&self, words: &[&str]) -> Child {
        self.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("viworks starts")
    }

    /// Runs `viworks` with these words to its end.
    ///
    /// # Panics
    /// When it does not start, or prints what is not text.
    pub async fn run(&self, words: &[&str]) -> Ran {
        let done = self.command(words).output().await.expect("viworks starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Ran { code: done.status.code(), stdout: text(done.stdout), stderr: text(done.stderr) }
    }
}
