//! What background work asks of the store: what is due again, what a rollout may let go, how much waits.
//! Everything here looks at the rows and makes it so; asking twice does no harm.

use async_trait::async_trait;
use domain::attempt::State;
use domain::command::Status;
use domain::priority::Priority;
use domain::rollout::Decision;
use domain::time::Timestamp;
use plan::id::{AgentId, CommandId};

use crate::commands::{Due, Open};
use crate::error::StoreError;

/// Commands on their way.
#[async_trait]
pub trait Delivery: Send + Sync {
    /// Attempts that are `held(retry)` and due by `now`, soonest first. Changes nothing.
    async fn retries(&self, now: Timestamp, limit: u32) -> Result<Vec<Due>, StoreError>;

    /// Commands that have invocations held by their rollout, by id, those after `after`.
    async fn rolling(&self, after: Option<CommandId>, limit: u32) -> Result<Vec<CommandId>, StoreError>;

    /// Tallies one command's invocations and does what [`domain::rollout::Rollout::decide`] says, in one
    /// transaction: lets some go, by agent id, or halts: skips what is held, writes the cause on the command
    /// so that nothing more of it is sent, marks what still reads `queued`, and with `on_halt: cancel` records
    /// on what was sent that a cancel was asked for. Durable on return.
    async fn roll(&self, command: CommandId, now: Timestamp) -> Result<Rolled, StoreError>;

    /// Invocations that are not over and asked to end, by a cancel or by a halt before they were sent, and that
    /// can be ended here: this host owns a session of their agent, or nobody does and nothing was sent. By
    /// command and agent, those after `after`. Changes nothing.
    async fn wished(&self, after: Option<(CommandId, AgentId)>, limit: u32) -> Result<Vec<Open>, StoreError>;

    /// How many invocations of each agent are not over; agents with none left out.
    async fn backlog(&self) -> Result<Vec<(AgentId, u64)>, StoreError>;

    /// How many invocations are not over, by site, state and priority.
    async fn open_shares(&self) -> Result<Vec<OpenShare>, StoreError>;

    /// How many commands are not over, by status; with `sites`, those that have an invocation at one of them.
    async fn open_commands(&self, sites: Option<&[String]>) -> Result<Vec<(Status, u64)>, StoreError>;
}

/// Some of what is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenShare {
    /// At this site.
    pub site: String,
    /// In this state.
    pub state: State,
    /// Of this priority.
    pub priority: Priority,
    /// So many invocations.
    pub count: u64,
}

/// What came of a look at a rollout.
#[derive(Clone, Debug)]
pub struct Rolled {
    /// What was decided and done.
    pub decision: Decision,
    /// Let go: now `queued`.
    pub released: Vec<Due>,
    /// It halted, and these still read `queued`: whoever owns their sessions knows whether they were sent.
    pub unsent: Vec<Open>,
    /// It halted and asks what was sent to end; recorded on these.
    pub cancelled: Vec<Open>,
}
