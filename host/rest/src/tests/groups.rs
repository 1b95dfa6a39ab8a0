//! Saved groups through the door.

use axum::body::Body;
use serde_json::{Value, json};

use super::world::{Reply, World, with};

const GROUPS: &str = "/api/v1/groups";

async fn save(world: &World, token: &str, name: &str, expr: &str) -> Reply {
    world.call(token, "POST", GROUPS, json!({ "name": name, "expr": expr })).await
}

async fn run(world: &World, token: &str, expr: &str) -> Reply {
    let body = json!({ "verb": "test.echo", "args": {}, "target": { "expr": expr } });
    world.call(token, "POST", "/api/v1/commands", body).await
}

#[tokio::test]
async fn a_group_is_saved_shown_changed_and_deleted_by_admins_and_seen_by_all() {
    let world = World::new().await;
    let (root, op, eye) = (world.login("root").await, world.login("op").await, world.login("eye").await);
    let made = save(&world, &root, "web", "agent = web-*").await.expect(201);
    assert_eq!(made.headers["location"], "/api/v1/groups/web");
    save(&world, &root, "all-but", "not @web").await.expect(201);
    save(&world, &op, "mine", "all").await.refused(403, "forbidden");
    world.call(&op, "PATCH", "/api/v1/groups/web", json!({ "expr": "all" })).await.refused(403, "forbidden");

    let list = world.get(&eye, GROUPS).await.expect(200).json();
    let names: Vec<&Value> = list["items"].as_array().expect("items").iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["all-but", "web"]);
    let web = world.get(&eye, "/api/v1/groups/web").await.expect(200).json();
    assert_eq!((&web["agents"], &web["used_by"], &web["uses"]), (&json!(1), &json!(["all-but"]), &json!([])));

    world.call(&root, "DELETE", "/api/v1/groups/web", json!({})).await.refused(409, "group_in_use");
    world.call(&root, "DELETE", "/api/v1/groups/all-but", json!({})).await.expect(204);
    world.call(&root, "DELETE", "/api/v1/groups/web", json!({})).await.expect(204);
    world.get(&root, "/api/v1/groups/web").await.refused(404, "not_found");
    let audited = world.audited().await;
    assert!(audited.ends_with(&["auth.refused", "auth.refused", "groups.delete", "groups.delete"]), "{audited:?}");
}

#[tokio::test]
async fn a_group_that_cannot_be_is_refused_with_the_reason() {
    let world = World::new().await;
    let root = world.login("root").await;
    save(&world, &root, "web", "site = eu").await.expect(201);
    save(&world, &root, "web", "all").await.refused(409, "name_taken");
    save(&world, &root, "all", "all").await.refused(422, "invalid_body");
    save(&world, &root, "bad", "sites = eu").await.refused(422, "invalid_body");
    save(&world, &root, "me", "@me").await.refused(422, "group_circle");
    let unknown = save(&world, &root, "new", "@wbe").await.refused(422, "unknown_group").json();
    assert_eq!(unknown["errors"][0]["pointer"], "/expr");
    assert_eq!(unknown["errors"][0]["message"], "there is no group `wbe`; did you mean web?");
}

#[tokio::test]
async fn what_was_changed_since_it_was_read_is_not_overwritten() {
    let world = World::new().await;
    let root = world.login("root").await;
    let first = save(&world, &root, "web", "site = eu").await.expect(201).headers["etag"].clone();
    let patch = async |tag: &str, expr: &str| {
        let request = with(&root, "PATCH", "/api/v1/groups/web").header("if-match", tag);
        let request = request.header("content-type", "application/json");
        let body: Body = json!({ "expr": expr }).to_string().into();
        world.send(request.body(body).expect("a request")).await
    };
    let first = first.to_str().expect("a tag");
    let second = patch(first, "site = us").await.expect(200).headers["etag"].clone();
    assert_ne!(second, first);
    patch(first, "all").await.refused(412, "precondition_failed");
    patch("\"never\"", "all").await.refused(412, "precondition_failed");
    patch("web", "all").await.refused(400, "invalid_header");
    patch("*", "all").await.expect(200);
}

#[tokio::test]
async fn a_group_reaches_no_further_than_the_caller_and_names_itself() {
    let world = World::new().await;
    let (root, eu) = (world.login("root").await, world.login("eu").await);
    save(&world, &root, "both", "site in (eu, us)").await.expect(201);
    save(&world, &root, "us", "site = us").await.expect(201);
    let names = |reply: &Value| -> Vec<String> {
        let targets = reply["targets"].as_array().expect("targets");
        targets.iter().map(|one| format!("{} in {}", one["agent_name"], one["groups"])).collect()
    };
    let all = run(&world, &root, "@both").await.expect(202).json();
    assert_eq!(names(&all), [r#""db-1" in ["both"]"#, r#""web-1" in ["both"]"#]);
    let mine = run(&world, &eu, "@both").await.expect(202).json();
    assert_eq!(names(&mine), [r#""web-1" in ["both"]"#]);
    let shown = world.get(&eu, "/api/v1/groups/both").await.expect(200).json();
    assert_eq!(shown["agents"], 1);
    let nobody = run(&world, &eu, "@us").await.refused(422, "no_target").json();
    assert_eq!(nobody["errors"][0]["message"], "nobody in your sight is in group `us` now");
    let unknown = run(&world, &eu, "site = eu or @bot").await.refused(422, "unknown_group").json();
    assert_eq!(unknown["errors"][0]["pointer"], "/target/expr");

    world.call(&root, "PATCH", "/api/v1/agents/db-1", json!({ "maintenance": true })).await.expect(200);
    let out = run(&world, &root, "@both").await.expect(202).json();
    assert_eq!(out["excluded"][0]["why"], "in group `both`, but in maintenance; name it to include it");

    let id = all["id"].as_str().expect("an id");
    world.call(&root, "PATCH", "/api/v1/groups/both", json!({ "expr": "site = eu" })).await.expect(200);
    let command = world.get(&root, &format!("/api/v1/commands/{id}")).await.expect(200).json();
    assert_eq!(command["target"], json!({ "expr": "@both", "groups": { "both": "site in (eu, us)" } }));
}
