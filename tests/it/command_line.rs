//! `viworks` as a script uses it: data on standard output, exit codes that say what happened.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tests::host::TestHost;
use tests::machine::TestAgent;
use tests::programs::program;
use tests::store::Store;
use tokio::process::Command;

tests::on_both_stores![the_command_line_logs_in_runs_and_tells_by_its_exit_code,];

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

async fn viworks(config: &Path, words: &[&str]) -> Ran {
    let mut command = Command::new(program("viworks"));
    command.args(words).env("VIWORKS_CONFIG", config).env("NO_COLOR", "1").stdin(Stdio::null()).kill_on_drop(true);
    for name in ["VIWORKS_URL", "VIWORKS_TOKEN", "VIWORKS_CONTEXT"] {
        command.env_remove(name);
    }
    let done = command.output().await.expect("viworks starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Ran { code: done.status.code(), stdout: text(done.stdout), stderr: text(done.stderr) }
}

async fn the_command_line_logs_in_runs_and_tells_by_its_exit_code(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let _agent = TestAgent::start(&host, &admin, "web-1").await;
    let config = host.scratch().join("contexts.toml");
    let run = async |words: &[&str]| viworks(&config, words).await;

    let early = run(&["agent", "list"]).await;
    assert_eq!(early.code, Some(4), "not logged in: {}", early.stderr);

    let credential = host.credential_file().display().to_string();
    let login = run(&["login", &host.url(), "--credential", &credential]).await;
    assert_eq!(login.code, Some(0), "{}", login.stderr);

    let agents = run(&["agent", "list", "-o", "json"]).await;
    assert_eq!(agents.code, Some(0), "{}", agents.stderr);
    let list: Value = serde_json::from_str(&agents.stdout).expect("JSON and nothing else");
    let items = list.as_array().or_else(|| list["items"].as_array()).expect("a list");
    assert_eq!((items.len(), items[0]["name"].as_str()), (1, Some("web-1")));

    let ran = run(&["run", "exec.run", "-a", "web-1", "--", "uname", "-s"]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.contains("Linux") && ran.stdout.contains("web-1"), "{}", ran.stdout);

    let failed = run(&["run", "exec.run", "-a", "web-1", "--", "false"]).await;
    assert_eq!(failed.code, Some(5), "{}", failed.stderr);
    let unknown = run(&["run", "exec.rum", "-a", "web-1", "--", "true"]).await;
    assert_eq!(unknown.code, Some(2), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("exec.run"), "{}", unknown.stderr);
    let nobody = run(&["run", "exec.run", "-a", "nobody", "--", "true"]).await;
    assert_eq!(nobody.code, Some(6), "{}", nobody.stderr);

    let commands = admin.get("/api/v1/commands?status=succeeded").await.expect(200);
    let id = commands["items"][0]["id"].as_str().expect("the command that succeeded");
    let logs = run(&["logs", id]).await;
    assert_eq!(logs.code, Some(0), "{}", logs.stderr);
    assert!(logs.stdout.contains("Linux"), "{}", logs.stdout);
}
