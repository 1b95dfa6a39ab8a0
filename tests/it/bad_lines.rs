//! Bad lines between agents and their host: cut in the middle of a frame, slow, saying things twice and
//! out of turn; and agents and hosts that stand still over a deadline.
//!
//! `VIWORKS_FAULTS` is the number of faults of the line, `VIWORKS_STOPS` that of standstills.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tests::client::{Api, exec_body};
use tests::host::TestHost;
use tests::load::{Load, times};
use tests::machine::TestAgent;
use tests::oracle::{Excuses, Oracle, tell};
use tests::proxy::Proxy;
use tests::store::Store;
use tests::wait::{until, whenever};

const AGENTS: [&str; 2] = ["web-1", "web-2"];

async fn on_a_bad_line(store: Store, faults: usize) {
    let kind = if store == Store::Sqlite { "SQLite" } else { "PostgreSQL" };
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let proxy = Proxy::start(host.agents_address()).await;
    let mut agents = Vec::new();
    for name in AGENTS {
        let mut agent = TestAgent::join(&host, &admin, name).await;
        agent.connect_to(proxy.address());
        agent.run();
        agents.push(agent);
    }
    let load = Load::start(&admin, &AGENTS, Oracle::new(host.scratch()));
    until("enough goes wrong", async || (proxy.faults().all() >= faults).then_some(())).await;
    proxy.heal();
    let verdict = load.judge(&admin, Excuses::default()).await;
    tell(&format!("line to a host on {kind}: {}; {verdict}", proxy.faults().describe()));
    verdict.assert_true();
}

#[tokio::test]
async fn a_bad_line_loses_nothing_and_starts_nothing_twice() {
    on_a_bad_line(Store::Sqlite, times("VIWORKS_FAULTS", 300)).await;
}

#[tokio::test]
async fn a_bad_line_to_a_host_on_postgresql_loses_nothing_and_starts_nothing_twice() {
    let Some(store) = Store::postgres() else { return };
    on_a_bad_line(store, times("VIWORKS_FAULTS", 100)).await;
}

/// Time to start, and how long everything stands still: so far past it that whatever was started in time has written its
/// first line, on a busy machine, too.
const START_WITHIN: Duration = Duration::from_millis(1_000);
const STANDSTILL: Duration = Duration::from_millis(3_500);

#[tokio::test]
async fn what_stands_still_over_a_deadline_starts_nothing_afterwards() {
    let stops = times("VIWORKS_STOPS", 8);
    let host = TestHost::start().await;
    let admin = host.admin().await;
    let agent = TestAgent::start(&host, &admin, "web-1").await;
    let oracle = Oracle::new(host.scratch());
    let mut doomed = Vec::new();
    for number in 0..stops {
        let stopped = if number % 2 == 0 { agent.pid() } else { host.pid() };
        // Some are on their way when it stops; those for the agent come while it stands, too.
        let mut words = Vec::new();
        for _ in 0..4 {
            words.push(submit(&admin, &oracle, START_WITHIN).await);
        }
        whenever(Duration::from_millis(100)).await;
        signal(stopped, Signal::SIGSTOP);
        let begun = Instant::now();
        if number % 2 == 0 {
            for _ in 0..4 {
                words.push(submit(&admin, &oracle, START_WITHIN).await);
            }
        }
        until("the deadline is long over", async || (begun.elapsed() >= STANDSTILL).then_some(())).await;
        // Whatever has not started by now never may.
        doomed.extend(words.into_iter().filter(|word| !oracle.has_started(word)));
        signal(stopped, Signal::SIGCONT);
        let fresh = submit(&admin, &oracle, Duration::from_secs(60)).await;
        until("a fresh command starts", async || oracle.has_started(&fresh).then_some(())).await;
    }
    let verdict = oracle.judge(&admin, Excuses { expired: doomed.len(), ..Excuses::default() }).await;
    let count = doomed.len();
    tell(&format!("agent or host stood still {stops} times over the deadline of {count} commands: {verdict}"));
    verdict.assert_true();
    assert!(count > 0, "somebody was too late");
    let late: Vec<&String> = doomed.iter().filter(|word| oracle.has_started(word)).collect();
    assert!(late.is_empty(), "started after their time: {late:?}");
}

/// Submits one that is over at once; its word.
async fn submit(api: &Api, oracle: &Oracle, start_within: Duration) -> String {
    let task = oracle.task(0);
    let word = task.word.clone();
    let mut body = exec_body("web-1", &task.args);
    body["start_within_ms"] = json!(u64::try_from(start_within.as_millis()).expect("not that long"));
    let id = api.submit(&body).await;
    oracle.accepted(&id, "web-1", task);
    word
}

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("it is there");
}
