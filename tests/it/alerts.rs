//! Alerts from end to end: a rule in the folder, a real agent, what is told, and what people answer.

use reqwest::Method;
use serde_json::{Value, json};
use tests::cli::Cli;
use tests::client::Api;
use tests::events::Events;
use tests::host::TestHost;
use tests::machine::TestAgent;
use tests::programs::plugin;
use tests::store::Store;
use tests::wait::until;

tests::on_both_stores![
    what_a_rule_finds_is_told_taken_and_over_when_it_is_well,
    an_agent_that_is_gone_is_told_of_unless_it_is_silenced,
];

/// A host with a rule of ours under this configuration, whose agents say how they are every second.
async fn host_with(store: Store, rule: &str, config: &str) -> (TestHost, Api) {
    // Built first, for it takes longer than a host keeps a connection that says nothing.
    let built = plugin(rule);
    let mut host = TestHost::new_on(store);
    host.set_sections("[telemetry]\ninterval_ms = 1000\n\n[agent_management]\nheartbeat_ms = 1000\n");
    host.launch().await;
    let admin = host.admin().await;
    configure(&host, rule, config);
    host.install(&format!("{rule}.wasm"), built);
    host.serves_plugin(&admin, rule).await;
    (host, admin)
}

fn configure(host: &TestHost, rule: &str, config: &str) {
    host.install(&format!("{rule}.toml"), format!("[config]\n{config}\n").as_bytes());
}

/// The only alert, when it looks as it should.
async fn alert(api: &Api, query: &str, fits: impl Fn(&Value) -> bool) -> Value {
    until("an alert", async || {
        let page = api.get(&format!("/api/v1/alerts{query}")).await.expect(200);
        let items = page["items"].as_array().expect("a list").clone();
        assert!(items.len() <= 1, "{items:#?}");
        items.into_iter().find(&fits)
    })
    .await
}

/// Alerts in the order they are told of.
async fn told(events: &mut Events, what: &str) -> Value {
    loop {
        let event = events.next().await.expect("the stream goes on");
        if event.name == "alert" {
            assert_eq!(event.data["what"], what, "{event:#?}");
            return event.data;
        }
    }
}

async fn what_a_rule_finds_is_told_taken_and_over_when_it_is_well(store: Store) {
    let (host, admin) = host_with(store, "memory", "warning = 0.0\ncritical = 100.0\nfor_s = 0").await;
    let request = admin.request(Method::GET, "/api/v1/events");
    let mut events = Events::of(request.send().await.expect("an answer"));
    let _agent = TestAgent::start(&host, &admin, "web-1").await;

    let fired = told(&mut events, "fired").await;
    assert_eq!((&fired["state"], &fired["agent_name"]), (&json!("firing"), &json!("web-1")), "{fired:#}");
    let firing = alert(&admin, "", |alert| alert["state"] == "firing").await;
    assert_eq!((&firing["id"], &firing["rule"]), (&fired["alert"], &json!("memory")), "{firing:#}");
    assert!(firing["message"].as_str().is_some_and(|text| text.contains("memory")), "{firing:#}");
    let viewer = host.user(&admin, "vera", "viewer").await;
    let id = firing["id"].as_str().expect("an id").to_owned();
    let path = format!("/api/v1/alerts/{id}/ack");
    assert_eq!(viewer.post(&path, &json!({})).await.status, 403);

    let cli = Cli::login(&host).await;
    let listed = cli.run(&["alert", "list"]).await;
    assert!(listed.stdout.contains("web-1") && listed.stdout.contains("firing"), "{listed:?}");
    let taken = cli.run(&["alert", "ack", &id, "--note", "on it", "-o", "json"]).await.json();
    assert_eq!((&taken["state"], &taken["owner"]["note"]), (&json!("acknowledged"), &json!("on it")), "{taken:#}");
    assert_eq!(told(&mut events, "acknowledged").await["alert"], json!(id));

    let tried =
        ["alert", "backtest", "memory", "--since", "1h", "--config", r#"{"warning": 0, "for_s": 0}"#, "-o", "json"];
    let tried = cli.run(&tried).await.json();
    assert_eq!((&tried["fired"], &tried["agents"]), (&json!(1), &json!(1)), "{tried:#}");
    assert!(tried["samples"].as_u64().is_some_and(|samples| samples > 0), "{tried:#}");
    let tried = cli.run(&["alert", "backtest", "memory", "--config", r#"{"warning": "much"}"#]).await;
    assert!(tried.code == Some(2) && tried.stderr.contains("/config/warning"), "{tried:?}");

    // Another configuration is another version of the rule; what it remembers of the agent goes on.
    configure(&host, "memory", "warning = 100.0\ncritical = 100.0\nfor_s = 0\nclear_by = 0.0");
    assert_eq!(told(&mut events, "resolved").await["alert"], json!(id));
    assert!(admin.get("/api/v1/alerts").await.expect(200)["items"].as_array().is_some_and(Vec::is_empty));
    let over = admin.get(&format!("/api/v1/alerts/{id}")).await.expect(200);
    let lines: Vec<&Value> = over["timeline"].as_array().expect("lines").iter().map(|line| &line["what"]).collect();
    assert_eq!(lines, ["resolved", "acknowledged", "fired"]);
    assert_eq!(admin.post(&path, &json!({})).await.code(), "alert_state");
    let actions = admin.get("/api/v1/audit?action=alerts.acknowledge").await.expect(200);
    assert_eq!(actions["items"].as_array().map(Vec::len), Some(1));
}

async fn an_agent_that_is_gone_is_told_of_unless_it_is_silenced(store: Store) {
    let (host, admin) = host_with(store, "agent_offline", "warning_after_s = 0\ncritical_after_s = 86400").await;
    let mut agent = TestAgent::start(&host, &admin, "web-1").await;
    let cli = Cli::login(&host).await;
    let silence = cli.run(&["alert", "silence", "--for", "1h", "--rule", "agent_offline", "-o", "json"]).await.json();
    agent.kill9();
    agent.seen(&admin, "offline").await;
    let muted = alert(&admin, "", |alert| alert["state"] == "firing").await;
    assert_eq!((&muted["muted"], &muted["severity"]), (&json!("silence"), &json!("warning")), "{muted:#}");

    let id = silence["id"].as_str().expect("an id");
    assert_eq!(cli.run(&["alert", "unsilence", id]).await.code, Some(0));
    alert(&admin, "", |alert| alert["muted"].is_null()).await;
    agent.run();
    agent.seen(&admin, "online").await;
    let over = alert(&admin, "?state=resolved", |_| true).await;
    assert_eq!(over["id"], muted["id"]);
}
