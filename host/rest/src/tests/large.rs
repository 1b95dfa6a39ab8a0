//! Answers of many megabytes, and readers that take their time.

use std::future::IntoFuture as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use domain::telemetry::metric::Metric;
use domain::telemetry::report::{Reading, Report};
use ports::clock::Clock;
use ports::telemetry::{MAX_BATCH, Telemetry};
use services::history::QUESTIONS_AT_ONCE;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinSet, yield_now};
use tokio::time::timeout;

use super::world::{World, with};
use crate::instant;

/// Far above what is normal.
const CEILING: Duration = Duration::from_secs(30);
/// Long enough for buffers to be full.
const WHILE: Duration = Duration::from_millis(300);
const MINUTE: Duration = Duration::from_secs(60);
/// Reports, and series of each: nearly as many as are put together in one answer.
const LARGE: (u32, usize) = (1_600, 60);

/// How many more questions about many would be answered now.
fn free(world: &World) -> usize {
    std::iter::from_fn(|| world.history.turn().ok()).collect::<Vec<_>>().len()
}

async fn until_free(world: &World, count: usize) {
    while free(world) != count {
        yield_now().await;
    }
}

#[tokio::test]
async fn a_question_about_many_is_over_when_its_answer_was_taken_or_nobody_will_take_it() {
    let world = World::new().await;
    let root = world.login("root").await;
    for path in ["/api/v1/telemetry/across/history", "/api/v1/telemetry/trends"] {
        let ask = async || world.open(with(&root, "GET", path).body(Body::empty()).expect("a request")).await;
        let mut unread = Vec::new();
        for n in 1..=QUESTIONS_AT_ONCE {
            unread.push(ask().await);
            assert_eq!(free(&world), QUESTIONS_AT_ONCE - n, "{path}");
        }
        world.get(&root, path).await.refused(503, "busy");
        for response in unread.drain(2..) {
            to_bytes(response.into_body(), 1 << 20).await.expect("a body");
        }
        assert_eq!(free(&world), QUESTIONS_AT_ONCE - 2, "two were read: {path}");
        drop(unread);
        assert_eq!(free(&world), QUESTIONS_AT_ONCE, "the readers of the others are gone: {path}");
        world.get(&root, path).await.expect(200);
    }
}

#[tokio::test]
async fn a_reader_that_takes_nothing_of_a_large_answer_keeps_its_turn_until_it_does_or_goes_away() {
    let world = World::new().await;
    let (root, all) = (world.login("root").await, QUESTIONS_AT_ONCE);
    let begin = world.clock.now() - MINUTE * LARGE.0;
    let readings: Vec<Reading> = (0..LARGE.1)
        .map(|n| Reading::labelled(Metric::DiskUsedPct, format!("/{n}/{}", "deep/".repeat(20)), 50.0))
        .collect();
    let report = |n: u32| {
        let at = begin + MINUTE * n;
        Report { agent: world.web, at, received_at: at, readings: readings.clone().into() }
    };
    for some in (0..LARGE.0).map(report).collect::<Vec<_>>().chunks(MAX_BATCH) {
        world.store.store_reports(some).await.expect("stored");
    }

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let mut serving = JoinSet::new();
    let door = world.door(Arc::new(world.store.clone())).into_make_service_with_connect_info::<SocketAddr>();
    serving.spawn(axum::serve(listener, door).into_future());
    let path = format!("/api/v1/telemetry/across/history?step=60&from={}", instant::text(begin));
    let ask = async || -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(64 * 1024).expect("set");
        let mut stream = socket.connect(address).await.expect("it listens");
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {root}\r\n");
        stream.write_all(format!("{head}connection: close\r\n\r\n").as_bytes()).await.expect("asked");
        let mut begins = [0; 12];
        stream.read_exact(&mut begins).await.expect("an answer");
        assert_eq!(&begins, b"HTTP/1.1 200");
        stream
    };

    let mut slow = ask().await;
    let gone = ask().await;
    assert!(timeout(WHILE, until_free(&world, all - 1)).await.is_err(), "both answers are there still");
    assert_eq!(free(&world), all - 2);
    drop(gone);
    timeout(CEILING, until_free(&world, all - 1)).await.expect("the turn of who is gone is free");
    let mut rest = Vec::new();
    timeout(CEILING, slow.read_to_end(&mut rest)).await.expect("in time").expect("all of it");
    assert!(rest.len() > 15 << 20, "{} bytes", rest.len());
    timeout(CEILING, until_free(&world, all)).await.expect("so is that of who has read all");
}
