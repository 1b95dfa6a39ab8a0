//! Both protocol cores against each other by seed: the host's session and the agent's machine, with a
//! store that keeps durable rows only, a line that is cut and repeats frames, crashes of either end, and
//! a host's clock that jumps. `VIWORKS_SEEDS` is the number of seeds, `VIWORKS_SEED` the one to repeat.

mod host;
mod world;

use crate::joint::world::{Counts, World};

/// Seeds of one run.
const SEEDS: u64 = 5_000;
const STEPS: usize = 150;

#[test]
fn host_and_agent_agree_with_what_ran_whatever_fails_between_them() {
    let seeds = std::env::var("VIWORKS_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(SEEDS);
    let only = std::env::var("VIWORKS_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut totals = Counts::default();
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
            Ok(counts) => totals.add(counts),
            Err(cause) => {
                println!("seed {seed}: run again with VIWORKS_SEED={seed}");
                std::panic::resume_unwind(cause);
            }
        }
    }
    println!("{seeds} seeds: {totals:?}");
    if only.is_none() {
        assert!(totals.starts > seeds && totals.host_crashes > seeds / 2 && totals.agent_crashes > seeds / 2);
    }
}
