//! Reads: a statement on one of the connections for reading. One that finds its connection broken is tried on the
//! next, for a read changes nothing; each attempt does away with a broken connection.

use std::borrow::Cow;
use std::time::Instant;

use ports::error::StoreError;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{Arguments as _, AssertSqlSafe, Encode, Postgres, Type};

use super::PostgresStore;

/// A statement and its parameters.
#[derive(Clone, Default)]
pub(super) struct Statement {
    text: Cow<'static, str>,
    arguments: PgArguments,
}

impl Statement {
    /// A statement without its parameters.
    ///
    /// Invariant: nothing that comes from outside is spelled into `text`.
    pub fn new(text: impl Into<Cow<'static, str>>) -> Statement {
        Statement { text: text.into(), arguments: PgArguments::default() }
    }

    /// Adds the next parameter, `$1` first.
    pub fn bind<'t, T: Encode<'t, Postgres> + Type<Postgres>>(mut self, value: T) -> Statement {
        self.add(value);
        self
    }

    /// Adds text to the statement.
    pub fn push(&mut self, text: &str) -> &mut Statement {
        self.text.to_mut().push_str(text);
        self
    }

    /// Adds a parameter and the sign that stands for it.
    pub fn push_bind<'t, T: Encode<'t, Postgres> + Type<Postgres>>(&mut self, value: T) -> &mut Statement {
        self.add(value);
        let sign = format!("${}", self.arguments.len());
        self.push(&sign)
    }

    /// The same for a connection.
    pub fn query(self) -> Query<'static, Postgres, PgArguments> {
        sqlx::query_with(AssertSqlSafe(self.text.into_owned()), self.arguments)
    }

    fn add<'t, T: Encode<'t, Postgres> + Type<Postgres>>(&mut self, value: T) {
        self.arguments.add(value).expect("numbers, text, bytes and lists of them always encode");
    }
}

impl PostgresStore {
    /// The rows it answers.
    pub(super) async fn rows(&self, statement: Statement) -> Result<Vec<PgRow>, StoreError> {
        let begun = Instant::now();
        loop {
            let failure = match self.readers.fetch(&statement).await {
                Ok(rows) => return Ok(rows),
                Err(failure) => failure,
            };
            if !failure.is_lost() || begun.elapsed() >= self.read_within {
                return Err(failure.into());
            }
            // As many broken connections as there are may come first; with none left, the next attempt says
            // whether the server is there.
            if self.readers.are_fresh() {
                return self.readers.fetch(&statement).await.map_err(StoreError::from);
            }
        }
    }

    /// The row it answers, if there is one.
    pub(super) async fn row(&self, statement: Statement) -> Result<Option<PgRow>, StoreError> {
        Ok(self.rows(statement).await?.pop())
    }
}
