//! A command's events: logged first, then live, resumed without loss or repetition.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use domain::attempt::Event;
use futures_util::StreamExt;
use plan::id::CommandId;
use plan::outcome::StreamEnd;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::world::{World, with};
use crate::Options;

/// One event as read off the wire.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    id: u64,
    name: String,
    data: Value,
}

fn parse(text: &str) -> Vec<Seen> {
    let blocks = text.split("\n\n").filter(|block| !block.trim().is_empty() && !block.starts_with(':'));
    let field = |block: &str, name: &str| {
        let line =
            block.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name} in {block}"));
        line.trim().to_owned()
    };
    let one = |block: &str| Seen {
        id: field(block, "id:").parse().expect("a number"),
        name: field(block, "event:"),
        data: serde_json::from_str(&field(block, "data:")).expect("JSON"),
    };
    blocks.map(one).collect()
}

fn hasty(options: &mut Options) {
    (options.heartbeat, options.recheck) = (Duration::from_millis(10), Duration::from_millis(20));
}

async fn only_comments_to_the_end(mut frames: BodyDataStream) {
    let all = async {
        while let Some(frame) = frames.next().await {
            assert!(frame.expect("bytes").starts_with(b":"));
        }
    };
    timeout(Duration::from_secs(120), all).await.expect("it ends");
}

fn path(command: CommandId) -> String {
    format!("/api/v1/commands/{command}/events")
}

async fn replay(world: &World, token: &str, command: CommandId, last: Option<&str>) -> Vec<Seen> {
    let mut request = with(token, "GET", &path(command));
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let reply = world.send(request.body(Body::empty()).expect("a request")).await.expect(200);
    assert_eq!(reply.headers["content-type"], "text/event-stream");
    parse(std::str::from_utf8(&reply.body).expect("text"))
}

fn names(seen: &[Seen]) -> Vec<&str> {
    seen.iter().map(|event| event.name.as_str()).collect()
}

#[tokio::test]
async fn an_ended_command_is_replayed_and_the_stream_ends() {
    let world = World::new().await;
    let op = world.login("op").await;
    let command = world.submit(&op).await;
    world.finish(command, world.web, b"hi\n").await;
    world.finish(command, world.db, b"ho\n").await;
    let all = replay(&world, &op, command, None).await;
    let end = all.last().expect("an end");
    assert_eq!((end.name.as_str(), &end.data["status"]), ("end", &Value::from("succeeded")));
    assert_eq!(end.data["counts"]["succeeded"], 2);
    let output: Vec<&Seen> = all.iter().filter(|event| event.name == "output").collect();
    assert_eq!(output[0].data["data_base64"], "aGkK");
    assert_eq!(output.len(), 2);
    assert!(all.windows(2).all(|pair| pair[0].id < pair[1].id || pair[1].name == "end"), "{all:?}");
    assert!(names(&all).contains(&"state") && names(&all).contains(&"status"));

    for at in 0..all.len() - 1 {
        let rest = replay(&world, &op, command, Some(&all[at].id.to_string())).await;
        assert_eq!(rest, all[at + 1..], "after {at}");
    }
    assert_eq!(replay(&world, &op, command, Some("")).await, all);
    let bad = with(&op, "GET", &path(command)).header("last-event-id", "x").body(Body::empty()).expect("a request");
    world.send(bad).await.refused(400, "invalid_header");
}

#[tokio::test]
async fn a_reader_that_stays_hears_what_happens_until_the_end() {
    let world = World::new().await;
    let op = world.login("op").await;
    let command = world.submit(&op).await;
    let response = world.open(with(&op, "GET", &path(command)).body(Body::empty()).expect("a request")).await;
    assert_eq!(response.status(), 200);
    let read = async {
        let mut text = String::new();
        let mut frames = response.into_body().into_data_stream();
        while let Some(frame) = frames.next().await {
            text.push_str(std::str::from_utf8(&frame.expect("a frame")).expect("text"));
        }
        parse(&text)
    };
    let work = async {
        world.finish(command, world.web, b"hi\n").await;
        world.advance(command, world.db, vec![Event::CancelUnsent], None).await;
    };
    let (seen, ()) = timeout(Duration::from_secs(120), async { tokio::join!(read, work) }).await.expect("it ends");
    assert_eq!(seen.last().expect("an end").data["status"], "partial");
    assert_eq!(seen, replay(&world, &op, command, None).await);
}

#[tokio::test]
async fn a_reader_hears_of_agents_in_sight_only() {
    let world = World::new().await;
    let (op, eu) = (world.login("op").await, world.login("eu").await);
    let command = world.submit(&op).await;
    world.finish(command, world.web, b"hi\n").await;
    world.finish(command, world.db, b"ho\n").await;
    let seen = replay(&world, &eu, command, None).await;
    let agents: Vec<&Value> = seen.iter().filter_map(|event| event.data.get("agent")).collect();
    assert!(!agents.is_empty() && agents.iter().all(|agent| **agent == world.web.to_string()));
    assert_eq!(seen.last().expect("an end").name, "end");
}

#[tokio::test]
async fn output_that_is_not_whole_is_told_with_the_end_of_its_attempt() {
    let world = World::new().await;
    let op = world.login("op").await;
    let command = world.submit(&op).await;
    world.finish(command, world.web, b"hi\n").await;
    // Of 100 bytes the first two and the last three are kept, and the first of the three got lost.
    world
        .finish_cut(
            command,
            world.db,
            &[(0, b"ab"), (98, b"yz")],
            StreamEnd { bytes: 100, head: 2, tail: 3, sha256: "x".into() },
        )
        .await;
    let gap = json!({ "kept": "partial", "bytes": 100, "missing_bytes": 96, "gaps": [{ "from": 2, "until": 98 }] });
    let none = json!({ "kept": "complete", "bytes": 0, "missing_bytes": 0, "gaps": [] });
    let all = replay(&world, &op, command, None).await;
    let ends: Vec<&Value> =
        all.iter().filter(|event| event.data["state"] == "succeeded").map(|event| &event.data["output"]).collect();
    assert_eq!(ends, [&Value::Null, &json!({ "stdout": gap, "stderr": none })]);
    let path = |agent: &str| format!("/api/v1/commands/{command}/invocations/{agent}");
    let whole = world.get(&op, &path("web-1")).await.expect(200).json();
    assert_eq!(
        (&whole["output"]["stdout"]["kept"], &whole["output"]["stdout"]["bytes"]),
        (&json!("complete"), &json!(3))
    );
    let cut = world.get(&op, &path("db-1")).await.expect(200).json();
    assert_eq!(cut["output"]["stdout"], gap);
    let list = world.get(&op, &format!("/api/v1/commands/{command}/invocations")).await.expect(200).json();
    assert!(list["items"].as_array().expect("items").contains(&cut));
    let raw = world.get(&op, &format!("{}/output", path("db-1"))).await.expect(200);
    assert_eq!((&raw.body[..], &raw.headers["x-output-gaps"]), (&b"abyz"[..], &"2-97".parse().expect("a value")));
}

#[tokio::test]
async fn a_quiet_stream_says_that_it_is_there_and_ends_with_its_token() {
    let world = World::with(hasty).await;
    let op = world.login("op").await;
    let command = world.submit(&op).await;
    let response = world.open(with(&op, "GET", &path(command)).body(Body::empty()).expect("a request")).await;
    let mut frames = response.into_body().into_data_stream();
    let first = frames.next().await.expect("a frame").expect("bytes");
    assert!(first.starts_with(b"event:") || first.starts_with(b"id:"), "{first:?}");
    let quiet = frames.next().await.expect("a frame").expect("bytes");
    assert!(quiet.starts_with(b":"), "{quiet:?}");
    world.clock.forward(Duration::from_secs(600));
    only_comments_to_the_end(frames).await;
}

#[tokio::test]
async fn a_stream_ends_when_its_reader_may_no_longer() {
    let world = World::with(hasty).await;
    let (op, root) = (world.login("op").await, world.login("root").await);
    let command = world.submit(&op).await;
    let response = world.open(with(&op, "GET", &path(command)).body(Body::empty()).expect("a request")).await;
    let mut frames = response.into_body().into_data_stream();
    assert!(frames.next().await.is_some());
    world.call(&root, "DELETE", "/api/v1/users/op", serde_json::json!({})).await.expect(204);
    only_comments_to_the_end(frames).await;
}

#[tokio::test]
async fn a_stream_ends_with_its_login_and_with_its_key() {
    let world = World::with(hasty).await;
    let op = world.login("op").await;
    let made = world.call(&op, "POST", "/api/v1/api-keys", serde_json::json!({})).await.expect(201).json();
    let (key, id) = (made["key"].as_str().expect("a key"), made["id"].as_str().expect("an id"));
    let command = world.submit(&op).await;
    let mut streams = Vec::new();
    for token in [&*op, key] {
        let response = world.open(with(token, "GET", &path(command)).body(Body::empty()).expect("a request")).await;
        let mut frames = response.into_body().into_data_stream();
        assert!(frames.next().await.is_some());
        streams.push(frames);
    }
    world.call(&op, "DELETE", &format!("/api/v1/api-keys/{id}"), serde_json::json!({})).await.expect(204);
    only_comments_to_the_end(streams.pop().expect("the key's")).await;
    let body = serde_json::json!({ "refresh_token": "vwr_another" });
    world.call(&op, "POST", "/api/v1/auth/logout", body).await.expect(204);
    only_comments_to_the_end(streams.pop().expect("the login's")).await;
}

#[tokio::test]
async fn who_is_logged_out_is_told_nothing_of_the_log_that_was_not_read_before() {
    let world = World::new().await;
    let op = world.login("op").await;
    let command = world.submit(&op).await;
    let response = world.open(with(&op, "GET", &path(command)).body(Body::empty()).expect("a request")).await;
    let body = serde_json::json!({ "refresh_token": "vwr_another" });
    world.call(&op, "POST", "/api/v1/auth/logout", body).await.expect(204);
    only_comments_to_the_end(response.into_body().into_data_stream()).await;
}
