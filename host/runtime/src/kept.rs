//! The bytes of versions that may be needed again after a restart: to go back to, and to read what was run with
//! them. The plugin folder belongs to its operator and is never written; these lie in the host's own folder,
//! each under its digest.
//!
//! Invariant: bytes that are not what their name says are not there.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;

use crate::compile::digest;

/// The folder; without one, nothing is kept between starts.
pub(crate) struct Kept {
    dir: Option<PathBuf>,
}

impl Kept {
    pub(crate) fn new(dir: Option<PathBuf>) -> Kept {
        Kept { dir }
    }

    /// Puts `bytes` down, unless they are there already. That they could not be is told and no more: it costs
    /// a way back after a restart, and nothing now.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        let Some(path) = self.path(name) else { return };
        if path.exists() {
            return;
        }
        let beside = path.with_extension("new");
        let write = || -> io::Result<()> {
            let mut file = File::create(&beside)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&beside, &path)
        };
        if let Err(error) = write() {
            tracing::warn!(path = %path.display(), %error, "a plugin version cannot be kept for later");
        }
    }

    /// The bytes with this digest.
    pub(crate) fn get(&self, name: &str) -> Option<Vec<u8>> {
        let bytes = fs::read(self.path(name)?).ok()?;
        (digest(&bytes) == name).then_some(bytes)
    }

    /// Removes all but these.
    pub(crate) fn sweep(&self, needed: &BTreeSet<String>) {
        let Some(entries) = self.dir.as_ref().and_then(|dir| fs::read_dir(dir).ok()) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            if !needed.contains(stem) && fs::remove_file(&path).is_err() {
                tracing::warn!(path = %path.display(), "a plugin version nobody needs any more cannot be removed");
            }
        }
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.dir.as_ref().map(|dir| dir.join(format!("{name}.wasm")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_unless_somebody_changed_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let kept = Kept::new(Some(dir.path().to_owned()));
        let (name, other) = (digest(b"bytes"), digest(b"others"));
        kept.put(&name, b"bytes");
        kept.put(&other, b"others");
        assert_eq!(kept.get(&name).as_deref(), Some(b"bytes".as_slice()));
        fs::write(dir.path().join(format!("{other}.wasm")), b"forged").expect("written");
        assert_eq!(kept.get(&other), None);
        kept.sweep(&BTreeSet::from([name.clone()]));
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
        let nowhere = Kept::new(None);
        nowhere.put(&name, b"bytes");
        assert_eq!(nowhere.get(&name), None);
    }
}
