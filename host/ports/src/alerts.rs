//! Alerts as they are kept: where each stands, what became of it, what rules remember, what is silenced.

use async_trait::async_trait;
use domain::alert::Severity;
use domain::alert::life;
use domain::alert::mute::{Mute, Silence};
use domain::alert::standing::{Alert, Line};
use domain::audit::Entry;
use domain::time::Timestamp;
use plan::id::{AgentId, AlertId, SilenceId};

use crate::error::StoreError;
use crate::replies::Once;
use crate::rules::State;

/// Most agents of one question.
pub const AGENTS_AT_ONCE: usize = 500;

/// An alert and whose it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// Its id, the same for all the times it fires.
    pub id: AlertId,
    /// The rule.
    pub rule: String,
    /// The agent; none where it is of no agent.
    pub agent: Option<AgentId>,
    /// The agent's name when it was last judged.
    pub agent_name: String,
    /// Its site then.
    pub site: String,
    /// Which thing of it.
    pub key: String,
    /// Where it stands.
    pub alert: Alert,
    /// Why nobody is told.
    pub muted: Option<Mute>,
    /// Counts up with each change; 0 = not stored yet.
    pub revision: u64,
}

/// One line of a timeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Moment {
    /// When.
    pub at: Timestamp,
    /// What became of it.
    pub line: Line,
    /// How bad it was then.
    pub severity: Option<Severity>,
    /// The number then.
    pub value: Option<f64>,
    /// What the rule said.
    pub message: String,
    /// Who did it, if somebody did.
    pub actor: Option<String>,
    /// What they said.
    pub note: Option<String>,
}

/// An alert as it is to be, and what became of it on the way.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The alert; its revision is the one that was read.
    pub alert: Kept,
    /// In order.
    pub moments: Vec<Moment>,
    /// What people are to be told, JSON.
    pub news: Vec<String>,
}

/// What a rule remembers of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Of whom.
    pub agent: AgentId,
    /// The rule.
    pub rule: String,
    /// What; none is nothing any more.
    pub state: Option<State>,
}

/// Which alerts are wanted; an absent part lets everything through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertFilter {
    /// In one of these states, by name; in any that is not over when empty.
    pub states: Vec<&'static str>,
    /// So bad.
    pub severity: Option<Severity>,
    /// Of this rule.
    pub rule: Option<String>,
    /// Of this agent.
    pub agent: Option<AgentId>,
    /// Of agents at these sites.
    pub sites: Option<Vec<String>>,
}

/// Some of the alerts that are not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertShare {
    /// Of this rule.
    pub rule: String,
    /// They stand so.
    pub state: life::State,
    /// So many.
    pub count: u64,
}

/// A silence as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptSilence {
    /// Its id.
    pub id: SilenceId,
    /// What it is about, and when.
    pub silence: Silence,
    /// Who wants it.
    pub created_by: String,
    /// Since when it is known.
    pub created_at: Timestamp,
    /// Why.
    pub comment: String,
}

/// Where alerts are kept.
#[async_trait]
pub trait Alerts: Send + Sync {
    /// What rules remember of these agents, [`AGENTS_AT_ONCE`] at most.
    async fn remembered(&self, agents: &[AgentId]) -> Result<Vec<Remembered>, StoreError>;

    /// All alerts of these agents, over or not; those of no agent when there is none among them.
    async fn alerts_of(&self, agents: &[AgentId]) -> Result<Vec<Kept>, StoreError>;

    /// Stores what a judgement made of alerts, tells of it, and remembers. What was changed by somebody else since
    /// it was read is left as it is; answers whose that is.
    async fn keep_alerts(
        &self,
        changes: Vec<Change>,
        remembered: Vec<Remembered>,
        audit: Option<Entry>,
    ) -> Result<Vec<AlertId>, StoreError>;

    /// One alert.
    async fn alert(&self, id: AlertId) -> Result<Option<Kept>, StoreError>;

    /// A page of alerts, the newest ids first.
    async fn alerts(&self, filter: &AlertFilter, before: Option<AlertId>, limit: u32) -> Result<Vec<Kept>, StoreError>;

    /// How many alerts are not over, by rule and how they stand.
    async fn alert_shares(&self) -> Result<Vec<AlertShare>, StoreError>;

    /// What became of an alert, newest first, lines below `before`, with their numbers.
    async fn timeline(&self, id: AlertId, before: Option<u64>, limit: u32) -> Result<Vec<(u64, Moment)>, StoreError>;

    /// Drops alerts that have been over since before `before`, with what became of them. Answers how many.
    async fn forget_alerts(&self, before: Timestamp) -> Result<u64, StoreError>;
}

/// Where silences are kept.
#[async_trait]
pub trait Silences: Send + Sync {
    /// Silences that end after `now`, the newest ids first.
    async fn silences(&self, now: Timestamp) -> Result<Vec<KeptSilence>, StoreError>;

    /// Stores a silence.
    async fn add_silence(&self, silence: KeptSilence, audit: Entry, once: Option<Once>) -> Result<(), StoreError>;

    /// Ends a silence at `now`. `false` when there is none that lasts.
    async fn end_silence(&self, id: SilenceId, now: Timestamp, audit: Entry) -> Result<bool, StoreError>;

    /// Drops silences that ended before `before`.
    async fn forget_silences(&self, before: Timestamp) -> Result<u64, StoreError>;
}
