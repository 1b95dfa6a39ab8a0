//! What hosts that share a store learn of each other by it.
//!
//! A store that one host has for itself answers as written here: it has no neighbours, and nothing is to be
//! looked for that this host did not do by itself.

use std::time::Duration;

use async_trait::async_trait;
use domain::agent::Agent;
use domain::time::Timestamp;
use plan::id::{AgentId, AttemptKey};

use crate::error::StoreError;

/// Hosts beside this one.
#[async_trait]
pub trait Hosts: Send + Sync {
    /// Whether other hosts may work with the store, too.
    fn is_shared(&self) -> bool {
        false
    }

    /// Says that this host lives, and answers how many others have said so within `silence`. Durable on return.
    async fn beat(&self, silence: Duration) -> Result<u32, StoreError> {
        let _ = silence;
        Ok(0)
    }

    /// Closes the sessions of hosts that have said nothing for `silence`; what they may have sent stays marked.
    /// Answers how many sessions. Hosts that do so at once take turns.
    async fn bury(&self, silence: Duration, at: Timestamp) -> Result<u64, StoreError> {
        let _ = (silence, at);
        Ok(0)
    }

    /// Agents that came, went or were changed after this event, by whichever host.
    async fn agents_since(&self, after: u64, limit: u32) -> Result<Changes, StoreError> {
        let _ = limit;
        Ok(Changes { agents: Vec::new(), upto: after })
    }

    /// Every agent, and where it is.
    async fn agents_anywhere(&self) -> Result<Vec<Found>, StoreError> {
        Ok(Vec::new())
    }

    /// One agent, and where it is.
    async fn agent(&self, id: AgentId) -> Result<Option<Found>, StoreError> {
        let _ = id;
        Ok(None)
    }

    /// Agents with a session at this host for which something waits, and what comes first of it.
    async fn waiting(&self) -> Result<Vec<(AgentId, AttemptKey)>, StoreError> {
        Ok(Vec::new())
    }

    /// Has all hosts use the same key: `mine` is this host's, the present one first. Records it where none is
    /// recorded, or one that this host's took the place of, or, with `replace`, any while no other host is at work;
    /// else answers the one that is recorded and that this host does not have.
    async fn agree(&self, what: &'static str, mine: &[String], replace: bool) -> Result<Option<String>, StoreError> {
        let _ = (what, mine, replace);
        Ok(None)
    }
}

/// Agents that changed.
#[derive(Clone, Debug)]
pub struct Changes {
    /// As they are now, each once.
    pub agents: Vec<Found>,
    /// The event to go on after.
    pub upto: u64,
}

/// An agent, and whether it has a session.
#[derive(Clone, Debug)]
pub struct Found {
    /// As it is stored.
    pub agent: Agent,
    /// Its latest session is open, here or elsewhere.
    pub open: bool,
}
