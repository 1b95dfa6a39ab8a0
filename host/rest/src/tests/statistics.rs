//! What an operator asks first, and the same for machines that watch the host.

use std::collections::{BTreeMap, BTreeSet};

use domain::attempt::Event;
use serde_json::{Value, json};

use super::audit;
use super::world::World;
use crate::routes::TABLE;

async fn ask(world: &World, token: &str) -> Value {
    world.get(token, "/api/v1/statistics").await.expect(200).json()
}

#[tokio::test]
async fn an_operator_is_told_who_is_there_what_waits_and_how_fast_it_goes() {
    let world = World::new().await;
    let op = world.login("op").await;
    let nothing = ask(&world, &op).await;
    assert_eq!(nothing["agents"]["total"], 2);
    assert_eq!(nothing["agents"]["by_site"], json!({ "eu": { "online": 1 }, "us": { "offline": 1 } }));
    assert_eq!(nothing["latency"]["run"], json!({ "count": 0, "p50_ms": null, "p99_ms": null }));

    let (first, second) = (world.submit(&op).await, world.submit(&op).await);
    world.finish(first, world.web, b"hi").await;
    world.advance(second, world.web, vec![Event::Send], None).await;
    // What is open is counted once a second at most.
    world.clock.forward(std::time::Duration::from_secs(1));
    let seen = ask(&world, &op).await;
    assert_eq!(seen["open_commands"], json!({ "scheduled": 0, "pending": 0, "running": 2 }));
    let open = &seen["open_invocations"];
    assert_eq!((&open["queued"], &open["sent"], &open["running"]), (&json!(2), &json!(1), &json!(0)));
    assert_eq!(seen["queue"], json!({ "low": 0, "normal": 2, "high": 0, "critical": 0 }));
    let minute = &seen["rates"]["last_1m"];
    assert_eq!(
        (&minute["submitted"], &minute["succeeded"], &minute["unsuccessful"]),
        (&json!(4), &json!(1), &json!(0))
    );
    assert_eq!(minute["submitted_per_s"], 0.067);
    assert_eq!(seen["latency"]["run"]["count"], 1);
    assert_eq!(seen["plugins"]["verbs"].as_u64(), Some(world_verbs(&world, &op).await));
}

#[tokio::test]
async fn what_was_counted_before_the_clock_was_set_back_is_counted_again() {
    let world = World::new().await;
    let op = world.login("op").await;
    let queued = async |token: &str| ask(&world, token).await["open_invocations"]["queued"].clone();
    assert_eq!(queued(&op).await, 0);
    world.submit(&op).await;
    assert_eq!(queued(&op).await, 0, "once a second at most");
    world.clock.back(std::time::Duration::from_secs(3_600));
    // Who was logged in by the clock of before is not any more.
    let op = world.login("op").await;
    assert_eq!(queued(&op).await, 2);
}

async fn world_verbs(world: &World, token: &str) -> u64 {
    world.get(token, "/api/v1/verbs").await.expect(200).json()["items"].as_array().map_or(0, |items| items.len() as u64)
}

#[tokio::test]
async fn nobody_is_told_about_sites_out_of_sight() {
    let world = World::new().await;
    let (op, eu) = (world.login("op").await, world.login("eu").await);
    let command = world.submit(&op).await;
    let body = json!({ "verb": "test.echo", "args": { "text": "hi" }, "target": { "agents": ["db-1"] } });
    world.call(&op, "POST", "/api/v1/commands", body).await.expect(202);
    world.finish(command, world.db, b"hi").await;
    let seen = ask(&world, &eu).await;
    assert_eq!(seen["agents"]["by_site"], json!({ "eu": { "online": 1 } }));
    assert_eq!((&seen["open_commands"]["running"], &seen["open_invocations"]["queued"]), (&json!(1), &json!(1)));
    let minute = &seen["rates"]["last_1m"];
    assert_eq!((&minute["submitted"], &minute["succeeded"]), (&json!(1), &json!(0)));
}

/// Metric families as told, each with the names of its labels and the number of its samples.
fn families(text: &str) -> BTreeMap<String, (BTreeSet<String>, usize)> {
    let mut families: BTreeMap<String, (BTreeSet<String>, usize)> = BTreeMap::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split(' ').next()) {
            families.entry(name.to_owned()).or_default();
        }
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        let family = families.keys().filter(|family| name.starts_with(family.as_str())).max_by_key(|f| f.len());
        let family = family.unwrap_or_else(|| panic!("{line} is of no family")).clone();
        let labels = line.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or("", |(labels, _)| labels);
        let names = labels.split("\",").filter_map(|label| label.split_once('=')).map(|(name, _)| name.to_owned());
        let (known, samples) = families.get_mut(&family).expect("a family");
        known.extend(names.filter(|name| name != "le"));
        *samples += 1;
    }
    families
}

/// Rows of the table in `docs/metrics.md`: name without what its kind adds, and labels.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md")).expect("a page");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `viworks_"));
    rows.map(|row| {
        let mut cells = row.split('|').map(str::trim);
        let name = format!("viworks_{}", cells.next().unwrap_or_default().trim_end_matches('`'));
        let labels = cells.nth(1).unwrap_or_default().split(',').map(|label| label.trim().trim_matches('`').to_owned());
        (name.trim_end_matches("_total").to_owned(), labels.filter(|label| !label.is_empty()).collect())
    })
    .collect()
}

#[tokio::test]
async fn every_metric_is_documented_and_every_documented_one_is_told() {
    let world = World::new().await;
    let op = world.login("op").await;
    let command = world.submit(&op).await;
    world.finish(command, world.web, b"hi").await;
    audit::firing(&world).await;
    let reply = world.get(&op, "/metrics").await.expect(200);
    assert_eq!(reply.headers["content-type"], crate::metrics::CONTENT_TYPE);
    let text = String::from_utf8(reply.body.to_vec()).expect("text");
    assert!(text.ends_with("# EOF\n"), "{text}");
    let told: BTreeMap<String, BTreeSet<String>> =
        families(&text).into_iter().map(|(name, (labels, _))| (name, labels)).collect();
    assert_eq!(told, documented(), "docs/metrics.md and /metrics");
    for line in [
        r#"viworks_commands_accepted_total{verb="test.echo"} 1"#,
        r#"viworks_attempts_total{verb="test.echo",state="succeeded"} 1"#,
        r#"viworks_agents{status="online"} 1"#,
        "viworks_run_seconds_count 1",
        r#"viworks_queue_length{priority="normal"} 1"#,
        r#"viworks_alerts{rule="disk",severity="warning",state="firing"} 1"#,
        r#"viworks_alerts{rule="rule_error",severity="critical",state="firing"} 0"#,
        r#"viworks_notifications_total{outcome="dead"} 0"#,
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn what_callers_invent_makes_no_new_series() {
    let world = World::new().await;
    let op = world.login("op").await;
    let count = async || {
        let text = String::from_utf8(world.get(&op, "/metrics").await.expect(200).body.to_vec()).expect("text");
        families(&text).values().map(|(_, samples)| samples).sum::<usize>()
    };
    let junk = async |n: u32| {
        for n in 0..n {
            world.get(&op, &format!("/nowhere/{n}")).await.expect(404);
            world.get(&op, &format!("/api/v1/agents/nobody-{n}")).await.expect(404);
            world.call(&op, &format!("ODD{n}"), "/api/v1/me", json!({})).await.expect(405);
            let body = json!({ "verb": format!("made.up{n}"), "args": {}, "target": { "all": true } });
            world.call(&op, "POST", "/api/v1/commands", body).await.expect(422);
        }
    };
    junk(1).await;
    count().await;
    let before = count().await;
    junk(30).await;
    assert_eq!(count().await, before);
    assert!(before < 200 + TABLE.len(), "{before} series");
}

#[tokio::test]
async fn metrics_take_a_token_and_a_key_will_do() {
    let world = World::new().await;
    world.get("", "/metrics").await.refused(401, "unauthenticated");
    let root = world.login("root").await;
    let body = json!({ "name": "prometheus", "role": "viewer" });
    let made = world.call(&root, "POST", "/api/v1/api-keys", body).await.expect(201).json();
    world.get(made["key"].as_str().expect("a key"), "/metrics").await.expect(200);
}
