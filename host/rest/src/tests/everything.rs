//! Everything that happens, as a stream that is cut again and again.

use std::time::Duration;

use axum::body::Body;
use futures_util::StreamExt;
use ports::journal::Journal;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::audit::fire;
use super::world::{World, with};

/// The first logged event after `cursor`, as its number and the rest; then the connection is cut.
async fn one_after(world: &World, token: &str, cursor: u64) -> (u64, String) {
    let path = format!("/api/v1/events?cursor={cursor}");
    let request = with(token, "GET", &path).body(Body::empty()).expect("a request");
    let response = world.open(request).await;
    assert_eq!(response.status(), 200);
    let mut frames = response.into_body().into_data_stream();
    let found = async {
        loop {
            let frame = frames.next().await.expect("the stream goes on").expect("bytes");
            let text = String::from_utf8(frame.to_vec()).expect("text");
            let id = text.lines().find_map(|line| line.strip_prefix("id: ")?.parse().ok());
            if let Some(id) = id {
                return (id, text);
            }
        }
    };
    timeout(Duration::from_secs(120), found).await.expect("an event in time")
}

#[tokio::test]
async fn a_connection_killed_a_hundred_times_loses_nothing_and_repeats_nothing() {
    let world = World::new().await;
    let op = world.login("op").await;
    let begin = world.store.last_seq().await.expect("reads");
    for _ in 0..20 {
        let command = world.submit(&op).await;
        world.finish(command, world.web, b"hi\n").await;
        world.finish(command, world.db, b"ho\n").await;
    }
    let logged = world.store.events(None, begin, 500).await.expect("reads");
    assert!(logged.len() >= 100, "{}", logged.len());
    let (mut cursor, mut seen) = (begin, Vec::new());
    for _ in 0..100 {
        let (id, _) = one_after(&world, &op, cursor).await;
        seen.push(id);
        cursor = id;
    }
    let expected: Vec<u64> = logged.iter().take(100).map(|event| event.seq).collect();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn only_what_is_in_sight_is_told() {
    let world = World::new().await;
    let (op, eu) = (world.login("op").await, world.login("eu").await);
    let begin = world.store.last_seq().await.expect("reads");
    let command = world.submit(&op).await;
    world.finish(command, world.db, b"hi\n").await;
    world.finish(command, world.web, b"hi\n").await;
    let last = world.store.last_seq().await.expect("reads");
    let mut cursor = begin;
    while cursor < last {
        let (id, text) = one_after(&world, &eu, cursor).await;
        assert!(!text.contains(&world.db.to_string()), "{text}");
        cursor = id;
    }
    world.get(&op, &format!("/api/v1/events?cursor={}", last + 1000)).await.refused(400, "invalid_cursor");
}

#[tokio::test]
async fn a_caller_of_one_site_hears_of_no_agent_and_no_alert_of_another() {
    let world = World::new().await;
    let (root, op, eu) = (world.login("root").await, world.login("op").await, world.login("eu").await);
    let begin = world.store.last_seq().await.expect("reads");
    let maintain = json!({ "maintenance": true });
    let away = fire(&world, 1, world.db, ("db-1", "us")).await;
    world.call(&root, "PATCH", "/api/v1/agents/db-1", maintain.clone()).await.expect(200);
    world.call(&root, "PATCH", "/api/v1/agents/web-1", maintain).await.expect(200);
    let home = fire(&world, 2, world.web, ("web-1", "eu")).await;
    let last = world.store.last_seq().await.expect("reads");
    for (token, heard) in [
        (&eu, vec![world.web.to_string(), home.to_string()]),
        (&op, vec![away.to_string(), world.db.to_string(), world.web.to_string(), home.to_string()]),
    ] {
        let (mut cursor, mut told) = (begin, Vec::new());
        while cursor < last {
            let (id, text) = one_after(&world, token, cursor).await;
            let data = text.lines().find_map(|line| line.strip_prefix("data: ")).expect("data");
            let data: Value = serde_json::from_str(data).expect("JSON");
            let what = data["alert"].as_str().or(data["agent"].as_str()).expect("an alert or an agent");
            told.push(what.to_owned());
            cursor = id;
        }
        assert_eq!(told, heard);
    }
}

#[tokio::test]
async fn who_is_logged_out_is_told_nothing_of_the_log_that_was_not_read_before() {
    let world = World::new().await;
    let op = world.login("op").await;
    let begin = world.store.last_seq().await.expect("reads");
    let command = world.submit(&op).await;
    world.finish(command, world.web, b"hi\n").await;
    let request = with(&op, "GET", &format!("/api/v1/events?cursor={begin}")).body(Body::empty());
    let response = world.open(request.expect("a request")).await;
    let mut frames = response.into_body().into_data_stream();
    let text = |frame: &[u8]| String::from_utf8_lossy(frame).into_owned();
    let first = text(&frames.next().await.expect("the stream goes on").expect("bytes"));
    assert!(first.contains("event: plugins"), "where they stand is told before the log is read: {first}");
    let body = json!({ "refresh_token": "vwr_another" });
    world.call(&op, "POST", "/api/v1/auth/logout", body).await.expect(204);
    let rest = frames.map(|frame| text(&frame.expect("bytes"))).collect::<Vec<_>>();
    let rest = timeout(Duration::from_secs(120), rest).await.expect("the stream ends");
    assert_eq!(rest, Vec::<String>::new());
}
