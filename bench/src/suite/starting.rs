//! G1 to G3: how soon host and agent are at work, how big they are, and what memory they need, beside a small server
//! that does less (`nats-server`, where it is installed) and an agent that does next to nothing.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use crate::baseline::hub::Hub;
use crate::child::{Server, terminate};
use crate::report::{Measured, round};
use crate::runs::idle;
use crate::schedule::{nanos, now_ns};
use crate::suite::ground::Ground;
use crate::suite::machines::RealAgent;
use crate::table::{Goal, Row};
use crate::usage::memory_of;

/// Starts whose median counts.
const STARTS: usize = 5;
/// The plugins of an idle host.
const PLUGINS: [&str; 3] = ["compose", "docker", "exec"];
/// Longest wait for a program to be up.
const UP_WITHIN: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_micros(200);
/// Where Debian puts it, which is in no user's path.
const NATS: [&str; 2] = ["/usr/sbin/nats-server", "/usr/bin/nats-server"];

/// Host first, then the agent.
///
/// # Errors
/// When something of ours does not start.
pub async fn run(ground: &Ground<'_>) -> Result<Vec<Row>> {
    let mut rows = host(ground).await?;
    match &ground.asked.agent {
        Some(binary) => rows.extend(agent(ground, binary).await?),
        None => rows.push(Row::skipped("G3", "agent: start, size, memory", "no --agent")),
    }
    Ok(rows)
}

async fn host(ground: &Ground<'_>) -> Result<Vec<Row>> {
    let some = tempfile::tempdir_in(&ground.asked.work)?;
    for name in PLUGINS {
        let file = format!("{name}.wasm");
        let from = ground.asked.plugins.join(&file);
        std::fs::copy(&from, some.path().join(&file)).with_context(|| format!("plugin {}", from.display()))?;
    }
    // The first start makes keys and compiles plugins; the others are what a restart is.
    let (mut host, _, _) = ground.host_with(some.path()).await?;
    let mut found = Measured::new("start", json!({ "plugins": PLUGINS.len(), "starts": STARTS }));
    found.note("first_ready_ms", round(host.serving_in.as_secs_f64() * 1e3));
    let (mut listening, mut serving) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        host = host.again(&ground.asked.host).await?;
        listening.push(host.ready_in.as_secs_f64() * 1e3);
        serving.push(host.serving_in.as_secs_f64() * 1e3);
    }
    let rss = idle::settled_memory(host.pid).await?.rss as f64;
    host.end().await?;
    let (listening, serving) = (middle(&mut listening), middle(&mut serving));
    found.note("listening_ms", round(listening));
    found.note("ready_ms", round(serving));
    found.note("rss_bytes", rss);
    found.note("host_bytes", size(&ground.asked.host)?);
    ground.keep(found)?;

    let start = "host, exec → ready (warm) ÷ nats-server's exec → listening";
    let memory = "host idle with three plugins, memory ÷ nats-server's";
    let Some(nats) = NATS.iter().map(Path::new).find(|path| path.is_file()) else {
        let why = "no nats-server here: apt-get install nats-server";
        return Ok(vec![Row::skipped("G1", start, why), Row::skipped("G2", memory, why)]);
    };
    let mut times = Vec::new();
    let mut nats_rss = 0.0;
    for _ in 0..STARTS {
        let (process, took) = nats_server(nats).await?;
        times.push(took.as_secs_f64() * 1e3);
        nats_rss = idle::settled_memory(process.id().context("nats-server ended")?).await?.rss as f64;
        terminate(process).await?;
    }
    let mib = f64::from(1 << 20);
    Ok(vec![
        Row::new("G1", start, "ms", Goal::AtMost(10.0), serving, middle(&mut times)),
        Row::new("G2", memory, "MiB", Goal::AtMost(3.5), rss / mib, nats_rss / mib),
    ])
}

/// Starts it on a free port; how long it is until it takes a connection.
async fn nats_server(binary: &Path) -> Result<(Child, Duration)> {
    let free = TcpListener::bind(("127.0.0.1", 0)).await?.local_addr()?;
    let began = now_ns();
    let mut start = Command::new(binary);
    start.args(["-a", "127.0.0.1", "-p", &free.port().to_string()]);
    start.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let process = start.spawn().context("nats-server")?;
    while TcpStream::connect(free).await.is_err() {
        anyhow::ensure!(now_ns() < began + nanos(UP_WITHIN), "nats-server does not listen");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok((process, Duration::from_nanos(now_ns() - began)))
}

async fn agent(ground: &Ground<'_>, binary: &Path) -> Result<Vec<Row>> {
    let (host, operator, _) = ground.host().await?;
    let mut agent = RealAgent::join(binary, &ground.asked.work, &host, &operator, "starting").await?;
    // The first start makes its journal and its supervisor.
    agent.run(binary, &operator).await?;
    let mut times = Vec::new();
    for _ in 0..STARTS {
        agent = agent.stopped(&operator).await?;
        times.push(agent.run(binary, &operator).await?.as_secs_f64() * 1e3);
    }
    let rss = idle::settled_memory(agent.pid().context("the agent runs")?).await?.rss as f64;
    let supervisor = agent.supervisor().and_then(|pid| u32::try_from(pid).ok()).context("its supervisor runs")?;
    let supervisor_rss = memory_of(supervisor)?.rss as f64;
    agent.end().await?;
    host.end().await?;

    let bare = bare_agent()?;
    let mut bare_times = Vec::new();
    let mut bare_rss = 0.0;
    let server = Server::start(Hub::ROLE).await?;
    for _ in 0..STARTS {
        let began = now_ns();
        let mut start = Command::new(&bare);
        let url = format!("ws://{}{}", server.hail.listening, wire::limits::PATH);
        start.arg(url).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = start.spawn().with_context(|| format!("bare agent {}", bare.display()))?;
        let said = process.stdout.take().context("its output is a pipe")?;
        let mut lines = BufReader::new(said).lines();
        let line =
            tokio::time::timeout(UP_WITHIN, lines.next_line()).await.context("the bare agent says nothing")??;
        anyhow::ensure!(line.as_deref() == Some("up"), "the bare agent says {line:?}");
        bare_times.push(Duration::from_nanos(now_ns() - began).as_secs_f64() * 1e3);
        bare_rss = memory_of(process.id().context("the bare agent ended")?)?.rss as f64;
        terminate(process).await?;
    }
    server.end().await?;
    let (took, bare_took) = (middle(&mut times), middle(&mut bare_times));
    let (bytes, bare_bytes) = (size(binary)?, size(&bare)?);
    let mut found = Measured::new("agent-start", json!({ "starts": STARTS }));
    found.note("online_ms", round(took));
    found.note("bare_up_ms", round(bare_took));
    found.note("rss_bytes", rss);
    found.note("agent_bytes", bytes);
    found.note("bare_bytes", bare_bytes);
    ground.keep(found)?;
    let mib = f64::from(1 << 20);
    let beside = "its supervisor's memory ÷ the agent's own";
    Ok(vec![
        Row::new("G3", beside, "MiB", Goal::Told, supervisor_rss / mib, rss / mib),
        Row::new("G3", "agent's binary ÷ bare client's", "MiB", Goal::AtMost(2.5), bytes / mib, bare_bytes / mib),
        Row::new("G3", "agent's memory ÷ bare client's", "MiB", Goal::AtMost(3.0), rss / mib, bare_rss / mib),
        Row::new("G3", "agent, exec → online ÷ bare client's exec → up", "ms", Goal::AtMost(6.0), took, bare_took),
    ])
}

/// The bare agent lies beside this program.
fn bare_agent() -> Result<PathBuf> {
    let here = std::env::current_exe().context("this program's own path")?;
    Ok(here.with_file_name("viworks-bare-agent"))
}

fn size(file: &Path) -> Result<f64> {
    Ok(std::fs::metadata(file).with_context(|| file.display().to_string())?.len() as f64)
}

fn middle(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
