//! The binary itself: baselines run, say what they found, leave no process behind, and a run that
//! cannot be made says so by its exit status.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn run(arguments: &[&str], json: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_viworks-bench"));
    command.args(arguments).arg("--json").arg(json).output().expect("the binary runs")
}

#[track_caller]
fn findings(arguments: &[&str]) -> Vec<Value> {
    let dir = tempfile::tempdir().expect("temp dir");
    let json = dir.path().join("results.jsonl");
    let told = |output: &Output| {
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    let mut output = run(arguments, &json);
    // A machine that has more to do than this may not keep a rate, and that is told.
    for _ in 0..10 {
        if output.status.success() || !told(&output).contains("of the offered rate") {
            break;
        }
        let _ = std::fs::remove_file(&json);
        output = run(arguments, &json);
    }
    let told = told(&output);
    assert!(output.status.success(), "{told}");
    let text = std::fs::read_to_string(&json).expect("results were written");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    for line in &lines {
        let named = line["scenario"].as_str().expect("a name");
        assert!(told.contains(named), "{named} is not shown: {told}");
        assert_eq!(line["faults"], Value::Array(Vec::new()));
        assert!(line["conditions"]["cores"].as_u64() > Some(0));
    }
    lines
}

fn number(line: &Value, pointer: &str) -> f64 {
    line.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {pointer} in {line}"))
}

#[test]
fn the_hub_is_measured_idle_loaded_and_fanning_out() {
    let found = findings(&["hub", "--agents", "300", "--in-flight", "16", "--duration", "400ms", "--fan-out", "3"]);
    let names: Vec<&str> = found.iter().filter_map(|line| line["scenario"].as_str()).collect();
    assert_eq!(names, ["hub-idle", "hub", "hub-fanout"]);
    assert!(number(&found[0], "/notes/memory_per_agent_bytes") > 1_000.0);
    assert!(number(&found[1], "/rate") > 100.0 && number(&found[1], "/latency/p50_us") > 1.0);
    assert!((number(&found[2], "/operations") - 600.0).abs() < f64::EPSILON, "two measured rounds of 300");
    assert!(number(&found[2], "/latency/count") > 1.0);
}

#[test]
fn an_open_loop_on_the_hub_keeps_its_rate() {
    let found = findings(&["hub", "--agents", "20", "--rate", "200", "--duration", "1s", "--fan-out", "0"]);
    assert!((number(&found[1], "/latency/count") - 200.0).abs() < f64::EPSILON);
    assert!(number(&found[1], "/notes/achieved_share") >= 0.99);
}

#[test]
fn a_life_costs_fewer_commits_in_company() {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().to_str().expect("text");
    for batch in [1_u32, 64] {
        let found = findings(&["life", "--batch", &batch.to_string(), "--path", path, "--duration", "500ms"]);
        let (lives, commits) = (number(&found[0], "/operations"), number(&found[0], "/notes/commits"));
        assert!(lives > 0.0 && (lives * 3.0 - commits * f64::from(batch)).abs() < f64::EPSILON, "{lives}, {commits}");
    }
    assert_eq!(std::fs::read_dir(path).expect("dir").count(), 0, "the database is left behind");
}

#[test]
fn a_life_in_postgresql_is_measured_on_a_server_of_its_own() {
    if !servers::postgres::is_installed() {
        return servers::need::skipped("no PostgreSQL server here: apt-get install postgresql");
    }
    let dir = tempfile::tempdir().expect("temp dir");
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    let path = dir.path().to_str().expect("text");
    let asked = ["life", "--store", "postgres", "--batch", "64", "--path", path, "--duration", "500ms"];
    let found = &findings(&asked)[0];
    assert!(number(found, "/rate") > 64.0 && number(found, "/notes/commit_p50_us") > 0.0);
    let durability = found["conditions"]["durability"].as_str().expect("text");
    assert!(durability.starts_with("PostgreSQL ") && durability.contains("fsync=on"), "{durability}");
    assert_eq!(std::fs::read_dir(path).expect("dir").count(), 0, "the server is left behind");
}

#[test]
fn the_bare_route_is_read_behind_its_token() {
    let found = findings(&["route", "--connections", "4", "--duration", "400ms"]);
    assert!(number(&found[0], "/operations") > 10.0 && number(&found[0], "/notes/server_us_per_op") >= 0.0);
}

#[test]
fn what_cannot_be_measured_is_told_by_exit_status_and_cause() {
    let dir = tempfile::tempdir().expect("temp dir");
    let json = dir.path().join("results.jsonl");
    let missing = dir.path().join("admin.json");
    let missing = missing.to_str().expect("text");
    let output = run(&["reads", "--api", "http://127.0.0.1:9", "--credential", missing], &json);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("admin.json"), "{text}");
    let path = dir.path().to_str().expect("text");
    let output = run(&["all", "--host", "/bin/false", "--plugins", path, "--work", path, "--quick"], &json);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("before it listened"));
    assert!(!json.exists(), "nothing was measured, nothing is written");
}
