//! Makes a backup while the host works: under a temporary name, read back, on the disk, then renamed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use domain::time::Timestamp;
use ports::clock::Clock as _;
use storage::sqlite::{inspect, snapshot};

use super::manifest::{Listed, Manifest};
use super::{DATABASE, KEYS_IF_THERE, copy, file, keys_of};
use crate::clock::WallClock;
use crate::config::{Config, Store};
use crate::keys::private_dir;

/// Makes `backup-TIME` in the folder `into`; answers where it is.
///
/// # Errors
/// The store cannot be read or is damaged, or the backup cannot be written; then there is none.
pub async fn create(config: &Config, into: &Path) -> anyhow::Result<PathBuf> {
    let database = file(config)?;
    if !database.exists() {
        bail!("{} is not there: no host has run with this configuration yet", database.display());
    }
    private_dir(into)?;
    let (stamp, created_at) = stamp(WallClock.now())?;
    let part = into.join(format!(".backup-{stamp}.part"));
    let made = into.join(format!("backup-{stamp}"));
    copy::private_folder(&part)?;
    let written = write(config, &database, &part, created_at).await.and_then(|()| copy::rename(&part, &made));
    if written.is_err() {
        _ = fs::remove_dir_all(&part);
    }
    written.map(|()| made)
}

async fn write(config: &Config, database: &Path, part: &Path, created_at: String) -> anyhow::Result<()> {
    let Store::Sqlite { busy_timeout, .. } = config.store()? else { bail!("the store is another now") };
    let copied = part.join(DATABASE);
    snapshot(database, &copied, busy_timeout).await?;
    let (contents, wrong) = inspect(&copied).await?;
    if !wrong.is_empty() {
        bail!("the store is damaged, so this would be no backup: {}", wrong.join("; "));
    }
    let cluster = contents.cluster.context("the store does not say which installation it belongs to")?;
    let mut files = vec![Listed::new(DATABASE, copy::digest(&copied)?)];
    copy::private_folder(&part.join("keys"))?;
    let more = KEYS_IF_THERE.into_iter().filter(|key| config.data.dir.join(key).exists());
    for key in keys_of(contents.schema).chain(more) {
        files.push(Listed::new(key, copy::copy(&config.data.dir.join(key), &part.join(key))?));
    }
    Manifest::new(created_at, cluster, contents.schema, files).write(part)?;
    copy::sync(&part.join("keys"))?;
    Ok(copy::sync(part)?)
}

/// An instant as part of a file's name, and as RFC 3339.
pub(super) fn stamp(at: Timestamp) -> anyhow::Result<(String, String)> {
    let at = chrono::DateTime::from_timestamp_millis(at.as_millis()).context("this machine's clock is beyond time")?;
    let text = at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    Ok((at.format("%Y%m%dT%H%M%S%3fZ").to_string(), text))
}
