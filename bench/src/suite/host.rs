//! A host of our own: started on a fresh directory and free ports, ended by its pid.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::child::terminate;
use crate::http::{Client, Origin};
use crate::operator::Operator;
use crate::schedule::{nanos, now_ns};

/// Longest wait for it to listen and to serve `exec.run`.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A running host.
pub struct Host {
    /// The operators' door.
    pub api: String,
    /// The agents' door.
    pub agents: String,
    /// The first administrator's login.
    pub credential: PathBuf,
    /// Its process.
    pub pid: u32,
    /// From exec to listening.
    pub ready_in: Duration,
    /// From exec to every part of it ready, its plugins among them.
    pub serving_in: Duration,
    process: Child,
    home: TempDir,
}

#[derive(Deserialize)]
struct Listening {
    api: String,
    agents: String,
}

#[derive(Deserialize)]
struct Verb {
    name: String,
}

#[derive(Deserialize)]
struct Verbs {
    items: Vec<Verb>,
}

impl Host {
    /// Starts `binary` with the plugins of `plugins` on the database `url`; its other data lie in a fresh
    /// directory inside `work`.
    ///
    /// # Errors
    /// When it does not start to listen, or `exec.run` is not served; the end of its log comes along.
    pub async fn start(binary: &Path, plugins: &Path, work: &Path, url: &str) -> Result<Host> {
        Host::start_beating(binary, plugins, work, url, wire::limits::HEARTBEAT_MS).await
    }

    /// The same, with `heartbeat_ms` between an agent's heartbeats.
    ///
    /// # Errors
    /// As of [`start`](Self::start).
    pub async fn start_beating(
        binary: &Path,
        plugins: &Path,
        work: &Path,
        url: &str,
        heartbeat_ms: u64,
    ) -> Result<Host> {
        let home = tempfile::tempdir_in(work).with_context(|| format!("directory {}", work.display()))?;
        let data = home.path().join("data");
        let config = home.path().join("host.toml");
        let plugins = plugins.canonicalize().with_context(|| format!("plugins {}", plugins.display()))?;
        std::fs::write(&config, configuration(&data, &plugins, url, heartbeat_ms)?)?;
        Host::run(binary, home).await
    }

    /// Ends it and starts it again on what it left behind, which is how a restart looks to its agents; its ports
    /// are others.
    ///
    /// # Errors
    /// When it does not end, or does not start.
    pub async fn again(self, binary: &Path) -> Result<Host> {
        let Host { process, home, .. } = self;
        terminate(process).await?;
        let told = home.path().join("data/listening.json");
        if told.exists() {
            std::fs::remove_file(told)?;
        }
        Host::run(binary, home).await
    }

    async fn run(binary: &Path, home: TempDir) -> Result<Host> {
        let (data, config) = (home.path().join("data"), home.path().join("host.toml"));
        let log = home.path().join("host.log");
        let began = now_ns();
        let spawned = Command::new(binary)
            .args(["serve", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::from(std::fs::File::create(&log)?))
            .stderr(Stdio::from(std::fs::File::options().append(true).open(&log)?))
            .kill_on_drop(true)
            .spawn();
        let mut process = spawned.with_context(|| format!("host {}", binary.display()))?;
        let pid = process.id().context("the host ended at once")?;
        let until = began + nanos(READY_WITHIN);
        let listening: Listening = loop {
            if let Some(status) = process.try_wait()? {
                bail!("the host ended with {status} before it listened:\n{}", tail(&log));
            }
            // The file may be looked at while it is written: what does not parse yet is looked at again.
            if let Ok(text) = std::fs::read_to_string(data.join("listening.json"))
                && let Ok(listening) = serde_json::from_str(&text)
            {
                break listening;
            }
            if now_ns() > until {
                bail!("the host does not listen after {} s:\n{}", READY_WITHIN.as_secs(), tail(&log));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        let ready_in = Duration::from_nanos(now_ns() - began);
        let credential = data.join("admin.json");
        let Listening { api, agents } = listening;
        let mut host = Host { api, agents, credential, pid, ready_in, serving_in: ready_in, process, home };
        host.becomes_ready(until).await.with_context(|| format!("host's log:\n{}", tail(&log)))?;
        host.serving_in = Duration::from_nanos(now_ns() - began);
        host.serves("exec.run", until).await.with_context(|| format!("host's log:\n{}", tail(&log)))?;
        Ok(host)
    }

    async fn becomes_ready(&self, until: u64) -> Result<()> {
        let mut client = Client::new(Origin::parse(&self.api)?);
        loop {
            let answer = client.send("GET", "/readyz", None, None).await?;
            if answer.status == 200 {
                return Ok(());
            }
            if now_ns() > until {
                bail!("the host is not ready: {}", String::from_utf8_lossy(answer.body));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn serves(&self, verb: &str, until: u64) -> Result<()> {
        let operator = Operator::login(&self.api, &self.credential).await?;
        let mut client = operator.client();
        loop {
            let verbs: Verbs = operator.get(&mut client, "/api/v1/verbs").await?;
            if verbs.items.iter().any(|found| found.name == verb) {
                return Ok(());
            }
            if now_ns() > until {
                let names: Vec<String> = verbs.items.into_iter().map(|found| found.name).collect();
                bail!("no plugin serves {verb}; the host serves {names:?}");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Asks it to end and waits.
    ///
    /// # Errors
    /// When it had to be killed.
    pub async fn end(self) -> Result<()> {
        let Host { process, home, .. } = self;
        let ended = terminate(process).await;
        home.close()?;
        ended
    }
}

fn configuration(data: &Path, plugins: &Path, url: &str, heartbeat_ms: u64) -> Result<String> {
    // A JSON string is a TOML string.
    let quoted =
        |path: &Path| Ok::<_, anyhow::Error>(serde_json::to_string(path.to_str().context("a path is not text")?)?);
    Ok(format!(
        "[server]\nbind = \"127.0.0.1:0\"\nagents_bind = \"127.0.0.1:0\"\n\
         max_connections_per_address = 0\n[security]\nrequests_per_second = 0\nanonymous_per_second = 0\n\
         [agent_management]\nmax_unauthenticated_per_address = 0\nheartbeat_ms = {heartbeat_ms}\n\
         [database]\nurl = {}\n\
         [plugins]\ndir = {}\ndefault_grants = \"requested\"\n\
         [data]\ndir = {}\n\
         [logging]\nlevel = \"warn\"\n",
        serde_json::to_string(url)?,
        quoted(plugins)?,
        quoted(data)?
    ))
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_paths_survive_the_configuration() {
        let text = configuration(Path::new("/tmp/a \"b\"\\c"), Path::new("/p"), "sqlite:x", 15_000).expect("text");
        assert!(text.contains(r#"dir = "/tmp/a \"b\"\\c""#), "{text}");
    }

    #[tokio::test]
    async fn a_host_that_ends_at_once_is_told_with_its_last_words() {
        let dir = tempfile::tempdir().expect("temp dir");
        let binary = dir.path().join("host");
        std::fs::write(&binary, "#!/bin/sh\necho \"no room\" >&2\nexit 3\n").expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&binary, mode).expect("executable");
        let error = Host::start(&binary, dir.path(), dir.path(), "sqlite:x").await.err().expect("refused");
        let text = format!("{error:#}");
        assert!(text.contains("no room") && text.contains('3'), "{text}");
    }
}
