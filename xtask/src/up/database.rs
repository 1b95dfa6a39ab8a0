//! The store of one `up`: the embedded one, or a PostgreSQL that is started for it in its data directory
//! and stopped at the end. A data directory belongs to the store it was first used with.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, bail};
use servers::postgres::{End, Postgres};

use super::place::Place;
use crate::program::say;

/// The database the host gets to itself.
const DATABASE: &str = "viworks";

/// Where the host keeps its rows.
pub enum Database {
    /// In a file of its own.
    Sqlite,
    /// In a server that ends with us.
    Postgres(Box<Postgres>),
}

impl Database {
    /// The embedded one.
    ///
    /// # Errors
    /// When the directory was used with PostgreSQL.
    pub fn sqlite(place: &Place) -> anyhow::Result<Database> {
        if place.postgres().exists() {
            let dir = place.shown(place.dir()).display();
            bail!("{dir} was used with PostgreSQL: start with --postgres, or name another directory with --data");
        }
        Ok(Database::Sqlite)
    }

    /// Starts PostgreSQL. To be called after signals are blocked, so that no thread of ours takes one by
    /// itself; the server lets through what it wants by itself.
    ///
    /// # Errors
    /// When the directory was used with SQLite, or PostgreSQL cannot be started in it.
    pub fn postgres(place: &Place) -> anyhow::Result<Database> {
        if place.sqlite_file().exists() {
            let dir = place.shown(place.dir()).display();
            bail!("{dir} was used with SQLite: start without --postgres, or name another directory with --data");
        }
        crate::toolchain::postgres()?;
        if nix::unistd::geteuid().is_root() {
            let_through(place)?;
        }
        let begun = Instant::now();
        let postgres = Postgres::at(&place.postgres(), &[]).context("PostgreSQL")?;
        let known = postgres.sql(&format!("select 1 from pg_database where datname = '{DATABASE}'"))?;
        if known.trim().is_empty() {
            postgres.create_database(DATABASE)?;
        }
        let database = Database::Postgres(Box::new(postgres));
        say(format_args!("      {} started in {:.1} s", database.describe(place), begun.elapsed().as_secs_f64()));
        Ok(database)
    }

    /// The host's `database.url`.
    pub fn url(&self, place: &Place) -> String {
        match self {
            Database::Sqlite => format!("sqlite:{}", place.sqlite_file().display()),
            Database::Postgres(postgres) => postgres.url_of(DATABASE),
        }
    }

    /// What scripts call it.
    pub fn name(&self) -> &'static str {
        match self {
            Database::Sqlite => "sqlite",
            Database::Postgres(_) => "postgres",
        }
    }

    /// What people call it, and where it is.
    pub fn describe(&self, place: &Place) -> String {
        match self {
            Database::Sqlite => format!("SQLite, {}", place.shown(&place.sqlite_file()).display()),
            Database::Postgres(postgres) => {
                let (port, folder) = (postgres.port(), place.postgres());
                format!("PostgreSQL, 127.0.0.1:{port}, {}", place.shown(&folder).display())
            }
        }
    }

    /// Ends it in order; says how that went.
    pub fn stop(self) -> Option<String> {
        let Database::Postgres(mut postgres) = self else { return None };
        let asked = Instant::now();
        Some(match postgres.stop(End::Fast) {
            Ok(()) => format!("PostgreSQL stopped after {:.1} s", asked.elapsed().as_secs_f64()),
            Err(error) => format!("PostgreSQL did not stop in order: {error:#}"),
        })
    }
}

/// PostgreSQL does not run as root, so its user has to get to the data directory: our own folders let
/// others through (and list nothing); a folder that is not ours is left as it is.
fn let_through(place: &Place) -> anyhow::Result<()> {
    for ours in [place.state(), place.dir()] {
        let mode = std::fs::metadata(ours)?.permissions().mode();
        let changed = std::fs::set_permissions(ours, std::fs::Permissions::from_mode(mode | 0o011));
        changed.with_context(|| format!("{} cannot be opened to PostgreSQL's user", ours.display()))?;
    }
    let closed = |folder: &&Path| std::fs::metadata(folder).is_ok_and(|found| found.mode() & 0o001 == 0);
    match place.dir().ancestors().find(closed) {
        None => Ok(()),
        Some(closed) => bail!(
            "{} lets only its owner through, and PostgreSQL does not run as root: \
             name a directory elsewhere with --data, e.g. --data /var/tmp/viworks, or run as another user",
            closed.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_keeps_the_store_it_began_with() {
        let dir = tempfile::tempdir().expect("temp dir");
        let place = Place::open(dir.path()).expect("taken");
        let embedded = Database::sqlite(&place).expect("a new directory");
        assert_eq!((embedded.name(), embedded.url(&place).starts_with("sqlite:/")), ("sqlite", true));
        assert_eq!(embedded.stop(), None);
        std::fs::write(place.sqlite_file(), "").expect("written");
        let refused = Database::postgres(&place).err().expect("SQLite's").to_string();
        assert!(refused.contains("was used with SQLite") && refused.contains("--data"), "{refused}");
        std::fs::remove_file(place.sqlite_file()).expect("removed");
        std::fs::create_dir(place.postgres()).expect("made");
        let refused = Database::sqlite(&place).err().expect("PostgreSQL's").to_string();
        assert!(refused.contains("--postgres"), "{refused}");
    }
}
