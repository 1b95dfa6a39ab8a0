//! Puts a backup in place. The database is made ready beside its place and moved there last, so that whoever
//! is killed on the way only has to start over: nothing is ever deleted, and no host starts on the half.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use ports::clock::Clock as _;
use ports::restore::Restored;
use services::restore::{Adopted, adopt};
use storage::sqlite::{Lock, RestoredSqlite, beside};

use super::manifest::Manifest;
use super::verify::{Verified, verify};
use super::{AUTHORITY, DATABASE, FORMER_AUTHORITY, copy, create, file, ready};
use crate::clock::WallClock;
use crate::config::Config;
use crate::keys::{AUDIT_KEY, AuditKey, private_dir, write_private};

/// Files that SQLite keeps beside a database.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// What to restore, and how.
#[derive(Clone, Debug)]
pub struct Order {
    /// The backup.
    pub from: PathBuf,
    /// Set aside what is there.
    pub replace: bool,
    /// The new epoch, instead of one by itself.
    pub epoch: Option<u64>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Done {
    /// Where what was there before is now.
    pub aside: Vec<PathBuf>,
    /// Who the installation is now, and what is held.
    pub adopted: Adopted,
}

/// Where a restore may be cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The database was copied beside its place.
    Copied,
    /// What was not over is held in the copy, and its epoch is the new one.
    Adopted,
    /// The copy has the name that keeps hosts from starting.
    Ready,
    /// The old database was set aside.
    AsideDatabase,
    /// And all else that stood in the way.
    Aside,
    /// The first key is in place.
    FirstKey,
    /// All keys are.
    Keys,
    /// The database is.
    InPlace,
}

/// Restores. `between` is told of each step that is done and may end it there.
///
/// # Errors
/// A host runs, the backup is damaged, or something is in the way; nothing has changed then. Any other error
/// leaves something to start over from.
pub async fn restore(
    config: &Config,
    order: &Order,
    between: &mut (dyn FnMut(Step) -> anyhow::Result<()> + Send),
) -> anyhow::Result<Done> {
    let (data, database) = (&config.data.dir, file(config)?);
    private_dir(data)?;
    let lock = Lock::of(&database)?;
    let Verified { manifest, .. } = verify(&order.from).await?;
    let (stamp, _) = create::stamp(WallClock.now())?;
    let way = InTheWay::find(data, &database, order, &manifest)?;
    if !order.replace {
        way.refuse()?;
    }

    let draft = beside(&database, ".restoring");
    for path in places(&draft) {
        copy::remove(&path)?;
    }
    let copied = copy::copy(&order.from.join(DATABASE), &draft)?;
    if !manifest.files.iter().any(|listed| listed.path == DATABASE && listed.digest() == copied) {
        bail!("{DATABASE} changed while it was copied");
    }
    between(Step::Copied)?;
    // The key that will be in place: the backup's, or, where that is older than seals, this directory's.
    let sealed = manifest.keys().any(|key| key == AUDIT_KEY);
    private_dir(&data.join("keys"))?;
    let notary = AuditKey::in_data(if sealed { &order.from } else { data })?;
    let mut store = Box::new(RestoredSqlite::open(&draft, &lock, Some(notary)).await?);
    let from = format!("the backup made {}", manifest.created_at);
    let adopted = adopt(store.as_mut(), WallClock.now(), order.epoch, &from).await.context("nothing was restored")?;
    store.close().await?;
    if BESIDE.iter().any(|end| beside(&draft, end).exists()) {
        bail!("{} is open elsewhere; nothing was restored", draft.display());
    }
    copy::sync(&draft)?;
    between(Step::Adopted)?;
    copy::rename(&draft, &ready(&database))?;
    between(Step::Ready)?;

    let aside = way.set_aside(data, &database, &stamp, between)?;
    between(Step::Aside)?;
    private_dir(&data.join("keys"))?;
    for (n, key) in manifest.keys().enumerate() {
        write_private(&data.join(key), &std::fs::read(order.from.join(key))?)?;
        if n == 0 {
            between(Step::FirstKey)?;
        }
    }
    between(Step::Keys)?;
    copy::rename(&ready(&database), &database)?;
    between(Step::InPlace)?;
    Ok(Done { aside, adopted })
}

/// The database and what SQLite keeps beside it.
fn places(database: &Path) -> impl Iterator<Item = PathBuf> {
    [""].into_iter().chain(BESIDE).map(|end| beside(database, end))
}

/// What stands where the backup is to go.
struct InTheWay {
    /// A database and what SQLite keeps beside it.
    database: Vec<PathBuf>,
    /// Keys that are not those of the backup, and one that it does not have.
    keys: Vec<String>,
}

impl InTheWay {
    fn find(data: &Path, database: &Path, order: &Order, manifest: &Manifest) -> anyhow::Result<InTheWay> {
        let database = places(database).filter(|path| path.exists()).collect();
        let mut keys = Vec::new();
        for key in manifest.keys() {
            let there = data.join(key);
            if there.exists() && copy::digest(&there)? != copy::digest(&order.from.join(key))? {
                keys.push(key.to_owned());
            }
        }
        // Whoever knows its authority of then knows whether there was one before it; no other is to be believed again.
        let has = |wanted: &str| manifest.keys().any(|key| key == wanted);
        if has(AUTHORITY) && !has(FORMER_AUTHORITY) && data.join(FORMER_AUTHORITY).exists() {
            keys.push(FORMER_AUTHORITY.to_owned());
        }
        Ok(InTheWay { database, keys })
    }

    fn refuse(&self) -> anyhow::Result<()> {
        let store = self.database.first().map(|path| format!("{} is there already", path.display()));
        let key = self.keys.first().map(|key| format!("{key} is there already, and not as in the backup"));
        match store.or(key) {
            Some(why) => bail!("{why}: with --replace it is set aside (not deleted), or name another --data"),
            None => Ok(()),
        }
    }

    /// Moves all of it into folders of their own, beside where it was.
    fn set_aside(
        &self,
        data: &Path,
        database: &Path,
        stamp: &str,
        between: &mut (dyn FnMut(Step) -> anyhow::Result<()> + Send),
    ) -> anyhow::Result<Vec<PathBuf>> {
        let name = format!("replaced-{stamp}");
        let mut aside = Vec::new();
        if !self.database.is_empty() {
            let folder = database.with_file_name(&name);
            copy::private_folder(&folder)?;
            // What is beside it may come and go as long as anybody looks at the old database.
            for path in places(database).filter(|path| path.exists()) {
                copy::rename(&path, &folder.join(path.file_name().context("a file has a name")?))?;
                between(Step::AsideDatabase)?;
            }
            aside.push(folder);
        }
        if !self.keys.is_empty() {
            let folder = data.join(&name);
            private_dir(&folder.join("keys"))?;
            for key in &self.keys {
                copy::rename(&data.join(key), &folder.join(key))?;
            }
            if !aside.contains(&folder) {
                aside.push(folder);
            }
        }
        Ok(aside)
    }
}

#[cfg(test)]
mod tests;
