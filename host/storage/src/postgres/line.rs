//! The writer's own connection: how it is opened again when it breaks, and how a transaction whose commit
//! was not answered is looked up.
//!
//! Every transaction sets this node's row in `nodes` to its own number. When the answer to a commit is
//! lost, the row is read on a fresh connection *with a lock on it*: if the old transaction is still under
//! way the lock waits for it, and if it has not committed by then it never will.
//!
//! The connection holds an advisory lock on the node's id. A lock that is free tells other hosts that
//! this one is gone.

use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use uuid::Uuid;

use super::failure::Failure;
use super::open;

/// Longest wait for one connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// Longest a commit's fate is looked for.
const LOOK_WITHIN: Duration = Duration::from_secs(2);
/// Between two attempts to connect. Nobody can do anything else meanwhile.
const PAUSE: Duration = Duration::from_millis(25);

/// The connection that writes.
pub(super) struct Line {
    connecting: PgConnectOptions,
    node: Uuid,
    allow_unsafe_durability: bool,
    /// `None` after a failure: a fresh connection has no half of a transaction.
    connection: Option<PgConnection>,
    /// The number of the last transaction begun.
    batch: i64,
}

impl Line {
    pub fn new(connecting: PgConnectOptions, node: Uuid, allow_unsafe_durability: bool) -> Line {
        let connecting = connecting.application_name(&name(node));
        Line { connecting, node, allow_unsafe_durability, connection: None, batch: 0 }
    }

    /// The connection, opened if there is none, and the number of the transaction about to begin.
    pub async fn ready(&mut self) -> Result<(&mut PgConnection, i64), Failure> {
        if self.connection.is_none() {
            self.connection = Some(self.connect().await?);
        }
        self.batch += 1;
        Ok((self.connection.as_mut().expect("set just above"), self.batch))
    }

    /// Drops the connection; the server rolls back what it had begun.
    pub fn cut(&mut self) {
        self.connection = None;
    }

    /// Closes the connection in order.
    ///
    /// # Errors
    /// What the server answered, or that it did not.
    pub async fn close(&mut self) -> Result<(), Failure> {
        let Some(mut connection) = self.connection.take() else { return Ok(()) };
        let parting = async {
            // A server frees a session's locks some time after the session is over, and whoever starts next asks at once.
            sqlx::query("select pg_advisory_unlock_all()").execute(&mut connection).await?;
            connection.close().await
        };
        match tokio::time::timeout(CONNECT_WITHIN, parting).await {
            Ok(closed) => Ok(closed?),
            Err(_) => Err(Failure::Silence(CONNECT_WITHIN)),
        }
    }

    async fn connect(&self) -> Result<PgConnection, Failure> {
        match tokio::time::timeout(CONNECT_WITHIN, self.connect_at_leisure()).await {
            Ok(connected) => connected,
            Err(_) => Err(Failure::Silence(CONNECT_WITHIN)),
        }
    }

    async fn connect_at_leisure(&self) -> Result<PgConnection, Failure> {
        let mut connection = self.connecting.connect().await?;
        // A failed server may have come back with weaker settings, and later ones must not touch us.
        open::check_durability(&mut connection, self.allow_unsafe_durability).await?;
        // The server may not have noticed yet that the last connection broke, and its locks are ours.
        sqlx::query(
            "select pg_terminate_backend(pid) from pg_stat_activity \
             where datname = current_database() and application_name = $1 and pid <> pg_backend_pid()",
        )
        .bind(name(self.node))
        .execute(&mut connection)
        .await?;
        sqlx::query("select pg_advisory_lock($1, hashtext($2))")
            .bind(open::NODE_LOCK)
            .bind(self.node.to_string())
            .execute(&mut connection)
            .await?;
        Ok(connection)
    }

    /// Whether transaction `batch` was committed; `None` when that cannot be found out in time.
    pub async fn was_committed(&mut self, batch: i64) -> Result<bool, Failure> {
        self.cut();
        let begun = Instant::now();
        loop {
            let left = LOOK_WITHIN.saturating_sub(begun.elapsed());
            let failure = match tokio::time::timeout(left, self.look(batch)).await {
                Ok(Ok(committed)) => return Ok(committed),
                Ok(Err(failure)) => failure,
                Err(_) => Failure::Silence(LOOK_WITHIN),
            };
            self.cut();
            if begun.elapsed() + PAUSE >= LOOK_WITHIN {
                return Err(failure);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn look(&mut self, batch: i64) -> Result<bool, Failure> {
        let mut connection = self.connect().await?;
        let last: Option<i64> = sqlx::query_scalar("select batch from nodes where id = $1 for update")
            .bind(self.node)
            .fetch_optional(&mut connection)
            .await?;
        self.connection = Some(connection);
        Ok(last == Some(batch))
    }
}

/// What a node's connection is called; PostgreSQL keeps 63 letters of it.
fn name(node: Uuid) -> String {
    format!("viworks writer {node}")
}

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;

    use servers::postgres::Postgres;
    use servers::shared;

    use super::*;

    fn line(server: &Postgres) -> Line {
        Line::new(PgConnectOptions::from_str(&server.url()).expect("a URL"), Uuid::nil(), false)
    }

    async fn show(line: &mut Line, setting: &'static str) -> String {
        let (connection, _) = line.ready().await.expect("connected");
        let asked = sqlx::query_scalar("select current_setting($1)").bind(setting);
        asked.fetch_one(connection).await.expect("answered")
    }

    /// Weakens the whole server and returns when the line's session has heard of that.
    async fn weaken(server: &Postgres, line: &mut Line, mark: &str) {
        server.sql("alter system set synchronous_commit = off").expect("set");
        // Of the same reload, and pinned by nobody.
        server.sql(&format!("alter system set work_mem = '{mark}'")).expect("set");
        server.sql("select pg_reload_conf()").expect("told");
        let heard = async { while show(line, "work_mem").await != mark {} };
        tokio::time::timeout(Duration::from_secs(60), heard).await.expect("the session hears of it");
    }

    #[tokio::test]
    async fn a_reload_weakens_no_connection_that_is_open() {
        let Some(server) = shared::own(&[]) else { return };
        let mut open = line(&server);
        for (mark, found) in [("5MB", "on"), ("6MB", "local"), ("7MB", "remote_apply")] {
            server.sql(&format!("alter role viworks set synchronous_commit = {found}")).expect("set");
            open.cut();
            assert_eq!(show(&mut open, "synchronous_commit").await, found, "as it was found");
            server.sql("alter role viworks reset synchronous_commit").expect("reset");
            weaken(&server, &mut open, mark).await;
            assert_eq!(show(&mut open, "synchronous_commit").await, found, "as it was when it was opened");
            let refused = line(&server).ready().await.map(drop).expect_err("a new one is refused");
            assert!(matches!(refused, Failure::Weak("synchronous_commit")), "{refused:?}");
        }
    }
}
