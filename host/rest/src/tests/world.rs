//! One host's operators' door with two agents behind it, and a caller in front.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request, StatusCode, header};
use bus::local::Local;
use domain::access::{Grant, Role};
use domain::agent::Facts;
use domain::attempt::Event;
use domain::audit::Entry;
use domain::telemetry::history::Retention;
use domain::time::Timestamp;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey;
use plan::effect::Effect;
use plan::id::{AgentId, AttemptKey, CommandId};
use plan::outcome::{End, Outcome, StepEnd, Stream, StreamEnd};
use ports::agents::{Agents, JoinToken, Joined, NewAgent};
use ports::api_keys::ApiKeys;
use ports::clock::{Clock, Ids};
use ports::commands::{Advance, AttemptEnd, Chunk, Commands, Word};
use ports::journal::Journal;
use ports::seal::Notary;
use ports::users::{User, Users};
use serde_json::{Value, json};
use services::accounts::Accounts;
use services::alerts::Alerts;
use services::api_keys::KeyRing;
use services::audit::Audit;
use services::backlog::{Backlog, Bounds};
use services::backtest::Backtests;
use services::browse::Browse;
use services::cancel::{Cancel, SettleUnowned};
use services::channels::Channels;
use services::directory::Directory;
use services::enrol::Enrol;
use services::follow_up::FollowUp;
use services::groups::Groups;
use services::history::History;
use services::ingest::Ingest;
use services::meter::Meter;
use services::notify::{Notifier, Tries};
use services::origin::Origin;
use services::plugins::PluginOrders;
use services::refusals::Refusals;
use services::release::Release;
use services::replays::Replays;
use services::standing::Standing;
use services::statistics::Statistics;
use services::submit::Submit;
use storage::sqlite::{self, SqliteStore};
use tempfile::TempDir;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::machines::{
    CLUSTER, Counting, Drawer, Hand, Metered, NoRules, Notar, Nowhere, Quick, Shelf, Signer, Silent,
};
use crate::jwt::{Key, LIFE_MAX, Tokens};
use crate::metrics::Vitals;
use crate::pace::Rate;
use crate::{Deps, Options};

pub const PASSWORD: &str = "correct horse battery";

/// Commands that may wait for one agent.
pub const PER_AGENT: u64 = 20;

/// The whole.
pub struct World {
    pub store: SqliteStore,
    pub clock: Arc<Hand>,
    pub directory: Arc<Directory>,
    pub history: Arc<History>,
    pub ready: Arc<AtomicBool>,
    pub bus: Arc<Local>,
    pub web: AgentId,
    pub db: AgentId,
    pub standing: Arc<Standing>,
    pub keys: Arc<KeyRing>,
    pub tokens: Arc<Tokens>,
    pub changes: TaskTracker,
    meter: Arc<Meter>,
    router: Router,
    deps: Deps,
    options: Options,
    /// Owns the store's writer; both go when the world does.
    _writer: JoinSet<()>,
    _folder: TempDir,
}

/// An answer.
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}: not JSON: {:?}", self.status, self.body))
    }

    pub fn code(&self) -> String {
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json", "{:?}", self.body);
        self.json()["code"].as_str().expect("a code").to_owned()
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Reply {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.body));
        self
    }

    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Reply {
        let reply = self.expect(status);
        assert_eq!(reply.code(), code, "{}", String::from_utf8_lossy(&reply.body));
        reply
    }
}

impl World {
    pub async fn new() -> World {
        World::with(|_| ()).await
    }

    pub async fn with(set: impl FnOnce(&mut Options)) -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let live = Arc::new(Local::default());
        let notary: Arc<dyn Notary> = Arc::new(Notar(SigningKey::from_bytes(&[4; 32])));
        let options =
            sqlite::Options { notary: Some(notary.clone()), ..sqlite::Options::new(folder.path().join("viworks.db")) };
        let meter = Arc::new(Meter::default());
        let heard = Arc::new(Metered { live: live.clone(), meter: meter.clone() });
        let (store, writer) = sqlite::open(options, heard).await.expect("a store");
        let mut writers = JoinSet::new();
        writers.spawn(writer.run(CancellationToken::new()));

        let clock = Arc::new(Hand::default());
        let ids = Arc::new(Counting::default());
        let web = enrol(&store, ids.as_ref(), clock.now(), "web-1", "eu").await;
        let db = enrol(&store, ids.as_ref(), clock.now(), "db-1", "us").await;
        let directory = Arc::new(Directory::load(&store).await.expect("loads"));
        directory.opened(web, 1, clock.now());
        people(&store, ids.as_ref(), clock.now()).await;

        let at = Arc::new(store.clone());
        let browse = Arc::new(Browse { commands: at.clone(), journal: at.clone(), live: live.clone() });
        let seal = Arc::new(Signer(SigningKey::from_bytes(&[9; 32])));
        let plugins = Arc::new(Shelf::default());
        let settle = SettleUnowned { commands: at.clone(), clock: clock.clone() };
        let der = SigningKey::from_bytes(&[3; 32]).to_pkcs8_der().expect("encodes").as_bytes().to_vec();
        let tokens = Arc::new(Tokens::new(&Key::Ed25519(der), CLUSTER.to_string(), LIFE_MAX).expect("a key"));
        let ready = Arc::new(AtomicBool::new(true));
        let word = ready.clone();
        let refusals = Arc::new(Refusals::new(at.clone()));
        let groups = Arc::new(Groups { groups: at.clone(), directory: directory.clone(), clock: clock.clone() });
        let standing = Arc::new(Standing::new(at.clone(), at.clone(), at.clone(), clock.clone()));
        _ = meter.directory.set(directory.clone());
        let counting = store.clone();
        let history = Arc::new(History::new(at.clone(), Retention::default(), clock.clone()));
        let submit = Arc::new(Submit {
            standing: standing.clone(),
            plugins: plugins.clone(),
            directory: directory.clone(),
            groups: groups.clone(),
            commands: at.clone(),
            link: Arc::new(Silent),
            doubts: Arc::default(),
            backlog: Arc::new(Backlog::new(Bounds { per_agent: PER_AGENT, in_all: u64::MAX })),
            begun: Arc::default(),
            seal: seal.clone(),
            vault: Arc::new(Drawer),
            clock: clock.clone(),
            ids: ids.clone(),
            meter: meter.clone(),
        });
        let deps = Deps {
            statistics: Arc::new(Statistics {
                delivery: at.clone(),
                directory: directory.clone(),
                plugins: plugins.clone(),
                meter: meter.clone(),
                clock: clock.clone(),
                since: clock.now(),
                kept: Mutex::default(),
            }),
            meter: meter.clone(),
            vitals: Arc::new(move || Vitals { commits: counting.counters().commits, ..Vitals::default() }),
            directory: directory.clone(),
            groups,
            submit: submit.clone(),
            replays: Arc::new(Replays {
                replies: at.clone(),
                vault: Arc::new(Drawer),
                clock: clock.clone(),
                under_way: Arc::default(),
            }),
            follow_up: Arc::new(FollowUp { browse: browse.clone(), submit }),
            cancel: Arc::new(Cancel {
                commands: at.clone(),
                browse: browse.clone(),
                settle: Arc::new(settle),
                link: Arc::new(Silent),
                clock: clock.clone(),
            }),
            release: Arc::new(Release {
                commands: at.clone(),
                browse: browse.clone(),
                link: Arc::new(Silent),
                seal: seal.clone(),
                clock: clock.clone(),
            }),
            browse,
            ingest: Arc::new(Ingest::new(at.clone(), Arc::default())),
            history: history.clone(),
            alerts: Arc::new(Alerts {
                alerts: at.clone(),
                silences: at.clone(),
                rules: Arc::new(NoRules),
                directory: directory.clone(),
                clock: clock.clone(),
                ids: ids.clone(),
                counted: Mutex::default(),
            }),
            backtests: Arc::new(Backtests {
                rules: Arc::new(NoRules),
                history: history.clone(),
                directory: directory.clone(),
                one: Semaphore::new(1),
            }),
            channels: Arc::new(Channels {
                channels: at.clone(),
                courier: Arc::new(Nowhere),
                journal: at.clone(),
                notifier: Arc::new(Notifier {
                    channels: at.clone(),
                    courier: Arc::new(Nowhere),
                    vault: Arc::new(Drawer),
                    clock: clock.clone(),
                    ids: ids.clone(),
                    tries: Tries::default(),
                }),
                vault: Arc::new(Drawer),
                clock: clock.clone(),
                ids: ids.clone(),
            }),
            telemetry_interval: Duration::from_secs(30),
            enrol: Arc::new(Enrol {
                tls_pin: None,
                approval: false,
                agents: at.clone(),
                directory: directory.clone(),
                link: Arc::new(Silent),
                refusals: refusals.clone(),
                doubts: Arc::default(),
                seal,
                clock: clock.clone(),
                ids: ids.clone(),
            }),
            orders: Arc::new(PluginOrders { life: plugins.clone(), book: at.clone(), clock: clock.clone() }),
            refusals: refusals.clone(),
            audit: Arc::new(Audit {
                journal: at.clone(),
                trail: at.clone(),
                notary,
                clock: clock.clone(),
                verifying: Semaphore::new(1),
            }),
            keys: Arc::new(KeyRing { keys: at.clone(), clock: clock.clone(), ids: ids.clone(), used: Arc::default() }),
            standing,
            external: None,
            accounts: Arc::new(Accounts {
                users: at.clone(),
                refusals,
                passwords: Arc::new(Quick),
                clock: clock.clone(),
                ids,
            }),
            plugins,
            tokens,
            clock: clock.clone(),
            readiness: Arc::new(move || {
                let word = if word.load(Ordering::SeqCst) { "ok" } else { "does not answer" };
                Box::pin(async move { BTreeMap::from([("database".to_owned(), word.to_owned())]) })
            }),
            paces: None,
            changes: TaskTracker::new(),
        };
        let mut options = Options::new("0.1.0", CLUSTER);
        // A test asks as fast as it can; that is no matter of its own here.
        options.address_rate = Rate { per_second: 0, burst: 0 };
        set(&mut options);
        let (standing, keys, tokens) = (deps.standing.clone(), deps.keys.clone(), deps.tokens.clone());
        let changes = deps.changes.clone();
        let router = crate::router(deps.clone(), options.clone());
        World {
            store,
            clock,
            directory,
            history,
            ready,
            bus: live,
            web,
            db,
            standing,
            keys,
            tokens,
            changes,
            meter,
            router,
            deps,
            options,
            _writer: writers,
            _folder: folder,
        }
    }

    /// Forgets all that the door has in memory, as a start of the host does.
    pub fn restart(&mut self) {
        self.router = crate::router(self.deps.clone(), self.options.clone());
    }

    /// The same after a start, with keys that are looked up there.
    pub fn restart_over(&mut self, keys: Arc<dyn ApiKeys>) {
        let (clock, ids) = (self.clock.clone(), Arc::new(Counting::default()));
        self.deps.keys = Arc::new(KeyRing { keys, clock, ids, used: Arc::default() });
        self.restart();
    }

    /// The door of another host over the same store, which looks commands up there.
    pub fn door(&self, commands: Arc<dyn Commands>) -> Router {
        let browse = Browse { commands, journal: Arc::new(self.store.clone()), live: self.bus.clone() };
        crate::router(Deps { browse: Arc::new(browse), ..self.deps.clone() }, self.options.clone())
    }

    /// Sends a request from a peer on loopback, as it is.
    pub async fn send(&self, request: Request<Body>) -> Reply {
        let (parts, body) = self.open(request).await.into_parts();
        let body = to_bytes(body, 16 << 20).await.expect("a body");
        Reply { status: parts.status, headers: parts.headers, body }
    }

    /// Sends a request and leaves the body to be read.
    pub async fn open(&self, mut request: Request<Body>) -> axum::response::Response {
        request.headers_mut().entry(header::HOST).or_insert("localhost:8080".parse().expect("a host"));
        let peer: SocketAddr = "127.0.0.1:4711".parse().expect("an address");
        request.extensions_mut().insert(ConnectInfo(peer));
        self.router.clone().oneshot(request).await.expect("infallible")
    }

    pub async fn get(&self, token: &str, path: &str) -> Reply {
        self.send(with(token, "GET", path).body(Body::empty()).expect("a request")).await
    }

    pub async fn call(&self, token: &str, method: &str, path: &str, body: Value) -> Reply {
        let mut request = with(token, method, path).header(header::CONTENT_TYPE, "application/json");
        if method == "PUT" {
            request = request.header(header::IF_MATCH, "*");
        }
        self.send(request.body(body.to_string().into()).expect("a request")).await
    }

    /// Logs in as one of `root` (admin), `op` (operator), `eye` (viewer), `eu` (operator at `eu` only).
    pub async fn login(&self, name: &str) -> String {
        let reply = self.call("", "POST", "/api/v1/auth/login", json!({ "name": name, "password": PASSWORD })).await;
        reply.expect(200).json()["access_token"].as_str().expect("a token").to_owned()
    }

    /// Submits `test.echo` to both agents and answers its id.
    pub async fn submit(&self, token: &str) -> CommandId {
        let body = json!({ "verb": "test.echo", "args": { "text": "hi" }, "target": { "all": true } });
        let reply = self.call(token, "POST", "/api/v1/commands", body).await.expect(202);
        reply.json()["id"].as_str().expect("an id").parse().expect("an id")
    }

    /// What an agent's session would write.
    pub async fn advance(&self, command: CommandId, agent: AgentId, events: Vec<Event>, end: Option<AttemptEnd>) {
        let (key, at) = (AttemptKey { command, number: 1 }, self.clock.now());
        events.iter().for_each(|event| self.meter.noted(key, agent, event, at));
        let advance = Advance { key, agent, events, at, message: None, end, word: Word::Anyone };
        self.store.advance(advance).await.expect("advances").expect("an attempt");
    }

    /// Runs an invocation to a good end, with output.
    pub async fn finish(&self, command: CommandId, agent: AgentId, stdout: &[u8]) {
        let bytes = stdout.len() as u64;
        let end = StreamEnd { bytes, head: bytes, tail: 0, sha256: sha256(stdout) };
        self.finish_cut(command, agent, &[(0, stdout)], end).await;
    }

    /// The same with `stdout`, of which only these parts arrived.
    pub async fn finish_cut(&self, command: CommandId, agent: AgentId, parts: &[(u64, &[u8])], stdout: StreamEnd) {
        self.advance(command, agent, vec![Event::Send, Event::Acknowledge, Event::Start], None).await;
        let key = AttemptKey { command, number: 1 };
        let at = self.clock.now();
        for (offset, data) in parts {
            let (offset, data) = (*offset, data.to_vec());
            self.store.append(Chunk { key, agent, stream: Stream::Stdout, offset, data, at });
        }
        let outcome = Outcome {
            end: End::Exited,
            steps: vec![StepEnd { exit_code: Some(0), stdout_bytes: stdout.bytes, ..StepEnd::default() }],
            stdout,
            stderr: StreamEnd::default(),
            duration_ms: 5,
        };
        let end =
            AttemptEnd { outcome, result: Some("{\"n\":1}".into()), summary: Some("done".into()), parse_fault: None };
        self.advance(command, agent, vec![Event::Finish { succeeded: true }], Some(end)).await;
    }

    /// The actions in the audit log, oldest first.
    pub async fn audited(&self) -> Vec<&'static str> {
        let mut entries = self.store.audits(None, 500).await.expect("reads");
        entries.reverse();
        entries.into_iter().map(|(_, entry)| entry.action).collect()
    }
}

pub fn with(token: &str, method: &str, path: &str) -> axum::http::request::Builder {
    let request = Request::builder().method(method).uri(path);
    if token.is_empty() { request } else { request.header(header::AUTHORIZATION, format!("Bearer {token}")) }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn entry(at: Timestamp) -> Entry {
    Origin::default().entry(at, "system.test", None)
}

async fn enrol(store: &SqliteStore, ids: &dyn Ids, at: Timestamp, name: &str, site: &str) -> AgentId {
    let token = ids.token();
    let row = JoinToken {
        id: token,
        secret_sha256: "00".repeat(32),
        site: site.into(),
        labels: BTreeMap::new(),
        needs_approval: false,
        created_by: "root".into(),
        created_at: at,
        expires_at: Timestamp(i64::MAX),
        used_at: None,
        used_by: None,
        revoked_at: None,
    };
    store.create_token(row, entry(at), None).await.expect("a join token");
    let id = ids.agent();
    let join = NewAgent {
        token,
        secret_sha256: "00".repeat(32),
        id,
        name: name.into(),
        public_key: format!("key of {name}"),
        needs_approval: false,
        at,
        audit: entry(at),
    };
    assert!(matches!(store.join(join).await, Ok(Joined::Enrolled(_))));
    let facts =
        Facts { os: "linux".into(), arch: "x86_64".into(), hostname: format!("{name}.example"), ..Facts::default() };
    assert_eq!(store.open_session(id, &facts, at).await, Ok(Some(1)));
    id
}

async fn people(store: &SqliteStore, ids: &dyn Ids, at: Timestamp) {
    let eu = Grant { sites: vec!["eu".into()], ..Grant::ordinary() };
    assert_eq!(eu.effects, [Effect::Read, Effect::Change]);
    let people = [
        ("root", Role::Admin, Grant::ordinary()),
        ("op", Role::Operator, Grant::ordinary()),
        ("eye", Role::Viewer, Grant::ordinary()),
        ("eu", Role::Operator, eu),
    ];
    for (name, role, grant) in people {
        let password_hash = format!("quick:{PASSWORD}");
        let (id, grants) = (ids.user(), vec![grant]);
        let user = User { id, name: name.into(), password_hash, role, grants, token_version: 1, created_at: at };
        store.create(user, entry(at), None).await.expect("a user");
    }
}
