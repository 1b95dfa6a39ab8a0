//! The agent of this machine: joined once, with a policy of harmless programs.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::http::Api;
use super::place::Place;
use crate::program::{find, read, say, write_whole};

/// What the agent is called, if nobody has that name.
const NAME: &str = "local";
/// Programs the policy lists, if they are here. The last two are the container tools.
const PROGRAMS: [&str; 10] =
    ["uname", "uptime", "df", "date", "sleep", "echo", "cat", "false", "docker", "docker-compose"];

/// Who the agent is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The id the host gave it.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// Ends the agent's supervisor, which would outlive the agent for a minute, and with it whatever still runs.
/// Nothing when it is gone already.
pub fn end_supervisor(place: &Place) {
    let data = place.agent();
    let Ok(text) = std::fs::read_to_string(data.join("supervisor.lock")) else { return };
    let Ok(pid) = text.trim().parse::<i32>() else { return };
    // The number may be somebody else's by now.
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = line.split(|byte| *byte == 0);
    if words.clone().any(|word| word == b"supervise") && words.any(|word| word == data.as_os_str().as_encoded_bytes()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
}

/// Joins, or finds that it has joined before.
///
/// # Errors
/// When the host or the agent refuses.
pub fn enrol(place: &Place, api: &Api, agents_port: u16, program: &Path) -> anyhow::Result<Identity> {
    let path = place.agent().join("identity.json");
    if !path.exists() {
        let agents = api.get("/api/v1/agents")?;
        let name = free_name(&agents);
        let body = json!({ "ttl_s": 300 });
        let token = api.post("/api/v1/join-tokens", &body)?;
        let token = token["token"].as_str().context("the answer to POST /api/v1/join-tokens holds no token")?;
        let url = format!("http://127.0.0.1:{agents_port}");
        let mut join = Command::new(program);
        join.args(["join", &url, "--name", &name, "--data"]).arg(place.agent());
        // By the environment, because everybody may read a command line.
        join.env("VIWORKS_JOIN_TOKEN", token);
        read(&mut join).context("the agent cannot join")?;
        say(format_args!("      joined as `{name}`"));
    }
    let text = super::read_text(&path)?;
    let identity: Value = serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?;
    if let Some(moved) = at_port(&identity, agents_port) {
        let mode =
            std::fs::metadata(&path).with_context(|| format!("{} cannot be read", path.display()))?.permissions();
        let beside = path.with_extension("moved");
        std::fs::write(&beside, "").and_then(|()| std::fs::set_permissions(&beside, mode)).context("identity")?;
        std::fs::write(&beside, format!("{moved:#}\n"))
            .and_then(|()| std::fs::rename(&beside, &path))
            .context("identity")?;
        say("      the host's port for agents is another one than last time; told the agent");
    }
    let text =
        |key: &str| identity[key].as_str().map(str::to_owned).with_context(|| format!("identity.json holds no {key}"));
    Ok(Identity { id: text("agent_id")?, name: text("name")? })
}

/// The identity with the host's present port, if it names another.
fn at_port(identity: &Value, port: u16) -> Option<Value> {
    let url = format!("ws://127.0.0.1:{port}/ws/agent");
    if identity["ws_url"] == *url {
        return None;
    }
    let mut moved = identity.clone();
    moved["ws_url"] = url.into();
    Some(moved)
}

/// `local`, or with the first number that makes it free: names are never used twice.
fn free_name(agents: &Value) -> String {
    let taken: Vec<&str> =
        agents["items"].as_array().into_iter().flatten().filter_map(|agent| agent["name"].as_str()).collect();
    let numbered = (2..).map(|number| format!("{NAME}-{number}"));
    let mut names = std::iter::once(NAME.to_owned()).chain(numbered);
    names.find(|name| !taken.contains(&name.as_str())).unwrap_or_else(|| NAME.to_owned())
}

/// Arguments to run it with.
pub fn arguments(place: &Place) -> [OsString; 5] {
    let (data, policy) = (place.agent().into_os_string(), place.agent_policy().into_os_string());
    ["run".into(), "--data".into(), data, "--policy".into(), policy]
}

/// Writes the policy, unless there is one: it is its owner's to change. Says what it left out.
///
/// # Errors
/// What the file system answered.
pub fn write_policy(path: &Path) -> anyhow::Result<Vec<String>> {
    if path.exists() {
        return Ok(Vec::new());
    }
    let mut lines = Vec::new();
    let mut text = String::from(
        "# What this machine lets anybody do with it: the last word, whatever the host says.\n\
         # Written once by `cargo xtask up`; yours to change. Remove it to have it made again.\n\
         effects = [\"read\", \"change\", \"destroy\", \"host\"]\n",
    );
    for name in PROGRAMS {
        let Some(found) = find(name) else { continue };
        if let Some(why) = unsafe_to_list(&found) {
            lines.push(format!("policy leaves out {}: {why}", found.display()));
            continue;
        }
        text += &format!("\n[programs.{name}]\npath = {}\n", toml::Value::from(found.display().to_string()));
        match name {
            "cat" => text += "stdin = true\n",
            // What docker.build, docker.exec and compose.up give besides arguments.
            "docker" | "docker-compose" => text += "stdin = true\nenv = [\"DOCKER_BUILDKIT\", \"VIWORKS_VAR_*\"]\n",
            _ => {}
        }
    }
    write_whole(path, &text)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(path, mode).with_context(|| format!("{} cannot be made private", path.display()))?;
    Ok(lines)
}

/// Why an agent would refuse a policy that names this file.
fn unsafe_to_list(path: &Path) -> Option<&'static str> {
    let real: PathBuf = std::fs::canonicalize(path).ok()?;
    let mode = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.mode());
    if mode(&real) & 0o022 != 0 {
        return Some("others may write to it");
    }
    let open = real.ancestors().skip(1).any(|folder| mode(folder) & 0o002 != 0 && mode(folder) & 0o1000 == 0);
    open.then_some("others may replace it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_never_asked_for_twice() {
        assert_eq!(free_name(&json!({ "items": [] })), "local");
        assert_eq!(free_name(&json!({ "items": [{ "name": "local" }, { "name": "local-2" }] })), "local-3");
    }

    #[test]
    fn an_identity_follows_the_hosts_port() {
        let identity = json!({ "ws_url": "ws://127.0.0.1:9090/ws/agent", "name": "local" });
        assert_eq!(at_port(&identity, 9090), None);
        let moved = at_port(&identity, 9191).expect("moved");
        assert_eq!((&moved["ws_url"], &moved["name"]), (&json!("ws://127.0.0.1:9191/ws/agent"), &json!("local")));
    }

    #[test]
    fn the_policy_lists_absolute_paths_and_is_left_alone_afterwards() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("policy.toml");
        write_policy(&path).expect("written");
        let policy: toml::Table = std::fs::read_to_string(&path).expect("read").parse().expect("TOML");
        let uname = policy["programs"]["uname"]["path"].as_str().expect("a path");
        assert!(uname.starts_with('/') && Path::new(uname).is_file(), "{uname}");
        assert!(policy["programs"].get("sh").is_none());
        std::fs::write(&path, "effects = []\n").expect("written");
        write_policy(&path).expect("left");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "effects = []\n");
    }
}
