//! The cluster's signing key is rotated by an operator: nothing that was accepted before is lost by it, and
//! agents follow by themselves.

use std::process::Command;

use serde_json::json;
use tests::host::TestHost;
use tests::machine::TestAgent;
use tests::programs::program;
use tests::store::Store;
use tests::wait::until;

tests::on_both_stores![agents_follow_a_rotated_key_and_what_was_signed_before_still_runs,];

/// Has the operator's command do it.
fn rotate(host: &TestHost) -> String {
    let mut rotate = Command::new(program("viworks-host"));
    rotate.args(["keys", "rotate", "--config"]).arg(host.scratch().join("host.toml"));
    let done = rotate.current_dir(host.scratch()).output().expect("starts");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).expect("text")
}

async fn agents_follow_a_rotated_key_and_what_was_signed_before_still_runs(store: Store) {
    let mut host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let mut near = TestAgent::start(&host, &admin, "near-1").await;
    let mut away = TestAgent::start(&host, &admin, "away-1").await;
    away.kill9();
    let args = json!({ "program": "uname", "args": [] });
    let waiting = admin.exec("away-1", &args).await;

    assert!(host.stop().await.success());
    assert!(rotate(&host).contains("version 2 now"));
    host.launch().await;
    let admin = host.admin().await;
    near.seen(&admin, "online").await;
    let id = admin.exec("near-1", &args).await;
    assert_eq!(admin.ended(&id, "near-1").await["state"], "succeeded");
    until("the agent follows", async || near.log().contains("the cluster's key is another now").then_some(())).await;

    assert!(host.stop().await.success());
    assert!(rotate(&host).contains("version 3 now"));
    host.launch().await;
    let admin = host.admin().await;
    away.run();
    assert_eq!(admin.ended(&waiting, "away-1").await["state"], "succeeded", "signed by the first key, two turns ago");
    let id = admin.exec("away-1", &args).await;
    assert_eq!(admin.ended(&id, "away-1").await["state"], "succeeded");
    let joined = TestAgent::start(&host, &admin, "new-1").await;
    let id = admin.exec("new-1", &args).await;
    assert_eq!(admin.ended(&id, "new-1").await["state"], "succeeded", "who joins now pins the third key");
    drop(joined);
}
