//! The store goes away, again and again, under load. Nothing that was accepted is lost, nothing runs
//! twice, callers hear 503 in time, agents stay, and all of it mends itself.
//!
//! The oracle stands outside: every command adds its own word to one file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use domain::attempt::State;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use servers::postgres::{End, Postgres};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tests::client::{Answer, Api, exec_body, state_of};
use tests::gate::Gated;
use tests::host::TestHost;
use tests::machine::TestAgent;
use tests::oracle::{all_over, tell};
use tests::programs::program;
use tests::store::Store;
use tests::wait::{breathe, until};
use tokio::task::JoinSet;

/// Outages of each kind.
const OUTAGES: usize = 10;
/// The promise is 3 s; the rest is for a machine that has more to do than this. What waits for an answer that never comes
/// waits longer.
const REFUSED_WITHIN: Duration = Duration::from_secs(20);

/// A command that was accepted, and the word it leaves.
struct Accepted {
    id: String,
    agent: &'static str,
    word: String,
}

/// What one submitter met.
#[derive(Default)]
struct Met {
    accepted: Vec<Accepted>,
    /// Words of those that were answered with 503.
    refused: Vec<String>,
    slowest_refusal: Duration,
}

/// Submits one command after the other until told to stop.
async fn submit(api: Api, agent: &'static str, ledger: PathBuf, flow: Arc<Flow>) -> Met {
    let mut met = Met::default();
    for number in 0.. {
        if flow.stop.load(Ordering::Relaxed) {
            break;
        }
        let word = format!("{agent}-{number}");
        let script = format!("echo {word} >> {}; echo {word}", ledger.display());
        let body = exec_body(agent, &json!({ "program": "sh", "args": ["-c", script] }));
        let begun = Instant::now();
        let answer = api.post("/api/v1/commands", &body).await;
        if answer.status == 202 {
            let id = answer.json["id"].as_str().expect("an id").to_owned();
            met.accepted.push(Accepted { id, agent, word });
            flow.accepted.fetch_add(1, Ordering::Relaxed);
        } else {
            assert_away(&answer, begun);
            met.slowest_refusal = met.slowest_refusal.max(begun.elapsed());
            met.refused.push(word);
        }
        breathe().await;
    }
    met
}

/// Says so exactly and in time.
#[track_caller]
fn assert_away(answer: &Answer, begun: Instant) {
    let took = begun.elapsed();
    let text = String::from_utf8_lossy(&answer.bytes);
    assert_eq!((answer.status, answer.code()), (503, "store_unavailable"), "{text}");
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    let seconds: u64 = answer.headers["retry-after"].to_str().expect("text").parse().expect("seconds");
    assert!((1..=60).contains(&seconds));
    assert!(took < REFUSED_WITHIN, "refused after {} ms", took.as_millis());
}

/// What submitters and the test tell each other.
#[derive(Default)]
struct Flow {
    stop: AtomicBool,
    accepted: AtomicUsize,
}

impl Flow {
    /// Waits until so many more were accepted.
    async fn more(&self, number: usize) {
        let wanted = self.accepted.load(Ordering::Relaxed) + number;
        until("commands are accepted", async || (self.accepted.load(Ordering::Relaxed) >= wanted).then_some(())).await;
    }
}

/// The invocation, once it is over. Reads may be refused as well for a moment.
async fn end_of(api: &Api, id: &str, agent: &str) -> Value {
    let path = format!("/api/v1/commands/{id}/invocations/{agent}");
    until(&format!("{id} ends on {agent}"), async || {
        let answer = api.get(&path).await;
        (answer.status == 200 && state_of(&answer.json).is_terminal()).then_some(answer.json)
    })
    .await
}

async fn with_server(server: Postgres, change: impl FnOnce(&mut Postgres) + Send + 'static) -> Postgres {
    let mut server = server;
    let changed = tokio::task::spawn_blocking(move || {
        change(&mut server);
        server
    });
    changed.await.expect("the server does as it is told")
}

fn epochs(server: &Postgres) -> String {
    server.sql("select agent_id || ' ' || session_epoch from agents order by agent_id").expect("the server answers")
}

/// Everything that can be asked while the store is away.
async fn ask_everything(host: &TestHost, admin: &Api, known: &str) {
    let begun = Instant::now();
    let answer = admin.post("/api/v1/commands", &exec_body("web-1", &json!({ "program": "true" }))).await;
    assert_away(&answer, begun);
    let begun = Instant::now();
    assert_away(&admin.get(&format!("/api/v1/commands/{known}")).await, begun);
    let begun = Instant::now();
    assert_away(&admin.post("/api/v1/join-tokens", &json!({})).await, begun);
    let begun = Instant::now();
    let text = std::fs::read_to_string(host.credential_file()).expect("admin.json");
    let credential = serde_json::from_str(&text).expect("JSON");
    let nobody = Api::anonymous(&host.url());
    assert_away(&nobody.post("/api/v1/auth/login", &credential).await, begun);
    let begun = Instant::now();
    let ready = nobody.get("/readyz").await;
    assert_eq!(ready.status, 503);
    let database = ready.json["components"]["database"].as_str().expect("a word about the database");
    assert!(database.starts_with("unavailable: ") && !database.contains("127.0.0.1"), "{database}");
    assert!(begun.elapsed() < REFUSED_WITHIN);
    assert_eq!(nobody.get("/livez").await.status, 200);
}

#[tokio::test]
async fn nothing_accepted_is_lost_or_run_twice_while_postgresql_dies_again_and_again() {
    let Some((store, mut server)) = Store::own_postgres() else { return };
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let _first = TestAgent::start(&host, &admin, "web-1").await;
    let _second = TestAgent::start(&host, &admin, "web-2").await;
    let sessions = epochs(&server);
    let ledger = host.scratch().join("ledger");
    let flow = Arc::new(Flow::default());
    let mut load = JoinSet::new();
    for agent in ["web-1", "web-2"] {
        load.spawn(submit(admin.clone(), agent, ledger.clone(), flow.clone()));
    }

    let mut slowest_return = Duration::ZERO;
    let kinds = [End::Kill, End::Immediate].into_iter().flat_map(|how| [how; OUTAGES]);
    for (number, how) in kinds.enumerate() {
        flow.more(5).await;
        // One that is running when the store goes, and ends while it is away.
        let mut gated = Gated::new();
        let long = admin.exec("web-1", &gated.args()).await;
        gated.started().await;
        server = with_server(server, move |server| server.stop(how).expect("it ends")).await;
        gated.open();
        // Every other outage is over as soon as it can be; the others are looked at.
        if number % 2 == 0 {
            until("the command ends without a store", async || (gated.ends() == 1).then_some(())).await;
            ask_everything(&host, &admin, &long).await;
        }
        server = with_server(server, |server| server.start().expect("it starts")).await;
        let begun = Instant::now();
        flow.more(1).await;
        slowest_return = slowest_return.max(begun.elapsed());
        let invocation = end_of(&admin, &long, "web-1").await;
        assert_eq!(state_of(&invocation), State::Succeeded, "{invocation:#}");
        assert_eq!((&invocation["attempt"], &invocation["stdout"]), (&json!(1), &json!("out\nend\n")));
        assert_eq!((gated.starts(), gated.ends()), (1, 1));
    }
    flow.stop.store(true, Ordering::Relaxed);
    let met: Vec<Met> = load.join_all().await;

    let mut checked = 0;
    for Accepted { id, agent, word } in met.iter().flat_map(|met| &met.accepted) {
        let invocation = end_of(&admin, id, agent).await;
        assert_eq!(state_of(&invocation), State::Succeeded, "{invocation:#}");
        assert_eq!((&invocation["attempt"], &invocation["stdout"]), (&json!(1), &json!(format!("{word}\n"))));
        checked += 1;
    }
    let stored = all_over(&admin).await;
    let runs = runs(&ledger);
    let accepted_once = met.iter().flat_map(|met| &met.accepted).all(|accepted| runs.get(&accepted.word) == Some(&1));
    assert!(accepted_once, "every accepted command ran once");
    assert!(runs.values().all(|count| *count == 1), "nothing ran twice");
    assert_eq!(epochs(&server), sessions, "no agent opened another session");
    assert!(host.log().matches("\"message\":\"session open\"").count() == 2, "nor tried to");

    let refused: Vec<&String> = met.iter().flat_map(|met| &met.refused).collect();
    let ran_anyway = refused.iter().filter(|word| runs.contains_key(**word)).count();
    assert!(!refused.is_empty(), "the outages were felt");
    let slowest = met.iter().map(|met| met.slowest_refusal).max().unwrap_or_default();
    tell(&format!(
        "PostgreSQL killed {OUTAGES} times and stopped at once {OUTAGES} times: {checked} accepted, all succeeded, each ran \
         once; {} answered with 503, the slowest after {} ms, {ran_anyway} of them stored and run all the same; \
         {stored} commands stored, all over; writes taken again at most {} ms after a start; 2 sessions, none reopened",
        refused.len(),
        slowest.as_millis(),
        slowest_return.as_millis(),
    ));
}

/// How often each word stands in the file.
fn runs(ledger: &Path) -> HashMap<String, usize> {
    let text = std::fs::read_to_string(ledger).expect("the ledger");
    let mut runs = HashMap::new();
    for word in text.lines() {
        *runs.entry(word.to_owned()).or_default() += 1;
    }
    runs
}

/// Another program opens the embedded store and locks it.
async fn lock(host: &TestHost) -> SqliteConnection {
    let file = host.data().join("viworks.db");
    let mut other = SqliteConnectOptions::new().filename(file).connect().await.expect("another program opens it");
    sqlx::query("begin immediate").execute(&mut other).await.expect("and locks it");
    other
}

async fn let_go(mut other: SqliteConnection) {
    sqlx::query("rollback").execute(&mut other).await.expect("it lets it go");
}

#[tokio::test]
async fn an_embedded_store_that_another_program_locks_is_away_until_it_is_let_go() {
    let host = TestHost::start().await;
    let admin = host.admin().await;
    let _agent = TestAgent::start(&host, &admin, "web-1").await;
    let mut gated = Gated::new();
    let long = admin.exec("web-1", &gated.args()).await;
    gated.started().await;

    let other = lock(&host).await;
    gated.open();
    until("the command ends without a store", async || (gated.ends() == 1).then_some(())).await;
    for _ in 0..3 {
        let begun = Instant::now();
        let answer = admin.post("/api/v1/commands", &exec_body("web-1", &json!({ "program": "true" }))).await;
        assert_away(&answer, begun);
    }
    let nobody = Api::anonymous(&host.url());
    let ready = nobody.get("/readyz").await;
    let database = ready.json["components"]["database"].as_str().expect("a word about the database");
    assert_eq!((ready.status, database), (503, "unavailable: another program holds it locked"));
    assert_eq!(nobody.get("/livez").await.status, 200);
    assert_eq!(admin.get(&format!("/api/v1/commands/{long}")).await.status, 200, "reading needs no lock");

    let_go(other).await;
    let invocation = end_of(&admin, &long, "web-1").await;
    assert_eq!(state_of(&invocation), State::Succeeded, "{invocation:#}");
    assert_eq!((&invocation["attempt"], &invocation["stdout"]), (&json!(1), &json!("out\nend\n")));
    assert_eq!((gated.starts(), gated.ends()), (1, 1));
    let after = admin.exec("web-1", &json!({ "program": "true" })).await;
    assert_eq!(state_of(&admin.ended(&after, "web-1").await), State::Succeeded);
    assert_eq!(nobody.get("/readyz").await.status, 200);
    assert_eq!(host.log().matches("\"message\":\"session open\"").count(), 1, "the agent stayed");
}

/// An agent that has a command running and another waiting, at a host that soon takes for lost what is gone.
struct Busy {
    host: TestHost,
    admin: Api,
    agent: TestAgent,
    running: String,
    waiting: String,
    _gated: Gated,
}

impl Busy {
    async fn start_on(store: Store) -> Busy {
        let mut host = TestHost::new_on(store);
        host.set_sections("[agent_management]\nlost_after_ms = 2000\n[command]\nagent_concurrency = 1\n");
        host.launch().await;
        let admin = host.admin().await;
        let agent = TestAgent::start(&host, &admin, "web-1").await;
        let gated = Gated::new();
        let running = admin.exec("web-1", &gated.args()).await;
        gated.started().await;
        is_running(&admin, &running).await;
        let mut body = exec_body("web-1", &json!({ "program": "true" }));
        body["start_within_ms"] = json!(15_000);
        let waiting = admin.submit(&body).await;
        Busy { host, admin, agent, running, waiting, _gated: gated }
    }

    /// The agent dies while the store is away, so that the end of its session cannot be written down.
    async fn agent_dies(&mut self) {
        self.agent.kill9();
        until("the session's end is not stored", async || {
            self.host.log().contains("the session's end is not stored").then_some(())
        })
        .await;
    }

    async fn all_ends(&mut self) {
        let invocation = end_of(&self.admin, &self.running, "web-1").await;
        assert_eq!((state_of(&invocation), &invocation["reason"]), (State::Lost, &json!("agent_gone")));
        let invocation = end_of(&self.admin, &self.waiting, "web-1").await;
        assert!(matches!(state_of(&invocation), State::Lost | State::Expired), "{invocation:#}");
        self.agent.seen(&self.admin, "offline").await;
    }
}

async fn is_running(api: &Api, id: &str) {
    let path = format!("/api/v1/commands/{id}/invocations/web-1");
    until(&format!("{id} reads running"), async || {
        let answer = api.get(&path).await;
        (answer.status == 200 && state_of(&answer.json) == State::Running).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_an_agent_had_that_died_while_postgresql_was_away_ends() {
    let Some((store, server)) = Store::own_postgres() else { return };
    let mut busy = Busy::start_on(store).await;
    let server = with_server(server, |server| server.stop(End::Kill).expect("it ends")).await;
    busy.agent_dies().await;
    let _server = with_server(server, |server| server.start().expect("it starts")).await;
    busy.all_ends().await;
}

#[tokio::test]
async fn what_an_agent_had_that_died_while_its_embedded_store_was_locked_ends() {
    let mut busy = Busy::start_on(Store::Sqlite).await;
    let other = lock(&busy.host).await;
    busy.agent_dies().await;
    let_go(other).await;
    busy.all_ends().await;
}

#[tokio::test]
async fn a_start_that_was_noted_in_a_commit_that_failed_is_told_again() {
    let host = TestHost::start().await;
    let admin = host.admin().await;
    let agent = TestAgent::start(&host, &admin, "web-1").await;
    // It stands still until the store is away: what it says of the command comes then.
    let signal = |signal| kill(Pid::from_raw(agent.pid()), signal).expect("it runs");
    signal(Signal::SIGSTOP);
    let mut gated = Gated::new();
    let id = admin.exec("web-1", &gated.args()).await;
    let other = lock(&host).await;
    signal(Signal::SIGCONT);
    gated.started().await;
    // The second of two that are refused was refused with all that had been noted before it.
    for _ in 0..2 {
        let begun = Instant::now();
        let answer = admin.post("/api/v1/commands", &exec_body("web-1", &json!({ "program": "true" }))).await;
        assert_away(&answer, begun);
    }
    let_go(other).await;
    is_running(&admin, &id).await;
    gated.open();
    assert_eq!(state_of(&end_of(&admin, &id, "web-1").await), State::Succeeded);
}

/// What a start says that is refused.
fn refused_start(url: &str, settings: &str) -> String {
    let dir = tempfile::tempdir().expect("a folder");
    let config = dir.path().join("host.toml");
    let listen = "[server]\nbind = \"127.0.0.1:0\"\nagents_bind = \"127.0.0.1:0\"\n";
    let text = format!("{listen}[database]\nurl = \"{url}\"\n{settings}\n[logging]\nlevel = \"trace\"\n");
    std::fs::write(&config, text).expect("written");
    let mut serve = Command::new(program("viworks-host"));
    let done = serve.args(["serve", "--config"]).arg(&config).current_dir(dir.path()).output().expect("starts");
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.code().is_some_and(|code| code != 0), "it started: {said}");
    said
}

#[test]
fn a_host_without_its_database_does_not_start_and_says_what_to_do_without_the_password() {
    let closed = servers::port::free().expect("a port");
    let said = refused_start(&format!("postgres://ops:hunter2@127.0.0.1:{closed}/viworks"), "");
    assert!(said.contains(&format!("127.0.0.1:{closed}")), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn a_database_that_may_lose_commits_is_refused_unless_that_is_wanted() {
    for setting in ["fsync", "synchronous_commit"] {
        let Some((_, mut server)) = Store::own_postgres() else { return };
        server.stop(End::Fast).expect("it ends");
        server.set(&[(setting, "off")]);
        server.start().expect("it starts");
        let said = refused_start(&server.url(), "");
        assert!(said.contains(setting) && said.contains("allow_unsafe_durability"), "{said}");
    }
}
