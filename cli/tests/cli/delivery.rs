//! How a command is delivered, and what came of it on many machines.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::host::{COMMAND, Host, PARENT, end, invocation, problem, state};
use crate::program::Program;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_say_how_it_is_delivered() {
    let host = Host::start().await;
    let program = Program::at(&host);
    let before = Utc::now();
    program
        .run(&[
            "run",
            "docker.ps",
            "--all",
            "--detach",
            "--finish-within",
            "2h",
            "--kill-after",
            "1m",
            "--attempts",
            "3",
            "--retry-on",
            "failed,lost",
            "--backoff",
            "10s",
            "--max-concurrency",
            "25%",
            "--waves",
            "1,5%,25%",
            "--pause",
            "5m",
            "--max-errors",
            "0",
            "--max-unreached",
            "10%",
            "--on-halt",
            "cancel",
        ])
        .await
        .ends_with(0);
    let mut said = serde_json::to_value(host.state().submitted.last().unwrap()).unwrap();
    let finish_by = said.as_object_mut().unwrap().remove("finish_by").unwrap();
    let finish_by = DateTime::parse_from_rfc3339(finish_by.as_str().unwrap()).unwrap().to_utc();
    let ms = |at: DateTime<Utc>| at.timestamp_millis() + 7_200_000;
    assert!((ms(before)..=ms(Utc::now())).contains(&finish_by.timestamp_millis()), "{finish_by}");
    assert_eq!(
        said,
        json!({"verb": "docker.ps", "args": {}, "target": {"all": true}, "on_disconnect": "kill_after",
               "kill_after_ms": 60_000,
               "retry": {"max_attempts": 3, "on": ["failed", "lost"], "backoff_ms": 10_000},
               "rollout": {"max_concurrency": "25%", "waves": [1, "5%", "25%"], "pause_ms": 300_000,
                           "max_errors": 0, "max_unreached": "10%", "on_halt": "cancel"}})
    );
    program.run(&["run", "docker.ps", "--all", "--detach", "--ramp", "exponential"]).await.ends_with(0);
    let said = serde_json::to_value(host.state().submitted.last().unwrap()).unwrap();
    assert_eq!((&said["rollout"], &said["retry"]), (&json!({"ramp": "exponential"}), &Value::Null));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_that_do_not_go_together_are_refused_before_anything_is_sent() {
    let host = Host::start().await;
    let program = Program::at(&host);
    for (words, part) in [
        (&["--retry-on", "failed"][..], "--attempts"),
        (&["--attempts", "2", "--retry-on", "cancelled"], "timed_out"),
        (&["--backoff", "1s"], "--attempts"),
        (&["--pause", "1s"], "--waves"),
        (&["--waves", "1", "--ramp", "exponential"], "cannot be used with"),
        (&["--max-errors", "101%"], "percentage"),
        (&["--max-concurrency", "many"], "neither a count"),
        (&["--on-halt", "stop"], "--on-halt"),
        (&["--max-concurrency", "0"], "with 0 at once nobody would ever run: it is at least 1, or 1%"),
    ] {
        let ran = program.run(&[&["run", "docker.ps", "--all"], words].concat()).await;
        ran.ends_with(2);
        assert!(ran.err.contains(part), "{words:?}: {}", ran.err);
    }
    assert!(host.state().submitted.is_empty());
    let errors = json!([{"pointer": "/rollout/waves/1", "message": "waves ascend", "keyword": "order"}]);
    host.state().refuse_submit = Some(problem(422, "invalid_body", "it is refused", errors));
    let ran = program.run(&["run", "docker.ps", "--all", "--waves", "5,1"]).await;
    ran.ends_with(2);
    assert!(ran.err.contains("/rollout/waves/1 (--waves): waves ascend"), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_ended_alike_are_run_again_by_the_commands_id() {
    let host = Host::start().await;
    let program = Program::at(&host);
    host.play(vec![
        state("web-01", "failed", None),
        state("web-02", "timed_out", None),
        end("failed", json!({"failed": 1, "timed_out": 1})),
    ]);
    let ran = program.run(&["run", "docker.ps", "--all"]).await;
    ran.ends_with(5);
    let line = format!("viworks command retry {COMMAND} --only failed");
    assert!(ran.err.ends_with(&format!("to run it again where it did not succeed:\n  {line}\n")), "{}", ran.err);

    host.play(vec![state("web-01", "succeeded", None), end("succeeded", json!({"succeeded": 1}))]);
    let followed = program.run(&["command", "retry", "0193f2c4", "--only", "failed"]).await;
    followed.ends_with(0);
    assert!(followed.err.contains("1 ok"), "{}", followed.err);
    assert_eq!(host.state().bodies.last(), Some(&json!({"only": "failed"})));
    let detached = program.run(&["command", "retry", COMMAND, "--only", "failed", "--detach"]).await;
    assert_eq!(detached.ends_with(0).out, format!("{COMMAND}\n"));
    let keys = host.state().keys.clone();
    assert!(keys.iter().all(|key| key.len() == 32) && keys[1] != keys[2], "{keys:?}");
    let nothing = program.run(&["command", "retry", COMMAND, "--only", "never-started"]).await;
    nothing.ends_with(2);
    assert!(nothing.err.contains("nothing_to_retry"), "{}", nothing.err);
    program.run(&["command", "retry", COMMAND]).await.ends_with(2);

    host.play(vec![
        state("web-01", "failed", None),
        state("web-02", "expired", Some("offline")),
        end("failed", json!({"failed": 1, "expired": 1})),
    ]);
    let both = program.run(&["command", "retry", COMMAND, "--only", "failed"]).await;
    both.ends_with(5);
    assert!(both.err.contains("--only failed\n") && both.err.ends_with("--only never-started\n"), "{}", both.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_ends_are_counted() {
    let host = Host::start().await;
    let program = Program::at(&host);
    let rollup = program.run(&["command", "rollup", "0193f2c4"]).await;
    rollup.ends_with(0);
    insta::assert_snapshot!(rollup.out, @r"
    SITE  STATE        REASON   COUNT
    eu    ok           -        40
    us    unreachable  offline  2
    ");
    let results = program.run(&["command", "results", COMMAND, "--by", "/os/name", "--limit", "2"]).await;
    results.ends_with(0);
    let cut = format!("{{\"text\":\"{}…", "x".repeat(51));
    let rows: Vec<Vec<&str>> = results.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["COUNT", "STATE", "VALUE", "AGENTS"]);
    assert_eq!(rows[1], ["30", "ok", &*cut, "web-01,", "web-02,", "…"]);
    assert_eq!(rows[2], ["1", "failed", "-", "db-01"]);
    assert!(results.err.contains("raise --limit"), "{}", results.err);
    let asked = host.state().requests.clone();
    assert!(asked.iter().any(|one| one.ends_with("/results?limit=2&by=%2Fos%2Fname")), "{asked:?}");
    let json = program.run(&["command", "results", COMMAND, "-o", "json"]).await;
    let json: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["items"][0]["value"]["text"].as_str().unwrap().len(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_shows_its_delivery_and_its_earlier_attempts() {
    let host = Host::start().await;
    let again = invocation("web-01", "succeeded", None, "", Some(0));
    host.state().invocations =
        vec![api::command::Invocation { attempt: 2, ..again }, invocation("web-02", "failed", None, "no", Some(1))];
    let shown = Program::at(&host).run(&["command", "show", COMMAND]).await;
    shown.ends_with(0);
    for line in [
        "without host:   killed after 1 min 0 s".to_owned(),
        "retried:        up to 3 attempts, after failed too, at first within 5.0 s".to_owned(),
        "rollout:        waves of 1, 25%; halts above 0 errors".to_owned(),
        "halted:         1 error, 0 allowed".to_owned(),
        format!("follows up:     {PARENT}"),
    ] {
        assert!(shown.out.lines().any(|one| one == line), "{line}: {}", shown.out);
    }
    let (_, tables) = shown.out.split_once("\n\n").unwrap();
    insta::assert_snapshot!(tables, @r"
    AGENT   SITE  STATE   EXIT  ATTEMPT  WHAT
    web-01  eu    ok      0     2        -
    web-02  eu    failed  1     1        no

    earlier attempts
    AGENT   ATTEMPT  STATE   EXIT  ENDED                 WHAT
    web-01  1        failed  7     2026-01-01T00:00:01Z  the first try
    ");
    let asked = host.state().requests.iter().filter(|one| one.ends_with("/attempts")).count();
    assert_eq!(asked, 1, "only of the one that had more than one");
}
