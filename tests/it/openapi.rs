//! The API's description in the hands of programs that others wrote: a validator, a fuzzer, a generator
//! of clients. And what it says when the verbs change.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use servers::need;
use tests::client::Api;
use tests::host::TestHost;
use tests::played::Played;
use tests::python::{python_tool, ran};
use wire::facts::Facts;

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

/// What a machine with a container engine says of itself.
fn with_engine(facts: &mut Facts) {
    facts.capabilities = vec!["docker".into(), "exec".into()];
    facts.container_engine = Some("docker 28.2.2".into());
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
    Played::away(&host, &admin, "dock", with_engine).await;
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
    // That took long enough for the host to have closed the idle connection.
    let command = Api::anonymous(&host.url()).with_token(admin.token()).command(id.trim()).await;
    assert_eq!((&command["verb"], &command["args"]["all"]), (&json!("docker.ps"), &json!(true)));
}

/// Every address that pages of `origin` asked for, in a browser's log of its network. What the browser asks for by
/// itself is none of the page's.
fn asked(log: &Value, origin: &str, found: &mut Vec<String>) {
    match log {
        Value::Array(items) => items.iter().for_each(|item| asked(item, origin, found)),
        Value::Object(fields) => {
            let by_page = fields.get("initiator").is_some_and(|by| by == origin);
            let url = fields.get("url").and_then(Value::as_str).filter(|_| by_page);
            found.extend(url.map(str::to_owned));
            fields.values().for_each(|value| asked(value, origin, found));
        }
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_for_people_shows_the_verbs_in_a_browser_and_asks_nobody_but_the_host() {
    let host = TestHost::start().await;
    let admin = host.admin().await;
    host.put_plugin("docker").await;
    host.serves_plugin(&admin, "docker").await;
    let page = admin.get("/docs").await;
    let policy = page.headers["content-security-policy"].to_str().expect("text").to_owned();
    assert!(policy.contains("default-src 'none'; connect-src 'self'") && !policy.contains("http"), "{policy}");
    let html = String::from_utf8(page.bytes).expect("text");
    assert!(!html.contains("http://") && !html.contains("https://") && !html.contains("\"//"), "an address of another");

    let browser = match need::find("chromium", "chromium") {
        Ok(browser) => browser,
        Err(why) => return need::skipped(&why),
    };
    let log = host.scratch().join("network.json");
    let mut run = Command::new(browser);
    run.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]);
    run.args(["--disable-background-networking", "--disable-component-update", "--virtual-time-budget=20000"]);
    // Nothing leaves this machine, whoever asks.
    run.arg(format!("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {}", host.address()));
    run.arg(format!("--user-data-dir={}", host.scratch().join("browser").display()));
    run.arg(format!("--log-net-log={}", log.display())).args(["--dump-dom", &format!("{}/docs", host.url())]);
    let dom = tokio::task::spawn_blocking(move || ran(&mut run)).await.expect("the browser shows the page");
    for word in ["Submit a command", "docker.ps", "/api/v1/statistics"] {
        assert!(dom.contains(word), "{word}\n{dom}");
    }
    let log: Value = serde_json::from_slice(&std::fs::read(&log).expect("a log")).expect("JSON");
    let mut found = Vec::new();
    asked(&log["events"], &host.url(), &mut found);
    found.sort();
    found.dedup();
    assert!(found.iter().any(|url| url.ends_with("/openapi.json")), "{found:?}");
    let others: Vec<&String> = found.iter().filter(|url| !url.starts_with(&host.url())).collect();
    assert!(others.is_empty(), "{others:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_description_allows_is_answered_as_it_says_to_every_role() {
    let Some(fuzzer) = python_tool("st") else { return };
    let host = TestHost::start().await;
    let admin = host.admin().await;
    host.put_plugin("docker").await;
    host.serves_plugin(&admin, "docker").await;
    Played::away(&host, &admin, "box", with_engine).await;
    let examples = std::env::var(EXAMPLES).unwrap_or_else(|_| "4".to_owned());
    let roles = ["viewer", "operator", "admin"];
    let fuzz = || {
        let mut run = Command::new(&fuzzer);
        run.env("SCHEMATHESIS_HOOKS", beside("hooks.py")).arg("--config-file").arg(beside("schemathesis.toml"));
        run.arg("run").arg(format!("{}/openapi.json", host.url())).current_dir(host.scratch());
        run.args(["--no-color", "--seed", "1", "--continue-on-failure", "--max-examples", &examples]);
        run
    };
    // Logging out ends the login, so each of these requests has one of its own. They come first: logging in is
    // fuzzed with the rest, and who guesses wrong too often has to wait.
    for role in roles {
        let name = format!("leaving-{role}");
        host.user(&admin, &name, role).await;
        let mut run = fuzz();
        run.env("FUZZED_URL", host.url()).env("FUZZED_NAME", &name).env("FUZZED_PASSWORD", TestHost::password(&name));
        run.args(["--include-operation-id", "logout", "--phases", "examples,coverage,fuzzing"]);
        let done = tokio::task::spawn_blocking(move || ran(&mut run));
        done.await.unwrap_or_else(|_| panic!("logging out as {role}: see above"));
    }
    for role in roles {
        let someone = host.user(&admin, &format!("fuzzed-{role}"), role).await;
        let mut run = fuzz();
        run.args(["--header", &format!("Authorization: Bearer {}", someone.token())]);
        // Fuzzed above.
        run.args(["--exclude-operation-id", "logout"]);
        // What these answer has no end, and the fuzzer reads each answer to its end before it looks at it: it would
        // wait until it gives up, and count that as the host's failure. How they refuse what is wrong with a request
        // is tried with all other routes in `host/rest/src/tests/contract.rs`.
        for name in ["follow_command", "follow_everything", "follow_everything_by_socket"] {
            run.args(["--exclude-operation-id", name]);
        }
        // One role is enough for every edge of every schema and for what follows from links; the others show what
        // they may not.
        let phases = if role == "admin" { "examples,coverage,fuzzing,stateful" } else { "examples,fuzzing" };
        run.args(["--phases", phases]);
        let done = tokio::task::spawn_blocking(move || ran(&mut run));
        done.await.unwrap_or_else(|_| panic!("as {role}: see above"));
    }
    let log = host.log();
    assert!(!log.contains("\"level\":\"ERROR\""), "the host made a mistake:\n{log}");
    let left = |line: &&str| line.contains("/api/v1/auth/logout") && line.contains("\"status\":204");
    assert!(log.lines().filter(left).count() >= roles.len(), "nobody logged out, so that was not tried");
}
