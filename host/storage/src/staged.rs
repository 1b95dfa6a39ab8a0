//! What one transaction tells besides its rows: events, numbered in the order of commits, and audit
//! entries.
//!
//! Invariant: numbers only grow. Those of a transaction that failed are not used again.

use std::sync::Arc;

use domain::agent::AgentStatus;
use domain::audit::Entry;
use domain::event::{Event, What};
use domain::time::Timestamp;
use plan::id::AgentId;

use crate::trail;

/// Events and audit entries of the transaction under way.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    last: u64,
    events: Vec<Arc<Event>>,
    audits: Vec<Entry>,
}

/// A place to come back to when a part of the transaction is rolled back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    last: u64,
    events: usize,
    audits: usize,
}

impl Staged {
    /// Nothing yet; the next event will be number `last` + 1.
    pub fn after(last: u64) -> Staged {
        Staged { last, ..Staged::default() }
    }

    /// Adds an event and answers its number.
    pub fn event(&mut self, at: Timestamp, what: What) -> u64 {
        self.last += 1;
        self.events.push(Arc::new(Event { seq: self.last, at, what }));
        self.last
    }

    /// Adds the event that an agent came, went or was changed.
    pub fn agent(&mut self, at: Timestamp, agent: AgentId, status: AgentStatus) {
        self.event(at, What::Agent { agent, status });
    }

    /// Moves all numbers up by `base`, once it is known where this transaction's begin.
    pub fn settle(&mut self, base: u64) {
        self.last += base;
        for event in &mut self.events {
            Arc::make_mut(event).seq += base;
        }
    }

    /// Adds an audit entry.
    pub fn audit(&mut self, entry: Entry) {
        self.audits.push(trail::settled(entry));
    }

    /// Where it stands.
    pub fn mark(&self) -> Mark {
        Mark { last: self.last, events: self.events.len(), audits: self.audits.len() }
    }

    /// Forgets everything after `mark`; nobody has seen it.
    pub fn rewind(&mut self, mark: Mark) {
        self.last = mark.last;
        self.events.truncate(mark.events);
        self.audits.truncate(mark.audits);
    }

    /// The number of the last event.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The events, ascending.
    pub fn events(&self) -> &[Arc<Event>] {
        &self.events
    }

    /// The audit entries, in order.
    pub fn audits(&self) -> &[Entry] {
        &self.audits
    }
}
