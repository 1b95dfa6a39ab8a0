//! What users may: shown, changed while they work, and asked again when what they have queued is sent.

use domain::access::Principal;
use domain::verb::VerbName;
use plan::effect::Effect;
use ports::commands::Commands;
use serde_json::{Value, json};
use services::standing::Verdict;

use super::world::{PASSWORD, World};

#[tokio::test]
async fn an_admin_changes_what_a_user_may_while_they_work() {
    let world = World::new().await;
    let (root, op) = (world.login("root").await, world.login("op").await);
    world.get(&op, "/api/v1/agents/db-1").await.expect(200);
    let eu = json!({ "grants": [{ "sites": ["eu"], "verbs": ["test.*"], "effects": ["read"] }] });
    let set = world.call(&root, "PUT", "/api/v1/grants/op", eu.clone()).await.expect(200).json();
    assert_eq!((&set["name"], &set["grants"]), (&json!("op"), &eu["grants"]));
    world.get(&op, "/api/v1/agents/db-1").await.refused(404, "not_found");
    assert_eq!(world.get(&root, "/api/v1/grants/op").await.expect(200).json(), set);
    let all = world.get(&root, "/api/v1/grants?limit=500").await.expect(200).json();
    assert!(all["items"].as_array().is_some_and(|items| items.contains(&set)), "{all}");
    world.call(&root, "PUT", "/api/v1/grants/nobody", eu.clone()).await.refused(404, "not_found");

    let shown = world.call(&root, "PATCH", "/api/v1/users/op", json!({ "role": "viewer" })).await.expect(200).json();
    assert_eq!((&shown["role"], &shown["grants"]), (&json!("viewer"), &eu["grants"]));
    let body = json!({ "verb": "test.echo", "args": {}, "target": { "agents": ["web-1"] } });
    world.call(&op, "POST", "/api/v1/commands", body).await.refused(403, "forbidden");
    assert_eq!(world.get(&root, "/api/v1/users/op").await.expect(200).json(), shown);
    world.get(&root, "/api/v1/users/nobody").await.refused(404, "not_found");
    let audited = world.audited().await;
    assert_eq!(audited.iter().filter(|action| **action == "users.change").count(), 2);
    for (body, pointer) in [
        (json!({ "role": "root" }), "/role"),
        (json!({ "password": "short" }), "/password"),
        (json!({ "grants": [{ "sites": ["e u"], "verbs": [], "effects": [] }] }), "/grants/0/sites/0"),
    ] {
        let refused = world.call(&root, "PATCH", "/api/v1/users/op", body).await.refused(422, "invalid_body").json();
        assert_eq!(refused["errors"][0]["pointer"], pointer);
    }
}

#[tokio::test]
async fn an_admin_ends_somebodys_logins() {
    let world = World::new().await;
    let root = world.login("root").await;
    for body in [json!({ "end_logins": true }), json!({ "password": PASSWORD })] {
        let op = world.login("op").await;
        world.get(&op, "/api/v1/me").await.expect(200);
        world.call(&root, "PATCH", "/api/v1/users/op", body).await.expect(200);
        world.get(&op, "/api/v1/me").await.refused(401, "invalid_token");
        world.login("op").await;
    }
}

#[tokio::test]
async fn the_last_admin_is_not_demoted() {
    let world = World::new().await;
    let root = world.login("root").await;
    let demote = json!({ "role": "operator" });
    world.call(&root, "PATCH", "/api/v1/users/root", demote.clone()).await.refused(409, "last_admin");
    world.call(&root, "PATCH", "/api/v1/users/op", json!({ "role": "admin" })).await.expect(200);
    let op = world.login("op").await;
    let (one, two) = tokio::join!(
        world.call(&root, "PATCH", "/api/v1/users/root", demote.clone()),
        world.call(&op, "PATCH", "/api/v1/users/op", demote)
    );
    let mut statuses = [one.status.as_u16(), two.status.as_u16()];
    statuses.sort_unstable();
    assert!(statuses == [200, 409] || statuses == [200, 403], "{statuses:?}");
}

#[tokio::test]
async fn everybody_is_told_what_they_may_truly_do() {
    let world = World::new().await;
    let me = async |name: &str| -> Value {
        let token = world.login(name).await;
        world.get(&token, "/api/v1/me").await.expect(200).json()
    };
    let root = me("root").await;
    let every = json!([{ "sites": ["*"], "verbs": ["*"], "effects": ["read", "change", "destroy", "host"] }]);
    assert_eq!((&root["grants"], &root["kind"]), (&every, &json!("user")));
    let may = |me: &Value, permission: &str| {
        me["permissions"].as_array().is_some_and(|permissions| permissions.contains(&json!(permission)))
    };
    assert!(may(&root, "manage_users") && may(&root, "own_login"));
    let (op, eye, eu) = (me("op").await, me("eye").await, me("eu").await);
    assert!(may(&op, "run_commands") && !may(&op, "manage_users") && !may(&eye, "run_commands"));
    assert_eq!(eye["grants"][0], json!({ "sites": ["*"], "verbs": ["*"], "effects": [] }), "a viewer causes nothing");
    assert_eq!(eu["grants"][0]["sites"], json!(["eu"]));
}

#[tokio::test]
async fn what_is_queued_is_asked_about_again_when_it_is_sent() {
    let world = World::new().await;
    let (root, op) = (world.login("root").await, world.login("op").await);
    let made = world.call(&op, "POST", "/api/v1/api-keys", json!({})).await.expect(201).json();
    let key = made["key"].as_str().expect("a key");
    let (by_op, by_key) = (world.submit(&op).await, world.submit(key).await);
    let command = async |id| world.store.command(id).await.expect("read").expect("there").command;
    let (by_op, by_key) = (command(by_op).await, command(by_key).await);
    assert!(matches!(by_op.principal, Some(Principal::User(_))));
    assert!(matches!(by_key.principal, Some(Principal::Key { .. })));
    let verdict = |command: &domain::command::Command| world.standing.verdict(command, Effect::Read, "eu");
    assert_eq!((verdict(&by_op), verdict(&by_key)), (Verdict::May, Verdict::May));
    let said = |verdict: Verdict| match verdict {
        Verdict::MayNot(objection) => objection.message,
        other => panic!("{other:?}"),
    };

    world.call(&root, "PUT", "/api/v1/grants/op", json!({ "grants": [] })).await.expect(200);
    world.standing.look().await.expect("read");
    assert!(said(verdict(&by_op)).contains("no grant of yours covers effect `read` of `test.echo` at site `eu`"));
    assert!(matches!(verdict(&by_key), Verdict::MayNot(_)), "its owner's loss is its own");
    let ordinary = json!({ "grants": [{ "sites": ["*"], "verbs": ["*"], "effects": ["read"] }] });
    world.call(&root, "PUT", "/api/v1/grants/op", ordinary).await.expect(200);
    let id = made["id"].as_str().expect("an id");
    world.call(&op, "DELETE", &format!("/api/v1/api-keys/{id}"), json!({})).await.expect(204);
    world.standing.look().await.expect("read");
    assert_eq!(verdict(&by_op), Verdict::May);
    assert!(said(verdict(&by_key)).contains("API key of `op`"));

    // Somebody else of the same name is somebody else.
    world.call(&root, "DELETE", "/api/v1/users/op", json!({})).await.expect(204);
    let again = json!({ "name": "op", "password": PASSWORD, "role": "admin" });
    world.call(&root, "POST", "/api/v1/users", again).await.expect(201);
    world.standing.look().await.expect("read");
    assert!(said(verdict(&by_op)).contains("was deleted"));
    // What an earlier version stored names its submitter and nothing else.
    let older = domain::command::Command { principal: None, ..by_op.clone() };
    assert_eq!(verdict(&older), Verdict::Unknown);
    world.standing.learn([&older]).await.expect("read");
    assert_eq!(verdict(&older), Verdict::May);
    assert_eq!(older.verb, VerbName::parse("test.echo").expect("a name"));
}
