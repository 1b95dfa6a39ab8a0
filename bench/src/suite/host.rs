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

/// What a host is to have besides the usual.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setting<'a> {
    /// Between an agent's heartbeats, milliseconds.
    pub heartbeat_ms: Option<u64>,
    /// By what it calls other hosts.
    pub redis: Option<&'a str>,
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
        Host::start_as(binary, plugins, work, url, Setting::default()).await
    }

    /// The same, as `setting` says.
    ///
    /// # Errors
    /// As of [`start`](Self::start).
    pub async fn start_as(binary: &Path, plugins: &Path, work: &Path, url: &str, setting: Setting<'_>) -> Result<Host> {
        Host::run(binary, settled(plugins, work, url, setting)?).await
    }

    /// One more on the same database, with its keys and its administrator.
    ///
    /// # Errors
    /// As of [`start`](Self::start).
    pub async fn beside(
        &self,
        binary: &Path,
        plugins: &Path,
        work: &Path,
        url: &str,
        setting: Setting<'_>,
    ) -> Result<Host> {
        let home = settled(plugins, work, url, setting)?;
        let (ours, theirs) = (self.home.path().join("data"), home.path().join("data"));
        std::fs::create_dir_all(theirs.join("keys"))?;
        for key in std::fs::read_dir(ours.join("keys"))? {
            let key = key?;
            std::fs::copy(key.path(), theirs.join("keys").join(key.file_name()))?;
        }
        std::fs::copy(&self.credential, theirs.join("admin.json"))?;
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
        Host::run(binary, home).await
    }

    /// Kills it with -9 and starts it again on what it left behind; its ports are others.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn killed(self, binary: &Path) -> Result<Host> {
        let Host { mut process, home, .. } = self;
        process.kill().await.context("the host cannot be killed")?;
        Host::run(binary, home).await
    }

    async fn run(binary: &Path, home: TempDir) -> Result<Host> {
        let (data, config) = (home.path().join("data"), home.path().join("host.toml"));
        let (log, told) = (home.path().join("host.log"), data.join("listening.json"));
        // Where one before it listened, it does not.
        if told.exists() {
            std::fs::remove_file(&told)?;
        }
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
            if let Ok(text) = std::fs::read_to_string(&told)
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

/// A fresh home with a configuration in it.
fn settled(plugins: &Path, work: &Path, url: &str, setting: Setting<'_>) -> Result<TempDir> {
    let home = tempfile::tempdir_in(work).with_context(|| format!("directory {}", work.display()))?;
    let plugins = plugins.canonicalize().with_context(|| format!("plugins {}", plugins.display()))?;
    let text = configuration(&home.path().join("data"), &plugins, url, setting)?;
    std::fs::write(home.path().join("host.toml"), text)?;
    Ok(home)
}

fn configuration(data: &Path, plugins: &Path, url: &str, setting: Setting<'_>) -> Result<String> {
    // A JSON string is a TOML string.
    let quoted =
        |path: &Path| Ok::<_, anyhow::Error>(serde_json::to_string(path.to_str().context("a path is not text")?)?);
    let heartbeat_ms = setting.heartbeat_ms.unwrap_or(wire::limits::HEARTBEAT_MS);
    let redis =
        setting.redis.map(|url| Ok::<_, anyhow::Error>(format!("[redis]\nurl = {}\n", serde_json::to_string(url)?)));
    let redis = redis.transpose()?.unwrap_or_default();
    Ok(format!(
        "[server]\nbind = \"127.0.0.1:0\"\nagents_bind = \"127.0.0.1:0\"\n\
         max_connections_per_address = 0\n[security]\n\
         requests_per_second = 1000000\nrequest_burst = 1000000\n\
         anonymous_per_second = 1000000\nanonymous_burst = 1000000\n\
         [agent_management]\nmax_unauthenticated_per_address = 0\nheartbeat_ms = {heartbeat_ms}\n\
         [database]\nurl = {}\n\
         [plugins]\ndir = {}\ndefault_grants = \"requested\"\n\
         [data]\ndir = {}\n\
         {redis}[logging]\nlevel = \"warn\"\n",
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
        let (data, setting) = (Path::new("/tmp/a \"b\"\\c"), Setting::default());
        let text = configuration(data, Path::new("/p"), "sqlite:x", setting).expect("text");
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
