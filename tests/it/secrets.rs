//! A secret argument from the request to the child, and everywhere else it must not be.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use domain::attempt::State;
use reqwest::Method;
use serde_json::{Value, json};
use tests::cli::Cli;
use tests::client::state_of;
use tests::host::TestHost;
use tests::machine::TestAgent;
use tests::store::Store;

tests::on_both_stores![a_secret_reaches_the_child_and_stays_nowhere];

/// Forms in which a text may stand somewhere.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned(), serde_json::to_string(secret).expect("text").trim_matches('"').to_owned()];
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    forms.extend([hex.to_uppercase(), hex]);
    let url =
        |byte: u8| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    forms.push(secret.bytes().map(url).collect());
    for alignment in 0..3 {
        let bytes = [vec![0; alignment], secret.as_bytes().to_vec()].concat();
        // Without the letters at either end that neighbours have a part in.
        let (first, last) = ((alignment * 8).div_ceil(6), bytes.len() * 8 / 6);
        forms.extend([STANDARD.encode(&bytes), URL_SAFE.encode(&bytes)].map(|text| text[first..last].to_owned()));
    }
    forms
}

/// Every file in a folder and below.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found
}

fn holds(bytes: &[u8], form: &str) -> bool {
    bytes.windows(form.len()).any(|window| window == form.as_bytes())
}

async fn a_secret_reaches_the_child_and_stays_nowhere(store: Store) {
    let mut host = TestHost::new_on(store.clone());
    host.set_log_level("trace");
    host.launch().await;
    let admin = host.admin().await;
    let mut agent = TestAgent::join(&host, &admin, "web-1").await;
    agent.set_log_level("trace");
    agent.run();
    agent.seen(&admin, "online").await;
    agent.change_policy(|text| text.replace("[programs.sh]\n", "[programs.sh]\nenv = [\"DB_*\"]\n"));
    agent.seen(&admin, "online").await;

    let secret = format!("c/n+r? {:032x}%&=", rand::random::<u128>());
    let mut said: Vec<(String, Value)> = Vec::new();
    let args = json!({
        "program": "sh", "args": ["-c", "printf %s \"$DB_PASSWORD\" | sha256sum"], "secret_env": { "DB_PASSWORD": secret },
    });
    let body = json!({ "verb": "exec.run", "args": args, "target": { "agents": ["web-1"] } });
    let preview = admin.post("/api/v1/verbs/exec.run/plan", &json!({ "args": args, "target": { "all": true } })).await;
    said.push(("plan".into(), preview.expect(200)));
    let submit = || admin.request(Method::POST, "/api/v1/commands").header("content-type", "application/json");
    let mut id = String::new();
    for _ in 0..2 {
        let request = submit().header("idempotency-key", "once").body(body.to_string());
        let accepted = admin.send(request).await.expect(202);
        accepted["id"].as_str().expect("an id").clone_into(&mut id);
        said.push(("submit".into(), accepted));
    }
    let ended = admin.ended(&id, "web-1").await;
    assert_eq!(state_of(&ended), State::Succeeded, "{ended:#}");
    let sum = sha256(secret.as_bytes());
    assert!(ended["stdout"].as_str().expect("text").starts_with(&sum), "the child has the value: {ended:#}");
    said.push(("invocation".into(), ended));

    // In an argument, a folder or a name it would be seen: no plan names it there.
    let again = admin.post(&format!("/api/v1/commands/{id}/retry"), &json!({ "only": "failed" })).await;
    said.push(("retry".into(), again.json));
    let placeholder = json!({ "program": "echo", "args": ["{viworks-secret:0}"] });
    let named = json!({ "verb": "exec.run", "args": placeholder, "target": { "all": true } });
    let refused = admin.post("/api/v1/commands", &named).await;
    assert_eq!((refused.status, refused.code()), (422, "invalid_args"), "{:#}", refused.json);
    for path in
        ["/commands", &format!("/commands/{id}"), &format!("/commands/{id}/invocations"), "/audit?limit=500", "/verbs"]
    {
        said.push((path.to_owned(), admin.get(&format!("/api/v1{path}")).await.expect(200)));
    }
    let shown = admin.command(&id).await;
    assert_eq!(shown["args"]["secret_env"]["DB_PASSWORD"], "{viworks-secret:0}", "{shown:#}");
    let cli = Cli::login(&host).await;
    for words in [&["command", "show", &id][..], &["logs", &id], &["audit", "tail", "-o", "json"]] {
        let ran = cli.run(words).await;
        said.push((words.join(" "), json!([ran.stdout, ran.stderr])));
    }
    let export = host.scratch().join("export.ndjson").display().to_string();
    assert_eq!(cli.run(&["audit", "export", &export]).await.code, Some(0));

    // While they run, and after: logs at TRACE, the store and its log, the journal, exports.
    for round in ["while they run", "after"] {
        let mut sinks = files(host.scratch());
        sinks.extend(files(&agent.data()));
        assert!(sinks.len() > 10, "{sinks:?}");
        for form in forms(&secret) {
            for (what, answer) in &said {
                assert!(!answer.to_string().contains(&form), "{what}: {form}");
            }
            assert!(!agent.log().contains(&form), "the agent's log, {round}: {form}");
            for sink in &sinks {
                let bytes = fs::read(sink).unwrap_or_default();
                assert!(!holds(&bytes, &form), "{}, {round}: {form}", sink.display());
            }
        }
        if round == "while they run" {
            host.stop().await;
            agent.kill9();
        }
    }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
