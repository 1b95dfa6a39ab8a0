//! Plugins that mean harm, dropped into a real host's folder: refused with cause and cure, or ended while they
//! run. The other verbs and the machines notice nothing.

use domain::attempt::State;
use serde_json::{Value, json};
use tests::client::{Api, state_of};
use tests::host::TestHost;
use tests::machine::TestAgent;
use tests::store::Store;

use crate::guest::{GROW, Guest, LOOP, TRAP};

tests::on_both_stores![
    a_plugin_that_reaches_out_lies_loops_or_eats_memory_is_refused_with_cause_and_cure,
    a_plugin_that_goes_wild_after_it_was_let_in_fails_its_own_calls_alone,
];

async fn assert_serves(admin: &Api) {
    let id = admin.exec("web-1", &json!({ "program": "echo", "args": ["alive"] })).await;
    let invocation = admin.ended(&id, "web-1").await;
    assert_eq!(state_of(&invocation), State::Succeeded, "{invocation:#}");
}

async fn a_plugin_that_reaches_out_lies_loops_or_eats_memory_is_refused_with_cause_and_cure(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let _agent = TestAgent::start(&host, &admin, "web-1").await;

    let honest = |name: &str| Guest::new(name, "1.0.0");
    let mut harmless = honest("liar").manifest;
    harmless["verbs"][0]["summary"] = json!("Harmless, surely.");
    let mut greedy = honest("greedy").manifest;
    greedy["verbs"][0]["args_schema"]["properties"]["x"] = json!({ "$ref": "https://example.com/schema" });
    for (guest, gate, code, told) in [
        (Guest { import: Some("get-environment"), ..honest("reacher") }, 2, "forbidden_import", "get-environment"),
        (Guest { stamped: false, ..honest("nameless") }, 3, "no_manifest", ""),
        (Guest { manifest: greedy, ..honest("greedy") }, 5, "schema_remote_ref", "example.com"),
        (Guest { stamp: Some(harmless.to_string().into_bytes()), ..honest("liar") }, 7, "describe_differs", "summary"),
        (Guest { describe: LOOP.into(), ..honest("looper") }, 7, "describe_failed", "250 ms"),
        (Guest { describe: GROW.into(), ..honest("eater") }, 7, "describe_failed", "16 MiB"),
        (Guest { program: "rm", ..honest("grabber") }, 8, "example_grant", "rm"),
    ] {
        let name = guest.manifest["name"].as_str().expect("a name").to_owned();
        host.install(&format!("{name}.wasm"), &guest.build());
        let plugin = host.plugin_refused(&admin, &name, Some(code)).await;
        let refusal = &plugin["refusal"];
        assert_eq!((&plugin["state"], &refusal["gate"]), (&json!("refused"), &json!(gate)), "{plugin:#}");
        let text = |field: &str| refusal[field].as_str().unwrap_or_default();
        assert!(text("cause").contains(told) && !text("cure").is_empty(), "{refusal:#}");
        assert!(host.log().contains(code), "{code} is in the log");
        let verb = admin.get(&format!("/api/v1/verbs/{name}.run")).await;
        assert_eq!((verb.status, verb.code()), (404, "not_found"), "{name} gives nobody a verb");
        assert_serves(&admin).await;
    }
}

async fn a_plugin_that_goes_wild_after_it_was_let_in_fails_its_own_calls_alone(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let _agent = TestAgent::start(&host, &admin, "web-1").await;

    let call =
        |name: &str, args: Value| json!({ "verb": format!("{name}.run"), "args": args, "target": { "all": true } });
    for (name, body, told) in [("looper", LOOP, "10 ms"), ("eater", GROW, "16 MiB"), ("trapper", TRAP, "unreachable")] {
        let guest = Guest { plan: body.into(), ..Guest::new(name, "1.0.0") };
        host.install(&format!("{name}.wasm"), &guest.build());
        host.serves_plugin(&admin, name).await;
        let answer = admin.post("/api/v1/commands", &call(name, json!({ "mode": 1 }))).await;
        assert_eq!((answer.status, answer.code()), (422, "plugin_failed"), "{:#}", answer.json);
        let detail = answer.json["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(name) && host.log().contains(told), "{detail}: the log says {told}");
        assert_serves(&admin).await;
        // The very same plugin, asked for what it can do.
        let id = admin.submit(&call(name, json!({}))).await;
        assert_eq!(state_of(&admin.ended(&id, "web-1").await), State::Succeeded);
    }

    // What it cannot read is not lost.
    let guest = Guest { interpret: LOOP.into(), ..Guest::new("blind", "1.0.0") };
    host.install("blind.wasm", &guest.build());
    host.serves_plugin(&admin, "blind").await;
    let id = admin.submit(&call("blind", json!({ "mode": 1 }))).await;
    let invocation = admin.ended(&id, "web-1").await;
    assert_eq!((state_of(&invocation), &invocation["parsed"]), (State::Succeeded, &json!(false)), "{invocation:#}");
    assert_eq!((&invocation["stdout"], &invocation["exit_code"]), (&json!("hi\n"), &json!(0)), "{invocation:#}");
}
