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
use tests::wait::whenever;
use tokio::task::JoinSet;

const AGENTS: [&str; 3] = ["web-1", "web-2", "web-3"];
/// Submitters at once: more than the agents run at once, so that some commands wait.
const AT_ONCE: usize = 24;
/// A cancel comes up to this long after its command was accepted.
const LATEST: Duration = Duration::from_millis(600);
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
    let oracle = Arc::new(Oracle::new(host.scratch()));
    let mut racers = JoinSet::new();
    for number in 0..AT_ONCE {
        let mine = (number..cancels).step_by(AT_ONCE).count();
        racers.spawn(submit_and_cancel(admin.clone(), AGENTS[number % AGENTS.len()], oracle.clone(), mine));
    }
    let too_late: usize = racers.join_all().await.into_iter().sum();
    let verdict = oracle.judge(&admin, Excuses::default()).await;
    tell(&format!("{cancels} cancels on {kind}, {too_late} of them after the end: {verdict}"));
    verdict.assert_true();
    let ended = |state: &str| verdict.states.get(state).copied().unwrap_or(0);
    assert!(ended("cancelled killed") > 0 && ended("succeeded") > 0, "the race had winners on both sides: {verdict}");
}

/// How many had ended before their cancel came.
async fn submit_and_cancel(api: Api, agent: &'static str, oracle: Arc<Oracle>, count: usize) -> usize {
    let mut too_late = 0;
    for _ in 0..count {
        let task = oracle.task(TAKES_MS[rand::random_range(0..TAKES_MS.len())]);
        let id = api.submit(&exec_body(agent, &task.args)).await;
        oracle.accepted(&id, agent, task);
        whenever(LATEST).await;
        let answer = api.cancel(&id).await;
        assert!(matches!(answer.status, 200 | 202), "{answer:?}");
        too_late += usize::from(answer.status == 200);
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
