//! Clients that dawdle, hundreds at once (slowhttptest): they cost themselves only. Good clients are served meanwhile, each one.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use domain::attempt::State;
use serde_json::json;
use servers::need;
use tests::client::{Api, state_of};
use tests::host::TestHost;
use tests::machine::TestAgent;
use tokio::task::JoinSet;

/// Sockets of one attack.
const SOCKETS: &str = "200";
/// How long it goes on at most, seconds.
const SECONDS: &str = "20";

/// One attack: its name, and what says so to the tool.
const ATTACKS: &[(&str, &[&str], Door)] = &[
    ("slow headers at the API", &["-H", "-i", "2"], Door::Api("/api/v1/agents")),
    ("slow bodies at the API", &["-B", "-i", "2", "-s", "8192"], Door::Api("/api/v1/auth/login")),
    (
        "slow readers at the API",
        &["-X", "-w", "1", "-y", "64", "-n", "2", "-z", "8", "-k", "3"],
        Door::Api("/openapi.json"),
    ),
    ("slow headers at the agents' door", &["-H", "-i", "2"], Door::Agents("/ws/agent")),
    ("slow bodies at the agents' door", &["-B", "-i", "2", "-s", "8192"], Door::Agents("/agent/v1/join")),
];

/// Where it is aimed.
#[derive(Clone, Copy)]
enum Door {
    Api(&'static str),
    Agents(&'static str),
}

/// Runs one to its end; what the tool says of it.
fn attack(tool: &Path, host: &TestHost, (name, words, door): (&str, &[&str], Door)) -> std::thread::JoinHandle<String> {
    let url = match door {
        Door::Api(path) => format!("{}{path}", host.url()),
        Door::Agents(path) => format!("{}{path}", host.agents_url()),
    };
    let mut command = Command::new(tool);
    command
        .args(["-c", SOCKETS, "-r", "200", "-l", SECONDS, "-p", "5", "-f", "application/json", "-u", &url])
        .args(words);
    let name = name.to_owned();
    std::thread::spawn(move || {
        let done = command.stdin(Stdio::null()).output().expect("slowhttptest starts");
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(said.contains("slow HTTP test status"), "{name}: {said}");
        said
    })
}

/// A good client asks and asks; how often, and what it was not answered as it should.
async fn ask(api: Api, path: &'static str, over: Arc<AtomicBool>, asked: Arc<AtomicUsize>) -> Vec<u16> {
    let mut wrong = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let status = api.get(path).await.status;
        asked.fetch_add(1, Ordering::Relaxed);
        if status != 200 {
            wrong.push(status);
        }
    }
    wrong
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_clients_that_dawdle_keep_nobody_else_waiting_in_vain() {
    let Ok(tool) = need::find("slowhttptest", "slowhttptest").map_err(|why| need::skipped(&why)) else { return };
    let mut host = TestHost::new();
    // All come from one address here; that the cap for each turns many away is another test's.
    host.set_server("max_connections_per_address = 0");
    host.launch().await;
    let admin = host.admin().await;
    let steady = TestAgent::start(&host, &admin, "steady").await;

    let over = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicUsize::new(0));
    let mut good = JoinSet::new();
    for path in ["/api/v1/agents", "/api/v1/verbs", "/readyz"] {
        good.spawn(ask(admin.clone(), path, over.clone(), asked.clone()));
    }
    let attacks: Vec<_> = ATTACKS.iter().map(|one| attack(&tool, &host, *one)).collect();
    let watch = over.clone();
    let attacked = tokio::task::spawn_blocking(move || {
        let said: Vec<String> = attacks.into_iter().map(|one| one.join().expect("the attack ends")).collect();
        watch.store(true, Ordering::Relaxed);
        said
    });
    let mut ran = 0;
    while !over.load(Ordering::Relaxed) {
        let id = admin.exec("steady", &json!({ "program": "true" })).await;
        let invocation = admin.ended(&id, "steady").await;
        assert_eq!(state_of(&invocation), State::Succeeded, "{invocation:#}");
        ran += 1;
    }
    let said = attacked.await.expect("the attacks end");
    let wrong = good.join_all().await.concat();
    for ((name, ..), said) in ATTACKS.iter().zip(&said) {
        // The tool's words come in colours.
        let end = said.lines().rev().find_map(|line| line.split_once("Exit status:")).expect("an end").1;
        println!("{SOCKETS} {name}: {}", end.trim_start_matches(|letter: char| !letter.is_uppercase()));
    }
    let asked = asked.load(Ordering::Relaxed);
    println!("meanwhile good clients asked {asked} times, {} not answered, and ran {ran} commands", wrong.len());
    assert_eq!(wrong, [0_u16; 0]);
    assert!(ran > 0 && asked > 100);
    drop(steady);
}
