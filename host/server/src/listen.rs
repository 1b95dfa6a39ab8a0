//! The accept loop. Ours, because the library's has no header timeout and no cap: a client that
//! dawdles over its headers, or opens sockets without end, costs itself only.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service as _;

/// From accepting a connection, or ending a request on it, to complete headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes of a request's header block.
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// Most header fields.
const MAX_HEADERS: usize = 64;
/// After a failed accept, e.g. for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` on `listener` until `stop`, then lets requests under way finish.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    max_connections: usize,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
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
        // Answers are small and wanted now; waiting to fill a packet costs 40 ms.
        _ = stream.set_nodelay(true);
        let (router, stop) = (router.clone(), stop.clone());
        tasks.spawn(async move {
            converse(TokioIo::new(stream), peer, router, stop).await;
            drop(permit);
        });
    }
}

async fn converse(io: TokioIo<tokio::net::TcpStream>, peer: SocketAddr, router: Router, stop: CancellationToken) {
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
