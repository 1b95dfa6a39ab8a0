//! The store that is measured: SQLite in a file, or a PostgreSQL server of our own. Product and bare client
//! use the same one in turn, each in a database of its own.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use servers::postgres::Postgres;
use tempfile::TempDir;

/// Which store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Embedded in the host.
    #[default]
    Sqlite,
    /// A server beside it.
    Postgres,
}

/// What is forgotten when it is old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Kept {
    /// What commands printed.
    #[default]
    Output,
    /// What machines said of themselves, as it came.
    Telemetry,
    /// Entries of the audit log.
    Audit,
}

impl Kept {
    /// As it is spelled on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Kept::Output => "output",
            Kept::Telemetry => "telemetry",
            Kept::Audit => "audit",
        }
    }
}

/// One store on the file system that is meant.
pub struct Store {
    server: Option<Postgres>,
    made: AtomicU32,
    /// Removed at the end, after the server's.
    home: TempDir,
}

impl Store {
    /// Makes it in a fresh directory inside `dir`; a server is started with its own defaults, and with
    /// commits that survive power loss.
    ///
    /// # Errors
    /// When there is no PostgreSQL, or it does not start.
    pub fn start(kind: Kind, dir: &Path) -> Result<Store> {
        let home = tempfile::tempdir_in(dir).with_context(|| format!("directory {}", dir.display()))?;
        let server = match kind {
            Kind::Sqlite => None,
            Kind::Postgres => Some(Postgres::at(home.path(), &[]).context("PostgreSQL")?),
        };
        let store = Store { server, made: AtomicU32::new(0), home };
        store.check()?;
        Ok(store)
    }

    /// Which.
    pub fn kind(&self) -> Kind {
        if self.server.is_some() { Kind::Postgres } else { Kind::Sqlite }
    }

    /// A figure of a store that loses commits would mean nothing.
    fn check(&self) -> Result<()> {
        let Some(server) = &self.server else { return Ok(()) };
        for setting in ["fsync", "full_page_writes", "synchronous_commit"] {
            let found = server.sql(&format!("show {setting}"))?;
            ensure!(found.trim() == "on", "{setting} is {}", found.trim());
        }
        Ok(())
    }

    /// The address of a fresh database, as the host's `database.url` takes it.
    ///
    /// # Errors
    /// When the server does not make one.
    pub fn fresh(&self) -> Result<String> {
        let name = format!("bench_{}", self.made.fetch_add(1, Ordering::Relaxed));
        match &self.server {
            None => Ok(format!("sqlite:{}", self.home.path().join(format!("{name}.db")).display())),
            Some(server) => server.create_database(&name),
        }
    }

    /// Bytes on disk of a database that [`fresh`](Self::fresh) made.
    ///
    /// # Errors
    /// When the server does not say.
    pub fn bytes(&self, url: &str) -> Result<u64> {
        let name = url.rsplit('/').next().unwrap_or_default();
        match &self.server {
            None => {
                let files = std::fs::read_dir(self.home.path())?.flatten();
                let ours = files.filter(|file| file.file_name().to_string_lossy().starts_with(name));
                Ok(ours.map(|file| file.metadata().map_or(0, |metadata| metadata.len())).sum())
            }
            Some(server) => {
                let text = server.sql(&format!("select pg_database_size('{name}')"))?;
                text.trim().parse().with_context(|| format!("`{}` is no size", text.trim()))
            }
        }
    }

    /// What a commit promises.
    ///
    /// # Errors
    /// When the server does not say its version.
    pub fn durability(&self) -> Result<String> {
        match &self.server {
            None => Ok("SQLite WAL, synchronous=FULL".to_owned()),
            Some(server) => {
                let version = server.sql("show server_version")?;
                let number = version.split_whitespace().next().unwrap_or_default();
                Ok(format!("PostgreSQL {number}, fsync=on, synchronous_commit=on"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_database_is_fresh_and_has_a_size() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::start(Kind::Sqlite, dir.path()).expect("made");
        let (one, other) = (store.fresh().expect("one"), store.fresh().expect("other"));
        assert_ne!(one, other);
        std::fs::write(one.trim_start_matches("sqlite:"), "12345").expect("written");
        std::fs::write(format!("{}-wal", one.trim_start_matches("sqlite:")), "678").expect("written");
        assert_eq!((store.bytes(&one).expect("size"), store.bytes(&other).expect("size")), (8, 0));
    }
}
