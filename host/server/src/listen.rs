//! The accept loop. Ours, because the library's has no header timeout and no cap: a client that
//! dawdles over its handshake or its headers, reads nothing, or opens sockets without end, costs itself only.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::ConnectInfo;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use gateway::certificate::PeerCertificate;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use ports::place::Place;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::Instant;
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
/// A connection to the API on which nobody known has asked for so long ends with its next answer: whoever asks only
/// what needs no token keeps no place by asking again and again.
const STRANGERS_STAY: Duration = Duration::from_secs(60);
/// Says of an answer for whom it was counted; absent where requests are not counted, and then all are strangers.
const COUNTED_FOR: HeaderName = HeaderName::from_static("ratelimit-policy");
/// After a failed accept, e.g. for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a listener asks of connections.
pub struct Door {
    /// Connections at once; the next one waits to be accepted.
    pub max_connections: usize,
    /// Of one address; the next one is closed at once.
    pub crowd: Crowd,
    /// A WebSocket takes up its place among all connections for as long as it lives. Where it does not, places are for
    /// becoming one, and any other answer ends its connection.
    pub for_life: bool,
    /// Opens TLS; absent: plain text.
    pub tls: Option<TlsAcceptor>,
    /// This host is about to leave: each connection ends with its next answer.
    pub leaving: CancellationToken,
}

/// Serves `router` on `listener` until `stop`, then lets requests under way finish.
pub async fn serve(listener: TcpListener, router: Router, door: Door, stop: CancellationToken, tasks: TaskTracker) {
    let Door { max_connections, crowd, for_life, tls, leaving } = door;
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
        let Some(of_address) = crowd.enter(peer.ip()) else {
            tracing::debug!(%peer, "too many connections of one address; this one is closed");
            continue;
        };
        // Answers are small and wanted now; waiting to fill a packet costs 40 ms.
        _ = stream.set_nodelay(true);
        let (router, tls) = (router.clone(), tls.clone());
        let (permit, place) = if for_life {
            (None, Place::holding((permit, of_address)))
        } else {
            (Some(permit), Place::holding(of_address))
        };
        let strangers_stay = if for_life { STRANGERS_STAY } else { Duration::ZERO };
        let ends = Ends { leaving: leaving.clone(), stop: stop.clone(), strangers_stay };
        tasks.spawn(async move {
            let stream = Patient::new(stream, STUCK);
            match tls {
                None => converse(TokioIo::new(stream), Caller { peer, shown: None, place }, router, ends).await,
                Some(tls) => match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                        let shown = shown.map(|shown| PeerCertificate(Arc::from(shown.as_ref())));
                        converse(TokioIo::new(stream), Caller { peer, shown, place }, router, ends).await;
                    }
                    Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS handshake"),
                    Err(_) => tracing::debug!(%peer, "the TLS handshake took too long"),
                },
            }
            drop(permit);
        });
    }
}

/// What ends a connection: its next answer once the host is leaving, or once nobody known has asked for long; the
/// answer under way at its stop.
struct Ends {
    leaving: CancellationToken,
    stop: CancellationToken,
    strangers_stay: Duration,
}

/// When somebody known was answered last, or the connection was accepted.
#[derive(Clone)]
struct Known(Arc<Mutex<Instant>>);

impl Known {
    /// How long ago that is, once this is answered.
    fn since(&self, answer: &HeaderMap) -> Duration {
        let is_known = answer.get(COUNTED_FOR).is_some_and(|policy| policy.as_bytes().starts_with(b"\"principal\""));
        let mut at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if is_known {
            *at = Instant::now();
        }
        at.elapsed()
    }
}

/// Who is at the other end of a connection.
struct Caller {
    peer: SocketAddr,
    shown: Option<PeerCertificate>,
    place: Place,
}

async fn converse<S>(
    io: TokioIo<S>,
    Caller { peer, shown, place }: Caller,
    router: Router,
    Ends { leaving, stop, strangers_stay }: Ends,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let known = Known(Arc::new(Mutex::new(Instant::now())));
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(place.clone());
        if let Some(shown) = &shown {
            request.extensions_mut().insert(shown.clone());
        }
        let answer = router.clone().call(request.map(axum::body::Body::new));
        let (leaving, known) = (leaving.clone(), known.clone());
        async move {
            let mut answer = answer.await?;
            let cannot = answer.status() == StatusCode::SERVICE_UNAVAILABLE;
            let is_stale = known.since(answer.headers()) >= strangers_stay;
            // Whoever keeps connections open makes a new one, which a balancer leads to a host that can.
            let ends = cannot || is_stale || leaving.is_cancelled();
            if ends && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
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

/// Takes the address that `key` says.
///
/// # Errors
/// It cannot be had.
pub async fn bind(key: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("{key}: cannot listen on {address}; is something else there?"))
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn caller() -> Caller {
        Caller { peer: SocketAddr::from(([127, 0, 0, 1], 1)), shown: None, place: Place::holding(()) }
    }

    fn router() -> Router {
        let router = Router::new().route("/", get(|| async {}));
        let router = router.route("/known", get(|| async { [(COUNTED_FOR, "\"principal\";q=2;w=1")] }));
        let router = router.route("/unknown", get(|| async { [(COUNTED_FOR, "\"address\";q=2;w=1")] }));
        router.route("/away", get(|| async { StatusCode::SERVICE_UNAVAILABLE }))
    }

    fn ends(strangers_stay: Duration) -> Ends {
        Ends { leaving: CancellationToken::new(), stop: CancellationToken::new(), strangers_stay }
    }

    /// What a request of `head` is answered, by a host that is leaving or not.
    async fn answer(head: String, leaving: bool) -> String {
        let (mut client, server) = tokio::io::duplex(4096);
        let talk = async {
            // Who is refused is not read to the end.
            _ = client.write_all(head.as_bytes()).await;
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.expect("an answer");
            answer
        };
        let ends = ends(STRANGERS_STAY);
        if leaving {
            ends.leaving.cancel();
        }
        tokio::join!(talk, converse(TokioIo::new(server), caller(), router(), ends)).0
    }

    /// Asks for one path after the other on one connection, a moment between them; whether each ends it.
    async fn endings(paths: &[&str], pause: Duration, strangers_stay: Duration) -> Vec<bool> {
        let (mut client, server) = tokio::io::duplex(4096);
        let talk = async move {
            let mut endings = Vec::new();
            for path in paths {
                tokio::time::sleep(pause).await;
                let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
                client.write_all(request.as_bytes()).await.expect("the connection is open");
                let mut answer = Vec::new();
                while !answer.ends_with(b"\r\n\r\n") {
                    answer.push(client.read_u8().await.expect("an answer"));
                }
                endings.push(String::from_utf8_lossy(&answer).contains("connection: close\r\n"));
            }
            if endings.last() == Some(&true) {
                assert_eq!(client.read(&mut [0]).await.expect("the end"), 0, "it is closed, as it was said");
            }
            endings
        };
        tokio::join!(talk, converse(TokioIo::new(server), caller(), router(), ends(strangers_stay))).0
    }

    /// The status that it is answered with.
    async fn status(head: String) -> String {
        answer(head, false).await.split(' ').nth(1).expect("a status").to_owned()
    }

    #[tokio::test]
    async fn a_connection_to_a_host_that_leaves_or_cannot_ends_with_its_next_answer() {
        for (path, leaving, status) in [("/", true, "200"), ("/away", false, "503")] {
            let told = answer(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n"), leaving).await;
            assert!(told.contains(status) && told.contains("connection: close\r\n"), "{told}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_anybody_known_ends_after_a_while_however_often_it_asks_and_others_go_on() {
        let (moment, pause, stay) = (Duration::from_millis(10), Duration::from_millis(1_100), Duration::from_secs(2));
        let (busy, idle, known) = tokio::join!(
            endings(&["/", "/unknown", "/", "/unknown"], moment, stay),
            endings(&["/", "/unknown"], pause, stay),
            endings(&["/known", "/", "/known", "/"], pause, stay),
        );
        assert_eq!((busy, idle, known), (vec![false; 4], vec![false, true], vec![false; 4]));
        assert_eq!(endings(&["/"], Duration::ZERO, Duration::ZERO).await, [true], "where places are for sockets");
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
