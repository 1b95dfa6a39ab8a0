//! Waiting on a level: look until it is so, with a ceiling that fails the test.

use std::time::{Duration, Instant};

/// Longest a test waits for anything. Far above what is normal, so that a slow machine does not fail.
pub const CEILING: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until there is something.
///
/// # Panics
/// When there is nothing within [`CEILING`]; `what` says what was waited for.
pub async fn until<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    until_within(CEILING, what, look).await
}

/// Looks until there is something.
///
/// # Panics
/// When there is nothing within `ceiling`; `what` says what was waited for.
pub async fn until_within<T>(ceiling: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < ceiling, "{what}: not within {} s", ceiling.as_secs());
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Lets everybody else go first for a moment, between two of many things that are done again and again.
pub async fn breathe() {
    tokio::time::sleep(LOOK_EVERY).await;
}

/// Lets a random part of `longest` go by: what goes wrong outside does not wait for a good moment.
pub async fn whenever(longest: Duration) {
    tokio::time::sleep(longest.mul_f64(rand::random_range(0.0..1.0))).await;
}
