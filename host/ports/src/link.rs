//! What the host says to connected agents. Answered by whoever owns the sockets.

use plan::id::{AgentId, AttemptKey};

use crate::commands::{Due, Open};

/// Reaches agents that are connected to this host.
///
/// An offer is no promise: what cannot be said now is read from the store when the agent's session next
/// looks, so an offer lost costs latency, never a command. A wish to end an attempt is never lost while the
/// session is there, and it comes before anything more is sent.
pub trait Link: Send + Sync {
    /// Offers freshly accepted invocations to their agents' sessions.
    fn offer(&self, due: Vec<Due>);

    /// Asks the agent's session to end an attempt: it alone knows whether it was sent. Answers
    /// `false` when the agent has no session here, so that the caller must settle it.
    fn settle(&self, open: Open, why: Settle) -> bool;

    /// The store may have lost what nobody waited for, and may hold what it seemed to refuse: every
    /// session says again where its attempts stand, and reads again what waits for its agent.
    fn retell(&self) {}

    /// Has an agent's session ask it for another key; without a session the next one does.
    fn ask_key(&self, agent: AgentId) {
        let _ = agent;
    }

    /// In the store this is first of what waits for the agent: its session, if it does not know of it, reads.
    fn look(&self, agent: AgentId, first: AttemptKey) {
        let _ = (agent, first);
    }

    /// The agent's latest session has this number and is open or is not: one that is open here and is not that
    /// one has been overtaken at another host, and ends.
    fn latest(&self, agent: AgentId, epoch: u64, open: bool) {
        let _ = (agent, epoch, open);
    }

    /// This host has lost touch with the store, which others have not: every session ends, so that its agent
    /// finds another host.
    fn leave_all(&self) {}

    /// Ends an agent's session at once, e.g. because its key was revoked.
    fn cut(&self, agent: AgentId, reason: &str);
}

/// Why an attempt is to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Settle {
    /// Somebody asked to cancel it.
    Cancel,
    /// Its start deadline passed.
    StartDeadline,
    /// Its rollout halted: it ends if it was not sent, and goes on if it was.
    Halt,
}
