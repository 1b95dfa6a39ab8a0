//! Agents come and go: opening a session reconciles what the store and the agent's journal each
//! know; closing one writes down what may have been sent.

use std::collections::HashMap;
use std::sync::Arc;

use domain::agent::{Agent, Facts};
use domain::attempt::{Event, State};
use plan::id::{AgentId, AttemptKey};
use ports::agents::Agents;
use ports::clock::Clock;
use ports::commands::{Advance, Commands};
use ports::error::StoreError;

use crate::directory::Directory;

/// The use case.
pub struct Presence {
    /// Where agents are kept.
    pub agents: Arc<dyn Agents>,
    /// Where commands are kept.
    pub commands: Arc<dyn Commands>,
    /// Who there is.
    pub directory: Arc<Directory>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// An attempt the agent holds without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// Which attempt.
    pub key: AttemptKey,
    /// Whether its first process was started.
    pub started: bool,
}

/// What a session opens with: what the agent is to do with each attempt it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// The session's number.
    pub epoch: u64,
    /// Send these results.
    pub send: Vec<AttemptKey>,
    /// End these.
    pub cancel: Vec<AttemptKey>,
    /// Forget these.
    pub forget: Vec<AttemptKey>,
    /// Go on with these; `true` when started.
    pub run: Vec<(AttemptKey, bool)>,
}

impl Presence {
    /// Opens a session for an agent whose HELLO was verified. `None` when it was revoked meanwhile.
    ///
    /// # Errors
    /// The store's; no session is open then.
    pub async fn open(
        &self,
        agent: AgentId,
        facts: Facts,
        unfinished: &[Unfinished],
        unacknowledged: &[AttemptKey],
    ) -> Result<Option<Opened>, StoreError> {
        let now = self.clock.now();
        let Some(epoch) = self.agents.open_session(agent, &facts, now).await? else { return Ok(None) };
        if let Some(known) = self.directory.get(agent) {
            let mut changed = Agent::clone(&known.agent);
            changed.facts = facts;
            changed.session_epoch = epoch;
            changed.last_seen = Some(now);
            changed.maybe_sent = true;
            self.directory.put(changed);
        }
        let mut opened = self.reconcile(agent, unfinished, unacknowledged).await?;
        opened.epoch = epoch;
        self.directory.opened(agent, epoch, now);
        Ok(Some(opened))
    }

    /// Ends a session. `sent` are attempts written to its socket and not acknowledged: they are
    /// recorded as such before the store may again believe that what reads `queued` was never sent.
    ///
    /// # Errors
    /// The store's; what is not written now stays "possibly sent", which is true.
    pub async fn close(&self, agent: AgentId, epoch: u64, sent: Vec<AttemptKey>) -> Result<(), StoreError> {
        let now = self.clock.now();
        let latest = self.directory.closed(agent, epoch, now);
        for key in sent {
            self.commands.advance(advance(key, agent, vec![Event::Send], now)).await?;
        }
        self.agents.close_session(agent, epoch, now, false).await?;
        if latest && let Some(known) = self.directory.get(agent) {
            let mut changed = Agent::clone(&known.agent);
            changed.maybe_sent = false;
            self.directory.put(changed);
        }
        Ok(())
    }

    async fn reconcile(
        &self,
        agent: AgentId,
        unfinished: &[Unfinished],
        unacknowledged: &[AttemptKey],
    ) -> Result<Opened, StoreError> {
        let now = self.clock.now();
        let mut opened = Opened::default();
        let open: HashMap<AttemptKey, _> =
            self.commands.open(agent).await?.into_iter().map(|open| (open.key, open)).collect();
        for key in unacknowledged {
            let wanted = open.contains_key(key) || self.is_lost(*key, agent).await?;
            if wanted { opened.send.push(*key) } else { opened.forget.push(*key) }
        }
        for held in unfinished {
            let known = open.get(&held.key);
            if known.is_none() && !self.is_lost(held.key, agent).await? {
                // Over, or never heard of: it must not go on, and nobody waits for its result.
                opened.cancel.push(held.key);
                continue;
            }
            let mut events = vec![Event::Send, Event::Acknowledge];
            events.extend(held.started.then_some(Event::Start));
            self.commands.advance(advance(held.key, agent, events, now)).await?;
            if known.is_some_and(|known| known.cancel_requested) {
                opened.cancel.push(held.key);
            } else {
                opened.run.push((held.key, held.started));
            }
        }
        for (key, known) in &open {
            let held = unacknowledged.contains(key) || unfinished.iter().any(|held| held.key == *key);
            if held {
                continue;
            }
            let mut events = Vec::new();
            if known.state != State::Queued && known.state != State::Held {
                events.push(Event::NotKnown);
            }
            // Now it is certain that it never arrived, so a cancel can end it here.
            if known.cancel_requested {
                events.push(Event::CancelUnsent);
            }
            if !events.is_empty() {
                self.commands.advance(advance(*key, agent, events, now)).await?;
            }
        }
        Ok(opened)
    }

    async fn is_lost(&self, key: AttemptKey, agent: AgentId) -> Result<bool, StoreError> {
        let invocation = self.commands.invocation(key.command, agent).await?;
        Ok(invocation.is_some_and(|row| row.attempt == key.number && row.state == State::Lost))
    }
}

fn advance(key: AttemptKey, agent: AgentId, events: Vec<Event>, at: domain::time::Timestamp) -> Advance {
    Advance { key, agent, events, at, message: None, end: None }
}
