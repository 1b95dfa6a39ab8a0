//! Agents come and go: opening a session reconciles what the store and the agent's journal each
//! know; closing one writes down what may have been sent.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use domain::agent::{Agent, Facts};
use domain::attempt::{Event, State};
use domain::time::Timestamp;
use futures_util::future::try_join_all;
use plan::id::{AgentId, AttemptKey};
use plan::outcome::Stream;
use ports::agents::Agents;
use ports::clock::Clock;
use ports::commands::{Advance, Commands, Word};
use ports::error::StoreError;

use crate::directory::Directory;

/// Attempts moved by one commit when a session opens.
const AT_ONCE: usize = 1024;
/// Rows read side by side when a session opens.
const READS_AT_ONCE: usize = 8;
/// Attempts of which an agent is told how much of their output is stored already.
const HAVE_MAX: usize = 64;
/// Output that is stored up to here or less is simply sent again.
const HAVE_FROM_BYTES: u64 = 32 * 1024;
/// Nobody looks further than this.
const HAVE_MAX_BYTES: u64 = 4 << 20;
const READ_BYTES: u64 = 256 * 1024;

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
    /// Of `cancel`: those whose end and output are wanted; `true` when started.
    pub ending: Vec<(AttemptKey, bool)>,
    /// Of `send`, `run` and `ending`: every byte of standard output and standard error below these is stored.
    pub have: Vec<(AttemptKey, [u64; 2])>,
}

/// What became of an attempt that was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    /// Nobody tries it again.
    Up,
    /// Another attempt has taken its place.
    Another,
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
        // Whoever asked may not wait for the end of this; what is stored by then is closed by `reap`.
        let attended = self.directory.attend(agent);
        let Some(epoch) = self.agents.open_session(agent, &facts, now).await? else {
            attended.done();
            return Ok(None);
        };
        if let Some(known) = self.directory.get(agent) {
            let before = &known.agent.facts;
            if self.directory.is_connected(agent) && before.boot_id != facts.boot_id {
                tracing::warn!(
                    %agent, name = %known.agent.name, before = before.hostname, now = facts.hostname,
                    "a session was opened while another was open, from another machine or after its reboot; if this \
                     goes on, two machines use one key"
                );
            }
            let mut changed = Agent::clone(&known.agent);
            changed.facts = facts;
            changed.session_epoch = epoch;
            changed.last_seen = Some(now);
            changed.maybe_sent = true;
            self.directory.put(changed);
        }
        let mut opened = self.reconcile(agent, epoch, unfinished, unacknowledged).await?;
        opened.epoch = epoch;
        self.directory.opened(agent, epoch, now);
        attended.done();
        Ok(Some(opened))
    }

    /// Ends a session. `sent` are attempts written to its socket and not acknowledged: they are
    /// recorded as such before the store may again believe that what reads `queued` was never sent. When a
    /// later session is open, at this host or another, that one has asked the agent, and nothing is recorded.
    ///
    /// # Errors
    /// The store's; what is not written now stays "possibly sent", which is true, and `reap` closes the session.
    pub async fn close(&self, agent: AgentId, epoch: u64, sent: Vec<AttemptKey>) -> Result<(), StoreError> {
        let now = self.clock.now();
        let attended = self.directory.attend(agent);
        let latest = self.directory.closed(agent, epoch, now);
        for key in sent {
            self.commands.advance(advance(key, agent, epoch, vec![Event::Send], now)).await?;
        }
        self.agents.close_session(agent, epoch, now, false).await?;
        attended.done();
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
        epoch: u64,
        unfinished: &[Unfinished],
        unacknowledged: &[AttemptKey],
    ) -> Result<Opened, StoreError> {
        let now = self.clock.now();
        let mut opened = Opened::default();
        let open: HashMap<AttemptKey, _> =
            self.commands.open(agent).await?.into_iter().map(|open| (open.key, open)).collect();
        let held: HashSet<AttemptKey> =
            unfinished.iter().map(|held| held.key).chain(unacknowledged.iter().copied()).collect();
        let lost = self.lost(agent, held.iter().copied().filter(|key| !open.contains_key(key))).await?;
        for key in unacknowledged {
            let wanted = open.contains_key(key) || lost.contains_key(key);
            if wanted { opened.send.push(*key) } else { opened.forget.push(*key) }
        }
        let mut advances = Vec::new();
        for held in unfinished {
            let known = open.get(&held.key);
            if known.is_none() && lost.get(&held.key) != Some(&Given::Up) {
                // Over, never heard of, or followed by another attempt: it must not go on.
                opened.cancel.push(held.key);
                continue;
            }
            let mut events = vec![Event::Send, Event::Acknowledge];
            events.extend(held.started.then_some(Event::Start));
            advances.push(advance(held.key, agent, epoch, events, now));
            if known.is_some_and(|known| known.cancel_requested) {
                opened.cancel.push(held.key);
                opened.ending.push((held.key, held.started));
            } else {
                opened.run.push((held.key, held.started));
            }
        }
        for (key, known) in open.iter().filter(|(key, _)| !held.contains(key)) {
            let mut events = Vec::new();
            if known.state != State::Queued && known.state != State::Held {
                events.push(Event::NotKnown);
            }
            // Now it is certain that it never arrived, so a cancel can end it here; unless it came out of a
            // backup: then it may have arrived, ended and been forgotten, and the agent is asked.
            if known.cancel_requested && known.is_restored() {
                opened.cancel.push(*key);
            } else if known.cancel_requested {
                events.push(Event::CancelUnsent);
            }
            if !events.is_empty() {
                advances.push(advance(*key, agent, epoch, events, now));
            }
        }
        // Together, so that a journal with thousands of attempts costs few commits.
        for part in advances.chunks(AT_ONCE) {
            try_join_all(part.iter().map(|advance| self.commands.advance(advance.clone()))).await?;
        }
        let running = opened.run.iter().chain(&opened.ending).map(|(key, _)| *key);
        for key in opened.send.iter().copied().chain(running).take(HAVE_MAX) {
            let stored =
                [self.stored(key, agent, Stream::Stdout).await?, self.stored(key, agent, Stream::Stderr).await?];
            // Less is sent again sooner than looked up, and can then be judged without the store.
            if stored.iter().any(|bytes| *bytes >= HAVE_FROM_BYTES) {
                opened.have.push((key, stored));
            }
        }
        Ok(opened)
    }

    /// Which of these attempts the store gave up, so that a late word of them is still wanted.
    async fn lost(
        &self,
        agent: AgentId,
        keys: impl Iterator<Item = AttemptKey>,
    ) -> Result<HashMap<AttemptKey, Given>, StoreError> {
        let keys: Vec<AttemptKey> = keys.collect();
        let mut lost = HashMap::new();
        for part in keys.chunks(READS_AT_ONCE) {
            let rows = try_join_all(part.iter().map(|key| self.commands.invocation(key.command, agent))).await?;
            for (key, row) in part.iter().zip(rows) {
                let Some(row) = row else { continue };
                if row.attempt == key.number {
                    if row.state == State::Lost {
                        lost.insert(*key, Given::Up);
                    }
                } else if row.attempt > key.number {
                    let before = self.commands.attempts(key.command, agent).await?;
                    if before.iter().any(|attempt| attempt.number == key.number && attempt.state == State::Lost) {
                        lost.insert(*key, Given::Another);
                    }
                }
            }
        }
        Ok(lost)
    }

    /// How far a stream is stored without a gap.
    async fn stored(&self, key: AttemptKey, agent: AgentId, stream: Stream) -> Result<u64, StoreError> {
        let mut offset = 0;
        while offset < HAVE_MAX_BYTES {
            let chunks = self.commands.output(key, agent, stream, offset, READ_BYTES).await?;
            let before = offset;
            for chunk in chunks {
                if chunk.offset != offset {
                    return Ok(offset);
                }
                offset += chunk.data.len() as u64;
            }
            if offset == before {
                break;
            }
        }
        Ok(offset)
    }
}

/// On the word of this session: void as soon as the agent has opened a later one, at whichever host.
fn advance(key: AttemptKey, agent: AgentId, epoch: u64, events: Vec<Event>, at: Timestamp) -> Advance {
    Advance { key, agent, events, at, message: None, end: None, word: Word::Session(epoch) }
}
