//! A host that asks who made its plugins: what nobody who is trusted signed does not come in, and what is
//! denied goes.

use std::path::Path;
use std::process::Command;

use domain::attempt::State;
use serde_json::{Value, json};
use tests::client::{Api, exec_body, state_of};
use tests::host::TestHost;
use tests::machine::TestAgent;
use tests::programs::{exec_plugin, program};
use tests::wait::until;

/// A custom section called `x`, which changes a file's digest and nothing else.
const EMPTY_SECTION: &[u8] = &[0, 2, 1, b'x'];

fn viworks(words: &[&str]) -> Value {
    let done = Command::new(program("viworks")).arg("plugin").args(words).args(["-o", "json"]).output();
    let done = done.expect("viworks starts");
    assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).expect("JSON")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// The exec plugin, once it is as wanted.
async fn exec_when(admin: &Api, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    until(what, async || {
        let plugins = admin.get("/api/v1/plugins").await.expect(200);
        let found = plugins["items"].as_array()?.iter().find(|plugin| plugin["file"] == "exec.wasm")?.clone();
        wanted(&found).then_some(found)
    })
    .await
}

async fn assert_runs(admin: &Api) {
    let id = admin.exec("web-1", &json!({ "program": "echo", "args": ["signed"] })).await;
    assert_eq!(state_of(&admin.ended(&id, "web-1").await), State::Succeeded);
}

#[tokio::test]
async fn under_enforce_only_signed_plugins_serve_and_a_denied_key_ends_them() {
    let mut host = TestHost::new();
    let scratch = host.scratch().to_owned();
    let (key, trust, beside) = (scratch.join("release.key"), scratch.join("trust.toml"), scratch.join("exec.wasm"));
    let made = viworks(&["keygen", text(&key)]);
    let keys = format!("[[keys]]\nname = \"release\"\nkey = {}\n", made["public_key"]);
    std::fs::write(&trust, &keys).expect("written");
    host.set_plugins(&format!("signatures = \"enforce\"\ntrust_file = {:?}\n", text(&trust)));
    viworks(&["sign", text(&host.plugins().join("exec.wasm")), "--key", text(&key)]);
    host.launch().await;
    let admin = host.admin().await;
    let _agent = TestAgent::start(&host, &admin, "web-1").await;
    let plugin = exec_when(&admin, "the signed plugin serves", |plugin| plugin["state"] == "active").await;
    let signature = &plugin["signature"];
    assert_eq!((&signature["standing"], &signature["signer"]), (&json!("good"), &json!("release")), "{plugin:#}");
    assert_eq!(signature["key_id"], made["key_id"]);
    assert_runs(&admin).await;

    // An update that nobody signed is refused, and what serves goes on.
    let newer = [exec_plugin(), EMPTY_SECTION].concat();
    host.install("exec.wasm", &newer);
    let refused = exec_when(&admin, "the update is refused", |plugin| !plugin["refusal"].is_null()).await;
    assert_eq!((&refused["refusal"]["code"], &refused["state"]), (&json!("signature_invalid"), &json!("active")));
    assert_eq!(refused["digest"], plugin["digest"]);
    assert_runs(&admin).await;

    // Signed and installed, it serves.
    std::fs::write(&beside, &newer).expect("written");
    viworks(&["sign", text(&beside), "--key", text(&key)]);
    let put = viworks(&["install", text(&beside), "--dir", text(&host.plugins())]);
    let serves = |plugin: &Value| plugin["digest"] == put["digest"] && plugin["refusal"].is_null();
    exec_when(&admin, "the signed update serves", serves).await;
    assert_runs(&admin).await;

    // A key that is denied takes its plugins along, and a restart does not bring them back.
    std::fs::write(&trust, format!("{keys}[deny]\nsigners = [\"release\"]\n")).expect("written");
    std::fs::write(host.plugins().join("look.toml"), "").expect("a reason to look");
    let denied = exec_when(&admin, "the plugin is denied", |plugin| plugin["state"] == "refused").await;
    assert_eq!((&denied["refusal"]["code"], &denied["version"]), (&json!("plugin_denied"), &Value::Null));
    let body = exec_body("web-1", &json!({ "program": "echo", "args": ["denied"] }));
    let answer = admin.post("/api/v1/commands", &body).await;
    assert_eq!((answer.status, answer.code()), (409, "verb_unavailable"));
    assert!(host.log().contains("plugin_denied"), "{}", host.log());

    std::fs::write(&trust, &keys).expect("written");
    std::fs::write(host.plugins().join("look.toml"), "# again\n").expect("a reason to look");
    exec_when(&admin, "the plugin serves again", serves).await;
    assert_runs(&admin).await;
}
