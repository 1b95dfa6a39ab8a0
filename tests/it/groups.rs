//! Saved groups, from their making to their end, with real agents.

use reqwest::Method;
use serde_json::{Value, json};
use tests::client::{Api, exec_body};
use tests::gate::Gated;
use tests::host::TestHost;
use tests::machine::TestAgent;
use tests::store::Store;
use tests::wait::until;

tests::on_both_stores![a_command_keeps_the_agents_its_group_meant_whatever_becomes_of_the_group];

fn on_group(args: &Value) -> Value {
    let mut body = exec_body("nobody", args);
    body["target"] = json!({ "expr": "@web" });
    body
}

fn names(accepted: &Value) -> Vec<&str> {
    let targets = accepted["targets"].as_array().expect("targets");
    targets.iter().map(|one| one["agent_name"].as_str().expect("a name")).collect()
}

async fn change(api: &Api, method: Method, body: &Value) -> u16 {
    let request = api.request(method, "/api/v1/groups/web").header("content-type", "application/json");
    api.send(request.body(body.to_string())).await.status
}

async fn a_command_keeps_the_agents_its_group_meant_whatever_becomes_of_the_group(store: Store) {
    let mut host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let mut agents = Vec::new();
    for name in ["web-1", "web-2", "db-1"] {
        agents.push(TestAgent::start(&host, &admin, name).await);
    }
    let group = json!({ "name": "web", "expr": "agent = web-*" });
    admin.post("/api/v1/groups", &group).await.expect(201);
    let request = admin.request(Method::PATCH, "/api/v1/agents/web-2").header("content-type", "application/json");
    admin.send(request.body(json!({ "maintenance": true }).to_string())).await.expect(200);

    let mut gated = Gated::new();
    let accepted = admin.post("/api/v1/commands", &on_group(&gated.args())).await.expect(202);
    assert_eq!((names(&accepted), &accepted["targets"][0]["groups"]), (vec!["web-1"], &json!(["web"])));
    let out = &accepted["excluded"][0];
    assert_eq!(out["agent_name"], "web-2");
    assert_eq!(out["why"], "in group `web`, but in maintenance; name it to include it");
    gated.started().await;

    // Another meaning, and then none: what was accepted stays as it was, through a restart too.
    assert_eq!(change(&admin, Method::PATCH, &json!({ "expr": "agent = db-1" })).await, 200);
    let other = json!({ "program": "sh", "args": ["-c", "true"] });
    let later = admin.post("/api/v1/commands", &on_group(&other)).await.expect(202);
    assert_eq!(names(&later), ["db-1"]);
    assert_eq!(change(&admin, Method::DELETE, &json!({})).await, 204);
    host.kill9();
    host.launch().await;
    let admin = host.admin().await;
    let refused = admin.post("/api/v1/commands", &on_group(&other)).await;
    assert_eq!((refused.status, refused.code()), (422, "unknown_group"));
    gated.open();
    let id = accepted["id"].as_str().expect("an id");
    let done = until("it ends", async || {
        let now = admin.command(id).await;
        (now["status"] == "succeeded").then_some(now)
    })
    .await;
    assert_eq!(done["counts"], json!({ "succeeded": 1 }));
    assert_eq!(done["target"], json!({ "expr": "@web", "groups": { "web": "agent = web-*" } }));
    let audit = admin.get("/api/v1/audit?limit=50").await.expect(200);
    let entries = audit["items"].as_array().expect("items").iter().filter_map(|one| one["action"].as_str());
    let of_groups: Vec<&str> = entries.filter(|action| action.starts_with("groups.")).collect();
    assert_eq!(of_groups, ["groups.delete", "groups.change", "groups.create"]);
}
