//! Keys with which programs come: made, used, narrowed, revoked.

use std::time::Duration;

use ports::api_keys::ApiKeys;
use serde_json::{Value, json};

use super::world::{PASSWORD, World};

const KEYS: &str = "/api/v1/api-keys";

/// Makes a key; its text and id.
async fn make(world: &World, token: &str, body: Value) -> (String, String) {
    let made = world.call(token, "POST", KEYS, body).await.expect(201);
    let location = made.headers["location"].to_str().expect("text").to_owned();
    let made = made.json();
    let text = |name: &str| made[name].as_str().expect(name).to_owned();
    assert_eq!(location, format!("{KEYS}/{}", text("id")));
    (text("key"), text("id"))
}

#[tokio::test]
async fn a_key_is_shown_once_works_as_its_owner_and_is_on_record() {
    let world = World::new().await;
    let op = world.login("op").await;
    let (key, id) = make(&world, &op, json!({ "name": "ci" })).await;
    assert!(key.starts_with("vwk_") && key.len() == 47, "{key}");
    let me = world.get(&key, "/api/v1/me").await.expect(200).json();
    assert_eq!((&me["kind"], &me["name"], &me["role"]), (&json!("api_key"), &json!("op"), &json!("operator")));
    assert_eq!((&me["api_key"], &me["within"]), (&json!(id), &json!(null)));
    let command = world.submit(&key).await;
    let shown = world.get(&op, &format!("/api/v1/commands/{command}")).await.expect(200).json();
    assert_eq!(shown["submitter"], "op");

    let list = world.get(&op, KEYS).await.expect(200);
    assert!(!String::from_utf8_lossy(&list.body).contains(&key[4..]), "never again");
    let item = &list.json()["items"][0];
    assert_eq!((&item["name"], &item["user_name"], &item["revoked_at"]), (&json!("ci"), &json!("op"), &json!(null)));
    assert_eq!(item["last_used_at"], json!(null));
    world.keys.write_uses().await.expect("written");
    let item = &world.get(&op, KEYS).await.expect(200).json()["items"][0];
    assert_eq!(item["last_used_at"], "2023-11-14T22:13:20.000000Z");
    assert!(world.audited().await.contains(&"auth.create_api_key"));
}

#[tokio::test]
async fn a_key_that_is_revoked_expired_or_without_an_owner_is_nobody() {
    let world = World::new().await;
    let (op, root) = (world.login("op").await, world.login("root").await);
    let (revoked, id) = make(&world, &op, json!({})).await;
    let (short, _) = make(&world, &op, json!({ "ttl_s": 60 })).await;
    let (orphan, _) = make(&world, &op, json!({})).await;
    for key in [&revoked, &short, &orphan] {
        world.get(key, "/api/v1/me").await.expect(200);
    }
    world.call(&op, "DELETE", &format!("{KEYS}/{id}"), json!({})).await.expect(204);
    world.get(&revoked, "/api/v1/me").await.refused(401, "invalid_token");
    world.call(&op, "DELETE", &format!("{KEYS}/{id}"), json!({})).await.expect(204);
    world.clock.forward(Duration::from_secs(59));
    world.get(&short, "/api/v1/me").await.expect(200);
    world.clock.forward(Duration::from_secs(1));
    world.get(&short, "/api/v1/me").await.refused(401, "invalid_token");
    world.call(&root, "DELETE", "/api/v1/users/op", json!({})).await.expect(204);
    world.get(&orphan, "/api/v1/me").await.refused(401, "invalid_token");
    for almost in ["vwk_", &orphan[..46], &format!("{orphan}x"), &orphan.to_uppercase()] {
        world.get(almost, "/api/v1/me").await.refused(401, "invalid_token");
    }
}

#[tokio::test]
async fn another_hosts_word_about_a_key_is_heard_within_two_seconds() {
    let world = World::new().await;
    let op = world.login("op").await;
    let (key, id) = make(&world, &op, json!({})).await;
    world.get(&key, "/api/v1/me").await.expect(200);
    let entry = services::origin::Origin::default().entry(ports::clock::Clock::now(&*world.clock), "auth.test", None);
    assert_eq!(world.store.revoke_key(id.parse().expect("an id"), entry).await, Ok(true));
    world.clock.forward(Duration::from_secs(2));
    world.get(&key, "/api/v1/me").await.refused(401, "invalid_token");
}

#[tokio::test]
async fn a_key_does_less_than_its_owner_when_it_says_so_and_never_more() {
    let world = World::new().await;
    let (op, root) = (world.login("op").await, world.login("root").await);
    let eu = json!([{ "sites": ["eu"], "verbs": ["*"], "effects": ["read"] }]);
    let (narrow, _) = make(&world, &op, json!({ "grants": eu })).await;
    let agents = world.get(&narrow, "/api/v1/agents").await.expect(200).json();
    assert_eq!(agents["items"].as_array().map(Vec::len), Some(1), "{agents}");
    world.get(&narrow, "/api/v1/agents/db-1").await.refused(404, "not_found");
    let me = world.get(&narrow, "/api/v1/me").await.expect(200).json();
    assert_eq!(me["within"], eu);

    let (viewer, _) = make(&world, &op, json!({ "role": "viewer" })).await;
    let body = json!({ "verb": "test.echo", "args": {}, "target": { "all": true } });
    world.call(&viewer, "POST", "/api/v1/commands", body.clone()).await.refused(403, "forbidden");
    world.call(&op, "POST", KEYS, json!({ "role": "admin" })).await.refused(422, "invalid_body");

    // An admin's lesser key has what an ordinary user has, unless more is said.
    let (lesser, _) = make(&world, &root, json!({ "role": "operator" })).await;
    let wipe = json!({ "verb": "test.wipe", "args": {}, "target": { "all": true } });
    world.call(&lesser, "POST", "/api/v1/commands", body).await.expect(202);
    world.call(&lesser, "POST", "/api/v1/commands", wipe.clone()).await.refused(403, "effect_not_granted");
    let all = json!([{ "sites": ["*"], "verbs": ["test.wipe"], "effects": ["destroy"] }]);
    let (told, _) = make(&world, &root, json!({ "role": "operator", "grants": all })).await;
    world.call(&told, "POST", "/api/v1/commands", wipe.clone()).await.expect(202);

    // What its owner loses, it loses.
    let (wide, _) = make(&world, &op, json!({ "grants": all })).await;
    world.call(&wide, "POST", "/api/v1/commands", wipe).await.refused(403, "effect_not_granted");
    world.call(&root, "PATCH", "/api/v1/users/op", json!({ "role": "viewer" })).await.expect(200);
    let me = world.get(&wide, "/api/v1/me").await.expect(200).json();
    assert_eq!(me["role"], "viewer");
}

#[tokio::test]
async fn everybody_sees_their_own_keys_and_an_admin_all() {
    let world = World::new().await;
    let (op, eye, root) = (world.login("op").await, world.login("eye").await, world.login("root").await);
    let (_, ops) = make(&world, &op, json!({})).await;
    let (eyes_key, eyes) = make(&world, &eye, json!({})).await;
    let ids = async |token: &str| -> Vec<String> {
        let list = world.get(token, KEYS).await.expect(200).json();
        let items = list["items"].as_array().expect("items").clone();
        items.iter().map(|item| item["id"].as_str().expect("an id").to_owned()).collect()
    };
    assert_eq!(ids(&op).await, [ops.as_str()]);
    assert_eq!(ids(&eyes_key).await, [eyes.as_str()]);
    assert_eq!(ids(&root).await, [eyes.as_str(), ops.as_str()]);
    world.call(&eye, "DELETE", &format!("{KEYS}/{ops}"), json!({})).await.refused(404, "not_found");
    world.call(&eyes_key, "DELETE", &format!("{KEYS}/{eyes}"), json!({})).await.expect(204);
    world.get(&eyes_key, "/api/v1/me").await.refused(401, "invalid_token");
    world.call(&root, "DELETE", &format!("{KEYS}/{ops}"), json!({})).await.expect(204);
    world.call(&root, "DELETE", &format!("{KEYS}/nothing"), json!({})).await.refused(404, "not_found");
}

#[tokio::test]
async fn an_admins_key_makes_no_user_and_changes_nobodys_password() {
    let world = World::new().await;
    let root = world.login("root").await;
    let (key, _) = make(&world, &root, json!({})).await;
    let user = json!({ "name": "mallory", "password": "a long enough one", "role": "admin" });
    for (method, path, body) in [
        ("POST", "/api/v1/users", user),
        ("PATCH", "/api/v1/users/op", json!({ "role": "admin" })),
        ("PATCH", "/api/v1/users/root", json!({ "password": "a long enough one" })),
        ("PUT", "/api/v1/grants/op", json!({ "grants": [] })),
        ("DELETE", "/api/v1/users/op", json!({})),
    ] {
        let refused = world.call(&key, method, path, body).await.refused(403, "forbidden").json();
        assert_eq!(refused["detail"], "manage_users takes somebody who logged in, not a key");
    }
    world.get(&key, "/api/v1/audit").await.expect(200);
}

#[tokio::test]
async fn an_admins_key_that_is_held_to_a_site_reaches_no_other() {
    let world = World::new().await;
    let root = world.login("root").await;
    let eu = json!([{ "sites": ["eu"], "verbs": ["*"], "effects": ["read"] }]);
    let (key, _) = make(&world, &root, json!({ "grants": eu })).await;
    let refused = world.get(&key, "/api/v1/audit").await.refused(403, "forbidden").json();
    assert_eq!(refused["detail"], "read_audit reaches every site, and you are held to some of them");
    let tokens = "/api/v1/join-tokens";
    let refused = world.call(&key, "POST", tokens, json!({ "site": "us" })).await.refused(422, "invalid_body").json();
    assert_eq!(refused["errors"][0]["pointer"], "/site");
    let us = world.call(&root, "POST", tokens, json!({ "site": "us" })).await.expect(201).json();
    let ours = world.call(&key, "POST", tokens, json!({ "site": "eu" })).await.expect(201).json();
    let list = world.get(&key, tokens).await.expect(200).json();
    let items = list["items"].as_array().expect("items");
    assert!(
        items.iter().any(|item| item["id"] == ours["id"]) && items.iter().all(|item| item["site"] == "eu"),
        "{list}"
    );
    let revoke = async |made: &serde_json::Value| {
        let path = format!("{tokens}/{}", made["id"].as_str().expect("an id"));
        world.call(&key, "DELETE", &path, json!({})).await
    };
    revoke(&us).await.refused(404, "not_found");
    revoke(&ours).await.expect(204);
}

#[tokio::test]
async fn a_key_makes_no_keys_and_changes_no_password() {
    let world = World::new().await;
    let root = world.login("root").await;
    let (key, _) = make(&world, &root, json!({})).await;
    let password = json!({ "current": PASSWORD, "new": "a new password" });
    let logout = json!({ "refresh_token": "vwr_x" });
    for (path, body) in [(KEYS, json!({})), ("/api/v1/me/password", password), ("/api/v1/auth/logout", logout)] {
        let refused = world.call(&key, "POST", path, body).await.refused(403, "forbidden").json();
        assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("login")), "{refused}");
    }
    for (body, pointer) in [
        (json!({ "name": "" }), "/name"),
        (json!({ "name": "a\nb" }), "/name"),
        (json!({ "ttl_s": 59 }), "/ttl_s"),
        (json!({ "ttl_s": 31_622_401 }), "/ttl_s"),
        (json!({ "role": "root" }), "/role"),
        (json!({ "grants": [{ "sites": ["e u"], "verbs": [], "effects": [] }] }), "/grants/0/sites/0"),
    ] {
        let refused = world.call(&root, "POST", KEYS, body).await.refused(422, "invalid_body").json();
        assert_eq!(refused["errors"][0]["pointer"], pointer);
    }
}
