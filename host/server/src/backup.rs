//! Backups of the embedded store, and taking over a store that came out of one, of either kind.
//!
//! A backup is a folder: the database, the keys without which no agent would know the host again, and a
//! manifest with the digest of each. It is as secret as the data directory.

pub mod adopt;
mod copy;
pub mod create;
mod manifest;
pub mod restore;
pub mod verify;

use std::path::{Path, PathBuf};

use anyhow::bail;
use services::restore::Adopted;
use storage::sqlite::beside;

use crate::agent_authority::{FORMER as FORMER_AUTHORITY, KEY as AUTHORITY};
use crate::args::BackupAction;
use crate::config::{Config, Store};
use crate::keys::{AUDIT_KEY, SECRET_KEY};

/// The database in a backup.
const DATABASE: &str = "viworks.db";
/// The keys that every backup has, by their places there and in the data directory.
const KEYS: [&str; 3] = ["keys/cluster.key", AUDIT_KEY, SECRET_KEY];
/// Those that a backup has where the data directory has them: whether one is there depends on the configuration. Without
/// the last three clients and agents would not know the restored host again.
const KEYS_IF_THERE: [&str; 4] = ["keys/token.key", "keys/tls.key", AUTHORITY, FORMER_AUTHORITY];
/// The schema from which on the audit log is sealed and arguments may be secret; a backup of an older one has no
/// keys for that.
const SEALED_SINCE: i64 = 6;

/// The keys that a backup of a store with this schema has at least.
fn keys_of(schema: i64) -> impl Iterator<Item = &'static str> {
    KEYS.into_iter().filter(move |key| ![AUDIT_KEY, SECRET_KEY].contains(key) || schema >= SEALED_SINCE)
}

/// Does what was asked and says what came of it.
///
/// # Errors
/// What kept it from being done, and how to mend it.
pub async fn run(action: BackupAction) -> anyhow::Result<String> {
    match action {
        BackupAction::Create { place, into } => {
            let made = create::create(&place.configuration()?, &into).await?;
            Ok(format!("{}\n", made.display()))
        }
        BackupAction::Verify { path } => Ok(verify::verify(&path).await?.text()),
        BackupAction::Restore { place, path, replace, epoch } => {
            let order = restore::Order { from: path, replace, epoch };
            let done = restore::restore(&place.configuration()?, &order, &mut |_| Ok(())).await?;
            let aside: String =
                done.aside.iter().map(|dir| format!("what was there before is in {}\n", dir.display())).collect();
            Ok(format!("{aside}{}", text(&done.adopted)))
        }
        BackupAction::Adopt { place, epoch } => Ok(text(&adopt::adopt(&place.configuration()?, epoch).await?)),
    }
}

/// The embedded store's file.
fn file(config: &Config) -> anyhow::Result<PathBuf> {
    match config.store()? {
        Store::Sqlite { path, .. } => Ok(path),
        Store::Postgres { shown, .. } => bail!(
            "the store is {shown}: PostgreSQL makes and restores its own backups (pg_dump, pg_restore; then \
             `viworks-host backup adopt`); docs/operations.md has the recipe"
        ),
    }
}

/// The database as it will be, complete, until it is put in place. As long as it is there, a restore is half
/// done and no host must start.
fn ready(database: &Path) -> PathBuf {
    beside(database, ".restored")
}

/// Refuses a data directory in which a restore was cut off.
///
/// # Errors
/// It was.
pub fn refuse_unfinished(config: &Config) -> anyhow::Result<()> {
    if let Store::Sqlite { path, .. } = config.store()?
        && ready(&path).exists()
    {
        bail!(
            "a restore of {} was cut off before its end: run `viworks-host backup restore` again, or remove {} and \
             put back what it has set aside in replaced-*",
            path.display(),
            ready(&path).display()
        );
    }
    Ok(())
}

fn text(adopted: &Adopted) -> String {
    let Adopted { cluster, before, held } = adopted;
    let mut text = format!("cluster {}: epoch {before} in the backup, {} now\n", cluster.id, cluster.epoch);
    if held.commands == 0 {
        text.push_str("nothing was under way in it\n");
    } else {
        text.push_str(&format!(
            "{} commands were not over: {} invocations are held now, until their agents report them or somebody \
             releases them (viworks command list --status pending,running; viworks command release ID)\n",
            held.commands, held.invocations
        ));
    }
    text.push_str("logins have ended, unused join tokens are revoked; agents refuse a host with an older epoch\n");
    text
}
