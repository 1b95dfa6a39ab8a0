//! What makes no sense is refused, and told where it is wrong and what would be right.

use serde_json::{Value, json};

use super::world::World;

#[tokio::test]
async fn a_silence_that_makes_no_sense_is_refused_where_it_is_wrong() {
    let world = World::new().await;
    let op = world.login("op").await;
    let cpu = json!({ "rules": ["cpu"] });
    let long = "x".repeat(257);
    let many = vec!["a"; 501];
    for (body, pointer) in [
        (json!({}), "/matcher"),
        (json!({ "matcher": {}, "for_s": 60 }), "/matcher"),
        (json!({ "matcher": cpu }), "/until"),
        (json!({ "matcher": cpu, "for_s": 60, "until": "2027-01-01T00:00:00Z" }), "/until"),
        (json!({ "matcher": cpu, "for_s": 0 }), "/for_s"),
        (json!({ "matcher": cpu, "for_s": 366 * 86_400 + 1 }), "/for_s"),
        (json!({ "matcher": cpu, "for_s": -1 }), "/for_s"),
        (json!({ "matcher": cpu, "until": "2001-01-01T00:00:00Z" }), "/until"),
        (json!({ "matcher": cpu, "until": "tomorrow" }), "/until"),
        (json!({ "matcher": { "rules": "cpu" }, "for_s": 60 }), "/matcher/rules"),
        (json!({ "matcher": { "rules": ["cpu", ""] }, "for_s": 60 }), "/matcher/rules/1"),
        (json!({ "matcher": { "agents": many }, "for_s": 60 }), "/matcher/agents"),
        (json!({ "matcher": { "sites": [long] }, "for_s": 60 }), "/matcher/sites/0"),
        (json!({ "matcher": { "labels": { "": "x" } }, "for_s": 60 }), "/matcher/labels"),
        (json!({ "matcher": { "key": "" }, "for_s": 60 }), "/matcher/key"),
        (json!({ "matcher": { "at_most": "awful" }, "for_s": 60 }), "/matcher/at_most"),
    ] {
        let refused =
            world.call(&op, "POST", "/api/v1/silences", body.clone()).await.refused(422, "invalid_body").json();
        assert_eq!(refused["errors"][0]["pointer"], pointer, "{body} {refused}");
    }
    let good = json!({ "matcher": { "rules": vec!["a"; 500], "key": "x".repeat(256) }, "for_s": 366 * 86_400 });
    world.call(&op, "POST", "/api/v1/silences", good).await.expect(201);
}

#[tokio::test]
async fn a_channels_address_has_an_end() {
    let world = World::new().await;
    let root = world.login("root").await;
    let body = |length: usize| {
        let url = "https://hooks.example.org/";
        json!({ "name": "ops", "url": format!("{url}{}", "y".repeat(length - url.len())) })
    };
    let refused = world.call(&root, "POST", "/api/v1/notification-channels", body(2049)).await;
    assert_eq!(refused.refused(422, "invalid_body").json()["errors"][0]["pointer"], "/url");
    world.call(&root, "POST", "/api/v1/notification-channels", body(2048)).await.expect(201);
}

#[tokio::test]
async fn ending_many_says_what_it_does_not_understand() {
    let world = World::new().await;
    let op = world.login("op").await;
    for (body, pointer) in [
        (json!({ "agent": "" }), Some("/agent")),
        (json!({ "site": [] }), Some("/site")),
        (json!({ "site": ["eu", ""] }), Some("/site")),
        (json!({ "status": ["succeeded"] }), Some("/status/0")),
        (json!({ "verb": "test.*" }), Some("/verb")),
        (json!({ "since": "x" }), Some("/since")),
        (json!({ "verb": "test.echo", "limit": 501 }), Some("/limit")),
        (json!({ "limit": 5 }), None),
    ] {
        let refused = world.call(&op, "POST", "/api/v1/commands/cancel", body.clone()).await;
        let refused = refused.refused(422, "invalid_body").json();
        assert_eq!(refused["errors"][0]["pointer"].as_str(), pointer, "{body} {refused}");
    }
}

#[tokio::test]
async fn a_parameter_that_cannot_be_is_named_also_when_nobody_is_meant() {
    let world = World::new().await;
    let op = world.login("op").await;
    for (path, pointer) in [
        ("alerts?rule=", "?rule"),
        ("alerts?agent=", "?agent"),
        ("alerts?agent=ghost&state=bad", "?state"),
        ("commands?agent=ghost&priority=bad", "?priority"),
        ("telemetry?label==x", "?label"),
        ("telemetry?metrics=nope", "?metrics"),
        ("telemetry/across?by=label.", "?by"),
        ("telemetry/trends?step=0", "?step"),
    ] {
        let refused = world.get(&op, &format!("/api/v1/{path}")).await.refused(400, "invalid_parameter").json();
        assert_eq!(refused["errors"][0]["pointer"], pointer, "{path}");
    }
    for path in ["alerts?agent=ghost", "commands?agent=ghost"] {
        let none = world.get(&op, &format!("/api/v1/{path}")).await.expect(200).json();
        assert_eq!(none, json!({ "items": [], "next_cursor": Value::Null }), "{path}");
    }
}
