//! What an operator does to the audit log from the host's own machine.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bus::local::Local;
use domain::audit::Entry;
use domain::time::Timestamp;
use services::origin::Origin;

use crate::backup;
use crate::config::Config;
use crate::keys::AuditKey;
use crate::store::{self, Writing};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Drops audit entries that are older than `keep_days`, while no host runs on an embedded store, leaves sealed
/// checkpoints where it cut, and says what it did.
///
/// # Errors
/// Everything would go, or the store cannot be opened or written to.
pub async fn prune(config: &Config, keep_days: u32, now: Timestamp) -> anyhow::Result<String> {
    ensure!(keep_days > 0, "--keep-days is at least 1: the newest day stays");
    backup::refuse_unfinished(config)?;
    let (rows, Writing { task, stop }) =
        store::open(config, Arc::new(Local::default()), AuditKey::in_data(&config.data.dir)?).await?;
    let before = now - DAY * keep_days;
    let mut said = entry(now, "system.audit_prune");
    said.details = format!("{{\"before_ms\":{},\"keep_days\":{keep_days}}}", before.as_millis());
    let gone = rows.trail.prune(before, said).await;
    drop(rows);
    stop.cancel();
    task.await.context("the store did not close cleanly")?;
    let gone = gone.context("nothing was pruned")?;
    Ok(format!("{gone} entries older than {keep_days} days are gone; exports made before still tell of them\n"))
}

/// Something that an operator did on the host's own machine: nobody logged in, so no name is known.
pub fn entry(at: Timestamp, action: &'static str) -> Entry {
    Origin::default().entry(at, action, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_old_enough_goes_and_the_pruning_is_on_record() {
        let dir = tempfile::tempdir().expect("a folder");
        let config = Config::load(None, [], |config| config.data.dir = dir.path().join("data")).expect("defaults");
        for folder in [config.data.dir.clone(), config.data.dir.join("keys")] {
            crate::keys::private_dir(&folder).expect("a private folder");
        }
        let now = Timestamp::from_millis(1_800_000_000_000);
        let open = async || {
            let notary = AuditKey::in_data(&config.data.dir).expect("a key");
            store::open(&config, Arc::new(Local::default()), notary).await.expect("a store")
        };
        let (rows, writing) = open().await;
        for days in [40, 31, 29, 0] {
            rows.journal.audit(entry(now - DAY * days, "test.done")).await.expect("written");
        }
        drop(rows);
        writing.stop.cancel();
        writing.task.await.expect("closed");

        assert!(prune(&config, 0, now).await.is_err());
        assert!(prune(&config, 30, now).await.expect("pruned").starts_with("2 entries"));
        assert!(prune(&config, 30, now).await.expect("nothing more").starts_with("0 entries"));
        let (rows, writing) = open().await;
        let left = rows.journal.audits(None, 10).await.expect("read");
        let actions: Vec<&str> = left.iter().rev().map(|(_, entry)| entry.action).collect();
        assert_eq!(actions, ["test.done", "test.done", "system.audit_prune", "system.audit_prune"]);
        writing.stop.cancel();
        writing.task.await.expect("closed");
    }
}
