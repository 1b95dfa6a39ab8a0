//! The server goes away while writers write, and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use domain::attempt::{Event, State};
use plan::id::CommandId;
use plan::outcome::Stream;
use ports::commands::Commands as _;
use ports::error::StoreError;
use ports::journal::{Installation as _, Journal as _};
use servers::postgres::{End, Postgres};
use servers::shared;
use storage::postgres::PostgresStore;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::behaviours::Ground;
use crate::behaviours::fixtures::*;
use crate::behaviours::place::{self, CEILING, Place as _, tell};
use crate::lab::{Database, breathe};

/// Outages of each kind.
const OUTAGES: usize = 5;
/// The promise is 3 s; the rest is for a machine that has more to do than this. What waits for an answer that never comes
/// waits longer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

/// What one writer met.
#[derive(Default)]
struct Met {
    accepted: Vec<CommandId>,
    refused: Vec<CommandId>,
    slowest: Duration,
}

/// What writers and the test tell each other.
struct Flow {
    stop: AtomicBool,
    accepted: watch::Sender<usize>,
    refused: watch::Sender<usize>,
}

/// Waits until `count` has grown by so many.
async fn more(count: &watch::Sender<usize>, number: usize) {
    let mut count = count.subscribe();
    let wanted = *count.borrow() + number;
    let waiting = count.wait_for(|count| *count >= wanted);
    tokio::time::timeout(CEILING, waiting).await.expect("writers go on").expect("they live");
}

/// Accepts one command after the other until told to stop.
async fn write(store: PostgresStore, web: Machine, flow: Arc<Flow>) -> Met {
    let mut met = Met::default();
    while !flow.stop.load(Ordering::Relaxed) {
        let new = command(&[&web]);
        let id = new.command.id;
        let begun = Instant::now();
        let answer = answered(store.accept(new)).await;
        met.slowest = met.slowest.max(begun.elapsed());
        match answer {
            Ok(()) => {
                met.accepted.push(id);
                flow.accepted.send_modify(|count| *count += 1);
            }
            Err(StoreError::Unavailable(_)) => {
                met.refused.push(id);
                flow.refused.send_modify(|count| *count += 1);
                breathe().await;
            }
            Err(other) => panic!("neither stored nor away: {other}"),
        }
    }
    met
}

/// The answer, which comes in time whatever it is.
async fn answered<T>(asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(ANSWERED_WITHIN, asked).await.expect("answered in time")
}

async fn ask_everything(store: &PostgresStore, web: &Machine, known: CommandId) {
    let said = [
        answered(store.accept(command(&[web]))).await.err(),
        answered(store.advance(advance(known, web.id, 1, &[Event::Send]))).await.err(),
        answered(store.audit(entry("auth.login"))).await.err(),
        answered(store.ready()).await.err(),
        answered(store.command(known)).await.err(),
        answered(store.due(web.id, 10)).await.err(),
        answered(store.events(None, 0, 10)).await.err(),
    ];
    for said in said {
        assert!(matches!(said, Some(StoreError::Unavailable(_))), "{said:?}");
    }
}

async fn with_server(mut server: Postgres, change: impl FnOnce(&mut Postgres) + Send + 'static) -> Postgres {
    let changed = tokio::task::spawn_blocking(move || {
        change(&mut server);
        server
    });
    changed.await.expect("the server does as it is told")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_accept_that_returned_is_lost_when_the_server_dies_and_writers_go_on_by_themselves() {
    let Some(mut server) = shared::own(&[]) else { return };
    let (Ground { store, .. }, _running) = place::open(&Database::at(&server.url())).await;
    let web = enrol(&store, "web-1", "eu").await;
    let first = command(&[&web]);
    let known = first.command.id;
    store.accept(first).await.expect("accepted");
    let flow = Arc::new(Flow {
        stop: AtomicBool::new(false),
        accepted: watch::Sender::new(0),
        refused: watch::Sender::new(0),
    });
    let mut writers = JoinSet::new();
    for _ in 0..8 {
        writers.spawn(write(store.clone(), web.clone(), Arc::clone(&flow)));
    }
    let kinds = [End::Kill, End::Immediate].into_iter().flat_map(|how| [how; OUTAGES]);
    for (number, how) in kinds.enumerate() {
        more(&flow.accepted, 50).await;
        server = with_server(server, move |server| server.stop(how).expect("it ends")).await;
        // Every other outage is over as soon as it can be; the others are felt by everybody.
        if number % 2 == 0 {
            more(&flow.refused, 8).await;
            ask_everything(&store, &web, known).await;
        }
        server = with_server(server, |server| server.start().expect("it starts")).await;
    }
    more(&flow.accepted, 50).await;
    flow.stop.store(true, Ordering::Relaxed);
    let met = writers.join_all().await;

    let (mut accepted, mut refused, mut stored) = (0, 0, 0);
    for id in met.iter().flat_map(|met| &met.accepted) {
        assert!(is_whole(&store, *id).await, "`{id}` was accepted and is gone");
        accepted += 1;
    }
    for id in met.iter().flat_map(|met| &met.refused) {
        stored += usize::from(is_whole(&store, *id).await);
        refused += 1;
    }
    let slowest = met.iter().map(|met| met.slowest).max().unwrap_or_default();
    tell(&format!(
        "PostgreSQL killed {OUTAGES} times and stopped at once {OUTAGES} times under 8 writers: {accepted} accepted and all \
         there, {refused} refused, {stored} of them stored all the same; the slowest answer took {} ms",
        slowest.as_millis(),
    ));
}

/// Whether the command is there with all that belongs to it; with nothing of it, it is not.
async fn is_whole(store: &PostgresStore, id: CommandId) -> bool {
    let there = store.command(id).await.expect("read").is_some();
    let invocations = store.invocations(id, None, None, 10).await.expect("read").len();
    let events = store.events(Some(id), 0, 10).await.expect("read").len();
    assert_eq!((invocations, events), (usize::from(there), usize::from(there)), "`{id}` is there in part");
    there
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_waits_for_is_kept_while_the_server_is_away() {
    let Some(mut server) = shared::own(&[]) else { return };
    let (Ground { store, .. }, _running) = place::open(&Database::at(&server.url())).await;
    let web = enrol(&store, "web-1", "eu").await;
    let new = command(&[&web]);
    let id = new.command.id;
    store.accept(new).await.expect("accepted");
    for how in [End::Kill, End::Immediate] {
        server = with_server(server, move |server| server.stop(how).expect("it ends")).await;
        store.note(advance(id, web.id, 2, &[Event::Send, Event::Start]));
        store.append(chunk(id, web.id, 0, "said while nobody listened"));
        assert!(matches!(answered(store.flush()).await, Err(StoreError::Unavailable(_))));
        server = with_server(server, |server| server.start().expect("it starts")).await;
        let flushing = async {
            while store.flush().await.is_err() {
                breathe().await
            }
        };
        tokio::time::timeout(CEILING, flushing).await.expect("the writer goes on");
    }
    let invocation = store.invocation(id, web.id).await.expect("read").expect("there");
    assert_eq!((invocation.state, invocation.started_at), (State::Running, Some(at(2))));
    let output = store.output(key(id), web.id, Stream::Stdout, 0, 100).await.expect("read");
    assert_eq!(output.iter().map(|chunk| chunk.data.len()).sum::<usize>(), 26);
    let counters = store.counters();
    assert_eq!((counters.chunks_dropped, counters.notes_dropped), (0, 0));
    assert!(store.failed_commits() >= 2, "each outage is told of");
}
