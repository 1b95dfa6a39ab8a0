//! Many commands that are asked to end at once.

use serde_json::{Value, json};

use crate::host::nouns::EARLIER;
use crate::host::{COMMAND, Host};
use crate::program::Program;
use crate::terminal::Terminal;

const OPEN: [&str; 3] = ["scheduled", "pending", "running"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_a_filter_means_is_asked_to_end() {
    let host = Host::start().await;
    let program = Program::at(&host);
    let words =
        ["command", "cancel", "--verb", "exec.run", "-a", "web-01", "-s", "eu", "--since", "2026-01-01T00:00:00Z"];
    let ended = program.run(&words).await;
    ended.ends_with(0);
    insta::assert_snapshot!(ended.out, @r"
    COMMAND                               STATUS   AGENTS ASKED
    0193f2c4-0000-7000-8000-000000000001  running  2
    ");
    assert_eq!(ended.err, "asked 2 runs of 1 command to end; there are more: say it again when these are over\n");
    // What is accepted after the look is not meant.
    let newest = EARLIER.replace('Z', ".000001Z");
    assert_eq!(
        host.state().bodies.pop().unwrap(),
        json!({"status": OPEN, "verb": "exec.run", "agent": "web-01", "site": ["eu"], "since": "2026-01-01T00:00:00Z",
               "until": newest, "limit": 500})
    );
    let all = program.run(&["command", "cancel", "--all", "--yes", "--limit", "3", "-o", "json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&all.out).unwrap()["requested"], 2);
    assert_eq!(host.state().bodies.pop().unwrap(), json!({"status": OPEN, "limit": 3}));
    let names = program.run(&["command", "cancel", "--status", "pending", "-o", "name"]).await;
    assert_eq!(names.out, format!("{COMMAND}\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn nothing_ends_that_was_not_named_or_agreed_to() {
    let host = Host::start().await;
    let program = Program::at(&host);
    for words in [
        &[][..],
        &["--yes"],
        &[COMMAND, "--all"],
        &["--all", "--verb", "exec.run"],
        &["--status", "succeeded"],
        &["--since", "yesterday"],
        &["--all", "--limit", "501"],
    ] {
        program.run(&[&["command", "cancel"][..], words].concat()).await.ends_with(2);
    }
    let dry = program.run(&["command", "cancel", "--all", "--dry-run", "-o", "name"]).await;
    dry.ends_with(0);
    assert_eq!((dry.out, dry.err.contains("nothing was asked")), (format!("{COMMAND}\n"), true));

    host.state().counts = json!({"running": 11, "succeeded": 5});
    let many = program.run(&["command", "cancel", "--all"]).await;
    many.ends_with(3);
    assert!(many.err.contains("1 command would end") && many.err.contains("--yes"), "{}", many.err);
    for (answer, code, asked) in [("yes\n", 3, 0), ("1\n", 0, 1)] {
        let mut command = program.command(&["command", "cancel", "--all"]);
        let mut terminal = Terminal::of(&mut command);
        let ended = terminal
            .ended(command, |terminal| {
                terminal.wait_for("1 command would end, 11 runs on agents");
                terminal.wait_for("type 1 to go on: ");
                terminal.press(answer);
            })
            .await;
        assert_eq!((ended, host.state().bodies.len()), (code, asked), "{}", terminal.seen);
    }
    program.run(&["command", "cancel", "--all", "--yes"]).await.ends_with(0);
}
