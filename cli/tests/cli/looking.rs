//! Lists and cards, for people and for scripts.

use serde_json::{Value, json};

use crate::host::{COMMAND, Host, TOKEN, end, invocation, output, state};
use crate::program::Program;
use crate::terminal::Terminal;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_have_every_page_in_every_form() {
    let host = Host::start().await;
    host.fleet(&["web-01", "web-02", "web-03", "web-04", "web-05"]);
    let program = Program::at(&host);
    let names = program.run(&["agent", "list", "-o", "name", "--status", "online,degraded", "-s", "eu"]).await;
    assert_eq!(names.out, "web-01\nweb-02\nweb-03\nweb-04\nweb-05\n");
    assert!(host.state().requests.iter().any(|one| one.contains("status=online%2Cdegraded&site=eu")));

    let table = program.run(&["agent", "list"]).await;
    insta::assert_snapshot!(table.out.lines().take(2).collect::<Vec<_>>().join("\n"), @r"
    NAME    SITE  STATUS  OS            ENGINE  SEEN   LABELS
    web-01  eu    online  linux/x86_64  -       never  env=prod
    ");
    let wide = program.run(&["agent", "list", "-o", "wide"]).await;
    assert!(wide.out.starts_with("NAME") && wide.out.contains("CAPABILITIES") && wide.out.contains("id-web-05"));
    let json: Value = serde_json::from_str(&program.run(&["agent", "list", "-o", "json"]).await.out).unwrap();
    assert_eq!((json["items"].as_array().unwrap().len(), &json["next_cursor"]), (5, &Value::Null));
    let lines = program.run(&["-o", "ndjson", "agent", "list"]).await;
    assert!(lines.out.lines().all(|line| serde_json::from_str::<Value>(line).unwrap()["site"] == "eu"));
    assert_eq!(lines.out.lines().count(), 5);

    host.fleet(&[]);
    let empty = program.run(&["agent", "list"]).await;
    empty.ends_with(0);
    assert_eq!(empty.out, "");
    assert!(empty.err.contains("join-token create"), "{}", empty.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_agent_is_one_line_to_paste() {
    let host = Host::start().await;
    let program = Program::at(&host);
    let made = program
        .run(&[
            "agent",
            "join-token",
            "create",
            "-s",
            "eu",
            "-l",
            "env=prod",
            "--ttl",
            "15m",
            "--agents-url",
            "http://h:9090",
            "--name",
            "web-09",
        ])
        .await;
    made.ends_with(0);
    assert_eq!(made.out, "viworks-agent join http://h:9090 --token vwj_t1_secret_pin --name web-09\n");
    assert_eq!(
        host.state().bodies[0],
        json!({"site": "eu", "labels": {"env": "prod"}, "ttl_s": 900, "needs_approval": false})
    );
    let guessed = program.run(&["agent", "join-token", "create"]).await;
    assert!(guessed.out.starts_with("viworks-agent join http://127.0.0.1:9090 --token"), "{}", guessed.out);
    assert!(guessed.err.contains("is a guess"), "{}", guessed.err);
    let list = program.run(&["agent", "join-token", "list"]).await;
    assert!(!list.out.contains("secret") && list.out.contains("t1"), "{}", list.out);
    program.run(&["agent", "join-token", "revoke", "t1"]).await.ends_with(0);
    program.run(&["agent", "join-token", "revoke", "0193f2c4-11"]).await.ends_with(0);
    let unknown = program.run(&["agent", "join-token", "revoke", "0193f2c4-22"]).await;
    unknown.ends_with(2);
    assert!(unknown.err.contains("no join token begins with `0193f2c4-22`"), "{}", unknown.err);
    let asked = host.state().requests.clone();
    assert!(asked.contains(&"DELETE /join-tokens/t1".to_owned()), "{asked:?}");
    assert!(asked.contains(&format!("DELETE /join-tokens/{TOKEN}")), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn what_is_for_ever_is_asked_about_first() {
    let host = Host::start().await;
    let program = Program::at(&host);
    let asked = |line: &str| host.state().requests.iter().filter(|one| *one == line).count();
    for (verb, line) in [("revoke", "POST /agents/web-01/revoke"), ("delete", "DELETE /agents/web-01")] {
        let nobody = program.run(&["agent", verb, "web-01"]).await;
        nobody.ends_with(3);
        assert!(nobody.err.contains("standard input is no terminal; --yes does not ask"), "{}", nobody.err);
        for (answer, code, times) in [("yes\n", 3, 0), ("web-01\n", 0, 1)] {
            let mut command = program.command(&["agent", verb, "web-01"]);
            let mut terminal = Terminal::of(&mut command);
            let ended = terminal
                .ended(command, |terminal| {
                    terminal.wait_for("type its name to go on: ");
                    terminal.press(answer);
                })
                .await;
            assert_eq!((ended, asked(line)), (code, times), "{}", terminal.seen);
        }
        program.run(&["agent", verb, "web-01", "-y"]).await.ends_with(0);
        assert_eq!(asked(line), 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_thing_is_shown_or_said_to_be_missing() {
    let host = Host::start().await;
    let program = Program::at(&host);
    let agent = program.run(&["agent", "show", "web-01"]).await;
    assert!(agent.out.contains("name:              web-01") && agent.out.contains("linux 6.1 x86_64"), "{}", agent.out);
    let missing = program.run(&["agent", "show", "no-such"]).await;
    missing.ends_with(1);
    assert!(missing.err.contains("there is no such agent") && missing.err.contains("req-1"), "{}", missing.err);
    let verb = program.run(&["verb", "show", "docker.ps"]).await;
    assert!(
        verb.out.contains("--arg-all") && verb.out.contains("--limit") && verb.out.contains("1 to 100"),
        "{}",
        verb.out
    );
    let plugins = program.run(&["plugin", "list"]).await;
    assert!(plugins.out.contains("gate 2: imports wasi"), "{}", plugins.out);
    assert!(plugins.err.contains("build without it"), "{}", plugins.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_are_listed_shown_and_cancelled_by_the_beginning_of_their_id() {
    let host = Host::start().await;
    host.state().invocations = vec![invocation("web-01", "failed", None, "ran to its end", Some(2))];
    let program = Program::at(&host);
    let list = program.run(&["command", "list", "--status", "failed", "--since", "2h", "-o", "name"]).await;
    assert_eq!(list.out, format!("{COMMAND}\n"));
    assert!(host.state().requests.iter().any(|one| one.contains("status=failed&since=20")));
    let shown = program.run(&["command", "show", "0193f2c4"]).await;
    shown.ends_with(0);
    assert!(
        shown.out.contains("runs uptime") && shown.out.contains("web-01  eu    failed  2     1        ran to its end"),
        "{}",
        shown.out
    );
    let json = program.run(&["command", "show", COMMAND, "-o", "json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&json.out).unwrap()["invocations"][0]["exit_code"], 2);
    let cancelled = program.run(&["command", "cancel", "0193f2c4"]).await;
    cancelled.ends_with(0);
    assert_eq!(cancelled.out, "running\n");
    assert!(cancelled.err.contains("asked 2 agents"), "{}", cancelled.err);
    program.run(&["command", "show", "ffffffff"]).await.ends_with(2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_show_what_is_kept_of_a_running_command_and_all_of_one_that_is_over() {
    let host = Host::start().await;
    host.state().invocations =
        vec![invocation("web-01", "running", None, "", None), invocation("web-02", "running", None, "", None)];
    let program = Program::at(&host);
    host.state().status = "running".into();
    let kept = program.run(&["logs", COMMAND, "-a", "web-02"]).await;
    kept.ends_with(0);
    assert_eq!(kept.out, "[web-02] kept\n[web-02] half\n[web-02]! oops\n");
    assert!(kept.err.contains("not over yet") && kept.err.contains("10 bytes of stderr were not kept"), "{}", kept.err);
    program.run(&["logs", COMMAND, "-a", "db-01"]).await.ends_with(2);

    host.state().status = "partial".into();
    host.play(vec![
        output("web-01", "stdout", 0, b"a\n"),
        output("web-02", "stderr", 0, b"b\n"),
        state("web-01", "succeeded", None),
        end("partial", json!({"succeeded": 1, "failed": 1})),
    ]);
    assert_eq!(program.run(&["logs", COMMAND]).await.ends_with(0).out, "[web-01] a\n[web-02]! b\n");
    assert_eq!(program.run(&["logs", COMMAND, "-a", "web-01"]).await.ends_with(0).out, "[web-01] a\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_are_made_with_a_password_nobody_sees() {
    let host = Host::start().await;
    let program = Program::at(&host);
    let made = program
        .run_with(&["user", "create", "bob", "--role", "operator", "--verb", "docker.*"], "a long password\n")
        .await;
    made.ends_with(0);
    assert!(!made.out.contains("a long password"));
    assert_eq!(
        host.state().bodies[0],
        json!({"name": "bob", "password": "a long password", "role": "operator",
               "grants": [{"sites": ["*"], "verbs": ["docker.*"], "effects": ["read", "change"]}]})
    );
    assert!(program.run(&["user", "list"]).await.out.contains("admin"));
    program.run(&["user", "create", "bob", "--role", "king"]).await.ends_with(2);
}
