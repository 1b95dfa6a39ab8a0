//! Has listeners read what other hosts wrote. Their events come by no wire that this relies on: the number of
//! the last event in the store says that there is more, and each listener reads on from where it is.

use std::sync::Arc;
use std::time::Duration;

use ports::journal::Journal;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::local::Local;

/// Between looks at the store: this is how late the word of another host may come.
const EVERY: Duration = Duration::from_millis(250);
/// Listeners are not sent to the log more often than this, however much is written.
const AT_MOST_EVERY: Duration = Duration::from_millis(50);

/// Looks at the store for those who listen here.
pub struct Gaps {
    /// The listeners.
    pub local: Local,
    /// The log.
    pub journal: Arc<dyn Journal>,
    /// Rung when another host told that it wrote something.
    pub call: Arc<Notify>,
}

impl Gaps {
    /// Looks until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let mut ticks = interval(EVERY);
        let mut breath = interval(AT_MOST_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        breath.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
                () = self.local.gap() => {}
                () = self.call.notified() => {}
            }
            breath.tick().await;
            if self.local.listeners() == 0 {
                continue;
            }
            match self.journal.last_seq().await {
                Ok(last) => self.local.catch_up(last),
                Err(error) => tracing::debug!(%error, "the event log could not be looked at; trying again"),
            }
        }
    }
}
