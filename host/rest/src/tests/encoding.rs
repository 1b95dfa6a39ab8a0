//! Answers are packed for who takes them packed, and what is live comes as it happens.

use std::io::Read as _;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, VARY};
use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::time::timeout;

use super::world::{World, with};

fn ask(token: &str, path: &str, encodings: Option<&str>) -> Request<Body> {
    let mut request = with(token, "GET", path);
    if let Some(encodings) = encodings {
        request = request.header(ACCEPT_ENCODING, encodings);
    }
    request.body(Body::empty()).expect("a request")
}

fn unpacked(encoding: &str, body: &[u8]) -> Value {
    let mut plain = Vec::new();
    let read = match encoding {
        "gzip" => flate2::read::GzDecoder::new(body).read_to_end(&mut plain),
        "br" => brotli_decompressor::Decompressor::new(body, 4096).read_to_end(&mut plain),
        other => panic!("nothing unpacks {other}"),
    };
    read.expect("whole and of this encoding");
    serde_json::from_slice(&plain).expect("JSON")
}

#[tokio::test]
async fn an_answer_is_packed_as_its_reader_takes_it_and_says_the_same() {
    let world = World::new().await;
    let root = world.login("root").await;
    for path in ["/openapi.json", "/api/v1/agents", "/api/v1/agents/nobody"] {
        let plain = world.send(ask(&root, path, None)).await;
        assert!(!plain.headers.contains_key(CONTENT_ENCODING), "nobody asked for it: {path}");
        let refused = world.send(ask(&root, path, Some("gzip;q=0, br;q=0, zstd"))).await;
        assert_eq!((refused.headers.get(CONTENT_ENCODING), refused.status), (None, plain.status), "{path}");
        for encoding in ["gzip", "br"] {
            let packed = world.send(ask(&root, path, Some(encoding))).await;
            assert_eq!(packed.headers[CONTENT_ENCODING], encoding, "{path}");
            assert_eq!(packed.status, plain.status, "{path}");
            let mut vary = packed.headers.get_all(VARY).iter().map(|value| value.to_str().expect("text"));
            assert!(vary.any(|value| value.eq_ignore_ascii_case("accept-encoding")), "{path}: caches are told");
            let mut same = unpacked(encoding, &packed.body);
            let mut told = plain.json();
            // Of a problem, which request it was of.
            for body in [&mut same, &mut told] {
                body.as_object_mut().expect("an object").remove("instance");
            }
            assert_eq!(same, told, "{path}");
        }
    }
    let (plain, packed) = tokio::join!(
        world.send(ask(&root, "/openapi.json", None)),
        world.send(ask(&root, "/openapi.json", Some("gzip")))
    );
    assert!(packed.body.len() * 4 < plain.body.len(), "{} of {}", packed.body.len(), plain.body.len());
}

#[tokio::test]
async fn a_live_stream_is_not_held_back_to_be_packed() {
    let world = World::new().await;
    let op = world.login("op").await;
    let command = world.submit(&op).await;
    for path in [format!("/api/v1/commands/{command}/events"), "/api/v1/events".to_owned()] {
        let response = world.open(ask(&op, &path, Some("gzip, br"))).await;
        assert_eq!(response.headers().get(CONTENT_ENCODING), None, "{path}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut frames = response.into_body().into_data_stream();
        // It is far from its end: the command is not over, and `/events` has none.
        let first = timeout(Duration::from_secs(120), frames.next()).await.expect("told at once");
        let first = first.expect("a frame").expect("bytes");
        assert!(first.windows(6).any(|six| six == b"event:" || six == b"data: "), "{path}: {first:?}");
    }
}
