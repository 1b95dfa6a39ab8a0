//! How long to wait before the next try to reach the host: full jitter, doubling, capped, so that a
//! fleet that lost its host together does not come back together.

use std::time::Duration;

use rand::{Rng, RngExt as _};

/// The first wait is somewhere in this.
const FIRST: Duration = Duration::from_secs(1);
/// No wait is longer.
pub const CAP: Duration = Duration::from_secs(60);

/// Counts tries.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    tries: u32,
}

impl Backoff {
    /// How long to wait now; `at_least` is what the host asked for when it left.
    pub fn next<R: Rng>(&mut self, rng: &mut R, at_least: Option<Duration>) -> Duration {
        let ceiling = FIRST.saturating_mul(1 << self.tries.min(6)).min(CAP);
        self.tries = self.tries.saturating_add(1);
        let jittered = ceiling.mul_f64(rng.random_range(0.0..=1.0));
        at_least.unwrap_or_default().min(10 * CAP) + jittered
    }

    /// A session was opened: the next wait is short again.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_begin_within_a_second() {
        for seed in 0..200 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut backoff = Backoff::default();
            for (index, ceiling) in [1, 2, 4, 8, 16, 32, 60, 60, 60].into_iter().enumerate() {
                let wait = backoff.next(&mut rng, None);
                assert!(wait <= Duration::from_secs(ceiling), "seed {seed}, try {index}: {wait:?}");
            }
            backoff.reset();
            assert!(backoff.next(&mut rng, None) <= FIRST, "seed {seed}");
        }
    }

    #[test]
    fn the_hosts_wish_is_a_floor() {
        let mut rng = SmallRng::seed_from_u64(1);
        let wait = Backoff::default().next(&mut rng, Some(Duration::from_secs(5)));
        assert!(wait >= Duration::from_secs(5) && wait <= Duration::from_secs(6), "{wait:?}");
    }
}
