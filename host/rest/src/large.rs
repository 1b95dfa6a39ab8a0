//! Answers that may be many megabytes. They are cut in pieces, each of which is forgotten when the connection has taken
//! it, and what was held to make one is held until then: readers that are slow do not make more of them be in memory.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, Write};

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use serde::Serialize;

use crate::problem::Problem;

/// Bytes of a piece.
const PIECE: usize = 64 * 1024;

/// This as JSON. What is `held` is dropped when the connection has taken all of it, or will take no more.
///
/// # Errors
/// 500 when it cannot be written.
pub fn json(answer: &impl Serialize, held: impl Send + 'static) -> Result<Response, Problem> {
    let mut pieces = Pieces::default();
    serde_json::to_writer(&mut pieces, answer).map_err(|error| Problem::internal(error.to_string()))?;
    let pieces = pieces.done();
    let length: usize = pieces.iter().map(Bytes::len).sum();
    let body = Body::from_stream(stream::unfold((pieces, held), async |(mut pieces, held)| {
        let piece = pieces.pop_front()?;
        Some((Ok::<_, Infallible>(piece), (pieces, held)))
    }));
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    Ok(response)
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
    use std::sync::Arc;

    use axum::body::to_bytes;
    use futures_util::StreamExt as _;

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
}
