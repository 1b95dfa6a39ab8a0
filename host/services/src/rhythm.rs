//! Looking at something again and again.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// When to look: at once, then every so often, until told to stop.
pub struct Rhythm {
    ticks: Interval,
    stop: CancellationToken,
}

impl Rhythm {
    /// One look each `period`. What a long look leaves no time for is not made up for.
    pub fn new(period: Duration, stop: CancellationToken) -> Rhythm {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Rhythm { ticks, stop }
    }

    /// Waits until it is time; `false` when there is nothing more to wait for.
    pub async fn next(&mut self) -> bool {
        tokio::select! {
            () = self.stop.cancelled() => false,
            _ = self.ticks.tick() => true,
        }
    }
}
