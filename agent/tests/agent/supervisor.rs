//! The supervisor with real processes: what it spawns, what it kills, what it keeps, what it tells.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use agent::clock;
use agent::spool::Spool;
use agent::supervisor::client::{Link, Place, connect};
use agent::supervisor::protocol::{Event, Known, Launch, LaunchStep, Report, Request, lock_path};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plan::id::AttemptKey;
use plan::outcome::{End, Outcome, RejectCause, Stream};

use crate::support::{CEILING, attempt, digest, is_alive, notes, wait_for};

pub struct Bed {
    pub dir: tempfile::TempDir,
    pub supervisor: Child,
}

impl Bed {
    pub fn new() -> Bed {
        Bed::with_linger(60_000)
    }

    fn with_linger(linger_ms: u64) -> Bed {
        let dir = tempfile::tempdir().expect("a directory");
        let supervisor = start(dir.path(), linger_ms);
        Bed { dir, supervisor }
    }

    pub async fn link(&self) -> (Link, Vec<Report>, String) {
        // A program that fails, so that only the supervisor this test started can answer.
        let place = Place { data: self.dir.path().to_owned(), program: Some("/bin/false".into()) };
        let mut link = connect(&place).await.expect("the supervisor answers");
        match next(&mut link).await {
            Event::Hello { instance, attempts, pid } => {
                assert_eq!(pid, self.supervisor.id());
                (link, attempts, instance)
            }
            other => panic!("{other:?}"),
        }
    }

    pub fn spool(&self) -> Spool {
        Spool::open(self.dir.path()).expect("the spool opens")
    }

    pub fn restart(&mut self) {
        self.supervisor.kill().expect("kills");
        self.supervisor.wait().expect("waits");
        self.supervisor = start(self.dir.path(), 60_000);
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(self.supervisor.id() as i32),
            nix::sys::signal::Signal::SIGTERM,
        );
        let _ = self.supervisor.wait();
    }
}

fn start(data: &Path, linger_ms: u64) -> Child {
    Command::new(env!("CARGO_BIN_EXE_viworks-agent"))
        .args(["supervise", "--linger-ms", &linger_ms.to_string(), "--data"])
        .arg(data)
        .stdin(Stdio::null())
        .env("VIWORKS_LOG", "off")
        .spawn()
        .expect("the binary starts")
}

pub async fn next(link: &mut Link) -> Event {
    let event = tokio::time::timeout(CEILING, link.next()).await.expect("says something in time");
    event.expect("speaks the protocol").expect("lives")
}

pub fn shell(key: AttemptKey, script: &str) -> Launch {
    let step = LaunchStep {
        program: "/bin/sh".to_owned(),
        name: "/bin/sh".to_owned(),
        args: vec!["-c".to_owned(), script.to_owned()],
        env: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
        cwd: None,
        stdin: None,
        timeout_ms: None,
    };
    Launch {
        attempt: key,
        steps: vec![step],
        start_by_mono_ms: clock::now().mono_ms + 60_000,
        run_timeout_ms: 60_000,
        output_bytes: 1 << 20,
        grace_ms: 300,
        kill_after_ms: None,
        secrets: vec![],
    }
}

/// Starts and follows to the end; answers what was told in between too.
pub async fn run(link: &mut Link, launch: Launch) -> (Outcome, Vec<Event>) {
    link.send(&Request::Start { launch: Box::new(launch) });
    follow(link).await
}

pub async fn follow(link: &mut Link) -> (Outcome, Vec<Event>) {
    let mut before = Vec::new();
    loop {
        match next(link).await {
            Event::Ended { outcome, .. } => return (outcome, before),
            other => before.push(other),
        }
    }
}

fn read_all(spool: &Spool, key: AttemptKey, outcome: &Outcome) -> Vec<u8> {
    let end = &outcome.stdout;
    let (mut bytes, mut at) = (Vec::new(), 0);
    while at < end.bytes {
        if at == end.head && end.tail > 0 {
            at = end.bytes - end.tail;
        }
        let limit = if at < end.head { end.head - at } else { end.bytes - at };
        let chunk = spool.read(key, Stream::Stdout, Some(end), at, limit.min(32 * 1024) as usize).expect("is kept");
        at += chunk.len() as u64;
        bytes.extend(chunk);
    }
    bytes
}

#[tokio::test]
async fn a_child_gets_what_the_launch_names_and_nothing_else() {
    let bed = Bed::new();
    let (mut link, _, _) = bed.link().await;
    let key = attempt(1, 1);
    let mut launch = shell(
        key,
        "env; cat; umask; pwd; grep NoNewPrivs /proc/self/status; ps -o pgid= -p $$ | tr -d ' '; echo $$; exit 3",
    );
    launch.steps[0].stdin = Some("typed\n".to_owned());
    let (outcome, told) = run(&mut link, launch).await;
    assert_eq!((outcome.end.clone(), outcome.steps[0].exit_code), (End::Exited, Some(3)));
    let text = String::from_utf8(read_all(&bed.spool(), key, &outcome)).expect("text");
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("PWD=") && !line.starts_with("_=")).collect();
    let work = bed.dir.path().join("work");
    assert_eq!(lines[..4], ["PATH=/usr/bin:/bin", "typed", "0077", work.to_str().expect("text")], "{text}");
    assert_eq!(lines[4].split_whitespace().last(), Some("1"), "no new privileges: {text}");
    assert_eq!(lines[5], lines[6], "leads its own group");
    assert!(matches!(&told[0], Event::Started { pid, .. } if pid.to_string() == lines[6]), "{told:?}");
    assert_eq!(outcome.stdout.sha256, digest(&text));
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(bed.dir.path().join("supervisor.sock")).expect("there is a socket").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_timeout_kills_the_whole_group_and_a_grandchild_that_ignores_term() {
    let bed = Bed::new();
    let (mut link, _, _) = bed.link().await;
    for (number, ms) in [(1, 500), (2, 5_000), (3, 25_000)] {
        let key = attempt(number, 1);
        let mut launch = shell(key, "sh -c 'trap \"\" TERM; echo $$; while :; do sleep 60; done' & echo $$; wait");
        launch.run_timeout_ms = ms;
        let (outcome, _) = run(&mut link, launch).await;
        assert!(outcome.end == End::TimedOut && outcome.duration_ms >= ms, "{outcome:?}");
        let text = String::from_utf8(read_all(&bed.spool(), key, &outcome)).expect("text");
        let pids: Vec<u32> = text.lines().map(|line| line.parse().expect("a pid")).collect();
        assert!(!pids.iter().copied().any(is_alive), "{text}");
        if pids.len() == 2 {
            assert_eq!(outcome.steps[0].signal, Some(15), "the leader obeyed TERM");
            return;
        }
    }
    panic!("two processes do not start in time");
}

#[tokio::test]
async fn leftovers_of_a_leader_that_exits_are_ended_even_outside_its_group() {
    let bed = Bed::new();
    let (mut link, _, _) = bed.link().await;
    let key = attempt(1, 1);
    let ready = bed.dir.path().join("ready");
    let script = format!(
        "sleep 600 & echo $!; setsid sh -c 'echo $$; : > {0}; exec sleep 600' & while [ ! -e {0} ]; do sleep 0.02; done; exit 0",
        ready.display()
    );
    let (outcome, _) = run(&mut link, shell(key, &script)).await;
    assert_eq!((outcome.end.clone(), outcome.steps[0].exit_code), (End::Exited, Some(0)));
    let text = String::from_utf8(read_all(&bed.spool(), key, &outcome)).expect("text");
    let pids: Vec<u32> = text.lines().map(|line| line.parse().expect("a pid")).collect();
    assert_eq!(pids.len(), 2, "{text}");
    assert!(!pids.into_iter().any(is_alive));
}

#[tokio::test]
async fn output_over_the_limit_keeps_head_and_tail_and_the_true_totals() {
    let bed = Bed::new();
    let (mut link, _, _) = bed.link().await;
    let key = attempt(1, 1);
    let mut launch = shell(key, "seq 1 200000");
    launch.output_bytes = 40_000;
    let (outcome, told) = run(&mut link, launch).await;
    let whole: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
    let end = &outcome.stdout;
    assert_eq!((end.bytes, end.head, end.tail), (whole.len() as u64, 30_000, 10_000));
    assert_eq!(end.sha256, digest(&whole));
    let kept = read_all(&bed.spool(), key, &outcome);
    assert_eq!(kept[..30_000], whole.as_bytes()[..30_000]);
    assert_eq!(kept[30_000..], whole.as_bytes()[whole.len() - 10_000..]);
    let grown: Vec<u64> = told
        .iter()
        .filter_map(|event| match event {
            Event::Grew { bytes, .. } => Some(*bytes),
            _ => None,
        })
        .collect();
    assert!(grown.is_sorted() && grown.iter().all(|bytes| *bytes <= 30_000), "{grown:?}");
}

#[tokio::test]
async fn growth_is_told_while_the_child_runs() {
    let bed = Bed::new();
    let (mut link, _, _) = bed.link().await;
    let key = attempt(1, 1);
    link.send(&Request::Start { launch: Box::new(shell(key, "echo one; exec sleep 600")) });
    loop {
        if let Event::Grew { stream: Stream::Stdout, bytes: 4, .. } = next(&mut link).await {
            break;
        }
    }
    assert_eq!(bed.spool().read(key, Stream::Stdout, None, 0, 100).expect("is there"), b"one\n");
    link.send(&Request::Kill { attempt: key, grace_ms: 1_000 });
    let (outcome, _) = follow(&mut link).await;
    assert_eq!((outcome.end, outcome.steps[0].signal), (End::Cancelled { started: true }, Some(15)));
}

#[tokio::test]
async fn what_ended_before_it_was_asked_to_keeps_its_own_end() {
    let bed = Bed::new();
    let (mut link, _, _) = bed.link().await;
    let (key, gate) = (attempt(1, 1), bed.dir.path().join("gate"));
    let script = format!("while [ ! -e {} ]; do sleep 0.02; done; exit 3", gate.display());
    link.send(&Request::Start { launch: Box::new(shell(key, &script)) });
    let leader = match next(&mut link).await {
        Event::Started { pid, .. } => pid,
        other => panic!("{other:?}"),
    };
    // Its guard stands still, so nobody hears of its end before the cancel is there as well.
    let parent = |pid: u32| stat(pid, 1).parse::<i32>().expect("a process id");
    let guard = nix::unistd::Pid::from_raw(parent(leader));
    nix::sys::signal::kill(guard, nix::sys::signal::Signal::SIGSTOP).expect("it lives");
    std::fs::write(gate, "").expect("the gate opens");
    wait_for("the end of the process", || async { (stat(leader, 0) == "Z").then_some(()) }).await;
    link.send(&Request::Kill { attempt: key, grace_ms: 60_000 });
    let guard_id = guard.as_raw().unsigned_abs();
    wait_for("the guard to be asked", || async {
        let status = std::fs::read_to_string(format!("/proc/{guard_id}/status")).expect("it lives");
        let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).expect("a line").trim();
        let ask = 1_u64 << (agent::guard::ASK as u32 - 1);
        (u64::from_str_radix(pending, 16).expect("hexadecimal") & ask != 0).then_some(())
    })
    .await;
    nix::sys::signal::kill(guard, nix::sys::signal::Signal::SIGCONT).expect("it lives");
    let (outcome, _) = follow(&mut link).await;
    assert_eq!((outcome.end, outcome.steps[0].exit_code), (End::Exited, Some(3)));
}

/// A field of `/proc/PID/stat`, counted from the state, which is 0.
fn stat(pid: u32, index: usize) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it is there");
    let (_, rest) = text.rsplit_once(')').expect("a name in brackets");
    rest.split_whitespace().nth(index).expect("that many fields").to_owned()
}

#[tokio::test]
async fn what_is_printed_behind_the_kept_start_goes_by_live() {
    let bed = Bed::new();
    let (mut link, _, _) = bed.link().await;
    let (key, gate) = (attempt(1, 1), bed.dir.path().join("gate"));
    let mut launch =
        shell(key, &format!("seq 1 2000; while [ ! -e {} ]; do sleep 0.02; done; echo now", gate.display()));
    launch.output_bytes = 4_000;
    let whole: String = (1..=2_000).map(|number| format!("{number}\n")).chain(["now\n".to_owned()]).collect();
    let shown = whole.len() - 4;
    link.send(&Request::Start { launch: Box::new(launch) });
    loop {
        match next(&mut link).await {
            Event::Passed { attempt, stream: Stream::Stdout, offset, data } if attempt == key => {
                let bytes = STANDARD.decode(data).expect("base64");
                let (from, until) = (offset as usize, offset as usize + bytes.len());
                assert!(from >= 3_000, "{from} is kept and read from disk");
                assert_eq!(&whole.as_bytes()[from..until], bytes);
                if until == shown {
                    break;
                }
            }
            Event::Ended { .. } => panic!("the newest line was not shown while it ran"),
            Event::Hello { .. } | Event::Started { .. } | Event::Grew { .. } | Event::Passed { .. } => {}
        }
    }
    std::fs::write(&gate, "").expect("opens the gate");
    let (outcome, _) = follow(&mut link).await;
    assert_eq!((outcome.stdout.bytes, outcome.stdout.head, outcome.stdout.tail), (whole.len() as u64, 3_000, 1_000));
    assert_eq!(outcome.stdout.sha256, digest(&whole));
}

#[tokio::test]
async fn an_attempt_outlasts_its_host_for_as_long_as_it_may_and_then_ends() {
    let bed = Bed::new();
    let (mut link, _, _) = bed.link().await;
    let bound = |command, kill_after_ms| Launch { kill_after_ms, ..shell(attempt(command, 1), "exec sleep 600") };
    link.send(&Request::Host { here: true });
    for launch in [bound(1, Some(300)), bound(2, Some(100_000)), bound(3, None)] {
        link.send(&Request::Start { launch: Box::new(launch) });
        loop {
            if let Event::Started { .. } = next(&mut link).await {
                break;
            }
        }
    }
    let begun = clock::now().mono_ms;
    link.send(&Request::Host { here: false });
    let (outcome, told) = follow(&mut link).await;
    assert!(clock::now().mono_ms >= begun + 300);
    assert_eq!((outcome.end, outcome.steps[0].signal, told), (End::TimedOut, Some(15), vec![]));
    // Without an agent there is no host either, and nothing new may begin that has outlived its leave.
    link.send(&Request::Start { launch: Box::new(bound(4, Some(1))) });
    assert_eq!(follow(&mut link).await.0.end, End::Expired);
    link.send(&Request::Host { here: true });
    link.send(&Request::Start { launch: Box::new(bound(5, Some(1))) });
    drop(link);
    let ended = |reports: &[Report], index: usize| match &reports[index].state {
        Known::Ended { outcome } => Some(outcome.end.clone()),
        Known::Heard | Known::Running { .. } => None,
    };
    let reports = wait_for("the end of what was left alone", || async {
        let (_, reports, _) = bed.link().await;
        ended(&reports, 4).map(|end| (end, reports))
    });
    let (end, reports) = reports.await;
    assert!(matches!(end, End::TimedOut | End::Expired), "{end:?}");
    assert_eq!([ended(&reports, 1), ended(&reports, 2)], [None, None], "these may go on");
}

#[tokio::test]
async fn an_agent_that_went_and_came_back_finds_everything() {
    let bed = Bed::new();
    let (mut link, reports, instance) = bed.link().await;
    assert_eq!(reports, []);
    let (running, ending) = (attempt(1, 1), attempt(2, 1));
    link.send(&Request::Start { launch: Box::new(shell(running, "echo here; exec sleep 600")) });
    loop {
        if let Event::Grew { .. } = next(&mut link).await {
            break;
        }
    }
    // Asked for and gone at once: the supervisor must have heard it before it greets again.
    link.send(&Request::Start { launch: Box::new(shell(ending, "exit 0")) });
    drop(link);
    let (link, reports, same) = bed.link().await;
    drop(link);
    assert_eq!((same, reports.len()), (instance, 2));
    let (mut link, _) = wait_for("the end of the short one", || async {
        let (link, reports, _) = bed.link().await;
        let ended = matches!(&reports[1].state, Known::Ended { outcome } if outcome.end == End::Exited);
        assert!(matches!(reports[0].state, Known::Running { stdout: 5, .. }), "{reports:?}");
        ended.then_some((link, reports))
    })
    .await;
    link.send(&Request::Drop { attempt: ending });
    link.send(&Request::Kill { attempt: running, grace_ms: 1_000 });
    let (outcome, _) = follow(&mut link).await;
    assert_eq!(outcome.end, End::Cancelled { started: true });
    drop(link);
    let (_, reports, _) = bed.link().await;
    assert_eq!(reports.iter().map(|report| report.attempt).collect::<Vec<_>>(), [running]);
}

#[tokio::test]
async fn the_next_supervisor_settles_what_a_killed_one_left() {
    let mut bed = Bed::new();
    let (mut link, _, instance) = bed.link().await;
    let (running, ended) = (attempt(1, 1), attempt(2, 1));
    let (_, _) = run(&mut link, shell(ended, "exit 0")).await;
    link.send(&Request::Start { launch: Box::new(shell(running, "echo so far; exec sleep 600")) });
    let mut pid = 0;
    loop {
        match next(&mut link).await {
            Event::Started { pid: started, .. } => pid = started,
            Event::Grew { .. } => break,
            other => panic!("{other:?}"),
        }
    }
    drop(link);
    wait_for("the note of the process", || async { notes(bed.dir.path(), pid).then_some(()) }).await;
    bed.restart();
    let (_link, reports, other) = bed.link().await;
    assert_ne!(instance, other);
    let [Report { state: Known::Ended { outcome: first }, .. }, Report { state: Known::Ended { outcome: second }, .. }] =
        &reports[..]
    else {
        panic!("{reports:?}")
    };
    assert_eq!(second.end, End::Exited);
    let End::Interrupted { message } = &first.end else { panic!("{first:?}") };
    assert!(message.contains("supervisor died while it ran"), "{message}");
    assert_eq!((first.stdout.bytes, first.stdout.head), (7, 7));
    assert_eq!(read_all(&bed.spool(), running, first), b"so far\n");
    wait_for("the orphan's end", || async { (!is_alive(pid)).then_some(()) }).await;
}

#[tokio::test]
async fn nothing_is_spawned_that_cannot_be_or_too_late_or_twice() {
    let bed = Bed::new();
    let (mut link, _, _) = bed.link().await;
    let mut late = shell(attempt(1, 1), "echo late");
    late.start_by_mono_ms = clock::now().mono_ms - 1;
    assert_eq!(run(&mut link, late).await.0, Outcome::not_started(End::Expired));
    let mut missing = shell(attempt(2, 1), "");
    missing.steps[0].program = "/no/such/program".to_owned();
    let End::Rejected { cause, message } = run(&mut link, missing).await.0.end else { panic!("spawned") };
    assert_eq!(
        (cause, message.as_str()),
        (RejectCause::Spawn, "cannot start `/bin/sh`: No such file or directory (os error 2)")
    );
    let mut second_missing = shell(attempt(3, 1), "exit 0");
    second_missing.steps.push(LaunchStep { program: "/no/such/program".to_owned(), ..second_missing.steps[0].clone() });
    let (outcome, _) = run(&mut link, second_missing).await;
    assert_eq!(outcome.steps.iter().map(|step| step.exit_code).collect::<Vec<_>>(), [Some(0), Some(127)]);
    let mark = bed.dir.path().join("mark");
    let once = shell(attempt(4, 1), &format!("echo x >> {}", mark.display()));
    link.send(&Request::Start { launch: Box::new(once.clone()) });
    link.send(&Request::Start { launch: Box::new(once.clone()) });
    follow(&mut link).await;
    link.send(&Request::Start { launch: Box::new(once) });
    let (_, _) = run(&mut link, shell(attempt(5, 1), "exit 0")).await;
    assert_eq!(std::fs::read_to_string(mark).expect("was written"), "x\n");
}

#[tokio::test]
async fn a_later_step_runs_only_after_success_and_step_timeouts_end_the_attempt() {
    let bed = Bed::new();
    let (mut link, _, _) = bed.link().await;
    let key = attempt(1, 1);
    let mut launch = shell(key, "echo one");
    let step = |script: &str| shell(key, script).steps.remove(0);
    launch.steps.extend([step("echo two; exit 7"), step("echo three")]);
    let (outcome, _) = run(&mut link, launch).await;
    assert_eq!(
        outcome.steps.iter().map(|step| (step.exit_code, step.stdout_bytes)).collect::<Vec<_>>(),
        [(Some(0), 4), (Some(7), 4)]
    );
    assert_eq!(read_all(&bed.spool(), key, &outcome), b"one\ntwo\n");
    let mut slow = shell(attempt(2, 1), "exec sleep 600");
    slow.steps[0].timeout_ms = Some(100);
    assert_eq!(run(&mut link, slow).await.0.end, End::TimedOut);
}

#[tokio::test]
async fn a_supervisor_that_nobody_needs_exits_and_frees_its_socket() {
    let mut bed = Bed::with_linger(50);
    let (mut link, _, _) = bed.link().await;
    let (_, _) = run(&mut link, shell(attempt(1, 1), "exit 0")).await;
    drop(link);
    let status = wait_for("its exit", || {
        let status = bed.supervisor.try_wait().expect("waits");
        async move { status }
    })
    .await;
    assert!(status.success());
    assert!(!bed.dir.path().join("supervisor.sock").exists());
}

#[tokio::test]
async fn a_supervisor_told_to_stop_ends_its_children_and_says_so_later() {
    let mut bed = Bed::new();
    let (mut link, _, _) = bed.link().await;
    link.send(&Request::Start { launch: Box::new(shell(attempt(1, 1), "exec sleep 600")) });
    let Event::Started { pid, .. } = next(&mut link).await else { panic!("not started") };
    let own: i32 =
        std::fs::read_to_string(lock_path(bed.dir.path())).expect("names itself").trim().parse().expect("a pid");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(own), nix::sys::signal::Signal::SIGTERM).expect("signals");
    let status = wait_for("its exit", || {
        let status = bed.supervisor.try_wait().expect("waits");
        async move { status }
    })
    .await;
    assert!(status.success() && !is_alive(pid));
    bed.supervisor = start(bed.dir.path(), 60_000);
    let (_link, reports, _) = bed.link().await;
    let Known::Ended { outcome } = &reports[0].state else { panic!("{reports:?}") };
    assert_eq!(outcome.end, End::Interrupted { message: "the agent's supervisor was told to stop".to_owned() });
}
