//! The contexts file on disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::Contexts;
use crate::exit::Exit;
use crate::failure::Failure;

/// Where contexts are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    path: PathBuf,
}

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Reading, writing or locking failed.
    #[error("{}: {cause}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// It is not what we write.
    #[error("{} is no contexts file: {cause}; mend it, or move it away and log in again", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        cause: String,
    },
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::new(Exit::Error, error.to_string())
    }
}

/// The right to change the file, held by one process at a time until dropped.
#[derive(Debug)]
pub struct Lock {
    store: Store,
    _file: File,
}

impl Store {
    /// The store in this file, which need not exist.
    pub fn at(path: impl Into<PathBuf>) -> Store {
        Store { path: path.into() }
    }

    /// The store that the environment names: `$VIWORKS_CONFIG`, else `viworks/contexts.toml` in
    /// `$XDG_CONFIG_HOME` or `~/.config`.
    ///
    /// # Errors
    /// When there is neither that variable nor a home directory.
    pub fn of_environment() -> Result<Store, Failure> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(path) = set("VIWORKS_CONFIG") {
            return Ok(Store::at(path));
        }
        let config = set("XDG_CONFIG_HOME").or_else(|| std::env::home_dir().map(|home| home.join(".config")));
        match config {
            Some(config) => Ok(Store::at(config.join("viworks").join("contexts.toml"))),
            None => Err(Failure::new(Exit::Error, "no home directory: name a file in VIWORKS_CONFIG")),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it holds; nothing when there is no file.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn read(&self) -> Result<Contexts, StoreError> {
        match fs::read_to_string(&self.path) {
            Ok(text) => toml::from_str(&text).map_err(|error| StoreError::Content {
                path: self.path.clone(),
                // The full message quotes the line, which may hold a token.
                cause: error.message().to_owned(),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Contexts::default()),
            Err(cause) => Err(self.fault(cause)),
        }
    }

    /// Waits until no other process changes the file, and keeps others out. Blocks.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn lock(&self) -> Result<Lock, StoreError> {
        let fault = |cause| self.fault(cause);
        if let Some(directory) = self.path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            private_directory(directory).map_err(fault)?;
        }
        // The lock has its own file: the contexts file itself is replaced at every write.
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".lock");
        let file = private(OpenOptions::new().create(true).truncate(false).write(true))
            .open(self.path.with_file_name(name))
            .map_err(fault)?;
        file.lock().map_err(fault)?;
        Ok(Lock { store: self.clone(), _file: file })
    }

    /// Reads, changes and writes under the lock.
    ///
    /// # Errors
    /// [`StoreError`], or what `change` fails with; then nothing is written.
    pub fn edit<T, E: From<StoreError>>(&self, change: impl FnOnce(&mut Contexts) -> Result<T, E>) -> Result<T, E> {
        let lock = self.lock()?;
        let mut contexts = lock.read()?;
        let answer = change(&mut contexts)?;
        lock.write(&contexts)?;
        Ok(answer)
    }

    fn fault(&self, cause: io::Error) -> StoreError {
        StoreError::File { path: self.path.clone(), cause }
    }
}

impl Lock {
    /// What the file holds now.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn read(&self) -> Result<Contexts, StoreError> {
        self.store.read()
    }

    /// Replaces the file: afterwards it is either the old one or the new one, also after a crash.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn write(&self, contexts: &Contexts) -> Result<(), StoreError> {
        let text = toml::to_string_pretty(contexts).map_err(|error| self.store.fault(io::Error::other(error)))?;
        self.replace(text.as_bytes()).map_err(|cause| self.store.fault(cause))
    }

    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        // Somebody's configuration may be a link into a repository of dotfiles: write behind it.
        let target = fs::canonicalize(&self.store.path).unwrap_or_else(|_| self.store.path.clone());
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.new", std::process::id()));
        let fresh = target.with_file_name(name);
        let _ = fs::remove_file(&fresh);
        let mut file = private(OpenOptions::new().create_new(true).write(true)).open(&fresh)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&fresh, &target));
        if written.is_err() {
            let _ = fs::remove_file(&fresh);
        }
        written
    }
}

#[cfg(unix)]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600)
}

#[cfg(not(unix))]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

#[cfg(unix)]
fn private_directory(directory: &Path) -> io::Result<()> {
    std::os::unix::fs::DirBuilderExt::mode(fs::DirBuilder::new().recursive(true), 0o700).create(directory)
}

#[cfg(not(unix))]
fn private_directory(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)
}

#[cfg(test)]
mod tests {
    use super::super::Context;
    use super::*;

    fn context(url: &str) -> Context {
        Context {
            url: url.into(),
            user: "ada".into(),
            ca: None,
            pin: None,
            access_token: None,
            refresh_token: None,
            expires_at: None,
        }
    }

    #[cfg(unix)]
    #[test]
    fn the_file_is_its_owners_alone_and_survives_an_edit_that_fails() {
        use std::os::unix::fs::PermissionsExt;

        let directory = tempfile::tempdir().unwrap();
        let store = Store::at(directory.path().join("deep/er/contexts.toml"));
        assert_eq!(store.read().unwrap(), Contexts::default());
        store
            .edit::<_, StoreError>(|contexts| {
                contexts.contexts.insert("a".into(), context("http://a"));
                Ok(())
            })
            .unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(store.path()), 0o600);
        assert_eq!(mode(store.path().parent().unwrap()), 0o700);

        let refused = store.edit::<(), Failure>(|contexts| {
            contexts.contexts.clear();
            Err(Failure::usage("no"))
        });
        assert!(refused.is_err());
        assert!(store.read().unwrap().contexts.contains_key("a"));
        let left: Vec<_> =
            fs::read_dir(store.path().parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "the file and its lock: {left:?}");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().join("dotfiles.toml");
        fs::write(&real, "current = \"a\"\n").unwrap();
        let link = directory.path().join("contexts.toml");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        Store::at(&link)
            .edit::<_, StoreError>(|contexts| {
                contexts.current = None;
                Ok(())
            })
            .unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), "");
    }

    #[test]
    fn a_broken_file_is_named_without_quoting_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("contexts.toml");
        fs::write(&path, "[contexts.a]\nurl = \"x\"\nuser = \"u\"\naccess_token = secret-token\n").unwrap();
        let message = Store::at(&path).read().unwrap_err().to_string();
        assert!(message.contains("contexts.toml") && !message.contains("secret-token"), "{message}");
    }

    #[test]
    fn many_editors_lose_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::at(directory.path().join("contexts.toml"));
        std::thread::scope(|scope| {
            for n in 0..8 {
                let store = &store;
                scope.spawn(move || {
                    for m in 0..5 {
                        store
                            .edit::<_, StoreError>(|contexts| {
                                contexts.contexts.insert(format!("c{n}-{m}"), context("http://a"));
                                Ok(())
                            })
                            .unwrap();
                    }
                });
            }
        });
        assert_eq!(store.read().unwrap().contexts.len(), 40);
    }
}
