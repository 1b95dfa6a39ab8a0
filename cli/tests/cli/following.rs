//! Following across broken connections, and stopping to follow.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::timeout;

use crate::host::{COMMAND, Cut, Host, end, output, state};
use crate::program::{CEILING, Program, finished};

/// 200 numbered lines of two agents, cut into uneven chunks.
fn long_story() -> (Vec<(&'static str, Value)>, String) {
    let (mut events, mut expected) =
        (vec![state("web-01", "running", None), state("web-02", "running", None)], String::new());
    let mut offsets = [0, 0];
    for n in 0..100 {
        for (which, name) in ["web-01", "web-02"].into_iter().enumerate() {
            let line = format!("line {n} grün\n");
            let (left, right) = line.as_bytes().split_at(3 + n % 9);
            for part in [left, right] {
                events.push(output(name, "stdout", offsets[which], part));
                offsets[which] += part.len() as u64;
            }
            expected.push_str(&format!("[{name}] {line}"));
        }
    }
    events.extend([state("web-01", "succeeded", None), state("web-02", "succeeded", None)]);
    events.push(end("succeeded", json!({"succeeded": 2})));
    (events, expected)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_lose_nothing_and_repeat_nothing() {
    let host = Host::start().await;
    let (events, expected) = long_story();
    host.play(events);
    // Cut inside frames, between frames, before the first frame, and refused in between.
    let cuts = (0..60).map(|n| match n % 7 {
        3 => Cut::Refuse,
        5 => Cut::After(0),
        _ => Cut::After(40 + n * 53),
    });
    host.state().cuts = cuts.collect();
    let ran = Program::at(&host).run(&["run", "docker.ps", "--all"]).await;
    ran.ends_with(0);
    assert_eq!(ran.out, expected);
    assert!(ran.err.contains("connection to") && ran.err.contains("connected again"), "{}", ran.err);
    let ids = host.state().last_ids.clone();
    assert!(ids.len() > 20, "{} connections", ids.len());
    let numbers: Vec<u64> = ids.iter().flatten().map(|id| id.parse().unwrap()).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_that_comes_again_is_shown_once_and_output_that_is_missing_is_named() {
    let host = Host::start().await;
    host.play(vec![
        output("web-01", "stdout", 0, b"one\ntwo\n"),
        output("web-01", "stdout", 4, b"two\nthree\n"),
        output("web-01", "stdout", 0, b"one\n"),
        output("web-01", "stdout", 100, b"later\n"),
        output("web-01", "stdout", 20, b"after all\n"),
        end("succeeded", json!({"succeeded": 2})),
    ]);
    let ran = Program::at(&host).run(&["run", "docker.ps", "--all"]).await;
    ran.ends_with(0);
    assert_eq!(ran.out, "[web-01] one\n[web-01] two\n[web-01] three\n[web-01] later\n[web-01] after all\n");
    assert!(ran.err.contains("[web-01] 86 bytes of stdout left out here"), "{}", ran.err);
    assert!(ran.err.contains("[web-01] stdout from byte 20, which was left out before"), "{}", ran.err);
    assert!(ran.err.contains("[web-01] 76 bytes of stdout were not kept"), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_host_does_not_have_is_named_once_when_its_attempt_is_over() {
    let host = Host::start().await;
    let stream = |missing: u64| json!({ "kept": "truncated", "bytes": 500, "missing_bytes": missing, "gaps": [] });
    let (event, mut data) = state("web-01", "succeeded", None);
    data["output"] = json!({ "stdout": stream(0), "stderr": stream(400) });
    host.play(vec![
        output("web-01", "stderr", 0, b"one\n"),
        output("web-01", "stderr", 100, b"two\n"),
        (event, data),
        end("succeeded", json!({"succeeded": 2})),
    ]);
    let ran = Program::at(&host).run(&["run", "docker.ps", "--all"]).await;
    ran.ends_with(0);
    let told: Vec<&str> = ran.err.lines().filter(|line| line.contains("were not kept")).collect();
    assert_eq!(told, ["[web-01] 400 bytes of stderr were not kept"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_ends_when_its_time_is_up_and_the_command_goes_on() {
    let host = Host::start().await;
    host.play(vec![output("web-01", "stdout", 0, b"half a line")]);
    host.state().hold = true;
    // A busy machine may take longer than that to hear anything.
    for wait in ["300ms", "3s", "30s"] {
        let ran = Program::at(&host).run(&["run", "docker.ps", "--all", "--wait", wait]).await;
        ran.ends_with(3);
        assert!(ran.err.contains(COMMAND) && ran.err.contains("goes on"), "{}", ran.err);
        if !ran.out.is_empty() {
            assert_eq!(ran.out, "[web-01] half a line\n");
            return;
        }
    }
    panic!("nothing is heard within half a minute");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_stops_watching_and_says_which_command_goes_on() {
    let host = Host::start().await;
    host.play(vec![output("web-01", "stdout", 0, b"started\n")]);
    host.state().hold = true;
    let program = Program::at(&host);
    for words in [&["run", "docker.ps", "--all"][..], &["logs", COMMAND, "-f"]] {
        host.state().status = "running".into();
        let already = host.state().last_ids.len();
        let child = program.command(words).spawn().unwrap();
        // It listens for Ctrl-C before it connects.
        let since = Instant::now();
        while host.state().last_ids.len() == already {
            assert!(since.elapsed() < CEILING, "it never followed");
            tokio::time::timeout(Duration::from_millis(5), std::future::pending::<()>()).await.unwrap_err();
        }
        kill(Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()), Signal::SIGINT).unwrap();
        let ran = finished(child).await;
        ran.ends_with(130);
        assert!(ran.err.contains("stopped watching") && ran.err.contains(COMMAND), "{}", ran.err);
    }
    assert!(
        !host.state().requests.iter().any(|request| request.contains("cancel")),
        "stopping to watch cancels nothing"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_is_gone_is_no_reason_to_keep_trying() {
    let host = Host::start().await;
    let gone = "0193f2c4-0000-7000-8000-00000000dead";
    Program::at(&host).run(&["logs", gone, "-f"]).await.ends_with(1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_log_that_grows_by_more_than_a_page_at_once_is_followed_without_a_gap() {
    let host = Host::start().await;
    let mut tail = Program::at(&host).command(&["audit", "tail", "-f", "-n", "1", "-o", "name"]).spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut next = async || -> u64 {
        let line = timeout(CEILING, lines.next_line()).await.expect("told in time").unwrap();
        line.expect("it goes on").parse().unwrap()
    };
    assert_eq!(next().await, 8, "the newest there was");
    let mut last = 8;
    for more in [1, 1200, 3] {
        host.state().audited += more;
        for _ in 0..more {
            last += 1;
            assert_eq!(next().await, last);
        }
    }
    tail.kill().await.unwrap();
}
