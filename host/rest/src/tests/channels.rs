//! Channels: changed where they stand, with what is secret of them kept and not shown.

use serde_json::{Value, json};

use super::world::World;

const CHANNELS: &str = "/api/v1/notification-channels";

#[tokio::test]
async fn a_change_keeps_what_it_does_not_say_and_shows_no_secret_but_a_new_one() {
    let world = World::new().await;
    let root = world.login("root").await;
    let made = json!({
        "name": "ops", "url": "https://hooks.example.org/T0/secret", "matcher": { "sites": ["eu"] }, "template": "{{ count }}",
    });
    let made = world.call(&root, "POST", CHANNELS, made).await.expect(201).json();
    let secret = made["secret"].as_str().expect("it is shown once").to_owned();
    let path = format!("{CHANNELS}/ops");
    let change = async |body: Value| world.call(&root, "PATCH", &path, body).await;

    let kept = change(json!({ "per_minute": 30, "at_least": "critical" })).await.expect(200).json();
    assert_eq!(
        (&kept["per_minute"], &kept["at_least"], &kept["secret"]),
        (&json!(30), &json!("critical"), &Value::Null)
    );
    for as_it_was in ["id", "name", "url", "matcher", "template", "created_at"] {
        assert_eq!(kept[as_it_was], made[as_it_was], "{as_it_was}");
    }
    let stored = async || ports::channels::Channels::channels(&world.store).await.expect("read").remove(0);
    let address = async || {
        let one = stored().await;
        let key = serde_json::from_str(&one.secret).expect("this world's drawer has no lock");
        services::address::open(&key, one.id, &one.settings.url).expect("sealed with the channel's key")
    };
    let sealed = stored().await.secret;
    assert!(!stored().await.settings.url.contains("secret"));
    assert_eq!(address().await, "https://hooks.example.org/T0/secret", "it is kept, though it is not shown");

    let plain =
        change(json!({ "template": "", "matcher": {}, "url": "https://other.example.org/x" })).await.expect(200).json();
    assert_eq!((&plain["template"], &plain["matcher"]), (&Value::Null, &json!({})), "{plain:#}");
    assert_eq!((plain["url"].as_str(), stored().await.secret), (Some("https://other.example.org/…"), sealed.clone()));

    let turned = change(json!({ "new_secret": true })).await.expect(200).json();
    let other = turned["secret"].as_str().expect("another is shown once");
    assert!(other.starts_with("whsec_") && other != secret, "{other}");
    assert_ne!(stored().await.secret, sealed);
    assert_eq!(address().await, "https://other.example.org/x", "the address is sealed with the new secret");
    assert_eq!(world.get(&root, &path).await.expect(200).json()["secret"], Value::Null);
}

#[tokio::test]
async fn what_a_channel_cannot_be_it_does_not_become() {
    let world = World::new().await;
    let root = world.login("root").await;
    let made = json!({ "name": "chat", "kind": "slack", "url": "https://hooks.example.org/T0/secret" });
    world.call(&root, "POST", CHANNELS, made).await.expect(201);
    let path = format!("{CHANNELS}/chat");
    let before = world.get(&root, &path).await.expect(200).json();
    for (body, pointer) in [
        (json!({ "per_minute": 0 }), "/per_minute"),
        (json!({ "at_least": "sad" }), "/at_least"),
        (json!({ "template": "{% for" }), "/template"),
        (json!({ "matcher": { "at_most": "sad" } }), "/matcher/at_most"),
        (json!({ "new_secret": true }), "/new_secret"),
    ] {
        let refused = world.call(&root, "PATCH", &path, body).await.refused(422, "invalid_body").json();
        assert_eq!(refused["errors"][0]["pointer"], pointer, "{refused:#}");
    }
    for fixed in [json!({ "name": "x" }), json!({ "kind": "webhook" })] {
        world.call(&root, "PATCH", &path, fixed).await.refused(422, "unknown_field");
    }
    assert_eq!(world.get(&root, &path).await.expect(200).json(), before);
    world.call(&root, "PATCH", &format!("{CHANNELS}/nobody"), json!({})).await.refused(404, "not_found");
}
