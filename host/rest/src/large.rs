//! Answers that may be many megabytes. They are cut in pieces, each of which is forgotten when the connection has taken
//! it, and what was held to make one is held until then: readers that are slow do not make more of them be in memory.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use futures_util::stream::{self, Stream};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::problem::Problem;

/// Bytes of a piece.
const PIECE: usize = 64 * 1024;

/// An answer is taken within so long, and so many bytes of it a second more: who is slower than that is left without the
/// rest.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);
const LEAST_RATE: u64 = 64 * 1024;

/// This as JSON. What is `held` is dropped when the connection has taken all of it, or will take no more, or takes too long.
///
/// # Errors
/// 500 when it cannot be written.
pub fn json(answer: &impl Serialize, held: impl Send + 'static) -> Result<Response, Problem> {
    let mut pieces = Pieces::default();
    serde_json::to_writer(&mut pieces, answer).map_err(|error| Problem::internal(error.to_string()))?;
    let pieces = pieces.done();
    let length: usize = pieces.iter().map(Bytes::len).sum();
    let body = Body::from_stream(parts(pieces, held, TAKEN_WITHIN + Duration::from_secs(length as u64 / LEAST_RATE)));
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    Ok(response)
}

/// The pieces, one after the other, with what is held for as long as there are some: at most for `within`, also when nobody
/// asks for the next one, as a connection that cannot write does not.
fn parts(
    pieces: VecDeque<Bytes>,
    held: impl Send + 'static,
    within: Duration,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let kept = Arc::new(Mutex::new(Some((pieces, held))));
    let late = Arc::downgrade(&kept);
    // Ended with the body.
    let mut watch = JoinSet::new();
    watch.spawn(async move {
        tokio::time::sleep(within).await;
        if let Some(kept) = late.upgrade() {
            *kept.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    });
    let next = |kept: &Mutex<Option<(VecDeque<Bytes>, _)>>| {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_mut().ok_or(io::ErrorKind::TimedOut).map(|(pieces, _)| pieces.pop_front())
    };
    let all = stream::unfold((kept, watch), move |(kept, watch)| {
        let piece = next(&kept).map_err(io::Error::from).transpose();
        std::future::ready(piece.map(|piece| (piece, (kept, watch))))
    });
    // Whoever compresses it asks again after the end.
    all.fuse()
}

/// What was written, in pieces.
#[derive(Default)]
struct Pieces {
    full: VecDeque<Bytes>,
    /// Less than a whole piece.
    open: Vec<u8>,
}

impl Pieces {
    fn done(mut self) -> VecDeque<Bytes> {
        self.close();
        self.full
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.full.push_back(std::mem::take(&mut self.open).into());
        }
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (some, _) = bytes.split_at(bytes.len().min(PIECE - self.open.len()));
        self.open.extend_from_slice(some);
        if self.open.len() == PIECE {
            self.close();
        }
        Ok(some.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    #[tokio::test]
    async fn what_is_held_is_held_until_the_last_piece_is_taken_or_nobody_takes_more() {
        let answer: Vec<String> = (0..20_000).map(|n| format!("number {n}")).collect();
        let whole = serde_json::to_vec(&answer).expect("JSON");
        let held = Arc::new(());
        let ask = || json(&answer, held.clone()).expect("it can be written");
        let is_held = || Arc::strong_count(&held) > 1;

        let response = ask();
        assert_eq!(response.headers()[header::CONTENT_LENGTH], whole.len().to_string());
        let mut body = response.into_body().into_data_stream();
        let mut taken = Vec::new();
        while let Some(piece) = body.next().await {
            let piece = piece.expect("it does not fail");
            assert!(piece.len() <= PIECE && is_held());
            taken.extend_from_slice(&piece);
        }
        assert!(taken == whole && whole.len() > PIECE * 3 && !is_held());

        let mut body = ask().into_body().into_data_stream();
        body.next().await.expect("some").expect("it does not fail");
        assert!(is_held());
        drop(body);
        assert!(!is_held());
        assert_eq!(to_bytes(json(&"", ()).expect("JSON").into_body(), 9).await.expect("a body"), "\"\"");
    }

    #[tokio::test]
    async fn who_takes_too_long_is_left_without_the_rest() {
        let held = Arc::new(());
        let some = || (0..3).map(|_| Bytes::from_static(b"some")).collect::<VecDeque<Bytes>>();
        let mut quick = std::pin::pin!(parts(some(), held.clone(), Duration::from_secs(3_600)));
        for there in [true, true, true, false, false] {
            assert_eq!(quick.next().await.is_some_and(|part| part.is_ok()), there, "also who asks after the end");
        }

        let mut slow = std::pin::pin!(parts(some(), held.clone(), Duration::from_millis(1)));
        // Nobody asks for anything meanwhile.
        while Arc::strong_count(&held) > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let late = slow.next().await.expect("an end that is none").expect_err("too late");
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
    }
}
