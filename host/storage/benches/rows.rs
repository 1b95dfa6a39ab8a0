//! What the embedded store takes for a command: accepted alone and with others, chosen from a queue, ended. On a disk, with
//! commits that survive power loss: `cargo bench -p storage`.

use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use domain::attempt::Event;
use domain::event::Event as Told;
use plan::id::CommandId;
use ports::commands::{Commands as _, NewCommand};
use ports::live::{Live, Subscription};
use storage::sqlite::{self, Options};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

#[expect(dead_code, reason = "the store's tests store more")]
#[path = "../tests/behaviours/fixtures.rs"]
mod fixtures;

use fixtures::{advance, command, enrol, finish};

/// Commands accepted at once.
const TOGETHER: u64 = 64;
/// Commands that wait for one agent when the next few are chosen.
const WAITING: usize = 10_000;

/// Nobody listens.
struct Nobody;

impl Live for Nobody {
    fn publish(&self, _events: &[Arc<Told>]) {}

    fn subscribe(&self, _command: Option<CommandId>) -> Box<dyn Subscription> {
        unreachable!("nobody listens")
    }
}

fn rows(c: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("temp dir");
    let file = dir.path().join("rows.db");
    let (store, writer) =
        runtime.block_on(sqlite::open(Options::new(file.to_str().expect("text")), Arc::new(Nobody))).expect("opens");
    let mut tasks = JoinSet::new();
    tasks.spawn_on(writer.run(CancellationToken::new()), runtime.handle());
    let (busy, free) =
        runtime.block_on(async { (enrol(&store, "busy", "eu").await, enrol(&store, "free", "eu").await) });

    c.bench_function("accepted alone", |b| {
        let accept = || runtime.block_on(store.accept(command(&[&free]))).expect("stored");
        b.iter(accept);
    });
    let mut group = c.benchmark_group("together");
    group.throughput(Throughput::Elements(TOGETHER)).sample_size(30);
    group.bench_function("accepted together", |b| {
        let some = || (0..TOGETHER).map(|_| command(&[&free])).collect::<Vec<NewCommand>>();
        let accept = |new: Vec<NewCommand>| {
            runtime.block_on(async {
                let mut all = JoinSet::new();
                for new in new {
                    let store = store.clone();
                    all.spawn(async move { store.accept(new).await.expect("stored") });
                }
                all.join_all().await
            })
        };
        b.iter_batched(some, accept, BatchSize::PerIteration);
    });
    group.finish();
    runtime.block_on(async {
        let mut all = JoinSet::new();
        for _ in 0..WAITING {
            let (store, new) = (store.clone(), command(&[&busy]));
            all.spawn(async move { store.accept(new).await.expect("stored") });
        }
        all.join_all().await
    });
    c.bench_function("four chosen of 10,000 that wait", |b| {
        b.iter(|| runtime.block_on(store.due(busy.id, 4)).expect("read"));
    });
    let mut group = c.benchmark_group("ended");
    group.sample_size(30);
    group.bench_function("sent and ended", |b| {
        let ready = || {
            let new = command(&[&free]);
            let id = new.command.id;
            runtime.block_on(store.accept(new)).expect("stored");
            id
        };
        let end = |id| {
            runtime.block_on(async {
                store.advance(advance(id, free.id, 5, &[Event::Send])).await.expect("sent");
                store.advance(finish(id, free.id, 9, true)).await.expect("ended");
            });
        };
        b.iter_batched(ready, end, BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group!(benches, rows);
criterion_main!(benches);
