//! Our rules in a real host's folder: they serve without anybody's consent, as they ask for nothing, and give no verb.

use serde_json::json;
use tests::host::TestHost;
use tests::programs::plugin;

const OURS: [&str; 5] = ["agent_offline", "container_health", "cpu", "disk", "memory"];

#[tokio::test]
async fn rules_stand_beside_verbs_with_their_kind_and_an_operators_file_that_fits_none_of_them_is_told() {
    let host = TestHost::start().await;
    let admin = host.admin().await;
    for name in OURS {
        host.install(&format!("{name}.wasm"), plugin(name));
        host.serves_plugin(&admin, name).await;
        let shown = admin.get(&format!("/api/v1/plugins/{name}")).await.json;
        assert_eq!((&shown["kind"], &shown["state"]), (&json!("rule"), &json!("active")), "{shown:#}");
        assert_eq!((&shown["verbs"], &shown["grant"]["programs"]), (&json!([]), &json!([])), "{shown:#}");
    }
    let verbs = admin.get("/api/v1/verbs").await.json;
    let providers = verbs["items"].as_array().expect("a list").iter().map(|verb| verb["plugin"].clone());
    assert!(providers.clone().count() > 0 && providers.clone().all(|name| !OURS.iter().any(|ours| name == *ours)));

    host.install("disk.toml", b"[config]\nwarning = 300.0\n");
    let plugin = host.plugin_refused(&admin, "disk", Some("config_invalid")).await;
    assert_eq!(plugin["state"], "active", "{plugin:#}");
    assert!(plugin["refusal"]["cause"].as_str().is_some_and(|cause| cause.contains("disk.toml:2")), "{plugin:#}");
}
