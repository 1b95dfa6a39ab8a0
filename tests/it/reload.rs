//! Plugins exchanged under load: good, broken in several ways, good again. No command notices.

use std::sync::atomic::{AtomicBool, Ordering};

use domain::attempt::State;
use serde_json::{Value, json};
use services::digest::sha256_hex;
use tests::client::{Api, state_of};
use tests::gate::Gated;
use tests::host::TestHost;
use tests::machine::TestAgent;
use tests::programs::exec_plugin;
use tests::store::Store;
use tests::wait::until;

tests::on_both_stores![
    broken_plugin_files_are_refused_with_cause_and_cure_while_commands_go_on,
    a_broken_file_beside_a_good_one_takes_nothing_away_and_survives_a_restart_as_refused,
];

/// A wasm file of version 1 without any section: a core module, no component.
const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";
/// A custom section called `x`, which changes a file's digest and nothing else.
const EMPTY_SECTION: &[u8] = &[0, 2, 1, b'x'];

/// Runs commands one after the other until told to stop; how many.
async fn keep_running(api: &Api, stop: &AtomicBool) -> usize {
    let mut done = 0;
    while !stop.load(Ordering::Relaxed) {
        let word = format!("word {done}");
        let id = api.exec("web-1", &json!({ "program": "echo", "args": [word] })).await;
        let invocation = api.ended(&id, "web-1").await;
        assert_eq!(state_of(&invocation), State::Succeeded, "{invocation:#}");
        assert_eq!(invocation["result"]["stdout"], format!("{word}\n"));
        done += 1;
    }
    done
}

#[track_caller]
fn assert_refused(plugin: &Value, bytes: &[u8], serving: &[u8]) {
    let refusal = &plugin["refusal"];
    assert_eq!((&refusal["gate"], &refusal["digest"]), (&json!(2), &json!(sha256_hex(bytes))));
    for text in ["cause", "cure"] {
        assert!(refusal[text].as_str().is_some_and(|text| !text.is_empty()), "{refusal:#}");
    }
    assert_eq!((&plugin["state"], &plugin["digest"]), (&json!("active"), &json!(sha256_hex(serving))), "{plugin:#}");
    assert_eq!(plugin["verbs"], json!(["exec.run"]));
}

async fn broken_plugin_files_are_refused_with_cause_and_cure_while_commands_go_on(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let _agent = TestAgent::start(&host, &admin, "web-1").await;
    let good = exec_plugin();
    let newer = [good, EMPTY_SECTION].concat();

    // One command is there from before the first exchange until after the last.
    let mut gated = Gated::new();
    let long = admin.exec("web-1", &gated.args()).await;
    gated.started().await;

    let stop = AtomicBool::new(false);
    let exchange = async {
        for (broken, code) in [
            (b"this is no plugin".as_slice(), "not_wasm"),
            (&good[..good.len() / 2], "truncated"),
            (CORE_MODULE, "core_module"),
        ] {
            host.install("exec.wasm", broken);
            let plugin = host.plugin_refused(&admin, "exec", Some(code)).await;
            assert_refused(&plugin, broken, good);
        }
        host.install("exec.wasm", &newer);
        let served = until("the newer file serves", async || {
            let plugin = host.plugin_refused(&admin, "exec", None).await;
            (plugin["digest"] == *sha256_hex(&newer)).then_some(plugin)
        });
        assert_eq!(served.await["state"], "probation");
        host.install("exec.wasm", b"");
        until("the empty file is refused", async || {
            let plugins = admin.get("/api/v1/plugins").await.expect(200);
            (plugins["items"][0]["refusal"]["gate"] == json!(2)).then_some(())
        })
        .await;
        host.install("exec.wasm", good);
        host.plugin_refused(&admin, "exec", None).await;
        stop.store(true, Ordering::Relaxed);
    };
    let (done, ()) = tokio::join!(keep_running(&admin, &stop), exchange);
    assert!(done > 0, "commands ran during the exchange");
    gated.open();
    let invocation = admin.ended(&long, "web-1").await;
    assert_eq!(state_of(&invocation), State::Succeeded, "{invocation:#}");
    assert_eq!((gated.starts(), &invocation["parsed"]), (1, &json!(true)));
}

async fn a_broken_file_beside_a_good_one_takes_nothing_away_and_survives_a_restart_as_refused(store: Store) {
    let mut host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    host.install("other.wasm", CORE_MODULE);
    let before = host.plugin_refused(&admin, "other", Some("core_module")).await;
    assert_eq!(before["state"], "refused");
    host.kill9();
    host.launch().await;
    let after = host.plugin_refused(&admin, "other", Some("core_module")).await;
    assert_eq!(before["refusal"], after["refusal"]);
    assert_eq!(admin.get("/api/v1/verbs/exec.run").await.status, 200);
}
