//! Who is no agent any more: ends what was open for those that are deleted. Takes no input: it looks at the
//! store and makes it so; looking twice does no harm.

use std::sync::Arc;
use std::time::Duration;

use domain::attempt::Event;
use plan::id::AgentId;
use ports::clock::Clock;
use ports::commands::{Advance, Commands, Open, Word};
use ports::error::StoreError;
use ports::link::Settle;
use tokio_util::sync::CancellationToken;

use crate::cancel::SettleUnowned;
use crate::directory::Directory;
use crate::rhythm::Rhythm;

/// Between looks.
const EVERY: Duration = Duration::from_secs(1);

/// The use case.
pub struct Census {
    /// Where commands are kept.
    pub commands: Arc<dyn Commands>,
    /// Who there is.
    pub directory: Arc<Directory>,
    /// Settles what no session owns.
    pub settle: Arc<SettleUnowned>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl Census {
    /// Looks again and again until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let mut rhythm = Rhythm::new(EVERY, stop);
        while rhythm.next().await {
            if let Err(error) = self.step().await {
                tracing::debug!(%error, "what deleted agents left open could not be ended; trying again in a second");
            }
        }
    }

    /// Looks once.
    ///
    /// # Errors
    /// The store's; what was done until then stays done.
    pub async fn step(&self) -> Result<(), StoreError> {
        for agent in self.directory.leavers() {
            let open = self.commands.open(agent).await?;
            if open.is_empty() {
                self.directory.left(agent);
            }
            for open in open {
                self.end(agent, open).await?;
            }
        }
        Ok(())
    }

    /// Nobody will hear of this attempt again. What was certainly never sent is `cancelled`; what may have
    /// been is `lost`, once the session it was sent in is over.
    async fn end(&self, agent: AgentId, open: Open) -> Result<(), StoreError> {
        self.settle.run(open, Settle::Cancel).await?;
        let advance = Advance {
            key: open.key,
            agent,
            events: vec![Event::Send, Event::AgentGone],
            at: self.clock.now(),
            message: Some("the agent was deleted".to_owned()),
            end: None,
            word: Word::NoSession,
        };
        self.commands.advance(advance).await?;
        Ok(())
    }
}
