//! How fast a plan call is. Not a test of the machine: run by hand with
//! `cargo test -p runtime --release -- --ignored --nocapture plans_per_second`.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::calls::{House, profile};
use crate::guest::Guest;

#[tokio::test]
#[ignore = "a measurement; worth reading in a release build only"]
async fn plans_per_second() {
    // As much memory as a Rust guest begins with: its stack and some data.
    let guest = Guest { pages: 17, ..Guest::new("demo", "1.0.0") };
    let house = House::open(&[("demo.wasm", &guest.build())], |options| options).await;
    let verb = house.verb("demo.run");
    let (profile, args) = (profile(), json!({}));
    let mut took: Vec<Duration> = Vec::new();
    for _ in 0..20_000 {
        let began = Instant::now();
        verb.plan(&profile, &args).await.expect("a plan");
        took.push(began.elapsed());
    }
    let took = &mut took[1000..];
    took.sort_unstable();
    let at = |share: usize| took[took.len() * share / 1000];
    println!("instances are {:?}", house.handle.allocation());
    println!("plan call through the queue: p50 {:?}, p99 {:?}, p99.9 {:?}", at(500), at(990), at(999));
    assert!(at(500) < Duration::from_millis(10), "slower than the guest's own limit: {:?}", at(500));
}
