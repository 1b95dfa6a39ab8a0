//! `cargo xtask up --postgres --redis --hosts 2`, as a person starts it and ends it: what it says, that it works through
//! each host, and that nothing of it is left.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use servers::{need, postgres};
use tests::process::Process;
use tests::programs::program;
use tests::wait::{until, until_within};

/// Longest until it is ready: a fresh database, and two hosts that compile every plugin for the first time.
const READY_WITHIN: Duration = Duration::from_secs(600);

/// One process.
struct Running {
    parent: i32,
    /// When it began: with its id, who it is.
    since: String,
    words: String,
}

/// Every process there is.
fn processes() -> BTreeMap<i32, Running> {
    let entries = std::fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
    let found = entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // After the name in parentheses, which may hold anything: state, parent, and as the twentieth its beginning.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let words = std::fs::read(entry.path().join("cmdline")).ok()?;
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        let running = Running { parent: fields.get(1)?.parse().ok()?, since: (*fields.get(19)?).to_owned(), words };
        (!["Z", "X"].contains(&fields[0])).then_some((pid, running))
    });
    found.collect()
}

/// Processes that descend from `root`, or name the folder.
fn of(root: i32, folder: &Path) -> BTreeMap<i32, Running> {
    let all = processes();
    let mut ours = BTreeSet::from([root]);
    loop {
        let children: Vec<i32> = all
            .iter()
            .filter(|(pid, one)| ours.contains(&one.parent) && !ours.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if children.is_empty() {
            break;
        }
        ours.extend(children);
    }
    let folder = folder.display().to_string();
    all.into_iter().filter(|(pid, one)| ours.contains(pid) || one.words.contains(&folder)).collect()
}

/// The repository, whose own `.viworks` is nobody's to touch here.
fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

/// The command line tool with these contexts, to its end; what it printed.
fn viworks(contexts: &Path, words: &[&str]) -> String {
    let mut command = Command::new(program("viworks"));
    command.args(words).env("VIWORKS_CONFIG", contexts).env("NO_COLOR", "1");
    for name in ["VIWORKS_URL", "VIWORKS_TOKEN", "VIWORKS_CONTEXT"] {
        command.env_remove(name);
    }
    let done = command.output().expect("viworks starts");
    let stdout = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{words:?}: {stdout}{}", String::from_utf8_lossy(&done.stderr));
    stdout
}

#[tokio::test]
async fn a_cluster_on_one_machine_is_started_used_through_each_host_and_ended_by_one_signal() {
    if !postgres::is_installed() {
        return need::skipped("no PostgreSQL server here: apt-get install postgresql");
    }
    if let Err(why) = need::find("redis-server", "redis-server") {
        return need::skipped(&why);
    }
    let folder = tempfile::tempdir_in(servers::place::temporary()).expect("a folder");
    let (data, state) = (folder.path().join("data"), folder.path().join("state"));
    let elsewhere = folder.path().join("elsewhere.toml");
    // PostgreSQL does not run as root, and its user has to get there.
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o711)).expect("others may pass");
    let mut command = Command::new(program("xtask"));
    command.args(["up", "--postgres", "--redis", "--hosts", "2", "--api-port", "0", "--agent-port", "0", "--built"]);
    // What is said of the one that somebody may have started in this very repository stays as it is.
    command.arg("--data").arg(&data).arg("--state").arg(&state);
    let mut up = Process::start(&mut command, &folder.path().join("up.log"));
    until_within(READY_WITHIN, "it says that it is ready", async || {
        up.assert_alive();
        up.log().lines().any(|line| line.starts_with("ready in ")).then_some(())
    })
    .await;

    let text = std::fs::read_to_string(data.join("up.json")).expect("what it tells scripts");
    assert_eq!(std::fs::read_to_string(state.join("up.json")).expect("told there, too"), text);
    // Somebody else may be told of another one there, at any time.
    let told = std::fs::read_to_string(repository().join(".viworks/up.json")).unwrap_or_default();
    assert!(!told.contains(&*data.to_string_lossy()), "and nowhere else: {told}");
    let told: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(told["store"], "postgres", "{told:#}");
    let agent = told["agent"]["name"].as_str().expect("a name");
    let beside = told["hosts_beside"][0]["api"].as_str().expect("the second host's address");
    let run = ["run", "exec.run", "-a", agent, "--", "echo", "here"];
    // The first host by the login it made, the second by one of our own; the agent is at the first.
    let printed = viworks(&data.join("contexts.toml"), &run);
    assert!(printed.contains("here"), "{printed}");
    let credential = data.join("admin.json").display().to_string();
    viworks(&elsewhere, &["login", beside, "--credential", &credential]);
    let printed = viworks(&elsewhere, &run);
    assert!(printed.contains("here"), "{printed}");

    let there = of(up.pid(), &data);
    let words: Vec<&str> = there.values().map(|one| one.words.as_str()).collect();
    for part in ["viworks-host serve", "viworks-agent run", "viworks-agent supervise", "postgres", "redis-server"] {
        assert!(words.iter().any(|words| words.contains(part)), "no `{part}` in {words:#?}");
    }
    assert_eq!(words.iter().filter(|words| words.contains("viworks-host serve")).count(), 2, "{words:#?}");
    let ended = up.end_by(Signal::SIGINT).await;
    assert!(ended.success(), "{ended}: {}", up.log());
    until("nothing of it is left", async || {
        let now = processes();
        let is_left = |pid: &i32, one: &Running| now.get(pid).is_some_and(|now| now.since == one.since);
        let left = there.iter().any(|(pid, one)| is_left(pid, one));
        (!left && of(up.pid(), &data).is_empty()).then_some(())
    })
    .await;
    let told = [data.join("up.json"), state.join("up.json")];
    assert!(told.iter().all(|told| !told.exists()), "and nobody is told any more that it is there");
}
