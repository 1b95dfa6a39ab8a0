//! Whether the word on which an attempt is to be moved still counts, by what the store knows of the sessions
//! of its agent.
//!
//! Invariant: asked in the transaction that moves the attempt, of rows that stay as they are until it is over.

use std::collections::HashMap;

use domain::attempt::{Reason, State};
use plan::id::AgentId;
use ports::commands::{Advance, Word};

/// What is known of one agent's sessions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sessions {
    /// The latest.
    pub epoch: u64,
    /// One of them may have sent what reads `queued`.
    pub maybe_sent: bool,
    /// One is open at a host that lives.
    pub owned: bool,
}

/// What is known of the agents whose attempts are moved on a word that may be void.
#[derive(Debug, Default)]
pub(crate) struct Fences(HashMap<AgentId, Sessions>);

impl Fences {
    /// The agents that have to be asked about, ascending.
    pub fn asked<'a>(advances: impl Iterator<Item = &'a Advance>) -> Vec<AgentId> {
        let fenced = advances.filter(|advance| advance.word != Word::Anyone).map(|advance| advance.agent);
        let mut agents: Vec<AgentId> = fenced.collect();
        agents.sort_unstable();
        agents.dedup();
        agents
    }

    /// Takes in what is known of one of them.
    pub fn put(&mut self, agent: AgentId, sessions: Sessions) {
        self.0.insert(agent, sessions);
    }

    /// Whether `word` on an attempt of this agent, which stands so, is void.
    pub fn is_void(&self, agent: AgentId, word: Word, state: State, reason: Option<Reason>) -> bool {
        if word == Word::Anyone {
            return false;
        }
        // Nobody can have a word on an agent that is not there.
        let Some(sessions) = self.0.get(&agent) else { return true };
        match word {
            Word::Anyone => false,
            Word::Session(epoch) => epoch != sessions.epoch,
            Word::NeverSent => {
                let held = state == State::Held && reason != Some(Reason::Restored);
                sessions.maybe_sent && !held
            }
            Word::NoSession => sessions.owned,
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn each_word_is_void_when_somebody_else_knows_better() {
        let agent = AgentId(Uuid::from_u128(1));
        let mut fences = Fences::default();
        let mut void = |epoch, maybe_sent, owned, word, state, reason| {
            fences.put(agent, Sessions { epoch, maybe_sent, owned });
            fences.is_void(agent, word, state, reason)
        };
        let (queued, held, restored) = (State::Queued, State::Held, Some(Reason::Restored));
        assert!(!void(2, true, true, Word::Session(2), queued, None));
        assert!(void(3, true, true, Word::Session(2), queued, None), "a later session is open");
        assert!(!void(3, false, false, Word::NeverSent, queued, None));
        assert!(void(3, true, false, Word::NeverSent, queued, None), "it may have been sent before a crash");
        assert!(!void(3, true, true, Word::NeverSent, held, Some(Reason::Rollout)), "what is held was not sent");
        assert!(void(3, true, true, Word::NeverSent, held, restored), "unless it came out of a backup");
        assert!(!void(3, true, false, Word::NoSession, queued, None));
        assert!(void(3, true, true, Word::NoSession, queued, None), "its owner knows");
        assert!(!void(3, true, true, Word::Anyone, queued, None));
        assert!(fences.is_void(AgentId(Uuid::from_u128(2)), Word::NeverSent, queued, None), "nobody knows that agent");
    }
}
