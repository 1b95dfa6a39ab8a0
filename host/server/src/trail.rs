//! What an operator does to the audit log from the host's own machine, and what the host does to it by itself.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use bus::local::Local;
use domain::audit::Entry;
use domain::time::Timestamp;
use ports::agents::Agents;
use ports::clock::Clock;
use ports::commands::Commands;
use ports::journal::Trail;
use services::forget::{self, Forget};
use services::origin::Origin;
use tokio_util::sync::CancellationToken;

use crate::backup;
use crate::config::Config;
use crate::keys::AuditKey;
use crate::store::{self, Writing};

/// What this host forgets, and after how long.
pub fn forgetting(
    config: &Config,
    commands: &Arc<dyn Commands>,
    agents: &Arc<dyn Agents>,
    trail: &Arc<dyn Trail>,
    clock: &Arc<dyn Clock>,
) -> Forget {
    let (commands, agents, trail, clock) = (commands.clone(), agents.clone(), trail.clone(), clock.clone());
    let audit_days = config.audit.kept();
    Forget { commands, output: config.command.output(), agents, trail, audit_days, clock }
}

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
    let gone = forget::prune(rows.trail.as_ref(), keep_days, now, &CancellationToken::new()).await;
    drop(rows);
    stop.cancel();
    task.await.context("the store did not close cleanly")?;
    let gone = gone.context("not everything was pruned")?;
    let days = if keep_days == 1 { "a day".to_owned() } else { format!("{keep_days} days") };
    Ok(match gone {
        1 => format!("1 entry older than {days} is gone; exports made before still tell of it\n"),
        _ => format!("{gone} entries older than {days} are gone; exports made before still tell of them\n"),
    })
}

/// Something that an operator did on the host's own machine: nobody logged in, so no name is known.
pub fn entry(at: Timestamp, action: &'static str) -> Entry {
    Origin::default().entry(at, action, None)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use domain::audit::check::Report;
    use ports::journal::Journal;
    use services::audit::Audit;

    use super::*;
    use crate::clock::WallClock;
    use crate::store::Rows;

    const DAY: Duration = Duration::from_secs(86_400);

    /// A host's folder, and its settings.
    fn place(keep_days: u32) -> (tempfile::TempDir, Config) {
        let dir = tempfile::tempdir().expect("a folder");
        let config = Config::load(None, [], |config| {
            config.data.dir = dir.path().join("data");
            config.audit.keep_days = keep_days;
        });
        let config = config.expect("defaults");
        for folder in [config.data.dir.clone(), config.data.dir.join("keys")] {
            crate::keys::private_dir(&folder).expect("a private folder");
        }
        (dir, config)
    }

    async fn open(config: &Config) -> (Rows, Writing) {
        let notary = AuditKey::in_data(&config.data.dir).expect("a key");
        store::open(config, Arc::new(Local::default()), notary).await.expect("a store")
    }

    async fn close(rows: Rows, Writing { task, stop }: Writing) {
        drop(rows);
        stop.cancel();
        task.await.expect("closed");
    }

    async fn grow(journal: &Arc<dyn Journal>, now: Timestamp) {
        for days in [40, 32, 29, 0] {
            journal.audit(entry(now - DAY * days, "test.done")).await.expect("written");
        }
    }

    async fn actions(journal: &Arc<dyn Journal>) -> Vec<&'static str> {
        let left = journal.audits(None, 10).await.expect("read");
        left.iter().rev().map(|(_, entry)| entry.action).collect()
    }

    #[tokio::test]
    async fn what_is_old_enough_goes_and_the_pruning_is_on_record() {
        let (_dir, config) = place(0);
        let now = Timestamp::from_millis(1_800_000_000_000);
        let (rows, writing) = open(&config).await;
        grow(&rows.journal, now).await;
        close(rows, writing).await;

        assert!(prune(&config, 0, now).await.is_err());
        assert!(prune(&config, 30, now).await.expect("pruned").starts_with("2 entries"));
        assert!(prune(&config, 30, now).await.expect("nothing more").starts_with("0 entries"));
        let (rows, writing) = open(&config).await;
        assert_eq!(actions(&rows.journal).await, ["test.done", "test.done", "system.audit_prune"]);
        close(rows, writing).await;
    }

    #[tokio::test]
    async fn a_host_drops_by_itself_what_is_older_than_it_keeps_and_the_rest_verifies() {
        for (keep_days, left) in [(0, 4), (30, 3)] {
            let (_dir, config) = place(keep_days);
            let (rows, writing) = open(&config).await;
            let clock: Arc<dyn Clock> = Arc::new(WallClock);
            grow(&rows.journal, clock.now()).await;
            let forget = forgetting(&config, &rows.commands, &rows.agents, &rows.trail, &clock);
            for _ in 0..2 {
                forget.turn(&CancellationToken::new()).await.expect("forgotten");
            }
            assert_eq!(actions(&rows.journal).await.len(), left, "{keep_days}");
            let notary = AuditKey::in_data(&config.data.dir).expect("a key");
            let (journal, trail) = (rows.journal.clone(), rows.trail.clone());
            let audit = Audit { journal, trail, notary, clock, verifying: tokio::sync::Semaphore::new(1) };
            let Report { faults, entries, pruned, .. } = audit.read().await.expect("read");
            assert_eq!((faults, entries, pruned), (vec![], left as u64, if keep_days == 0 { 0 } else { 2 }));
            drop((audit, forget));
            close(rows, writing).await;
        }
    }
}
