//! Waiting for a store that is away: each try a little later than the last, and at once when a try of
//! anybody else's went through.
//!
//! Invariant: nothing is given up here; a wait ends with its session. The log hears of an outage twice:
//! when it begins and when it is over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ports::error::StoreError;
use tokio::sync::Notify;

/// Between the first two tries.
const FIRST: Duration = Duration::from_millis(100);
/// Between tries, at most.
const LONGEST: Duration = Duration::from_secs(2);
/// Between tries of what no later try is expected to mend: not given up, because the agent would have to
/// forget what nobody else knows, and not hurried.
const HOPELESS: Duration = Duration::from_secs(60);

/// Shared by everything that waits for one store.
#[derive(Debug)]
pub struct Patience {
    away: AtomicBool,
    back: Notify,
    first: Duration,
    hopeless: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience::with(FIRST, HOPELESS)
    }
}

impl Patience {
    fn with(first: Duration, hopeless: Duration) -> Patience {
        Patience { away: AtomicBool::new(false), back: Notify::new(), first, hopeless }
    }

    /// Tries until the store took it; `what` is for the log.
    ///
    /// # Cancel safety
    /// As safe as one try is: a write that is cut off may or may not have been stored.
    pub async fn until_stored<T, F>(&self, what: &'static str, mut attempt: impl FnMut() -> F) -> T
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut wait = self.first;
        loop {
            match attempt().await {
                Ok(stored) => {
                    self.came_back();
                    return stored;
                }
                Err(error) => {
                    self.note(what, &error);
                    let pause = match error {
                        StoreError::Unavailable(_) => wait,
                        StoreError::Conflict(_) | StoreError::Stale(_) | StoreError::Corrupt { .. } => self.hopeless,
                    };
                    wait = (wait * 2).min(LONGEST);
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.back.notified() => {}
                    }
                }
            }
        }
    }

    fn came_back(&self) {
        // Looked at before it is changed: this is in every write's way, and nearly always there is nothing to do.
        if self.away.load(Ordering::Relaxed) && self.away.swap(false, Ordering::AcqRel) {
            tracing::info!("the store answers again; what waited for it is tried at once");
            self.back.notify_waiters();
        }
    }

    fn note(&self, what: &'static str, error: &StoreError) {
        match error {
            StoreError::Unavailable(_) if self.away.swap(true, Ordering::AcqRel) => {
                tracing::debug!(what, %error, "the store is still away");
            }
            StoreError::Unavailable(_) => {
                tracing::warn!(what, %error, "the store is away; sessions go on and try again until it is back");
            }
            StoreError::Conflict(_) | StoreError::Stale(_) | StoreError::Corrupt { .. } => {
                tracing::error!(what, %error, "the store refuses this; it is tried again, less often");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn a_store_that_is_back_for_one_is_tried_at_once_by_all() {
        const OTHERS: u32 = 50;
        // The others wait an hour between tries, unless they are woken.
        let patience = Patience::with(Duration::from_millis(1), Duration::from_secs(3600));
        let (tries, refused, open) = (Cell::new(0), Cell::new(0), Cell::new(false));
        let probe = patience.until_stored("probe", || {
            tries.set(tries.get() + 1);
            open.set(tries.get() > 3 && refused.get() == OTHERS);
            let away = || StoreError::Unavailable("away".to_owned());
            std::future::ready(open.get().then_some(()).ok_or_else(away))
        });
        let others = (0..OTHERS).map(|number| {
            let (refused, open) = (&refused, &open);
            patience.until_stored("other", move || {
                refused.set(refused.get() + u32::from(!open.get()));
                let taken = || StoreError::Conflict("taken".to_owned());
                std::future::ready(open.get().then_some(number).ok_or_else(taken))
            })
        });
        let ((), stored) = tokio::join!(probe, join_all(others));
        assert_eq!(stored, (0..OTHERS).collect::<Vec<_>>());
        assert_eq!(refused.get(), OTHERS, "nobody tried in between");
        assert!(tries.get() > 3, "an outage is waited out");
    }
}
