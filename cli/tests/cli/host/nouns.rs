//! One or two of each thing that operators look at, among them what a stranger could have named so as to deceive.

use std::collections::HashMap;
use std::sync::LazyLock;

use axum::extract::{Path, Query, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::{SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

use super::{Host, id_of, problem, refuse};

/// An instant that is three hours ago for as long as the tests run: ages are told by the clock of the program.
pub static EARLIER: LazyLock<String> =
    LazyLock::new(|| (Utc::now() - TimeDelta::minutes(210)).to_rfc3339_opts(SecondsFormat::Secs, true));
/// Long after.
const LATER: &str = "2199-01-01T00:00:00Z";
/// Long before.
const BEFORE: &str = "2026-01-01T00:00:00Z";
/// The first alert.
pub const ALERT: &str = "0193f2c4-2222-7000-8000-000000000001";

pub fn router() -> Router<Host> {
    Router::new()
        .route("/alerts", get(alerts))
        .route("/alerts/{id}", get(alert))
        .route("/silences", get(silences).post(made_silence))
        .route("/alert-rules", get(rules))
        .route("/alert-rules/{rule}/backtest", post(backtest))
        .route("/notification-channels", get(channels).post(made_channel))
        .route("/notification-channels/{channel}/messages", get(messages))
        .route("/notification-channels/{channel}/test", post(tested))
        .route("/api-keys", get(keys).post(made_key))
        .route("/groups", get(groups))
        .route("/groups/{group}", get(group))
        .route("/users/{user}", get(user))
        .route("/plugins/{plugin}", get(plugin))
        .route("/plugins/{plugin}/history", get(history))
        .route("/audit", get(audit))
        .route("/audit/verify", get(verified))
}

fn page(items: Value) -> Json<Value> {
    Json(json!({"items": items, "next_cursor": null}))
}

fn alert_body() -> Value {
    json!({"id": ALERT, "rule": "disk", "agent": id_of("web-01"), "agent_name": "web-01", "site": "eu", "key": "/srv",
           "state": "acknowledged", "severity": "critical", "since": *EARLIER, "began": *EARLIER,
           "message": "96% full\u{1b}[2J", "value": 96.0, "muted": "silence", "flapping": false,
           "owner": {"name": "ada", "note": "looks at it", "at": *EARLIER}})
}

async fn alerts() -> Json<Value> {
    let failing = json!({"id": "0193f2c4-2222-7000-8000-000000000002", "rule": "rule_error", "key": "cpu",
        "state": "firing", "severity": "warning", "since": *EARLIER, "began": *EARLIER, "message": "it trapped",
        "flapping": true});
    page(json!([alert_body(), failing]))
}

async fn alert() -> Json<Value> {
    let mut body = alert_body();
    body["timeline"] = json!([
        {"at": "2026-01-01T00:02:00Z", "what": "acknowledged", "severity": "critical", "message": "96% full",
         "actor": "ada", "note": "looks at it"},
        {"at": "2026-01-01T00:01:00Z", "what": "fired", "severity": "critical", "value": 96.0, "message": "96% full"}]);
    Json(body)
}

fn silence_body() -> Value {
    let matcher = json!({"rules": ["disk"], "sites": ["eu", "us"], "labels": {"env": "test"}, "key": "/srv",
                         "at_most": "warning"});
    json!({"id": "0193f2c4-3333-7000-8000-000000000001", "matcher": matcher, "from": BEFORE, "until": LATER,
           "created_by": "ada", "created_at": BEFORE, "comment": "moving house"})
}

async fn silences() -> Json<Value> {
    page(json!([silence_body()]))
}

async fn made_silence() -> Response {
    (StatusCode::CREATED, Json(silence_body())).into_response()
}

async fn rules() -> Json<Value> {
    page(json!([{"name": "disk", "version": "1.2.0", "summary": "A disk fills up", "reads": ["disk.used_pct"],
        "config": {"at": 90}, "overrides": [{"sites": ["us"], "labels": {}, "config": {"at": 95}}]}]))
}

async fn backtest(Path(rule): Path<String>) -> Json<Value> {
    Json(json!({"rule": rule, "from": BEFORE, "to": "2026-01-08T00:00:00Z", "config": {"at": 80}, "agents": 2,
        "samples": 40_320, "fired": 1, "under_two_minutes": 0, "median_s": 600, "p90_s": 900, "proposed_for_s": 120,
        "summary": "would have fired once", "times": [{"agent_name": "web-01", "key": "/srv", "severity": "warning",
            "fired": BEFORE, "lasted_s": 600, "message": "81% full"}]}))
}

fn channel_body() -> Value {
    json!({"id": "0193f2c4-4444-7000-8000-000000000001", "name": "ops", "kind": "webhook",
           "url": "https://hooks.example.invalid", "matcher": {}, "at_least": "critical", "per_minute": 6,
           "created_by": "ada", "created_at": BEFORE, "told_at": *EARLIER})
}

async fn channels() -> Json<Value> {
    let mut quiet = channel_body();
    quiet["name"] = "quiet".into();
    quiet["kind"] = "slack".into();
    quiet["told_at"] = Value::Null;
    page(json!([channel_body(), quiet]))
}

async fn made_channel() -> Response {
    let mut body = channel_body();
    body["secret"] = "whsec_shown_once".into();
    (StatusCode::CREATED, Json(body)).into_response()
}

async fn messages() -> Json<Value> {
    let message = |number: u32, state: &str, error: Option<&str>| {
        json!({"id": format!("0193f2c4-5555-7000-8000-00000000000{number}"), "state": state, "created_at": *EARLIER,
               "attempts": number, "error": error, "body": "{}"})
    };
    page(json!([message(1, "sent", None), message(9, "dead", Some("it answered 500"))]))
}

async fn tested() -> Json<Value> {
    Json(json!({"delivered": false, "status": 500, "error": "it answered 500"}))
}

fn key_body(number: u32, name: Option<&str>, expires: &str, grants: Value) -> Value {
    json!({"id": format!("0193f2c4-6666-7000-8000-00000000000{number}"), "name": name, "user": "u1", "user_name": "ada",
           "role": "operator", "grants": grants, "created_at": BEFORE, "expires_at": expires,
           "last_used_at": (number == 1).then_some(&*EARLIER), "revoked_at": (number == 3).then_some(BEFORE)})
}

async fn keys() -> Json<Value> {
    let narrow = json!([{"sites": ["eu"], "verbs": ["docker.*"], "effects": ["read"]}]);
    page(json!([
        key_body(1, Some("ci"), LATER, narrow),
        key_body(2, None, BEFORE, Value::Null),
        key_body(3, Some("old"), LATER, Value::Null)
    ]))
}

async fn made_key() -> Response {
    let mut body = key_body(1, Some("ci"), LATER, Value::Null);
    body["key"] = "vwk_shown_once".into();
    (StatusCode::CREATED, Json(body)).into_response()
}

fn group_body(name: &str) -> Value {
    json!({"name": name, "expr": "agent = web-* and not @canary", "description": "all but the canaries",
           "uses": ["canary"], "used_by": ["all-web"], "created_by": "ada", "created_at": BEFORE,
           "changed_by": "bob", "changed_at": *EARLIER})
}

async fn groups() -> Json<Value> {
    page(json!([group_body("web")]))
}

async fn group(Path(group): Path<String>) -> Response {
    if group == "nobody" {
        return refuse(problem(404, "not_found", "there is no such group", json!([])));
    }
    let mut body = group_body(&group);
    body["agents"] = 12.into();
    Json(body).into_response()
}

async fn user(Path(user): Path<String>) -> Json<Value> {
    let grants = json!([{"sites": ["eu"], "verbs": ["docker.*"], "effects": ["read", "change"]},
                        {"sites": ["*"], "verbs": ["exec.run"], "effects": ["host"]}]);
    Json(json!({"id": "u2", "name": user, "role": "operator", "grants": grants, "created_at": BEFORE}))
}

async fn plugin(Path(plugin): Path<String>) -> Json<Value> {
    let version = |version: &str, digest: &str, state: &str, why: Option<&str>| {
        json!({"version": version, "digest": digest.repeat(32), "state": state, "since": *EARLIER, "why": why,
               "approved": true})
    };
    Json(json!({"name": plugin, "kind": "verb", "state": "probation", "file": "docker.wasm", "version": "1.1.0",
        "digest": "ab".repeat(32), "verbs": ["docker.ps", "docker.run"], "grant": {}, "faults": 1, "enabled": false,
        "signature": null, "refusal": {"gate": 8, "code": "example_plan", "cause": "it plans what it may not",
            "cure": "mend NAME", "digest": "cd".repeat(32)},
        "versions": [version("1.1.0", "ab", "probation", None), version("1.0.0", "ef", "kept", None),
                     version("1.2.0", "cd", "refused", Some("it plans what it may not"))]}))
}

async fn history() -> Json<Value> {
    page(json!([
        {"at": *EARLIER, "version": "1.1.0", "digest": "ab".repeat(32), "from": "kept", "to": "probation",
         "why": "gone back to", "actor": "ada"},
        {"at": *EARLIER, "version": null, "digest": null, "from": null, "to": "disabled", "why": null, "actor": null}]))
}

/// Two entries, those that were added above them, and as many on a page as are asked for.
async fn audit(Shared(host): Shared<Host>, Query(query): Query<HashMap<String, u64>>) -> Json<Value> {
    let entry = |id: u64, action: &str, actor: Option<&str>, details: Value| {
        json!({"id": id, "at": *EARLIER, "level": "info", "category": "users", "action": action, "actor": actor,
               "resource_type": "user", "resource_id": "bob", "details": details, "ip_address": "192.0.2.7",
               "user_agent": "viworks", "correlation_id": "req-1"})
    };
    let newest = 8 + host.state().audited;
    let shown = |id: u64| match id {
        7 => entry(7, "auth.refused", None, json!({"code": "login_refused\u{202e}"})),
        8 => entry(8, "users.change", Some("ada"), json!({"role": "operator"})),
        id => entry(id, "command.submit", Some("bob"), json!({})),
    };
    let from = query.get("cursor").map_or(newest, |last| last - 1);
    let to = (from + 1).saturating_sub(query["limit"]).max(7);
    let items: Vec<Value> = (to..=from).rev().map(shown).collect();
    Json(json!({"items": items, "next_cursor": (to > 7).then(|| to.to_string())}))
}

async fn verified() -> Json<Value> {
    let fault = json!({"what": "missing", "message": "entry 3 of chain c1 is not there", "id": null, "chain": "c1",
                       "position": 3});
    Json(json!({"whole": false, "entries": 7, "unchained": 2, "pruned": 5, "faults": [fault], "faults_in_all": 1,
        "heads": [{"chain": "c1", "position": 8, "hash": "ab".repeat(32)}], "public_key": "key"}))
}
