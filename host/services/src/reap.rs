//! Ends what its clocks have run out on. Takes no input: it looks at the store and makes it so;
//! running it twice does no harm.

use std::sync::Arc;
use std::time::Duration;

use domain::attempt::Event;
use domain::time::Timestamp;
use ports::agents::Agents;
use ports::clock::Clock;
use ports::commands::{Advance, Commands, Word};
use ports::delivery::Delivery;
use ports::error::StoreError;
use ports::journal::Installation;
use ports::link::{Link, Settle};
use ports::replies::Replies;
use tokio_util::sync::CancellationToken;

use crate::backlog::Backlog;
use crate::cancel::SettleUnowned;
use crate::directory::Directory;
use crate::doubt::Doubts;
use crate::rhythm::Rhythm;

/// Rows looked at in one step, so that a step is short.
const STEP: u32 = 500;
/// Between looks. Deadlines are whole seconds to people.
const EVERY: Duration = Duration::from_secs(1);
/// Between writes of when connected agents were last heard.
const SEEN_EVERY: u32 = 30;

/// The use case.
pub struct Reap {
    /// Where commands are kept.
    pub commands: Arc<dyn Commands>,
    /// Where agents are kept.
    pub agents: Arc<dyn Agents>,
    /// The store as a whole.
    pub whole: Arc<dyn Installation>,
    /// Who there is.
    pub directory: Arc<Directory>,
    /// Connected agents.
    pub link: Arc<dyn Link>,
    /// What may be stored although the store did not answer.
    pub doubts: Arc<Doubts>,
    /// Settles what no session here owns.
    pub settle: Arc<SettleUnowned>,
    /// What is kept for callers who ask again.
    pub replies: Arc<dyn Replies>,
    /// How much waits.
    pub backlog: Arc<Backlog>,
    /// Counts it again.
    pub delivery: Arc<dyn Delivery>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Without a session for this long, what an agent had is lost.
    pub lost_after: Duration,
    /// When this host started. Agents had no chance to be heard before.
    pub since: Timestamp,
}

impl Reap {
    /// Looks again and again until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let mut rhythm = Rhythm::new(EVERY, stop);
        let mut since_seen = 0;
        let mut failed = self.whole.failed_commits();
        let mut away = false;
        while rhythm.next().await {
            match self.step().await {
                Ok(()) => away = false,
                // Once for an outage: it may be long.
                Err(error) if !std::mem::replace(&mut away, true) => {
                    tracing::warn!(%error, "deadlines could not be looked at; trying again every second");
                }
                Err(_) => {}
            }
            if !away && let Err(error) = self.make_good(&mut failed).await {
                tracing::debug!(%error, "agents could not be read after an outage; trying again in a second");
            }
            since_seen += 1;
            if since_seen >= SEEN_EVERY {
                since_seen = 0;
                self.agents.seen(self.directory.last_heard());
                if !away && let Err(error) = self.tidy().await {
                    tracing::debug!(%error, "could not tidy up; trying again in a while");
                }
            }
        }
    }

    /// Forgets replies nobody may ask for any more, and counts again what waits.
    async fn tidy(&self) -> Result<(), StoreError> {
        self.replies.forget_replies(self.clock.now(), STEP).await?;
        self.backlog.recount(self.delivery.as_ref()).await
    }

    /// After an outage: finds what is stored although its caller was told otherwise, and has sessions say
    /// again what may be lost and read again what waits for their agents.
    async fn make_good(&self, failed: &mut u64) -> Result<(), StoreError> {
        let now = self.clock.now();
        if self.doubts.enrolment_due(now) {
            for agent in self.agents.agents().await? {
                self.directory.put_if_unknown(agent);
            }
        }
        let mut retell = false;
        let mut doubts = self.doubts.commands_due(now, STEP as usize);
        while let Some(doubt) = doubts.pop() {
            match self.commands.command(doubt.what).await {
                Ok(Some(_)) => {
                    tracing::info!(command = %doubt.what, "stored after all; it is sent");
                    retell = true;
                }
                Ok(None) => self.doubts.commands_later([doubt], now),
                Err(error) => {
                    doubts.push(doubt);
                    self.doubts.commands_later(doubts, now);
                    return Err(error);
                }
            }
        }
        let now_failed = self.whole.failed_commits();
        if retell || std::mem::replace(failed, now_failed) != now_failed {
            self.link.retell();
        }
        Ok(())
    }

    /// Looks once at everything whose clock has run out.
    ///
    /// # Errors
    /// The store's; what was done until then stays done.
    pub async fn step(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        for open in self.commands.overdue(now, STEP).await? {
            if !self.link.settle(open, Settle::StartDeadline) {
                self.settle.run(open, Settle::StartDeadline).await?;
            }
        }
        if now.since(self.since) < self.lost_after {
            return Ok(());
        }
        for open in self.commands.abandoned(now - self.lost_after, STEP).await? {
            if self.directory.is_connected(open.agent) {
                continue;
            }
            let events = vec![Event::AgentGone];
            let advance = Advance {
                key: open.key,
                agent: open.agent,
                events,
                at: now,
                message: None,
                end: None,
                word: Word::Anyone,
            };
            self.commands.advance(advance).await?;
        }
        Ok(())
    }
}
