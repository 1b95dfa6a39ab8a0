//! What becomes of plugins on a busy host: exchanged again and again with broken ones in between, sent back when
//! they fail, switched by people through API and command line, and the same after a restart.
//!
//! `VIWORKS_RELOADS` is how often plugin files are exchanged under load; 1,000 is what the product promises.

use serde_json::{Value, json};
use services::digest::sha256_hex;
use tests::cli::Cli;
use tests::client::{Api, state_of};
use tests::host::TestHost;
use tests::load::{Load, times};
use tests::machine::TestAgent;
use tests::oracle::{Excuses, Oracle, tell};
use tests::programs::exec_plugin;
use tests::store::Store;
use tests::wait::until;

use crate::guest::{Guest, TRAP};
use domain::attempt::State;

tests::on_both_stores![
    an_update_that_fails_is_sent_back_by_itself_and_stays_so_after_a_restart,
    people_switch_plugins_by_api_and_command_line_and_a_restart_keeps_it,
    an_update_that_would_break_what_waits_needs_consent,
];

/// Exchanges under one load.
const ROUND: usize = 100;

/// A custom section whose content makes a file another one and changes nothing else.
fn variant(number: usize) -> Vec<u8> {
    let text = number.to_string();
    let size = u8::try_from(text.len() + 2).expect("short");
    [exec_plugin(), &[0, size, 1, b'x'], text.as_bytes()].concat()
}

async fn plugin(api: &Api, name: &str) -> Value {
    api.get(&format!("/api/v1/plugins/{name}")).await.expect(200)
}

#[tokio::test]
async fn plugins_exchanged_under_load_with_broken_ones_in_between_lose_and_fail_no_command() {
    let reloads = times("VIWORKS_RELOADS", 60);
    let host = TestHost::start().await;
    let admin = host.admin().await;
    let agents = ["web-1", "web-2"];
    let mut running = Vec::new();
    for name in agents {
        running.push(TestAgent::start(&host, &admin, name).await);
    }
    let (mut good, mut bad) = (0, 0);
    while good + bad < reloads {
        // A login is good for ten minutes, and a round for less.
        let admin = host.admin().await;
        let folder = host.scratch().join(format!("round-{}", good + bad));
        std::fs::create_dir(&folder).expect("a folder for the round");
        let load = Load::start(&admin, &agents, Oracle::new(&folder));
        load.more_started(1).await;
        for number in (good + bad)..reloads.min(good + bad + ROUND) {
            let is_broken = number % 3 == 2;
            exchange(&host, &admin, number, is_broken, if is_broken { bad } else { good }).await;
            if is_broken { bad += 1 } else { good += 1 }
        }
        load.more_started(1).await;
        let verdict = load.judge(&admin, Excuses::default()).await;
        tell(&format!("{good} good and {bad} broken plugin files put in place so far: {verdict}"));
        verdict.assert_true();
        assert_eq!(verdict.refused, (0, 0), "nobody noticed: {verdict}");
        assert_eq!(verdict.states.keys().collect::<Vec<_>>(), ["succeeded"], "{verdict}");
    }
}

/// Puts the next file in place and waits until what follows is in force.
async fn exchange(host: &TestHost, admin: &Api, number: usize, is_broken: bool, nth: usize) {
    let broken: [&[u8]; 4] = [b"this is no plugin", &exec_plugin()[..5000], b"\0asm\x01\0\0\0", b""];
    // Some files come back that were there before; most are new.
    let bytes = if is_broken { broken[nth % 4].to_vec() } else { variant(nth % 17) };
    let wanted = sha256_hex(&bytes);
    host.install("exec.wasm", &bytes);
    until(&format!("exchange {number} is in force"), async || {
        let plugin = plugin(admin, "exec").await;
        let found = if is_broken { &plugin["refusal"]["digest"] } else { &plugin["digest"] };
        (*found == *wanted).then_some(())
    })
    .await;
}

fn demo(version: &str) -> Vec<u8> {
    Guest::new("demo", version).build()
}

fn run(args: &Value) -> Value {
    json!({ "verb": "demo.run", "args": args, "target": { "all": true } })
}

/// State, version that serves, and what the file is refused for.
fn stands(plugin: &Value) -> (String, Option<String>, Option<String>) {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    (text(&plugin["state"]).unwrap_or_default(), text(&plugin["version"]), text(&plugin["refusal"]["code"]))
}

async fn until_stands(api: &Api, state: &str, version: Option<&str>, refusal: Option<&str>) -> Value {
    let wanted = (state.to_owned(), version.map(str::to_owned), refusal.map(str::to_owned));
    until(&format!("the plugin stands {wanted:?}"), async || {
        let answer = api.get("/api/v1/plugins/demo").await;
        (answer.status == 200 && stands(&answer.json) == wanted).then_some(answer.json)
    })
    .await
}

async fn history(api: &Api) -> Vec<(Option<String>, String, Option<String>)> {
    let page = api.get("/api/v1/plugins/demo/history").await.expect(200);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let items = page["items"].as_array().expect("items").iter();
    items.map(|item| (text(&item["version"]), text(&item["to"]).unwrap_or_default(), text(&item["actor"]))).collect()
}

async fn an_update_that_fails_is_sent_back_by_itself_and_stays_so_after_a_restart(store: Store) {
    let mut host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let _agent = TestAgent::start(&host, &admin, "web-1").await;
    host.install("demo.wasm", &demo("1.0.0"));
    until_stands(&admin, "active", Some("1.0.0"), None).await;
    host.install("demo.wasm", &Guest { plan: TRAP.into(), ..Guest::new("demo", "1.1.0") }.build());
    until_stands(&admin, "probation", Some("1.1.0"), None).await;

    let mode = json!({ "mode": 1 });
    let mut failed = 0;
    let id = until("the version before serves again", async || {
        let answer = admin.post("/api/v1/commands", &run(&mode)).await;
        if answer.status == 202 {
            return answer.json["id"].as_str().map(str::to_owned);
        }
        assert_eq!((answer.status, answer.code()), (422, "plugin_failed"), "{:#}", answer.json);
        failed += 1;
        None
    })
    .await;
    assert!(failed >= 5, "{failed} calls failed");
    assert_eq!(state_of(&admin.ended(&id, "web-1").await), State::Succeeded);
    let before = until_stands(&admin, "active", Some("1.0.0"), Some("quarantined")).await;

    host.kill9();
    host.launch().await;
    let after = until_stands(&admin, "active", Some("1.0.0"), Some("quarantined")).await;
    assert_eq!(before["refusal"], after["refusal"]);
    let id = admin.submit(&run(&mode)).await;
    assert_eq!(state_of(&admin.ended(&id, "web-1").await), State::Succeeded);
    let happened = history(&admin).await;
    for (version, to) in [("1.1.0", "probation"), ("1.0.0", "kept"), ("1.1.0", "quarantined"), ("1.0.0", "active")] {
        assert!(happened.contains(&(Some(version.into()), to.into(), None)), "{version} {to}: {happened:#?}");
    }

    // With nothing to go back to, its verbs say so.
    let alone = Guest { plan: TRAP.into(), ..Guest::new("alone", "1.0.0") };
    host.install("alone.wasm", &alone.build());
    host.serves_plugin(&admin, "alone").await;
    let call = json!({ "verb": "alone.run", "args": mode, "target": { "all": true } });
    until("the plugin is quarantined", async || {
        let answer = admin.post("/api/v1/commands", &call).await;
        (answer.code() == "plugin_quarantined").then(|| assert_eq!(answer.status, 503))
    })
    .await;
    let retried = admin.post_raw("/api/v1/plugins/alone/retry", "application/json", "").await.expect(200);
    assert_eq!(retried["state"], "active", "{retried:#}");
}

async fn people_switch_plugins_by_api_and_command_line_and_a_restart_keeps_it(store: Store) {
    let mut host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let order = async |api: &Api, order: &str| {
        api.post_raw(&format!("/api/v1/plugins/demo/{order}"), "application/json", "").await
    };
    host.install("demo.wasm", &demo("1.0.0"));
    until_stands(&admin, "active", Some("1.0.0"), None).await;
    host.install("demo.wasm", &demo("1.1.0"));
    until_stands(&admin, "probation", Some("1.1.0"), None).await;

    let operator = host.user(&admin, "olga", "operator").await;
    assert_eq!(order(&operator, "disable").await.status, 403);
    assert_eq!(order(&admin, "enable").await.code(), "plugin_state");
    assert_eq!(admin.post_raw("/api/v1/plugins/nobody/retry", "application/json", "").await.status, 404);
    let back = order(&admin, "rollback").await.expect(200);
    assert_eq!(stands(&back), ("active".into(), Some("1.0.0".into()), Some("rolled_back".into())), "{back:#}");

    let cli = Cli::login(&host).await;
    let again = cli.run(&["plugin", "retry", "demo", "-o", "json"]).await;
    assert_eq!((again.code, again.json()["version"].as_str()), (Some(0), Some("1.1.0")), "{again:?}");
    let off = cli.run(&["plugin", "disable", "demo"]).await;
    assert_eq!(off.code, Some(0), "{off:?}");
    assert!(off.stdout.contains("demo · disabled") && off.stdout.contains("1.1.0"), "{}", off.stdout);
    let twice = cli.run(&["plugin", "disable", "demo"]).await;
    assert!(twice.code == Some(1) && twice.stderr.contains("disabled already"), "{twice:?}");
    let verb = admin.get("/api/v1/verbs/demo.run").await;
    assert_eq!((verb.status, verb.code()), (409, "verb_unavailable"));

    host.kill9();
    host.launch().await;
    until_stands(&admin, "disabled", None, None).await;
    let on = cli.run(&["plugin", "enable", "demo", "-o", "json"]).await;
    assert_eq!((on.code, on.json()["version"].as_str()), (Some(0), Some("1.1.0")), "{on:?}");

    // An update that asks for more waits for consent, beside the version that serves.
    let mut greedy = Guest::new("demo", "1.2.0");
    let programs = greedy.manifest["grants"]["programs"].as_array_mut().expect("a list");
    programs.push(json!({ "program": "rm" }));
    host.install("demo.wasm", &greedy.build());
    let waits = until("the update waits", async || {
        let plugin = plugin(&admin, "demo").await;
        (plugin["refusal"]["code"] == "grants_widened").then_some(plugin)
    })
    .await;
    assert_eq!(waits["version"], "1.1.0", "{waits:#}");
    let approved = cli.run(&["plugin", "approve", "demo", "-o", "json"]).await;
    assert_eq!((approved.code, approved.json()["version"].as_str()), (Some(0), Some("1.2.0")), "{approved:?}");
    host.kill9();
    host.launch().await;
    until_stands(&admin, "probation", Some("1.2.0"), None).await;

    let told = cli.run(&["plugin", "history", "demo", "-o", "json"]).await.json();
    let orders: Vec<&str> = told["items"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|item| item["actor"] == "admin")
        .filter_map(|item| item["why"].as_str()?.split(' ').next())
        .collect();
    assert_eq!(orders, ["approve", "enable", "disable", "retry", "rollback"], "{told:#}");
    let audit = admin.get("/api/v1/audit?limit=100").await.expect(200);
    let actions: Vec<&str> =
        audit["items"].as_array().expect("a list").iter().filter_map(|item| item["action"].as_str()).collect();
    for action in ["plugins.approve", "plugins.enable", "plugins.disable", "plugins.retry", "plugins.rollback"] {
        assert!(actions.contains(&action), "{action}: {actions:?}");
    }
}

async fn an_update_that_would_break_what_waits_needs_consent(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let agent = TestAgent::start(&host, &admin, "web-1").await;
    host.install("demo.wasm", &demo("1.0.0"));
    until_stands(&admin, "active", Some("1.0.0"), None).await;
    // Nobody is there to run it, so it waits.
    drop(agent);
    let waiting = json!({ "verb": "demo.run", "args": { "mode": 1 }, "target": { "agents": ["web-1"] } });
    let id = admin.submit(&waiting).await;
    let mut texts = Guest::new("demo", "2.0.0");
    texts.manifest["verbs"][0]["args_schema"]["properties"]["mode"] = json!({ "type": "string" });
    host.install("demo.wasm", &texts.build());
    let told = until_stands(&admin, "active", Some("1.0.0"), Some("breaks_queued")).await;
    let cause = told["refusal"]["cause"].as_str().unwrap_or_default();
    assert!(cause.contains(&id) && cause.contains("/mode"), "{cause}");
    let waits = |version: &&Value| version["version"] == "2.0.0";
    let versions = told["versions"].as_array().expect("a list");
    assert_eq!(versions.iter().find(waits).map(|version| &version["state"]), Some(&json!("needs_approval")));
    let approved = admin.post_raw("/api/v1/plugins/demo/approve", "application/json", "").await.expect(200);
    assert_eq!(stands(&approved), ("probation".into(), Some("2.0.0".into()), None), "{approved:#}");
    let shown = admin.get("/api/v1/verbs/demo.run").await.expect(200);
    assert_eq!(shown["args_schema"]["properties"]["mode"]["type"], "string");
}
