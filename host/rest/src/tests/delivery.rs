//! How a command may be delivered: what is granted, what is refused and where, and how much may wait.

use domain::attempt::Event;
use plan::id::AttemptKey;
use ports::clock::Clock as _;
use ports::commands::{Advance, Commands as _, Word};
use serde_json::{Value, json};

use super::world::{PER_AGENT, World};

const COMMANDS: &str = "/api/v1/commands";

fn echo(more: Value) -> Value {
    let mut body = json!({ "verb": "test.echo", "args": { "text": "hi" }, "target": { "all": true } });
    for (field, value) in more.as_object().expect("fields") {
        body[field] = value.clone();
    }
    body
}

#[tokio::test]
async fn terms_are_shown_as_they_were_agreed() {
    let world = World::new().await;
    let op = world.login("op").await;
    let rollout = json!({ "max_concurrency": 1, "ramp": "off", "max_errors": "10%", "on_halt": "cancel" });
    let body = echo(json!({
        "on_disconnect": "kill_after", "kill_after_ms": 60_000,
        "retry": { "max_attempts": 4, "on": ["failed", "failed"], "backoff_ms": 100 }, "rollout": rollout,
    }));
    let accepted = world.call(&op, "POST", COMMANDS, body).await.expect(202).json();
    let path = format!("{COMMANDS}/{}", accepted["id"].as_str().expect("an id"));
    let shown = world.get(&op, &path).await.expect(200).json();
    assert_eq!(shown["retry"], json!({ "max_attempts": 4, "on": ["failed"], "backoff_ms": 100 }));
    assert_eq!((&shown["rollout"], &shown["kill_after_ms"]), (&rollout, &json!(60_000)));
    assert_eq!(shown["counts"], json!({ "held": 1, "queued": 1 }), "one of two goes first");
    let held = world.get(&op, &format!("{path}/invocations?state=held")).await.expect(200).json();
    assert_eq!((&held["items"][0]["reason"], &held["items"][0]["due_at"]), (&json!("rollout"), &Value::Null));
    let shares = world.get(&op, &format!("{path}/rollup")).await.expect(200).json();
    assert_eq!(shares["items"].as_array().expect("items").len(), 2, "{shares:#}");
    let none = world.get(&op, &format!("{path}/invocations/web-1/attempts")).await.expect(200).json();
    assert_eq!(none, json!({ "items": [] }));
    let none = world.get(&op, &format!("{path}/results?by=/n&limit=500")).await.expect(200).json();
    assert_eq!(none, json!({ "items": [] }), "nothing has ended");
    for query in ["by=n", "limit=0", "limit=501", "by=/a&more=1"] {
        let answer = world.get(&op, &format!("{path}/results?{query}")).await;
        let code = if query.contains("more") { "unknown_parameter" } else { "invalid_parameter" };
        answer.refused(400, code);
    }
}

#[tokio::test]
async fn wishes_that_cannot_be_granted_are_refused_where_they_stand() {
    let world = World::new().await;
    let op = world.login("op").await;
    for (more, pointer) in [
        (json!({ "finish_by": "tomorrow" }), "/finish_by"),
        (json!({ "finish_by": "2020-01-01T00:00:00Z" }), "/finish_by"),
        (json!({ "on_disconnect": "sulk" }), "/on_disconnect"),
        (json!({ "on_disconnect": "kill_after" }), "/kill_after_ms"),
        (json!({ "kill_after_ms": 1 }), "/kill_after_ms"),
        (json!({ "on_disconnect": "kill_after", "kill_after_ms": 86_400_001 }), "/kill_after_ms"),
        (json!({ "retry": { "max_attempts": 0 } }), "/retry/max_attempts"),
        (json!({ "rollout": { "max_concurrency": 0 } }), "/rollout/max_concurrency"),
        (json!({ "rollout": { "max_concurrency": "0%" } }), "/rollout/max_concurrency"),
        (json!({ "retry": { "max_attempts": 21 } }), "/retry/max_attempts"),
        (json!({ "retry": { "max_attempts": 2, "on": ["cancelled"] } }), "/retry/on/0"),
        (json!({ "retry": { "max_attempts": 2, "backoff_ms": 0 } }), "/retry/backoff_ms"),
        (json!({ "rollout": { "waves": [1, "5"], "pause_ms": 86_400_001 } }), "/rollout/pause_ms"),
        (json!({ "rollout": { "waves": vec![1; 21] } }), "/rollout/waves"),
        (json!({ "rollout": { "max_errors": "half" } }), "/rollout/max_errors"),
    ] {
        let problem = world.call(&op, "POST", COMMANDS, echo(more.clone())).await.refused(422, "invalid_body").json();
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{more}");
    }
    let unknown = echo(json!({ "rollout": { "speed": 1 } }));
    world.call(&op, "POST", COMMANDS, unknown).await.refused(422, "unknown_field");
    let list = world.get(&op, COMMANDS).await.expect(200).json();
    assert_eq!(list["items"], json!([]), "nothing was accepted");
}

#[tokio::test]
async fn a_queue_that_is_full_says_so_and_when_to_come_back() {
    let world = World::new().await;
    let op = world.login("op").await;
    let body = |agent: &str| echo(json!({ "target": { "agents": [agent] } }));
    for _ in 0..PER_AGENT {
        world.call(&op, "POST", COMMANDS, body("web-1")).await.expect(202);
    }
    let full = world.call(&op, "POST", COMMANDS, body("web-1")).await;
    assert_eq!(full.headers["retry-after"], "5");
    full.refused(429, "queue_full");
    let both = world.call(&op, "POST", COMMANDS, echo(json!({}))).await;
    both.refused(429, "queue_full");
    let list = world.get(&op, &format!("{COMMANDS}?limit=500")).await.expect(200).json();
    assert_eq!(list["items"].as_array().expect("items").len() as u64, PER_AGENT, "none of them half");
}

#[tokio::test]
async fn what_ran_once_is_not_taken_for_never_started_because_its_last_attempt_was() {
    let world = World::new().await;
    let op = world.login("op").await;
    let retry = json!({ "retry": { "max_attempts": 2, "on": ["failed"] } });
    let made = world.call(&op, "POST", COMMANDS, echo(retry)).await.expect(202).json();
    let id = made["id"].as_str().expect("an id").to_owned();
    let command = id.parse().expect("an id");
    let fails = vec![Event::Send, Event::Acknowledge, Event::Start, Event::Finish { succeeded: false }];
    world.advance(command, world.web, fails, None).await;
    world.advance(command, world.db, vec![Event::StartDeadline], None).await;
    let (key, at) = (AttemptKey { command, number: 2 }, world.clock.now());
    let events = vec![Event::Release, Event::StartDeadline];
    let expires = Advance { key, agent: world.web, events, at, message: None, end: None, word: Word::Anyone };
    world.store.advance(expires).await.expect("stored");
    for agent in ["web-1", "db-1"] {
        let one = world.get(&op, &format!("{COMMANDS}/{id}/invocations/{agent}")).await.expect(200).json();
        assert_eq!(one["state"], "expired", "{one}");
    }
    for (only, agent) in [("never_started", "db-1"), ("failed", "web-1")] {
        let path = format!("{COMMANDS}/{id}/retry");
        let child = world.call(&op, "POST", &path, json!({ "only": only })).await.expect(202).json();
        let names: Vec<_> =
            child["targets"].as_array().expect("targets").iter().map(|one| &one["agent_name"]).collect();
        assert_eq!(names, [agent], "{only}");
    }
}
