//! A8: real agents, each a process with its supervisor and journal, running real processes; beside them the most
//! processes this machine starts.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use crate::child::terminate;
use crate::http::{Client, Origin};
use crate::latency::Recorder;
use crate::operator::Operator;
use crate::report::{Measured, round};
use crate::schedule::{Window, nanos, now_ns};
use crate::suite::ground::Ground;
use crate::suite::host::Host;
use crate::table::{Goal, Row};
use crate::usage::Meter;

/// Machines, as many as peers were measured with.
const MACHINES: usize = 10;
/// Processes started at once when nothing else is done.
const SPAWNING: usize = 4;
/// Longest wait for an agent to be seen.
const SEEN_WITHIN: Duration = Duration::from_secs(30);
/// Between two looks at whether it is.
const LOOK_EVERY: Duration = Duration::from_micros(500);

/// A real agent on a folder of its own.
pub struct RealAgent {
    /// Its name at the host.
    pub name: String,
    home: TempDir,
    process: Option<Child>,
}

#[derive(Deserialize)]
struct JoinToken {
    token: String,
}

#[derive(Deserialize)]
struct Seen {
    status: String,
}

impl RealAgent {
    /// Has `binary` join as `name`; it may run `sh` and nothing else.
    ///
    /// # Errors
    /// When host or agent refuse.
    pub async fn join(binary: &Path, work: &Path, host: &Host, operator: &Operator, name: &str) -> Result<RealAgent> {
        let home = tempfile::tempdir_in(work).context("the agent's folder")?;
        let made: JoinToken = operator.post(&mut operator.client(), "/api/v1/join-tokens", b"{}").await?;
        let url = format!("http://{}", Origin::parse(&host.agents)?.authority);
        let mut join = Command::new(binary);
        join.args(["join", &url, "--name", name, "--data"]).arg(home.path().join("data"));
        // By the environment, because everybody may read a command line.
        let done = join.env("VIWORKS_JOIN_TOKEN", made.token).stdin(Stdio::null()).output().await?;
        ensure!(done.status.success(), "{name} cannot join: {}", String::from_utf8_lossy(&done.stderr));
        let policy = home.path().join("policy.toml");
        std::fs::write(
            &policy,
            "effects = [\"read\", \"change\", \"destroy\", \"host\"]\n[programs.sh]\npath = \"/bin/sh\"\n",
        )?;
        std::fs::set_permissions(&policy, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        Ok(RealAgent { name: name.to_owned(), home, process: None })
    }

    /// Starts its process; how long it is from there until the host says that it is online.
    ///
    /// # Errors
    /// When it is not seen in time.
    pub async fn run(&mut self, binary: &Path, operator: &Operator) -> Result<Duration> {
        let (path, mut client) = (format!("/api/v1/agents/{}", self.name), operator.client());
        let began = now_ns();
        let log = std::fs::File::create(self.home.path().join("agent.log"))?;
        let mut run = Command::new(binary);
        run.args(["run", "--data"]).arg(self.data()).arg("--policy").arg(self.home.path().join("policy.toml"));
        run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::from(log)).kill_on_drop(true);
        self.process = Some(run.spawn().with_context(|| format!("agent {}", binary.display()))?);
        loop {
            let seen: Seen = operator.get(&mut client, &path).await?;
            if seen.status == "online" {
                return Ok(Duration::from_nanos(now_ns() - began));
            }
            if now_ns() > began + nanos(SEEN_WITHIN) {
                let log = std::fs::read_to_string(self.home.path().join("agent.log")).unwrap_or_default();
                anyhow::bail!("{} is {}: {log}", self.name, seen.status);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Its process.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().and_then(Child::id)
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// The same with its process and its supervisor's ended, and seen to be gone by the host.
    ///
    /// # Errors
    /// When it had to be killed, or the host goes on seeing it.
    pub async fn stopped(mut self, operator: &Operator) -> Result<RealAgent> {
        if let Some(process) = self.process.take() {
            terminate(process).await?;
        }
        let ended_within = now_ns() + nanos(SEEN_WITHIN);
        while let Some(pid) = self.supervisor() {
            _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            ensure!(now_ns() < ended_within, "the supervisor of {} does not end", self.name);
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let (path, mut client) = (format!("/api/v1/agents/{}", self.name), operator.client());
        let until = now_ns() + nanos(SEEN_WITHIN);
        while operator.get::<Seen>(&mut client, &path).await?.status == "online" {
            ensure!(now_ns() < until, "the host still sees {}", self.name);
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(self)
    }

    /// Ends it, and its supervisor, which would outlive it for a minute.
    ///
    /// # Errors
    /// When it had to be killed.
    pub async fn end(mut self) -> Result<()> {
        if let Some(process) = self.process.take() {
            terminate(process).await?;
        }
        if let Some(pid) = self.supervisor() {
            _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        Ok(())
    }

    /// The process of its supervisor.
    pub fn supervisor(&self) -> Option<i32> {
        let lock = std::fs::read_to_string(self.data().join("supervisor.lock")).unwrap_or_default();
        let pid = lock.trim().parse::<i32>().ok()?;
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let ours = self.data();
        // The number may be somebody else's by now.
        line.split(|byte| *byte == 0).any(|word| word == ours.as_os_str().as_encoded_bytes()).then_some(pid)
    }
}

/// Ten machines, one command under way on each; then one command at a time.
///
/// # Errors
/// When an agent does not start, or a command does not succeed.
pub async fn run(ground: &Ground<'_>) -> Result<Vec<Row>> {
    let Some(binary) = &ground.asked.agent else {
        return Ok(vec![Row::skipped("A8", "commands of 10 real agents ÷ processes started", "no --agent")]);
    };
    let length = Duration::from_secs(if ground.asked.quick { 5 } else { 15 });
    let before = spawns(length / 2).await?;
    let (host, operator, _) = ground.host().await?;
    let mut machines = Vec::new();
    for number in 0..MACHINES {
        let name = format!("machine-{number}");
        let mut machine = RealAgent::join(binary, &ground.asked.work, &host, &operator, &name).await?;
        machine.run(binary, &operator).await?;
        machines.push(machine);
    }
    let names: Vec<String> = machines.iter().map(|machine| machine.name.clone()).collect();
    let at_once = ground.keep(load(&host, &operator, &names, length).await?)?;
    let alone = ground.keep(load(&host, &operator, &names[..1], length).await?)?;
    for machine in machines {
        machine.end().await?;
    }
    host.end().await?;
    let after = spawns(length / 2).await?;
    let what = "commands of 10 real agents, each a /bin/sh ÷ processes started";
    Ok(vec![
        Row::new("A8", what, "/s", Goal::AtLeast(0.6), at_once.rate, f64::midpoint(before, after)),
        Row::new("A8", "one at a time, p50", "µs", Goal::Told, alone.latency.p50_us, f64::NAN),
        Row::new("A8", "one at a time, p90", "µs", Goal::Told, alone.latency.p90_us, f64::NAN),
    ])
}

/// A command to each of `names` after the other, each waited for, from as many clients as there are names.
async fn load(host: &Host, operator: &Arc<Operator>, names: &[String], length: Duration) -> Result<Measured> {
    let window = Window::after(Duration::from_secs(1), length);
    let recorder = Arc::new(Recorder::default());
    let mut callers = JoinSet::new();
    for (index, name) in names.iter().enumerate() {
        let body = json!({
            "verb": "exec.run", "args": { "program": "sh", "args": ["-c", "true"] }, "target": { "agents": [name] },
        });
        let (body, recorder, bearer) = (body.to_string(), recorder.clone(), operator.bearer());
        let mut client = Client::new(operator.origin.clone()).preferring("wait=30");
        callers.spawn(async move {
            let mut done = 0_u64;
            loop {
                let began = now_ns();
                if began >= window.to {
                    return Ok::<u64, anyhow::Error>(done);
                }
                let answer = client.send("POST", "/api/v1/commands", Some(&bearer), Some(body.as_bytes())).await?;
                let told: Value = serde_json::from_slice(answer.body).unwrap_or_default();
                ensure!(
                    answer.status == 200 && told["status"] == "succeeded",
                    "{}: {}",
                    answer.status,
                    String::from_utf8_lossy(answer.body)
                );
                let ended = now_ns();
                if window.holds(began) && window.holds(ended) {
                    done += 1;
                    recorder.record(index, ended - began);
                }
            }
        });
    }
    tokio::time::sleep(Duration::from_nanos(window.from.saturating_sub(now_ns()))).await;
    let meter = Meter::start(Some(host.pid));
    tokio::time::sleep(Duration::from_nanos(window.to.saturating_sub(now_ns()))).await;
    let mut found = Measured::new("machines", json!({ "agents": names.len(), "duration_s": length.as_secs_f64() }));
    found.cost = meter.stop();
    while let Some(caller) = callers.join_next().await {
        found.operations += caller.context("a caller panicked")??;
    }
    found.rate = found.operations as f64 / window.seconds();
    found.latency = recorder.quantiles();
    found.note("p50_ms", round(found.latency.p50_us / 1e3));
    Ok(found)
}

/// Processes that this machine starts and ends in a second, a few at once.
async fn spawns(length: Duration) -> Result<f64> {
    let until = now_ns() + nanos(length);
    let began = now_ns();
    let mut starters = JoinSet::new();
    for _ in 0..SPAWNING {
        starters.spawn_blocking(move || {
            let mut done = 0_u64;
            while now_ns() < until {
                let mut shell = std::process::Command::new("/bin/sh");
                shell.args(["-c", "true"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                ensure!(shell.status()?.success(), "`sh -c true` fails here");
                done += 1;
            }
            Ok::<u64, anyhow::Error>(done)
        });
    }
    let mut all = 0;
    while let Some(starter) = starters.join_next().await {
        all += starter.context("a starter panicked")??;
    }
    Ok(all as f64 / Duration::from_nanos(now_ns() - began).as_secs_f64())
}
