//! Our own rules, built and served: a window outlives the exchange of its plugin, and thousands of agents are judged
//! in one call.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use cli::plugin::{Built, build};
use domain::alert::{Seen, Severity};
use domain::time::Timestamp;
use ports::clock::Clock;
use ports::rules::{Batch, Rule, Rules as _, State};
use runtime::{Handle, Options};
use tokio_util::sync::CancellationToken;

use crate::room;

static CPU: LazyLock<Built> = LazyLock::new(|| build(&room("plugins/cpu")).expect("the rule builds"));

/// A custom section called `x`, which changes a file's digest and nothing else.
const EMPTY_SECTION: &[u8] = &[0, 2, 1, b'x'];

struct StillClock;

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000)
    }
}

/// A plugin service on a folder of its own, with the rule `cpu` in it.
struct House {
    dir: tempfile::TempDir,
    handle: Handle,
    _stop: tokio_util::sync::DropGuard,
    _tasks: tokio::task::JoinSet<std::io::Result<()>>,
}

impl House {
    async fn open() -> House {
        let dir = tempfile::tempdir().expect("a folder");
        let (service, handle) = Options::new(dir.path(), Arc::new(StillClock)).build().expect("the service builds");
        let stop = CancellationToken::new();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(service.run(stop.clone()));
        let house = House { dir, handle, _stop: stop.drop_guard(), _tasks: tasks };
        house.put(&CPU.bytes).await;
        house
    }

    async fn put(&self, bytes: &[u8]) {
        build::write(&self.dir.path().join("cpu.wasm"), bytes).expect("written");
        self.handle.rescan().await.expect("the service runs");
    }

    fn cpu(&self) -> Arc<dyn Rule> {
        self.handle.rules().into_iter().find(|rule| rule.plugin().name == "cpu").expect("it serves")
    }
}

/// What this process has used.
fn processor_time() -> Duration {
    let spent = nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID);
    Duration::from(spent.expect("every process has such a clock"))
}

/// What is seen of one agent whose processor is busy at `second`, and what is kept.
async fn look(rule: &dyn Rule, second: u64, state: Option<State>) -> (Option<Seen>, Option<State>) {
    let now = 1_700_000_000_000 + second * 1000;
    let mut batch = Batch::default();
    batch.subject("web-1", "online", now, state);
    batch.sample(now);
    let cpu = batch.series("cpu.total", "", "");
    batch.reading(cpu, 90.0);
    let mut answers = rule.evaluate(None, now, batch).await.expect("it answers");
    let verdict = answers.remove(0).expect("a verdict");
    (verdict.findings.first().map(|finding| finding.seen), verdict.state)
}

#[tokio::test]
async fn a_window_of_five_minutes_outlives_the_exchange_of_its_plugin_and_fires_at_its_time() {
    let house = House::open().await;
    let (mut state, mut seen) = (None, Vec::new());
    for second in (0..=330).step_by(30) {
        if second == 150 {
            let before = house.cpu().plugin().digest.clone();
            house.put(&[&CPU.bytes, EMPTY_SECTION].concat()).await;
            assert_ne!(house.cpu().plugin().digest, before, "another version serves");
        }
        let (found, kept) = look(house.cpu().as_ref(), second, state).await;
        seen.push(found.expect("a busy processor is found"));
        state = kept;
    }
    let pending = [Seen::Pending; 10];
    let warning = [Seen::Wrong(Severity::Warning); 2];
    assert_eq!(seen, [&pending[..], &warning[..]].concat(), "at 300 s, and not a look sooner or later");
}

/// `VIWORKS_TIMES=1` prints how long it takes, which says something of a release build only.
#[tokio::test]
async fn ten_thousand_agents_are_judged_in_one_call() {
    let house = House::open().await;
    let rule = house.cpu();
    let mut states: Vec<Option<State>> = vec![None; 10_000];
    let mut best = None;
    for round in 0..3_u64 {
        let now = 1_700_000_000_000 + round * 30_000;
        let mut batch = Batch::default();
        let series = ["cpu.total", "load.1", "mem.used_pct"].map(|metric| batch.series(metric, "", ""));
        for (number, state) in states.iter_mut().enumerate() {
            batch.subject(format!("web-{number}"), "online", now, state.take());
            batch.sample(now);
            // One in ten is too busy.
            let busy = if number % 10 == 0 { 97.0 } else { 20.0 };
            series.iter().for_each(|series| batch.reading(*series, busy));
        }
        let (began, spent) = (Instant::now(), processor_time());
        let answers = rule.evaluate(None, now, batch).await.expect("all of them");
        let took = (processor_time() - spent, began.elapsed());
        best = Some(best.map_or(took, |best: (Duration, Duration)| best.min(took)));
        let found: usize = answers.iter().map(|answer| answer.as_ref().expect("a verdict").findings.len()).sum();
        assert_eq!((answers.len(), found), (10_000, 1_000), "in round {round}");
        for (state, answer) in states.iter_mut().zip(answers) {
            *state = answer.expect("a verdict").state;
        }
        assert_eq!(states.iter().flatten().count(), 1_000, "nothing is kept of who is well");
    }
    if std::env::var_os("VIWORKS_TIMES").is_some() {
        eprintln!("10,000 agents take of processor and wall: {best:?}");
    }
}
