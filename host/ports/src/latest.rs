//! What agents said last of their machines, told to other hosts.

use std::sync::Arc;

use async_trait::async_trait;
use domain::telemetry::report::Reading;
use domain::time::Timestamp;
use plan::id::AgentId;

/// What an agent said last of its machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Latest {
    /// As it said it, JSON text.
    pub sample: Arc<str>,
    /// When it was taken, as far as is believed.
    pub at: Timestamp,
    /// When it came.
    pub received_at: Timestamp,
    /// How far the agent's clock is ahead of the host's that it came to.
    pub skew_ms: i64,
    /// Its numbers.
    pub readings: Vec<Reading>,
}

/// Where all hosts put up what they were told. Nothing on it is ever the only copy: it all is told again soon.
#[async_trait]
pub trait Board: Send + Sync {
    /// Puts this up in a while, in place of what the agent said before. Never waits.
    fn put(&self, agent: AgentId, latest: Arc<Latest>);

    /// What is up of these agents; nothing when nobody answers in time.
    async fn of(&self, agents: &[AgentId]) -> Vec<(AgentId, Latest)>;
}
