//! The conventions of this door, held over every row of the route table: whatever a request does wrong, it is
//! told so with the same problem everywhere.

use axum::body::Body;
use axum::http::header;
use serde_json::{Value, json};

use super::permissions::filled;
use super::world::{Reply, World, with};
use crate::authorize::Access;
use crate::body::MAX_BODY_BYTES;
use crate::openapi::operations;
use crate::problem::CODES;
use crate::routes::{Route, TABLE};

const JSON: &str = "application/json";

/// Whether a row takes a body, and whether it must have one.
fn takes(row: &Route) -> Option<bool> {
    let shape = operations::of(row.method, row.path).expect("every row has its line");
    shape.takes.map(|(_, required)| required)
}

/// A row's path with one more parameter.
fn asking(row: &Route, parameter: &str) -> String {
    let filled = filled(row.path);
    let without = filled.split('?').next().unwrap_or_default();
    format!("{without}?{parameter}")
}

/// A problem with all its fields, each of them what the table of codes says.
#[track_caller]
fn refused(reply: &Reply, status: u16, code: &str, about: &str) -> Value {
    let text = String::from_utf8_lossy(&reply.body);
    assert_eq!(reply.status.as_u16(), status, "{about}: {text}");
    assert_eq!(reply.code(), code, "{about}: {text}");
    let body = reply.json();
    let row = CODES.iter().find(|row| row.name == code).expect("a code of the table");
    let expected = json!({ "type": format!("/docs/errors#{code}"), "title": row.title, "status": row.status });
    for (name, value) in expected.as_object().expect("fields") {
        assert_eq!(&body[name], value, "{about}: {text}");
    }
    assert!(body["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{about}: {text}");
    assert_eq!(body["instance"], reply.headers["x-request-id"].to_str().expect("text"), "{about}");
    for error in body["errors"].as_array().into_iter().flatten() {
        assert!(["pointer", "message", "keyword"].iter().all(|name| error[name].is_string()), "{about}: {text}");
    }
    body
}

async fn send(world: &World, token: &str, row: &Route, content_type: &str, body: Vec<u8>) -> Reply {
    let request = with(token, row.method, &filled(row.path)).header(header::CONTENT_TYPE, content_type);
    world.send(request.body(Body::from(body)).expect("a request")).await
}

#[tokio::test]
async fn every_body_is_refused_for_what_is_wrong_with_it() {
    let world = World::new().await;
    let root = world.login("root").await;
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(32), "]".repeat(32));
    let large = format!("{{}}{}", " ".repeat(MAX_BODY_BYTES - 1));
    let rules: [(&str, &str, u16, &str); 10] = [
        (JSON, "{", 400, "invalid_json"),
        (JSON, "{\"a\":\"\u{7}\"}", 400, "invalid_json"),
        (JSON, r#"{"a":1,"a":2}"#, 400, "duplicate_key"),
        (JSON, r#"{"a":"x\u0000"}"#, 400, "nul_byte"),
        (JSON, r#"{"a":9007199254740992}"#, 400, "big_integer"),
        (JSON, &deep, 400, "json_depth"),
        (JSON, &large, 413, "body_too_large"),
        ("text/plain", "{}", 415, "unsupported_media_type"),
        (JSON, r#"{"nobody":"knows this field"}"#, 422, "unknown_field"),
        (JSON, "[]", 422, "invalid_body"),
    ];
    let mut walked = 0;
    for row in TABLE.iter().filter(|row| takes(row).is_some()) {
        for (content_type, body, status, code) in rules {
            let reply = send(&world, &root, row, content_type, body.into()).await;
            let shown: String = body.chars().take(40).collect();
            let body = refused(&reply, status, code, &format!("{} {} with {shown}", row.method, row.path));
            if code == "unknown_field" {
                assert_eq!(body["errors"][0]["pointer"], "/nobody", "{} {}", row.method, row.path);
            }
        }
        walked += 1;
    }
    let changing = TABLE.iter().filter(|row| matches!(row.method, "POST" | "PUT" | "PATCH")).count();
    assert_eq!(walked, changing, "every row that can take a body takes one, and only those");
}

#[tokio::test]
async fn a_body_that_has_to_be_there_is_missed() {
    let world = World::new().await;
    let root = world.login("root").await;
    for row in TABLE.iter().filter(|row| takes(row) == Some(true)) {
        let reply = send(&world, &root, row, JSON, Vec::new()).await;
        refused(&reply, 400, "invalid_json", row.path);
    }
}

#[tokio::test]
async fn every_route_refuses_parameters_it_does_not_know_and_values_that_cannot_be() {
    let world = World::new().await;
    let root = world.login("root").await;
    for row in TABLE {
        let ask = async |parameter: &str| world.call(&root, row.method, &asking(row, parameter), json!({})).await;
        let body = refused(&ask("nobody=knows").await, 400, "unknown_parameter", row.path);
        assert_eq!(body["errors"][0]["pointer"], "?nobody", "{}", row.path);
        for name in row.query {
            let about = format!("{} ?{name}", row.path);
            let reply = ask(&format!("{name}=a%00")).await;
            assert_eq!(refused(&reply, 400, "nul_byte", &about)["errors"][0]["pointer"], format!("?{name}"));
            // A route below something that is not there says so before it looks at numbers.
            if *name == "limit" && !row.path.contains('{') {
                refused(&ask("limit=0").await, 400, "invalid_parameter", &about);
                refused(&ask("limit=2&limit=3").await, 400, "invalid_parameter", &about);
            }
            if *name == "cursor" && row.path.starts_with("/api/") && !row.path.contains('{') {
                refused(&ask("cursor=nonsense").await, 400, "invalid_cursor", &about);
            }
        }
    }
}

#[tokio::test]
async fn every_route_that_needs_a_token_says_so_before_anything_else() {
    let world = World::new().await;
    for row in TABLE.iter().filter(|row| row.access != Access::Public) {
        let reply = send(&world, "", row, "text/plain", b"{".to_vec()).await;
        refused(&reply, 401, "unauthenticated", row.path);
        assert_eq!(reply.headers[header::WWW_AUTHENTICATE], "Bearer", "{}", row.path);
        let reply = send(&world, "forged", row, "text/plain", b"{".to_vec()).await;
        refused(&reply, 401, "invalid_token", row.path);
    }
}

#[tokio::test]
async fn a_route_refuses_every_other_method_and_says_which_there_are() {
    let world = World::new().await;
    let root = world.login("root").await;
    for row in TABLE {
        let mine: Vec<&str> = TABLE.iter().filter(|other| other.path == row.path).map(|other| other.method).collect();
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "LINK"].iter().filter(|one| !mine.contains(one)) {
            let reply = world.call(&root, method, &filled(row.path), json!({})).await;
            refused(&reply, 405, "method_not_allowed", &format!("{method} {}", row.path));
            let allow = reply.headers[header::ALLOW].to_str().expect("text").to_owned();
            let allowed: Vec<&str> = allow.split(',').map(str::trim).collect();
            assert!(mine.iter().all(|one| allowed.contains(one)), "{}: {allow}", row.path);
            assert!(!allowed.contains(method), "{}: {allow}", row.path);
        }
    }
}

#[tokio::test]
async fn below_and_beside_every_route_there_is_nothing() {
    let world = World::new().await;
    let root = world.login("root").await;
    for row in TABLE {
        let path = filled(row.path);
        let path = path.split('?').next().unwrap_or_default();
        for odd in [format!("{path}/no/such/page/at/all"), format!("{path}/"), format!("/x{path}")] {
            let reply = world.call(&root, row.method, &odd, json!({})).await;
            refused(&reply, 404, "not_found", &odd);
        }
    }
}
