//! Commands: submitted, looked at, cancelled.

use std::time::Duration;

use axum::body::Body;
use domain::attempt::Event;
use ports::live::{Heard, Live};
use serde_json::{Value, json};

use super::world::{World, with};

const COMMANDS: &str = "/api/v1/commands";

fn echo(target: Value) -> Value {
    json!({ "verb": "test.echo", "args": { "text": "hi" }, "target": target })
}

#[tokio::test]
async fn a_command_is_accepted_followed_and_read_to_its_end() {
    let world = World::new().await;
    let op = world.login("op").await;
    let mut body = echo(json!({ "all": true }));
    body["priority"] = json!("high");
    let reply = world.call(&op, "POST", COMMANDS, body).await.expect(202);
    let accepted = reply.json();
    let id = accepted["id"].as_str().expect("an id");
    assert_eq!(reply.headers["location"], format!("{COMMANDS}/{id}"));
    assert_eq!((&accepted["status"], &accepted["targets"][1]["agent_name"]), (&json!("pending"), &json!("web-1")));

    let path = format!("{COMMANDS}/{id}");
    let shown = world.get(&op, &path).await.expect(200).json();
    assert_eq!((&shown["priority"], &shown["target"]), (&json!("high"), &json!({ "all": true })));
    assert_eq!((&shown["counts"], &shown["submitter"]), (&json!({ "queued": 2 }), &json!("op")));

    let command = id.parse().expect("an id");
    world.finish(command, world.web, "héllo\n".as_bytes()).await;
    let shown = world.get(&op, &path).await.expect(200).json();
    assert_eq!((&shown["status"], &shown["counts"]), (&json!("running"), &json!({ "queued": 1, "succeeded": 1 })));
    let one = world.get(&op, &format!("{path}/invocations/web-1")).await.expect(200).json();
    assert_eq!((&one["state"], &one["exit_code"], &one["parsed"]), (&json!("succeeded"), &json!(0), &json!(true)));
    assert_eq!((&one["stdout"], &one["result"]), (&json!("héllo\n"), &json!({ "n": 1 })));

    let list = world.get(&op, &format!("{path}/invocations?limit=1")).await.expect(200).json();
    let next = format!("{path}/invocations?limit=1&cursor={}", list["next_cursor"].as_str().expect("a cursor"));
    let rest = world.get(&op, &next).await.expect(200).json();
    assert_ne!(list["items"][0]["agent"], rest["items"][0]["agent"]);
    assert_eq!(rest["next_cursor"], Value::Null);
    let queued = world.get(&op, &format!("{path}/invocations?state=queued")).await.expect(200).json();
    assert_eq!(queued["items"].as_array().expect("items").len(), 1);
    assert_eq!(queued["items"][0]["parsed"], Value::Null);
}

#[tokio::test]
async fn raw_output_is_octets_from_an_offset_on() {
    let world = World::new().await;
    let op = world.login("op").await;
    let command = world.submit(&op).await;
    world.finish(command, world.web, b"ab\xff\0cd").await;
    let path = format!("{COMMANDS}/{command}/invocations/web-1/output");
    let whole = world.get(&op, &path).await.expect(200);
    assert_eq!(&whole.body[..], b"ab\xff\0cd");
    assert_eq!(whole.headers["content-type"], "application/octet-stream");
    assert_eq!(
        (&whole.headers["x-output-gaps"], &whole.headers["x-output-total"]),
        (&"none".parse().expect("a value"), &"6".parse().expect("a value"))
    );
    let rest = world.get(&op, &format!("{path}?stream=stdout&offset=4")).await.expect(200);
    assert_eq!((&rest.body[..], &rest.headers["x-output-next-offset"]), (&b"cd"[..], &"6".parse().expect("a value")));
    assert!(world.get(&op, &format!("{path}?stream=stderr")).await.expect(200).body.is_empty());
    for query in ["stream=stdin", "offset=-1", "offset=x", "offset=99999999999999999999"] {
        world.get(&op, &format!("{path}?{query}")).await.refused(400, "invalid_parameter");
    }
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_its_reason() {
    let world = World::new().await;
    let op = world.login("op").await;
    let all = json!({ "all": true });
    let args = |text: &str| json!({ "verb": "test.echo", "args": { "text": text }, "target": { "all": true } });
    for (body, status, code, pointer) in [
        (json!({ "verb": "test.ecko", "target": all }), 422, "unknown_verb", "/verb"),
        (json!({ "verb": "test.gone", "target": all }), 409, "verb_unavailable", "/verb"),
        (json!({ "verb": "test.echo", "args": { "text": 5 }, "target": all }), 422, "invalid_args", "/args/text"),
        (json!({ "verb": "test.echo", "args": [], "target": all }), 422, "invalid_args", "/args"),
        (echo(json!({})), 422, "no_target", "/target"),
        (echo(json!({ "agents": [] })), 422, "no_target", "/target"),
        (echo(json!({ "agents": ["*"] })), 422, "no_target", "/target/agents"),
        (echo(json!({ "agents": ["web-1", "ghost"] })), 422, "no_target", "/target/agents"),
        (echo(json!({ "all": true, "sites": ["eu"] })), 422, "invalid_body", "/target"),
        (echo(json!({ "everyone": true })), 422, "unknown_field", "/target/everyone"),
        (json!({ "verb": "test.echo", "target": all, "priority": "urgent" }), 422, "invalid_body", "/priority"),
        (json!({ "verb": "test.echo", "target": all, "priority": 1 }), 422, "invalid_body", "/priority"),
        (json!({ "verb": "test.echo", "target": all, "run_timeout_ms": 0 }), 422, "invalid_body", "/run_timeout_ms"),
        (
            json!({ "verb": "test.echo", "target": all, "start_within_ms": 2_592_000_001_u64 }),
            422,
            "invalid_body",
            "/start_within_ms",
        ),
        (json!({ "verb": "test.echo", "target": all, "start_within_ms": -1 }), 422, "invalid_body", "/start_within_ms"),
    ] {
        let reply = world.call(&op, "POST", COMMANDS, body.clone()).await.refused(status, code).json();
        assert_eq!(reply["errors"][0]["pointer"], pointer, "{body}");
    }
    world.call(&op, "POST", COMMANDS, args("denied")).await.refused(422, "plan_denied");
    let failed = world.call(&op, "POST", COMMANDS, args("trap")).await.refused(422, "plugin_failed");
    assert!(!String::from_utf8_lossy(&failed.body).contains("0xdead"));
    let busy = world.call(&op, "POST", COMMANDS, args("busy")).await.refused(503, "plugin_overloaded");
    assert_eq!(busy.headers["retry-after"], "1");
    let wipe = json!({ "verb": "test.wipe", "target": { "all": true } });
    world.call(&op, "POST", COMMANDS, wipe).await.refused(403, "effect_not_granted");
    assert_eq!(world.get(&op, COMMANDS).await.expect(200).json()["items"], json!([]));
}

#[tokio::test]
async fn a_handler_that_panics_answers_500_and_tells_nothing() {
    let world = World::new().await;
    let op = world.login("op").await;
    let body = json!({ "verb": "test.echo", "args": { "text": "panic" }, "target": { "all": true } });
    let reply = world.call(&op, "POST", COMMANDS, body).await.refused(500, "internal");
    assert!(!String::from_utf8_lossy(&reply.body).contains("secret"));
    world.get(&op, "/api/v1/me").await.expect(200);
}

#[tokio::test]
async fn commands_are_listed_newest_first_within_sight_and_filter() {
    let world = World::new().await;
    let (op, eu) = (world.login("op").await, world.login("eu").await);
    let both = world.submit(&op).await;
    world.clock.forward(Duration::from_secs(1));
    let us = world.call(&op, "POST", COMMANDS, echo(json!({ "sites": ["us"] }))).await.expect(202).json();
    let us = us["id"].as_str().expect("an id").to_owned();
    let ids = async |token: &str, query: &str| {
        let list = world.get(token, &format!("{COMMANDS}{query}")).await.expect(200).json();
        let items = list["items"].as_array().expect("items").clone();
        items.iter().map(|item| item["id"].as_str().expect("an id").to_owned()).collect::<Vec<_>>().join(" ")
    };
    let both = both.to_string();
    assert_eq!(ids(&op, "").await, format!("{us} {both}"));
    assert_eq!(ids(&eu, "").await, both);
    assert_eq!(ids(&eu, "?site=us").await, "");
    assert_eq!(ids(&op, "?site=eu").await, both);
    assert_eq!(ids(&op, "?agent=web-1").await, both);
    assert_eq!(ids(&eu, "?agent=db-1").await, "");
    assert_eq!(ids(&op, "?status=succeeded").await, "");
    assert_eq!(ids(&op, "?status=pending,running&verb=test.echo&priority=normal").await, format!("{us} {both}"));
    let created =
        world.get(&op, &format!("{COMMANDS}/{us}")).await.json()["created_at"].as_str().expect("a time").to_owned();
    assert_eq!(ids(&op, &format!("?since={created}")).await, us);
    assert_eq!(ids(&op, &format!("?until={created}")).await, both);
    let page = world.get(&op, &format!("{COMMANDS}?limit=1")).await.expect(200).json();
    let next = format!("?limit=1&cursor={}", page["next_cursor"].as_str().expect("a cursor"));
    assert_eq!(ids(&op, &next).await, both);
    for query in ["status=done", "priority=1", "verb=x", "since=yesterday", "sort=password_hash"] {
        let code = if query.starts_with("sort") { "unknown_parameter" } else { "invalid_parameter" };
        world.get(&op, &format!("{COMMANDS}?{query}")).await.refused(400, code);
    }
    world.get(&eu, &format!("{COMMANDS}/{us}")).await.refused(404, "not_found");
    world.get(&eu, &format!("{COMMANDS}/{us}/events")).await.refused(404, "not_found");
    world.get(&eu, &format!("{COMMANDS}/{us}/invocations/db-1/output")).await.refused(404, "not_found");
    world.call(&eu, "POST", &format!("{COMMANDS}/{us}/cancel"), json!({})).await.refused(404, "not_found");
}

#[tokio::test]
async fn an_agents_commands_are_those_it_has_a_part_in_and_out_of_sight_there_is_no_agent() {
    let world = World::new().await;
    let (op, eu) = (world.login("op").await, world.login("eu").await);
    let both = world.submit(&op).await.to_string();
    let us = world.call(&op, "POST", COMMANDS, echo(json!({ "sites": ["us"] }))).await.expect(202).json();
    let us = us["id"].as_str().expect("an id").to_owned();
    let ids = async |token: &str, agent: &str, query: &str| {
        let list = world.get(token, &format!("/api/v1/agents/{agent}/commands{query}")).await.expect(200).json();
        let items = list["items"].as_array().expect("items").clone();
        items.iter().map(|item| item["id"].as_str().expect("an id").to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(ids(&op, "db-1", "").await, format!("{us} {both}"));
    assert_eq!(ids(&op, &world.web.to_string(), "").await, both, "by its id, too");
    assert_eq!(ids(&eu, "web-1", "?status=pending&verb=test.echo").await, both);
    assert_eq!(ids(&op, "web-1", "?status=succeeded").await, "");
    let page = world.get(&op, "/api/v1/agents/db-1/commands?limit=1").await.expect(200).json();
    let next = format!("?limit=1&cursor={}", page["next_cursor"].as_str().expect("a cursor"));
    assert_eq!(ids(&op, "db-1", &next).await, both);
    world.get(&op, "/api/v1/agents/web-1/commands?agent=db-1").await.refused(400, "unknown_parameter");
    for (token, agent) in [(&eu, "db-1"), (&op, "nobody")] {
        world.get(token, &format!("/api/v1/agents/{agent}/commands")).await.refused(404, "not_found");
    }
}

#[tokio::test]
async fn a_cancel_is_asked_for_once_and_an_ended_command_is_left_alone() {
    let world = World::new().await;
    let op = world.login("op").await;
    let command = world.submit(&op).await;
    let path = format!("{COMMANDS}/{command}/cancel");
    let empty = with(&op, "POST", &path).body(Body::empty()).expect("a request");
    let answer = world.send(empty).await.expect(202).json();
    assert_eq!(answer["requested"], 2);
    for agent in [world.web, world.db] {
        world.advance(command, agent, vec![Event::CancelUnsent], None).await;
    }
    let answer = world.call(&op, "POST", &path, json!({})).await.expect(200).json();
    assert_eq!(answer, json!({ "status": "cancelled", "requested": 0 }));
    let unknown = format!("{COMMANDS}/0193f2a4-7c1e-7abc-8def-0123456789ab/cancel");
    world.call(&op, "POST", &unknown, json!({})).await.refused(404, "not_found");
}

#[tokio::test]
async fn a_cancel_reaches_what_its_caller_sees_and_no_further() {
    let world = World::new().await;
    let (op, eu) = (world.login("op").await, world.login("eu").await);
    let (one, other) = (world.submit(&op).await, world.submit(&op).await);
    let answer = world.call(&eu, "POST", &format!("{COMMANDS}/{one}/cancel"), json!({})).await.expect(202).json();
    assert_eq!(answer["requested"], 1);
    let many = world.call(&eu, "POST", &format!("{COMMANDS}/cancel"), json!({ "verb": "test.echo" })).await;
    let many = many.expect(202).json();
    assert_eq!(
        (&many["commands"], &many["requested"]),
        (&json!(2), &json!(2)),
        "what is asked for twice is open twice"
    );
    for command in [one, other] {
        for (agent, asked) in [("web-1", true), ("db-1", false)] {
            let path = format!("{COMMANDS}/{command}/invocations/{agent}");
            let invocation = world.get(&op, &path).await.expect(200).json();
            assert_eq!(invocation["cancel_requested"], asked, "{agent}: {invocation}");
        }
    }
}

#[tokio::test]
async fn a_submitter_may_wait_for_the_end() {
    let world = World::new().await;
    let op = world.login("op").await;
    let submit = async |wait: &str| {
        let request = with(&op, "POST", COMMANDS).header("content-type", "application/json").header("prefer", wait);
        let body = echo(json!({ "agents": ["web-1"] })).to_string();
        world.send(request.body(body.into()).expect("a request")).await
    };
    let reply = submit("respond-async, wait=0").await.expect(202);
    assert_eq!(
        (&reply.json()["status"], &reply.headers["preference-applied"]),
        (&json!("pending"), &"wait=0".parse().expect("a value"))
    );
    for bad in ["wait=61", "wait=x", "wait=-1"] {
        submit(bad).await.refused(400, "invalid_header");
    }
    let work = async {
        // The other side: waits for the command to be there, then ends it.
        let mut live = world.bus.subscribe(None);
        let command = loop {
            if let Heard::Event(event) = live.next().await
                && let Some(command) = event.what.command()
            {
                break command;
            }
        };
        world.finish(command, world.web, b"").await;
    };
    let (reply, ()) = tokio::join!(submit("wait=60"), work);
    assert_eq!(reply.expect(200).json()["status"], "succeeded");
}

#[tokio::test]
async fn many_commands_are_asked_to_end_by_what_they_have_in_common() {
    let world = World::new().await;
    let (op, eu) = (world.login("op").await, world.login("eu").await);
    let many = async |token: &str, body: Value| world.call(token, "POST", "/api/v1/commands/cancel", body).await;
    let ids = [world.submit(&op).await, world.submit(&op).await, world.submit(&op).await];
    world.finish(ids[0], world.web, b"hi").await;
    world.finish(ids[0], world.db, b"hi").await;
    for (body, pointer) in [
        (json!({ "status": ["succeeded"] }), "/status/0"),
        (json!({ "status": [] }), "/status"),
        (json!({ "site": [] }), "/site"),
        (json!({ "verb": "nonsense" }), "/verb"),
        (json!({ "priority": "urgent" }), "/priority"),
        (json!({ "since": "yesterday" }), "/since"),
        (json!({ "since": "2026-01-31T12:00:01Z", "until": "2026-01-31T12:00:00Z" }), "/since"),
        (json!({ "verb": "test.echo", "limit": 0 }), "/limit"),
    ] {
        let refused = many(&op, body).await.refused(422, "invalid_body").json();
        assert_eq!(refused["errors"][0]["pointer"], pointer);
    }
    many(&op, json!({})).await.refused(422, "invalid_body");
    many(&op, json!({ "limit": 5 })).await.refused(422, "invalid_body");
    assert_eq!(many(&op, json!({ "agent": "nobody" })).await.expect(200).json()["commands"], 0);
    assert_eq!(many(&eu, json!({ "site": ["us"] })).await.expect(200).json()["commands"], 0, "out of sight");

    let one = many(&op, json!({ "verb": "test.echo", "limit": 1 })).await.expect(202).json();
    assert_eq!((&one["commands"], &one["requested"], &one["more"]), (&json!(1), &json!(2), &json!(true)));
    assert_eq!(one["items"][0]["id"], ids[2].to_string(), "the newest first");
    let rest = many(&op, json!({ "site": ["eu"], "status": ["pending"] })).await.expect(202).json();
    let meant: Vec<&Value> = rest["items"].as_array().expect("items").iter().map(|item| &item["id"]).collect();
    assert!(meant.contains(&&json!(ids[1].to_string())) && !meant.contains(&&json!(ids[0].to_string())), "{rest}");
    assert_eq!(rest["more"], false);
    let over = world.get(&op, &format!("/api/v1/commands/{}", ids[0])).await.expect(200).json();
    assert_eq!(over["status"], "succeeded", "what is over stays");
    let cancels = world.audited().await.into_iter().filter(|action| *action == "command.cancel").count();
    assert_eq!(cancels, rest["commands"].as_u64().expect("a number") as usize + 1);
}

#[tokio::test]
async fn a_command_keeps_the_request_and_the_trace_it_came_with() {
    let world = World::new().await;
    let root = world.login("root").await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let body = json!({ "verb": "test.echo", "args": { "text": "hi" }, "target": { "all": true } });
    let request = with(&root, "POST", "/api/v1/commands").header("content-type", "application/json");
    let request = request.header("x-request-id", "mine-7").header("traceparent", trace);
    let made = world.send(request.body(body.to_string().into()).expect("a request")).await.expect(202);
    assert_eq!(
        (&made.headers["x-request-id"], &made.headers["traceparent"]),
        (&"mine-7".parse().expect("a value"), &trace.parse().expect("a value"))
    );
    let location = made.headers["location"].to_str().expect("text").to_owned();
    let command = world.get(&root, &location).await.expect(200).json();
    assert_eq!((&command["correlation_id"], &command["traceparent"]), (&json!("mine-7"), &json!(trace)));
    let invocations = world.get(&root, &format!("{location}/invocations")).await.expect(200).json();
    assert_eq!(invocations["items"][0]["traceparent"], trace);
    let entries = world.get(&root, "/api/v1/audit?action=command.submit").await.expect(200).json();
    let entry = &entries["items"][0];
    assert_eq!((&entry["correlation_id"], &entry["details"]["traceparent"]), (&json!("mine-7"), &json!(trace)));
}
