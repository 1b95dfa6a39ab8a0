//! Agents, join tokens, verbs, plugins, audit.

use ports::clock::Clock;
use serde_json::{Value, json};
use services::directory::Latest;

use super::world::World;

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().expect("items").iter().map(|item| item["name"].as_str().expect("a name")).collect()
}

#[tokio::test]
async fn agents_are_listed_by_name_within_sight_and_filter() {
    let world = World::new().await;
    let (root, eu) = (world.login("root").await, world.login("eu").await);
    let list =
        async |token: &str, query: &str| world.get(token, &format!("/api/v1/agents{query}")).await.expect(200).json();
    assert_eq!(names(&list(&root, "").await), ["db-1", "web-1"]);
    assert_eq!(names(&list(&eu, "").await), ["web-1"]);
    assert_eq!(names(&list(&root, "?status=online").await), ["web-1"]);
    assert_eq!(names(&list(&root, "?status=online,offline").await), ["db-1", "web-1"]);
    assert_eq!(names(&list(&root, "?site=us").await), ["db-1"]);
    assert_eq!(names(&list(&eu, "?site=us").await), Vec::<&str>::new());
    assert_eq!(names(&list(&root, "?q=WEB").await), ["web-1"]);
    let first = list(&root, "?limit=1").await;
    assert_eq!(names(&first), ["db-1"]);
    let next = format!("?limit=1&cursor={}", first["next_cursor"].as_str().expect("a cursor"));
    let second = list(&root, &next).await;
    assert_eq!((names(&second), &second["next_cursor"]), (vec!["web-1"], &Value::Null));
    world.get(&root, "/api/v1/agents?status=up").await.refused(400, "invalid_parameter");
    world.get(&root, "/api/v1/agents?cursor=xx").await.refused(400, "invalid_cursor");
    let foreign =
        world.get(&root, "/api/v1/users?limit=1").await.json()["next_cursor"].as_str().expect("one").to_owned();
    world.get(&root, &format!("/api/v1/agents?cursor={foreign}")).await.refused(400, "invalid_cursor");
}

#[tokio::test]
async fn an_agent_out_of_sight_looks_like_none() {
    let world = World::new().await;
    let eu = world.login("eu").await;
    let shown = world.get(&eu, "/api/v1/agents/web-1").await.expect(200).json();
    assert_eq!((&shown["id"], &shown["status"]), (&json!(world.web.to_string()), &json!("online")));
    let (hidden, none) = (world.get(&eu, "/api/v1/agents/db-1").await, world.get(&eu, "/api/v1/agents/ghost").await);
    let told = |reply: super::world::Reply| {
        let mut problem = reply.refused(404, "not_found").json();
        problem["instance"] = json!("same");
        problem
    };
    assert_eq!(told(hidden), told(none));
    world.get(&eu, &format!("/api/v1/agents/{}", world.db)).await.refused(404, "not_found");
    world.get(&eu, "/api/v1/agents/db-1/telemetry").await.refused(404, "not_found");
    for path in ["..", "%2e%2e", "web-1%00", "%ff", "web-1/", ";x=y"] {
        world.get(&eu, &format!("/api/v1/agents/{path}")).await.refused(404, "not_found");
    }
}

#[tokio::test]
async fn an_agent_is_changed_revoked_and_its_sample_shown() {
    let world = World::new().await;
    let root = world.login("root").await;
    let path = "/api/v1/agents/web-1";
    let patch = json!({ "maintenance": true, "labels": { "env": "prod" } });
    let changed = world.call(&root, "PATCH", path, patch).await.expect(200).json();
    assert_eq!((&changed["status"], &changed["labels"]["env"]), (&json!("maintenance"), &json!("prod")));
    world.call(&root, "PATCH", path, json!({ "name": "x" })).await.refused(422, "unknown_field");
    let bad = world.call(&root, "PATCH", path, json!({ "site": "a b" })).await.refused(422, "invalid_body").json();
    assert_eq!(bad["errors"][0]["pointer"], "/site");

    let telemetry = format!("{path}/telemetry");
    assert_eq!(world.get(&root, &telemetry).await.expect(200).json()["sample"], Value::Null);
    let sample = r#"{"at_ms":5,"cpu_percent":1.5}"#.into();
    let (at, received_at) = (world.clock.now(), world.clock.now());
    world.directory.set_latest(world.web, Latest { sample, at, received_at, skew_ms: 0, readings: [].into() });
    assert_eq!(world.get(&root, &telemetry).await.expect(200).json()["sample"]["cpu_percent"], 1.5);

    let revoked = world.call(&root, "POST", &format!("{path}/revoke"), json!({})).await.expect(200).json();
    assert_ne!(revoked["revoked_at"], Value::Null);
    world.call(&root, "POST", &format!("{path}/revoke"), json!({ "why": 1 })).await.refused(422, "unknown_field");
    assert!(world.audited().await.ends_with(&["agents.change", "agents.revoke"]));
}

#[tokio::test]
async fn a_join_token_is_shown_once() {
    let world = World::new().await;
    let root = world.login("root").await;
    let path = "/api/v1/join-tokens";
    let made = world.call(&root, "POST", path, json!({ "site": "eu", "ttl_s": 600 })).await.expect(201);
    let id = made.json()["id"].as_str().expect("an id").to_owned();
    assert_eq!(made.headers["location"], format!("{path}/{id}"));
    assert!(made.json()["token"].as_str().expect("a token").starts_with("vwj_"));
    let listed = world.get(&root, path).await.expect(200).json();
    assert_eq!((&listed["items"][0]["id"], listed["items"][0].get("token")), (&json!(id), None));
    world.call(&root, "DELETE", &format!("{path}/{id}"), json!({})).await.expect(204);
    assert_ne!(world.get(&root, path).await.json()["items"][0]["revoked_at"], Value::Null);
    world.call(&root, "DELETE", &format!("{path}/x"), json!({})).await.refused(404, "not_found");
    world.call(&root, "POST", path, json!({ "ttl_s": 59 })).await.refused(422, "invalid_body");
}

#[tokio::test]
async fn verbs_and_plugins_are_shown() {
    let world = World::new().await;
    let eye = world.login("eye").await;
    assert_eq!(names(&world.get(&eye, "/api/v1/verbs").await.expect(200).json()), ["test.echo", "test.wipe"]);
    let verb = world.get(&eye, "/api/v1/verbs/test.echo").await.expect(200).json();
    assert_eq!((&verb["effect"], &verb["args_schema"]["type"]), (&json!("read"), &json!("object")));
    assert_eq!(verb["examples"], json!([{ "text": "hello" }]), "arguments that work");
    world.get(&eye, "/api/v1/verbs/test.nope").await.refused(404, "not_found");
    world.get(&eye, "/api/v1/verbs/test.gone").await.refused(409, "verb_unavailable");
    assert_eq!(names(&world.get(&eye, "/api/v1/plugins").await.expect(200).json()), ["test"]);
    let plugin = world.get(&eye, "/api/v1/plugins/test").await.expect(200).json();
    assert_eq!((&plugin["state"], &plugin["version"]), (&json!("active"), &json!("1.0.0")));
    world.get(&eye, "/api/v1/plugins/nope").await.refused(404, "not_found");
}

#[tokio::test]
async fn the_audit_log_is_read_newest_first_in_pages() {
    let world = World::new().await;
    let root = world.login("root").await;
    let request = super::world::with(&root, "POST", "/api/v1/join-tokens")
        .header("content-type", "application/json")
        .header("x-request-id", "build-7")
        .header("user-agent", "tests/1");
    world.send(request.body("{}".into()).expect("a request")).await.expect(201);
    let page = world.get(&root, "/api/v1/audit?limit=1").await.expect(200).json();
    let entry = &page["items"][0];
    assert_eq!((&entry["action"], &entry["actor"]), (&json!("agents.create_join_token"), &json!("root")));
    assert_eq!((&entry["correlation_id"], &entry["user_agent"]), (&json!("build-7"), &json!("tests/1")));
    assert_eq!((&entry["ip_address"], &entry["details"]["site"]), (&json!("127.0.0.1"), &json!("default")));
    let next = format!("/api/v1/audit?limit=1&cursor={}", page["next_cursor"].as_str().expect("a cursor"));
    assert_eq!(world.get(&root, &next).await.expect(200).json()["items"][0]["action"], "auth.login");
}
