//! Ends what its clocks have run out on. Takes no input: it looks at the store and makes it so;
//! running it twice does no harm.

use std::sync::Arc;
use std::time::Duration;

use domain::attempt::Event;
use domain::time::Timestamp;
use futures_util::future::try_join_all;
use ports::agents::Agents;
use ports::clock::Clock;
use ports::commands::{Advance, Commands, Open, Overdue, Word};
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
/// Between signs of life, and between tidying up.
const TIDY_EVERY: u32 = 30;
/// Between looks for sessions that nobody has, while there may be some: all that are open here are read for it.
const LEFT_EVERY: u32 = 5;
/// For so long after an opening or an end was broken off there may be some: the store may be late.
const IN_DOUBT_FOR: u32 = 60;
/// Between looks while nothing was broken off, should the store be later than that.
const LEFT_ELSE_EVERY: u32 = 60;

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

/// When it is time to look for sessions that nobody has.
#[derive(Default)]
struct LeftBehind {
    /// Seconds since the last look.
    waited: u32,
    /// Seconds for which there may still be some.
    in_doubt: u32,
    /// How many were broken off until a second ago.
    broken_off: u64,
}

impl LeftBehind {
    /// A second has passed, and so many were broken off by now: whether it is time. It stays so until it is done, for
    /// it is needed most just after the store was away.
    fn tick(&mut self, broken_off: u64) -> bool {
        self.waited += 1;
        self.in_doubt = if broken_off == self.broken_off { self.in_doubt.saturating_sub(1) } else { IN_DOUBT_FOR };
        self.broken_off = broken_off;
        self.waited >= if self.in_doubt > 0 { LEFT_EVERY } else { LEFT_ELSE_EVERY }
    }

    fn looked(&mut self) {
        self.waited = 0;
    }
}

impl Reap {
    /// Looks again and again until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let mut rhythm = Rhythm::new(EVERY, stop);
        let (mut since_tidy, mut left) = (0, LeftBehind::default());
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
            if !away && left.tick(self.directory.broken_off()) {
                match self.close_left_behind().await {
                    Ok(()) => left.looked(),
                    Err(error) => {
                        tracing::debug!(%error, "sessions could not be looked through; trying again in a second");
                    }
                }
            }
            since_tidy += 1;
            if since_tidy >= TIDY_EVERY {
                since_tidy = 0;
                if !away && let Err(error) = self.tidy().await {
                    tracing::debug!(%error, "could not tidy up; trying again in a while");
                }
            }
        }
    }

    /// Says that this host lives, forgets replies nobody may ask for any more, and counts again what waits.
    async fn tidy(&self) -> Result<(), StoreError> {
        self.agents.alive(self.clock.now()).await?;
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
        self.end_overdue(now).await?;
        if now.since(self.since) < self.lost_after {
            return Ok(());
        }
        let abandoned = self.commands.abandoned(now - self.lost_after, STEP).await?;
        let gone = abandoned.into_iter().filter(|open| !self.directory.is_connected(open.agent));
        let advances = gone.map(|Open { key, agent, .. }| {
            // It may have come to another host since it was read, and said there that it has the attempt.
            let (events, word) = (vec![Event::AgentGone], Word::NoSession);
            self.commands.advance(Advance { key, agent, events, at: now, message: None, end: None, word })
        });
        try_join_all(advances).await?;
        Ok(())
    }

    /// Passes over what does not move: the session that has it may be at another host, which ends it.
    async fn end_overdue(&self, now: Timestamp) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let overdue = self.commands.overdue(now, after, STEP).await?;
            after = overdue.last().map(Overdue::place);
            let whole = overdue.len() == STEP as usize;
            let unowned = overdue.into_iter().filter(|late| !self.link.settle(late.open, Settle::StartDeadline));
            try_join_all(unowned.map(|late| self.settle.run(late.open, Settle::StartDeadline))).await?;
            if !whole {
                return Ok(());
            }
        }
    }

    /// Closes sessions that the store has for open at this host and that nobody has here: one whose end could not
    /// be stored while the store was away, or whose opening was stored when nobody waited for it any more. As long
    /// as one is open, what its agent had is left to a host that knows nothing of it. What was sent in it is not
    /// known any more, so it stays possibly sent. Each is closed by its number, so a later one is not.
    ///
    /// # Errors
    /// The store's; what was closed until then stays so.
    pub async fn close_left_behind(&self) -> Result<(), StoreError> {
        let left_behind = self.directory.left_behind(self.agents.sessions_here().await?);
        // Since when its agent has been away is not known any more, so that counts from now.
        let now = self.clock.now();
        for part in left_behind.chunks(STEP as usize) {
            try_join_all(part.iter().map(|(agent, epoch)| self.agents.close_session(*agent, *epoch, now, true)))
                .await?;
        }
        if !left_behind.is_empty() {
            tracing::warn!(
                closed = left_behind.len(),
                "sessions that nobody has here any more are closed in the store"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_looked_through_each_minute_and_every_five_seconds_once_one_was_broken_off() {
        let mut left = LeftBehind::default();
        let mut looks = |broken_off: u64, seconds: u32| -> Vec<u32> {
            let mut due = |_: &u32| {
                let due = left.tick(broken_off);
                if due {
                    left.looked();
                }
                due
            };
            (1..=seconds).filter(&mut due).collect()
        };
        assert_eq!(looks(0, 130), [60, 120]);
        assert_eq!(looks(1, 65), (1..=56).step_by(5).collect::<Vec<u32>>());
        assert_eq!(looks(1, 120), [51, 111]);
        let mut failing = LeftBehind::default();
        assert_eq!((1..=7).filter(|_| failing.tick(1)).count(), 3, "each second until it is done");
    }
}
