//! What is on record: every change that the route table has, every refusal within bounds; and the log's own routes.

use domain::alert::flap::Limits;
use domain::alert::life::Told;
use domain::alert::standing::Line;
use domain::alert::{Finding, Seen, Severity, standing};
use domain::attempt::Event;
use domain::audit::Level;
use domain::time::Timestamp;
use plan::id::{AgentId, AlertId};
use ports::alerts::{Alerts as _, Change, Kept, Moment};
use ports::journal::Journal as _;
use serde_json::{Value, json};

use super::world::{PASSWORD, World};
use crate::authorize::Access;
use crate::routes::{Route, TABLE};

/// Routes that change nothing, or need more than this world has.
pub const ELSEWHERE: [(&str, &str); 7] = [
    ("/api/v1/alert-rules/{rule}/backtest", "it changes nothing"),
    ("/api/v1/verbs/{verb}/plan", "it changes nothing"),
    ("/api/v1/commands/{id}/release", "it takes a restored store: tests/it/backup.rs"),
    ("/api/v1/plugins/{name}/enable", "it goes the way of disable"),
    ("/api/v1/plugins/{name}/rollback", "it goes the way of disable"),
    ("/api/v1/plugins/{name}/retry", "it goes the way of disable"),
    ("/api/v1/plugins/{name}/approve", "it goes the way of disable"),
];

fn changes() -> impl Iterator<Item = &'static Route> {
    TABLE.iter().filter(|row| row.method != "GET")
}

/// A request that the route grants, in a world made ready for it: its path, its body, the entry it leaves.
pub async fn granted(world: &World, root: &str, row: &Route) -> Option<(String, Value, &'static str)> {
    let path = |name: &str, value: &str| row.path.replace(&format!("{{{name}}}"), value);
    let fixed = row.path.to_owned();
    let refresh = async || {
        let body = json!({ "name": "op", "password": PASSWORD });
        let reply = world.call("", "POST", "/api/v1/auth/login", body).await.expect(200).json();
        json!({ "refresh_token": reply["refresh_token"] })
    };
    let make = async |path: &str, body: Value| world.call(root, "POST", path, body).await.expect(201).json();
    Some(match (row.method, row.path) {
        ("POST", "/api/v1/auth/login") => (fixed, json!({ "name": "op", "password": PASSWORD }), "auth.login"),
        ("POST", "/api/v1/auth/refresh") => (fixed, refresh().await, "auth.refresh"),
        ("POST", "/api/v1/auth/logout") => (fixed, refresh().await, "auth.logout"),
        ("POST", "/api/v1/me/password") => {
            (fixed, json!({ "current": PASSWORD, "new": "another long one" }), "auth.password_changed")
        }
        ("POST", "/api/v1/users") => {
            (fixed, json!({ "name": "ada", "password": PASSWORD, "role": "viewer" }), "users.create")
        }
        ("DELETE", "/api/v1/users/{user}") => (path("user", "eye"), Value::Null, "users.delete"),
        ("PATCH", "/api/v1/users/{user}") => (path("user", "eye"), json!({ "role": "operator" }), "users.change"),
        ("PUT", "/api/v1/grants/{user}") => (path("user", "eye"), json!({ "grants": [] }), "users.change"),
        ("POST", "/api/v1/api-keys") => (fixed, json!({}), "auth.create_api_key"),
        ("DELETE", "/api/v1/api-keys/{id}") => {
            let made = make("/api/v1/api-keys", json!({})).await;
            (path("id", made["id"].as_str().expect("an id")), Value::Null, "auth.revoke_api_key")
        }
        ("PATCH", "/api/v1/agents/{agent}") => {
            (path("agent", "web-1"), json!({ "maintenance": true }), "agents.change")
        }
        ("DELETE", "/api/v1/agents/{agent}") => (path("agent", "web-1"), Value::Null, "agents.delete"),
        ("POST", "/api/v1/agents/{agent}/approve") => (path("agent", "web-1"), Value::Null, "agents.approve"),
        ("POST", "/api/v1/agents/{agent}/rotate-key") => (path("agent", "web-1"), Value::Null, "agents.ask_key"),
        ("POST", "/api/v1/agents/{agent}/revoke") => (path("agent", "web-1"), Value::Null, "agents.revoke"),
        ("POST", "/api/v1/groups") => (fixed, json!({ "name": "g", "expr": "site = eu" }), "groups.create"),
        ("PATCH", "/api/v1/groups/{group}") => {
            make("/api/v1/groups", json!({ "name": "g", "expr": "site = eu" })).await;
            (path("group", "g"), json!({ "expr": "site = us" }), "groups.change")
        }
        ("DELETE", "/api/v1/groups/{group}") => {
            make("/api/v1/groups", json!({ "name": "g", "expr": "site = eu" })).await;
            (path("group", "g"), Value::Null, "groups.delete")
        }
        ("POST", "/api/v1/alerts/{id}/ack") => {
            (path("id", &firing(world).await.to_string()), json!({ "note": "on it" }), "alerts.acknowledge")
        }
        ("POST", "/api/v1/alerts/{id}/release") => {
            let id = firing(world).await.to_string();
            world.call(root, "POST", &format!("/api/v1/alerts/{id}/ack"), json!({})).await.expect(200);
            (path("id", &id), json!({}), "alerts.release")
        }
        ("POST", "/api/v1/silences") => {
            (fixed, json!({ "matcher": { "rules": ["cpu"] }, "for_s": 60 }), "silences.create")
        }
        ("DELETE", "/api/v1/silences/{id}") => {
            let made = make("/api/v1/silences", json!({ "matcher": { "rules": ["cpu"] }, "for_s": 60 })).await;
            (path("id", made["id"].as_str().expect("an id")), Value::Null, "silences.end")
        }
        ("POST", "/api/v1/notification-channels") => (fixed, channel(), "channels.create"),
        ("PATCH", "/api/v1/notification-channels/{channel}") => {
            make("/api/v1/notification-channels", channel()).await;
            (path("channel", "ops"), json!({ "per_minute": 7 }), "channels.change")
        }
        ("DELETE", "/api/v1/notification-channels/{channel}") => {
            make("/api/v1/notification-channels", channel()).await;
            (path("channel", "ops"), Value::Null, "channels.delete")
        }
        ("POST", "/api/v1/notification-channels/{channel}/test") => {
            make("/api/v1/notification-channels", channel()).await;
            (path("channel", "ops"), Value::Null, "channels.test")
        }
        ("POST", "/api/v1/join-tokens") => (fixed, json!({}), "agents.create_join_token"),
        ("DELETE", "/api/v1/join-tokens/{id}") => {
            let made = make("/api/v1/join-tokens", json!({})).await;
            (path("id", made["id"].as_str().expect("an id")), Value::Null, "agents.revoke_join_token")
        }
        ("POST", "/api/v1/commands") => {
            let body = json!({ "verb": "test.echo", "args": { "text": "hi" }, "target": { "all": true } });
            (fixed, body, "command.submit")
        }
        ("POST", "/api/v1/commands/cancel") => {
            world.submit(root).await;
            (fixed, json!({ "verb": "test.echo" }), "command.cancel")
        }
        ("POST", "/api/v1/commands/{id}/cancel") => {
            (path("id", &world.submit(root).await.to_string()), json!({}), "command.cancel")
        }
        ("POST", "/api/v1/commands/{id}/retry") => {
            let id = world.submit(root).await;
            let events = vec![Event::Send, Event::Acknowledge, Event::Start, Event::Finish { succeeded: false }];
            world.advance(id, world.web, events, None).await;
            (path("id", &id.to_string()), json!({ "only": "failed" }), "command.submit")
        }
        ("POST", "/api/v1/plugins/{name}/disable") => (path("name", "test"), Value::Null, "plugins.disable"),
        _ => return None,
    })
}

fn channel() -> Value {
    json!({ "name": "ops", "url": "https://hooks.example.org/secret" })
}

/// An alert that fires at `web-1`.
pub async fn firing(world: &World) -> AlertId {
    fire(world, 7, world.web, ("web-1", "eu")).await
}

/// An alert that has just begun to fire.
pub async fn fire(world: &World, id: u128, agent: AgentId, (name, site): (&str, &str)) -> AlertId {
    let finding = Finding {
        key: "/".into(),
        seen: Seen::Wrong(Severity::Warning),
        since_ms: 1,
        value: None,
        message: "full".into(),
    };
    let (alert, _) = standing::Alert::new(&finding, Limits::default(), Timestamp(1));
    let id = AlertId(uuid::Uuid::from_u128(id));
    let kept = Kept {
        id,
        rule: "disk".into(),
        agent: Some(agent),
        agent_name: name.into(),
        site: site.into(),
        key: "/".into(),
        alert,
        muted: None,
        revision: 0,
    };
    let fired = Moment {
        at: Timestamp(1),
        line: Line::Told(Told::Fired),
        severity: Some(Severity::Warning),
        value: None,
        message: "full".into(),
        actor: None,
        note: None,
    };
    let change = Change { alert: kept, moments: vec![fired], news: Vec::new() };
    world.store.keep_alerts(vec![change], Vec::new(), None).await.expect("kept");
    id
}

#[tokio::test]
async fn every_route_that_changes_something_leaves_an_entry() {
    for row in changes() {
        if ELSEWHERE.iter().any(|(path, _)| *path == row.path) {
            continue;
        }
        let world = World::new().await;
        let root = world.login("root").await;
        let request = granted(&world, &root, row).await;
        let (path, body, action) =
            request.unwrap_or_else(|| panic!("{} {}: say here how it is granted", row.method, row.path));
        let before = world.audited().await.len();
        let token = if row.access == Access::Public { "" } else { &root };
        let reply = match body {
            Value::Null => {
                let request = super::world::with(token, row.method, &path).body(axum::body::Body::empty());
                world.send(request.expect("a request")).await
            }
            body => world.call(token, row.method, &path, body).await,
        };
        assert!(reply.status.is_success(), "{} {path}: {} {:?}", row.method, reply.status, reply.body);
        let audited = world.audited().await;
        // A logout with the refresh token of another login ends two, and says so twice.
        let new = &audited[before..];
        assert!(!new.is_empty() && new.iter().all(|entry| *entry == action), "{} {path}: {new:?}", row.method);
    }
}

#[tokio::test]
async fn a_refused_change_is_on_record_with_who_asked_and_why() {
    let world = World::new().await;
    let (eye, eu) = (world.login("eye").await, world.login("eu").await);
    let db = format!("/api/v1/agents/{}", world.db);
    let submit = json!({ "verb": "test.echo", "args": { "text": "hi" }, "target": { "all": true } });
    world.call("", "POST", "/api/v1/commands", submit.clone()).await.refused(401, "unauthenticated");
    world.call("forged", "DELETE", "/api/v1/users/root", json!({})).await.refused(401, "invalid_token");
    world.call(&eye, "POST", "/api/v1/commands", submit).await.refused(403, "forbidden");
    world.call(&eu, "PATCH", &db, json!({ "maintenance": true })).await;
    world.call("", "POST", "/nowhere", json!({})).await.refused(404, "not_found");
    world.get(&eye, "/api/v1/audit").await.refused(403, "forbidden");
    let refused: Vec<_> =
        world.store.audits(None, 500).await.expect("reads").into_iter().map(|(_, entry)| entry).collect();
    let refused: Vec<_> = refused.iter().rev().filter(|entry| entry.action == "auth.refused").collect();
    let told: Vec<(Option<&str>, &str)> = refused
        .iter()
        .map(|entry| (entry.actor.as_deref(), entry.resource.as_ref().map_or("", |(_, route)| route.as_str())))
        .collect();
    let route = format!("PATCH {db}");
    let expected = [
        (None, "POST /api/v1/commands"),
        (None, "DELETE /api/v1/users/root"),
        (Some("eye"), "POST /api/v1/commands"),
        (Some("eu"), route.as_str()),
    ];
    assert_eq!(told, expected);
    assert!(refused.iter().all(|entry| entry.level == Level::Warn && entry.correlation_id.is_some()));
    assert_eq!(refused[0].details, r#"{"code":"unauthenticated","status":401}"#);
}

#[tokio::test]
async fn a_flood_of_refusals_does_not_fill_the_store() {
    let world = World::new().await;
    for _ in 0..500 {
        world.call("forged", "POST", "/api/v1/commands", json!({})).await.refused(401, "invalid_token");
    }
    let count = |audited: Vec<&str>| audited.iter().filter(|action| **action == "auth.refused").count();
    assert_eq!(count(world.audited().await), 20);
    world.clock.forward(std::time::Duration::from_secs(30));
    world.call("forged", "POST", "/api/v1/commands", json!({})).await.refused(401, "invalid_token");
    assert_eq!(count(world.audited().await), 21);
    let latest = world.store.audits(None, 1).await.expect("reads");
    assert_eq!(latest[0].1.details, r#"{"code":"invalid_token","left_out":480,"status":401}"#);
}

#[tokio::test]
async fn the_log_is_found_by_who_what_and_when() {
    let world = World::new().await;
    let root = world.login("root").await;
    world.submit(&root).await;
    world.clock.forward(std::time::Duration::from_secs(60));
    let op = world.login("op").await;
    world.submit(&op).await;
    let actions = async |query: &str| -> Vec<String> {
        let page = world.get(&root, &format!("/api/v1/audit?{query}")).await.expect(200).json();
        let item = |item: &Value| {
            format!("{} {}", item["actor"].as_str().unwrap_or("-"), item["action"].as_str().unwrap_or("-"))
        };
        page["items"].as_array().expect("items").iter().map(item).collect()
    };
    assert_eq!(actions("action=command.submit").await, ["op command.submit", "root command.submit"]);
    assert_eq!(actions("actor=op").await, ["op command.submit", "op auth.login"]);
    assert_eq!(actions("actor=op&action=auth.login").await, ["op auth.login"]);
    let page = world.get(&root, "/api/v1/audit?actor=op&limit=1").await.expect(200).json();
    let since = page["items"][0]["at"].as_str().expect("an instant").to_owned();
    assert_eq!(actions(&format!("since={since}")).await, ["op command.submit", "op auth.login"]);
    assert_eq!(actions(&format!("until={since}&actor=root")).await, ["root command.submit", "root auth.login"]);
    let next = page["next_cursor"].as_str().expect("more");
    assert_eq!(actions(&format!("actor=op&limit=1&cursor={next}")).await, ["op auth.login"]);
    for bad in ["since=yesterday", "actor=", "level=warn"] {
        assert_eq!(world.get(&root, &format!("/api/v1/audit?{bad}")).await.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn the_log_verifies_and_leaves_as_one_line_an_entry() {
    let world = World::new().await;
    let root = world.login("root").await;
    world.submit(&root).await;
    let report = world.get(&root, "/api/v1/audit/verify").await.expect(200).json();
    let entries = report["entries"].as_u64().expect("a number");
    assert_eq!((&report["whole"], &report["faults"]), (&json!(true), &json!([])), "{report}");
    assert_eq!(report["heads"][0]["position"], entries);

    let export = world.get(&root, "/api/v1/audit/export").await.expect(200);
    assert_eq!(export.headers["content-type"], "application/x-ndjson");
    let lines: Vec<Value> =
        export.body.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let kinds: Vec<&str> = lines.iter().filter_map(|line| line["kind"].as_str()).collect();
    let written = entries as usize + 1;
    assert_eq!(kinds, [vec!["export", "chain"], vec!["entry"; written], vec!["end"]].concat(), "with its own entry");
    assert_eq!(lines[0]["public_key"], report["public_key"]);
    assert_eq!(
        (&lines[written + 1]["action"], &lines[written + 2]["entries"]),
        (&json!("audit.export"), &json!(written))
    );
    for path in ["/api/v1/audit/verify", "/api/v1/audit/export"] {
        world.get(&world.login("op").await, path).await.refused(403, "forbidden");
    }
}
