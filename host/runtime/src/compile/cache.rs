//! Compiled plugins on disk, each sealed with a key of this host. A forged entry would be arbitrary
//! machine code, so an entry whose seal does not fit is treated as absent.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::CacheOptions;
use super::artefact::Artefact;

/// Entries kept; the oldest go first.
const MAX_ENTRIES: usize = 128;
/// Most bytes of one entry.
const MAX_ENTRY_BYTES: u64 = 128 * 1024 * 1024;
/// Bytes of a seal.
const SEAL: usize = 32;

/// The cache directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The system said no.
    #[error("plugin cache `{path}` cannot be used: {source}")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Other users could read the key or write entries.
    #[error("plugin cache `{path}` is open to other users; make it private with `chmod go-rwx`")]
    Open {
        /// The directory or the key file.
        path: PathBuf,
    },
    /// The key file is not a key.
    #[error("plugin cache key `{path}` does not hold 32 bytes; remove it to have a new one made")]
    Key {
        /// The key file.
        path: PathBuf,
    },
}

pub(super) struct Cache {
    dir: PathBuf,
    key: [u8; 32],
}

impl Cache {
    /// Opens the directory, makes it and its key when missing.
    pub(super) fn open(options: &CacheOptions) -> Result<Cache, CacheError> {
        let CacheOptions { dir, fresh_key } = options;
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| CacheError::Io { path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at(dir))?;
        private(dir)?;
        let path = dir.join("key");
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(mut file) => file.write_all(fresh_key).and_then(|()| file.sync_all()).map_err(at(&path))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(at(&path)(error)),
        }
        private(&path)?;
        let bytes = fs::read(&path).map_err(at(&path))?;
        let key = bytes.try_into().map_err(|_| CacheError::Key { path })?;
        Ok(Cache { dir: dir.clone(), key })
    }

    /// The entry for `digest` and `engine`, if there is one and it is ours.
    pub(super) fn get(&self, digest: &str, engine: &str) -> Option<Artefact> {
        let file = File::open(self.path(digest, engine)).ok()?;
        let mut bytes = Vec::new();
        file.take(MAX_ENTRY_BYTES).read_to_end(&mut bytes).ok()?;
        if bytes.len() <= SEAL {
            return None;
        }
        let body = bytes.split_off(SEAL);
        if self.seal(digest, engine, &body).verify_slice(&bytes).is_err() {
            tracing::warn!(digest, "a plugin cache entry is not sealed with this host's key; compiling again");
            return None;
        }
        Some(Artefact::vouched(body))
    }

    /// Keeps `artefact`. A cache that cannot be written only costs time, so a failure is a warning.
    pub(super) fn put(&self, digest: &str, engine: &str, artefact: &Artefact) {
        if let Err(error) = self.write(digest, engine, artefact).and_then(|()| self.prune()) {
            tracing::warn!(digest, error = %error, "compiled plugin cannot be kept; it is compiled again at the next start");
        }
    }

    fn write(&self, digest: &str, engine: &str, artefact: &Artefact) -> io::Result<()> {
        let seal = self.seal(digest, engine, artefact.bytes()).finalize().into_bytes();
        let mut file = tempfile::Builder::new().prefix("entry-").suffix(".tmp").tempfile_in(&self.dir)?;
        file.write_all(&seal)?;
        file.write_all(artefact.bytes())?;
        file.persist(self.path(digest, engine)).map_err(|error| error.error)?;
        Ok(())
    }

    fn prune(&self) -> io::Result<()> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "cwasm") {
                let written = fs::metadata(&path).map(|meta| (meta.mtime(), meta.mtime_nsec())).unwrap_or_default();
                entries.push((written, path));
            }
        }
        entries.sort_unstable();
        let excess = entries.len().saturating_sub(MAX_ENTRIES);
        for (_, path) in entries.drain(..excess) {
            fs::remove_file(path)?;
        }
        Ok(())
    }

    /// Over the name as well as the bytes, so that no entry can stand in for another.
    fn seal(&self, digest: &str, engine: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut seal = Hmac::<Sha256>::new_from_slice(&self.key).expect("a key of any length is accepted");
        for part in [b"viworks-plugin-cache-v1", digest.as_bytes(), engine.as_bytes()] {
            seal.update(part);
            seal.update(b"\0");
        }
        seal.update(body);
        seal
    }

    fn path(&self, digest: &str, engine: &str) -> PathBuf {
        self.dir.join(format!("{digest}-{}.cwasm", &engine[..16]))
    }
}

/// Refuses what other users could read or write.
fn private(path: &Path) -> Result<(), CacheError> {
    let meta = fs::metadata(path).map_err(|source| CacheError::Io { path: path.to_owned(), source })?;
    match meta.mode() & 0o077 {
        0 => Ok(()),
        _ => Err(CacheError::Open { path: path.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const ENGINE: &str = "0123456789abcdef0123456789abcdef";

    fn cache(dir: &Path, key: u8) -> Cache {
        Cache::open(&CacheOptions { dir: dir.join("cache"), fresh_key: [key; 32] }).expect("cache opens")
    }

    #[test]
    fn an_entry_comes_back_for_the_same_bytes_and_engine_only() {
        let dir = tempfile::tempdir().expect("temp dir");
        cache(dir.path(), 1).put("aa", ENGINE, &Artefact::vouched(b"code".to_vec()));
        // The second fresh key is not used: the directory has one already.
        let cache = cache(dir.path(), 2);
        assert_eq!(cache.get("aa", ENGINE).expect("kept").bytes(), b"code");
        assert!(cache.get("bb", ENGINE).is_none());
        fs::rename(cache.path("aa", ENGINE), cache.path("bb", ENGINE)).expect("rename");
        assert!(cache.get("bb", ENGINE).is_none(), "an entry under another name is not ours");
    }

    #[test]
    fn a_changed_byte_anywhere_makes_an_entry_worthless() {
        let dir = tempfile::tempdir().expect("temp dir");
        let cache = cache(dir.path(), 1);
        cache.put("aa", ENGINE, &Artefact::vouched(b"code".to_vec()));
        let path = cache.path("aa", ENGINE);
        let good = fs::read(&path).expect("entry");
        for index in 0..good.len() {
            let mut bad = good.clone();
            bad[index] ^= 1;
            fs::write(&path, bad).expect("write");
            assert!(cache.get("aa", ENGINE).is_none(), "byte {index}");
        }
    }

    #[test]
    fn what_is_cut_swapped_or_made_for_another_engine_or_by_another_host_is_not_used() {
        let dir = tempfile::tempdir().expect("temp dir");
        let cache = cache(dir.path(), 1);
        cache.put("aa", ENGINE, &Artefact::vouched(b"code of aa".to_vec()));
        cache.put("bb", ENGINE, &Artefact::vouched(b"code of bb".to_vec()));
        let (path, good) = (cache.path("aa", ENGINE), fs::read(cache.path("aa", ENGINE)).expect("entry"));
        for end in 0..good.len() {
            fs::write(&path, &good[..end]).expect("write");
            assert!(cache.get("aa", ENGINE).is_none(), "cut at {end}");
        }
        fs::write(&path, [good.as_slice(), b"x"].concat()).expect("write");
        assert!(cache.get("aa", ENGINE).is_none(), "longer than it was");
        fs::copy(cache.path("bb", ENGINE), &path).expect("copy");
        assert!(cache.get("aa", ENGINE).is_none(), "another plugin's");
        // The name holds only the beginning of the engine's; the seal holds all of it.
        fs::write(&path, &good).expect("write");
        let other = format!("{}e", &ENGINE[..31]);
        assert_eq!(cache.path("aa", &other), path);
        assert!(cache.get("aa", &other).is_none(), "another engine's");
        let elsewhere =
            Cache::open(&CacheOptions { dir: dir.path().join("other"), fresh_key: [2; 32] }).expect("opens");
        fs::write(elsewhere.path("aa", ENGINE), &good).expect("write");
        assert!(elsewhere.get("aa", ENGINE).is_none(), "another host's");
        assert!(cache.get("aa", ENGINE).is_some(), "its own, as it was");
    }

    #[test]
    fn a_key_that_is_short_or_open_to_others_is_refused() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = cache(dir.path(), 1).dir.join("key");
        let open = || Cache::open(&CacheOptions { dir: dir.path().join("cache"), fresh_key: [1; 32] });
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
        assert!(matches!(open(), Err(CacheError::Open { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
        fs::write(&path, [1; 31]).expect("write");
        assert!(matches!(open(), Err(CacheError::Key { .. })));
    }

    #[test]
    fn a_directory_open_to_others_is_refused() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("open");
        fs::create_dir(&path).expect("make");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
        let opened = Cache::open(&CacheOptions { dir: path, fresh_key: [1; 32] });
        assert!(matches!(opened, Err(CacheError::Open { .. })));
    }
}
