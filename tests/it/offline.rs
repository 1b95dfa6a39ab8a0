//! Machines that are away: what waits for them, and what does not.

use domain::attempt::State;
use serde_json::json;
use tests::client::{exec_body, state_of};
use tests::gate::Gated;
use tests::host::TestHost;
use tests::machine::TestAgent;
use tests::store::Store;
use tests::wait::until;

tests::on_both_stores![
    a_command_waits_for_an_offline_machine_and_runs_when_it_is_back,
    a_command_that_does_not_wait_expires_at_once_when_the_machine_is_offline,
    a_machine_in_session_was_seen_when_it_was_last_heard,
];

async fn a_command_waits_for_an_offline_machine_and_runs_when_it_is_back(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let mut agent = TestAgent::start(&host, &admin, "web-1").await;
    agent.kill9();
    agent.seen(&admin, "offline").await;

    let mut gated = Gated::new();
    gated.open();
    let id = admin.exec("web-1", &gated.args()).await;
    assert_eq!(state_of(&admin.invocation(&id, "web-1").await), State::Queued);
    assert_eq!(admin.command(&id).await["status"], "pending");

    agent.run();
    let invocation = admin.ended(&id, "web-1").await;
    assert_eq!(state_of(&invocation), State::Succeeded, "{invocation:#}");
    assert_eq!((gated.starts(), &invocation["attempt"]), (1, &json!(1)));
}

async fn a_command_that_does_not_wait_expires_at_once_when_the_machine_is_offline(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let mut agent = TestAgent::start(&host, &admin, "web-1").await;
    agent.kill9();
    agent.seen(&admin, "offline").await;

    let gated = Gated::new();
    let mut body = exec_body("web-1", &gated.args());
    body["start_within_ms"] = json!(0);
    let id = admin.submit(&body).await;
    let invocation = admin.invocation(&id, "web-1").await;
    assert_eq!((state_of(&invocation), &invocation["reason"]), (State::Expired, &json!("offline")));
    assert_eq!(admin.command(&id).await["status"], "expired");

    agent.run();
    agent.seen(&admin, "online").await;
    // A machine that is here takes the same command.
    body["args"] = json!({ "program": "true" });
    let id = admin.submit(&body).await;
    assert_eq!(state_of(&admin.ended(&id, "web-1").await), State::Succeeded);
    assert_eq!(gated.starts(), 0);
}

async fn a_machine_in_session_was_seen_when_it_was_last_heard(store: Store) {
    let mut host = TestHost::new_on(store);
    host.set_sections("[agent_management]\nheartbeat_ms = 1000\n");
    host.launch().await;
    let admin = host.admin().await;
    let mut agent = TestAgent::start(&host, &admin, "web-1").await;
    let last_seen = async || {
        let agent = admin.get("/api/v1/agents/web-1").await.expect(200);
        agent["last_seen"].as_str().expect("a time").to_owned()
    };
    let begun = last_seen().await;
    let later = until("a heartbeat", async || Some(last_seen().await).filter(|seen| *seen > begun)).await;
    agent.kill9();
    agent.seen(&admin, "offline").await;
    assert!(last_seen().await >= later);
}
