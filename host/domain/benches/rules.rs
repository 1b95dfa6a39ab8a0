//! What rules cost that are asked for every command and every report: `cargo bench -p domain`.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use domain::attempt::{Event, State, step};
use domain::priority::Priority;
use domain::telemetry::metric::Metric;
use domain::telemetry::report::Reading;
use domain::telemetry::rollup::{Bucket, roll};
use domain::time::Timestamp;

/// Reports of an hour at an interval of 30 s, of every metric there is.
fn hour() -> Vec<Bucket> {
    let readings = |n: i64| Metric::ALL.iter().map(|metric| Reading::new(*metric, n as f64)).collect();
    (0..120).map(|n| Bucket::of(Timestamp(1_700_000_000_000_000 + n * 30_000_000), readings(n))).collect()
}

fn rules(c: &mut Criterion) {
    c.bench_function("a state and an event decided", |b| {
        b.iter(|| step(black_box(State::Sent), None, black_box(Event::Acknowledge)));
    });
    let waiting: Vec<(Priority, Timestamp)> =
        (0..1_000).map(|n| (Priority::ALL[n as usize % 4], Timestamp((n * 7_919) % 1_000 * 1_000_000))).collect();
    c.bench_function("next of 1,000 that wait", |b| {
        b.iter(|| waiting.iter().map(|(priority, accepted)| priority.turn(*accepted)).min());
    });
    let hour = hour();
    c.bench_function("an hour of reports rolled up by minutes", |b| {
        b.iter(|| roll(black_box(hour.clone()), Duration::from_secs(60)));
    });
}

criterion_group!(benches, rules);
criterion_main!(benches);
