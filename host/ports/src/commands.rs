//! Rows of commands, invocations, attempts and output.
//!
//! Writes come in two kinds. Those that somebody waits for (`accept`, `advance`, `request_cancel`)
//! return after the commit that holds them, which they share with whatever else was waiting. Those
//! that nobody waits for (`note`, `append`) ride along with the next commit; a result swallows the
//! states it overtook.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use domain::attempt::{Event, Reason, State};
use domain::audit::Entry;
use domain::command::{Attempt, Command, CommandView, Invocation, NewInvocation, Status};
use domain::priority::Priority;
use domain::rollout::Share;
use domain::time::Timestamp;
use plan::envelope::SignedEnvelope;
use plan::id::{AgentId, AttemptKey, CommandId};
use plan::outcome::{Outcome, Stream};

use crate::error::StoreError;
use crate::replies::Once;

/// Commands and everything below them.
#[async_trait]
pub trait Commands: Send + Sync {
    /// Stores a command, its invocations (attempt 1, `queued` or held by its rollout), its audit entry, its
    /// first status event and the reply that is kept for it in one transaction. Durable on return. A key
    /// for which a reply is kept already is a conflict, and nothing is stored.
    async fn accept(&self, command: NewCommand) -> Result<(), StoreError>;

    /// Applies events to an attempt by [`domain::attempt::step`], in order, and says where it stands.
    /// Durable on return. An attempt that does not exist answers `None`. One that ended and is to be tried
    /// again ([`domain::retry::Retry::next`]) goes into history in the same transaction, and the next one
    /// is `held(retry)`. An attempt in history is amended there. Nothing is applied on a void [`Word`].
    async fn advance(&self, advance: Advance) -> Result<Option<Advanced>, StoreError>;

    /// As [`advance`](Self::advance), but nobody waits: it rides with the next commit and may be lost
    /// in a crash. Only for states that the agent's next HELLO would tell again.
    fn note(&self, advance: Advance);

    /// Stores output in the order of arrival; bytes already stored at an offset are kept once. Nobody
    /// waits, but a later `advance` of the same attempt commits after it.
    fn append(&self, chunk: Chunk);

    /// Records on every open invocation of a command, or on those at `sites` alone, that a cancel was asked for,
    /// with the audit entry, and returns them. Changes no state. Durable on return.
    async fn request_cancel(
        &self,
        command: CommandId,
        sites: Option<Vec<String>>,
        at: Timestamp,
        audit: Entry,
    ) -> Result<Vec<Open>, StoreError>;

    /// One command.
    async fn command(&self, id: CommandId) -> Result<Option<CommandView>, StoreError>;

    /// Commands that pass `filter`, newest first.
    async fn commands(&self, filter: &CommandFilter, page: &Page) -> Result<Vec<CommandView>, StoreError>;

    /// Invocations of a command by agent id, those after `after`.
    async fn invocations(
        &self,
        command: CommandId,
        state: Option<State>,
        after: Option<AgentId>,
        limit: u32,
    ) -> Result<Vec<Invocation>, StoreError>;

    /// One invocation.
    async fn invocation(&self, command: CommandId, agent: AgentId) -> Result<Option<Invocation>, StoreError>;

    /// Earlier attempts of an invocation, first to last.
    async fn attempts(&self, command: CommandId, agent: AgentId) -> Result<Vec<Attempt>, StoreError>;

    /// A command's invocations by site, state and reason.
    async fn rollup(&self, command: CommandId) -> Result<Vec<Share>, StoreError>;

    /// A command's ended invocations by their typed result, or by one value in it: the largest groups
    /// first, at most `limit`.
    async fn groups(&self, command: CommandId, by: &[String], limit: u32) -> Result<Vec<Group>, StoreError>;

    /// What waits for an agent, in queue order, leaving out what was asked to be cancelled.
    async fn due(&self, agent: AgentId, limit: u32) -> Result<Vec<Due>, StoreError>;

    /// Invocations of a command that are held for `reason`, by agent id, those after `after`, with what
    /// they would be sent.
    async fn held(
        &self,
        command: CommandId,
        reason: Reason,
        after: Option<AgentId>,
        limit: u32,
    ) -> Result<Vec<Due>, StoreError>;

    /// Gives held attempts of one command other envelopes, with the audit entry; what is no longer held is
    /// left alone. Changes no state. Durable on return.
    async fn reseal(
        &self,
        command: CommandId,
        envelopes: Vec<(AgentId, SignedEnvelope)>,
        audit: Entry,
    ) -> Result<(), StoreError>;

    /// Every open invocation of an agent, for reconciling at HELLO.
    async fn open(&self, agent: AgentId) -> Result<Vec<Open>, StoreError>;

    /// Unsent or unacknowledged attempts whose start deadline is before `now`, by their places, those after `after`.
    async fn overdue(&self, now: Timestamp, after: Option<Place>, limit: u32) -> Result<Vec<Overdue>, StoreError>;

    /// Sent, accepted or running attempts of agents last seen before `seen_before`.
    async fn abandoned(&self, seen_before: Timestamp, limit: u32) -> Result<Vec<Open>, StoreError>;

    /// Lets go of stored output that its agent does not keep either: whole chunks inside `gone`. What is
    /// left of it is bytes too many, never too few, so a store may also let go of less.
    async fn let_go(
        &self,
        key: AttemptKey,
        agent: AgentId,
        stream: Stream,
        gone: Range<u64>,
    ) -> Result<(), StoreError> {
        let _ = (key, agent, stream, gone);
        Ok(())
    }

    /// Takes one small step at forgetting output that came before `before`, the oldest first, and makes room for
    /// what is to come. Answers whether there may be more to forget.
    async fn forget_output(&self, before: Timestamp) -> Result<bool, StoreError> {
        let _ = before;
        Ok(false)
    }

    /// Stored output of one attempt's stream from `offset` on, by offset, at most `limit` bytes (at
    /// least one chunk). The first chunk may begin before `offset`: it is cut to it.
    async fn output(
        &self,
        key: AttemptKey,
        agent: AgentId,
        stream: Stream,
        offset: u64,
        limit: u64,
    ) -> Result<Vec<Chunk>, StoreError>;

    /// Which bytes of one attempt's stream are stored, ascending.
    async fn stored(&self, key: AttemptKey, agent: AgentId, stream: Stream) -> Result<Vec<Range<u64>>, StoreError>;
}

/// A command on its way into the store.
#[derive(Clone, Debug)]
pub struct NewCommand {
    /// The intent.
    pub command: Arc<Command>,
    /// One for each agent; at least one.
    pub invocations: Vec<NewInvocation>,
    /// Who asked.
    pub audit: Entry,
    /// The reply to keep, when the caller gave a key.
    pub once: Option<Once>,
}

/// Invocations that ended alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The state they share.
    pub state: State,
    /// What they share of the typed result, JSON text; absent when they have none of it.
    pub value: Option<String>,
    /// How many there are.
    pub count: u32,
    /// Names of some of them, in order.
    pub agents: Vec<String>,
}

/// Events of one attempt.
#[derive(Clone, Debug)]
pub struct Advance {
    /// Which attempt.
    pub key: AttemptKey,
    /// On which agent.
    pub agent: AgentId,
    /// What happened, in order.
    pub events: Vec<Event>,
    /// When it was learnt.
    pub at: Timestamp,
    /// What a person should know besides.
    pub message: Option<String>,
    /// With a terminal event: how it ended.
    pub end: Option<AttemptEnd>,
    /// On whose word; where that is void, nothing is applied.
    pub word: Word,
}

/// On whose word an attempt is moved. The store asks in the same transaction whether it still counts, so
/// that no host writes down what another one knows better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// True whoever says it: what the agent reported, and what concerns no session.
    Anyone,
    /// Of the owner of this session, on what it sent and did not send: void when its agent has opened a
    /// later one.
    Session(u64),
    /// Of nobody, on what was certainly never sent: void when a session of its agent may have sent it. What
    /// is held was not, unless it came out of a backup.
    NeverSent,
    /// Of nobody, on what may have been sent: void while a host that lives owns a session of its agent.
    NoSession,
}

/// How an attempt ended, as agent and verb say.
#[derive(Clone, Debug)]
pub struct AttemptEnd {
    /// The agent's word.
    pub outcome: Outcome,
    /// The typed result, JSON text.
    pub result: Option<String>,
    /// The verb's one line.
    pub summary: Option<String>,
    /// Why there is no typed result.
    pub parse_fault: Option<String>,
}

/// Where an attempt stands after an advance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advanced {
    /// Its state now.
    pub state: State,
    /// Whether this advance changed it.
    pub moved: bool,
}

/// Bytes of one stream of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Which attempt.
    pub key: AttemptKey,
    /// On which agent.
    pub agent: AgentId,
    /// Which stream.
    pub stream: Stream,
    /// Where the first byte stands.
    pub offset: u64,
    /// The bytes, at least one.
    pub data: Vec<u8>,
    /// When it arrived.
    pub at: Timestamp,
}

/// One invocation ready to be sent.
#[derive(Clone, Debug)]
pub struct Due {
    /// The intent; shared by all its invocations.
    pub command: Arc<Command>,
    /// The agent.
    pub agent: AgentId,
    /// The attempt to send.
    pub attempt: u32,
    /// It is not to start after this.
    pub start_by: Timestamp,
    /// Its rollout halted: it is not to be sent.
    pub halted: bool,
    /// What to send.
    pub envelope: SignedEnvelope,
}

impl Due {
    /// The attempt's key.
    pub fn key(&self) -> AttemptKey {
        AttemptKey { command: self.command.id, number: self.attempt }
    }

    /// Ascending is queue order: priority with ageing, then acceptance.
    pub fn order(&self) -> (i64, CommandId) {
        (self.command.priority.turn(self.command.created_at), self.command.id)
    }
}

/// One invocation that is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// The latest attempt.
    pub key: AttemptKey,
    /// The agent.
    pub agent: AgentId,
    /// Its state.
    pub state: State,
    /// Why, where the state alone does not say.
    pub reason: Option<Reason>,
    /// Whether a cancel was asked for.
    pub cancel_requested: bool,
}

impl Open {
    /// Whether it came out of a backup, so that only its agent can say whether it ever ran.
    pub fn is_restored(&self) -> bool {
        self.reason == Some(Reason::Restored)
    }
}

/// Where one stands among those that have not started in time.
pub type Place = (Timestamp, CommandId, AgentId);

/// One invocation that has not started in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overdue {
    /// The invocation.
    pub open: Open,
    /// When it was to start at the latest.
    pub start_by: Timestamp,
}

impl Overdue {
    /// Its place: who waits longest comes first.
    pub fn place(&self) -> Place {
        (self.start_by, self.open.key.command, self.open.agent)
    }
}

/// Which commands. Absent = any.
#[derive(Clone, Debug, Default)]
pub struct CommandFilter {
    /// Status is one of these.
    pub statuses: Vec<Status>,
    /// Verb is this.
    pub verb: Option<String>,
    /// Priority is this.
    pub priority: Option<Priority>,
    /// Has an invocation on this agent.
    pub agent: Option<AgentId>,
    /// Has an invocation at one of these sites; `None` = anywhere. An empty list is nowhere.
    pub sites: Option<Vec<String>>,
    /// Accepted at or after.
    pub since: Option<Timestamp>,
    /// Accepted before.
    pub until: Option<Timestamp>,
}

/// Part of a list that runs from the newest id down.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Only ids below this.
    pub before: Option<CommandId>,
    /// At most this many, 1 to 500.
    pub limit: u32,
}
