//! The event log and the audit log, and who this installation is.

use std::sync::Arc;

use async_trait::async_trait;
use domain::audit::Entry;
use domain::audit::chain::{Chain, Linked};
use domain::event::Event;
use domain::time::Timestamp;
use plan::id::{ChainId, ClusterId, CommandId};

use crate::error::StoreError;

/// What was committed, in order.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Events after `after`, by `seq`, of one command or of all, at most `limit`. Output events of
    /// one command are among them; of all commands they are not.
    async fn events(&self, command: Option<CommandId>, after: u64, limit: u32) -> Result<Vec<Arc<Event>>, StoreError>;

    /// The highest `seq` there is; 0 when there is none.
    async fn last_seq(&self) -> Result<u64, StoreError>;

    /// Records something that changed no other row, e.g. a refused login. Durable on return.
    async fn audit(&self, entry: Entry) -> Result<(), StoreError>;

    /// Audit entries, newest first, those below `before`, with their numbers.
    async fn audits(&self, before: Option<u64>, limit: u32) -> Result<Vec<(u64, Entry)>, StoreError> {
        self.audits_where(&AuditFilter::default(), before, limit).await
    }

    /// The same of those that `filter` lets through.
    async fn audits_where(
        &self,
        filter: &AuditFilter,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(u64, Entry)>, StoreError>;

    /// The number of the newest entry of any of these actions; 0 when there is none. Costs the same however many
    /// there are.
    async fn newest_audit(&self, actions: &[&str]) -> Result<u64, StoreError> {
        let mut newest = 0;
        for action in actions {
            let filter = AuditFilter { action: Some((*action).to_owned()), ..AuditFilter::default() };
            let found = self.audits_where(&filter, None, 1).await?;
            newest = found.first().map_or(newest, |(id, _)| newest.max(*id));
        }
        Ok(newest)
    }
}

/// Which audit entries are wanted; an absent part lets everything through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// By whom.
    pub actor: Option<String>,
    /// What was done.
    pub action: Option<String>,
    /// At this instant or later.
    pub since: Option<Timestamp>,
    /// Before this instant.
    pub until: Option<Timestamp>,
}

/// The audit log as it hangs on its chains. Entries are put there by the transactions they belong to.
#[async_trait]
pub trait Trail: Send + Sync {
    /// Every chain, in the order they began.
    async fn chains(&self) -> Result<Vec<Chain>, StoreError>;

    /// Entries of one chain after a place, in order.
    async fn links(&self, chain: ChainId, after: u64, limit: u32) -> Result<Vec<Linked>, StoreError>;

    /// Entries on no chain that there is, after a number, in the order of numbers.
    async fn strays(&self, after: u64, limit: u32) -> Result<Vec<Linked>, StoreError>;

    /// Drops a few of the oldest entries of one chain, up to the last of them that is old enough, or, where a store keeps
    /// entries by days, those of its oldest days, of all chains, when all of them are old enough. Leaves a sealed
    /// checkpoint where it cut. Answers how many are gone; 0 when there is nothing to drop on any chain.
    async fn prune(&self, cut: Cut) -> Result<u64, StoreError>;
}

/// What is to be dropped of the audit log at a time.
#[derive(Clone, Debug)]
pub struct Cut {
    /// Entries older than this.
    pub before: Timestamp,
    /// At most so many, where it is not days that are dropped.
    pub most: u32,
    /// When it is cut, as the checkpoint says.
    pub at: Timestamp,
    /// Recorded with the cut, unless there is nothing to drop.
    pub audit: Option<Entry>,
}

/// The installation and its store as a whole.
#[async_trait]
pub trait Installation: Send + Sync {
    /// Who this is; made from `fresh` at the first call ever.
    async fn cluster(&self, fresh: ClusterId) -> Result<Cluster, StoreError>;

    /// Whether the store answers and can be written to.
    async fn ready(&self) -> Result<(), StoreError>;

    /// Waits until everything noted so far is committed.
    async fn flush(&self) -> Result<(), StoreError>;

    /// How often a commit has failed, or a note has found no room, since the start. After that, notes may be lost,
    /// and what was answered with an error may be stored all the same.
    fn failed_commits(&self) -> u64;
}

/// Who an installation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its id.
    pub id: ClusterId,
    /// Raised when an old backup is restored.
    pub epoch: u64,
}
