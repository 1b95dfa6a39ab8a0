//! What the machine is and can do, as said in HELLO.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use wire::facts::Facts;

use crate::clock;
use crate::config::Config;
use crate::policy::Policy;

/// Longest time a container tool gets to say its version.
const PROBE_WITHIN: Duration = Duration::from_secs(2);

/// Looks at the machine. Takes two seconds at most, when a container engine does not answer.
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
        compose: compose.map(str::to_owned),
        labels,
        boot_id: clock::boot_id(),
    }
}

fn capabilities(policy: &Policy, has_compose: bool) -> Vec<String> {
    let claims =
        [("compose", has_compose), ("docker", policy.file("docker").is_some()), ("exec", policy.allows_exec())];
    claims.into_iter().filter(|(_, claimed)| *claimed).map(|(name, _)| name.to_owned()).collect()
}

async fn container_engine(policy: &Policy) -> Option<String> {
    let version = probe(policy, "docker", &["version", "--format", "{{.Server.Version}}"]).await?;
    Some(format!("docker {version}"))
}

async fn compose_flavour(policy: &Policy) -> Option<&'static str> {
    if probe(policy, "docker", &["compose", "version", "--short"]).await.is_some() {
        return Some("v2");
    }
    probe(policy, "docker-compose", &["version", "--short"]).await.map(|version| match version.starts_with("1.") {
        true => "v1",
        false => "v2",
    })
}

/// First line of what the tool says; `None` when the policy does not have it, or it fails or hangs.
async fn probe(policy: &Policy, program: &str, args: &[&str]) -> Option<String> {
    let mut command = Command::new(policy.file(program)?);
    command.args(args).env_clear().stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    if let Some(endpoint) = &policy.docker_host {
        command.env("DOCKER_HOST", endpoint);
    }
    let output = tokio::time::timeout(PROBE_WITHIN, command.output()).await.ok()?.ok()?;
    let line = String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().trim().to_owned();
    (output.status.success() && !line.is_empty() && line.len() <= 64).then_some(line)
}
