//! The accept loop. Ours, because the library's has no header timeout and no cap: a client that
//! dawdles over its handshake or its headers, reads nothing, or opens sockets without end, costs itself only.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service as _;

use crate::crowd::Crowd;
use crate::patient::{Patient, STUCK};

/// From accepting a connection to the end of its TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// From accepting a connection, or ending a request on it, to complete headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes of a request's header block.
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// Most header fields.
const MAX_HEADERS: usize = 64;
/// After a failed accept, e.g. for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a listener asks of connections.
pub struct Door {
    /// Connections at once; the next one waits to be accepted.
    pub max_connections: usize,
    /// Of one address; the next one is closed at once.
    pub crowd: Crowd,
    /// Opens TLS; absent: plain text.
    pub tls: Option<TlsAcceptor>,
}

/// Serves `router` on `listener` until `stop`, then lets requests under way finish.
pub async fn serve(listener: TcpListener, router: Router, door: Door, stop: CancellationToken, tasks: TaskTracker) {
    let Door { max_connections, crowd, tls } = door;
    let room = Arc::new(Semaphore::new(max_connections));
    loop {
        let permit = tokio::select! {
            () = stop.cancelled() => return,
            permit = room.clone().acquire_owned() => permit.expect("never closed"),
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(place) = crowd.enter(peer.ip()) else {
            tracing::debug!(%peer, "too many connections of one address; this one is closed");
            continue;
        };
        // Answers are small and wanted now; waiting to fill a packet costs 40 ms.
        _ = stream.set_nodelay(true);
        let (router, stop, tls) = (router.clone(), stop.clone(), tls.clone());
        tasks.spawn(async move {
            let stream = Patient::new(stream, STUCK);
            match tls {
                None => converse(TokioIo::new(stream), peer, router, stop).await,
                Some(tls) => match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                    Ok(Ok(stream)) => converse(TokioIo::new(stream), peer, router, stop).await,
                    Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS handshake"),
                    Err(_) => tracing::debug!(%peer, "the TLS handshake took too long"),
                },
            }
            drop((permit, place));
        });
    }
}

async fn converse<S>(io: TokioIo<S>, peer: SocketAddr, router: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().call(request.map(axum::body::Body::new))
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS);
    let connection = builder.serve_connection(io, service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection ended");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// The status that a request of `head` is answered with.
    async fn status(head: String) -> String {
        let (mut client, server) = tokio::io::duplex(4096);
        let router = Router::new().route("/", get(|| async {}));
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let talk = async {
            // Who is refused is not read to the end.
            _ = client.write_all(head.as_bytes()).await;
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.expect("an answer");
            answer.split(' ').nth(1).expect("a status").to_owned()
        };
        let converse = converse(TokioIo::new(server), peer, router, CancellationToken::new());
        tokio::join!(talk, converse).0
    }

    #[tokio::test]
    async fn headers_are_so_many_and_so_long_and_no_more() {
        let with = |more: &str| format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{more}\r\n");
        let many = |count: usize| with(&"x: y\r\n".repeat(count - 2));
        assert_eq!(status(many(MAX_HEADERS)).await, "200");
        assert_eq!(status(many(MAX_HEADERS + 1)).await, "431");
        let long = |length: usize| with(&format!("x: {}\r\n", "y".repeat(length - with("x: \r\n").len())));
        assert_eq!(status(long(MAX_HEADER_BYTES)).await, "200");
        assert_eq!(status(long(MAX_HEADER_BYTES + 1)).await, "431");
        let path = |length: usize| {
            let head = with("").replacen("GET / ", &format!("GET /?{} ", "y".repeat(length - with("").len() - 1)), 1);
            assert_eq!(head.len(), length, "as long as it says");
            head
        };
        assert_eq!(status(path(MAX_HEADER_BYTES)).await, "200");
        assert!(matches!(status(path(MAX_HEADER_BYTES + 1)).await.as_str(), "414" | "431"));
    }
}
