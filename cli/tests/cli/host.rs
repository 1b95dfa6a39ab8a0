//! A host that speaks the API and remembers what it was asked. It checks bodies as strictly as the
//! API's own types do, and knows nothing of the program under test.

mod figures;
pub mod nouns;
mod routes;

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use api::command::{Invocation, NewCommand};
use api::target::TargetIn;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

pub const COMMAND: &str = "0193f2c4-0000-7000-8000-000000000001";
pub const PARENT: &str = "0193f2c4-0000-7000-8000-000000000000";
/// The second join token; the first one's id is short.
pub const TOKEN: &str = "0193f2c4-1111-7000-8000-000000000002";
pub const PASSWORD: &str = "correct horse battery";

/// One connection's fate.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    /// Ends after this many bytes, wherever that is.
    After(usize),
    /// Answers 503.
    Refuse,
}

/// What the host knows and has seen.
#[derive(Debug, Default)]
pub struct State {
    pub access: BTreeSet<String>,
    pub refresh: Option<String>,
    pub issued: u32,
    pub refreshes: u32,
    pub reused: u32,
    pub expires_in: u64,
    pub fleet: Vec<TargetIn>,
    pub submitted: Vec<NewCommand>,
    pub keys: Vec<String>,
    pub refuse_submit: Option<(u16, Value)>,
    pub effect: String,
    /// Agents on which the caller may run nothing.
    pub ungranted: Vec<String>,
    pub events: Vec<(u64, &'static str, Value)>,
    pub cuts: VecDeque<Cut>,
    pub hold: bool,
    pub last_ids: Vec<Option<String>>,
    pub invocations: Vec<Invocation>,
    pub status: String,
    /// Every question of who is logged in is put off.
    pub away: bool,
    /// How many agents of a command are in which state.
    pub counts: Value,
    /// Entries of the audit log above those there are at first.
    pub audited: u64,
    pub requests: Vec<String>,
    pub bodies: Vec<Value>,
}

/// A running host; it ends with the test's runtime.
#[derive(Clone)]
pub struct Host {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Host {
    pub async fn start() -> Host {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let counts = json!({"succeeded": 1, "failed": 1});
        let state =
            State { expires_in: 900, effect: "read".into(), status: "succeeded".into(), counts, ..State::default() };
        let host = Host { address: listener.local_addr().unwrap(), state: Arc::new(Mutex::new(state)) };
        host.fleet(&["web-01", "web-02"]);
        let router = routes::router(host.clone());
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        tasks.detach_all();
        host
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Agents of these names, each with an id made from it.
    pub fn fleet(&self, names: &[&str]) {
        self.state().fleet = names
            .iter()
            .map(|name| TargetIn {
                agent: id_of(name),
                agent_name: (*name).to_owned(),
                site: "eu".into(),
                status: "online".into(),
                groups: Vec::new(),
            })
            .collect();
    }

    /// A token as `VIWORKS_TOKEN` would hold it.
    pub fn token(&self) -> String {
        self.state().access.insert("from-outside".to_owned());
        "from-outside".to_owned()
    }

    /// Plays these events to everybody who follows, numbered from 1.
    pub fn play(&self, events: Vec<(&'static str, Value)>) {
        self.state().events = events.into_iter().zip(1..).map(|((event, data), id)| (id, event, data)).collect();
    }
}

pub fn id_of(name: &str) -> String {
    format!("id-{name}")
}

pub fn state(name: &str, state: &str, reason: Option<&str>) -> (&'static str, Value) {
    let mut data = json!({"agent": id_of(name), "attempt": 1, "state": state, "at": "2026-01-01T00:00:00Z"});
    if let Some(reason) = reason {
        data["reason"] = reason.into();
    }
    ("state", data)
}

pub fn output(name: &str, stream: &str, offset: u64, data: &[u8]) -> (&'static str, Value) {
    use base64::Engine as _;
    let data = base64::engine::general_purpose::STANDARD.encode(data);
    ("output", json!({"agent": id_of(name), "attempt": 1, "stream": stream, "offset": offset, "data_base64": data}))
}

pub fn end(status: &str, counts: Value) -> (&'static str, Value) {
    ("end", json!({"status": status, "counts": counts}))
}

pub fn invocation(name: &str, state: &str, reason: Option<&str>, explanation: &str, exit: Option<i32>) -> Invocation {
    serde_json::from_value(json!({
        "agent": id_of(name), "agent_name": name, "site": "eu", "state": state, "reason": reason,
        "explanation": explanation, "attempt": 1, "cancel_requested": false, "exit_code": exit, "result": null,
        "parsed": null, "parse_fault": null, "summary": null, "stdout": "kept\nhalf", "stderr": "oops\n",
        "outcome": null, "created_at": "2026-01-01T00:00:00Z", "started_at": null, "changed_at": "2026-01-01T00:00:00Z",
    }))
    .unwrap()
}

/// problem+json as the API has it.
pub fn problem(status: u16, code: &str, detail: &str, errors: Value) -> (u16, Value) {
    let body = json!({
        "type": "about:blank", "title": "Refused", "status": status, "detail": detail,
        "instance": "req-1", "code": code, "errors": errors,
    });
    (status, body)
}

pub fn refuse((status, body): (u16, Value)) -> Response {
    let headers = [("content-type", "application/problem+json")];
    (StatusCode::from_u16(status).unwrap(), headers, body.to_string()).into_response()
}
