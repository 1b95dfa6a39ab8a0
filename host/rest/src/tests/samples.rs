//! Telemetry among live events: for whoever asks, of whom they see, the latest of each.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::{Body, BodyDataStream};
use domain::telemetry::metric::Metric;
use domain::telemetry::report::Reading;
use futures_util::StreamExt;
use plan::id::AgentId;
use ports::clock::Clock;
use ports::latest::Board;
use serde_json::{Value, json};
use services::directory::Latest;
use tokio::time::timeout;

use super::world::{World, with};

/// Far above what is normal.
const CEILING: Duration = Duration::from_secs(120);

/// An agent says its `n`th sample.
fn say(world: &World, agent: AgentId, n: u32) {
    let at = world.clock.now() + Duration::from_millis(n.into());
    let readings = vec![Reading::new(Metric::CpuTotal, n.into()), Reading::new(Metric::Load1, 0.5)];
    world
        .directory
        .set_latest(agent, Latest { sample: "{}".into(), at, received_at: at, skew_ms: 0, readings: readings.into() });
}

async fn stream(world: &World, token: &str, query: &str) -> BodyDataStream {
    let request = with(token, "GET", &format!("/api/v1/events{query}")).body(Body::empty()).expect("a request");
    let response = world.open(request).await;
    assert_eq!(response.status(), 200);
    response.into_body().into_data_stream()
}

/// The next event called so, and the names of those before it.
async fn next(frames: &mut BodyDataStream, wanted: &str) -> (Value, Vec<String>) {
    let mut before = Vec::new();
    let found = async {
        loop {
            let frame = frames.next().await.expect("it goes on").expect("bytes");
            let text = String::from_utf8(frame.to_vec()).expect("text");
            let field =
                |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(|rest| rest.trim().to_owned());
            match field("event:") {
                Some(name) if name == wanted => {
                    assert_eq!(field("id:").is_none(), name == "telemetry", "what is in no log has no place in it");
                    return serde_json::from_str(&field("data:").expect("data")).expect("JSON");
                }
                Some(name) => before.push(name),
                None => {}
            }
        }
    };
    let found = timeout(CEILING, found).await.expect("it comes");
    (found, before)
}

#[tokio::test]
async fn who_asks_hears_the_latest_of_whom_they_see_and_who_does_not_hears_none() {
    let world = World::new().await;
    let (root, eu) = (world.login("root").await, world.login("eu").await);
    say(&world, world.web, 1);
    say(&world, world.db, 1);
    let mut plain = stream(&world, &root, "").await;
    let mut few = stream(&world, &eu, "?telemetry=cpu.total").await;
    let (first, _) = next(&mut few, "telemetry").await;
    assert_eq!((&first["agent_name"], &first["series"]), (&json!("web-1"), &json!({ "cpu.total": 1.0 })));
    // What comes while nobody reads is not kept for later.
    for n in 2..100 {
        say(&world, world.web, n);
        say(&world, world.db, n);
    }
    let (last, _) = next(&mut few, "telemetry").await;
    assert_eq!((&last["agent_name"], &last["series"]), (&json!("web-1"), &json!({ "cpu.total": 99.0 })));

    let mut all = stream(&world, &root, "?telemetry=all&site=eu").await;
    let (one, _) = next(&mut all, "telemetry").await;
    assert_eq!((&one["agent_name"], &one["series"]), (&json!("web-1"), &json!({ "cpu.total": 99.0, "load.1": 0.5 })));
    let mut both = stream(&world, &root, "?telemetry=load.1").await;
    let mut names = Vec::new();
    for _ in 0..2 {
        names.push(next(&mut both, "telemetry").await.0["agent_name"].clone());
    }
    assert_eq!(names, ["db-1", "web-1"], "each once");

    world.call(&root, "PATCH", "/api/v1/agents/web-1", json!({ "maintenance": true })).await.expect(200);
    for quiet in [&mut plain, &mut all] {
        let (_, before) = next(quiet, "agent").await;
        assert!(before.iter().all(|name| name == "plugins"), "{before:?}");
    }
}

/// What one agent said last to another host, and how often that was asked for.
struct Elsewhere {
    agent: AgentId,
    latest: Mutex<Latest>,
    asked: AtomicUsize,
}

#[async_trait]
impl Board for Elsewhere {
    fn put(&self, _: AgentId, _: Arc<Latest>) {}

    async fn of(&self, agents: &[AgentId]) -> Vec<(AgentId, Latest)> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let latest = self.latest.lock().expect("no test has panicked").clone();
        agents.iter().filter(|id| **id == self.agent).map(|id| (*id, latest.clone())).collect()
    }
}

#[tokio::test]
async fn other_hosts_are_asked_once_for_all_readers_and_not_when_there_is_none() {
    let world = World::new().await;
    let root = world.login("root").await;
    let said = |n: u32| {
        let at = world.clock.now();
        let readings = [Reading::new(Metric::CpuTotal, n.into())].into();
        Latest { sample: "{}".into(), at, received_at: at, skew_ms: 0, readings }
    };
    let elsewhere = Arc::new(Elsewhere { agent: world.db, latest: Mutex::new(said(0)), asked: AtomicUsize::new(0) });
    assert!(world.directory.board.set(elsewhere.clone()).is_ok());
    let mut plain = stream(&world, &root, "").await;
    let mut readers = Vec::new();
    for _ in 0..5 {
        readers.push(stream(&world, &root, "?telemetry=cpu.total").await);
    }
    for n in 1..=3_u32 {
        world.clock.forward(Duration::from_secs(1));
        *elsewhere.latest.lock().expect("no test has panicked") = said(n);
        for reader in &mut readers {
            let (told, _) = next(reader, "telemetry").await;
            assert_eq!((&told["agent_name"], &told["series"]), (&json!("db-1"), &json!({ "cpu.total": f64::from(n) })));
        }
        assert_eq!(elsewhere.asked.load(Ordering::SeqCst), n as usize, "once a second, whoever asks");
    }
    drop(readers);
    world.clock.forward(Duration::from_secs(60));
    world.call(&root, "PATCH", "/api/v1/agents/web-1", json!({ "maintenance": true })).await.expect(200);
    next(&mut plain, "agent").await;
    assert_eq!(elsewhere.asked.load(Ordering::SeqCst), 3, "nobody listens to telemetry");
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_refused() {
    let world = World::new().await;
    let root = world.login("root").await;
    for (query, pointer) in [
        ("?telemetry=nope", "?telemetry"),
        ("?telemetry=", "?telemetry"),
        ("?telemetry=all&label=x", "?label"),
        ("?site=eu", "?site"),
        ("?label=a=b", "?label"),
    ] {
        let refused =
            world.get(&root, &format!("/api/v1/events{query}")).await.refused(400, "invalid_parameter").json();
        assert_eq!(refused["errors"][0]["pointer"], pointer, "{query}");
    }
}
