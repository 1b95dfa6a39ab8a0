//! What the machine is and can do, as said in HELLO.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use wire::facts::Facts;

use crate::clock;
use crate::config::Config;
use crate::policy::Policy;

/// Longest time a container tool gets to say its version.
const PROBE_WITHIN: Duration = Duration::from_secs(10);
/// Longest version that is believed.
const MAX_VERSION: usize = 64;

/// Looks at the machine. Takes twenty seconds at most, when container tools do not answer: a machine that is
/// busy when it starts is no machine without an engine.
pub async fn gather(policy: &Policy, config: &Config, joined_labels: &BTreeMap<String, String>) -> Facts {
    let system = nix::sys::utsname::uname().ok();
    let text =
        |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned()).unwrap_or_default();
    let (engine, compose) = tokio::join!(container_engine(policy), compose_flavour(policy));
    let mut labels = joined_labels.clone();
    labels.extend(config.labels.clone());
    Facts {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        os: std::env::consts::OS.to_owned(),
        kernel: text(system.as_ref().map(|system| system.release())),
        arch: std::env::consts::ARCH.to_owned(),
        hostname: text(system.as_ref().map(|system| system.nodename())),
        container_engine: engine,
        capabilities: config.capabilities.clone().unwrap_or_else(|| capabilities(policy, compose.is_some())),
        compose,
        labels,
        boot_id: clock::boot_id(),
    }
}

fn capabilities(policy: &Policy, has_compose: bool) -> Vec<String> {
    let claims =
        [("compose", has_compose), ("docker", policy.file("docker").is_some()), ("exec", policy.allows_exec())];
    claims.into_iter().filter(|(_, claimed)| *claimed).map(|(name, _)| name.to_owned()).collect()
}

/// `docker 20.10.24`, with `, client 28.2.2` if that is another version; `docker unreachable, client 28.2.2`
/// when the command is there and the engine does not answer; `None` without the command.
async fn container_engine(policy: &Policy) -> Option<String> {
    let said = match ask(policy, "docker", &["version", "--format", "{{json .}}"]).await {
        Answer::Silent => return Some("docker unreachable".to_owned()),
        Answer::None => return None,
        // Without an engine the command fails, and still prints its own version.
        Answer::Said { line, .. } => line,
    };
    let said: Value = serde_json::from_str(&said).ok()?;
    let version = |side: &str| said[side]["Version"].as_str().filter(|text| is_version(text));
    match (version("Server"), version("Client")) {
        (Some(server), Some(client)) if server != client => Some(format!("docker {server}, client {client}")),
        (Some(server), _) => Some(format!("docker {server}")),
        (None, Some(client)) => Some(format!("docker unreachable, client {client}")),
        (None, None) => None,
    }
}

/// Flavour and version: `v2 2.26.1` as docker's own plugin, `v2-standalone 2.26.1` or `v1 1.29.2` as
/// `docker-compose`. None of them needs the engine to answer.
async fn compose_flavour(policy: &Policy) -> Option<String> {
    let version = async |program, args: &[&str]| match ask(policy, program, args).await {
        Answer::Said { line, succeeded: true } => {
            Some(line.trim_start_matches('v').to_owned()).filter(|v| is_version(v))
        }
        Answer::Said { .. } | Answer::Silent | Answer::None => None,
    };
    if let Some(version) = version("docker", &["compose", "version", "--short"]).await {
        return Some(format!("v2 {version}"));
    }
    let version = version("docker-compose", &["version", "--short"]).await?;
    let flavour = if version.starts_with("1.") { "v1" } else { "v2-standalone" };
    Some(format!("{flavour} {version}"))
}

/// A digit first, then what versions are made of.
fn is_version(text: &str) -> bool {
    let letters = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'+' | b'~' | b'_'));
    letters && text.len() <= MAX_VERSION && text.starts_with(|first: char| first.is_ascii_digit())
}

/// What a tool makes of a question.
enum Answer {
    /// The policy does not have it, or it does not start.
    None,
    /// It hangs.
    Silent,
    /// Its first line, and whether it exited with 0.
    Said { line: String, succeeded: bool },
}

async fn ask(policy: &Policy, program: &str, args: &[&str]) -> Answer {
    let Some(file) = policy.file(program) else { return Answer::None };
    let mut command = Command::new(file);
    command.args(args).env_clear().envs(&policy.engine_env);
    command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(PROBE_WITHIN, command.output()).await {
        Err(_) => Answer::Silent,
        Ok(Err(error)) => {
            tracing::warn!(program, %error, "a container tool that the policy lists does not start");
            Answer::None
        }
        Ok(Ok(output)) => {
            let line = String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().trim().to_owned();
            Answer::Said { line, succeeded: output.status.success() }
        }
    }
}
