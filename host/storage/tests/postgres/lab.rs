//! A PostgreSQL store in a database of its own.

use std::sync::Arc;
use std::time::Duration;

use ports::live::Live;
use ports::restore::Restored;
use servers::shared;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use storage::postgres::{Options, PostgresStore, RestoredPostgres, open};

use crate::behaviours::audit::Key;
use crate::behaviours::place::{Place, Writing};

/// A database.
pub struct Database {
    pub url: String,
}

impl Place for Database {
    type Store = PostgresStore;

    fn fresh() -> Option<Database> {
        Some(Database { url: shared::database()? })
    }

    fn at(address: &str) -> Database {
        Database { url: address.to_owned() }
    }

    fn address(&self) -> String {
        self.url.clone()
    }

    async fn try_open(&self, live: Arc<dyn Live>) -> Result<(PostgresStore, Writing), String> {
        let (store, writer) = open(options(&self.url), live).await.map_err(|error| error.to_string())?;
        Ok((store, Box::new(move |stop| Box::pin(writer.run(stop)))))
    }

    async fn restored(&self) -> Box<dyn Restored> {
        Box::new(RestoredPostgres::open(&options(&self.url)).await.expect("opens"))
    }

    async fn sql(&self, statement: &'static str) -> Result<Option<String>, sqlx::Error> {
        let mut connection = PgConnection::connect(&self.url).await?;
        let answer = sqlx::query_scalar(statement).fetch_optional(&mut connection).await?;
        connection.close().await?;
        Ok(answer)
    }

    async fn many(&self, statements: &str) {
        let mut connection = PgConnection::connect(&self.url).await.expect("connects");
        let text = AssertSqlSafe(format!("begin; set local synchronous_commit = off; {statements}; commit"));
        sqlx::raw_sql(text).execute(&mut connection).await.expect("done");
        connection.close().await.expect("closes");
    }

    const UNGUARD: &'static str = "drop trigger audit_logs_stay on audit_logs";

    const EDITS: &'static [&'static str] = &[
        "timestamp = timestamp + interval '1 microsecond'",
        "details = details || '{\"x\":1}'",
        "hash = sha256(hash)",
        "ip_address = null, actor = 'x'",
    ];
}

/// Few connections, for many tests share the server.
pub fn options(url: &str) -> Options {
    Options { connections: 4, notary: Some(Key::ours()), ..Options::new(url) }
}

/// Lets everybody else go first for a moment, between two of many things that are done again and again.
pub async fn breathe() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}
