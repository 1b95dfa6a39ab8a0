//! What happened, in the order it was committed. Each event has a number that only grows; a reader
//! that remembers the last number it saw misses nothing and repeats nothing.

use plan::id::{AgentId, AlertId, CommandId};
use plan::outcome::Stream;

use crate::agent::AgentStatus;
use crate::alert;
use crate::alert::standing::Line;
use crate::attempt::{Reason, State};
use crate::command::Status;
use crate::counts::Counts;
use crate::time::Timestamp;

/// One committed event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its place in the order, from 1. The cursor of every live stream.
    pub seq: u64,
    /// When it was committed.
    pub at: Timestamp,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// An attempt changed its state.
    State {
        /// The command.
        command: CommandId,
        /// The agent.
        agent: AgentId,
        /// The attempt, from 1.
        attempt: u32,
        /// Its state now.
        state: State,
        /// Why, where the state alone does not say.
        reason: Option<Reason>,
    },
    /// A command's status changed.
    Status {
        /// The command.
        command: CommandId,
        /// Its status now.
        status: Status,
        /// How many invocations are in each state now.
        counts: Counts,
    },
    /// Output was stored.
    Output {
        /// The command.
        command: CommandId,
        /// The agent.
        agent: AgentId,
        /// The attempt, from 1.
        attempt: u32,
        /// Which stream.
        stream: Stream,
        /// Where in the stream the first byte stands.
        offset: u64,
        /// The bytes.
        data: Vec<u8>,
    },
    /// An agent came, went, or was changed.
    Agent {
        /// The agent.
        agent: AgentId,
        /// Its status now.
        status: AgentStatus,
    },
    /// Something became of an alert.
    Alert {
        /// The alert.
        alert: AlertId,
        /// Whose it is; none for one of no agent.
        agent: Option<AgentId>,
        /// Where it stands now.
        state: alert::life::State,
        /// What became of it.
        line: Line,
    },
    /// The set of verbs changed.
    Plugins {
        /// The registry's generation now.
        generation: u64,
    },
}

impl What {
    /// The command it is about, if it is about one.
    pub fn command(&self) -> Option<CommandId> {
        match self {
            What::State { command, .. } | What::Status { command, .. } | What::Output { command, .. } => Some(*command),
            What::Agent { .. } | What::Alert { .. } | What::Plugins { .. } => None,
        }
    }

    /// The name used in live streams and SQL.
    pub fn kind(&self) -> &'static str {
        match self {
            What::State { .. } => "state",
            What::Status { .. } => "status",
            What::Output { .. } => "output",
            What::Agent { .. } => "agent",
            What::Alert { .. } => "alert",
            What::Plugins { .. } => "plugins",
        }
    }
}
