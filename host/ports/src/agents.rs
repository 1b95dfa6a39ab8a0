//! Rows of agents, their sessions and their join tokens.

use std::collections::BTreeMap;

use async_trait::async_trait;
use domain::agent::{Agent, Facts, Placed};
use domain::audit::Entry;
use domain::time::Timestamp;
use plan::id::{AgentId, TokenId};

use crate::error::StoreError;
use crate::replies::Once;

/// Agents and join tokens.
#[async_trait]
pub trait Agents: Send + Sync {
    /// Every agent, revoked and deleted ones too.
    async fn agents(&self) -> Result<Vec<Agent>, StoreError>;

    /// One agent, as it is now.
    async fn agent(&self, agent: AgentId) -> Result<Option<Agent>, StoreError>;

    /// Uses up a join token and stores a new agent, in one transaction. Durable on return.
    async fn join(&self, join: NewAgent) -> Result<Joined, StoreError>;

    /// Opens a session: stores the facts, raises `session_epoch` by one and sets `maybe_sent`.
    /// Answers the new epoch; `None` when the agent is gone, revoked, or not approved yet. Durable on return.
    async fn open_session(&self, agent: AgentId, facts: &Facts, at: Timestamp) -> Result<Option<u64>, StoreError>;

    /// Ends the session `epoch`, if it is still the latest: stores `last_seen` and `maybe_sent`.
    async fn close_session(
        &self,
        agent: AgentId,
        epoch: u64,
        at: Timestamp,
        maybe_sent: bool,
    ) -> Result<(), StoreError>;

    /// Agents with sessions that are stored as open at this host, and their numbers.
    async fn sessions_here(&self) -> Result<Vec<(AgentId, u64)>, StoreError>;

    /// Says that this host lives. Should it die, its agents were last seen then: rows of those that are in session are
    /// not touched as long as nothing happens.
    async fn alive(&self, at: Timestamp) -> Result<(), StoreError>;

    /// Changes what an operator may change. `None` when there is no such agent; [`StoreError::Stale`] when it is
    /// no longer as expected.
    async fn change(&self, agent: AgentId, change: AgentChange, audit: Entry) -> Result<Option<Agent>, StoreError>;

    /// Lets in an agent that waited for it. `None` when there is no such agent; [`StoreError::Stale`], as of the
    /// other orders, when it is no longer as expected.
    async fn approve(&self, agent: AgentId, expected: Expected, audit: Entry) -> Result<Option<Agent>, StoreError>;

    /// Revokes an agent's key for ever. `None` when there is no such agent.
    async fn revoke(&self, order: Order) -> Result<Option<Agent>, StoreError>;

    /// Revokes an agent's key for ever and gives its name free; its rows stay. `None` when there is no such
    /// agent any more.
    async fn delete_agent(&self, order: Order) -> Result<Option<Agent>, StoreError>;

    /// Notes that an agent is to make another key. `None` when there is no such agent.
    async fn ask_rotation(&self, order: Order) -> Result<Option<Agent>, StoreError>;

    /// Puts another key in the place of `from` and refuses that for ever, in one transaction. Durable on return.
    /// `None` when the agent's key is another by now, or `to` was somebody's before.
    async fn rotate_key(
        &self,
        agent: AgentId,
        keys: Rotation,
        at: Timestamp,
        audit: Entry,
    ) -> Result<Option<Agent>, StoreError>;

    /// Stores a join token, with the reply that is kept for who asked.
    async fn create_token(&self, token: JoinToken, audit: Entry, once: Option<Once>) -> Result<(), StoreError>;

    /// A join token.
    async fn token(&self, token: TokenId) -> Result<Option<JoinToken>, StoreError>;

    /// Tokens, newest first.
    async fn tokens(&self) -> Result<Vec<JoinToken>, StoreError>;

    /// Makes a token useless. `false` when there is no such token.
    async fn revoke_token(&self, token: TokenId, at: Timestamp, audit: Entry) -> Result<bool, StoreError>;

    /// Forgets up to `most` join tokens that were used, revoked or expired before that; answers how many.
    async fn forget_tokens(&self, before: Timestamp, most: u32) -> Result<u64, StoreError>;
}

/// What an order was decided about: it is carried out only if all that operators change of the agent is still this.
pub type Expected = Option<Box<Placed>>;

/// What an operator orders of an agent's key.
#[derive(Clone, Debug)]
pub struct Order {
    /// Whose.
    pub agent: AgentId,
    /// What it was decided about.
    pub expected: Expected,
    /// When it counts from.
    pub at: Timestamp,
    /// Recorded with it.
    pub audit: Entry,
}

/// An agent on its way into the store. Site and labels come from the token.
#[derive(Clone, Debug)]
pub struct NewAgent {
    /// The token it brought.
    pub token: TokenId,
    /// SHA-256 of the token's secret, lower-case hex.
    pub secret_sha256: String,
    /// Its fresh id.
    pub id: AgentId,
    /// The name it asks for.
    pub name: String,
    /// Its public key, base64url.
    pub public_key: String,
    /// It waits for approval whatever its token says.
    pub needs_approval: bool,
    /// Now.
    pub at: Timestamp,
    /// For the audit log.
    pub audit: Entry,
}

/// What came of a join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Joined {
    /// The agent is enrolled.
    Enrolled(Box<Agent>),
    /// No such token, wrong secret, used up, expired or revoked; which one is for the log only.
    TokenRefused(&'static str),
    /// Another agent has the name, or a revoked one that was not deleted.
    NameTaken,
    /// The key was revoked, or another took its place.
    KeyRetired,
}

/// One key of an agent for another, both base64url.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The one that counts until now.
    pub from: String,
    /// The one that counts from then on.
    pub to: String,
}

/// A one-time permission to enrol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    /// Its public half.
    pub id: TokenId,
    /// SHA-256 of its secret half, lower-case hex.
    pub secret_sha256: String,
    /// The site its agent will belong to.
    pub site: String,
    /// Labels its agent will have.
    pub labels: BTreeMap<String, String>,
    /// Its agent waits for an operator's approval.
    pub needs_approval: bool,
    /// Name of the user who made it.
    pub created_by: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Useless from then on.
    pub expires_at: Timestamp,
    /// When it was used, if it was.
    pub used_at: Option<Timestamp>,
    /// The agent that used it.
    pub used_by: Option<AgentId>,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
}

/// What an operator may change of an agent. Absent = as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentChange {
    /// Its site.
    pub site: Option<String>,
    /// All its host-side labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Its maintenance.
    pub maintenance: Option<bool>,
    /// Only if all that is changed by operators is still this.
    pub expected: Expected,
}
