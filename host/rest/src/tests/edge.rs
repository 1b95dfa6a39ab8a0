//! What holds for every request.

use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::Request;
use serde_json::json;

use super::world::{World, with};

#[tokio::test]
async fn every_answer_carries_its_request_and_the_security_headers() {
    let world = World::new().await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for path in ["/livez", "/api/v1/me", "/nowhere"] {
        let request = with("", "GET", path).header("x-request-id", "mine-1").header("traceparent", trace);
        let reply = world.send(request.body(Body::empty()).expect("a request")).await;
        assert_eq!(
            (&reply.headers["x-request-id"], &reply.headers["traceparent"]),
            (&"mine-1".parse().expect("a value"), &trace.parse().expect("a value"))
        );
        assert_eq!(reply.headers["x-content-type-options"], "nosniff");
        assert_eq!(reply.headers["content-security-policy"], "default-src 'none'; frame-ancestors 'none'");
        assert_eq!(reply.headers["cache-control"], "no-store");
        if reply.status != 200 {
            assert_eq!(reply.json()["instance"], "mine-1");
        }
    }
    let odd = with("", "GET", "/livez").header("x-request-id", "a b").body(Body::empty()).expect("a request");
    assert_eq!(world.send(odd).await.headers["x-request-id"].len(), 32);
}

#[tokio::test]
async fn a_request_to_another_name_is_refused_and_probes_are_not() {
    let world = World::with(|options| options.hosts = vec!["ops.example.org".into()]).await;
    let to = |host: &'static str, path: &'static str| {
        with("", "GET", path).header("host", host).body(Body::empty()).expect("a request")
    };
    world.send(to("ops.example.org:443", "/version")).await.expect(200);
    world.send(to("evil.example", "/version")).await.refused(403, "host_not_allowed");
    for path in ["/livez", "/readyz", "/health"] {
        world.send(to("10.0.0.7:8080", path)).await.expect(200);
    }
    let twice = with("", "GET", "/version").header("host", "localhost").header("host", "evil.example");
    world.send(twice.body(Body::empty()).expect("a request")).await.refused(400, "invalid_header");
}

#[tokio::test]
async fn only_trusted_pages_change_anything() {
    let world = World::with(|options| options.origins = vec!["https://ops.example.org".into()]).await;
    let root = world.login("root").await;
    let from = |origin: &'static str| {
        let request = with(&root, "POST", "/api/v1/join-tokens").header("content-type", "application/json");
        request.header("origin", origin).body(Body::from("{}")).expect("a request")
    };
    world.send(from("http://localhost:8080")).await.expect(201);
    let trusted = world.send(from("https://ops.example.org")).await.expect(201);
    assert_eq!(trusted.headers["access-control-allow-origin"], "https://ops.example.org");
    for origin in ["null", "https://evil.example", "http://ops.example.org", "https://ops.example.org.evil.example"] {
        let reply = world.send(from(origin)).await.refused(403, "origin_not_allowed");
        assert!(!reply.headers.contains_key("access-control-allow-origin"), "{origin}");
        let preflight = with("", "OPTIONS", "/api/v1/join-tokens").header("origin", origin);
        let preflight =
            preflight.header("access-control-request-method", "POST").body(Body::empty()).expect("a request");
        assert!(!world.send(preflight).await.headers.contains_key("access-control-allow-origin"), "{origin}");
    }
    let problem = with("", "GET", "/api/v1/me").header("origin", "https://ops.example.org").body(Body::empty());
    let reply = world.send(problem.expect("a request")).await.refused(401, "unauthenticated");
    assert_eq!(reply.headers["access-control-allow-origin"], "https://ops.example.org");
}

#[tokio::test]
async fn a_socket_is_opened_for_trusted_pages_and_for_whoever_is_no_page() {
    let world = World::with(|options| options.origins = vec!["https://ops.example.org".into()]).await;
    let op = world.login("op").await;
    let upgrade = |origin: Option<&'static str>| {
        let request = with(&op, "GET", "/ws/events").header("connection", "upgrade").header("upgrade", "websocket");
        let request = match origin {
            Some(origin) => request.header("origin", origin),
            None => request,
        };
        request.body(Body::empty()).expect("a request")
    };
    let without = world.send(upgrade(None)).await;
    assert_ne!((without.status.as_u16(), without.code().as_str()), (403, "origin_not_allowed"));
    for origin in ["http://localhost:8080", "https://ops.example.org"] {
        let reply = world.send(upgrade(Some(origin))).await;
        assert_eq!((reply.status, reply.code()), (without.status, without.code()), "{origin}");
    }
    for origin in ["null", "https://evil.example", "https://ops.example.org.evil.example"] {
        world.send(upgrade(Some(origin))).await.refused(403, "origin_not_allowed");
    }
    let followed = with(&op, "GET", "/api/v1/me").header("origin", "https://evil.example");
    world.send(followed.body(Body::empty()).expect("a request")).await.expect(200);
}

#[tokio::test]
async fn without_listed_origins_there_is_no_cors() {
    let world = World::new().await;
    let preflight = with("", "OPTIONS", "/api/v1/commands").header("origin", "https://ops.example.org");
    let preflight = preflight.header("access-control-request-method", "POST").body(Body::empty()).expect("a request");
    let reply = world.send(preflight).await.refused(405, "method_not_allowed");
    assert!(!reply.headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn bodies_are_refused_for_what_is_wrong_with_them() {
    let world = World::new().await;
    let root = world.login("root").await;
    let post = |content_type: &'static str, body: Vec<u8>| {
        with(&root, "POST", "/api/v1/users")
            .header("content-type", content_type)
            .body(Body::from(body))
            .expect("a request")
    };
    let json = "application/json";
    let deep = format!("{}{}", "[".repeat(33), "]".repeat(33));
    for (content_type, body, status, code) in [
        ("text/plain", "{}".into(), 415, "unsupported_media_type"),
        (json, "{".into(), 400, "invalid_json"),
        (json, r#"{"role":"viewer","role":"admin"}"#.into(), 400, "duplicate_key"),
        (json, r#"{"name":18446744073709551616}"#.into(), 400, "big_integer"),
        (json, r#"{"name":"a\u0000"}"#.into(), 400, "nul_byte"),
        (json, deep.into_bytes(), 400, "json_depth"),
        (json, vec![b'"', 0xff, b'"'], 400, "invalid_json"),
        (json, vec![b' '; 1024 * 1024 + 1], 413, "body_too_large"),
        (json, r#"{"admin":true}"#.into(), 422, "unknown_field"),
        (json, r#"{"name":"ada"}"#.into(), 422, "invalid_body"),
        (json, "[]".into(), 422, "invalid_body"),
    ] {
        world.send(post(content_type, body)).await.refused(status, code);
    }
    let packed = with(&root, "POST", "/api/v1/users").header("content-type", json).header("content-encoding", "gzip");
    world.send(packed.body(Body::from("x")).expect("a request")).await.refused(415, "unsupported_media_type");
}

#[tokio::test]
async fn odd_paths_and_authorizations_find_nothing() {
    let world = World::new().await;
    let root = world.login("root").await;
    for path in [
        "/",
        "/api",
        "/api/v1",
        "/api/v1/",
        "/api/v1/ME",
        "/api/v1//me",
        "/api/v1/me/",
        "/api/v1/%6de/x",
        "/api/v2/me",
        "/api/v1/agents/../me",
    ] {
        world.get(&root, path).await.refused(404, "not_found");
    }
    let header = |value: &str| Request::builder().uri("/api/v1/me").header("authorization", value);
    world.send(header(&format!("bearer {root}")).body(Body::empty()).expect("a request")).await.expect(200);
    for value in [
        "Bearer",
        "Bearer ",
        "Basic b3A6eA==",
        &root,
        &format!("Bearer Bearer {root}"),
        &format!("Bearer {}", "a".repeat(65_536)),
    ] {
        world.send(header(value).body(Body::empty()).expect("a request")).await.refused(401, "invalid_token");
    }
    let twice = header(&format!("Bearer {root}")).header("authorization", format!("Bearer {root}"));
    world.send(twice.body(Body::empty()).expect("a request")).await.refused(401, "invalid_token");
}

#[tokio::test]
async fn readiness_names_the_part_that_is_not() {
    let world = World::new().await;
    assert_eq!(
        world.get("", "/readyz").await.expect(200).json(),
        json!({ "status": "ok", "components": { "database": "ok" } })
    );
    world.ready.store(false, Ordering::SeqCst);
    for path in ["/readyz", "/health"] {
        let reply = world.get("", path).await.expect(503).json();
        assert_eq!(
            (&reply["status"], &reply["components"]["database"]),
            (&json!("unavailable"), &json!("does not answer"))
        );
    }
    world.get("", "/livez").await.expect(200);
    let version = world.get("", "/version").await.expect(200).json();
    assert_eq!((&version["name"], &version["api"]), (&json!("viworks-host"), &json!(["v1"])));
}

/// Asks for a command, hangs up before there is an answer, and waits for what goes on; the command is there then.
async fn submits_and_hangs_up(world: &World, token: &str, asked: impl Future) {
    let mut asked = Box::pin(asked);
    assert!(futures_util::poll!(&mut asked).is_pending());
    drop(asked);
    world.changes.close();
    world.changes.wait().await;
    let list = world.get(token, "/api/v1/commands").await.expect(200).json();
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{list}");
}

#[tokio::test]
async fn a_change_is_seen_through_when_whoever_asked_for_it_hangs_up() {
    let world = World::new().await;
    let op = world.login("op").await;
    submits_and_hangs_up(&world, &op, world.submit(&op)).await;
    // Counted behind the commit, just before its agents are told.
    let metrics = String::from_utf8(world.get(&op, "/metrics").await.expect(200).body.to_vec()).expect("text");
    assert!(metrics.contains(r#"viworks_commands_accepted_total{verb="test.echo"} 1"#), "{metrics}");
}

#[tokio::test]
async fn nobody_waits_for_the_end_of_a_command_whose_submitter_has_hung_up() {
    let world = World::new().await;
    let op = world.login("op").await;
    let body = json!({ "verb": "test.echo", "args": { "text": "hi" }, "target": { "all": true } }).to_string();
    let request = with(&op, "POST", "/api/v1/commands").header("content-type", "application/json");
    let request = request.header("prefer", "wait=60").body(Body::from(body)).expect("a request");
    // Long before those 60 s are over, or this test is.
    submits_and_hangs_up(&world, &op, world.send(request)).await;
}
