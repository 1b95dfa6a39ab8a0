//! Telling people: a message is signed so that a published library in another language believes it, is tried again,
//! and goes nowhere it must not.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::{Value, json};
use servers::need;
use tests::client::Api;
use tests::host::TestHost;
use tests::machine::TestAgent;
use tests::programs::plugin;
use tests::python::{python_tool, ran};
use tests::store::Store;
use tests::wait::until;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

tests::on_both_stores![a_message_is_signed_tried_again_and_believed];

/// A message as it arrived: its headers and its body.
type Arrived = Vec<(HeaderMap, String)>;

/// Somebody who is told: the first message is refused.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Arrived>>);

impl Told {
    fn all(&self) -> Arrived {
        self.0.lock().expect("no holder panics").clone()
    }
}

async fn take(State(told): State<Told>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let mut told = told.0.lock().expect("no holder panics");
    told.push((headers, String::from_utf8(body.to_vec()).expect("UTF-8")));
    if told.len() == 1 { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::NO_CONTENT }
}

/// Listens on loopback. Answers the address.
async fn listen(told: Told) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let router = Router::new().route("/hook/{key}", post(take)).with_state(told);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { axum::serve(listener, router).await.expect("it serves") });
    (format!("http://{address}/hook/s3cret"), tasks)
}

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
    let told = Told::default();
    let (url, _serving) = listen(told.clone()).await;
    let wanted = json!({ "name": "ops", "url": url, "template": "{{ alerts[0].rule }} on {{ alerts[0].agent_name }}" });
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
    let (headers, body) = until("a message of an alert", async || {
        told.all().into_iter().find(|(_, body)| body.contains("\"type\":\"alerts\""))
    })
    .await;
    let said: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(said["data"]["text"], "memory on web-1", "{said:#}");
    assert_eq!(said["data"]["alerts"][0]["what"], "fired", "{said:#}");
    let sent = until("it is settled", async || {
        let page = admin.get("/api/v1/notification-channels/ops/messages?state=sent").await.expect(200);
        page["items"].as_array().and_then(|items| items.first().cloned())
    });
    let sent = sent.await;
    assert_eq!(
        headers["webhook-id"].to_str().ok(),
        Some(format!("msg_{}", sent["id"].as_str().expect("an id")).as_str())
    );
    believed(&host, &secret, &headers, &body);

    let page = admin.get("/api/v1/audit?limit=500").await.expect(200).to_string();
    assert!(!page.contains("s3cret") && !page.contains(&secret), "secrets are on no record");
    assert!(!host.log().contains("s3cret") && !host.log().contains(&secret), "and in no log");
}

/// The library that others read such messages with.
fn believed(host: &TestHost, secret: &str, headers: &HeaderMap, body: &str) {
    let Some(python) = python_tool("python3") else { return };
    if !Command::new(&python).args(["-c", "import standardwebhooks"]).status().is_ok_and(|done| done.success()) {
        need::skipped("no `standardwebhooks` in target/python: `cargo xtask test` installs it");
        return;
    }
    let header = |name: &str| headers[name].to_str().expect("text").to_owned();
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let given: Value = names.into_iter().map(|name| (name.to_owned(), json!(header(name)))).collect();
    let (message, script) = (host.scratch().join("message.json"), host.scratch().join("verify.py"));
    let whole = json!({ "secret": secret, "headers": given, "body": body });
    std::fs::write(&message, whole.to_string()).expect("written");
    let text = "import json, sys\nfrom standardwebhooks.webhooks import Webhook, WebhookVerificationError\n\
        m = json.load(open(sys.argv[1]))\nhook = Webhook(m['secret'])\nprint(hook.verify(m['body'], m['headers'])['type'])\n\
        try:\n    hook.verify(m['body'] + ' ', m['headers'])\n    print('believed a forgery')\n\
        except WebhookVerificationError:\n    print('refused a forgery')\n";
    std::fs::write(&script, text).expect("written");
    assert_eq!(ran(Command::new(python).arg(script).arg(message)), "alerts\nrefused a forgery\n");
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
