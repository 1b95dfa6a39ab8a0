//! A host for tests, small enough to be wrong on purpose: it joins, greets, signs, sends, acknowledges
//! and remembers in memory. What the generator says of a faulty one is what is tested.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::ws::{Message, WebSocket};
use axum::extract::{Path, State, WebSocketUpgrade};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use data_encoding::HEXLOWER;
use ed25519_dalek::{SigningKey, VerifyingKey};
use plan::effect::Effect;
use plan::envelope::{Envelope, RunLimits, hello_parts, join_parts, key_text, parse_key, seal, verify};
use plan::id::{AgentId, AttemptKey, ClusterId, CommandId};
use plan::step::{Plan, Step};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use uuid::Uuid;
use wire::codec::{decode, encode};
use wire::frame::{AgentFrame, Challenge, Command, HostFrame, Welcome};
use wire::join::{Join, Joined};

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing.
    None,
    /// Every 50th command is accepted and then forgotten.
    Loses,
    /// Every 50th command is acknowledged to its agent but not stored.
    Lies,
    /// Commands are signed with another key.
    Forges,
    /// Every command is sent twice.
    Repeats,
    /// Every second submission is refused with 429.
    Refuses,
}

/// A running tiny host; ends when dropped.
pub struct TinyHost {
    /// Both doors.
    pub address: SocketAddr,
    /// A login's body.
    pub credential: PathBuf,
    _home: TempDir,
    _tasks: JoinSet<()>,
}

struct House {
    flaw: Flaw,
    cluster: ClusterId,
    key: SigningKey,
    agents: Mutex<HashMap<AgentId, VerifyingKey>>,
    outboxes: Mutex<HashMap<AgentId, mpsc::UnboundedSender<HostFrame>>>,
    /// Results that are missing for each command.
    commands: Mutex<HashMap<CommandId, usize>>,
    submissions: AtomicUsize,
}

impl TinyHost {
    /// Starts one.
    pub async fn start(flaw: Flaw) -> TinyHost {
        let home = tempfile::tempdir().expect("temp dir");
        let credential = home.path().join("admin.json");
        std::fs::write(&credential, r#"{"name":"admin","password":"correct horse"}"#).expect("written");
        let house = Arc::new(House {
            flaw,
            cluster: ClusterId(Uuid::from_u128(77)),
            key: SigningKey::from_bytes(&[3; 32]),
            agents: Mutex::default(),
            outboxes: Mutex::default(),
            commands: Mutex::default(),
            submissions: AtomicUsize::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let address = listener.local_addr().expect("address");
        let router = Router::new()
            .route("/api/v1/auth/login", post(login))
            .route("/api/v1/join-tokens", post(join_token))
            .route("/api/v1/commands", post(submit))
            .route("/api/v1/commands/{id}", get(command))
            .route(wire::join::PATH, post(join))
            .route(wire::limits::PATH, get(upgrade))
            .with_state(house);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.expect("serves") });
        TinyHost { address, credential, _home: home, _tasks: tasks }
    }
}

async fn login(body: String) -> Response {
    let body: Value = serde_json::from_str(&body).expect("JSON");
    if body["password"] != "correct horse" {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    Json(json!({ "access_token": "token", "token_type": "Bearer", "expires_in": 600, "refresh_token": "r" }))
        .into_response()
}

async fn join_token(State(house): State<Arc<House>>) -> Response {
    let hash = Sha256::digest(house.key.verifying_key().as_bytes());
    let pin = HEXLOWER.encode(&hash[..8]);
    let id = rand::random::<u32>();
    (StatusCode::CREATED, Json(json!({ "token": format!("vwj_{id}_secret_{pin}") }))).into_response()
}

async fn join(State(house): State<Arc<House>>, Json(join): Json<Join>) -> Response {
    let key = parse_key(&join.public_key).expect("a key");
    if verify(&key, &[&join_parts(&join.token, &join.name)], &join.proof).is_err() {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let id = AgentId(Uuid::from_u128(rand::random()));
    house.agents.lock().expect("lock").insert(id, key);
    let joined = Joined {
        agent_id: id.to_string(),
        cluster_id: house.cluster.to_string(),
        cluster_key: key_text(&house.key.verifying_key()),
        ws_url: String::new(),
        certificate: None,
    };
    (StatusCode::CREATED, Json(joined)).into_response()
}

async fn submit(State(house): State<Arc<House>>, Json(body): Json<Value>) -> Response {
    let number = house.submissions.fetch_add(1, Ordering::Relaxed);
    if house.flaw == Flaw::Refuses && number.is_multiple_of(2) {
        return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "0")], "{}").into_response();
    }
    let outboxes = house.outboxes.lock().expect("lock");
    let targets: Vec<AgentId> = match body["target"]["agents"].as_array() {
        Some(agents) => agents.iter().map(|agent| agent.as_str().expect("text").parse().expect("an id")).collect(),
        None => outboxes.keys().copied().collect(),
    };
    let id = CommandId(Uuid::from_u128(rand::random()));
    let odd = number % 50 == 49;
    house.commands.lock().expect("lock").insert(id, targets.len() + usize::from(odd && house.flaw == Flaw::Lies));
    if !(odd && house.flaw == Flaw::Loses) {
        for agent in &targets {
            let frame = HostFrame::Command(sealed(&house, id, *agent));
            if house.flaw == Flaw::Repeats {
                _ = outboxes[agent].send(frame.clone());
            }
            _ = outboxes[agent].send(frame);
        }
    }
    let targets: Vec<Value> = targets.iter().map(|agent| json!({ "agent": agent.to_string() })).collect();
    (StatusCode::ACCEPTED, Json(json!({ "id": id.to_string(), "status": "pending", "targets": targets })))
        .into_response()
}

fn sealed(house: &House, command_id: CommandId, agent_id: AgentId) -> Command {
    let envelope = Envelope {
        cluster_id: house.cluster,
        epoch: 1,
        command_id,
        agent_id,
        verb: "exec.run".into(),
        plugin_digest: "00".repeat(32),
        plan: Plan { steps: vec![Step::new("true")], effect: Effect::Host, locks: Vec::new(), summary: "x".into() },
        limits: RunLimits { run_timeout_ms: 1000, output_bytes: 1 << 20, grace_ms: 5000 },
        not_after_ms: i64::MAX,
        max_attempts: 1,
        submitter: "admin".into(),
        secrets: None,
    };
    let key = if house.flaw == Flaw::Forges { SigningKey::from_bytes(&[4; 32]) } else { house.key.clone() };
    let attempt = AttemptKey { command: command_id, number: 1 };
    Command {
        attempt,
        start_within_ms: 60_000,
        kill_after_ms: None,
        finish_within_ms: None,
        envelope: seal(&envelope, &key),
        secret_key: None,
        traceparent: None,
    }
}

async fn command(State(house): State<Arc<House>>, Path(id): Path<CommandId>) -> Response {
    match house.commands.lock().expect("lock").get(&id) {
        None => StatusCode::NOT_FOUND.into_response(),
        Some(0) => Json(json!({ "status": "succeeded" })).into_response(),
        // A flawed host says so at once: the test need not wait for a command to end that never will.
        Some(_) if matches!(house.flaw, Flaw::Loses | Flaw::Lies | Flaw::Forges) => {
            Json(json!({ "status": "unknown" })).into_response()
        }
        Some(_) => Json(json!({ "status": "running" })).into_response(),
    }
}

async fn upgrade(State(house): State<Arc<House>>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(move |socket| async move { _ = converse(house, socket).await })
}

/// `None` when the agent is gone.
async fn converse(house: Arc<House>, mut socket: WebSocket) -> Option<()> {
    let nonce: [u8; 32] = rand::random();
    let challenge = Challenge {
        nonce: URL_SAFE_NO_PAD.encode(nonce),
        cluster_id: house.cluster,
        cluster_epoch: 1,
        epoch_signature: None,
        keys: Vec::new(),
        versions: vec![1],
    };
    say(&mut socket, &HostFrame::Challenge(challenge)).await?;
    let AgentFrame::Hello(hello) = listen(&mut socket).await? else { return None };
    let key = house.agents.lock().expect("lock").get(&hello.agent_id).copied()?;
    verify(&key, &[&hello_parts(house.cluster, hello.agent_id, &nonce)], &hello.signature).ok()?;
    let (outbox, mut waiting) = mpsc::unbounded_channel();
    house.outboxes.lock().expect("lock").insert(hello.agent_id, outbox);
    let welcome = Welcome {
        session_epoch: 1,
        now_ms: 0,
        heartbeat_ms: 50,
        telemetry_ms: 100,
        telemetry_jitter_ms: None,
        max_concurrency: 4,
        send: Vec::new(),
        cancel: Vec::new(),
        forget: Vec::new(),
        run: Vec::new(),
        have: Vec::new(),
    };
    say(&mut socket, &HostFrame::Welcome(welcome)).await?;
    loop {
        tokio::select! {
            Some(frame) = waiting.recv() => say(&mut socket, &frame).await?,
            frame = listen(&mut socket) => {
                // Everything an agent may say here must be a frame of the protocol.
                if let AgentFrame::Result { attempt, .. } = frame? {
                    if let Some(missing) = house.commands.lock().expect("lock").get_mut(&attempt.command) {
                        *missing = missing.saturating_sub(1);
                    }
                    say(&mut socket, &HostFrame::ResultAck { attempt }).await?;
                }
            }
        }
    }
}

async fn say(socket: &mut WebSocket, frame: &HostFrame) -> Option<()> {
    socket.send(Message::Text(encode(frame).into())).await.ok()
}

async fn listen(socket: &mut WebSocket) -> Option<AgentFrame> {
    match socket.recv().await?.ok()? {
        Message::Text(text) => decode(&text).ok(),
        Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Close(_) => None,
    }
}

mod tests {
    use std::time::Duration;

    use super::*;
    use crate::args::Agent;
    use crate::fleet::Fleet;
    use crate::http::Origin;
    use crate::identity::Identities;
    use crate::operator::Operator;
    use crate::report::Measured;
    use crate::runs::commands::{Load, Pace};
    use crate::runs::ledger_check::Check;
    use crate::runs::{broadcast, commands};

    const AGENTS: usize = 5;

    async fn assemble(host: &TinyHost) -> (Arc<Operator>, Fleet) {
        let url = format!("http://{}", host.address);
        let operator = Operator::login(&url, &host.credential).await.expect("logged in");
        let door = Origin::parse(&url).expect("an address");
        let kept = host.credential.with_file_name("identities.json");
        let identities = Identities::obtain(&operator, &door, AGENTS, Some(&kept)).await.expect("joined");
        let agent = Agent { verify_every: 1, flush_each: false, no_telemetry: false, output_bytes: 40_000 };
        (operator, Fleet::connect(&door, &identities, agent.behaviour()).await.expect("connected"))
    }

    async fn load(flaw: Flaw, pace: Pace) -> Measured {
        let host = TinyHost::start(flaw).await;
        let (operator, fleet) = assemble(&host).await;
        let load = Load {
            in_flight: 8,
            duration: Duration::from_millis(400),
            warmup: Duration::from_millis(100),
            pace,
            check: Check::All,
            patience: if matches!(flaw, Flaw::Loses) { Duration::from_secs(2) } else { Duration::from_secs(60) },
            priority: None,
            host_pid: None,
        };
        let (found, accepted) = commands::run(&operator, &fleet, &load).await.expect("ran");
        assert!(!accepted.is_empty());
        fleet.close().await.expect("closed");
        found
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_sound_host_is_measured_in_a_closed_and_in_an_open_loop() {
        let closed = load(Flaw::None, Pace::Closed).await;
        assert_eq!(closed.faults, [""; 0]);
        assert!(closed.operations > 0 && closed.latency.count > 0 && closed.rate > 0.0, "{closed}");
        assert_eq!(closed.noted("ledger_checked"), closed.noted("accepted"));
        let mut open = load(Flaw::None, Pace::Open { rate: 100.0, poisson: false }).await;
        // A machine that has more to do than this may not keep the rate, and that is told.
        for _ in 0..10 {
            if open.faults.is_empty() || !open.faults.iter().all(|fault| fault.contains("of the offered rate")) {
                break;
            }
            open = load(Flaw::None, Pace::Open { rate: 100.0, poisson: false }).await;
        }
        assert_eq!(open.faults, [""; 0]);
        assert_eq!((open.latency.count, open.noted("accepted")), (40, Some(50.0)));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_lost_command_fails_the_run() {
        let found = load(Flaw::Loses, Pace::Open { rate: 200.0, poisson: false }).await;
        let faults = found.faults.join("; ");
        assert!(faults.contains("were not acknowledged") && faults.contains("not `succeeded`"), "{faults}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_acknowledged_result_that_is_not_stored_fails_the_run() {
        let found = load(Flaw::Lies, Pace::Closed).await;
        let faults = found.faults.join("; ");
        assert!(faults.contains("not `succeeded`") && !faults.contains("were not acknowledged"), "{faults}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_forged_or_a_repeated_command_fails_the_run() {
        let faults = load(Flaw::Forges, Pace::Open { rate: 50.0, poisson: false }).await.faults.join("; ");
        assert!(faults.contains("not signed by the cluster"), "{faults}");
        let faults = load(Flaw::Repeats, Pace::Closed).await.faults.join("; ");
        assert!(faults.contains("sent again"), "{faults}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn refusals_are_counted_apart_and_an_open_loop_that_met_them_has_no_latencies() {
        let closed = load(Flaw::Refuses, Pace::Closed).await;
        assert!(closed.refused_429 > 0 && closed.errors == 0 && closed.faults.is_empty(), "{closed}");
        let open = load(Flaw::Refuses, Pace::Open { rate: 100.0, poisson: true }).await;
        assert!(open.faults.join("; ").contains("of the offered rate"), "{open}");
        let over = load(Flaw::Refuses, Pace::Over { rate: 100.0 }).await;
        assert!(over.refused_429 > 0 && over.faults.is_empty(), "{over}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_broadcast_ends_when_every_result_is_kept_and_identities_are_used_again() {
        let host = TinyHost::start(Flaw::None).await;
        let (operator, fleet) = assemble(&host).await;
        let first: Vec<AgentId> = fleet.ids.clone();
        let found = broadcast::run(&operator, &fleet, broadcast::Shape::Plain, 3, None).await.expect("ran");
        assert_eq!(found.faults, [""; 0]);
        assert_eq!((found.latency.count, found.operations), (2, 2 * AGENTS as u64));
        fleet.close().await.expect("closed");
        let (_, fleet) = assemble(&host).await;
        assert_eq!(fleet.ids, first);
        fleet.close().await.expect("closed");
    }
}
