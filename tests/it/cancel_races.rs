//! Cancels that race with everything: a command that waits, starts, runs or ends. Whatever the host then
//! says of it is what the command itself wrote down, and nothing of it lives on.
//!
//! `VIWORKS_CANCELS` is the number of cancels.

use std::sync::Arc;
use std::time::Duration;

use tests::client::{Api, exec_body};
use tests::host::TestHost;
use tests::load::times;
use tests::machine::TestAgent;
use tests::oracle::{Excuses, Oracle, tell};
use tests::store::Store;
use tests::wait::{CEILING, breathe, whenever};
use tokio::task::JoinSet;
use tokio::time::timeout;

const AGENTS: [&str; 3] = ["web-1", "web-2", "web-3"];
/// Submitters at once: more than the agents run at once, so that some commands wait.
const AT_ONCE: usize = 24;
/// A cancel comes up to this long after its command was accepted, and later where the machine is so slow that it would
/// always come before the end.
const LATEST: Duration = Duration::from_millis(600);
/// Cancels of one submitter that came before the end, one after the other, until that is so.
const IN_A_ROW: u32 = 4;
/// How long commands take; the last never ends by itself while a test lasts.
const TAKES_MS: [u32; 5] = [0, 0, 100, 400, 600_000];

async fn race(store: Store, cancels: usize) {
    let kind = if store == Store::Sqlite { "SQLite" } else { "PostgreSQL" };
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let mut agents = Vec::new();
    for name in AGENTS {
        agents.push(TestAgent::start(&host, &admin, name).await);
    }
    race_on(&host, [&admin, &admin], kind, cancels).await;
}

/// Submits by one and cancels by the other.
async fn race_on(host: &TestHost, [admin, canceller]: [&Api; 2], kind: &str, cancels: usize) {
    let oracle = Arc::new(Oracle::new(host.scratch()));
    let mut racers = JoinSet::new();
    for number in 0..AT_ONCE {
        let mine = (number..cancels).step_by(AT_ONCE).count();
        let apis = [admin.clone(), canceller.clone()];
        racers.spawn(submit_and_cancel(apis, AGENTS[number % AGENTS.len()], oracle.clone(), mine));
    }
    let too_late: usize = racers.join_all().await.into_iter().sum();
    let verdict = oracle.judge(admin, Excuses::default()).await;
    tell(&format!("{cancels} cancels on {kind}, {too_late} of them after the end: {verdict}"));
    verdict.assert_true();
    let ended = |state: &str| verdict.states.get(state).copied().unwrap_or(0);
    assert!(ended("cancelled killed") > 0 && ended("succeeded") > 0, "the race had winners on both sides: {verdict}");
}

/// How many had ended before their cancel came.
async fn submit_and_cancel(
    [api, canceller]: [Api; 2],
    agent: &'static str,
    oracle: Arc<Oracle>,
    count: usize,
) -> usize {
    let (mut too_late, mut in_time) = (0, 0);
    for _ in 0..count {
        let task = oracle.task(TAKES_MS[rand::random_range(0..TAKES_MS.len())]);
        let id = api.submit(&exec_body(agent, &task.args)).await;
        oracle.accepted(&id, agent, task);
        whenever(LATEST * (1 + in_time / IN_A_ROW)).await;
        // Again, as it is told to, while the machine is too busy for the store to answer.
        let answered = async {
            loop {
                let answer = canceller.cancel(&id).await;
                if answer.status != 503 {
                    break answer;
                }
                breathe().await;
            }
        };
        let answer = timeout(CEILING, answered).await.expect("the store answers");
        assert!(matches!(answer.status, 200 | 202), "{answer:?}");
        let is_over = answer.status == 200;
        too_late += usize::from(is_over);
        in_time = if is_over { 0 } else { in_time + 1 };
    }
    too_late
}

#[tokio::test]
async fn cancels_at_random_instants_end_as_the_command_itself_says() {
    race(Store::Sqlite, times("VIWORKS_CANCELS", 500)).await;
}

#[tokio::test]
async fn cancels_at_random_instants_on_postgresql_end_as_the_command_itself_says() {
    let Some(store) = Store::postgres() else { return };
    race(store, times("VIWORKS_CANCELS", 150)).await;
}

#[tokio::test]
async fn cancels_given_at_another_host_than_the_agents_is_at_arrive_and_end_as_the_command_itself_says() {
    let Some(store) = Store::postgres() else { return };
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let mut agents = Vec::new();
    for name in AGENTS {
        agents.push(TestAgent::start(&host, &admin, name).await);
    }
    let mut other = host.beside();
    other.launch().await;
    let elsewhere = other.admin().await;
    race_on(&host, [&admin, &elsewhere], "PostgreSQL by another host", times("VIWORKS_CANCELS", 200)).await;
    // But where the database was too slow for a host to know that it may go on.
    let was_lost = host.log().contains("it sends nothing more");
    assert!(was_lost || !host.log().contains("session closed"), "no agent had to come back for it");
    drop(agents);
}

#[tokio::test]
async fn what_another_host_owns_is_never_called_unsent_or_late_by_a_host_that_does_not_know() {
    let Some(store) = Store::postgres() else { return };
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let mut agent = TestAgent::join(&host, &admin, "web-1").await;
    // It starts while the agent has no session, and hears of none.
    let mut other = host.beside();
    other.launch().await;
    let elsewhere = other.admin().await;
    agent.run();
    agent.seen(&admin, "online").await;
    let oracle = Oracle::new(host.scratch());
    let mut ids = Vec::new();
    for _ in 0..12 {
        let task = oracle.task(300);
        let mut body = exec_body("web-1", &task.args);
        body["start_within_ms"] = serde_json::json!(1_000);
        let id = admin.submit(&body).await;
        oracle.accepted(&id, "web-1", task);
        ids.push(id);
    }
    for id in ids.iter().skip(6) {
        elsewhere.cancel(id).await;
    }
    let verdict = oracle.judge(&elsewhere, Excuses { expired: 12, ..Excuses::default() }).await;
    tell(&format!("12 commands beside a host that knows of no session: {verdict}"));
    verdict.assert_true();
}
