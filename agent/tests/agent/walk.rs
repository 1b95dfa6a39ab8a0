//! Seeded random walks of the protocol core through a world that loses, repeats and reorders frames,
//! cuts sockets, kills agents, supervisors and whole machines. The seed of a failure is in its message.

mod children;
mod counts;
mod host;
mod world;

use crate::walk::world::World;

/// Seeds of one run; more with `VIWORKS_SEEDS`.
const SEEDS: u64 = 600;
const STEPS: usize = 250;

#[test]
fn nothing_starts_twice_or_late_and_every_command_ends_truthfully() {
    let seeds = std::env::var("VIWORKS_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(SEEDS);
    let only = std::env::var("VIWORKS_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut totals = counts::Counts::default();
    for seed in only.map_or(0..seeds, |seed: u64| seed..seed + 1) {
        let result = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..STEPS {
                world.step();
            }
            world.settle();
            world.counts
        });
        match result {
            Ok(counts) => totals.add(&counts),
            Err(cause) => {
                println!("seed {seed}: run again with VIWORKS_SEED={seed}");
                std::panic::resume_unwind(cause);
            }
        }
    }
    println!("{totals:?}");
    if only.is_none() {
        assert!(totals.starts > seeds && totals.agent_kills > seeds / 2 && totals.duplicates > seeds, "{totals:?}");
    }
}
