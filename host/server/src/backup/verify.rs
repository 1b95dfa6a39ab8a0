//! Looks at a backup and changes nothing: every byte as it was written, nothing more and nothing less, and a
//! database that is whole and that this program can read.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use ports::journal::Cluster;
use storage::sqlite::{Contents, inspect};

use super::manifest::{GUARD, Listed, MANIFEST, Manifest};
use super::{DATABASE, KEYS, KEYS_IF_THERE, copy, keys_of};

/// A backup in which nothing is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// What it says about itself.
    pub manifest: Manifest,
    /// What is in its database.
    pub contents: Contents,
}

/// Verifies the backup in `folder`.
///
/// # Errors
/// All that is wrong with it.
pub async fn verify(folder: &Path) -> anyhow::Result<Verified> {
    let manifest = Manifest::read(folder)?;
    let mut wrong = strays(folder, &manifest)?;
    for listed in &manifest.files {
        wrong.extend(fault(folder, listed));
    }
    for needed in [DATABASE].into_iter().chain(keys_of(manifest.schema)) {
        if !manifest.files.iter().any(|listed| listed.path == needed) {
            wrong.push(format!("{needed} is not in the manifest"));
        }
    }
    if !wrong.is_empty() {
        bail!("{} is damaged: {}", folder.display(), wrong.join("; "));
    }
    let (contents, wrong) = inspect(&folder.join(DATABASE)).await?;
    if !wrong.is_empty() {
        bail!("{DATABASE} was damaged when the backup was made: {}", wrong.join("; "));
    }
    let said = Cluster { id: manifest.cluster_id, epoch: manifest.cluster_epoch };
    if contents.cluster != Some(said) || contents.schema != manifest.schema {
        bail!("{DATABASE} is not the store that {MANIFEST} describes");
    }
    Ok(Verified { manifest, contents })
}

/// What is wrong with one file.
fn fault(folder: &Path, listed: &Listed) -> Option<String> {
    let path = folder.join(&listed.path);
    // A link may lead anywhere, and elsewhere tomorrow.
    if !fs::symlink_metadata(&path).is_ok_and(|found| found.is_file()) {
        return Some(format!("{} is missing", listed.path));
    }
    match copy::digest(&path) {
        Err(error) => Some(format!("{error:#}")),
        Ok(found) if found.bytes != listed.bytes => {
            Some(format!("{} has {} bytes instead of {}", listed.path, found.bytes, listed.bytes))
        }
        Ok(found) if found != listed.digest() => Some(format!("{} has changed", listed.path)),
        Ok(_) => None,
    }
}

/// What is in the backup and does not belong there: SQLite would read a log beside its database.
fn strays(folder: &Path, manifest: &Manifest) -> anyhow::Result<Vec<String>> {
    let mut known: BTreeSet<&str> = [MANIFEST, GUARD, "keys"].into();
    for listed in &manifest.files {
        known.insert(&listed.path);
    }
    let is_key = |path: &str| KEYS.contains(&path) || KEYS_IF_THERE.contains(&path);
    if let Some(other) = manifest.keys().find(|path| !is_key(path)) {
        bail!("{MANIFEST} lists `{other}`, which is no part of a backup");
    }
    let mut wrong = Vec::new();
    for (dir, before) in [(folder.to_owned(), ""), (folder.join("keys"), "keys/")] {
        for entry in fs::read_dir(&dir).with_context(|| format!("{} cannot be read", dir.display()))? {
            let name = format!("{before}{}", entry?.file_name().to_string_lossy());
            if !known.contains(name.as_str()) {
                wrong.push(format!("{name} does not belong to it"));
            }
        }
    }
    Ok(wrong)
}

impl Verified {
    /// For people.
    pub fn text(&self) -> String {
        let Verified { manifest, contents } = self;
        let bytes: u64 = manifest.files.iter().map(|listed| listed.bytes).sum();
        format!(
            "whole: {} files, {bytes} bytes, made {} by version {}\n\
             cluster {}, epoch {}, schema {}\n\
             {} commands, {} invocations not over, {} agents, {} users\n",
            manifest.files.len(),
            manifest.created_at,
            manifest.program,
            manifest.cluster_id,
            manifest.cluster_epoch,
            manifest.schema,
            contents.commands,
            contents.open,
            contents.agents,
            contents.users,
        )
    }
}
