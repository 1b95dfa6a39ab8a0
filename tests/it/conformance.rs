//! WebSocket as RFC 6455 has it, at both ends: the suite's cases (kosoku, which has Autobahn's) against an echo behind the host's own accept
//! loop and an agent's bounds, and against an echo behind the agent's own socket.
//!
//! Left out: 9.x above the largest frame, which is cut off (tried below), 12 and 13 (compression, which neither end offers).

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};

use axum::Router;
use axum::extract::WebSocketUpgrade;
use axum::extract::ws::{Message as Heard, WebSocket};
use axum::routing::any;
use futures_util::{SinkExt as _, StreamExt as _};
use rest::proxies::Proxies;
use server::crowd::Crowd;
use server::listen::{Door, serve};
use tests::python::{python_tool, ran};
use tests::wait::until;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wire::limits::MAX_FRAME_BYTES;

/// What is tried: framing, pings, reserved bits, opcodes, fragments, UTF-8, closing, odd fragments, and messages up to a MiB.
const CASES: [&str; 12] = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*", "9.1.1", "9.1.2", "9.2.1", "9.2.2"];

/// Says everything again.
async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        let again = match message {
            Heard::Text(_) | Heard::Binary(_) => socket.send(message).await,
            Heard::Ping(_) | Heard::Pong(_) | Heard::Close(_) => Ok(()),
        };
        if again.is_err() {
            return;
        }
    }
}

/// The echo, behind the host's accept loop.
async fn listen() -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let upgrade = |socket: WebSocketUpgrade| async { gateway::router::bounded(socket).on_upgrade(echo) };
    let router = Router::new().route("/echo", any(upgrade));
    let door = Door {
        for_life: false,
        max_connections: 64,
        crowd: Crowd::new(0, Proxies::default()),
        tls: None,
        leaving: CancellationToken::new(),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(listener, router, door, CancellationToken::new(), TaskTracker::new()));
    (address, tasks)
}

/// What the suite found, of its report for one end: how many cases passed, and those that did not.
fn judged(folder: &Path) -> (usize, Vec<String>) {
    let text = std::fs::read_to_string(folder.join("index.json")).expect("the suite reports");
    let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let ends: Vec<_> = report.as_object().expect("by end").values().collect();
    assert_eq!(ends.len(), 1, "one end was tried");
    let (mut passed, mut failed) = (0, Vec::new());
    for (case, found) in ends[0].as_object().expect("by case") {
        let words = ["behavior", "behaviorClose"].map(|part| found[part].as_str().unwrap_or("nothing"));
        // NON-STRICT: seen a little later than could be; INFORMATIONAL: nothing is asked.
        let fine = words.iter().all(|word| ["OK", "NON-STRICT", "INFORMATIONAL"].contains(word));
        if fine {
            passed += 1;
        } else {
            failed.push(format!("{case}: {}", words.join(", ")));
        }
    }
    (passed, failed)
}

fn cases(command: &mut Command) -> &mut Command {
    command.args(CASES.iter().flat_map(|case| ["-i", case]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hosts_door_speaks_the_protocol_as_the_standard_has_it() {
    let Some(kosoku) = python_tool("kosoku") else { return };
    let (address, _tasks) = listen().await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut suite = Command::new(kosoku);
    cases(&mut suite).args(["-p", "4", "-o"]).arg(folder.path()).arg(format!("ws://{address}/echo"));
    tokio::task::spawn_blocking(move || ran(&mut suite)).await.expect("the suite ends");
    let (passed, failed) = judged(folder.path());
    println!("host: {passed} cases passed, {} failed", failed.len());
    assert_eq!(failed, [""; 0]);
    assert!(passed > 240, "{passed}");
}

#[tokio::test]
async fn a_message_far_above_the_bound_is_cut_off_unread() {
    let (address, _tasks) = listen().await;
    let stream = TcpStream::connect(address).await.expect("it listens");
    let (mut socket, _) =
        client_async_with_config(format!("ws://{address}/echo"), stream, None).await.expect("an upgrade");
    // A little above, it is still read, so that its sender can be told.
    for size in [MAX_FRAME_BYTES, MAX_FRAME_BYTES + 64 * 1024] {
        socket.send(Message::binary(vec![7; size])).await.expect("sent");
        let echoed = socket.next().await.expect("open").expect("a message");
        assert_eq!(echoed.len(), size);
    }
    // The door may close before all of it is written.
    let _ = socket.send(Message::binary(vec![7; MAX_FRAME_BYTES + 64 * 1024 + 1])).await;
    let end = socket.next().await;
    assert!(!matches!(end, Some(Ok(Message::Binary(_) | Message::Text(_)))), "{end:?}");
}

/// Connects as an agent does.
async fn dial(address: SocketAddr, path: &str) -> Option<tokio_tungstenite::WebSocketStream<TcpStream>> {
    let stream = TcpStream::connect(address).await.ok()?;
    let url = format!("ws://{address}{path}");
    Some(client_async_with_config(url, stream, Some(agent::socket::bounds())).await.ok()?.0)
}

#[tokio::test]
async fn the_agents_socket_speaks_the_protocol_as_the_standard_has_it() {
    let Some(kosoku) = python_tool("kosoku") else { return };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, servers::port::free().expect("a port")));
    let folder = tempfile::tempdir().expect("a folder");
    let mut suite = tokio::process::Command::new(kosoku);
    cases(suite.as_std_mut()).args(["-m", "fuzzingserver", "-o"]).arg(folder.path()).arg(address.to_string());
    let quiet = suite.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut suite = quiet.spawn().expect("the suite starts");
    let mut count = until("the suite listens", async || dial(address, "/getCaseCount").await).await;
    let count: usize = match count.next().await {
        Some(Ok(Message::Text(text))) => text.parse().expect("a number"),
        other => panic!("{other:?}"),
    };
    for case in 1..=count {
        let path = format!("/runCase?case={case}&agent=viworks-agent");
        let mut socket = dial(address, &path).await.expect("the suite opens a case");
        while let Some(Ok(message)) = socket.next().await {
            if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                break;
            }
        }
    }
    let mut report = dial(address, "/updateReports?agent=viworks-agent").await.expect("the suite reports");
    while let Some(Ok(_)) = report.next().await {}
    until("the suite ends", async || suite.try_wait().expect("it is waited for")).await;
    let (passed, failed) = judged(folder.path());
    println!("agent: {passed} cases passed, {} failed", failed.len());
    assert_eq!(failed, [""; 0]);
    assert!(passed > 240, "{passed}");
}
