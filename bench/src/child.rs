//! Processes of our own that are measured: started, told what to do in JSON lines, ended by pid.
//!
//! Invariant: none outlives us. A child ends when its standard input does.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Longest wait for a child's first word.
const FIRST_WORD_WITHIN: Duration = Duration::from_secs(30);
/// Longest wait for a process to end when asked to.
const END_WITHIN: Duration = Duration::from_secs(15);

/// A child's first line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hail {
    /// Where it listens.
    pub listening: SocketAddr,
    /// What opens its doors, if anything is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// A child of this very program.
pub struct Server {
    /// Its first line.
    pub hail: Hail,
    /// Its process id.
    pub pid: u32,
    process: Child,
    orders: ChildStdin,
    words: Lines<BufReader<ChildStdout>>,
}

impl Server {
    /// Starts this program again as `role` and waits for its first line.
    ///
    /// # Errors
    /// When it does not start or says something else.
    pub async fn start(role: &str) -> Result<Server> {
        let program = std::env::current_exe().context("this program's own path")?;
        Server::of(Command::new(program).arg(role)).await
    }

    /// Starts `command`, which is to behave as [`start`](Self::start)'s child does.
    ///
    /// # Errors
    /// When it does not start or says something else.
    pub async fn of(command: &mut Command) -> Result<Server> {
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn();
        let mut process = spawned.context("child process")?;
        let pid = process.id().context("child ended at once")?;
        let orders = process.stdin.take().context("child has no standard input")?;
        let mut words = BufReader::new(process.stdout.take().context("child has no standard output")?).lines();
        let first =
            tokio::time::timeout(FIRST_WORD_WITHIN, words.next_line()).await.context("child says nothing")??;
        let hail =
            serde_json::from_str(&first.context("child ended before its first word")?).context("child's first word")?;
        Ok(Server { hail, pid, process, orders, words })
    }

    /// Tells the child one thing.
    ///
    /// # Errors
    /// When it is gone.
    pub async fn order(&mut self, order: &Value) -> Result<()> {
        self.orders.write_all(format!("{order}\n").as_bytes()).await.context("child is gone")?;
        self.orders.flush().await.context("child is gone")
    }

    /// The child's next word.
    ///
    /// # Errors
    /// When it is gone, or says something else.
    pub async fn hear<T: serde::de::DeserializeOwned>(&mut self, within: Duration) -> Result<T> {
        let line = tokio::time::timeout(within, self.words.next_line()).await.context("child does not answer")??;
        serde_json::from_str(&line.context("child ended")?).context("child's word")
    }

    /// Closes the child's standard input and waits for its end.
    ///
    /// # Errors
    /// When it does not end by itself; it is killed then.
    pub async fn end(self) -> Result<()> {
        let Server { mut process, orders, pid, .. } = self;
        drop(orders);
        if tokio::time::timeout(END_WITHIN, process.wait()).await.is_err() {
            process.kill().await?;
            bail!("child {pid} did not end with its standard input");
        }
        Ok(())
    }
}

/// Asks `process` to end and waits; kills it when it does not listen.
///
/// # Errors
/// When it had to be killed.
pub async fn terminate(mut process: Child) -> Result<()> {
    let Some(pid) = process.id() else { return Ok(()) };
    let raw = i32::try_from(pid).context("pid")?;
    kill(Pid::from_raw(raw), Signal::SIGTERM).with_context(|| format!("process {pid}"))?;
    if tokio::time::timeout(END_WITHIN, process.wait()).await.is_err() {
        process.kill().await?;
        bail!("process {pid} did not end within {} s of SIGTERM", END_WITHIN.as_secs());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn a_child_hails_obeys_and_ends_with_its_input() {
        let script = r#"echo '{"listening":"127.0.0.1:9"}'; while read -r line; do echo "$line"; done"#;
        let mut server = Server::of(Command::new("/bin/sh").args(["-c", script])).await.expect("started");
        assert_eq!(server.hail.listening.port(), 9);
        server.order(&json!({ "phase": "x" })).await.expect("heard");
        let echoed: Value = server.hear(Duration::from_secs(10)).await.expect("answers");
        assert_eq!(echoed, json!({ "phase": "x" }));
        server.end().await.expect("ends by itself");
    }

    #[tokio::test]
    async fn a_child_that_says_something_else_is_no_server() {
        let started = Server::of(Command::new("/bin/sh").args(["-c", "echo hello"])).await;
        assert!(started.is_err());
    }

    #[tokio::test]
    async fn a_process_is_ended_by_its_pid() {
        let process = Command::new("/bin/sh").args(["-c", "read x"]).stdin(Stdio::piped()).spawn().expect("started");
        terminate(process).await.expect("ends");
    }
}
