//! The API's description in the hands of programs that others wrote: a validator, a fuzzer, a generator
//! of clients. And what it says when the verbs change.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tests::client::Api;
use tests::host::TestHost;
use tests::played::Played;
use tests::python::{python_tool, ran};
use tests::wait::until;
use wire::frame::{AgentFrame, HostFrame};

/// Set, it has the admin try every edge of every schema as well.
const COVERAGE: &str = "VIWORKS_SCHEMATHESIS_COVERAGE";
/// Requests made up for each operation; more are asked for by a variable of this name.
const EXAMPLES: &str = "VIWORKS_SCHEMATHESIS_EXAMPLES";

fn beside(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("it/openapi").join(name)
}

fn saved(host: &TestHost, document: &Value) -> PathBuf {
    let file = host.scratch().join("openapi.json");
    std::fs::write(&file, document.to_string()).expect("the description is written");
    file
}

/// An agent with a container engine that came once and is away now: it is sent commands and runs none.
async fn away(host: &TestHost, admin: &Api, name: &str) {
    let played = Played::join(host, admin, name).await;
    let (mut socket, challenge) = played.dial().await;
    let mut hello = played.hello(&challenge);
    hello.facts.capabilities = vec!["docker".into(), "exec".into()];
    hello.facts.container_engine = Some("docker 28.2.2".into());
    socket.say(&AgentFrame::Hello(hello)).await;
    assert!(matches!(socket.hear().await, Some(HostFrame::Welcome(_))));
    drop(socket);
    let path = format!("/api/v1/agents/{name}");
    until("the agent is away", async || (admin.get(&path).await.json["status"] == "offline").then_some(())).await;
}

#[tokio::test]
async fn the_description_changes_with_the_verbs_and_a_validator_accepts_it() {
    let host = TestHost::start().await;
    let admin = host.admin().await;
    let before = Api::anonymous(&host.url()).get("/openapi.json").await;
    assert!(before.json["components"]["schemas"]["docker.ps.args"].is_null());
    host.put_plugin("docker").await;
    host.serves_plugin(&admin, "docker").await;
    let after = admin.get("/openapi.json").await;
    assert_ne!(before.headers["etag"], after.headers["etag"]);
    assert_eq!(after.json["components"]["schemas"]["docker.ps.args"]["type"], "object");
    let Some(validator) = python_tool("openapi-spec-validator") else { return };
    ran(Command::new(validator).arg(saved(&host, &after.json)));
}

#[tokio::test]
async fn a_client_that_a_stock_generator_made_submits_a_typed_command() {
    let Some(generator) = python_tool("openapi-python-client") else { return };
    let host = TestHost::start().await;
    let admin = host.admin().await;
    host.put_plugin("docker").await;
    host.serves_plugin(&admin, "docker").await;
    away(&host, &admin, "dock").await;
    let document = saved(&host, &admin.get("/openapi.json").await.json);
    let mut generate = Command::new(&generator);
    generate.args(["generate", "--meta", "none", "--path"]).arg(&document).current_dir(host.scratch());
    // Its formatters are not here, and what they would make prettier is read by no one.
    let settings = host.scratch().join("generator.yml");
    std::fs::write(&settings, "post_hooks: []\n").expect("settings are written");
    let told = ran(generate.args(["--output-path", "made", "--config"]).arg(&settings));
    assert!(!told.contains("Warning"), "{told}");
    let python = generator.with_file_name("python3");
    ran(Command::new(&python).args(["-m", "compileall", "-q", "made"]).current_dir(host.scratch()));
    let mut submit = Command::new(&python);
    submit.arg(beside("typed.py")).arg(host.url()).arg(admin.token());
    let id = ran(submit.env("PYTHONPATH", host.scratch()));
    let command = admin.command(id.trim()).await;
    assert_eq!((&command["verb"], &command["args"]["all"]), (&json!("docker.ps"), &json!(true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_description_allows_is_answered_as_it_says_to_every_role() {
    let Some(fuzzer) = python_tool("st") else { return };
    let host = TestHost::start().await;
    let admin = host.admin().await;
    away(&host, &admin, "box").await;
    let examples = std::env::var(EXAMPLES).unwrap_or_else(|_| "3".to_owned());
    for role in ["viewer", "operator", "admin"] {
        let someone = host.user(&admin, &format!("fuzzed-{role}"), role).await;
        let mut run = Command::new(&fuzzer);
        run.env("SCHEMATHESIS_HOOKS", beside("hooks.py")).arg("--config-file").arg(beside("schemathesis.toml"));
        run.arg("run").arg(format!("{}/openapi.json", host.url()));
        run.args(["--header", &format!("Authorization: Bearer {}", someone.token())]);
        run.args(["--no-color", "--seed", "1", "--continue-on-failure", "--max-examples", &examples]);
        // One ends the login that all others need; the others do not end.
        for name in ["logout", "follow_command", "follow_everything", "follow_everything_by_socket"] {
            run.args(["--exclude-operation-id", name]);
        }
        // One role is enough for what follows from links; the others show what they may not. Every edge of every
        // schema takes a minute and is asked for by name.
        let phases = match (role, std::env::var_os(COVERAGE)) {
            ("admin", Some(_)) => "examples,coverage,fuzzing,stateful",
            ("admin", None) => "examples,fuzzing,stateful",
            _ => "examples,fuzzing",
        };
        run.args(["--phases", phases]).current_dir(host.scratch());
        let done = tokio::task::spawn_blocking(move || ran(&mut run));
        done.await.unwrap_or_else(|_| panic!("as {role}: see above"));
    }
    let log = host.log();
    assert!(!log.contains("\"level\":\"ERROR\""), "the host made a mistake:\n{log}");
}
