//! Guards that guard one process after the other, with real processes: which are used again, and that nothing of a
//! step is there for the next.

use std::collections::BTreeSet;

use agent::guard::children;
use agent::supervisor::client::Link;
use agent::supervisor::protocol::{Event, Launch, Request};
use agent::supervisor::spare::MAX_SPARE;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use plan::id::AttemptKey;
use plan::outcome::{End, Outcome, Stream};

use crate::supervisor::{Bed, follow, next, run, shell};
use crate::support::{attempt, is_alive, wait_for};

/// What a process sees of itself and of its guard: that must not change from one step to the next.
const LOOK: &str = "ls /proc/$$/fd; ls /proc/$PPID/fd; readlink /proc/$PPID/fd/0 /proc/$PPID/fd/1; pwd; umask; env | sort; \
                    ps -o ni= -p $$";
/// The same of its signals, of which the shell itself blocks some now and then.
const SIGNALS: &str = "exec grep -E '^(SigPnd|ShdPnd|SigBlk|SigIgn|SigCgt|NoNewPrivs)' /proc/self/status";

fn text(bed: &Bed, key: AttemptKey, outcome: &Outcome) -> String {
    let bytes = bed.spool().read(key, Stream::Stdout, Some(&outcome.stdout), 0, 64 * 1024).expect("it printed");
    String::from_utf8(bytes).expect("text")
}

/// The guard of a process that ran `script`, and what that printed.
async fn guarded(bed: &Bed, link: &mut Link, number: u128, script: &str) -> (u32, String) {
    let key = attempt(number, 1);
    let (outcome, _) = run(link, shell(key, &format!("echo $PPID; {script}"))).await;
    assert_eq!(outcome.end, End::Exited, "{script}");
    let text = text(bed, key, &outcome);
    let (guard, rest) = text.split_once('\n').expect("a line");
    (guard.parse().expect("a process id"), rest.to_owned())
}

/// Waits until its guard has nothing more to do with the start, then goes on with `then`.
fn gated(bed: &Bed, number: u128, then: &str) -> (Launch, std::path::PathBuf) {
    let gate = bed.dir.path().join(format!("gate-{number}"));
    let script = format!("echo $PPID; while [ ! -e {} ]; do sleep 0.01; done; {then}", gate.display());
    (shell(attempt(number, 1), &script), gate)
}

async fn started(link: &mut Link) {
    while !matches!(next(link).await, Event::Started { .. }) {}
}

#[tokio::test]
async fn a_guard_under_which_nothing_is_left_guards_the_next_step_which_finds_nothing_of_the_one_before() {
    let bed = Bed::new();
    let (mut link, _, _) = bed.link().await;
    let mut seen = Vec::new();
    for number in 1..=3 {
        let then = match number {
            2 => format!("{LOOK}; cat; cd /; umask 0; trap '' TERM USR1; exec 9</dev/zero; exit 9"),
            _ => format!("{LOOK}; {SIGNALS}"),
        };
        let (mut launch, gate) = gated(&bed, number, &then);
        // The second has other streams, and leaves what it can.
        if number == 2 {
            launch.steps[0].stdin = Some("typed\n".to_owned());
            launch.steps[0].env.insert("OWN".to_owned(), "x".repeat(100_000));
        }
        link.send(&Request::Start { launch: Box::new(launch) });
        started(&mut link).await;
        std::fs::write(gate, "").expect("opens the gate");
        let (outcome, _) = follow(&mut link).await;
        assert_eq!(outcome.steps[0].exit_code, Some(if number == 2 { 9 } else { 0 }));
        if number != 2 {
            seen.push(text(&bed, attempt(number, 1), &outcome));
        } else {
            assert!(outcome.stdout.bytes > 100_000, "{outcome:?}");
        }
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn a_guard_that_had_to_end_something_is_not_used_again() {
    let bed = Bed::new();
    let (mut link, _, _) = bed.link().await;
    let (left, _) = guarded(&bed, &mut link, 1, "setsid sleep 600 & exit 0").await;
    let (key, script) = (attempt(2, 1), "echo $PPID; exec sleep 600");
    link.send(&Request::Start { launch: Box::new(shell(key, script)) });
    while !matches!(next(&mut link).await, Event::Grew { .. }) {}
    link.send(&Request::Kill { attempt: key, grace_ms: 5_000 });
    let (outcome, _) = follow(&mut link).await;
    let cancelled: u32 = text(&bed, key, &outcome).trim().parse().expect("a process id");
    let (plain, _) = guarded(&bed, &mut link, 3, "exit 0").await;
    let (again, _) = guarded(&bed, &mut link, 4, "exit 1").await;
    assert_eq!(BTreeSet::from([left, cancelled, plain]).len(), 3);
    assert_eq!(again, plain);
    wait_for("the end of both", || async { (!is_alive(left) && !is_alive(cancelled)).then_some(()) }).await;
}

#[tokio::test]
async fn a_spare_guard_that_is_killed_is_missed_by_nobody() {
    let bed = Bed::new();
    let (mut link, _, _) = bed.link().await;
    let (guard, _) = guarded(&bed, &mut link, 1, "exit 0").await;
    assert!(is_alive(guard));
    kill(Pid::from_raw(guard as i32), Signal::SIGKILL).expect("kills");
    wait_for("its end", || async { (!is_alive(guard)).then_some(()) }).await;
    let (other, said) = guarded(&bed, &mut link, 2, "echo on").await;
    assert_ne!(other, guard);
    assert_eq!(said, "on\n");
}

#[tokio::test]
async fn a_spare_guard_that_somebody_stopped_goes_on_with_the_next_step() {
    let bed = Bed::new();
    let (mut link, _, _) = bed.link().await;
    let (guard, _) = guarded(&bed, &mut link, 1, "exit 0").await;
    kill(Pid::from_raw(guard as i32), Signal::SIGSTOP).expect("stops");
    let status = format!("/proc/{guard}/status");
    wait_for("its standstill", || async {
        std::fs::read_to_string(&status).expect("it is there").contains("State:\tT").then_some(())
    })
    .await;
    assert_eq!(guarded(&bed, &mut link, 2, "echo on").await, (guard, "on\n".to_owned()));
}

#[tokio::test]
async fn an_end_by_a_signal_without_a_name_is_an_end_as_any_other() {
    let bed = Bed::new();
    let (mut link, _, _) = bed.link().await;
    // An orphan of the step ends so, and the step goes on.
    let orphan = bed.dir.path().join("orphan");
    let script = format!(
        "( sh -c 'echo > {0}; kill -34 $$' & ); while [ ! -s {0} ]; do sleep 0.01; done; sleep 0.3; echo on",
        orphan.display()
    );
    assert_eq!(guarded(&bed, &mut link, 1, &script).await.1, "on\n");
    // So does a step, and leaves somebody behind, whom it does not outlive.
    let script = "setsid sleep 600 >/dev/null 2>&1 & echo $PPID $!; kill -34 $$";
    let (outcome, _) = run(&mut link, shell(attempt(2, 1), script)).await;
    assert_eq!((&outcome.end, outcome.steps[0].exit_code), (&End::Exited, None), "{outcome:?}");
    let said = text(&bed, attempt(2, 1), &outcome);
    let left: u32 = said.split_whitespace().nth(1).and_then(|pid| pid.parse().ok()).expect("a process id");
    wait_for("the end of what was left", || async { (!is_alive(left)).then_some(()) }).await;
}

#[tokio::test]
async fn spare_guards_end_with_their_supervisor_however_that_ends() {
    let mut bed = Bed::new();
    let (mut link, _, _) = bed.link().await;
    let (guard, _) = guarded(&bed, &mut link, 1, "exit 0").await;
    bed.supervisor.kill().expect("kills");
    bed.supervisor.wait().expect("waits");
    wait_for("the end of the guard", || async { (!is_alive(guard)).then_some(()) }).await;
    bed.restart();
    let (mut link, _, _) = bed.link().await;
    let (guard, _) = guarded(&bed, &mut link, 2, "exit 0").await;
    kill(Pid::from_raw(bed.supervisor.id() as i32), Signal::SIGTERM).expect("asks");
    assert!(bed.supervisor.wait().expect("waits").success());
    wait_for("the end of the guard", || async { (!is_alive(guard)).then_some(()) }).await;
}

#[tokio::test]
async fn each_of_many_steps_has_a_guard_of_its_own_and_only_so_many_guards_are_kept() {
    const AT_ONCE: u128 = MAX_SPARE as u128 + 2;
    let bed = Bed::new();
    let (mut link, _, _) = bed.link().await;
    let gates: Vec<_> = (1..=AT_ONCE).map(|number| gated(&bed, number, "exit 0")).collect();
    for (launch, _) in &gates {
        link.send(&Request::Start { launch: Box::new(launch.clone()) });
        started(&mut link).await;
    }
    for (_, gate) in &gates {
        std::fs::write(gate, "").expect("opens the gate");
    }
    for _ in &gates {
        follow(&mut link).await;
    }
    let supervisor = Pid::from_raw(bed.supervisor.id() as i32);
    let kept = wait_for("the end of those that are too many", || async {
        let kept = children(supervisor);
        (kept.len() == MAX_SPARE).then_some(kept)
    })
    .await;
    let mut guards = BTreeSet::new();
    for number in 1..=AT_ONCE {
        let read = bed.spool().read(attempt(number, 1), Stream::Stdout, None, 0, 100).expect("it printed");
        guards.insert(String::from_utf8(read).expect("text").trim().parse::<i32>().expect("a process id"));
    }
    assert_eq!(guards.len(), AT_ONCE as usize, "one each");
    assert!(kept.iter().all(|guard| guards.contains(&guard.as_raw())), "{kept:?} {guards:?}");
}
