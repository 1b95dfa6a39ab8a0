//! What machines said of themselves: kept as it came, rolled up, forgotten in time.

use async_trait::async_trait;
use domain::telemetry::report::Report;
use domain::telemetry::rollup::{Bucket, Level};
use domain::time::Timestamp;
use plan::id::AgentId;

use crate::error::StoreError;

/// Most reports of one call of [`Telemetry::store_reports`].
pub const MAX_BATCH: usize = 512;

/// Where telemetry is kept.
#[async_trait]
pub trait Telemetry: Send + Sync {
    /// Stores reports, [`MAX_BATCH`] at most. Of one agent and instant the first is kept; answers how many were
    /// new.
    async fn store_reports(&self, reports: &[Report]) -> Result<u64, StoreError>;

    /// What is kept of one agent at `level` from `from` on and before `to`, oldest first, `at_most` of it. Of
    /// [`Level::Raw`] each report is a bucket.
    async fn buckets(
        &self,
        agent: AgentId,
        level: Level,
        from: Timestamp,
        to: Timestamp,
        at_most: u32,
    ) -> Result<Vec<Bucket>, StoreError>;

    /// Up to where buckets of `level` are made; `None` when none were.
    async fn rolled_until(&self, level: Level) -> Result<Option<Timestamp>, StoreError>;

    /// Makes the buckets of `level` of all agents from `from` up to `until`, both of which begin buckets, and
    /// remembers that they are made. To do it again, or from the middle, changes nothing. Answers how many
    /// buckets that was.
    async fn roll_up(&self, level: Level, from: Timestamp, until: Timestamp) -> Result<u64, StoreError>;

    /// Takes one small step at forgetting what is older than `before`, and makes room for what is to come
    /// after `now`. Answers whether there is more to forget.
    async fn forget(&self, level: Level, before: Timestamp, now: Timestamp) -> Result<bool, StoreError>;
}
