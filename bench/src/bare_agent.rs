//! `viworks-bare-agent`: the least an agent can be. A WebSocket, JSON, one thread and the TLS of the real one, no
//! journal, no policy, no process. Says `up` when its socket is open, and answers COMMAND with RESULT.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use futures_util::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

#[derive(Deserialize)]
struct Frame {
    r#type: String,
    attempt: Option<String>,
}

fn main() -> ExitCode {
    let url = std::env::args().nth(1).unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(run(&url))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("viworks-bare-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(url: &str) -> Result<()> {
    let (secure, rest) = match url.split_once("://") {
        Some(("wss", rest)) => (true, rest),
        Some(("ws", rest)) => (false, rest),
        Some(_) | None => anyhow::bail!("`{url}` is no address such as ws://127.0.0.1:9090/ws/agent"),
    };
    let authority = rest.split('/').next().unwrap_or_default();
    let stream = TcpStream::connect(authority).await.with_context(|| format!("connect to {authority}"))?;
    stream.set_nodelay(true)?;
    if secure {
        let settings = tls::client(&tls::Trusted::System, None)?;
        let name = authority.split(':').next().unwrap_or_default().to_owned();
        let stream = TlsConnector::from(Arc::new(settings)).connect(name.try_into()?, stream).await?;
        return serve(url, stream).await;
    }
    serve(url, stream).await
}

async fn serve<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(url: &str, stream: S) -> Result<()> {
    let config = WebSocketConfig::default().read_buffer_size(4 * 1024).write_buffer_size(4 * 1024);
    let (mut socket, _) = tokio_tungstenite::client_async_with_config(url, stream, Some(config)).await?;
    println!("up");
    while let Some(message) = socket.next().await {
        let Message::Text(text) = message? else { continue };
        let frame: Frame = serde_json::from_str(&text)?;
        if frame.r#type == "COMMAND" {
            let result = json!({ "type": "RESULT", "attempt": frame.attempt, "outcome": { "end": "exited" } });
            socket.send(Message::text(result.to_string())).await?;
        }
    }
    Ok(())
}
