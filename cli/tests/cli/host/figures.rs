//! Telemetry, health and statistics of a small host: one machine that is well, and numbers that are easy to check.

use axum::extract::{Path, Query};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::{Host, id_of};

pub fn router() -> Router<Host> {
    Router::new()
        .route("/telemetry/across", get(across))
        .route("/telemetry/across/history", get(across_history))
        .route("/telemetry/trends", get(trends))
        .route("/telemetry/{agent}", get(latest))
        .route("/telemetry/{agent}/history", get(history))
        .route("/health-report", get(health))
        .route("/statistics", get(statistics))
}

async fn latest(Path(agent): Path<String>) -> Json<Value> {
    Json(json!({"agent": id_of(&agent), "agent_name": agent, "site": "eu", "status": "online",
        "at": "2026-01-01T00:00:00Z", "received_at": "2026-01-01T00:00:01Z", "clock_skew_ms": -12, "is_stale": true,
        "series": {"mem.used": 1_610_612_736.0, "container.state{web\u{1b}[2J}": "running"},
        "missing": ["no container engine", "no systemd"]}))
}

/// One point on each page, and a third page without any.
async fn history(Path(agent): Path<String>, Query(query): Query<Vec<(String, String)>>) -> Json<Value> {
    let page: u32 = query.iter().find(|(name, _)| name == "cursor").map_or(0, |(_, cursor)| cursor.parse().unwrap());
    let sum = json!({"min": 1.0, "avg": 2.0, "max": 3.0, "last": 2.5, "count": 4});
    let point = json!({"at": format!("2026-01-01T00:0{page}:00.000000Z"), "series": {"cpu.total": sum}});
    let items = if page < 2 { vec![point] } else { Vec::new() };
    Json(json!({"agent": id_of(&agent), "agent_name": agent, "level": "minute", "step_s": 60,
        "items": items, "next_cursor": (page < 2).then(|| (page + 1).to_string())}))
}

async fn across() -> Json<Value> {
    let spread = json!({"count": 2, "sum": 30.0, "min": 10.0, "avg": 15.0, "p95": 20.0, "max": 20.0,
                        "max_agent": "web-02"});
    Json(json!({"by": "site", "items": [
        {"key": "eu", "agents": 3, "reporting": 2, "series": {"cpu.total": spread}}]}))
}

/// Two pages: a step with two values of a label, and an empty one.
async fn across_history(Query(query): Query<Vec<(String, String)>>) -> Json<Value> {
    let is_first = query.iter().all(|(name, _)| name != "cursor");
    let group = |key: Option<&str>, avg: f64| {
        let spread =
            json!({"count": 1, "sum": avg, "min": avg, "avg": avg, "p95": avg, "max": avg, "max_agent": "web-01"});
        json!({"key": key, "agents": 2, "reporting": 1, "series": {"cpu.total": spread}})
    };
    let moment = json!({"at": "2026-01-01T00:00:00.000000Z", "groups": [group(None, 5.0), group(Some("db"), 40.0)]});
    let items = if is_first { vec![moment] } else { Vec::new() };
    Json(json!({"by": "label.tier", "level": "minute", "step_s": 600, "items": items,
        "next_cursor": is_first.then_some("1")}))
}

async fn trends() -> Json<Value> {
    let full = json!({"at": "2026-02-01T00:00:00Z", "earliest": "2026-01-20T00:00:00Z", "latest": null});
    Json(json!({"items": [{"agent": id_of("web-01"), "agent_name": "web-01", "series": "disk.used_pct{/}", "now": 80.0,
        "per_hour": 0.5, "error_per_hour": 0.1, "fit": 0.9, "points": 288, "full": full}], "next_cursor": null}))
}

async fn health() -> Json<Value> {
    let group = |site: Option<&str>| {
        json!({"site": site, "score": 80.0, "sum": 80, "counted": 1, "agents": 1, "online": 1, "degraded": 0,
               "offline": 0, "maintenance": 0, "pending": 0})
    };
    let ingest = json!({"taken": 1, "stored": 1, "repeated": 0, "dropped": 0, "waiting": 0, "refused": {}});
    let off = json!([{"why": "degraded", "points": 20}]);
    Json(json!({"at": "2026-01-01T00:00:00Z", "fleet": group(None), "sites": [group(Some("eu"))], "ingest": ingest,
        "items": [{"agent": id_of("web-01"), "agent_name": "web-01", "site": "eu", "status": "degraded", "score": 80,
                   "deductions": off}], "next_cursor": null}))
}

async fn statistics() -> Json<Value> {
    let rate = json!({"submitted": 6, "succeeded": 5, "unsuccessful": 1, "submitted_per_s": 0.1, "ended_per_s": 0.1});
    let spread = json!({"count": 6, "p50_ms": 12, "p99_ms": 2500});
    Json(json!({"since": "2026-01-01T00:00:00Z",
        "agents": {"total": 1, "by_status": {"online": 1}, "by_site": {"eu": {"online": 1}}},
        "open_commands": {}, "open_invocations": {}, "queue": {},
        "rates": {"last_1m": rate, "last_5m": rate, "last_1h": rate},
        "latency": {"queue_wait": spread, "run": spread},
        "plugins": {"by_state": {"active": 1}, "verbs": 1, "faults": 0}}))
}
