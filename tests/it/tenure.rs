//! What becomes of agents after they joined: approved, given another key, in maintenance, deleted; also with two hosts on one store.

use domain::attempt::State;
use plan::envelope::key_text;
use reqwest::Method;
use serde_json::{Value, json};
use tests::cli::Cli;
use tests::client::{Api, state_of};
use tests::host::TestHost;
use tests::machine::TestAgent;
use tests::played::Played;
use tests::store::Store;
use tests::wait::until;
use wire::frame::{AgentFrame, HostFrame, NewKey};

tests::on_both_stores![
    an_agent_waits_until_it_is_approved_and_is_served_at_once_then,
    a_token_can_ask_for_approval_and_a_revoked_agent_waits_no_longer,
    a_deleted_agent_is_cut_its_work_ends_truthfully_and_its_name_is_free,
    an_agent_is_given_another_key_and_the_old_one_is_worth_nothing,
    maintenance_keeps_an_agent_out_unless_it_is_named,
];

async fn patch(api: &Api, path: &str, body: &Value) -> Value {
    let request = api.request(Method::PATCH, path).header("content-type", "application/json").body(body.to_string());
    api.send(request).await.expect(200)
}

async fn delete(api: &Api, path: &str) -> u16 {
    api.send(api.request(Method::DELETE, path)).await.status
}

/// Who is in and who is out, of a command on `target` that is only planned.
async fn targets(api: &Api, target: Value) -> (Vec<String>, Vec<String>) {
    let body = json!({ "args": { "program": "true" }, "target": target });
    let plan = api.post("/api/v1/verbs/exec.run/plan", &body).await.expect(200);
    let names = |list: &Value| -> Vec<String> {
        let items = list.as_array().expect("a list").iter();
        items.map(|item| item["agent_name"].as_str().expect("a name").to_owned()).collect()
    };
    (names(&plan["targets"]), names(&plan["excluded"]))
}

async fn an_agent_waits_until_it_is_approved_and_is_served_at_once_then(store: Store) {
    let mut host = TestHost::new_on(store);
    host.set_sections("[agent_management]\napproval = \"required\"\n");
    host.launch().await;
    let admin = host.admin().await;
    let mut agent = TestAgent::join(&host, &admin, "web-1").await;
    agent.run();
    until("the agent is told that it waits", async || agent.log().contains("keeps this machine waiting").then_some(()))
        .await;
    let shown = admin.get("/api/v1/agents/web-1").await.expect(200);
    assert_eq!((&shown["status"], &shown["awaits_approval"]), (&json!("pending"), &json!(true)));
    let pending = admin.get("/api/v1/agents?status=pending").await.expect(200);
    assert_eq!(pending["items"].as_array().map(Vec::len), Some(1));
    let body = json!({ "verb": "exec.run", "args": { "program": "true" }, "target": { "agents": ["web-1"] } });
    let refused = admin.post("/api/v1/commands", &body).await;
    assert_eq!(refused.code(), "no_target");

    let cli = Cli::login(&host).await;
    assert_eq!(cli.run(&["agent", "approve", "web-1"]).await.code, Some(0));
    agent.seen(&admin, "online").await;
    let id = admin.exec("web-1", &json!({ "program": "true" })).await;
    assert_eq!(state_of(&admin.ended(&id, "web-1").await), State::Succeeded);
    assert_eq!(agent.log().matches("next try to reach the host").count(), 0, "on the socket it waited at");
}

async fn a_token_can_ask_for_approval_and_a_revoked_agent_waits_no_longer(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let played = Played::join_as(&host, &admin, "played", &json!({ "needs_approval": true })).await;
    let (mut socket, challenge) = played.dial().await;
    socket.say(&AgentFrame::Hello(played.hello(&challenge))).await;
    assert!(matches!(socket.hear().await, Some(HostFrame::Pending { .. })));
    admin.post("/api/v1/agents/played/revoke", &json!({})).await.expect(200);
    assert_eq!(socket.ended().await.as_deref(), Some("revoked"));
    let refused = admin.post("/api/v1/agents/played/approve", &json!({})).await;
    assert_eq!((refused.status, refused.code()), (409, "conflict"));

    // Whoever speaks before it is let in is sent away, and nothing is let in by that.
    let played = Played::join_as(&host, &admin, "eager", &json!({ "needs_approval": true })).await;
    let (mut socket, challenge) = played.dial().await;
    socket.say(&AgentFrame::Hello(played.hello(&challenge))).await;
    assert!(matches!(socket.hear().await, Some(HostFrame::Pending { .. })));
    socket.say(&AgentFrame::Heartbeat { attempts: 0 }).await;
    assert_eq!(socket.ended().await.as_deref(), Some("unexpected_frame"));
    assert_eq!(admin.get("/api/v1/agents/eager").await.expect(200)["status"], "pending");
}

async fn a_deleted_agent_is_cut_its_work_ends_truthfully_and_its_name_is_free(store: Store) {
    let mut host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let played = Played::join(&host, &admin, "played").await;
    let (mut socket, _) = played.open().await;
    let sent = admin.exec("played", &json!({ "program": "true" })).await;
    assert!(matches!(socket.hear().await, Some(HostFrame::Command(_))));
    // The others stay behind the first four.
    for _ in 0..3 {
        admin.exec("played", &json!({ "program": "true" })).await;
        assert!(matches!(socket.hear().await, Some(HostFrame::Command(_))));
    }
    let unsent = admin.exec("played", &json!({ "program": "true" })).await;
    let old = played.id.to_string();

    assert_eq!(delete(&admin, "/api/v1/agents/played").await, 204);
    assert_eq!(socket.ended().await.as_deref(), Some("cut"));
    assert_eq!(delete(&admin, "/api/v1/agents/played").await, 404);
    assert_eq!(admin.get(&format!("/api/v1/agents/{old}")).await.status, 404);
    assert_eq!(admin.reaches(&sent, &old, State::Lost).await["reason"], "agent_gone");
    assert_eq!(admin.reaches(&unsent, &old, State::Cancelled).await["reason"], "never_sent");

    // Neither its id nor its key comes back; its name does, as another agent.
    let (mut socket, challenge) = played.dial().await;
    socket.say(&AgentFrame::Hello(played.hello(&challenge))).await;
    assert_eq!(socket.ended().await.as_deref(), Some("revoked"));
    let refused = Played::try_join(&host, &admin, "other", &json!({}), played.key.clone()).await;
    assert_eq!(refused.expect_err("the key is retired").code(), "join_key_refused");
    let heir = Played::join(&host, &admin, "played").await;
    assert_ne!(heir.id, played.id);
    heir.open().await;

    host.kill9();
    host.launch().await;
    let admin = host.admin().await;
    let (mut socket, challenge) = played.dial().await;
    socket.say(&AgentFrame::Hello(played.hello(&challenge))).await;
    assert_eq!(socket.ended().await.as_deref(), Some("revoked"), "after a restart as well");
    let kept = admin.invocation(&sent, &old).await;
    assert_eq!((&kept["agent"], &kept["agent_name"]), (&json!(old), &json!("played")));
    let cli = Cli::login(&host).await;
    assert_eq!(cli.run(&["agent", "delete", "played"]).await.code, Some(3), "nobody to ask");
    assert_eq!(cli.run(&["agent", "delete", "played", "--yes"]).await.code, Some(0));
}

async fn an_agent_is_given_another_key_and_the_old_one_is_worth_nothing(store: Store) {
    let mut host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let mut agent = TestAgent::start(&host, &admin, "web-1").await;
    let first = admin.get("/api/v1/agents/web-1").await.expect(200);
    let cli = Cli::login(&host).await;
    let turned = async |before: &Value| {
        until("the agent has another key", async || {
            let shown = admin.get("/api/v1/agents/web-1").await.expect(200);
            let done = shown["public_key"] != before["public_key"] && shown["rotation_asked_at"].is_null();
            done.then_some(shown)
        })
        .await
    };
    assert_eq!(cli.run(&["agent", "rotate-key", "web-1"]).await.code, Some(0));
    let second = turned(&first).await;
    let id = admin.exec("web-1", &json!({ "program": "true" })).await;
    assert_eq!(state_of(&admin.ended(&id, "web-1").await), State::Succeeded, "in the session it has");

    // Asked while it is away, and over a death of the host.
    agent.kill9();
    agent.seen(&admin, "offline").await;
    let asked = admin.post("/api/v1/agents/web-1/rotate-key", &json!({})).await.expect(200);
    assert!(asked["rotation_asked_at"].is_string(), "{asked:#}");
    host.kill9();
    host.launch().await;
    agent.run();
    let third = turned(&second).await;
    agent.kill9();
    agent.run();
    agent.seen(&admin, "online").await;
    assert_ne!(third["public_key"], first["public_key"]);

    // Who has nothing but the old key is nobody.
    let mut played = Played::join(&host, &admin, "played").await;
    let (mut socket, _) = played.open().await;
    admin.post("/api/v1/agents/played/rotate-key", &json!({})).await.expect(200);
    assert_eq!(socket.hear().await, Some(HostFrame::RotateKey));
    let old = played.turn_key();
    let forged = NewKey { signature: "A".repeat(86), ..played.new_key(&old) };
    socket.say(&AgentFrame::NewKey(forged)).await;
    socket.say(&AgentFrame::NewKey(played.new_key(&old))).await;
    let public_key = key_text(&played.key.verifying_key());
    let mut heard = socket.hear().await;
    // Whose session had just opened may be asked by what opened it, too.
    if heard == Some(HostFrame::RotateKey) {
        heard = socket.hear().await;
    }
    assert_eq!(heard, Some(HostFrame::KeyAck { public_key }), "and nothing for the forged one");
    let new = std::mem::replace(&mut played.key, old.clone());
    let (mut socket, challenge) = played.dial().await;
    socket.say(&AgentFrame::Hello(played.hello(&challenge))).await;
    assert_eq!(socket.ended().await.as_deref(), Some("unauthenticated"));
    let refused = Played::try_join(&host, &admin, "again", &json!({}), old).await;
    assert_eq!(refused.expect_err("the old key is retired").code(), "join_key_refused");
    played.key = new;
    played.open().await;
}

async fn maintenance_keeps_an_agent_out_unless_it_is_named(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let agents = [TestAgent::start(&host, &admin, "web-1").await, TestAgent::start(&host, &admin, "web-2").await];
    patch(&admin, "/api/v1/agents/web-2", &json!({ "labels": { "env": "prod" } })).await;
    patch(&admin, "/api/v1/agents/web-1", &json!({ "maintenance": true, "labels": { "env": "prod" } })).await;
    let (web, other) = (vec!["web-1".to_owned()], vec!["web-2".to_owned()]);
    for target in [
        json!({ "all": true }),
        json!({ "sites": ["default"] }),
        json!({ "labels": ["env=prod"] }),
        json!({ "expr": "label.env = prod" }),
    ] {
        assert_eq!(targets(&admin, target).await, (other.clone(), web.clone()));
    }
    assert_eq!(targets(&admin, json!({ "agents": ["web-1"] })).await, (web, Vec::new()));
    let id = admin.exec("web-1", &json!({ "program": "true" })).await;
    assert_eq!(state_of(&admin.ended(&id, "web-1").await), State::Succeeded);
    drop(agents);
}

#[tokio::test]
async fn what_one_host_revokes_deletes_and_approves_holds_at_the_other() {
    let Some(store) = Store::postgres() else { return };
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let revoked = Played::join(&host, &admin, "revoked").await;
    let deleted = Played::join(&host, &admin, "deleted").await;
    let waits = Played::join_as(&host, &admin, "waits", &json!({ "needs_approval": true })).await;
    let ((mut cut, _), (mut gone, _)) = (revoked.open().await, deleted.open().await);
    let (mut anteroom, challenge) = waits.dial().await;
    anteroom.say(&AgentFrame::Hello(waits.hello(&challenge))).await;
    assert!(matches!(anteroom.hear().await, Some(HostFrame::Pending { .. })));
    let mut other = host.beside();
    other.launch().await;
    let there = other.admin().await;

    there.post("/api/v1/agents/revoked/revoke", &json!({})).await.expect(200);
    assert_eq!(delete(&there, "/api/v1/agents/deleted").await, 204);
    there.post("/api/v1/agents/waits/approve", &json!({})).await.expect(200);
    assert_eq!(cut.ended().await.as_deref(), Some("cut"));
    assert_eq!(gone.ended().await.as_deref(), Some("cut"));
    let welcomed = loop {
        match anteroom.hear().await {
            Some(HostFrame::Pending { .. }) => {}
            heard => break heard,
        }
    };
    assert!(matches!(welcomed, Some(HostFrame::Welcome(_))), "{welcomed:?}");
    assert_eq!(admin.get("/api/v1/agents/deleted").await.status, 404, "the first host knows as well");
}
