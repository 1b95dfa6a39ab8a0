//! `kill -9` of every part at every stage: one true end for each command, and no second start. The
//! command itself keeps count of its starts.

use domain::attempt::State;
use serde_json::{Value, json};
use tests::client::{Api, state_of};
use tests::gate::Gated;
use tests::host::TestHost;
use tests::machine::TestAgent;
use tests::process::is_alive;
use tests::store::Store;
use tests::wait::until;

tests::on_both_stores![
    a_host_killed_after_accepting_still_delivers_when_it_is_back,
    a_host_killed_while_commands_run_learns_their_true_end,
    a_result_that_came_while_the_host_was_dead_is_delivered_once_it_lives,
    a_host_killed_the_moment_it_accepts_forgets_nothing_it_confirmed,
    an_agent_killed_while_a_command_runs_takes_it_up_again,
    a_command_whose_agent_and_supervisor_die_is_interrupted_and_not_run_again,
];

/// Commands at once; below the number that one agent runs at once.
const COMMANDS: usize = 3;

async fn submit_all(api: &Api) -> Vec<(String, Gated)> {
    let mut all = Vec::new();
    for _ in 0..COMMANDS {
        let gated = Gated::new();
        all.push((api.exec("web-1", &gated.args()).await, gated));
    }
    all
}

async fn all_run(api: &Api, commands: &[(String, Gated)]) -> Vec<i32> {
    let mut pids = Vec::new();
    for (id, gated) in commands {
        pids.push(gated.started().await);
        api.reaches(id, "web-1", State::Running).await;
    }
    pids
}

/// One true end each: succeeded, run once, all of its output kept, and the end told once.
async fn all_succeed_once(api: &Api, commands: &[(String, Gated)]) {
    for (id, gated) in commands {
        let invocation = api.ended(id, "web-1").await;
        assert_eq!(state_of(&invocation), State::Succeeded, "{invocation:#}");
        assert_eq!((gated.starts(), gated.ends()), (1, 1));
        assert_eq!(
            (&invocation["attempt"], &invocation["stdout"]),
            (&json!(1), &json!("out\nend\n")),
            "{invocation:#}"
        );
        let result: &Value = &invocation["result"];
        assert_eq!(result["stdout"], "out\nend\n");
        let events = api.events(id, None).await.rest().await;
        let ends = events.iter().filter(|event| event.name == "state" && event.data["state"] == "succeeded").count();
        assert_eq!(ends, 1, "{events:#?}");
    }
}

async fn a_host_killed_after_accepting_still_delivers_when_it_is_back(store: Store) {
    let mut host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let mut agent = TestAgent::start(&host, &admin, "web-1").await;
    agent.kill9();
    agent.seen(&admin, "offline").await;

    let mut commands = submit_all(&admin).await;
    host.kill9();
    commands.iter_mut().for_each(|(_, gated)| gated.open());
    host.launch().await;
    for (id, gated) in &commands {
        assert_eq!(state_of(&admin.invocation(id, "web-1").await), State::Queued);
        assert_eq!(gated.starts(), 0);
    }
    agent.run();
    all_succeed_once(&admin, &commands).await;
}

async fn a_host_killed_while_commands_run_learns_their_true_end(store: Store) {
    let mut host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let _agent = TestAgent::start(&host, &admin, "web-1").await;

    let mut commands = submit_all(&admin).await;
    all_run(&admin, &commands).await;
    host.kill9();
    host.launch().await;
    commands.iter_mut().for_each(|(_, gated)| gated.open());
    all_succeed_once(&admin, &commands).await;
}

async fn a_result_that_came_while_the_host_was_dead_is_delivered_once_it_lives(store: Store) {
    let mut host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let _agent = TestAgent::start(&host, &admin, "web-1").await;

    let mut commands = submit_all(&admin).await;
    let pids = all_run(&admin, &commands).await;
    host.kill9();
    for ((_, gated), pid) in commands.iter_mut().zip(pids) {
        gated.open();
        until("the command ends without a host", async || (!is_alive(pid)).then_some(())).await;
        assert_eq!(gated.ends(), 1);
    }
    host.launch().await;
    all_succeed_once(&admin, &commands).await;
}

async fn a_host_killed_the_moment_it_accepts_forgets_nothing_it_confirmed(store: Store) {
    let mut host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let _agent = TestAgent::start(&host, &admin, "web-1").await;

    // The agent is there, so the kill falls anywhere between commit, send and acknowledgement.
    for _ in 0..3 {
        let mut gated = Gated::new();
        gated.open();
        let id = admin.exec("web-1", &gated.args()).await;
        host.kill9();
        host.launch().await;
        all_succeed_once(&admin, &[(id, gated)]).await;
    }
}

async fn an_agent_killed_while_a_command_runs_takes_it_up_again(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let mut agent = TestAgent::start(&host, &admin, "web-1").await;

    let mut commands = submit_all(&admin).await;
    all_run(&admin, &commands).await;
    agent.kill9();
    agent.seen(&admin, "offline").await;
    // One ends while nobody but the supervisor watches.
    commands[0].1.open();
    until("it ends without its agent", async || (commands[0].1.ends() == 1).then_some(())).await;
    agent.run();
    agent.seen(&admin, "online").await;
    commands.iter_mut().skip(1).for_each(|(_, gated)| gated.open());
    all_succeed_once(&admin, &commands).await;
}

async fn a_command_whose_agent_and_supervisor_die_is_interrupted_and_not_run_again(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let mut agent = TestAgent::start(&host, &admin, "web-1").await;

    let gated = Gated::new();
    let id = admin.exec("web-1", &gated.args()).await;
    gated.started().await;
    admin.reaches(&id, "web-1", State::Running).await;
    agent.kill9_with_supervisor().await;
    agent.run();
    let invocation = admin.ended(&id, "web-1").await;
    assert_eq!(state_of(&invocation), State::Interrupted, "{invocation:#}");
    assert_eq!(invocation["stdout"], "out\n", "what it wrote until then is kept");
    assert_eq!(admin.command(&id).await["status"], "unknown");

    // The machine takes new work, and the old is not started again.
    let after = admin.exec("web-1", &json!({ "program": "true" })).await;
    assert_eq!(state_of(&admin.ended(&after, "web-1").await), State::Succeeded);
    assert_eq!((gated.starts(), &invocation["attempt"]), (1, &json!(1)));
}
