//! `viworks run`: from words to a command, and from its end to an exit code.

use serde_json::{Value, json};

use crate::host::{COMMAND, Host, end, invocation, output, problem, state};
use crate::program::Program;

fn succeed(host: &Host) {
    host.play(vec![
        state("web-01", "succeeded", None),
        state("web-02", "succeeded", None),
        end("succeeded", json!({"succeeded": 2})),
    ]);
}

fn last_submitted(host: &Host) -> Value {
    serde_json::to_value(host.state().submitted.last().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_become_the_command_they_say() {
    let host = Host::start().await;
    let program = Program::at(&host);
    succeed(&host);
    program
        .run(&[
            "run",
            "docker.ps",
            "--site",
            "eu",
            "-l",
            "env=prod,tier=web",
            "-a",
            "web-01,web-02",
            "--arg-all",
            "--limit",
            "7",
            "--state=running",
            "--priority",
            "high",
            "--start-within",
            "10m",
            "--timeout",
            "1m30s",
        ])
        .await
        .ends_with(0);
    assert_eq!(
        last_submitted(&host),
        json!({"verb": "docker.ps", "args": {"all": true, "limit": 7, "state": "running"},
               "target": {"agents": ["web-01", "web-02"], "sites": ["eu"], "labels": ["env=prod", "tier=web"]},
               "priority": "high", "start_within_ms": 600_000, "run_timeout_ms": 90_000})
    );

    program.run(&["run", "--all", "exec.run", "--env", "A=1", "--", "ls", "-l", "--all", "a b"]).await.ends_with(0);
    assert_eq!(
        last_submitted(&host),
        json!({"verb": "exec.run", "args": {"program": "ls", "args": ["-l", "--all", "a b"], "env": {"A": "1"}}, "target": {"all": true}})
    );

    let file = program.file("args.json", "{\"limit\": 3, \"all\": false}");
    program.run(&["run", "docker.ps", "--all", "--args", &format!("@{file}"), "--limit", "9"]).await.ends_with(0);
    assert_eq!(last_submitted(&host)["args"], json!({"limit": 9, "all": false}));
    program.run_with(&["run", "docker.ps", "--all", "--args", "-"], "{\"limit\": 4}").await.ends_with(0);
    assert_eq!(last_submitted(&host)["args"], json!({"limit": 4}));

    let keys = host.state().keys.clone();
    assert!(keys.iter().all(|key| key.len() == 32) && keys[0] != keys[1], "{keys:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_that_say_nothing_clear_are_refused_before_anything_is_sent() {
    let host = Host::start().await;
    let program = Program::at(&host);
    for (words, part) in [
        (&["run"][..], "VERB"),
        (&["run", "docker.ps"], "say who"),
        (&["run", "docker.ps", "--all", "--limit", "many"], "whole number"),
        (&["run", "docker.ps", "--all", "--state", "gone"], "running, exited"),
        (&["run", "docker.ps", "--all", "--nonsense"], "unexpected argument"),
        (&["run", "--limit", "3", "docker.ps", "--all"], "come after its name"),
        (&["run", "docker.ps", "--all", "--", "ls"], "takes no program"),
        (&["run", "docker.ps", "--all", "--args", "[1]"], "no object"),
        (&["run", "docker.ps", "--all", "--timeout", "5"], "30s"),
        (&["run", "docker.ps", "-l", "env", "--all"], "KEY=VALUE"),
        (&["run", "docker.ps", "-a", "", "--all"], "means nobody"),
        (&["run", "docker.p", "--all"], "did you mean docker.ps"),
        (&["run", "docker.ps", "--all", "--detach", "--wait", "1s"], "cannot be used with"),
    ] {
        let ran = program.run(words).await;
        ran.ends_with(2);
        assert!(ran.err.contains(part), "{words:?}: {}", ran.err);
        assert_eq!(ran.out, "", "{words:?}");
    }
    assert!(host.state().submitted.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_is_data_and_the_end_is_told_with_reasons_and_the_way_to_retry() {
    let host = Host::start().await;
    host.fleet(&["web-01", "web-02", "db-01"]);
    host.play(vec![
        state("web-01", "running", None),
        output("web-01", "stdout", 0, b"one\ntw"),
        output("web-02", "stdout", 0, b"other\n"),
        output("web-01", "stdout", 6, b"o\n"),
        output("web-02", "stderr", 0, b"bad thing"),
        state("web-02", "failed", None),
        output("web-01", "stdout", 8, b"\x1b[31mhalf"),
        state("web-01", "succeeded", None),
        state("db-01", "expired", Some("offline")),
        end("partial", json!({"succeeded": 1, "failed": 1, "expired": 1})),
    ]);
    host.state().invocations = vec![
        invocation("web-02", "failed", None, "ran to its end; the verb calls it a failure", Some(2)),
        invocation("db-01", "expired", Some("offline"), "it was not connected", None),
    ];
    let ran =
        Program::at(&host).run(&["run", "exec.run", "--all", "--timeout", "5s", "--", "sh", "-c", "exit 2"]).await;
    ran.ends_with(5);
    assert_eq!(ran.out, "[web-01] one\n[web-02] other\n[web-01] two\n[web-02]! bad thing\n[web-01] \x1b[31mhalf\n");
    let lines: Vec<&str> = ran.err.lines().collect();
    let (head, tail) = lines[0].split_once(" · 1 unreachable · ").unwrap();
    assert_eq!(head, "1 ok · 1 failed");
    assert!(tail.ends_with(&format!(" s (command {COMMAND})")), "{tail}");
    insta::assert_snapshot!(lines[1..].join("\n"), @r"
      db-01 unreachable: it was not connected
      web-02 failed with exit code 2: ran to its end; the verb calls it a failure
    to run it again where it did not succeed:
      viworks run exec.run -a db-01,web-02 --timeout 5s -- sh -c 'exit 2'
    ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_final_status_is_the_exit_code() {
    let host = Host::start().await;
    let program = Program::at(&host);
    for (status, code) in [
        ("succeeded", 0),
        ("cancelled", 3),
        ("partial", 5),
        ("failed", 5),
        ("unknown", 5),
        ("expired", 5),
        ("halted", 5),
    ] {
        host.play(vec![end(status, json!({}))]);
        program.run(&["run", "docker.ps", "--all"]).await.ends_with(code);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_of_the_host_name_the_flag_and_end_with_their_code() {
    let host = Host::start().await;
    let program = Program::at(&host);
    let errors = json!([{"pointer": "/args/limit", "message": "500 is more than 100", "keyword": "maximum"},
                        {"pointer": "/target/sites", "message": "no such site", "keyword": "unknown"}]);
    for (status, code, exit) in [
        (422, "invalid_args", 2),
        (422, "no_target", 6),
        (403, "effect_not_granted", 4),
        (422, "plan_denied", 4),
        (422, "plugin_failed", 1),
        (503, "plugin_overloaded", 1),
    ] {
        host.state().refuse_submit = Some(problem(status, code, "it is refused", errors.clone()));
        let ran = program.run(&["run", "docker.ps", "--all", "--limit", "500"]).await;
        ran.ends_with(exit);
        assert_eq!(
            ran.err,
            format!(
                "viworks: it is refused\n  /args/limit (--limit): 500 is more than 100\n  /target/sites (--site): no such site\n  code {code}, request req-1\n"
            )
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_detached_run_prints_the_id_and_nothing_else() {
    let host = Host::start().await;
    let program = Program::at(&host);
    let ran = program.run(&["run", "docker.ps", "--all", "--detach"]).await;
    ran.ends_with(0);
    assert_eq!(ran.out, format!("{COMMAND}\n"));
    let json = program.run(&["run", "docker.ps", "--all", "--detach", "-o", "json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&json.out).unwrap()["id"], COMMAND);
    assert!(host.state().last_ids.is_empty(), "nobody followed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_shows_who_and_what_and_queues_nothing() {
    let host = Host::start().await;
    let program = Program::at(&host);
    let ran = program.run(&["run", "docker.ps", "--all", "--dry-run"]).await;
    ran.ends_with(0);
    insta::assert_snapshot!(ran.out, @r"
    AGENT   SITE  STATUS  EFFECT  GRANTED
    web-01  eu    online  read    yes
    web-02  eu    online  read    yes

    on 2 of them (linux x86_64): asks
      effect read, plan h1
      $ uptime -p 'a b'
    ");
    assert!(
        ran.err.contains("without old-01: in maintenance") && ran.err.contains("nothing was queued"),
        "{}",
        ran.err
    );
    host.state().ungranted = vec!["web-02".into()];
    let refused = program.run(&["run", "docker.ps", "--all", "--dry-run"]).await;
    refused.ends_with(4);
    insta::assert_snapshot!(refused.out, @r"
    AGENT   SITE  STATUS  EFFECT  GRANTED
    web-01  eu    online  read    yes
    web-02  eu    online  read    no

    on 2 of them (linux x86_64): asks
      effect read, plan h1
      $ uptime -p 'a b'
    ");
    insta::assert_snapshot!(refused.err, @r"
    without old-01: in maintenance; name it to include it
    viworks: it would be refused: on 1 of 2 agents it is not granted
      web-02: no grant of yours covers effect `read` of it at site `eu`
    ");
    assert!(host.state().submitted.is_empty());
    host.fleet(&[]);
    program.run(&["run", "docker.ps", "--all", "--dry-run"]).await.ends_with(6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changing_many_agents_needs_a_yes() {
    let host = Host::start().await;
    let names: Vec<String> = (0..11).map(|n| format!("web-{n:02}")).collect();
    host.fleet(&names.iter().map(String::as_str).collect::<Vec<_>>());
    host.play(vec![end("succeeded", json!({"succeeded": 11}))]);
    let program = Program::at(&host);
    program.run(&["run", "docker.ps", "--all"]).await.ends_with(0); // reading needs none

    host.state().effect = "destroy".into();
    let asked = program.run(&["run", "docker.ps", "--all"]).await;
    asked.ends_with(3);
    assert!(asked.err.contains("on 11 agents") && asked.err.contains("--yes"), "{}", asked.err);
    assert_eq!(host.state().submitted.len(), 1);
    host.state().ungranted = names.clone();
    let refused = program.run(&["run", "docker.ps", "--all"]).await;
    refused.ends_with(4);
    assert!(refused.err.contains("on 11 of 11 agents it is not granted"), "{}", refused.err);
    assert!(refused.err.contains("web-09, …: no grant of yours covers effect `destroy`"), "{}", refused.err);
    host.state().ungranted.clear();
    assert_eq!(host.state().submitted.len(), 1);
    program.run(&["run", "docker.ps", "--all", "--yes"]).await.ends_with(0);

    std::fs::create_dir_all(program.contexts().parent().unwrap()).unwrap();
    std::fs::write(program.contexts(), "confirm_above = 11\n").unwrap();
    program.run(&["run", "docker.ps", "--all"]).await.ends_with(0);
    std::fs::write(program.contexts(), "confirm_above = 0\n").unwrap();
    program.run(&["run", "docker.ps", "-a", "web-01"]).await.ends_with(3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_read_json() {
    let host = Host::start().await;
    host.state().invocations = vec![invocation("web-01", "succeeded", None, "", Some(0))];
    host.play(vec![
        output("web-01", "stdout", 0, b"x"),
        state("web-01", "succeeded", None),
        end("succeeded", json!({"succeeded": 1})),
    ]);
    let program = Program::at(&host);
    let json = program.run(&["run", "docker.ps", "--all", "-o", "json"]).await;
    json.ends_with(0);
    let document: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(
        (&document["command"]["id"], &document["invocations"][0]["agent_name"]),
        (&json!(COMMAND), &json!("web-01"))
    );

    let lines = program.run(&["-o", "ndjson", "run", "docker.ps", "--all"]).await;
    lines.ends_with(0);
    let events: Vec<Value> = lines.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["output", "state", "end"]);
    assert_eq!(events[0]["agent_name"], "web-01");
    let name = program.run(&["run", "docker.ps", "--all", "-o", "name"]).await;
    assert_eq!(name.out, format!("{COMMAND}\n"));
}
