//! The real agent, its output as somebody sees it who looks on, and what it does without its host.

use plan::outcome::{End, Stream};
use wire::frame::{AgentFrame, Fault, Gone, Have, HostFrame, Welcome};

use crate::played::{Bed, shell, welcome};
use crate::support::{attempt, is_alive, wait_for};

#[tokio::test]
async fn output_far_over_the_limit_is_shown_while_the_command_runs() {
    let bed = Bed::new().await;
    let (mut session, _) = bed.session().await;
    let (key, gate) = (attempt(1, 1), bed.dir.path().join("gate"));
    let script = format!(
        "seq 1 300000; for i in 1 2 3; do echo line $i; while [ ! -e {}$i ]; do sleep 0.02; done; done",
        gate.display()
    );
    session.say(HostFrame::Command(shell(key, &script))).await;
    session.started(key).await;
    let whole: String = (1..=300_000).map(|number| format!("{number}\n")).collect();
    for line in 1..=3 {
        // The line is the newest output, and the command waits until it was seen.
        let tail = format!("line {line}\n");
        let end = (whole.len() + tail.len() * line) as u64;
        let gone = loop {
            let AgentFrame::Output(output) = session.until(|frame| matches!(frame, AgentFrame::Output(_))).await else {
                panic!("no output")
            };
            let gone = output.gone;
            session.heard.push(AgentFrame::Output(output));
            if session.output(key).len() as u64 == end {
                break gone;
            }
        };
        let (head, tail_bytes) = (3 << 18, 1 << 18);
        assert_eq!(gone, Some(Gone { from: head, until: end - tail_bytes }), "what is no longer kept is said");
        assert!(session.output(key).ends_with(tail.as_bytes()));
        std::fs::write(format!("{}{line}", gate.display()), "").expect("opens a gate");
    }
    let outcome = session.result(key).await;
    let (bytes, stdout) = (whole.len() + 3 * 7, session.output(key));
    assert_eq!((outcome.stdout.bytes, outcome.stdout.head, outcome.stdout.tail), (bytes as u64, 3 << 18, 1 << 18));
    let whole = format!("{whole}line 1\nline 2\nline 3\n");
    assert_eq!(stdout[..3 << 18], whole.as_bytes()[..3 << 18]);
    assert_eq!(stdout[bytes - (1 << 18)..], whole.as_bytes()[bytes - (1 << 18)..]);
}

#[tokio::test]
async fn a_host_that_says_what_it_has_is_sent_the_rest_only() {
    let bed = Bed::new().await;
    let (mut session, _) = bed.session().await;
    let (key, gate) = (attempt(1, 1), bed.dir.path().join("gate"));
    let script = format!("echo 0123456789; while [ ! -e {} ]; do sleep 0.02; done; echo end", gate.display());
    session.say(HostFrame::Command(shell(key, &script))).await;
    session.started(key).await;
    session.until(|frame| matches!(frame, AgentFrame::Output(_))).await;
    drop(session);
    let mut session = bed.accept().await;
    let have = vec![Have { attempt: key, stdout: 8, stderr: 5 }];
    session.say(HostFrame::Welcome(Welcome { run: vec![key], have, ..welcome() })).await;
    session.started(key).await;
    std::fs::write(&gate, "").expect("opens the gate");
    assert_eq!(session.result(key).await.end, End::Exited);
    let offsets = session.heard.iter().filter_map(|frame| match frame {
        AgentFrame::Output(output) => Some((output.stream, output.offset)),
        _ => None,
    });
    assert_eq!(offsets.min(), Some((Stream::Stdout, 8)));
    assert_eq!(session.output(key)[8..], *b"89\nend\n");
}

#[tokio::test]
async fn what_may_not_outlast_its_host_ends_though_the_agent_dies_too() {
    let mut bed = Bed::new().await;
    let (mut session, _) = bed.session().await;
    let mut bound = shell(attempt(1, 1), "exec sleep 600");
    bound.kill_after_ms = Some(700);
    session.say(HostFrame::Command(bound)).await;
    session.say(HostFrame::Command(shell(attempt(2, 1), "exec sleep 600"))).await;
    let bound = session.started(attempt(1, 1)).await;
    let free = session.started(attempt(2, 1)).await;
    bed.kill_agent();
    drop(session);
    wait_for("its end without host and agent", || async { (!is_alive(bound)).then_some(()) }).await;
    assert!(is_alive(free), "on_disconnect is to continue unless told otherwise");
    bed.start();
    let (mut session, _) = bed.session().await;
    assert_eq!(session.result(attempt(1, 1)).await.end, End::TimedOut);
}

#[tokio::test]
async fn an_agent_whose_key_another_machine_uses_stays_away_and_says_why() {
    let bed = Bed::new().await;
    let (mut session, _) = bed.session().await;
    session.until(|frame| matches!(frame, AgentFrame::Heartbeat { .. })).await;
    let message = "another machine opened a session with this key".to_owned();
    session.say(HostFrame::Error(Fault { code: "replaced".to_owned(), message })).await;
    let wait_ms = wait_for("what it is going to wait", || async {
        let log = bed.log();
        let line = log.lines().find(|line| line.contains("next try to reach the host"))?;
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        line["fields"]["wait_ms"].as_u64()
    });
    assert!(wait_ms.await >= 60_000, "an agent that merely lost its socket is back within a second");
    assert!(bed.log().contains("another machine runs with a copy of this agent's key"));
}
