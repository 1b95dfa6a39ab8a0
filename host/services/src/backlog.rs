//! How much waits, counted in memory so that a submission need not ask the store. Whoever accepts counts up,
//! whoever commits an end counts down; a recount now and then makes it right again whatever was missed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::attempt::State;
use domain::event::{Event, What};
use plan::id::AgentId;
use ports::delivery::Delivery;
use ports::error::StoreError;

/// The bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Invocations of one agent that are not over, at most.
    pub per_agent: u64,
    /// Invocations of all agents that are not over, at most.
    pub in_all: u64,
}

/// What is not over.
pub struct Backlog {
    bounds: Bounds,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    by_agent: HashMap<AgentId, u64>,
    in_all: u64,
}

/// There is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// For one agent.
    #[error("{waiting} commands wait for agent {agent} already, at most {bound} may")]
    Agent {
        /// Which.
        agent: AgentId,
        /// How many are not over.
        waiting: u64,
        /// How many may be.
        bound: u64,
    },
    /// For all of them.
    #[error("{waiting} invocations are not over yet, at most {bound} may be")]
    All {
        /// How many are not over.
        waiting: u64,
        /// How many may be.
        bound: u64,
    },
}

impl Backlog {
    /// Nothing waits, as far as is known.
    pub fn new(bounds: Bounds) -> Backlog {
        Backlog { bounds, counts: Mutex::default() }
    }

    /// Counts again what the store holds.
    ///
    /// # Errors
    /// The store's; the old counts stand then.
    pub async fn recount(&self, store: &dyn Delivery) -> Result<(), StoreError> {
        let by_agent: HashMap<AgentId, u64> = store.backlog().await?.into_iter().collect();
        let in_all = by_agent.values().sum();
        *self.lock() = Counts { by_agent, in_all };
        Ok(())
    }

    /// Makes room for one more invocation of each of these agents, or of none of them.
    ///
    /// # Errors
    /// The bound that stands in the way.
    pub fn admit(&self, agents: &[AgentId]) -> Result<(), Full> {
        let Bounds { per_agent, in_all } = self.bounds;
        let mut counts = self.lock();
        let waiting = counts.in_all;
        if waiting.saturating_add(agents.len() as u64) > in_all {
            return Err(Full::All { waiting, bound: in_all });
        }
        let waiting = |agent: &&AgentId| counts.by_agent.get(agent).is_some_and(|waiting| *waiting >= per_agent);
        if let Some(agent) = agents.iter().find(waiting) {
            let waiting = counts.by_agent.get(agent).copied().unwrap_or_default();
            return Err(Full::Agent { agent: *agent, waiting, bound: per_agent });
        }
        for agent in agents {
            counts.add(*agent);
        }
        Ok(())
    }

    /// What was admitted was not stored.
    pub fn forget(&self, agents: &[AgentId]) {
        let mut counts = self.lock();
        for agent in agents {
            counts.take(*agent);
        }
    }

    /// Takes note of what was committed.
    pub fn heard(&self, events: &[Arc<Event>]) {
        let mut counts: Option<MutexGuard<'_, Counts>> = None;
        for event in events {
            let What::State { agent, state, .. } = &event.what else { continue };
            // An attempt that ended may be followed by another, which is held.
            if state.is_terminal() {
                counts.get_or_insert_with(|| self.lock()).take(*agent);
            } else if *state == State::Held {
                counts.get_or_insert_with(|| self.lock()).add(*agent);
            }
        }
    }

    /// How many are not over.
    pub fn waiting(&self) -> u64 {
        self.lock().in_all
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn add(&mut self, agent: AgentId) {
        *self.by_agent.entry(agent).or_default() += 1;
        self.in_all += 1;
    }

    fn take(&mut self, agent: AgentId) {
        if let Some(waiting) = self.by_agent.get_mut(&agent) {
            *waiting -= 1;
            self.in_all = self.in_all.saturating_sub(1);
            if *waiting == 0 {
                self.by_agent.remove(&agent);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::time::Timestamp;
    use plan::id::CommandId;
    use uuid::Uuid;

    use super::*;

    fn agent(number: u128) -> AgentId {
        AgentId(Uuid::from_u128(number))
    }

    fn event(agent: AgentId, state: State) -> Arc<Event> {
        let command = CommandId(Uuid::from_u128(9));
        let what = What::State { command, agent, attempt: 1, state, reason: None };
        Arc::new(Event { seq: 1, at: Timestamp(0), what })
    }

    #[test]
    fn there_is_room_up_to_each_bound_and_an_end_makes_more() {
        let backlog = Backlog::new(Bounds { per_agent: 2, in_all: 3 });
        let (a, b, c) = (agent(1), agent(2), agent(3));
        assert_eq!(backlog.admit(&[a, b]), Ok(()));
        assert_eq!(backlog.admit(&[b, c]), Err(Full::All { waiting: 2, bound: 3 }));
        assert_eq!(backlog.admit(&[a]), Ok(()));
        backlog.heard(&[event(b, State::Running), event(b, State::Failed)]);
        assert_eq!(backlog.admit(&[a]), Err(Full::Agent { agent: a, waiting: 2, bound: 2 }));
        assert_eq!(backlog.waiting(), 2);
        backlog.heard(&[event(a, State::Failed), event(a, State::Held)]);
        assert_eq!(backlog.waiting(), 2, "tried again");
        backlog.forget(&[a, a]);
        backlog.heard(&[event(a, State::Lost), event(a, State::Succeeded)]);
        assert_eq!(backlog.waiting(), 0, "an amended loss counts nothing twice below zero");
    }
}
