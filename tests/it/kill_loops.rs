//! `kill -9` again and again under load, at random and at each step of the agent's journal. Nothing that
//! was accepted is lost, nothing starts twice, and no end says more than is known.
//!
//! `VIWORKS_KILLS` is the number of kills of each loop.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tests::client::Api;
use tests::host::TestHost;
use tests::load::{Load, times};
use tests::machine::TestAgent;
use tests::oracle::{Excuses, Oracle, tell};
use tests::process::{is_alive, kill9, kill9_now};
use tests::store::Store;
use tests::wait::{CEILING, until, whenever};

const AGENTS: [&str; 2] = ["web-1", "web-2"];
/// What one agent runs at once, and so what ends with its supervisor.
const AT_ONCE: usize = 4;
/// A kill comes up to this long after the work it is to meet.
const LATER: Duration = Duration::from_millis(60);

/// A host, two agents, and work for both.
async fn at_work(store: Store) -> (TestHost, Api, Vec<TestAgent>, Load) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let mut agents = Vec::new();
    for name in AGENTS {
        agents.push(TestAgent::start(&host, &admin, name).await);
    }
    let load = Load::start(&admin, &AGENTS, Oracle::new(host.scratch()));
    (host, admin, agents, load)
}

async fn kill_hosts(store: Store, kills: usize) {
    let kind = if store == Store::Sqlite { "SQLite" } else { "PostgreSQL" };
    let (mut host, admin, _agents, load) = at_work(store).await;
    for number in 0..kills {
        // Every other time the agents are back and at work, too.
        if number % 2 == 0 {
            load.more_accepted(rand::random_range(1..8)).await;
        } else {
            load.more_started(rand::random_range(1..8)).await;
        }
        whenever(LATER).await;
        host.kill9();
        host.launch().await;
    }
    let verdict = load.judge(&admin, Excuses::default()).await;
    tell(&format!("host on {kind} killed {kills} times: {verdict}"));
    verdict.assert_true();
}

#[tokio::test]
async fn a_host_killed_again_and_again_loses_nothing_and_says_nothing_untrue() {
    kill_hosts(Store::Sqlite, times("VIWORKS_KILLS", 40)).await;
}

#[tokio::test]
async fn a_host_on_postgresql_killed_again_and_again_loses_nothing_and_says_nothing_untrue() {
    let Some(store) = Store::postgres() else { return };
    kill_hosts(store, times("VIWORKS_KILLS", 12)).await;
}

#[tokio::test]
async fn agents_and_supervisors_killed_at_random_start_nothing_twice_and_say_nothing_untrue() {
    let kills = times("VIWORKS_KILLS", 40);
    let (_host, admin, mut agents, load) = at_work(Store::Sqlite).await;
    let (mut alone, mut supervisors, mut both) = (0, 0, 0);
    for number in 0..kills {
        let agent = &mut agents[number % AGENTS.len()];
        load.more_started(rand::random_range(1..6)).await;
        whenever(LATER).await;
        let supervisor = until("a supervisor runs", async || agent.supervisor()).await;
        match rand::random_range(0..10) {
            0..6 => {
                agent.kill9();
                alone += 1;
            }
            6 | 7 => {
                kill9(supervisor).await;
                supervisors += 1;
                continue;
            }
            _ => {
                agent.kill9();
                kill9(supervisor).await;
                both += 1;
            }
        }
        agent.run();
    }
    let verdict = load.judge(&admin, Excuses { interrupted: (supervisors + both) * AT_ONCE, expired: 0 }).await;
    tell(&format!("agent killed {alone} times, its supervisor {supervisors} times, both {both} times: {verdict}"));
    verdict.assert_true();
}

/// The steps, as the journal names them.
const STEPS: [&str; 5] = ["accepted", "starting", "started", "result", "acked"];

#[tokio::test]
async fn an_agent_killed_at_each_step_of_its_journal_starts_nothing_twice_and_says_nothing_untrue() {
    let rounds = times("VIWORKS_KILLS", 30).div_ceil(STEPS.len());
    let (_host, admin, mut agents, load) = at_work(Store::Sqlite).await;
    for round in 0..rounds {
        for step in STEPS {
            let agent = &mut agents[round % AGENTS.len()];
            let (journal, pid) = (agent.journal(), agent.pid());
            let killed = tokio::task::spawn_blocking(move || kill_at(step, journal, pid));
            killed.await.expect("the step is seen");
            agent.kill9();
            agent.run();
        }
    }
    let verdict = load.judge(&admin, Excuses::default()).await;
    tell(&format!("agent killed {rounds} times at each of {}: {verdict}", STEPS.join(", ")));
    verdict.assert_true();
}

/// Watches the journal from now on, and kills the agent the moment it writes down this step.
fn kill_at(step: &str, journal: PathBuf, pid: i32) {
    let needle = format!("\"record\":\"{step}\"");
    let mut file = std::fs::File::open(journal).expect("a journal");
    file.seek(SeekFrom::End(0)).expect("its end");
    let (mut written, begun) = (Vec::new(), Instant::now());
    while !written.windows(needle.len()).any(|bytes| bytes == needle.as_bytes()) {
        assert!(begun.elapsed() < CEILING, "nothing is written as `{step}`");
        assert!(is_alive(pid), "the agent ended by itself");
        if file.read_to_end(&mut written).expect("it is read") == 0 {
            std::thread::yield_now();
        }
    }
    kill9_now(pid);
}
