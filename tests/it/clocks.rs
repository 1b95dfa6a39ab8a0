//! What ends a command before its own end: cancel, run timeout, policy.

use domain::attempt::State;
use serde_json::json;
use tests::client::{exec_body, state_of};
use tests::gate::Gated;
use tests::host::TestHost;
use tests::machine::TestAgent;
use tests::process::is_alive;
use tests::store::Store;
use tests::wait::until;

tests::on_both_stores![
    a_cancelled_command_is_killed_and_its_process_is_gone,
    a_command_that_waits_for_an_offline_machine_is_cancelled_and_never_runs,
    a_command_over_its_run_timeout_is_killed_and_called_timed_out,
    a_program_outside_the_machines_policy_is_rejected_with_the_rule,
];

async fn a_cancelled_command_is_killed_and_its_process_is_gone(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let _agent = TestAgent::start(&host, &admin, "web-1").await;

    let gated = Gated::new();
    let id = admin.exec("web-1", &gated.args()).await;
    let pid = gated.started().await;
    let answer = admin.cancel(&id).await.expect(202);
    assert_eq!(answer["requested"], 1);
    let invocation = admin.ended(&id, "web-1").await;
    assert_eq!(state_of(&invocation), State::Cancelled, "{invocation:#}");
    assert_eq!((&invocation["reason"], &invocation["cancel_requested"]), (&json!("killed"), &json!(true)));
    assert!(!is_alive(pid), "cancelled is said when the process is gone");
    assert_eq!((gated.starts(), gated.ends()), (1, 0));
    assert_eq!(admin.command(&id).await["status"], "cancelled");
    // What is over cannot be cancelled again, and says so without a change.
    let again = admin.cancel(&id).await.expect(200);
    assert_eq!((&again["requested"], &again["status"]), (&json!(0), &json!("cancelled")));
}

async fn a_command_that_waits_for_an_offline_machine_is_cancelled_and_never_runs(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let mut agent = TestAgent::start(&host, &admin, "web-1").await;
    agent.kill9();
    agent.seen(&admin, "offline").await;

    let gated = Gated::new();
    let id = admin.exec("web-1", &gated.args()).await;
    admin.cancel(&id).await.expect(202);
    let invocation = admin.ended(&id, "web-1").await;
    assert_eq!((state_of(&invocation), &invocation["reason"]), (State::Cancelled, &json!("never_sent")));

    // The machine comes back, works, and never starts what was cancelled.
    agent.run();
    agent.seen(&admin, "online").await;
    let after = admin.exec("web-1", &json!({ "program": "true" })).await;
    assert_eq!(state_of(&admin.ended(&after, "web-1").await), State::Succeeded);
    assert_eq!(gated.starts(), 0);
}

async fn a_command_over_its_run_timeout_is_killed_and_called_timed_out(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let _agent = TestAgent::start(&host, &admin, "web-1").await;

    let gated = Gated::new();
    let mut body = exec_body("web-1", &gated.args());
    // It has to come to its first line in this time.
    body["run_timeout_ms"] = json!(5000);
    let id = admin.submit(&body).await;
    let pid = gated.started().await;
    let invocation = admin.ended(&id, "web-1").await;
    assert_eq!(state_of(&invocation), State::TimedOut, "{invocation:#}");
    assert_eq!(invocation["stdout"], "out\n");
    until("the process is gone", async || (!is_alive(pid)).then_some(())).await;
    assert_eq!((gated.starts(), gated.ends()), (1, 0));
    assert_eq!(admin.command(&id).await["status"], "failed");
}

async fn a_program_outside_the_machines_policy_is_rejected_with_the_rule(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let _agent = TestAgent::start(&host, &admin, "web-1").await;

    let id = admin.exec("web-1", &json!({ "program": "rm", "args": ["-rf", "/nowhere"] })).await;
    let invocation = admin.ended(&id, "web-1").await;
    assert_eq!((state_of(&invocation), &invocation["reason"]), (State::Rejected, &json!("policy")));
    let explanation = invocation["explanation"].as_str().expect("a sentence");
    assert!(explanation.contains("`rm`") && explanation.contains("allowed"), "{explanation}");
    assert_eq!(invocation["started_at"], json!(null));
}
