//! The routes, and the stream that breaks where a test wants it to.

use api::agent::NewJoinToken;
use api::auth::{Login, NewUser, Refresh};
use api::bulk::CancelMany;
use api::command::NewCommand;
use api::delivery::RetryCommand;
use api::target::TargetIn;
use api::verb::PlanRequest;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State as Shared};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::{COMMAND, Cut, Host, PARENT, PASSWORD, State, TOKEN, figures, nouns, problem, refuse};

pub fn router(host: Host) -> Router {
    let guarded = Router::new()
        .route("/auth/logout", post(logout))
        .route("/agents", get(agents))
        .route("/agents/{agent}", get(agent).delete(done))
        .route("/agents/{agent}/revoke", post(done))
        .route("/telemetry", get(telemetry))
        .merge(figures::router())
        .merge(nouns::router())
        .route("/me", get(me))
        .route("/join-tokens", get(join_tokens).post(create_join_token))
        .route("/join-tokens/{id}", delete(done))
        .route("/verbs", get(verbs))
        .route("/verbs/{verb}", get(verb))
        .route("/verbs/{verb}/plan", post(plan))
        .route("/plugins", get(plugins))
        .route("/users", get(users).post(create_user))
        .route("/commands", get(commands).post(submit))
        .route("/commands/cancel", post(cancel_many))
        .route("/commands/{id}", get(command))
        .route("/commands/{id}/cancel", post(cancel))
        .route("/commands/{id}/retry", post(retry))
        .route("/commands/{id}/rollup", get(rollup))
        .route("/commands/{id}/results", get(results))
        .route("/commands/{id}/events", get(events))
        .route("/commands/{id}/invocations", get(invocations))
        .route("/commands/{id}/invocations/{agent}", get(invocation))
        .route("/commands/{id}/invocations/{agent}/attempts", get(attempts))
        .route("/commands/{id}/invocations/{agent}/output", get(raw_output))
        .layer(from_fn_with_state(host.clone(), guard));
    let open = Router::new().route("/auth/login", post(login)).route("/auth/refresh", post(refresh));
    let outside = Router::new().route("/readyz", get(ready)).route("/version", get(version));
    outside.nest("/api/v1", guarded.merge(open)).with_state(host)
}

async fn guard(Shared(host): Shared<Host>, request: Request, next: Next) -> Response {
    let token = request.headers().get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let known = token.is_some_and(|token| host.state().access.contains(token));
    let line = format!("{} {}", request.method(), request.uri());
    host.state().requests.push(line);
    if host.state().away {
        return refuse(problem(503, "store_unavailable", "the store does not answer", json!([])));
    }
    if known { next.run(request).await } else { refuse(problem(401, "token_expired", "the token is over", json!([]))) }
}

fn issue(host: &Host) -> Json<Value> {
    let mut state = host.state();
    state.issued += 1;
    let n = state.issued;
    state.access = [format!("access-{n}")].into();
    state.refresh = Some(format!("refresh-{n}"));
    let expires_in = state.expires_in;
    Json(json!({"access_token": format!("access-{n}"), "token_type": "Bearer", "expires_in": expires_in,
                "refresh_token": format!("refresh-{n}")}))
}

async fn login(Shared(host): Shared<Host>, Json(body): Json<Login>) -> Response {
    if body.name != "ada" || body.password != PASSWORD {
        return refuse(problem(401, "login_refused", "name or password is wrong", json!([])));
    }
    issue(&host).into_response()
}

async fn refresh(Shared(host): Shared<Host>, Json(body): Json<Refresh>) -> Response {
    {
        let mut state = host.state();
        if state.refresh.take_if(|good| *good == body.refresh_token).is_none() {
            state.reused += 1;
            return refuse(problem(401, "invalid_token", "used before", json!([])));
        }
        state.refreshes += 1;
    }
    issue(&host).into_response()
}

async fn logout(Shared(host): Shared<Host>, Json(body): Json<Refresh>) -> Response {
    let mut state = host.state();
    assert_eq!(state.refresh.as_deref(), Some(body.refresh_token.as_str()));
    state.refresh = None;
    state.access.clear();
    StatusCode::NO_CONTENT.into_response()
}

async fn done() -> StatusCode {
    StatusCode::NO_CONTENT
}

fn agent_body(name: &str) -> Value {
    json!({"id": super::id_of(name), "name": name, "site": "eu", "status": "online", "labels": {"env": "prod"},
           "capabilities": ["exec"], "version": "0.1.0", "os": "linux", "kernel": "6.1", "arch": "x86_64",
           "hostname": name, "container_engine": null, "compose": null, "maintenance": false,
           "created_at": "2026-01-01T00:00:00Z", "last_seen": null, "revoked_at": null})
}

/// Two agents on each page, so that a client that reads one page is found out.
async fn agents(Shared(host): Shared<Host>, Query(query): Query<Vec<(String, String)>>) -> Json<Value> {
    let from: usize = query.iter().find(|(name, _)| name == "cursor").map_or(0, |(_, cursor)| cursor.parse().unwrap());
    let state = host.state();
    let items: Vec<Value> = state.fleet.iter().skip(from).take(2).map(|one| agent_body(&one.agent_name)).collect();
    let next = (from + 2 < state.fleet.len()).then(|| (from + 2).to_string());
    Json(json!({"items": items, "next_cursor": next}))
}

async fn agent(Path(agent): Path<String>) -> Response {
    if agent.starts_with("no-") {
        return refuse(problem(404, "not_found", "there is no such agent, or you may not see it", json!([])));
    }
    Json(agent_body(&agent)).into_response()
}

async fn telemetry(Shared(host): Shared<Host>) -> Json<Value> {
    let series = json!({"cpu.total": 12.3, "load.1": 0.5, "mem.used_pct": 50.0, "disk.used_pct{/}": 90.0,
                        "disk.used_pct{/a}": 10.0});
    let state = host.state();
    let of = |name: &str| {
        json!({"agent": super::id_of(name), "agent_name": name, "site": "eu", "status": "online", "at": null,
               "received_at": null, "clock_skew_ms": 0, "is_stale": false, "series": series, "missing": []})
    };
    let items: Vec<Value> = state.fleet.iter().map(|one| of(&one.agent_name)).collect();
    Json(json!({"items": items, "next_cursor": null}))
}

async fn me() -> Json<Value> {
    Json(json!({"kind": "user", "id": "u1", "name": "ada", "role": "admin", "permissions": [], "grants": []}))
}

async fn ready() -> Json<Value> {
    Json(json!({"status": "ok", "components": {"database": "ok"}}))
}

async fn version() -> Json<Value> {
    Json(json!({"name": "viworks-host", "version": env!("CARGO_PKG_VERSION"), "api": ["v1"], "cluster_id": "c1"}))
}

fn token_body(secret: Option<&str>, wanted: &NewJoinToken) -> Value {
    let mut body = json!({"id": "t1", "site": wanted.site.as_deref().unwrap_or("default"), "labels": wanted.labels,
        "created_by": "ada", "created_at": *nouns::EARLIER, "expires_at": "2026-01-01T01:00:00Z",
        "used_at": null, "used_by": null, "revoked_at": null});
    if let Some(secret) = secret {
        body["token"] = secret.into();
    }
    body
}

async fn join_tokens() -> Json<Value> {
    let first = token_body(None, &NewJoinToken::default());
    let mut second = first.clone();
    second["id"] = TOKEN.into();
    Json(json!({"items": [first, second], "next_cursor": null}))
}

async fn create_join_token(Shared(host): Shared<Host>, Json(body): Json<NewJoinToken>) -> Response {
    host.state().bodies.push(serde_json::to_value(&body).unwrap());
    (StatusCode::CREATED, Json(token_body(Some("vwj_t1_secret_pin"), &body))).into_response()
}

fn verb_body(name: &str, effect: &str) -> Value {
    let args = match name {
        "exec.run" => json!({"type": "object", "required": ["program"], "additionalProperties": false, "properties": {
            "program": {"type": "string", "description": "what to run"},
            "args": {"type": "array", "items": {"type": "string"}},
            "env": {"type": "object", "additionalProperties": {"type": "string"}}}}),
        "docker.run" => serde_json::from_str(include_str!("docker_run.json")).unwrap(),
        _ => json!({"type": "object", "properties": {
            "all": {"type": "boolean", "description": "stopped ones too"},
            "limit": {"type": "integer", "minimum": 1, "maximum": 100, "description": "how many"},
            "state": {"enum": ["running", "exited"]}}}),
    };
    json!({"name": name, "summary": format!("Does {name}"), "effect": effect, "idempotent": true, "cancel": "clean",
           "default_timeout_ms": 30000, "needs": null, "plugin": "p", "plugin_version": "1.0.0",
           "plugin_digest": "d1", "args_schema": args, "result_schema": {}, "examples": [{}]})
}

async fn verbs(Shared(host): Shared<Host>) -> Json<Value> {
    let effect = host.state().effect.clone();
    Json(json!({"items": [verb_body("docker.ps", &effect), verb_body("exec.run", &effect)], "next_cursor": null}))
}

async fn verb(Shared(host): Shared<Host>, Path(verb): Path<String>) -> Response {
    if !["docker.ps", "docker.run", "exec.run"].contains(&verb.as_str()) {
        return refuse(problem(404, "not_found", "there is no such verb", json!([])));
    }
    Json(verb_body(&verb, &host.state().effect)).into_response()
}

async fn plan(Shared(host): Shared<Host>, Path(verb): Path<String>, Json(body): Json<PlanRequest>) -> Json<Value> {
    let mut state = host.state();
    state.bodies.push(serde_json::to_value(&body).unwrap());
    let plan = json!({"steps": [{"program": "uptime", "args": ["-p", "a b"]}], "effect": "read", "summary": "asks"});
    let targets: Vec<Value> = state.fleet.iter().map(|target| previewed(target, &state)).collect();
    let allowed = targets.iter().all(|target| target["grant"]["allowed"] == true);
    Json(json!({"verb": verb, "effect": state.effect, "allowed": allowed, "targets": targets,
        "excluded": [{"agent": "x", "agent_name": "old-01", "why": "in maintenance; name it to include it"}],
        "plans": [{"os": "linux", "arch": "x86_64", "container_engine": null, "compose": null,
                   "agents": state.fleet.len(), "plan_hash": "h1", "plan": plan}]}))
}

/// What is granted on all agents but those whose names are in the state.
fn previewed(target: &TargetIn, state: &State) -> Value {
    let mut body = serde_json::to_value(target).unwrap();
    body["grant"] = json!({"allowed": true, "effect": state.effect});
    if state.ungranted.contains(&target.agent_name) {
        let reason = format!("no grant of yours covers effect `{}` of it at site `{}`", state.effect, target.site);
        body["grant"] = json!({"allowed": false, "effect": state.effect, "reason": reason});
    }
    body
}

async fn plugins() -> Json<Value> {
    Json(json!({"items": [
        {"name": "exec", "state": "active", "file": "exec.wasm", "version": "1.0.0", "digest": "d1",
         "verbs": ["exec.run"], "grant": {}, "faults": 0, "refusal": null},
        {"name": "bad", "state": "refused", "file": "bad.wasm", "version": null, "digest": null, "verbs": [],
         "grant": {}, "faults": 0, "refusal": {"gate": 2, "code": "bad_import", "cause": "imports wasi",
         "cure": "build without it", "digest": "d2"}}], "next_cursor": null}))
}

fn user_body(name: &str, role: &str) -> Value {
    json!({"id": "u1", "name": name, "role": role, "grants": [], "created_at": *nouns::EARLIER})
}

async fn users() -> Json<Value> {
    Json(json!({"items": [user_body("ada", "admin")], "next_cursor": null}))
}

async fn create_user(Shared(host): Shared<Host>, Json(body): Json<NewUser>) -> Response {
    host.state().bodies.push(serde_json::to_value(&body).unwrap());
    (StatusCode::CREATED, Json(user_body(&body.name, &body.role))).into_response()
}

async fn submit(Shared(host): Shared<Host>, headers: HeaderMap, Json(body): Json<NewCommand>) -> Response {
    let mut state = host.state();
    if let Some(refusal) = state.refuse_submit.clone() {
        return refuse(refusal);
    }
    state.keys.push(headers["idempotency-key"].to_str().unwrap().to_owned());
    state.submitted.push(body);
    let accepted =
        json!({"id": COMMAND, "status": "pending", "summary": "does it", "targets": state.fleet, "excluded": []});
    (StatusCode::ACCEPTED, Json(accepted)).into_response()
}

fn command_body(status: &str, counts: &Value) -> Value {
    let over = status != "running";
    json!({"id": COMMAND, "status": status, "counts": counts, "verb": "exec.run",
           "plugin": "exec", "plugin_version": "1.0.0", "plugin_digest": "d1", "args": {}, "target": {"all": true},
           "priority": "normal", "submitter": "ada", "summary": "runs uptime", "created_at": *nouns::EARLIER,
           "start_by": "2026-01-01T01:00:00Z", "run_timeout_ms": 1000, "finish_by": null, "kill_after_ms": 60_000,
           "retry": {"max_attempts": 3, "on": ["failed"], "backoff_ms": 5000},
           "rollout": {"waves": [1, "25%"], "max_errors": 0}, "halted": "1 error, 0 allowed", "parent": PARENT,
           "completed_at": over.then_some("2026-01-01T00:01:00Z"), "correlation_id": "req-1"})
}

async fn commands(Shared(host): Shared<Host>) -> Json<Value> {
    let state = host.state();
    Json(json!({"items": [command_body(&state.status, &state.counts)], "next_cursor": null}))
}

async fn command(Shared(host): Shared<Host>, Path(id): Path<String>) -> Response {
    if id != COMMAND {
        return refuse(problem(404, "not_found", "there is no such command, or you may not see it", json!([])));
    }
    let state = host.state();
    Json(command_body(&state.status, &state.counts)).into_response()
}

/// The parent's agents, under the id that every command here has.
async fn retry(Shared(host): Shared<Host>, headers: HeaderMap, Json(body): Json<RetryCommand>) -> Response {
    let mut state = host.state();
    if body.only == "never_started" {
        return refuse(problem(422, "nothing_to_retry", "no invocation ended like that", json!([])));
    }
    state.keys.push(headers["idempotency-key"].to_str().unwrap().to_owned());
    state.bodies.push(serde_json::to_value(&body).unwrap());
    let accepted =
        json!({"id": COMMAND, "status": "pending", "summary": "does it", "targets": state.fleet, "excluded": []});
    (StatusCode::ACCEPTED, Json(accepted)).into_response()
}

async fn rollup() -> Json<Value> {
    let share = |site: &str, state: &str, reason: Option<&str>, count: u32| json!({"site": site, "state": state, "reason": reason, "count": count, "changed_at": "2026-01-01T00:00:00Z"});
    Json(json!({"items": [share("eu", "succeeded", None, 40), share("us", "expired", Some("offline"), 2)]}))
}

async fn results() -> Json<Value> {
    Json(json!({"items": [
        {"state": "succeeded", "value": {"text": "x".repeat(100)}, "count": 30, "agents": ["web-01", "web-02"]},
        {"state": "failed", "value": null, "count": 1, "agents": ["db-01"]}]}))
}

async fn attempts() -> Json<Value> {
    Json(json!({"items": [{"attempt": 1, "state": "failed", "reason": null, "started_at": "2026-01-01T00:00:00Z",
        "changed_at": "2026-01-01T00:00:01Z", "exit_code": 7, "result": null, "summary": "the first try", "outcome": null}]}))
}

async fn cancel() -> Response {
    (StatusCode::ACCEPTED, Json(json!({"status": "running", "requested": 2}))).into_response()
}

async fn cancel_many(Shared(host): Shared<Host>, Json(body): Json<CancelMany>) -> Response {
    host.state().bodies.push(serde_json::to_value(&body).unwrap());
    let items = json!([{"id": COMMAND, "status": "running", "requested": 2}]);
    (StatusCode::ACCEPTED, Json(json!({"commands": 1, "requested": 2, "items": items, "more": true}))).into_response()
}

async fn invocations(Shared(host): Shared<Host>) -> Json<Value> {
    Json(json!({"items": host.state().invocations, "next_cursor": null}))
}

async fn invocation(Shared(host): Shared<Host>, Path((_, agent)): Path<(String, String)>) -> Response {
    match host.state().invocations.iter().find(|one| one.agent == agent) {
        Some(one) => Json(one).into_response(),
        None => refuse(problem(404, "not_found", "there is no such command or agent", json!([]))),
    }
}

/// Four bytes at a time of what the invocation carries; standard error has lost its first ten.
async fn raw_output(
    Shared(host): Shared<Host>,
    Path((_, agent)): Path<(String, String)>,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    let asked = |name: &str| query.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()).unwrap();
    let offset: usize = asked("offset").parse().unwrap();
    let state = host.state();
    let one = state.invocations.iter().find(|one| one.agent == agent).unwrap();
    let (text, lost) = if asked("stream") == "stdout" { (&one.stdout, 0) } else { (&one.stderr, 10) };
    let from = offset.saturating_sub(lost).min(text.len());
    let part = text[from..(from + 4).min(text.len())].to_owned();
    let start = offset.max(lost);
    let next = if part.is_empty() { offset } else { start + part.len() };
    let gaps = if start > offset { format!("{offset}-{}", start - 1) } else { "none".to_owned() };
    let headers =
        [("x-output-offset", start.to_string()), ("x-output-next-offset", next.to_string()), ("x-output-gaps", gaps)];
    (headers, part).into_response()
}

/// Events after the one the reader names, cut as the next fate says.
async fn events(Shared(host): Shared<Host>, headers: HeaderMap) -> Response {
    let last = headers.get("last-event-id").map(|id| id.to_str().unwrap().to_owned());
    let mut state = host.state();
    state.last_ids.push(last.clone());
    let after: u64 = last.map_or(0, |id| id.parse().unwrap());
    let mut text = String::from("retry: 10\n: hello\n\n");
    for (id, event, data) in state.events.iter().filter(|(id, ..)| *id > after) {
        text.push_str(&format!("id: {id}\nevent: {event}\ndata: {data}\n\n"));
    }
    let mut bytes = text.into_bytes();
    let (cut, hold) = (state.cuts.pop_front(), state.hold);
    match cut {
        Some(Cut::Refuse) => return refuse(problem(503, "store_unavailable", "the store does not answer", json!([]))),
        Some(Cut::After(length)) => bytes.truncate(length),
        None => {}
    }
    // Small odd pieces, so that frames and characters are cut everywhere.
    let pieces: Vec<Result<Vec<u8>, std::io::Error>> = bytes.chunks(7).map(|piece| Ok(piece.to_vec())).collect();
    let held = futures_util::stream::pending().take(usize::from(hold && cut.is_none()));
    let body = Body::from_stream(futures_util::stream::iter(pieces).chain(held));
    ([("content-type", "text/event-stream")], body).into_response()
}
