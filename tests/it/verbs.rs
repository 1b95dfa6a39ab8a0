//! What verbs say of themselves at a real host, held against what the host makes of it.

use serde_json::{Value, json};
use tests::host::TestHost;
use tests::played::Played;

/// Plugins with verbs.
const PLUGINS: [&str; 3] = ["exec", "docker", "compose"];

#[tokio::test]
async fn every_example_of_every_verb_is_shown_and_plans() {
    let host = TestHost::start().await;
    let admin = host.admin().await;
    for plugin in PLUGINS {
        host.put_plugin(plugin).await;
        host.serves_plugin(&admin, plugin).await;
    }
    Played::away(&host, &admin, "box", |facts| {
        facts.capabilities = vec!["exec".into(), "docker".into(), "compose".into()];
        facts.container_engine = Some("docker 28.2.2".into());
        facts.compose = Some("v2 2.36.2".into());
    })
    .await;
    let list = admin.get("/api/v1/verbs?limit=500").await.expect(200);
    let verbs = list["items"].as_array().expect("verbs");
    for plugin in PLUGINS {
        assert!(verbs.iter().any(|verb| verb["plugin"] == plugin), "{plugin} has a verb");
    }
    for listed in verbs {
        let name = listed["name"].as_str().expect("a name");
        let shown = admin.get(&format!("/api/v1/verbs/{name}")).await.expect(200);
        assert_eq!(&shown, listed, "{name}");
        let examples = shown["examples"].as_array().expect("examples");
        assert!(!examples.is_empty(), "{name} has no example");
        for args in examples {
            let body = json!({ "args": args, "target": { "agents": ["box"] } });
            let plan = admin.post(&format!("/api/v1/verbs/{name}/plan"), &body).await;
            assert_eq!(plan.status, 200, "{name} with {args}: {}", plan.json);
            let steps = plan.json["plans"][0]["plan"]["steps"].as_array().map(Vec::len);
            assert!(steps.is_some_and(|steps| steps > 0), "{name} with {args}: {}", plan.json);
            let grant = &plan.json["targets"][0]["grant"];
            assert_eq!((&grant["allowed"], &grant["reason"]), (&json!(true), &Value::Null), "{name}: an admin may");
        }
    }
}
