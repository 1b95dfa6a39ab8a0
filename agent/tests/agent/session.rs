//! The real binary against a host that the test plays: enrolment, sessions, deaths at awkward moments.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use plan::envelope::{epoch_parts, seal, sign};
use plan::outcome::{End, RejectCause, Stream};
use plan::step::Plan;
use tokio_tungstenite::tungstenite::Message;
use wire::codec::encode;
use wire::frame::{AgentFrame, Cancel, Command, Goodbye, HostFrame, Welcome};

use crate::support::{CEILING, attempt, cluster_id, cluster_key, envelope, is_alive, notes, plan, step, wait_for};

use crate::played::{Bed, command, shell, welcome};

#[tokio::test]
async fn a_command_is_acknowledged_run_shown_live_and_never_run_again() {
    let bed = Bed::new().await;
    let (mut session, hello) = bed.session().await;
    assert_eq!(hello.facts.os, "linux");
    assert_eq!(hello.facts.capabilities, ["exec"]);
    assert_eq!(hello.facts.labels.get("site").map(String::as_str), Some("eu-1"));
    assert_eq!((hello.protocol, hello.unfinished.len(), hello.unacknowledged.len()), (1, 0, 0));
    let (key, mark, gate) = (attempt(1, 1), bed.dir.path().join("mark"), bed.dir.path().join("gate"));
    let script = format!(
        "echo x >> {}; echo live; while [ ! -e {} ]; do sleep 0.02; done; echo end",
        mark.display(),
        gate.display()
    );
    let order = shell(key, &script);
    session.say(HostFrame::Command(order.clone())).await;
    session.until(|frame| *frame == AgentFrame::Ack { attempt: key }).await;
    session.started(key).await;
    let live = session.until(|frame| matches!(frame, AgentFrame::Output(_))).await;
    session.heard.push(live);
    assert_eq!(session.output(key), b"live\n", "before the command ends");
    // A repeated frame while it runs is answered with where it stands.
    session.say(HostFrame::Command(order.clone())).await;
    session.until(|frame| *frame == AgentFrame::Ack { attempt: key }).await;
    std::fs::write(&gate, "").expect("opens the gate");
    let outcome = session.result(key).await;
    assert_eq!((outcome.end.clone(), outcome.steps[0].exit_code), (End::Exited, Some(0)));
    assert_eq!(session.output(key), b"live\nend\n");
    let spool = bed.data().join("spool").join(format!("{}-1.out", key.command));
    assert!(spool.exists());
    session.say(HostFrame::ResultAck { attempt: key }).await;
    wait_for("the output's deletion", || async { (!spool.exists()).then_some(()) }).await;
    session.say(HostFrame::Command(order.clone())).await;
    assert_eq!(session.result(key).await, outcome, "an acknowledged attempt is answered from the journal");
    let sample = session.until(|frame| matches!(frame, AgentFrame::Telemetry { .. })).await;
    let AgentFrame::Telemetry { sample } = sample else { panic!("no sample") };
    assert!(sample.memory.is_some_and(|memory| memory.used_bytes > 0) && sample.agent.rss_bytes > 0, "{sample:?}");
    session.until(|frame| matches!(frame, AgentFrame::Heartbeat { .. })).await;
    assert_eq!(std::fs::read_to_string(mark).expect("ran"), "x\n");
}

#[tokio::test]
async fn what_is_not_signed_for_this_agent_or_not_allowed_is_not_run() {
    let bed = Bed::new().await;
    let (mut session, _) = bed.session().await;
    let mark = bed.dir.path().join("mark");
    let script = format!("echo x >> {}", mark.display());
    let mut forged = shell(attempt(1, 1), &script);
    forged.envelope.signature = shell(attempt(2, 1), "true").envelope.signature;
    let mut renamed = shell(attempt(1, 1), &script);
    renamed.attempt = attempt(3, 1);
    let mut beyond = shell(attempt(4, 4), &script);
    beyond.attempt.number = 4;
    let mut late = shell(attempt(5, 1), &script);
    late.envelope = seal(&envelope(late.attempt, plan(vec![step("sh", &["-c", &script])]), 1_000), &cluster_key());
    let denied = command(attempt(6, 1), plan(vec![step("uname", &["-a"])]));
    for (order, expected) in [
        (forged, RejectCause::Signature),
        (renamed, RejectCause::Signature),
        (beyond, RejectCause::Stale),
        (late, RejectCause::Stale),
        (denied, RejectCause::Policy),
    ] {
        let key = order.attempt;
        session.say(HostFrame::Command(order)).await;
        let End::Rejected { cause, message } = session.result(key).await.end else { panic!("{key} was not rejected") };
        assert_eq!(cause, expected, "{message}");
    }
    let mut late = shell(attempt(11, 1), &script);
    let before_ms = agent::clock::now().wall_ms - 60_000;
    late.envelope = seal(&envelope(late.attempt, plan(vec![step("sh", &["-c", &script])]), before_ms), &cluster_key());
    session.say(HostFrame::Command(late)).await;
    assert_eq!(session.result(attempt(11, 1)).await.end, End::Expired, "it never started, and that is certain");
    let mut expired = shell(attempt(7, 1), &script);
    expired.start_within_ms = 0;
    session.say(HostFrame::Command(shell(attempt(8, 1), "exec sleep 600"))).await;
    session.say(HostFrame::Command(shell(attempt(9, 1), "exec sleep 600"))).await;
    session.started(attempt(9, 1)).await;
    session.say(HostFrame::Command(expired)).await;
    assert_eq!(session.result(attempt(7, 1)).await.end, End::Expired, "both slots are taken");
    session.say(HostFrame::Cancel(Cancel { attempt: attempt(10, 1), grace_ms: None })).await;
    assert_eq!(session.result(attempt(10, 1)).await.end, End::Cancelled { started: false });
    session.say(HostFrame::Command(shell(attempt(10, 1), &script))).await;
    assert_eq!(session.result(attempt(10, 1)).await.end, End::Cancelled { started: false }, "it came after its cancel");
    for number in [8, 9] {
        session.say(HostFrame::Cancel(Cancel { attempt: attempt(number, 1), grace_ms: Some(1_000) })).await;
        assert_eq!(session.result(attempt(number, 1)).await.end, End::Cancelled { started: true });
    }
    assert!(!mark.exists());
}

#[tokio::test]
async fn what_is_heard_after_a_standstill_of_three_heartbeats_is_not_run() {
    const SILENCE: Duration = Duration::from_millis(3_200);
    let bed = Bed::new().await;
    let pid = Pid::from_raw(bed.agent.as_ref().expect("runs").id() as i32);
    let mark = bed.dir.path().join("mark");
    for number in 1..=3 {
        let (mut session, _) = bed.session().await;
        session.until(|frame| matches!(frame, AgentFrame::Heartbeat { .. })).await;
        kill(pid, Signal::SIGSTOP).expect("stops");
        let stopped =
            || async { std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?.contains(") T ").then_some(()) };
        wait_for("its standstill", stopped).await;
        let begun = Instant::now();
        // It may be tried again: what is signed is the end of all its attempts, and that is far away.
        session.say(HostFrame::Command(shell(attempt(number, 1), &format!("echo x >> {}", mark.display())))).await;
        wait_for("a long silence", || async { (begun.elapsed() > SILENCE).then_some(()) }).await;
        kill(pid, Signal::SIGCONT).expect("goes on");
        let (mut session, hello) = bed.session().await;
        assert_eq!((hello.unfinished, hello.unacknowledged), (vec![], vec![]));
        session.say(HostFrame::Goodbye(Goodbye { reason: "test".to_owned(), retry_after_ms: Some(1) })).await;
    }
    assert!(!mark.exists());
}

#[tokio::test]
async fn what_waits_for_a_lock_takes_no_slot_and_is_ended_by_its_deadline_or_a_cancel() {
    let bed = Bed::new().await;
    let (mut session, _) = bed.session().await;
    let mark = bed.dir.path().join("mark");
    let locked = |number, script: &str| {
        let plan = Plan { locks: vec!["compose:shop".to_owned()], ..plan(vec![step("sh", &["-c", script])]) };
        command(attempt(number, 1), plan)
    };
    let late = format!("echo x >> {}", mark.display());
    session.say(HostFrame::Command(locked(1, "exec sleep 600"))).await;
    session.started(attempt(1, 1)).await;
    let mut short = locked(2, &late);
    short.start_within_ms = 300;
    session.say(HostFrame::Command(short)).await;
    session.say(HostFrame::Command(locked(3, &late))).await;
    // The second of two slots is free for whatever wants no lock, though two that do came before it.
    session.say(HostFrame::Command(shell(attempt(4, 1), "exec sleep 600"))).await;
    session.started(attempt(4, 1)).await;
    assert_eq!(session.result(attempt(2, 1)).await.end, End::Expired);
    session.say(HostFrame::Cancel(Cancel { attempt: attempt(3, 1), grace_ms: None })).await;
    assert_eq!(session.result(attempt(3, 1)).await.end, End::Cancelled { started: false });
    // A lock that is given back is taken by whoever waits for it.
    session.say(HostFrame::Command(locked(5, "exec sleep 600"))).await;
    session.until(|frame| *frame == AgentFrame::Ack { attempt: attempt(5, 1) }).await;
    session.say(HostFrame::Cancel(Cancel { attempt: attempt(1, 1), grace_ms: Some(1_000) })).await;
    assert_eq!(session.result(attempt(1, 1)).await.end, End::Cancelled { started: true });
    session.started(attempt(5, 1)).await;
    assert!(!mark.exists());
}

#[tokio::test]
async fn an_epoch_that_was_proven_is_never_gone_back_on_though_no_command_came() {
    let mut bed = Bed::new().await;
    let proof = |key: &ed25519_dalek::SigningKey| sign(key, &[&epoch_parts(cluster_id(), 7)]);
    let (mut forged, _) = bed.challenge(7, Some(proof(&ed25519_dalek::SigningKey::from_bytes(&[9; 32])))).await;
    let AgentFrame::Error(fault) = forged.next().await else { panic!("an epoch nobody proved was taken") };
    assert_eq!(fault.code, "epoch_signature");
    drop(forged);
    let (mut proven, _) = bed.challenge(7, Some(proof(&cluster_key()))).await;
    let AgentFrame::Hello(_) = proven.next().await else { panic!("no HELLO") };
    proven.say(HostFrame::Welcome(welcome())).await;
    proven.until(|frame| matches!(frame, AgentFrame::Heartbeat { .. })).await;
    bed.kill_agent();
    drop(proven);
    bed.start();
    let (mut before, _) = bed.challenge(6, None).await;
    let AgentFrame::Error(fault) = before.next().await else { panic!("an older epoch was taken") };
    assert_eq!(fault.code, "stale_epoch");
}

#[tokio::test]
async fn an_agent_killed_mid_run_comes_back_to_its_child() {
    let mut bed = Bed::new().await;
    let (mut session, _) = bed.session().await;
    let (key, gate) = (attempt(1, 1), bed.dir.path().join("gate"));
    let script = format!("echo before; while [ ! -e {} ]; do sleep 0.02; done; echo after", gate.display());
    let trace = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned());
    session.say(HostFrame::Command(Command { traceparent: trace.clone(), ..shell(key, &script) })).await;
    let pid = session.started(key).await;
    bed.kill_agent();
    assert!(is_alive(pid));
    bed.start();
    let (mut session, hello) = bed.session().await;
    assert_eq!((hello.unfinished.len(), hello.unfinished[0].started), (1, true));
    // It knows its trace from the journal, too.
    session.until(|frame| *frame == AgentFrame::Started { attempt: key, pid, traceparent: trace.clone() }).await;
    std::fs::write(&gate, "").expect("opens the gate");
    let result = session.until(|frame| matches!(frame, AgentFrame::Result { .. })).await;
    let AgentFrame::Result { outcome, traceparent, .. } = result else { panic!("no RESULT") };
    assert_eq!(traceparent, trace);
    assert_eq!((outcome.end.clone(), outcome.steps[0].exit_code), (End::Exited, Some(0)));
    assert_eq!(session.output(key), b"before\nafter\n");
    // Not acknowledged: it is sent again, with its output, in every session.
    drop(session);
    let (mut session, hello) = bed.session().await;
    assert_eq!(hello.unacknowledged, [key]);
    assert_eq!(session.result(key).await, outcome);
    assert_eq!(session.output(key), b"before\nafter\n");
    session.say(HostFrame::ResultAck { attempt: key }).await;
    session.until(|frame| matches!(frame, AgentFrame::Heartbeat { .. })).await;
    session.say(HostFrame::Goodbye(Goodbye { reason: "test".to_owned(), retry_after_ms: Some(1) })).await;
    drop(session);
    let (_, hello) = bed.session().await;
    assert_eq!((hello.unfinished.len(), hello.unacknowledged.len()), (0, 0));
}

#[tokio::test]
async fn a_host_is_reached_while_the_supervisor_is_slow_and_hears_hello_only_when_it_is_known_what_runs() {
    let mut bed = Bed::new().await;
    let (mut session, _) = bed.session().await;
    let (key, gate) = (attempt(1, 1), bed.dir.path().join("gate"));
    session
        .say(HostFrame::Command(shell(key, &format!("while [ ! -e {} ]; do sleep 0.02; done", gate.display()))))
        .await;
    session.started(key).await;
    bed.kill_agent();
    // It ends while nobody looks: only the supervisor knows, and that stands still.
    std::fs::write(&gate, "").expect("opens the gate");
    bed.signal_supervisor(Signal::SIGSTOP);
    bed.start();
    let (mut session, _) = bed.challenge(1, None).await;
    // Nothing is said before it is known what runs, and the host's place is not held for long.
    let early = tokio::time::timeout(CEILING, session.socket.next()).await.expect("hangs up");
    assert!(early.as_ref().is_none_or(Result::is_err), "{early:?}");
    bed.signal_supervisor(Signal::SIGCONT);
    let mut session = bed.accept().await;
    let Some(AgentFrame::Hello(hello)) = session.heard.pop() else { panic!("no HELLO") };
    assert_eq!(hello.unfinished.iter().map(|held| held.attempt).chain(hello.unacknowledged).collect::<Vec<_>>(), [key]);
    session.say(HostFrame::Welcome(Welcome { run: vec![key], ..welcome() })).await;
    assert_eq!(session.result(key).await.end, End::Exited);
}

#[tokio::test]
async fn what_dies_with_agent_and_supervisor_is_interrupted_with_its_output_so_far() {
    let mut bed = Bed::new().await;
    let (mut session, _) = bed.session().await;
    let key = attempt(1, 1);
    session.say(HostFrame::Command(shell(key, "echo so far; exec sleep 600"))).await;
    let pid = session.started(key).await;
    session.until(|frame| matches!(frame, AgentFrame::Output(_))).await;
    wait_for("the supervisor's note of the process", || async { notes(&bed.data(), pid).then_some(()) }).await;
    bed.kill_agent();
    bed.kill_supervisor();
    bed.start();
    let (mut session, _) = bed.session().await;
    let outcome = session.result(key).await;
    assert!(matches!(outcome.end, End::Interrupted { .. }), "{outcome:?}");
    assert_eq!((outcome.stdout.bytes, session.output(key)), (7, b"so far\n".to_vec()));
    wait_for("the orphan's end", || async { (!is_alive(pid)).then_some(()) }).await;
}

#[tokio::test]
async fn what_a_power_failure_leaves_on_disk_of_output_is_told_though_no_supervisor_knows_of_it() {
    let mut bed = Bed::new().await;
    let (mut session, _) = bed.session().await;
    let (small, large) = (attempt(1, 1), attempt(2, 1));
    session.say(HostFrame::Command(shell(small, "echo so far; exec sleep 600"))).await;
    session.until(|frame| matches!(frame, AgentFrame::Output(_))).await;
    session.say(HostFrame::Command(shell(large, "head -c 2000000 /dev/zero; echo far >&2; exec sleep 600"))).await;
    session.until(|frame| matches!(frame, AgentFrame::Output(said) if said.stream == Stream::Stderr)).await;
    bed.kill_agent();
    bed.kill_supervisor();
    // The journal was synced, the output was written by chance, the supervisor's log was not written yet.
    std::fs::remove_file(bed.data().join("supervisor.log")).expect("it was there");
    bed.start();
    let (mut session, hello) = bed.session().await;
    assert_eq!(hello.unfinished.len() + hello.unacknowledged.len(), 2, "the journal knows of both");
    let mut outcomes = BTreeMap::new();
    while outcomes.len() < 2 {
        let result = session.until(|frame| matches!(frame, AgentFrame::Result { .. })).await;
        let AgentFrame::Result { attempt, outcome, .. } = result else { panic!("{result:?}") };
        let End::Interrupted { message } = &outcome.end else { panic!("{outcome:?}") };
        assert!(message.contains("what was on the disk"), "{message}");
        outcomes.insert(attempt, outcome);
    }
    let stdout = &outcomes[&small].stdout;
    assert_eq!((stdout.bytes, stdout.truncated(), session.output(small)), (7, false, b"so far\n".to_vec()));
    // Of what outgrew its limit only the beginning is known for what it is, and that there was more.
    let (stdout, stderr) = (&outcomes[&large].stdout, &outcomes[&large].stderr);
    assert!(stdout.truncated() && stdout.tail == 0, "{stdout:?}");
    assert_eq!((session.output(large).len() as u64, stderr.bytes), (stdout.head, 4));
    session.say(HostFrame::ResultAck { attempt: small }).await;
    wait_for("the end of its file", || async {
        let of_it = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with(&small.command.to_string());
        let mut left = std::fs::read_dir(bed.data().join("spool")).expect("reads").flatten();
        (!left.any(|entry| of_it(&entry.file_name()))).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_supervisor_killed_under_a_living_agent_is_replaced() {
    let bed = Bed::new().await;
    let (mut session, _) = bed.session().await;
    session.say(HostFrame::Command(shell(attempt(1, 1), "exec sleep 600"))).await;
    session.started(attempt(1, 1)).await;
    bed.kill_supervisor();
    let outcome = session.result(attempt(1, 1)).await;
    assert!(matches!(outcome.end, End::Interrupted { .. }), "{outcome:?}");
    session.say(HostFrame::Command(command(attempt(2, 1), plan(vec![step("uname", &["-s"])])))).await;
    let outcome = session.result(attempt(2, 1)).await;
    assert_eq!((outcome.end, session.output(attempt(2, 1))), (End::Exited, b"Linux\n".to_vec()));
}

#[tokio::test]
async fn sigterm_says_goodbye_exits_with_success_and_leaves_children_running() {
    let mut bed = Bed::new().await;
    let (mut session, _) = bed.session().await;
    session.say(HostFrame::Command(shell(attempt(1, 1), "exec sleep 600"))).await;
    let pid = session.started(attempt(1, 1)).await;
    let mut agent = bed.agent.take().expect("runs");
    kill(Pid::from_raw(agent.id() as i32), Signal::SIGTERM).expect("signals");
    session.until(|frame| matches!(frame, AgentFrame::Goodbye(_))).await;
    drop(session);
    let status = wait_for("its exit", || {
        let status = agent.try_wait().expect("waits");
        async move { status }
    })
    .await;
    assert!(status.success() && is_alive(pid));
}

#[tokio::test]
async fn frames_that_make_no_sense_end_the_session_with_a_reason() {
    let bed = Bed::new().await;
    for (text, expected) in [
        (Message::text(r#"{"type":"REBOOT"}"#), "malformed_frame"),
        (Message::text("not json"), "malformed_frame"),
        (Message::binary(vec![1, 2]), "malformed_frame"),
        (Message::text(" ".repeat(wire::limits::MAX_FRAME_BYTES + 1)), "frame_too_long"),
        (Message::text(encode(&HostFrame::Welcome(welcome()))), "unexpected_frame"),
    ] {
        let (mut session, _) = bed.session().await;
        session.socket.send(text).await.expect("sends");
        let error = session.until(|frame| matches!(frame, AgentFrame::Error(_))).await;
        let AgentFrame::Error(fault) = error else { panic!("no ERROR") };
        assert_eq!(fault.code, expected, "{}", fault.message);
        let end = tokio::time::timeout(CEILING, session.socket.next()).await.expect("closes in time");
        assert!(matches!(end, None | Some(Ok(Message::Close(_))) | Some(Err(_))), "{end:?}");
    }
}

#[tokio::test]
async fn a_flood_of_output_delays_no_control_frame() {
    let bed = Bed::new().await;
    let (mut session, _) = bed.session().await;
    let (key, printed) = (attempt(1, 1), bed.dir.path().join("printed"));
    let script = format!("yes | head -c 700000; : > {}; exec sleep 600", printed.display());
    session.say(HostFrame::Command(shell(key, &script))).await;
    session.started(key).await;
    session.say(HostFrame::Command(command(attempt(2, 1), plan(vec![step("uname", &["-s"])])))).await;
    session.until(|frame| *frame == AgentFrame::Ack { attempt: attempt(2, 1) }).await;
    session.result(attempt(2, 1)).await;
    wait_for("the flood", || async { printed.exists().then_some(()) }).await;
    session.say(HostFrame::Cancel(Cancel { attempt: key, grace_ms: None })).await;
    let outcome = session.result(key).await;
    assert_eq!((outcome.end.clone(), outcome.stdout.bytes), (End::Cancelled { started: true }, 700_000));
    let output = session.output(key);
    assert_eq!((output.len(), &output[..4]), (700_000, &b"y\ny\n"[..]));
}
