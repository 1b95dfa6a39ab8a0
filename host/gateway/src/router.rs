//! The agents' listener: the join route and the WebSocket upgrade.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ws::WebSocket;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Extension, Request, State, WebSocketUpgrade};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use ports::place::Place;
use wire::limits::MAX_FRAME_BYTES;

use crate::certificate::PeerCertificate;
use crate::handshake::Greeting;
use crate::problem::problem;
use crate::room::Gateway;
use crate::{anteroom, handshake, join, pump};

/// Socket buffers. The library's defaults cost 138 KiB a connection; ours grow on demand.
const BUFFER_BYTES: usize = 4 * 1024;
/// Most bytes waiting to be written to one agent before its socket counts as stuck.
const MAX_WRITE_BUFFER_BYTES: usize = 2 * 1024 * 1024;
/// A frame that is this much too long is still read, so that its sender can be told; a longer one is cut off.
const READ_OVER_BYTES: usize = 64 * 1024;

/// Longest from a join's headers to its answer.
const JOIN_WITHIN: Duration = Duration::from_secs(30);

/// The agents' routes.
pub fn router(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route(wire::limits::PATH, get(upgrade))
        .route(wire::join::PATH, post(join::join).layer(from_fn(in_time)))
        .route("/livez", get(|| async { "ok" }))
        .fallback(any(|| async {
            problem(StatusCode::NOT_FOUND, "not_found", "no such route on the agents' listener")
        }))
        .layer(DefaultBodyLimit::max(wire::join::MAX_JOIN_BYTES))
        .with_state(gateway)
}

/// Whoever dawdles over a join's body is turned away.
async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(JOIN_WITHIN, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let mut response = problem(StatusCode::REQUEST_TIMEOUT, "body_timeout", "the join took too long");
            response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
            response
        }
    }
}

async fn upgrade(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    shown: Option<Extension<PeerCertificate>>,
    place: Option<Extension<Place>>,
    socket: WebSocketUpgrade,
) -> Response {
    let shown = shown.map(|Extension(shown)| shown);
    let judged = gateway.certificates.as_ref().map_or(Ok(None), |certificates| certificates.judge(shown));
    let shown = match judged {
        Ok(shown) => shown,
        Err(refused) => return *refused,
    };
    // Whether there is a place for it is said when it has said who it is: it may have one already.
    if gateway.stop.is_cancelled() {
        return busy("the host is leaving");
    }
    // A storm of reconnects waits here in turn rather than being turned away.
    let patience = Duration::from_millis(wire::limits::HELLO_WITHIN_MS);
    match tokio::time::timeout(patience, gateway.unauthenticated.acquire()).await {
        Ok(Ok(permit)) => permit.forget(),
        Ok(Err(_)) | Err(_) => return busy("too many sockets without a HELLO"),
    }
    let room = gateway.clone();
    let sessions = gateway.sessions.clone();
    let converse = move |mut socket: WebSocket| async move {
        let heard = handshake::greet(&gateway, &mut socket, shown.as_ref().map(|shown| &shown.badge)).await;
        // Known by now, or gone: it takes no stranger's room any longer.
        gateway.unauthenticated.add_permits(1);
        drop(place);
        let greeted = match heard {
            Greeting::Open(greeted) => Some(*greeted),
            Greeting::Waits(hello) => anteroom::wait(&gateway, &mut socket, *hello).await,
            Greeting::Gone => None,
        };
        if let Some(greeted) = greeted {
            let certificate = shown.map(|shown| shown.certificate);
            // A task of its own: this one has room for the whole handshake, and a session lasts for weeks.
            let sessions = gateway.sessions.clone();
            sessions.spawn(pump::run(gateway, socket, greeted, peer, certificate));
        }
    };
    bounded(socket)
        .on_failed_upgrade(move |_| room.unauthenticated.add_permits(1))
        .on_upgrade(move |socket| sessions.track_future(converse(socket)))
}

/// The bounds of an agent's socket.
pub fn bounded(socket: WebSocketUpgrade) -> WebSocketUpgrade {
    socket
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_write_buffer_size(MAX_WRITE_BUFFER_BYTES)
        .max_message_size(MAX_FRAME_BYTES + READ_OVER_BYTES)
        .max_frame_size(MAX_FRAME_BYTES + READ_OVER_BYTES)
}

fn busy(detail: &str) -> Response {
    let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, "too_many_agents", detail).into_response();
    response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("5"));
    response
}
