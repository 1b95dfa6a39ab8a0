//! Headers that make a change safe to ask for: which state it is of, and which intent it stands for. Held over
//! every row that reads them.

use axum::body::Body;
use axum::http::header;
use ports::clock::Clock;
use ports::replies::Replies;
use serde_json::{Value, json};

use super::audit::{ELSEWHERE, granted};
use super::world::{PASSWORD, Reply, World, with};
use crate::openapi::operations;
use crate::routes::{Route, TABLE};

/// Every row that reads a header and can be granted in this world.
fn reading(name: &'static str) -> impl Iterator<Item = &'static Route> {
    TABLE.iter().filter(move |row| {
        let shape = operations::of(row.method, row.path).expect("every row has its line");
        shape.headers.contains(&name) && !ELSEWHERE.iter().any(|(path, _)| *path == row.path)
    })
}

async fn send(world: &World, token: &str, row: &Route, path: &str, body: &Value, headers: &[(&str, &str)]) -> Reply {
    let mut request = with(token, row.method, path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = match body {
        Value::Null => Body::empty(),
        body => {
            request = request.header(header::CONTENT_TYPE, "application/json");
            body.to_string().into()
        }
    };
    world.send(request.body(body).expect("a request")).await
}

#[tokio::test]
async fn what_was_changed_since_it_was_read_is_not_changed_again_unseen() {
    let mut walked = 0;
    for row in reading("If-Match") {
        let world = World::new().await;
        let root = world.login("root").await;
        let (path, body, _) = granted(&world, &root, row).await.expect("a request that is granted");
        let ask = async |tag: &str| send(&world, &root, row, &path, &body, &[("if-match", tag)]).await;
        for bad in ["", "abc", "\"a\", \"b\"", "W/\"a\""] {
            ask(bad).await.refused(400, "invalid_header");
        }
        let refused = ask("\"never\"").await.refused(412, "precondition_failed");
        if row.method == "PUT" {
            send(&world, &root, row, &path, &body, &[]).await.refused(428, "precondition_required");
        }
        let order = ["/disable", "/approve", "/rotate-key", "/revoke"].iter().find(|order| path.ends_with(**order));
        let seen = order.map_or(path.as_str(), |order| &path[..path.len() - order.len()]);
        let read = world.get(&root, seen).await.expect(200);
        let tag = read.headers.get(header::ETAG).unwrap_or_else(|| panic!("{seen} has no tag")).to_str().expect("text");
        assert_eq!(refused.headers.get(header::ETAG), read.headers.get(header::ETAG), "{seen} as it is");
        let again = world.get(&root, seen).await.expect(200);
        assert_eq!(again.headers[header::ETAG], tag, "{seen} is as it was");
        let done = ask(tag).await;
        assert!(done.status.is_success(), "{} {path}: {}", row.method, done.status);
        // This world's plugins are stood in for, and stay as they are, as does an agent that waits for nobody.
        if row.method != "DELETE" && !matches!(order, Some(&"/disable" | &"/approve")) {
            assert_ne!(done.headers[header::ETAG], tag, "{} {path}", row.method);
            let now = world.get(&root, seen).await.expect(200);
            assert_eq!(now.headers[header::ETAG], done.headers[header::ETAG], "{} {path}", row.method);
            ask(tag).await.refused(412, "precondition_failed");
        }
        walked += 1;
    }
    assert_eq!(walked, 12, "users, grants, agents and their orders, groups, channels and plugins");
}

#[tokio::test]
async fn of_two_who_read_the_same_state_one_changes_it() {
    let world = World::new().await;
    let root = world.login("root").await;
    let row = TABLE.iter().find(|row| row.path == "/api/v1/grants/{user}" && row.method == "PUT").expect("a row");
    let tag = world.get(&root, "/api/v1/grants/op").await.expect(200).headers[header::ETAG].clone();
    let tag = tag.to_str().expect("text");
    let grant = |site: &str| json!({ "grants": [{ "sites": [site], "verbs": ["*"], "effects": ["read"] }] });
    let (eu, us) = (grant("eu"), grant("us"));
    let ask = async |body: &Value| send(&world, &root, row, "/api/v1/grants/op", body, &[("if-match", tag)]).await;
    let (one, two) = tokio::join!(ask(&eu), ask(&us));
    let mut statuses = [one.status.as_u16(), two.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412]);
}

/// Another body that the row takes, too.
fn other(row: &Route, body: &Value) -> Value {
    let mut other = body.clone();
    let (name, value) = match row.path {
        "/api/v1/users" => ("role", json!("operator")),
        "/api/v1/api-keys" => ("name", json!("another")),
        "/api/v1/groups" => ("expr", json!("site = us")),
        "/api/v1/join-tokens" => ("site", json!("eu")),
        "/api/v1/silences" => ("comment", json!("another")),
        "/api/v1/notification-channels" => ("per_minute", json!(7)),
        "/api/v1/commands" => ("priority", json!("low")),
        "/api/v1/commands/{id}/retry" => ("only", json!("never_started")),
        path => panic!("{path}: say here what another body is"),
    };
    other[name] = value;
    other
}

#[tokio::test]
async fn a_request_with_a_key_is_done_once_however_often_it_is_sent() {
    let mut walked = 0;
    for row in reading("Idempotency-Key") {
        let world = World::new().await;
        let root = world.login("root").await;
        let (path, body, action) = granted(&world, &root, row).await.expect("a request that is granted");
        let ask =
            async |body: &Value, key: &str| send(&world, &root, row, &path, body, &[("idempotency-key", key)]).await;
        ask(&body, "two words").await.refused(400, "invalid_header");
        let first = ask(&body, "mine-1").await;
        assert!(first.status.is_success(), "{path}: {} {:?}", first.status, first.body);
        let location = first.headers[header::LOCATION].clone();
        let again = ask(&body, "mine-1").await;
        assert_eq!(
            (&again.headers["idempotency-replayed"], &again.headers[header::LOCATION]),
            (&"true".parse().expect("a value"), &location),
            "{path}"
        );
        if ["/api-keys", "/join-tokens", "/notification-channels"].iter().any(|end| path.ends_with(end)) {
            let again = again.refused(409, "secret_shown").json();
            let secret = first.json();
            let secret = ["key", "token", "secret"].iter().find_map(|name| secret[name].as_str()).expect("a secret");
            assert!(
                !again.to_string().contains(secret)
                    && again["detail"].as_str().is_some_and(|text| text.contains(location.to_str().expect("text")))
            );
        } else {
            assert_eq!((again.status, again.json()), (first.status, first.json()), "{path}");
        }
        ask(&other(row, &body), "mine-1").await.refused(422, "idempotency_key_reused");
        let done = world.audited().await.into_iter().filter(|one| *one == action).count();
        let before = usize::from(row.path.ends_with("/retry"));
        assert_eq!(done, 1 + before, "{path} is done once");
        walked += 1;
    }
    assert_eq!(walked, 8, "users, keys, groups, join tokens, commands, retries, silences and channels");
}

#[tokio::test]
async fn a_key_is_its_callers_own_and_good_for_a_day() {
    let world = World::new().await;
    let root = world.login("root").await;
    let row = TABLE.iter().find(|row| row.method == "POST" && row.path == "/api/v1/api-keys").expect("a row");
    let ask =
        async |token: &str, body: Value| send(&world, token, row, row.path, &body, &[("idempotency-key", "k")]).await;
    ask(&root, json!({})).await.expect(201);
    let op = world.login("op").await;
    ask(&op, json!({ "name": "of op" })).await.expect(201);
    world.clock.forward(services::replays::KEPT_FOR);
    let root = world.login("root").await;
    ask(&root, json!({ "name": "a day later" })).await.expect(201);
}

#[tokio::test]
async fn with_another_password_it_is_another_request_and_no_password_is_kept() {
    let world = World::new().await;
    let root = world.login("root").await;
    let row = TABLE.iter().find(|row| row.method == "POST" && row.path == "/api/v1/users").expect("a row");
    let body = |password: &str| json!({ "name": "ada", "password": password, "role": "viewer" });
    let ask = async |body: Value| send(&world, &root, row, row.path, &body, &[("idempotency-key", "k")]).await;
    ask(body(PASSWORD)).await.expect(201);
    ask(body("quite another password")).await.refused(422, "idempotency_key_reused");
    let kept = world.store.reply("root", "k", world.clock.now()).await.expect("reads").expect("kept");
    assert!(!kept.reply.body.contains(PASSWORD));
}
