//! Containers on a real engine as they print and end: logs, plain and followed, stop, cancel and removal.

use std::time::Instant;

use domain::attempt::State;
use serde_json::{Value, json};
use servers::docker::Engine;
use tests::client::state_of;
use tests::dock::{Dock, MACHINE, summary};
use tests::events::Events;
use tests::wait::CEILING;

/// Prints a numbered line ten times a second, and ends at once when asked to.
const COUNTS: &str = "trap 'exit 0' TERM; i=0; while :; do i=$((i+1)); echo line $i; sleep 0.1; done";
/// Says when its trap is set, then ignores the request to end.
const STUBBORN: &str = "trap '' TERM; echo ready; while :; do sleep 0.1; done";

/// Starts a container of the test's own that runs a script, and waits until it has printed something.
fn start(engine: &Engine, name: &str, script: &str) {
    let image = engine.busybox().expect("a base image");
    engine.run(&["run", "-d", "--network", "none", "--name", name, image, "sh", "-c", script]).expect("it runs");
    let begun = Instant::now();
    while engine.run(&["logs", name]).expect("its logs").is_empty() {
        assert!(begun.elapsed() < CEILING, "{name} prints nothing");
    }
}

fn state(engine: &Engine, name: &str) -> String {
    engine.run(&["inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", name]).expect("the container")
}

/// Reads output as it comes until there are so many whole lines.
async fn lines(events: &mut Events, count: usize) -> Vec<String> {
    let mut text = String::new();
    while text.lines().count() < count || !text.ends_with('\n') {
        let event = events.next().await.expect("the stream goes on");
        if event.name == "output" {
            text += &event.text();
        }
    }
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn what_a_container_printed_can_be_read_line_by_line() {
    let Some(engine) = Engine::shared() else { return };
    let image = engine.busybox().expect("a base image");
    // The engine gives each line its time when it comes to read it.
    let script = "echo one; sleep 1; echo two >&2; sleep 1; echo three";
    engine.run(&["run", "--network", "none", "--name", "spoke", image, "sh", "-c", script]).expect("it ran");
    let dock = Dock::at(&engine.endpoint()).await;

    let printed = dock.result("docker.logs", &json!({ "container": "spoke" })).await;
    assert_eq!(printed["truncated"], false);
    let lines = printed["lines"].as_array().expect("lines");
    let said: Vec<(&str, &str)> =
        lines.iter().map(|line| (line["stream"].as_str().unwrap_or(""), line["text"].as_str().unwrap_or(""))).collect();
    assert_eq!(
        said,
        [("stdout", "one"), ("stderr", "two"), ("stdout", "three")],
        "both streams in the order of their times"
    );
    let times: Vec<&str> = lines.iter().filter_map(|line| line["time"].as_str()).collect();
    assert!(times.len() == 3 && times.is_sorted() && times.iter().all(|time| time.ends_with('Z')), "{times:?}");

    let last = dock.result("docker.logs", &json!({ "container": "spoke", "tail": 1, "timestamps": false })).await;
    assert_eq!(last["lines"], json!([{ "stream": "stdout", "text": "three" }]));
    let after = dock.result("docker.logs", &json!({ "container": "spoke", "since": times[1] })).await;
    assert_eq!(after["lines"].as_array().map(Vec::len), Some(2), "{after:#}");
    let failed = dock.failure("docker.logs", &json!({ "container": "nosuch" })).await;
    assert_eq!(summary(&failed), "there is no container `nosuch` on this machine");
}

#[tokio::test]
async fn logs_are_followed_while_the_container_prints_until_it_ends_or_somebody_has_seen_enough() {
    let Some(engine) = Engine::shared() else { return };
    start(engine, "talks", COUNTS);
    let dock = Dock::at(&engine.endpoint()).await;
    let follow = json!({ "container": "talks", "follow": true, "tail": 0, "timestamps": false });

    let watched = dock.submit("docker.logs", &follow).await;
    let seen = lines(&mut dock.admin.events(&watched, None).await, 3).await;
    assert!(seen.iter().all(|line| line.starts_with("line ")), "{seen:?}");
    assert_eq!(state_of(&dock.admin.invocation(&watched, MACHINE).await), State::Running, "lines come before the end");
    assert_eq!(dock.admin.cancel(&watched).await.status, 202);
    let cancelled = dock.admin.ended(&watched, MACHINE).await;
    assert_eq!(state_of(&cancelled), State::Cancelled, "{cancelled:#}");
    assert!(
        cancelled["stdout"].as_str().is_some_and(|text| text.starts_with("line ")),
        "what came is kept: {cancelled:#}"
    );
    assert_eq!(dock.admin.command(&watched).await["status"], "cancelled");
    assert_eq!(processes(&["--follow", "--", "talks"]), Vec::<String>::new(), "nothing of it runs on");
    assert_eq!(state(engine, "talks"), "running 0", "whoever stops watching stops nothing");

    // Followed to the container's end, all of it is a typed result.
    let to_the_end = dock.submit("docker.logs", &follow).await;
    let seen = lines(&mut dock.admin.events(&to_the_end, None).await, 2).await;
    dock.result("docker.stop", &json!({ "containers": ["talks"], "timeout": 10 })).await;
    let ended = dock.admin.ended(&to_the_end, MACHINE).await;
    assert_eq!(state_of(&ended), State::Succeeded, "{ended:#}");
    let texts: Vec<&str> =
        ended["result"]["lines"].as_array().expect("lines").iter().filter_map(|line| line["text"].as_str()).collect();
    assert_eq!(texts[..2], seen[..2], "{ended:#}");
}

/// Processes of this machine whose command line ends so.
fn processes(words: &[&str]) -> Vec<String> {
    let folders = std::fs::read_dir("/proc").expect("a Linux machine").filter_map(Result::ok);
    let lines = folders.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
    let end = format!("{}\0", words.join("\0"));
    lines.filter(|line| line.ends_with(&end)).collect()
}

#[tokio::test]
async fn a_container_that_obeys_is_stopped_at_once_and_one_that_does_not_is_killed() {
    let Some(engine) = Engine::shared() else { return };
    start(engine, "obeys", COUNTS);
    start(engine, "defies", STUBBORN);
    let dock = Dock::at(&engine.endpoint()).await;

    let stopped = dock.result("docker.stop", &json!({ "containers": ["obeys"], "timeout": 60 })).await;
    assert_eq!(stopped, json!({ "stopped": ["obeys"], "failed": [] }));
    assert_eq!(state(engine, "obeys"), "exited 0", "it was not killed, it went");

    let invocation = dock.run("docker.stop", &json!({ "containers": ["defies"], "timeout": 1 })).await;
    assert_eq!(state_of(&invocation), State::Succeeded, "{invocation:#}");
    assert_eq!(invocation["result"], json!({ "stopped": ["defies"], "failed": [] }));
    assert!(
        invocation["outcome"]["duration_ms"].as_u64().is_some_and(|ms| ms >= 1000),
        "it had its second: {invocation:#}"
    );
    assert_eq!(state(engine, "defies"), "exited 137");
    let listed = dock.result("docker.ps", &json!({ "names": ["defies"], "all": true })).await;
    assert_eq!((&listed[0]["state"], &listed[0]["exit_code"]), (&json!("exited"), &json!(137)), "{listed:#}");

    // One of two: what was done is told beside what was not.
    engine.run(&["start", "obeys"]).expect("started again");
    let failed = dock.failure("docker.stop", &json!({ "containers": ["nosuch", "obeys"], "timeout": 10 })).await;
    let reason = "there is no container `nosuch` on this machine";
    let result = json!({ "stopped": ["obeys"], "failed": [{ "container": "nosuch", "reason": reason }] });
    assert_eq!((&failed["result"], &failed["exit_code"]), (&result, &json!(1)), "{failed:#}");
    assert!(summary(&failed).starts_with("1 container stopped, 1 not"), "{failed:#}");
}

#[tokio::test]
async fn a_stop_that_takes_longer_than_its_command_may_is_timed_out_and_says_so() {
    let Some(engine) = Engine::shared() else { return };
    start(engine, "lasts", STUBBORN);
    let dock = Dock::at(&engine.endpoint()).await;
    let mut body = tests::dock::body("docker.stop", &json!({ "containers": ["lasts"], "timeout": 600 }));
    body["run_timeout_ms"] = json!(1500);
    let id = dock.admin.submit(&body).await;
    let invocation = dock.admin.ended(&id, MACHINE).await;
    assert_eq!(state_of(&invocation), State::TimedOut, "{invocation:#}");
    assert_eq!(state(engine, "lasts"), "running 0", "nobody says that it stopped, and it did not");
    engine.run(&["kill", "lasts"]).expect("killed");
}

#[tokio::test]
async fn a_container_that_is_waited_for_is_asked_to_end_when_its_command_is_cancelled() {
    let Some(engine) = Engine::shared() else { return };
    let image = engine.busybox().expect("a base image");
    let dock = Dock::at(&engine.endpoint()).await;
    let script = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.1; done";
    let args = json!({ "image": image, "name": "awaited", "network": "none", "command": ["sh", "-c", script], "detach": false });
    let id = dock.submit("docker.run", &args).await;
    assert_eq!(lines(&mut dock.admin.events(&id, None).await, 1).await, ["ready"]);
    dock.admin.cancel(&id).await.expect(202);
    let invocation = dock.admin.ended(&id, MACHINE).await;
    assert_eq!(state_of(&invocation), State::Cancelled, "{invocation:#}");
    assert_eq!(invocation["stdout"], "ready\nbye\n", "{invocation:#}");
    assert_eq!(state(engine, "awaited"), "exited 0");
}

#[tokio::test]
async fn a_container_is_removed_when_it_has_ended_or_when_that_is_forced() {
    let Some(engine) = Engine::shared() else { return };
    start(engine, "runs-on", COUNTS);
    let image = engine.busybox().expect("a base image");
    engine.run(&["run", "--network", "none", "--name", "is-over", image, "true"]).expect("it ran");
    let dock = Dock::at(&engine.endpoint()).await;

    let failed = dock.failure("docker.rm", &json!({ "containers": ["runs-on", "is-over", "nosuch"] })).await;
    let result = &failed["result"];
    assert_eq!((&result["removed"], &result["missing"]), (&json!(["is-over"]), &json!([])), "{failed:#}");
    let reasons = json!([
        { "container": "runs-on", "reason": "it is running: stop it first, or say `force`" },
        { "container": "nosuch", "reason": "there is no container `nosuch` on this machine" },
    ]);
    assert_eq!(result["failed"], reasons, "{failed:#}");
    assert_eq!(summary(&failed), "1 container removed, 2 not: `runs-on`: it is running: stop it first, or say `force`");
    assert_eq!(state(engine, "runs-on"), "running 0");
    assert!(engine.run(&["inspect", "is-over"]).is_err(), "it is gone");

    let args = json!({ "containers": ["runs-on", "is-over"], "force": true, "volumes": true });
    let id = dock.submit("docker.rm", &args).await;
    let invocation = dock.admin.ended(&id, MACHINE).await;
    let result = &invocation["result"];
    assert_eq!((&result["removed"], &result["failed"]), (&json!(["runs-on"]), &json!([])), "{invocation:#}");
    assert_eq!(result["missing"], json!(["is-over"]), "{invocation:#}");
    assert_eq!(dock.result("docker.ps", &json!({ "names": ["runs-on"], "all": true })).await, Value::Array(Vec::new()));
}
