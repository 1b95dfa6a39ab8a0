//! What a command would do, and whether its caller may: told without doing it, and without telling more.

use domain::agent::{Agent, Facts};
use serde_json::{Value, json};

use super::world::World;

const COMMANDS: &str = "/api/v1/commands";

fn path(verb: &str) -> String {
    format!("/api/v1/verbs/{verb}/plan")
}

fn to_all(text: &str) -> Value {
    json!({ "args": { "text": text }, "target": { "all": true } })
}

/// Each target's name and what the grants say of it.
fn grants(plan: &Value) -> Vec<(&str, Value)> {
    let targets = plan["targets"].as_array().expect("targets");
    targets.iter().map(|target| (target["agent_name"].as_str().expect("a name"), target["grant"].clone())).collect()
}

fn granted(effect: &str) -> Value {
    json!({ "allowed": true, "effect": effect })
}

fn missing(effect: &str, verb: &str, site: &str) -> Value {
    let reason = format!("no grant of yours covers effect `{effect}` of `{verb}` at site `{site}`");
    json!({ "allowed": false, "effect": effect, "reason": reason })
}

async fn nothing_was_queued(world: &World, token: &str) {
    assert_eq!(world.get(token, COMMANDS).await.expect(200).json()["items"], json!([]));
}

#[tokio::test]
async fn a_dry_run_shows_the_plan_and_the_grants_and_queues_nothing() {
    let world = World::new().await;
    let op = world.login("op").await;
    let plan = world.call(&op, "POST", &path("test.echo"), to_all("hi")).await.expect(200).json();
    assert_eq!((&plan["effect"], &plan["allowed"]), (&json!("read"), &json!(true)));
    assert_eq!(grants(&plan), [("db-1", granted("read")), ("web-1", granted("read"))]);
    assert_eq!((plan["plans"].as_array().map(Vec::len), &plan["plans"][0]["agents"]), (Some(1), &json!(2)));
    assert_eq!(plan["plans"][0]["plan"]["steps"][0], json!({ "program": "echo", "args": ["hi"] }));
    assert_eq!(plan["plans"][0]["plan_hash"].as_str().expect("a hash").len(), 64);
    let other = world.call(&op, "POST", &path("test.echo"), to_all("ho")).await.expect(200).json();
    assert_ne!(other["plans"][0]["plan_hash"], plan["plans"][0]["plan_hash"]);
    let without_args = json!({ "target": { "all": true } });
    world.call(&op, "POST", &path("test.echo"), without_args.clone()).await.expect(200);
    world.call(&op, "POST", &path("test.nope"), without_args.clone()).await.refused(404, "not_found");
    world.call(&op, "POST", &path("test.gone"), without_args).await.refused(409, "verb_unavailable");
    nothing_was_queued(&world, &op).await;
}

#[tokio::test]
async fn each_kind_of_machine_has_a_plan_of_its_own() {
    let world = World::new().await;
    let op = world.login("op").await;
    let db = world.directory.get(world.db).expect("it joined").agent;
    let facts = Facts { arch: "aarch64".into(), container_engine: Some("docker 28.2.2".into()), ..db.facts.clone() };
    world.directory.put(Agent { facts, ..Agent::clone(&db) });
    let plan = world.call(&op, "POST", &path("test.echo"), to_all("hi")).await.expect(200).json();
    let plans = plan["plans"].as_array().expect("plans");
    let kinds: Vec<Value> = plans.iter().map(|plan| json!([plan["os"], plan["arch"], plan["agents"]])).collect();
    assert_eq!(kinds, [json!(["linux", "aarch64", 1]), json!(["linux", "x86_64", 1])]);
    assert!(plans.iter().all(|plan| plan["plan"]["steps"][0]["program"] == "echo"), "{plans:?}");
}

#[tokio::test]
async fn without_a_grant_the_answer_says_so_and_its_plugin_is_not_asked() {
    let world = World::new().await;
    let op = world.login("op").await;
    // A plugin that were asked would fail.
    let plan = world.call(&op, "POST", &path("test.wipe"), to_all("trap")).await.expect(200).json();
    assert_eq!(
        (&plan["allowed"], &plan["effect"], &plan["plans"]),
        (&json!(false), &json!("destroy"), &json!([])),
        "{plan}"
    );
    let verdicts = [("db-1", missing("destroy", "test.wipe", "us")), ("web-1", missing("destroy", "test.wipe", "eu"))];
    assert_eq!(grants(&plan), verdicts);
    let body = json!({ "verb": "test.wipe", "target": { "all": true } });
    world.call(&op, "POST", COMMANDS, body).await.refused(403, "effect_not_granted");
    let root = world.login("root").await;
    world.call(&root, "POST", &path("test.wipe"), to_all("trap")).await.refused(422, "plugin_failed");
}

#[tokio::test]
async fn a_plan_that_does_more_than_its_verb_says_is_shown_with_the_grant_it_lacks() {
    let world = World::new().await;
    let op = world.login("op").await;
    let plan = world.call(&op, "POST", &path("test.echo"), to_all("raise")).await.expect(200).json();
    assert_eq!((&plan["allowed"], &plan["effect"]), (&json!(false), &json!("destroy")));
    assert_eq!(plan["plans"][0]["plan"]["effect"], "destroy");
    assert_eq!(grants(&plan)[0], ("db-1", missing("destroy", "test.echo", "us")));
    let body = json!({ "verb": "test.echo", "args": { "text": "raise" }, "target": { "all": true } });
    world.call(&op, "POST", COMMANDS, body).await.refused(403, "effect_not_granted");
    nothing_was_queued(&world, &op).await;
}

#[tokio::test]
async fn what_is_granted_on_some_agents_is_told_of_each() {
    let world = World::new().await;
    let (root, op) = (world.login("root").await, world.login("op").await);
    let reads = json!({ "sites": ["*"], "verbs": ["*"], "effects": ["read"] });
    let wipes = json!({ "sites": ["eu"], "verbs": ["test.wipe"], "effects": ["destroy"] });
    world.call(&root, "PUT", "/api/v1/grants/op", json!({ "grants": [reads, wipes] })).await.expect(200);
    let plan = world.call(&op, "POST", &path("test.wipe"), to_all("x")).await.expect(200).json();
    assert_eq!(plan["allowed"], false, "a command is accepted whole or not at all");
    assert_eq!(grants(&plan), [("db-1", missing("destroy", "test.wipe", "us")), ("web-1", granted("destroy"))]);
    assert_eq!(plan["plans"].as_array().map(Vec::len), Some(1));
    let one = json!({ "args": { "text": "x" }, "target": { "agents": ["web-1"] } });
    assert_eq!(world.call(&op, "POST", &path("test.wipe"), one).await.expect(200).json()["allowed"], true);
}

#[tokio::test]
async fn who_is_out_is_told_with_the_reason() {
    let world = World::new().await;
    let (root, op) = (world.login("root").await, world.login("op").await);
    world.call(&root, "PATCH", "/api/v1/agents/db-1", json!({ "maintenance": true })).await.expect(200);
    let plan = world.call(&op, "POST", &path("test.echo"), to_all("hi")).await.expect(200).json();
    assert_eq!(grants(&plan), [("web-1", granted("read"))]);
    let why = "in maintenance; name it to include it";
    assert_eq!(plan["excluded"], json!([{ "agent": world.db.to_string(), "agent_name": "db-1", "why": why }]));
    // Of a target that is nobody there is no plan.
    let nobody = json!({ "target": { "sites": ["us"] } });
    let refused = world.call(&op, "POST", &path("test.echo"), nobody).await.refused(422, "no_target").json();
    assert_eq!(refused["errors"][0]["message"], format!("`db-1` is out: {why}"));
}

#[tokio::test]
async fn who_may_not_run_commands_is_refused_and_agents_out_of_sight_are_not_there() {
    let world = World::new().await;
    let (eye, eu) = (world.login("eye").await, world.login("eu").await);
    world.call(&eye, "POST", &path("test.echo"), to_all("hi")).await.refused(403, "forbidden");
    world.call("", "POST", &path("test.echo"), to_all("hi")).await.refused(401, "unauthenticated");
    for verb in ["test.echo", "test.wipe"] {
        let reply = world.call(&eu, "POST", &path(verb), to_all("hi")).await.expect(200);
        assert_eq!(grants(&reply.json()).iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["web-1"]);
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        assert!(!text.contains("db-1") && !text.contains(&world.db.to_string()) && !text.contains("`us`"), "{text}");
    }
    // By its name it is told of in the words for what is not there.
    let mut said = Vec::new();
    for name in ["db-1", "no-1"] {
        let body = json!({ "target": { "agents": ["web-1", name] } });
        let refused = world.call(&eu, "POST", &path("test.wipe"), body).await.refused(422, "no_target").json();
        said.push(json!([refused["detail"], refused["errors"]]).to_string().replace(name, "NAME"));
    }
    assert_eq!(said[0], said[1]);
}
