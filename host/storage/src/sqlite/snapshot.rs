//! A copy of the store in one file, taken while it is in use, and looking into such a copy.

use std::path::Path;
use std::time::Duration;

use plan::id::ClusterId;
use ports::journal::Cluster;

use super::connection::{Opening, Sqlite};
use super::migrate::newest;
use super::open::{self, OpenError};
use super::query::{Error, query, query_scalar};
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
/// it goes on writing meanwhile; only its log grows until this is done. On return the copy is on disk. Blocks for as long as that takes.
///
/// # Errors
/// `from` cannot be read, or `to` not be written.
pub async fn snapshot(from: &Path, to: &Path, busy_timeout: Duration) -> Result<(), OpenError> {
    let database = |source| OpenError::Database { path: from.to_owned(), source };
    let file = |source| OpenError::File { path: to.to_owned(), source };
    let options = Options { busy_timeout, ..Options::new(from) };
    let mut connection = open::writing(&options).open().map_err(database)?;
    open::private(to)?;
    let into = to.to_str().ok_or_else(|| file(std::io::Error::other("its path is not UTF-8")))?;
    let copied = query("vacuum into ?").bind(into).execute(&mut connection).await;
    connection.close().map_err(database)?;
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
    let mut connection = Opening::immutable(path).open().map_err(database)?;
    let known = newest();
    let schema: Option<i64> = query_scalar("select max(version) from _sqlx_migrations where success")
        .fetch_one(&mut connection)
        .await
        .map_err(database)?;
    let schema = schema.unwrap_or(0);
    if schema > known {
        return Err(OpenError::Newer { path: path.to_owned(), found: schema, known });
    }
    let said: Vec<String> =
        query_scalar("pragma integrity_check(10)").fetch_all(&mut connection).await.map_err(database)?;
    let mut wrong: Vec<String> = said.into_iter().filter(|line| line != "ok").collect();
    let dangling = query("pragma foreign_key_check").fetch_all(&mut connection).await.map_err(database)?;
    if !dangling.is_empty() {
        wrong.push(format!("{} rows name others that are not there", dangling.len()));
    }
    let contents = contents(&mut connection, schema).await.map_err(database)?;
    connection.close().map_err(database)?;
    Ok((contents, wrong))
}

async fn contents(connection: &mut Sqlite, schema: i64) -> Result<Contents, Error> {
    let row = query(
        "select (select count(*) from commands), (select count(*) from invocations where is_open), \
                (select count(*) from agents), (select count(*) from users)",
    )
    .fetch_one(&mut *connection)
    .await?;
    let (commands, open, agents, users) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
    let number = |n: i64| u64::try_from(n).unwrap_or(0);
    let id = journal::fact(connection, "cluster_id", |text| text.parse().ok()).await.ok().map(ClusterId);
    let epoch = journal::fact(connection, "cluster_epoch", |text| text.parse().ok()).await.ok();
    let cluster = id.zip(epoch).map(|(id, epoch)| Cluster { id, epoch });
    let (commands, open) = (number(commands), number(open));
    Ok(Contents { cluster, schema, commands, open, agents: number(agents), users: number(users) })
}
