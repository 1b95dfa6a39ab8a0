//! Somebody who is told of alerts: a server on loopback that keeps every message and answers as it is told to.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A message as it arrived.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: String,
    /// What it was answered with.
    pub status: StatusCode,
}

impl Message {
    /// A header that must be there.
    ///
    /// # Panics
    /// When it is not, or is no text.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {self:?}"));
        value.to_str().expect("text")
    }

    /// Its body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }
}

#[derive(Debug, Default)]
struct Kept {
    messages: Vec<Message>,
    first: VecDeque<StatusCode>,
    then: StatusCode,
}

/// The receiver. Dropped, it is gone.
pub struct Receiver {
    /// Where to post; the last part of it must stay secret.
    pub url: String,
    kept: Arc<Mutex<Kept>>,
    _serving: JoinSet<()>,
}

async fn take(State(kept): State<Arc<Mutex<Kept>>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let body = String::from_utf8(body.to_vec()).expect("UTF-8");
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    let status = kept.first.pop_front().unwrap_or(kept.then);
    kept.messages.push(Message { headers, body, status });
    status
}

impl Receiver {
    /// Listens, and takes every message.
    ///
    /// # Panics
    /// When it cannot.
    pub async fn start() -> Receiver {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let url = format!("http://{}/hook/s3cret", listener.local_addr().expect("an address"));
        let kept = Arc::new(Mutex::new(Kept { then: StatusCode::NO_CONTENT, ..Kept::default() }));
        let router = Router::new().route("/hook/{key}", post(take)).with_state(kept.clone());
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Receiver { url, kept, _serving: serving }
    }

    /// Answers the next messages so, and all after them with `then`.
    ///
    /// # Panics
    /// When one of them is no status.
    pub fn answer(&self, next: &[u16], then: u16) {
        let status = |code: u16| StatusCode::from_u16(code).expect("a status");
        let mut kept = self.lock();
        kept.first = next.iter().copied().map(status).collect();
        kept.then = status(then);
    }

    /// Every message so far, the first one first.
    pub fn messages(&self) -> Vec<Message> {
        self.lock().messages.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
