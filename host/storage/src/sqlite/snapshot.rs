//! A copy of the store in one file, taken while it is in use, and looking into such a copy.

use std::path::Path;
use std::time::Duration;

use plan::id::ClusterId;
use ports::journal::Cluster;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};

use super::open::{self, MIGRATIONS, OpenError};
use super::{Options, journal};

/// What is in a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Whose store it is; `None` when no host has used it yet.
    pub cluster: Option<Cluster>,
    /// Its schema's number.
    pub schema: i64,
    /// Commands.
    pub commands: u64,
    /// Invocations that are not over.
    pub open: u64,
    /// Agents.
    pub agents: u64,
    /// Users.
    pub users: u64,
}

/// Writes the store at `from` as it is at one moment into `to`, an empty file or none. The host that uses
/// it goes on writing meanwhile; only its log grows until this is done. On return the copy is on disk.
///
/// # Errors
/// `from` cannot be read, or `to` not be written.
pub async fn snapshot(from: &Path, to: &Path, busy_timeout: Duration) -> Result<(), OpenError> {
    let database = |source| OpenError::Database { path: from.to_owned(), source };
    let file = |source| OpenError::File { path: to.to_owned(), source };
    let options = Options { busy_timeout, ..Options::new(from) };
    let mut connection = open::writing(&options).create_if_missing(false).connect().await.map_err(database)?;
    open::private(to)?;
    let into = to.to_str().ok_or_else(|| file(std::io::Error::other("its path is not UTF-8")))?;
    let copied = sqlx::query("vacuum into ?").bind(into).execute(&mut connection).await;
    connection.close().await.map_err(database)?;
    copied.map_err(database)?;
    open::private(to)?.sync_all().map_err(file)
}

/// Looks into a copy without changing it. The inner list says what is wrong with it as a database; it is
/// empty when all is well.
///
/// # Errors
/// It is no store of ours, or one of a newer program.
pub async fn inspect(path: &Path) -> Result<(Contents, Vec<String>), OpenError> {
    let database = |source| OpenError::Database { path: path.to_owned(), source };
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).read_only(true).immutable(true);
    let mut connection = options.disable_statement_logging().connect().await.map_err(database)?;
    let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
    let schema: Option<i64> = sqlx::query_scalar("select max(version) from _sqlx_migrations where success")
        .fetch_one(&mut connection)
        .await
        .map_err(database)?;
    let schema = schema.unwrap_or(0);
    if schema > known {
        return Err(OpenError::Newer { path: path.to_owned(), found: schema, known });
    }
    let said: Vec<String> =
        sqlx::query_scalar("pragma integrity_check(10)").fetch_all(&mut connection).await.map_err(database)?;
    let mut wrong: Vec<String> = said.into_iter().filter(|line| line != "ok").collect();
    let dangling = sqlx::query("pragma foreign_key_check").fetch_all(&mut connection).await.map_err(database)?;
    if !dangling.is_empty() {
        wrong.push(format!("{} rows name others that are not there", dangling.len()));
    }
    let contents = contents(&mut connection, schema).await.map_err(database)?;
    connection.close().await.map_err(database)?;
    Ok((contents, wrong))
}

async fn contents(connection: &mut SqliteConnection, schema: i64) -> Result<Contents, sqlx::Error> {
    let (commands, open, agents, users): (i64, i64, i64, i64) = sqlx::query_as(
        "select (select count(*) from commands), (select count(*) from invocations where is_open), \
                (select count(*) from agents), (select count(*) from users)",
    )
    .fetch_one(&mut *connection)
    .await?;
    let number = |n: i64| u64::try_from(n).unwrap_or(0);
    let id = journal::fact(connection, "cluster_id", |text| text.parse().ok()).await.ok().map(ClusterId);
    let epoch = journal::fact(connection, "cluster_epoch", |text| text.parse().ok()).await.ok();
    let cluster = id.zip(epoch).map(|(id, epoch)| Cluster { id, epoch });
    let (commands, open) = (number(commands), number(open));
    Ok(Contents { cluster, schema, commands, open, agents: number(agents), users: number(users) })
}
