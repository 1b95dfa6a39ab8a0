//! Takes over a store that came out of a backup, before a host works with it.

use domain::restore::{EpochError, epoch};
use domain::time::Timestamp;
use ports::error::StoreError;
use ports::journal::Cluster;
use ports::restore::{Adopt, Held, Restored};

use crate::origin::Origin;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// Who the installation is now.
    pub cluster: Cluster,
    /// The epoch it had in the backup.
    pub before: u64,
    /// What is held.
    pub held: Held,
}

/// Why the store was not taken over.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AdoptError {
    /// No epoch to give it.
    #[error(transparent)]
    Epoch(#[from] EpochError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Holds what was not over and raises the epoch: to `asked` if that was said, else by itself. `from` says for
/// the record what was restored.
///
/// # Errors
/// See [`AdoptError`]; the store is as it was then.
pub async fn adopt(
    store: &mut dyn Restored,
    now: Timestamp,
    asked: Option<u64>,
    from: &str,
) -> Result<Adopted, AdoptError> {
    let Cluster { id, epoch: before } = store.cluster().await?;
    let epoch = epoch(before, now, asked)?;
    let mut audit = Origin::default().entry(now, "system.restore", None);
    audit.resource = Some(("cluster", id.to_string()));
    audit.details = serde_json::json!({ "from": from, "epoch_before": before, "epoch": epoch }).to_string();
    let held = store.adopt(Adopt { epoch, at: now, audit }).await?;
    Ok(Adopted { cluster: Cluster { id, epoch }, before, held })
}
