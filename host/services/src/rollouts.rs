//! Lets the targets of a command go, step by step, as its rollout says. Takes no input that matters: what
//! is decided comes from the rows as they stand; an event makes a look come sooner, a timer makes it
//! certain.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::event::{Event, What};
use domain::rollout::Decision;
use domain::time::Timestamp;
use futures_util::FutureExt as _;
use plan::id::CommandId;
use ports::clock::Clock;
use ports::delivery::{Delivery, Rolled};
use ports::error::StoreError;
use ports::link::{Link, Settle};
use ports::live::{Heard, Live};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::cancel::SettleUnowned;

/// Commands read from the store at once.
const STEP: u32 = 500;
/// Between looks at what waits for a pause to be over.
const EVERY: Duration = Duration::from_millis(250);
/// Between looks at a rollout of which nothing was heard, and between looks for ones nobody told of.
const AT_LEAST_EVERY: Duration = Duration::from_secs(10);

/// Rollouts that were begun here, for [`Rollouts`] to look at.
#[derive(Default)]
pub struct Begun {
    commands: Mutex<Vec<CommandId>>,
    wake: Notify,
}

impl Begun {
    /// A command with held invocations is stored.
    pub fn tell(&self, command: CommandId) {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).push(command);
        self.wake.notify_one();
    }

    fn take(&self) -> Vec<CommandId> {
        std::mem::take(&mut self.commands.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The use case.
pub struct Rollouts {
    /// Rows.
    pub delivery: Arc<dyn Delivery>,
    /// What ended.
    pub live: Arc<dyn Live>,
    /// What was begun.
    pub begun: Arc<Begun>,
    /// Connected agents.
    pub link: Arc<dyn Link>,
    /// Settles what no session here owns.
    pub settle: Arc<SettleUnowned>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// Rollouts under way and when each is looked at next, if nothing is heard.
type Watched = HashMap<CommandId, Timestamp>;

impl Rollouts {
    /// Looks until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let mut live = self.live.subscribe(None);
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut watched = Watched::new();
        let mut searched: Option<Timestamp> = None;
        loop {
            let mut heard = HashSet::new();
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
                () = self.begun.wake.notified() => heard.extend(self.begun.take()),
                event = live.next() => {
                    // Ends that were committed together, or while the last look was, share a look.
                    let mut next = Some(event);
                    while let Some(event) = next {
                        match event {
                            Heard::Event(event) => {
                                heard.extend(ended(&event).filter(|command| watched.contains_key(command)));
                            }
                            Heard::Lagged => heard.extend(watched.keys()),
                            Heard::Closed => return,
                        }
                        next = live.next().now_or_never();
                    }
                }
            }
            let now = self.clock.now();
            if searched.is_none_or(|at| !now.is_soon_after(at, AT_LEAST_EVERY)) {
                match self.search().await {
                    Ok(found) => {
                        heard.extend(found.iter().filter(|command| !watched.contains_key(command)));
                        searched = Some(now);
                    }
                    Err(error) => tracing::debug!(%error, "rollouts could not be looked for; trying again"),
                }
            }
            heard.extend(watched.iter().filter(|(_, next)| is_due(**next, now)).map(|(command, _)| *command));
            for command in heard {
                self.look(command, now, &mut watched).await;
            }
        }
    }

    async fn look(&self, command: CommandId, now: Timestamp, watched: &mut Watched) {
        match self.step(command).await {
            Ok(Decision::Done | Decision::Halt(_)) => _ = watched.remove(&command),
            Ok(Decision::Wait(Some(at))) => _ = watched.insert(command, at.min(now + AT_LEAST_EVERY)),
            Ok(Decision::Wait(None) | Decision::Release(_)) => _ = watched.insert(command, now + AT_LEAST_EVERY),
            Err(error) => {
                tracing::debug!(%command, %error, "a rollout could not be looked at; trying again");
                watched.insert(command, now + EVERY);
            }
        }
    }

    /// Looks once at one command and does what is to be done.
    ///
    /// # Errors
    /// The store's.
    pub async fn step(&self, command: CommandId) -> Result<Decision, StoreError> {
        let Rolled { decision, released, unsent, cancelled } = self.delivery.roll(command, self.clock.now()).await?;
        self.link.offer(released);
        if let Decision::Halt(cause) = decision {
            tracing::warn!(%command, %cause, "a rollout halted; what was not sent is skipped");
        }
        let whys = unsent.into_iter().map(|open| (open, Settle::Halt));
        for (open, why) in whys.chain(cancelled.into_iter().map(|open| (open, Settle::Cancel))) {
            if !self.link.settle(open, why) {
                self.settle.run(open, why).await?;
            }
        }
        Ok(decision)
    }

    /// Every command in the store that has something held.
    async fn search(&self) -> Result<Vec<CommandId>, StoreError> {
        let mut found = Vec::new();
        loop {
            let page = self.delivery.rolling(found.last().copied(), STEP).await?;
            let whole = page.len() == STEP as usize;
            found.extend(page);
            if !whole {
                return Ok(found);
            }
        }
    }
}

/// Whether a rollout is to be looked at that was to be at `next`. Nothing is put off for longer than so long: what lies
/// further ahead was noted before the clock was set back.
fn is_due(next: Timestamp, now: Timestamp) -> bool {
    next <= now || next > now + AT_LEAST_EVERY
}

/// The command one of whose attempts this event ends.
fn ended(event: &Event) -> impl Iterator<Item = CommandId> {
    let ended = match &event.what {
        What::State { command, state, .. } if state.is_terminal() => Some(*command),
        What::State { .. }
        | What::Status { .. }
        | What::Output { .. }
        | What::Agent { .. }
        | What::Alert { .. }
        | What::Plugins { .. } => None,
    };
    ended.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_puts_no_rollout_off() {
        let now = Timestamp(1_700_000_000_000_000);
        let noted = now + AT_LEAST_EVERY;
        assert!(!is_due(noted, now) && !is_due(noted, noted - EVERY) && is_due(noted, noted));
        assert!(is_due(noted, now - Duration::from_secs(3_600)));
    }
}
