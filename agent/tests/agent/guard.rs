//! What attempts start and leave behind, with real processes: daemons that fork twice, open sessions of
//! their own, ignore TERM and close every pipe. None of them outlives its attempt, and none its supervisor.

use std::path::{Path, PathBuf};

use agent::supervisor::client::Link;
use agent::supervisor::protocol::{Event, Known, Launch, Request};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use plan::id::AttemptKey;
use plan::outcome::{End, Outcome};

use crate::supervisor::{Bed, follow, next, run, shell};
use crate::support::{attempt, wait_for};

/// Daemons that one attempt starts, by different ways.
const DAEMONS: usize = 3;
const NOBODY: [i32; 0] = [];

/// Processes of one attempt, known by an argument that nobody else has.
struct Brood {
    mark: String,
    ready: PathBuf,
}

impl Brood {
    fn new(dir: &Path, name: &str) -> Brood {
        let folder = dir.file_name().expect("a name").to_string_lossy().into_owned();
        Brood { mark: format!("brood-{folder}-{name}"), ready: dir.join(format!("ready-{name}")) }
    }

    /// Starts the daemons, waits until all of them run, then goes on with `then`.
    fn script(&self, then: &str) -> String {
        let ready = self.ready.display();
        let daemon = self.ready.with_extension("sh");
        let text = "trap '' TERM HUP INT\nexec >/dev/null 2>&1 </dev/null\n";
        let text = format!("{text}echo $$ >> {ready}\nwhile :; do sleep 600; done\n");
        std::fs::write(&daemon, text).expect("writes");
        let run = format!("sh {} {}", daemon.display(), self.mark);
        format!(
            "(setsid {run} &)\n({run} &)\nsetsid sh -c '({run} &)'\n\
             while [ \"$(cat {ready} 2>/dev/null | wc -l)\" -lt {DAEMONS} ]; do sleep 0.01; done\n{then}",
        )
    }

    /// Ids of its living processes.
    fn alive(&self) -> Vec<i32> {
        let processes = std::fs::read_dir("/proc").expect("a Linux machine").flatten();
        let ids = processes.filter_map(|process| process.file_name().to_str()?.parse::<i32>().ok());
        let line = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        ids.filter(|pid| line(pid).split('\0').any(|argument| argument == self.mark)).collect()
    }

    async fn all_run(&self) -> Vec<i32> {
        wait_for("all daemons", || async {
            let text = std::fs::read_to_string(&self.ready).unwrap_or_default();
            let pids: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
            (pids.len() == DAEMONS).then_some(pids)
        })
        .await
    }
}

fn start(link: &mut Link, launch: Launch) {
    link.send(&Request::Start { launch: Box::new(launch) });
}

async fn cancelled(link: &mut Link, attempt: AttemptKey, grace_ms: u64) -> Outcome {
    link.send(&Request::Kill { attempt, grace_ms });
    follow(link).await.0
}

#[tokio::test]
async fn a_cancel_ends_daemons_that_forked_twice_opened_sessions_and_ignore_term() {
    let bed = Bed::new();
    let (mut link, _, _) = bed.link().await;
    let (key, other) = (attempt(1, 1), attempt(2, 1));
    let (brood, neighbour) = (Brood::new(bed.dir.path(), "one"), Brood::new(bed.dir.path(), "two"));
    start(&mut link, shell(other, &neighbour.script("exec sleep 600")));
    start(&mut link, shell(key, &brood.script("exec sleep 600")));
    brood.all_run().await;
    let theirs = neighbour.all_run().await;
    let outcome = cancelled(&mut link, key, 100).await;
    assert_eq!(outcome.end, End::Cancelled { started: true });
    assert_eq!(brood.alive(), NOBODY);
    assert!(theirs.iter().all(|pid| neighbour.alive().contains(pid)), "another attempt's are its own business");
    assert_eq!(cancelled(&mut link, other, 0).await.end, End::Cancelled { started: true });
    assert_eq!(neighbour.alive(), NOBODY);
}

#[tokio::test]
async fn a_timeout_and_a_plain_exit_end_them_too() {
    let bed = Bed::new();
    let (mut link, _, _) = bed.link().await;
    // All of them have to run before it, however busy the machine is.
    let mut ran = 0;
    for (number, ms) in [(11, 3_000), (12, 10_000), (13, 25_000)] {
        let late = Brood::new(bed.dir.path(), &format!("late-{number}"));
        let mut launch = shell(attempt(number, 1), &late.script("exec sleep 600"));
        (launch.run_timeout_ms, launch.grace_ms) = (ms, 50);
        let (outcome, _) = run(&mut link, launch).await;
        assert_eq!((outcome.end, late.alive()), (End::TimedOut, NOBODY.to_vec()));
        ran = std::fs::read_to_string(&late.ready).unwrap_or_default().lines().count();
        if ran == DAEMONS {
            break;
        }
    }
    assert_eq!(ran, DAEMONS);
    let left = Brood::new(bed.dir.path(), "left");
    let (outcome, _) = run(&mut link, shell(attempt(2, 1), &left.script("exit 4"))).await;
    assert_eq!((outcome.end, outcome.steps[0].exit_code, left.alive()), (End::Exited, Some(4), NOBODY.to_vec()));
}

#[tokio::test]
async fn a_supervisor_that_is_killed_takes_everything_with_it_though_nobody_comes_after_it() {
    let mut bed = Bed::new();
    let (mut link, _, _) = bed.link().await;
    let brood = Brood::new(bed.dir.path(), "one");
    start(&mut link, shell(attempt(1, 1), &brood.script("exec sleep 600")));
    let Event::Started { pid, .. } = next(&mut link).await else { panic!("not started") };
    brood.all_run().await;
    bed.supervisor.kill().expect("kills");
    bed.supervisor.wait().expect("waits");
    wait_for("the end of all of them", || async {
        (brood.alive().is_empty() && !crate::support::is_alive(pid)).then_some(())
    })
    .await;
    bed.restart();
    let (_link, reports, _) = bed.link().await;
    let Known::Ended { outcome } = &reports[0].state else { panic!("{reports:?}") };
    assert!(matches!(outcome.end, End::Interrupted { .. }), "{outcome:?}");
}

#[tokio::test]
async fn a_guard_that_is_killed_leaves_nothing_behind_and_its_attempt_is_interrupted() {
    let bed = Bed::new();
    let (mut link, _, _) = bed.link().await;
    let (brood, neighbour) = (Brood::new(bed.dir.path(), "one"), Brood::new(bed.dir.path(), "two"));
    start(&mut link, shell(attempt(2, 1), &neighbour.script("exec sleep 600")));
    let theirs = neighbour.all_run().await;
    start(&mut link, shell(attempt(1, 1), &brood.script("exec sleep 600")));
    let mut leader = 0;
    while leader == 0 {
        if let Event::Started { attempt: started, pid, .. } = next(&mut link).await
            && started == attempt(1, 1)
        {
            leader = pid;
        }
    }
    brood.all_run().await;
    let stat = std::fs::read_to_string(format!("/proc/{leader}/stat")).expect("it runs");
    let guard = stat.rsplit_once(')').expect("a name").1.split_whitespace().nth(1).expect("a parent");
    kill(Pid::from_raw(guard.parse().expect("a number")), Signal::SIGKILL).expect("kills");
    let (outcome, _) = follow(&mut link).await;
    let End::Interrupted { message } = &outcome.end else { panic!("{outcome:?}") };
    assert!(message.contains("guard"), "{message}");
    assert_eq!(brood.alive(), NOBODY);
    assert!(theirs.iter().all(|pid| neighbour.alive().contains(pid)), "another attempt's are its own business");
}

/// Cancels of one process, each a little later in its life.
const PHOTO_FINISHES: u32 = 150;

#[tokio::test]
async fn a_process_that_does_not_catch_term_is_cancelled_only_if_a_signal_ended_it() {
    let bed = Bed::new();
    let (mut link, _, _) = bed.link().await;
    let (mut killed, mut finished) = (0, 0);
    for number in 0..PHOTO_FINISHES {
        let key = attempt(u128::from(number) + 1, 1);
        // The last of them are never quick enough.
        let rounds = if number % 10 == 9 { 100_000_000 } else { number * 20 };
        start(&mut link, shell(key, &format!("i=0; while [ $i -lt {rounds} ]; do i=$((i+1)); done; exit 7")));
        while !matches!(next(&mut link).await, Event::Started { .. }) {}
        let outcome = cancelled(&mut link, key, 5_000).await;
        let step = &outcome.steps[0];
        match outcome.end {
            End::Exited => {
                assert_eq!((step.exit_code, step.signal), (Some(7), None));
                finished += 1;
            }
            End::Cancelled { started: true } => {
                assert_eq!((step.exit_code, step.signal), (None, Some(Signal::SIGTERM as i32)));
                killed += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(killed > 0, "{finished} finished first");
}

#[tokio::test]
async fn a_process_that_catches_term_and_exits_was_cancelled_whatever_it_exits_with() {
    let bed = Bed::new();
    let (mut link, _, _) = bed.link().await;
    let ready = bed.dir.path().join("ready");
    let script = format!("trap 'exit 0' TERM; echo > {}; while :; do sleep 0.05; done", ready.display());
    start(&mut link, shell(attempt(1, 1), &script));
    wait_for("its trap", || async { ready.exists().then_some(()) }).await;
    let outcome = cancelled(&mut link, attempt(1, 1), 5_000).await;
    assert_eq!((&outcome.end, outcome.steps[0].exit_code), (&End::Cancelled { started: true }, Some(0)));
}
