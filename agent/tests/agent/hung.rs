//! Starts that hang, with real processes: the file of a program lies where it cannot be read for now, or its guard
//! stands still. No wish to end an attempt and no clock of it waits for that, and nothing of it runs later.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use agent::clock;
use agent::guard::{below, children};
use agent::supervisor::client::Link;
use agent::supervisor::protocol::{Event, Launch, Request};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use plan::id::AttemptKey;
use plan::outcome::{End, Outcome};

use crate::supervisor::{Bed, follow, next, run, shell};
use crate::support::{attempt, is_alive, wait_for};

/// Far below what a held file hangs for by itself, 45 s.
const SOON: Duration = Duration::from_secs(30);
/// The clocks that end an attempt: long enough for its guard to begin beside many others, far below [`SOON`].
const CLOCK_MS: u64 = 6_000;
/// Holds a write lease on a file without having it open for writing: whoever is to execute it waits for that.
const HOLD: &str =
    r#"$SIG{IO} = "IGNORE"; open(F, "<", $ARGV[0]) && fcntl(F, 1024, 1) or die; $| = 1; print "held\n"; sleep 600"#;
/// Guards that may start their process before the test has stopped them.
const TRIES: u32 = 200;

/// A program that cannot be started for as long as its file is held.
struct Hung {
    program: PathBuf,
    mark: PathBuf,
    holder: Child,
}

impl Hung {
    fn new(dir: &Path) -> Hung {
        let (program, mark) = (dir.join("program"), dir.join("mark"));
        let written = dir.join("written");
        std::fs::write(&written, format!("#!/bin/sh\necho ran > {}\n", mark.display())).expect("writes");
        // A file that was never open for writing in this process: what other tests fork might hold it.
        assert!(Command::new("cp").arg(&written).arg(&program).status().expect("cp").success());
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).expect("may be executed");
        let mut command = Command::new("perl");
        let mut holder =
            command.args(["-e", HOLD]).arg(&program).stdout(Stdio::piped()).spawn().expect("perl, to hold a file");
        let mut line = String::new();
        BufReader::new(holder.stdout.take().expect("a pipe")).read_line(&mut line).expect("it says so");
        assert_eq!(line, "held\n");
        Hung { program, mark, holder }
    }

    fn launch(&self, key: AttemptKey) -> Launch {
        let mut launch = shell(key, "");
        launch.steps[0].program = self.program.to_str().expect("text").to_owned();
        launch.steps[0].args.clear();
        launch
    }

    fn let_go(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }

    /// Nothing of the attempt is there that might run later; and nothing does, though the next one can.
    async fn over_for_good(mut self, bed: &Bed, link: &mut Link, number: u128) {
        let left: Vec<Pid> = below(supervisor(bed)).into_iter().filter(|pid| is_alive(pid.as_raw() as u32)).collect();
        assert_eq!(left, [], "something is left that would go on");
        self.let_go();
        let (outcome, _) = run(link, shell(attempt(number, 1), "sleep 0.2")).await;
        assert_eq!(outcome.end, End::Exited);
        assert!(!self.mark.exists(), "it ran after its end was told");
        let (outcome, _) = run(link, self.launch(attempt(number + 1, 1))).await;
        assert_eq!((outcome.end, outcome.steps[0].exit_code), (End::Exited, Some(0)));
        assert!(self.mark.exists(), "it was only held");
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        self.let_go();
    }
}

fn supervisor(bed: &Bed) -> Pid {
    Pid::from_raw(bed.supervisor.id() as i32)
}

fn interrupted(outcome: &Outcome, why: &str) {
    let End::Interrupted { message } = &outcome.end else { panic!("{outcome:?}") };
    assert!(message.starts_with(why) && message.contains("whether it began is not known"), "{message}");
}

#[tokio::test]
async fn a_cancel_ends_an_attempt_whose_start_hangs() {
    let bed = Bed::new();
    let (mut link, _, _) = bed.link().await;
    let hung = Hung::new(bed.dir.path());
    link.send(&Request::Start { launch: Box::new(hung.launch(attempt(1, 1))) });
    wait_for("a process below the guard", || async { (below(supervisor(&bed)).len() == 2).then_some(()) }).await;
    let begun = Instant::now();
    link.send(&Request::Kill { attempt: attempt(1, 1), grace_ms: 60_000 });
    let (outcome, told) = follow(&mut link).await;
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    interrupted(&outcome, "its end was asked for");
    assert_eq!((outcome.steps, told), (vec![], vec![]));
    hung.over_for_good(&bed, &mut link, 2).await;
}

#[tokio::test]
async fn the_clocks_of_an_attempt_end_it_though_its_start_hangs() {
    for clock in ["its run timeout", "its time to start", "its time without a host"] {
        let bed = Bed::new();
        let (mut link, _, _) = bed.link().await;
        let hung = Hung::new(bed.dir.path());
        let mut launch = hung.launch(attempt(1, 1));
        match clock {
            "its run timeout" => launch.run_timeout_ms = CLOCK_MS,
            "its time to start" => launch.start_by_mono_ms = clock::now().mono_ms + CLOCK_MS,
            _ => {
                launch.kill_after_ms = Some(CLOCK_MS);
                link.send(&Request::Host { here: true });
            }
        }
        let begun = Instant::now();
        link.send(&Request::Start { launch: Box::new(launch) });
        wait_for("a process below the guard", || async { (below(supervisor(&bed)).len() == 2).then_some(()) }).await;
        link.send(&Request::Host { here: false });
        let (outcome, told) = follow(&mut link).await;
        assert!((Duration::from_millis(CLOCK_MS)..SOON).contains(&begun.elapsed()), "{clock}: {:?}", begun.elapsed());
        interrupted(&outcome, &format!("{clock} was over"));
        assert_eq!(told, []);
        hung.over_for_good(&bed, &mut link, 2).await;
    }
}

#[tokio::test]
async fn a_later_step_whose_start_hangs_ends_the_attempt_with_what_was_known_before() {
    let bed = Bed::new();
    let (mut link, _, _) = bed.link().await;
    let hung = Hung::new(bed.dir.path());
    let mut launch = shell(attempt(1, 1), "echo one");
    launch.steps.extend(hung.launch(attempt(1, 1)).steps);
    // The time to start by is of the first one only.
    (launch.run_timeout_ms, launch.start_by_mono_ms) = (2 * CLOCK_MS, clock::now().mono_ms + CLOCK_MS);
    let begun = Instant::now();
    let (outcome, _) = run(&mut link, launch).await;
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    interrupted(&outcome, "its run timeout was over");
    assert_eq!(
        outcome.steps.iter().map(|step| (step.exit_code, step.stdout_bytes)).collect::<Vec<_>>(),
        [(Some(0), 4)]
    );
    assert_eq!(outcome.stdout.bytes, 4);
    hung.over_for_good(&bed, &mut link, 2).await;
}

#[tokio::test]
async fn a_supervisor_that_is_told_to_stop_does_not_wait_for_a_start_that_hangs() {
    let mut bed = Bed::new();
    let (mut link, _, _) = bed.link().await;
    let mut hung = Hung::new(bed.dir.path());
    link.send(&Request::Start { launch: Box::new(hung.launch(attempt(1, 1))) });
    let below = wait_for("a process below the guard", || async {
        Some(below(supervisor(&bed))).filter(|below| below.len() == 2)
    })
    .await;
    let begun = Instant::now();
    kill(supervisor(&bed), Signal::SIGTERM).expect("signals");
    interrupted(&follow(&mut link).await.0, "the agent's supervisor was told to stop");
    assert!(bed.supervisor.wait().expect("waits").success());
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert!(!below.iter().any(|pid| is_alive(pid.as_raw() as u32)), "{below:?}");
    hung.let_go();
    assert!(!hung.mark.exists());
}

#[tokio::test]
async fn a_guard_that_is_killed_while_a_start_hangs_is_missed_at_once() {
    let bed = Bed::new();
    let (mut link, _, _) = bed.link().await;
    let hung = Hung::new(bed.dir.path());
    link.send(&Request::Start { launch: Box::new(hung.launch(attempt(1, 1))) });
    let [guard, _] = wait_for("a process below the guard", || async { below(supervisor(&bed)).try_into().ok() }).await;
    let begun = Instant::now();
    kill(guard, Signal::SIGKILL).expect("kills");
    let (outcome, _) = follow(&mut link).await;
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    let End::Interrupted { message } = &outcome.end else { panic!("{outcome:?}") };
    assert!(message.contains("guard was killed"), "{message}");
    hung.over_for_good(&bed, &mut link, 2).await;
}

fn is_guard(pid: &Pid) -> bool {
    let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split('\0').nth(1) == Some(agent::guard::NAME)
}

/// Has an attempt started whose guard stands still before it has heard of what to start.
async fn unheard(bed: &Bed, link: &mut Link, launch: impl Fn(u32) -> Launch) -> (AttemptKey, Pid, Instant) {
    for number in 1..=TRIES {
        // None that is kept: that one would hear at once.
        for spare in children(supervisor(bed)) {
            let _ = kill(spare, Signal::SIGKILL);
        }
        wait_for("the end of spare guards", || async { children(supervisor(bed)).is_empty().then_some(()) }).await;
        let (launch, begun) = (launch(number), Instant::now());
        let key = launch.attempt;
        link.send(&Request::Start { launch: Box::new(launch) });
        let guard = loop {
            // Before it is a program of its own, its supervisor stands still with it.
            if let Some(guard) = children(supervisor(bed)).into_iter().find(is_guard) {
                break guard;
            }
            assert!(begun.elapsed() < SOON, "no new guard");
        };
        let _ = kill(guard, Signal::SIGSTOP);
        let stat = || std::fs::read_to_string(format!("/proc/{guard}/stat")).unwrap_or_default();
        wait_for("its standstill", || async { (!stat().contains(") R") && !stat().contains(") D")).then_some(()) })
            .await;
        // Orders come by its standard input for as long as it has not begun to listen.
        let stdin = std::fs::read_link(format!("/proc/{guard}/fd/0")).unwrap_or_default();
        if stat().contains(") T") && stdin.to_string_lossy().starts_with("socket:") {
            return (key, guard, begun);
        }
        let _ = kill(guard, Signal::SIGCONT);
        link.send(&Request::Kill { attempt: key, grace_ms: 0 });
        follow(link).await;
    }
    panic!("{TRIES} guards were quicker than the test");
}

#[tokio::test]
async fn a_guard_that_stands_still_is_ended_and_what_it_never_heard_of_was_not_started() {
    let bed = Bed::new();
    let (mut link, _, _) = bed.link().await;
    let mark = bed.dir.path().join("mark");
    let script = format!("echo $$ >> {}; exec sleep 600", mark.display());
    for (command, clock, expected) in [
        (1, "cancel", End::Cancelled { started: false }),
        (2, "run timeout", End::Expired),
        (3, "start deadline", End::Expired),
    ] {
        let launch = |number| {
            let mut launch = shell(attempt(command, number), &script);
            match clock {
                "run timeout" => launch.run_timeout_ms = CLOCK_MS,
                "start deadline" => launch.start_by_mono_ms = clock::now().mono_ms + CLOCK_MS,
                _ => {}
            }
            launch
        };
        let (key, guard, begun) = unheard(&bed, &mut link, launch).await;
        // What ran while the test was too slow is none of this.
        let _ = std::fs::remove_file(&mark);
        if clock == "cancel" {
            link.send(&Request::Kill { attempt: key, grace_ms: 60_000 });
        }
        let (outcome, told) = follow(&mut link).await;
        assert!(begun.elapsed() < SOON, "{clock}: {:?}", begun.elapsed());
        assert_eq!((outcome, told), (Outcome::not_started(expected), vec![]), "{clock}");
        assert!(!is_alive(guard.as_raw() as u32), "{clock}");
        run(&mut link, shell(attempt(command, TRIES + 1), "sleep 0.2")).await;
        assert!(!mark.exists(), "{clock}");
    }
}

#[tokio::test]
async fn a_process_that_stops_its_own_guard_is_ended_with_it() {
    let bed = Bed::new();
    let (mut link, _, _) = bed.link().await;
    for (number, script) in [
        (1, "kill -STOP $PPID; echo $$; exec sleep 600"),
        (2, "trap '' TERM; kill -STOP $PPID; echo $$; while :; do kill -STOP $PPID; done"),
    ] {
        let (key, gate) = (attempt(number, 1), bed.dir.path().join(format!("gate-{number}")));
        let script = format!("while [ ! -e {} ]; do sleep 0.01; done; {script}", gate.display());
        link.send(&Request::Start { launch: Box::new(shell(key, &script)) });
        let Event::Started { pid: leader, .. } = next(&mut link).await else { panic!("not started") };
        std::fs::write(gate, "").expect("opens the gate");
        while !matches!(next(&mut link).await, Event::Grew { .. }) {}
        link.send(&Request::Kill { attempt: key, grace_ms: 100 });
        let begun = Instant::now();
        let (outcome, _) = follow(&mut link).await;
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
        assert_eq!(outcome.end, End::Cancelled { started: true }, "{script}");
        assert!(!is_alive(leader), "{script}");
    }
}
