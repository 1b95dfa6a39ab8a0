//! Brings the schema up to date: each migration once, in order, in a transaction of its own with the row that says so.
//! The table that keeps count is the one of sqlx, which keeps it in the other store.

use std::collections::BTreeMap;
use std::path::Path;

use sqlx::migrate::{Migration, Migrator};

use super::connection::Sqlite;
use super::open::OpenError;
use super::query::{Error, query};

pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/sqlite");

const TABLE: &str = "create table if not exists _sqlx_migrations (version bigint primary key, description text not null, \
     installed_on timestamp not null default current_timestamp, success boolean not null, checksum blob not null, \
     execution_time bigint not null)";

/// Why the schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// It was changed by something that is not known here.
    #[error("migration {0} was applied, and is none of this program's")]
    Unknown(i64),
    /// It was changed by another form of a migration.
    #[error("migration {0} was applied in another form than this program knows")]
    Changed(i64),
    /// A migration was not brought to its end.
    #[error("migration {0} was begun and not ended; restore the backup made before the upgrade")]
    Unfinished(i64),
    /// SQLite would not.
    #[error("migration {version}: {source}")]
    Failed {
        /// Which one.
        version: i64,
        /// Why.
        source: Error,
    },
}

/// The newest schema this program knows.
pub(super) fn newest() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Applies what is missing.
pub(super) async fn migrate(line: &mut Sqlite, path: &Path) -> Result<(), OpenError> {
    let database = |source| OpenError::Database { path: path.to_owned(), source };
    let schema = |source| OpenError::Schema { path: path.to_owned(), source };
    let applied = applied(line).await.map_err(database)?;
    if let Some(found) = applied.keys().copied().find(|version| !MIGRATIONS.version_exists(*version)) {
        let known = newest();
        let newer = OpenError::Newer { path: path.to_owned(), found, known };
        return Err(if found > known { newer } else { schema(SchemaError::Unknown(found)) });
    }
    for migration in MIGRATIONS.iter() {
        let version = migration.version;
        match applied.get(&version) {
            Some((false, _)) => return Err(schema(SchemaError::Unfinished(version))),
            Some((true, checksum)) if *checksum != *migration.checksum => {
                return Err(schema(SchemaError::Changed(version)));
            }
            Some(_) => {}
            None => apply(line, migration).await.map_err(|source| schema(SchemaError::Failed { version, source }))?,
        }
    }
    Ok(())
}

/// What was applied: whether to its end, and the checksum of its text.
async fn applied(line: &mut Sqlite) -> Result<BTreeMap<i64, (bool, Vec<u8>)>, Error> {
    line.batch(TABLE)?;
    let found = query("select version, success, checksum from _sqlx_migrations").fetch_all(line).await?;
    found.iter().map(|row| Ok((row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?)))).collect()
}

async fn apply(line: &mut Sqlite, migration: &Migration) -> Result<(), Error> {
    line.batch("begin immediate")?;
    let done = async {
        line.batch(migration.sql.as_str())?;
        let told = query(
            "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
             values (?, ?, true, ?, 0)",
        );
        let told = told.bind(migration.version).bind(&*migration.description).bind(&*migration.checksum);
        told.execute(&mut *line).await.map(|_| ())
    };
    let done = done.await;
    line.end(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_migration_is_applied_once_and_what_is_not_as_known_is_told() {
        let (mut line, path) = (Sqlite::in_memory(), Path::new("kept.db"));
        for _ in 0..2 {
            migrate(&mut line, path).await.expect("up to date");
            let versions = applied(&mut line).await.expect("read");
            assert!(versions.keys().copied().eq(MIGRATIONS.iter().map(|migration| migration.version)));
        }
        for (change, told) in [
            ("update _sqlx_migrations set success = false where version = 4", "migration 4 was begun and not ended"),
            ("update _sqlx_migrations set success = true, checksum = x'00'", "migration 1 was applied in another form"),
            ("update _sqlx_migrations set version = 5 where version = 4", "migration 5 was applied, and is none"),
            ("update _sqlx_migrations set version = 9999 where version = 5", "has schema 9999"),
        ] {
            line.batch(change).expect("tampered");
            let refused = migrate(&mut line, path).await.expect_err("refused").to_string();
            assert!(refused.contains(told), "{refused}");
        }
    }

    #[tokio::test]
    async fn what_fails_leaves_nothing_behind() {
        let mut line = Sqlite::in_memory();
        line.batch("create table agents (id integer)").expect("in the way");
        let refused = migrate(&mut line, Path::new("kept.db")).await.expect_err("refused").to_string();
        assert!(refused.contains("migration 1: table agents already exists"), "{refused}");
        assert!(applied(&mut line).await.expect("read").is_empty());
        assert!(line.batch("select 1 from meta").is_err(), "what came before it in the text is undone");
    }
}
