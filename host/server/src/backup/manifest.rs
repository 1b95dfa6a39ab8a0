//! What a backup says about itself, and the digest that guards it.

use std::path::Path;

use anyhow::{Context as _, bail};
use plan::id::ClusterId;
use serde::{Deserialize, Serialize};
use services::digest::sha256_hex;

use super::DATABASE;
use super::copy::Digest;
use crate::keys::write_private;

/// The manifest's file.
pub const MANIFEST: &str = "manifest.json";
/// The file with the manifest's digest, in the form that `sha256sum -c` reads.
pub const GUARD: &str = "manifest.sha256";
/// The form of backups that this program makes and reads.
const FORMAT: u32 = 1;

/// What is in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The form of the backup.
    pub format: u32,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// Version of the program that made it.
    pub program: String,
    /// The installation.
    pub cluster_id: ClusterId,
    /// Its epoch then.
    pub cluster_epoch: u64,
    /// The number of the database's schema.
    pub schema: i64,
    /// Every other file.
    pub files: Vec<Listed>,
}

/// One file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Where it is in the backup.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, lower-case hex.
    pub sha256: String,
}

impl Listed {
    /// The file at `path` with this digest.
    pub fn new(path: &str, Digest { bytes, sha256 }: Digest) -> Listed {
        Listed { path: path.to_owned(), bytes, sha256 }
    }

    /// Its digest.
    pub fn digest(&self) -> Digest {
        Digest { bytes: self.bytes, sha256: self.sha256.clone() }
    }
}

impl Manifest {
    /// A manifest of this form, by this program.
    pub fn new(created_at: String, cluster: ports::journal::Cluster, schema: i64, files: Vec<Listed>) -> Manifest {
        Manifest {
            format: FORMAT,
            created_at,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            cluster_id: cluster.id,
            cluster_epoch: cluster.epoch,
            schema,
            files,
        }
    }

    /// The keys in the backup, by their places.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|listed| listed.path.as_str()).filter(|path| *path != DATABASE)
    }

    /// Writes it and its guard into a backup.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        write_private(&folder.join(MANIFEST), text.as_bytes())?;
        write_private(&folder.join(GUARD), guard(text.as_bytes()).as_bytes())
    }

    /// Reads it, if it is as it was written.
    pub fn read(folder: &Path) -> anyhow::Result<Manifest> {
        let bytes = |name: &str| {
            let path = folder.join(name);
            std::fs::read(&path).with_context(|| format!("{} cannot be read; is this a backup?", path.display()))
        };
        let text = bytes(MANIFEST)?;
        if bytes(GUARD)? != guard(&text).as_bytes() {
            bail!("{MANIFEST} or {GUARD} is not as it was written: their digests differ");
        }
        let manifest: Manifest = serde_json::from_slice(&text).context("a newer program may have made this backup")?;
        if manifest.format != FORMAT {
            bail!("this backup has form {}, and this program knows {FORMAT}; use the newer program", manifest.format);
        }
        Ok(manifest)
    }
}

fn guard(manifest: &[u8]) -> String {
    format!("{}  {MANIFEST}\n", sha256_hex(manifest))
}
