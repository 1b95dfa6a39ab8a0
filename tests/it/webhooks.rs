//! Telling people: a message is signed so that a published library in another language believes it, is tried again,
//! and goes nowhere it must not.

use std::process::Command;

use serde_json::{Value, json};
use servers::need;
use tests::client::Api;
use tests::host::TestHost;
use tests::machine::TestAgent;
use tests::played::Played;
use tests::programs::plugin;
use tests::python::{python_tool, ran};
use tests::receiver::{Message, Receiver};
use tests::store::Store;
use tests::wait::until;
use wire::frame::AgentFrame;
use wire::sample::{Sample, Usage};

tests::on_both_stores![a_message_is_signed_tried_again_and_believed];

async fn refused(api: &Api, url: &str) -> (u16, Value) {
    let body = json!({ "name": "other", "url": url });
    let answer = api.post("/api/v1/notification-channels", &body).await;
    (answer.status, answer.json["errors"][0]["pointer"].clone())
}

async fn a_message_is_signed_tried_again_and_believed(store: Store) {
    // Built first, for it takes longer than a host keeps a connection that says nothing.
    let built = plugin("memory");
    let mut host = TestHost::new_on(store);
    host.set_sections("[telemetry]\ninterval_ms = 1000\n\n[notifications]\nprivate_networks = true\n");
    // All that is said on the way of a message, by the libraries that carry it, too.
    host.set_log_level("info,services=trace,server=trace,reqwest=trace,hyper=trace,hyper_util=trace,h2=trace");
    host.launch().await;
    let admin = host.admin().await;
    let receiver = Receiver::start().await;
    receiver.answer(&[503], 204);
    let wanted =
        json!({ "name": "ops", "url": receiver.url, "template": "{{ alerts[0].rule }} on {{ alerts[0].agent_name }}" });
    let made = admin.post("/api/v1/notification-channels", &wanted).await.expect(201);
    let secret = made["secret"].as_str().expect("a secret").to_owned();
    assert!(made["url"].as_str().is_some_and(|url| !url.contains("s3cret")), "{made:#}");
    let shown = admin.get("/api/v1/notification-channels/ops").await.expect(200);
    assert!(shown["secret"].is_null(), "{shown:#}");
    for file in ["viworks.db", "viworks.db-wal"] {
        let kept = std::fs::read(host.data().join(file)).unwrap_or_default();
        assert!(!kept.windows(6).any(|word| word == b"s3cret"), "the address is in the store: {file}");
    }
    let path = "/api/v1/notification-channels/ops/test";
    let tried = admin.post(path, &json!({})).await.expect(200);
    assert_eq!((&tried["delivered"], &tried["status"]), (&json!(false), &json!(503)), "{tried:#}");
    let tried = admin.post(path, &json!({})).await.expect(200);
    assert_eq!(tried["delivered"], true, "{tried:#}");

    host.install("memory.toml", b"[config]\nwarning = 0.0\ncritical = 100.0\nfor_s = 0\n");
    host.install("memory.wasm", built);
    host.serves_plugin(&admin, "memory").await;
    let _agent = TestAgent::start(&host, &admin, "web-1").await;
    let message = until("a message of an alert", async || {
        receiver.messages().into_iter().find(|message| message.json()["type"] == "alerts")
    })
    .await;
    let said = message.json();
    assert_eq!(said["data"]["text"], "memory on web-1", "{said:#}");
    assert_eq!(said["data"]["alerts"][0]["what"], "fired", "{said:#}");
    let sent = until("it is settled", async || {
        let page = admin.get("/api/v1/notification-channels/ops/messages?state=sent").await.expect(200);
        page["items"].as_array().and_then(|items| items.first().cloned())
    });
    let sent = sent.await;
    assert_eq!(message.header("webhook-id"), format!("msg_{}", sent["id"].as_str().expect("an id")));
    believed(&host, &secret, &message);

    let page = admin.get("/api/v1/audit?limit=500").await.expect(200).to_string();
    assert!(!page.contains("s3cret") && !page.contains(&secret), "secrets are on no record");
    assert!(!host.log().contains("s3cret") && !host.log().contains(&secret), "and in no log");
}

#[tokio::test]
async fn alerts_of_a_whole_site_come_in_few_messages_and_what_is_refused_comes_again() {
    const MACHINES: usize = 12;
    let built = plugin("memory");
    let mut host = TestHost::new();
    host.set_sections("[notifications]\nprivate_networks = true\n");
    host.launch().await;
    let admin = host.admin().await;
    let (ops, chat) = (Receiver::start().await, Receiver::start().await);
    ops.answer(&[500, 500], 200);
    for channel in [
        json!({ "name": "ops", "url": ops.url }),
        json!({ "name": "chat", "url": chat.url, "kind": "slack", "template": "{{ count + left_out }} alerts" }),
    ] {
        admin.post("/api/v1/notification-channels", &channel).await.expect(201);
    }
    host.install("memory.toml", b"[config]\nfor_s = 0\n");
    host.install("memory.wasm", built);
    host.serves_plugin(&admin, "memory").await;
    let mut open = Vec::new();
    for n in 0..MACHINES {
        open.push(Played::join(&host, &admin, &format!("web-{n}")).await.open().await);
    }
    let memory = Some(Usage { used_bytes: 90, total_bytes: 100 });
    for (socket, welcome) in &mut open {
        let sample = Sample { at_ms: welcome.now_ms, memory, ..Sample::default() };
        socket.say(&AgentFrame::Telemetry { sample }).await;
    }
    // The third try is made 35 s after the first.
    let told = |receiver: &Receiver, count: &dyn Fn(&Value) -> usize| -> usize {
        let arrived = receiver.messages().into_iter().filter(|message| message.status.is_success());
        arrived.map(|message| count(&message.json())).sum()
    };
    until("everybody is told of every machine", async || {
        let shown = told(&ops, &|said| said["data"]["alerts"].as_array().expect("a list").len());
        let words = |said: &Value| said["text"].as_str().and_then(|text| text.split(' ').next()?.parse().ok());
        let counted = told(&chat, &|said| words(said).expect("a number"));
        assert!(shown <= MACHINES && counted <= MACHINES, "none twice: {shown}, {counted}");
        ((shown, counted) == (MACHINES, MACHINES)).then_some(())
    })
    .await;
    let messages = ops.messages();
    let first: Vec<&Message> =
        messages.iter().filter(|one| one.header("webhook-id") == messages[0].header("webhook-id")).collect();
    let statuses: Vec<u16> = first.iter().map(|message| message.status.as_u16()).collect();
    assert!(messages.len() < MACHINES, "grouped: {}", messages.len());
    // A second message may have come between, and been refused in the place of the first one's second try.
    assert!(statuses.len() <= 3 && statuses.last() == Some(&200), "{statuses:?}");
    assert_eq!(messages.iter().filter(|message| message.status == 500).count(), 2);
    let metrics = String::from_utf8(admin.get("/metrics").await.bytes).expect("text");
    assert!(metrics.contains(r#"viworks_notifications_total{outcome="failed"} 2"#), "{metrics}");
    assert!(metrics.contains(r#"viworks_notifications_total{outcome="dead"} 0"#), "{metrics}");
}

/// The library that others read such messages with.
fn believed(host: &TestHost, secret: &str, message: &Message) {
    let Some(python) = python_tool("python3") else { return };
    if !Command::new(&python).args(["-c", "import standardwebhooks"]).status().is_ok_and(|done| done.success()) {
        need::skipped("no `standardwebhooks` in target/python: `cargo xtask test` installs it");
        return;
    }
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let given: Value = names.into_iter().map(|name| (name.to_owned(), json!(message.header(name)))).collect();
    let (file, script) = (host.scratch().join("message.json"), host.scratch().join("verify.py"));
    let whole = json!({ "secret": secret, "headers": given, "body": message.body });
    std::fs::write(&file, whole.to_string()).expect("written");
    let text = "import json, sys\nfrom standardwebhooks.webhooks import Webhook, WebhookVerificationError\n\
        m = json.load(open(sys.argv[1]))\nhook = Webhook(m['secret'])\nprint(hook.verify(m['body'], m['headers'])['type'])\n\
        try:\n    hook.verify(m['body'] + ' ', m['headers'])\n    print('believed a forgery')\n\
        except WebhookVerificationError:\n    print('refused a forgery')\n";
    std::fs::write(&script, text).expect("written");
    assert_eq!(ran(Command::new(python).arg(script).arg(file)), "alerts\nrefused a forgery\n");
}

#[tokio::test]
async fn nothing_leads_into_a_private_network_unless_it_is_allowed() {
    let host = TestHost::start().await;
    let admin = host.admin().await;
    for url in ["https://127.0.0.1/x", "https://[::1]/x", "https://169.254.169.254/", "http://hooks.example.org/x", "x"]
    {
        assert_eq!(refused(&admin, url).await, (422, json!("/url")), "{url}");
    }
    // A name is judged when it is looked up, each time.
    let body = json!({ "name": "here", "url": "https://localhost:1/x" });
    admin.post("/api/v1/notification-channels", &body).await.expect(201);
    let tried = admin.post("/api/v1/notification-channels/here/test", &json!({})).await.expect(200);
    assert!(tried["error"].as_str().is_some_and(|why| why.contains("private network")), "{tried:#}");
}
