//! Lets go attempts whose back-off is over. Takes no input: it looks at the store and makes it so; a
//! pending retry is a row, not a timer.

use std::sync::Arc;
use std::time::Duration;

use domain::attempt::{Event, State};
use futures_util::future::try_join_all;
use ports::clock::Clock;
use ports::commands::{Advance, Commands, Word};
use ports::delivery::Delivery;
use ports::error::StoreError;
use ports::link::Link;
use tokio_util::sync::CancellationToken;

use crate::rhythm::Rhythm;

/// Attempts let go by one look.
const STEP: u32 = 500;
/// Between looks.
const EVERY: Duration = Duration::from_millis(500);

/// The use case.
pub struct Again {
    /// Where commands are kept.
    pub commands: Arc<dyn Commands>,
    /// What is due.
    pub delivery: Arc<dyn Delivery>,
    /// Connected agents.
    pub link: Arc<dyn Link>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl Again {
    /// Looks again and again until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let mut rhythm = Rhythm::new(EVERY, stop);
        while rhythm.next().await {
            if let Err(error) = self.step().await {
                tracing::debug!(%error, "retries could not be looked at; trying again in a moment");
            }
        }
    }

    /// Lets go what is due; how many attempts.
    ///
    /// # Errors
    /// The store's; what was let go until then stays so.
    pub async fn step(&self) -> Result<usize, StoreError> {
        let now = self.clock.now();
        let mut let_go = 0;
        loop {
            let due = self.delivery.retries(now, STEP).await?;
            let whole = due.len() == STEP as usize;
            let advances = due.iter().map(|due| {
                let (key, agent, events) = (due.key(), due.agent, vec![Event::Release]);
                self.commands.advance(Advance {
                    key,
                    agent,
                    events,
                    at: now,
                    message: None,
                    end: None,
                    word: Word::Anyone,
                })
            });
            let moved = try_join_all(advances).await?;
            let offered: Vec<_> = due
                .into_iter()
                .zip(moved)
                .filter(|(_, moved)| moved.is_some_and(|moved| moved.moved && moved.state == State::Queued))
                .map(|(due, _)| due)
                .collect();
            let_go += offered.len();
            let stuck = offered.is_empty();
            self.link.offer(offered);
            if !whole || stuck {
                return Ok(let_go);
            }
        }
    }
}
