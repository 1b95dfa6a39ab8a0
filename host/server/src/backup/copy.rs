//! Files copied for their owner alone, to the disk, with their digests.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::Context as _;
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

/// Read and written at once.
const PIECE_BYTES: usize = 256 * 1024;

/// A file's length and SHA-256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Bytes.
    pub bytes: u64,
    /// SHA-256, lower-case hex.
    pub sha256: String,
}

/// Reads a file through.
pub fn digest(path: &Path) -> anyhow::Result<Digest> {
    let read = || pump(File::open(path)?, &mut io::sink());
    read().with_context(|| format!("{} cannot be read", path.display()))
}

/// Copies a file, 0600 and on disk on return; one that is there is overwritten.
pub fn copy(from: &Path, to: &Path) -> anyhow::Result<Digest> {
    let copy = || {
        let mut into = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to)?;
        let digest = pump(File::open(from)?, &mut into)?;
        into.sync_all()?;
        Ok::<_, io::Error>(digest)
    };
    copy().with_context(|| format!("{} cannot be copied to {}", from.display(), to.display()))
}

fn pump(mut from: File, to: &mut impl io::Write) -> io::Result<Digest> {
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let n = from.read(&mut piece)?;
        if n == 0 {
            return Ok(Digest { bytes, sha256: HEXLOWER.encode(&hash.finalize()) });
        }
        hash.update(&piece[..n]);
        to.write_all(&piece[..n])?;
        bytes += n as u64;
    }
}

/// Makes a folder that was not there, for its owner alone.
pub fn private_folder(path: &Path) -> anyhow::Result<()> {
    let made = fs::DirBuilder::new().mode(0o700).create(path);
    made.with_context(|| format!("{} cannot be made", path.display()))
}

/// Moves a file or folder within its file system, and the move to the disk.
pub fn rename(from: &Path, to: &Path) -> anyhow::Result<()> {
    let moved = || {
        fs::rename(from, to)?;
        for dir in [from, to].into_iter().filter_map(Path::parent) {
            sync(dir)?;
        }
        Ok::<_, io::Error>(())
    };
    moved().with_context(|| format!("{} cannot be moved to {}", from.display(), to.display()))
}

/// Brings to the disk what a folder lists, or a file holds.
pub fn sync(path: &Path) -> io::Result<()> {
    File::open(if path.as_os_str().is_empty() { Path::new(".") } else { path })?.sync_all()
}

/// Removes a file if it is there.
pub fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}
