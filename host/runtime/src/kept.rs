//! The bytes of versions that may be needed again after a restart: to go back to, and to read what was run with
//! them. The plugin folder belongs to its operator and is never written; these lie in the host's own folder,
//! each under its digest, with its signatures beside it as in the plugin folder.
//!
//! Invariant: bytes that are not what their name says are not there.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::compile::digest;
use crate::folder;

/// A version's bytes, and what is in the files of its signatures.
type Signed = (Vec<u8>, Vec<Result<String, String>>);

/// The folder; without one, nothing is kept between starts.
pub(crate) struct Kept {
    dir: Option<PathBuf>,
}

impl Kept {
    pub(crate) fn new(dir: Option<PathBuf>) -> Kept {
        Kept { dir }
    }

    /// Puts `bytes` and their signatures down, unless they are there already. That they could not be is told and no
    /// more: it costs a way back after a restart, and nothing now.
    pub(crate) fn put(&self, name: &str, bytes: &[u8], signatures: &[Result<String, String>]) {
        let Some(path) = self.path(name) else { return };
        let put = || -> io::Result<()> {
            // First, so that bytes which are there are there as somebody signed them.
            let texts = signatures.iter().flatten();
            for (ending, text) in folder::SIGNATURES.iter().zip(texts) {
                let file = path.with_extension(format!("wasm{ending}"));
                if fs::read(&file).ok().as_deref() != Some(text.as_bytes()) {
                    write(&file, text.as_bytes())?;
                }
            }
            if path.exists() { Ok(()) } else { write(&path, bytes) }
        };
        if let Err(error) = put() {
            tracing::warn!(path = %path.display(), %error, "a plugin version cannot be kept for later");
        }
    }

    /// The bytes with this digest, and the texts of their signatures.
    pub(crate) fn get(&self, name: &str) -> Option<Signed> {
        let path = self.path(name)?;
        let bytes = fs::read(&path).ok()?;
        (digest(&bytes) == name).then(|| (bytes, folder::signatures(&path)))
    }

    /// Removes all but these.
    pub(crate) fn sweep(&self, needed: &BTreeSet<String>) {
        let Some(entries) = self.dir.as_ref().and_then(|dir| fs::read_dir(dir).ok()) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let digest = name.split('.').next().unwrap_or_default();
            if !needed.contains(digest) && fs::remove_file(&path).is_err() {
                tracing::warn!(path = %path.display(), "a plugin version nobody needs any more cannot be removed");
            }
        }
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.dir.as_ref().map(|dir| dir.join(format!("{name}.wasm")))
    }
}

/// Writes a file that is there whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_unless_somebody_changed_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let kept = Kept::new(Some(dir.path().to_owned()));
        let (name, other) = (digest(b"bytes"), digest(b"others"));
        kept.put(&name, b"bytes", &[Err("unreadable".into()), Ok("signed once".into())]);
        kept.put(&other, b"others", &[]);
        assert_eq!(kept.get(&name), Some((b"bytes".to_vec(), vec![Ok("signed once".into())])));
        kept.put(&name, b"bytes", &[Ok("signed again".into()), Ok("and again".into())]);
        assert_eq!(kept.get(&name).map(|(_, texts)| texts.len()), Some(2), "the latest signatures are kept");
        fs::write(dir.path().join(format!("{other}.wasm")), b"forged").expect("written");
        assert_eq!(kept.get(&other), None);
        kept.sweep(&BTreeSet::from([name.clone()]));
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 3);
        kept.sweep(&BTreeSet::new());
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 0, "signatures go with what they sign");
        let nowhere = Kept::new(None);
        nowhere.put(&name, b"bytes", &[]);
        assert_eq!(nowhere.get(&name), None);
    }
}
