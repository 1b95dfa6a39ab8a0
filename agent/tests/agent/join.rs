//! Enrolment: what the agent sends, what it believes, what it keeps.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use agent::identity::{Identity, identity_path};
use agent::join::pin_of;
use plan::envelope::{join_parts, key_text, parse_key, verify};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::{CEILING, agent_id, cluster_id, cluster_key};

/// Takes one request and gives `answer`; returns the request's head and body.
async fn join_host(listener: &TcpListener, answer: String) -> (String, String) {
    let (mut stream, _) = listener.accept().await.expect("accepts");
    let mut bytes = Vec::new();
    let body = loop {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).await.expect("reads");
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && let Some(length) = head.to_lowercase().split("content-length: ").nth(1)
            && let Ok(length) = length.lines().next().unwrap_or_default().trim().parse::<usize>()
            && body.len() == length
        {
            break (head.to_owned(), body.to_owned());
        }
    };
    stream.write_all(answer.as_bytes()).await.expect("answers");
    body
}

fn http(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

async fn join(data: &Path, url: &str, token: &str) -> (bool, String) {
    let mut process = tokio::process::Command::new(env!("CARGO_BIN_EXE_viworks-agent"));
    process.args(["join", url, "--token", token, "--name", "box", "--labels", "site=eu-1", "--data"]).arg(data);
    let output = tokio::time::timeout(CEILING, process.output()).await.expect("ends in time").expect("runs");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn joining_proves_the_key_and_pins_the_cluster() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let url = format!("http://{}/", listener.local_addr().expect("is bound"));
    let cluster = cluster_key().verifying_key();
    let answer = format!(
        r#"{{"agent_id":"{}","cluster_id":"{}","cluster_key":"{}","ws_url":"ws://127.0.0.1:1/ws/agent"}}"#,
        agent_id(),
        cluster_id(),
        key_text(&cluster)
    );
    let (accepted, refused) =
        (http("201 Created", &answer), http("409 Conflict", r#"{"title":"taken","detail":"the name `box` is taken"}"#));
    let wrong = "vwj_abc_se_cret_0123456789abcdef";
    let ((success, words), _) = tokio::join!(join(&data, &url, wrong), join_host(&listener, accepted.clone()));
    assert!(!success && words.contains("does not match the pin"), "{words}");
    assert!(!identity_path(&data).exists());
    let token = format!("vwj_abc_se_cret_{}", pin_of(&cluster));
    let ((success, words), _) = tokio::join!(join(&data, &url, &token), join_host(&listener, refused));
    assert!(!success && words.contains("the host refused (409): the name `box` is taken"), "{words}");
    let ((success, words), (head, body)) = tokio::join!(join(&data, &url, &token), join_host(&listener, accepted));
    assert!(success, "{words}");
    assert!(head.starts_with("POST /agent/v1/join HTTP/1.1"), "{head}");
    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let field = |name: &str| body[name].as_str().expect("text").to_owned();
    let key = parse_key(&field("public_key")).expect("a key");
    assert_eq!((field("token"), field("name")), (token.clone(), "box".to_owned()));
    assert_eq!(verify(&key, &[&join_parts(&token, "box")], &field("proof")), Ok(()));
    let identity = Identity::load(&data).expect("joined");
    assert_eq!((identity.agent_id, identity.key.verifying_key()), (agent_id(), key));
    assert_eq!(identity.labels.get("site").map(String::as_str), Some("eu-1"));
    for file in ["identity.json", "agent.key"] {
        let mode = std::fs::metadata(data.join(file)).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let (success, words) = join(&data, &url, &token).await;
    assert!(!success && words.contains("has joined before"), "{words}");
    let (success, words) = join(&dir.path().join("other"), "ftp://127.0.0.1:1", &token).await;
    assert!(!success && words.contains("is not an address"), "{words}");
}
