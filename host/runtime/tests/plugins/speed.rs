//! How fast a plan call is. Not a test of the machine: run by hand with
//! `cargo test -p runtime --release -- --ignored --nocapture plans_per_second`.

use std::time::{Duration, Instant};

use domain::verb::VerbName;
use runtime::tool::Loaded;
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

#[test]
#[ignore = "a measurement of the files in VIWORKS_PLUGINS; worth reading in a release build only"]
fn plans_of_built_plugins() {
    let folder = std::env::var("VIWORKS_PLUGINS").expect("VIWORKS_PLUGINS names a folder of plugins");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("read").path()).collect();
    files.sort();
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "wasm")) {
        let bytes = std::fs::read(file).expect("read");
        let loaded = Loaded::open(&bytes, "plugin.wasm").expect("a plugin");
        for verb in &runtime::tool::check(&bytes, "plugin.wasm").expect("a plugin").manifest.verbs {
            let (name, args) = (VerbName::parse(&verb.name).expect("a name"), &verb.examples[0].args);
            let mut took: Vec<Duration> = (0..3_000)
                .map(|_| {
                    let began = Instant::now();
                    loaded.plan(&name, &profile(), args, None).expect("a plan");
                    began.elapsed()
                })
                .collect();
            took.sort_unstable();
            println!(
                "{} {} bytes, {}: p50 {:?}, p99 {:?}",
                file.display(),
                bytes.len(),
                verb.name,
                took[1500],
                took[2970]
            );
        }
    }
}
