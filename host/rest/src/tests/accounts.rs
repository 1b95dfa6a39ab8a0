//! Logging in and out, users, passwords.

use std::time::Duration;

use serde_json::json;

use super::world::{PASSWORD, World};

const LOGIN: &str = "/api/v1/auth/login";
const REFRESH: &str = "/api/v1/auth/refresh";

#[tokio::test]
async fn a_login_answers_tokens_that_work_and_is_on_record() {
    let world = World::new().await;
    let reply = world.call("", "POST", LOGIN, json!({ "name": "op", "password": PASSWORD })).await.expect(200).json();
    assert_eq!((&reply["token_type"], &reply["expires_in"]), (&json!("Bearer"), &json!(600)));
    assert!(reply["refresh_token"].as_str().expect("a token").starts_with("vwr_"));
    let me = world.get(reply["access_token"].as_str().expect("a token"), "/api/v1/me").await.expect(200).json();
    assert_eq!((&me["name"], &me["role"]), (&json!("op"), &json!("operator")));
    assert_eq!(me["grants"][0], json!({ "sites": ["*"], "verbs": ["*"], "effects": ["read", "change"] }));
    assert_eq!(me.get("password_hash"), None);
    assert_eq!(world.audited().await.last(), Some(&"auth.login"));
}

#[tokio::test]
async fn who_is_wrong_and_who_is_unknown_get_the_same_answer() {
    let world = World::new().await;
    let mut answers = Vec::new();
    for (name, password) in [("op", "wrong password"), ("nobody", PASSWORD), ("No Name\u{1b}", PASSWORD), ("", "")] {
        let reply = world.call("", "POST", LOGIN, json!({ "name": name, "password": password })).await;
        let mut problem = reply.refused(401, "login_refused").json();
        problem["instance"] = json!("same");
        answers.push(problem);
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
    let audited = world.audited().await;
    assert_eq!(audited.iter().filter(|action| **action == "auth.login_refused").count(), 4);
    let long = json!({ "name": "op", "password": "x".repeat(1025) });
    world.call("", "POST", LOGIN, long).await.refused(422, "invalid_body");
}

#[tokio::test]
async fn guessing_is_slowed_down_for_one_name_from_one_address() {
    let world = World::new().await;
    let wrong = json!({ "name": "op", "password": "wrong password" });
    for _ in 0..10 {
        world.call("", "POST", LOGIN, wrong.clone()).await.refused(401, "login_refused");
    }
    let reply = world.call("", "POST", LOGIN, wrong.clone()).await.refused(429, "rate_limited");
    assert_eq!(reply.headers["retry-after"], "7");
    let right = json!({ "name": "op", "password": PASSWORD });
    world.call("", "POST", LOGIN, right.clone()).await.refused(429, "rate_limited");
    world.login("root").await;
    world.clock.forward(Duration::from_secs(6));
    world.call("", "POST", LOGIN, right).await.expect(200);
}

#[tokio::test]
async fn a_refresh_token_is_good_once_and_its_second_use_ends_the_login() {
    let world = World::new().await;
    let first = world.call("", "POST", LOGIN, json!({ "name": "op", "password": PASSWORD })).await.expect(200).json();
    let body = |reply: &serde_json::Value| json!({ "refresh_token": reply["refresh_token"] });
    let second = world.call("", "POST", REFRESH, body(&first)).await.expect(200).json();
    assert_ne!(first["refresh_token"], second["refresh_token"]);
    let access = second["access_token"].as_str().expect("a token");
    world.get(access, "/api/v1/me").await.expect(200);
    world.clock.forward(Duration::from_secs(31));
    world.call("", "POST", REFRESH, body(&first)).await.refused(401, "login_refused");
    assert_eq!(world.audited().await.last(), Some(&"auth.refresh_reused"));
    world.call("", "POST", REFRESH, body(&second)).await.refused(401, "login_refused");
    world.get(access, "/api/v1/me").await.refused(401, "invalid_token");
    let access = json!({ "refresh_token": second["access_token"] });
    world.call("", "POST", REFRESH, access).await.refused(422, "invalid_body");
}

#[tokio::test]
async fn an_answer_to_a_refresh_that_was_lost_does_not_end_the_login() {
    let world = World::new().await;
    let first = world.call("", "POST", LOGIN, json!({ "name": "op", "password": PASSWORD })).await.expect(200).json();
    let body = |reply: &serde_json::Value| json!({ "refresh_token": reply["refresh_token"] });
    let lost = world.call("", "POST", REFRESH, body(&first)).await.expect(200).json();
    world.clock.forward(Duration::from_secs(30));
    let again = world.call("", "POST", REFRESH, body(&first)).await.expect(200).json();
    assert_ne!(lost["refresh_token"], again["refresh_token"]);
    world.get(again["access_token"].as_str().expect("a token"), "/api/v1/me").await.expect(200);
    let third = world.call("", "POST", REFRESH, body(&again)).await.expect(200).json();
    // Whoever comes with the lost one now is not who went on.
    world.call("", "POST", REFRESH, body(&lost)).await.refused(401, "login_refused");
    world.call("", "POST", REFRESH, body(&third)).await.refused(401, "login_refused");
}

#[tokio::test]
async fn a_refresh_token_is_no_access_token() {
    let world = World::new().await;
    let login = world.call("", "POST", LOGIN, json!({ "name": "op", "password": PASSWORD })).await.expect(200).json();
    let refresh = login["refresh_token"].as_str().expect("a token");
    world.get(refresh, "/api/v1/me").await.refused(401, "invalid_token");
}

#[tokio::test]
async fn logging_out_ends_both_tokens_and_no_other_login() {
    let mut world = World::new().await;
    let other = world.login("op").await;
    let login = world.call("", "POST", LOGIN, json!({ "name": "op", "password": PASSWORD })).await.expect(200).json();
    let token = login["access_token"].as_str().expect("a token");
    let body = json!({ "refresh_token": login["refresh_token"] });
    world.call(token, "POST", "/api/v1/auth/logout", body.clone()).await.expect(204);
    world.get(token, "/api/v1/me").await.refused(401, "invalid_token");
    world.call("", "POST", REFRESH, body).await.refused(401, "login_refused");
    world.get(&other, "/api/v1/me").await.expect(200);
    // It is written down: a host that starts now knows of it.
    world.restart();
    world.get(token, "/api/v1/me").await.refused(401, "invalid_token");
    world.get(&other, "/api/v1/me").await.expect(200);
}

#[tokio::test]
async fn a_token_is_over_when_its_time_is() {
    let world = World::new().await;
    let token = world.login("op").await;
    world.clock.forward(Duration::from_secs(629));
    world.get(&token, "/api/v1/me").await.expect(200);
    world.clock.forward(Duration::from_secs(1));
    let reply = world.get(&token, "/api/v1/me").await.refused(401, "token_expired");
    assert_eq!(reply.headers["www-authenticate"], "Bearer");
}

#[tokio::test]
async fn a_new_password_ends_every_token_of_before() {
    let world = World::new().await;
    let (one, two) = (world.login("op").await, world.login("op").await);
    let path = "/api/v1/me/password";
    let body = |current: &str, new: &str| json!({ "current": current, "new": new });
    world.call(&one, "POST", path, body("wrong password", "a new password")).await.refused(422, "wrong_password");
    world.call(&one, "POST", path, body(PASSWORD, "short")).await.refused(422, "invalid_body");
    world.call(&one, "POST", path, body(PASSWORD, "a new password")).await.expect(204);
    for token in [&one, &two] {
        world.get(token, "/api/v1/me").await.refused(401, "invalid_token");
    }
    let login = |password: &str| json!({ "name": "op", "password": password });
    world.call("", "POST", LOGIN, login(PASSWORD)).await.refused(401, "login_refused");
    world.call("", "POST", LOGIN, login("a new password")).await.expect(200);
}

#[tokio::test]
async fn an_admin_makes_and_deletes_users_but_never_the_last_admin() {
    let world = World::new().await;
    let root = world.login("root").await;
    let new = json!({ "name": "ada", "password": PASSWORD, "role": "viewer" });
    let reply = world.call(&root, "POST", "/api/v1/users", new.clone()).await.expect(201);
    assert_eq!(reply.headers["location"], format!("/api/v1/users/{}", reply.json()["id"].as_str().expect("an id")));
    world.call(&root, "POST", "/api/v1/users", new).await.refused(409, "name_taken");
    let token = world.login("ada").await;
    world.get(&token, "/api/v1/agents").await.expect(200);
    world.call(&root, "DELETE", "/api/v1/users/ada", json!({})).await.expect(204);
    world.get(&token, "/api/v1/agents").await.refused(401, "invalid_token");
    world.call(&root, "DELETE", "/api/v1/users/ada", json!({})).await.refused(404, "not_found");
    world.call(&root, "DELETE", "/api/v1/users/root", json!({})).await.refused(409, "last_admin");
    let names = world.get(&root, "/api/v1/users?limit=2").await.expect(200).json();
    assert_eq!((&names["items"][0]["name"], &names["items"][1]["name"]), (&json!("eu"), &json!("eye")));
    let rest = format!("/api/v1/users?cursor={}", names["next_cursor"].as_str().expect("a cursor"));
    let rest = world.get(&root, &rest).await.expect(200).json();
    assert_eq!((&rest["items"][1]["name"], &rest["next_cursor"]), (&json!("root"), &json!(null)));
}

#[tokio::test]
async fn a_user_that_nobody_may_be_is_refused_with_its_place() {
    let world = World::new().await;
    let root = world.login("root").await;
    let good = json!({ "name": "ada", "password": PASSWORD, "role": "viewer" });
    let grant = json!([{ "sites": ["eu"], "verbs": ["*"], "effects": ["read", "all"] }]);
    for (field, value, pointer) in [
        ("name", json!("Ada"), "/name"),
        ("name", json!("0193f2a4-7c1e-7abc-8def-0123456789ab"), "/name"),
        ("password", json!("elevenchars"), "/password"),
        ("role", json!("root"), "/role"),
        ("grants", grant, "/grants/0/effects/1"),
        ("grants", json!([{ "sites": ["e u"], "verbs": [], "effects": [] }]), "/grants/0/sites/0"),
    ] {
        let mut body = good.clone();
        body[field] = value;
        let reply = world.call(&root, "POST", "/api/v1/users", body).await.refused(422, "invalid_body").json();
        assert_eq!(reply["errors"][0]["pointer"], pointer);
    }
}
