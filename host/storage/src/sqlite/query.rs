//! A statement with its values, and the rows it answers.

use std::borrow::Cow;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;

use rusqlite::types::Value;
use uuid::Uuid;

/// Why SQLite did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its own word.
    #[error("{}", said(.0))]
    Sqlite(#[from] rusqlite::Error),
    /// A cell is not of the kind that is asked for.
    #[error("{0}")]
    Cell(String),
    /// One row was asked for, and there is none.
    #[error("no row where there has to be one")]
    NoRow,
    /// No connection for reading came free in time.
    #[error("timed out: no reader came free in time")]
    NoReader,
    /// The connection for reading did not answer.
    #[error("the reader failed; the log says why")]
    Lost,
    /// The file it is about.
    #[error(transparent)]
    File(#[from] std::io::Error),
}

/// SQLite's words and its extended code, which says which of a dozen I/O errors it is; without the statement.
fn said(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(code, said) => {
            format!("{} (code: {})", said.as_deref().unwrap_or("unknown error"), code.extended_code)
        }
        rusqlite::Error::SqlInputError { error, msg, .. } => format!("{msg} (code: {})", error.extended_code),
        other => other.to_string(),
    }
}

/// What runs statements.
pub(super) trait On {
    /// Runs one statement and answers its rows, and how many it changed.
    fn run(self, text: Cow<'_, str>, values: Vec<Value>) -> impl Future<Output = Result<Answer, Error>> + Send;
}

/// What a statement answers.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub rows: Vec<Row>,
    pub changed: u64,
}

impl Answer {
    /// How many rows it inserted, updated or deleted.
    pub fn rows_affected(&self) -> u64 {
        self.changed
    }
}

/// One row.
#[derive(Debug)]
pub(super) struct Row(pub Vec<Value>);

impl Row {
    /// One cell, counted from 0.
    pub fn try_get<'r, T: Cell<'r>>(&'r self, place: usize) -> Result<T, Error> {
        let value = self.0.get(place).ok_or_else(|| Error::Cell(format!("the row has no cell {place}")))?;
        T::of(value).ok_or_else(|| Error::Cell(format!("{} where {} is needed", value.data_type(), T::WHAT)))
    }
}

/// A statement and its values, in the order of its parameters.
pub(super) struct Query<'t> {
    text: Cow<'t, str>,
    values: Vec<Value>,
}

/// A statement. What is not constant in it comes from closed sets: everything else is bound.
pub(super) fn query<'t>(text: impl Into<Cow<'t, str>>) -> Query<'t> {
    query_with(text, Vec::new())
}

/// The same with all of its values.
pub(super) fn query_with<'t>(text: impl Into<Cow<'t, str>>, values: Vec<Value>) -> Query<'t> {
    Query { text: text.into(), values }
}

/// A statement of whose rows only the first cell is wanted.
pub(super) fn query_scalar<'t, T>(text: impl Into<Cow<'t, str>>) -> Scalar<'t, T> {
    Scalar { query: query(text), what: PhantomData }
}

impl<'t> Query<'t> {
    /// Adds the next value.
    pub fn bind(mut self, value: impl Bind) -> Query<'t> {
        self.values.push(value.value());
        self
    }

    /// Runs it for what it does.
    pub async fn execute(self, on: impl On) -> Result<Answer, Error> {
        on.run(self.text, self.values).await
    }

    /// All of its rows.
    pub async fn fetch_all(self, on: impl On) -> Result<Vec<Row>, Error> {
        Ok(on.run(self.text, self.values).await?.rows)
    }

    /// Its first row, if there is one.
    pub async fn fetch_optional(self, on: impl On) -> Result<Option<Row>, Error> {
        Ok(self.fetch_all(on).await?.into_iter().next())
    }

    /// Its first row.
    pub async fn fetch_one(self, on: impl On) -> Result<Row, Error> {
        self.fetch_optional(on).await?.ok_or(Error::NoRow)
    }

    /// Statement and values.
    pub fn parts(self) -> (Cow<'t, str>, Vec<Value>) {
        (self.text, self.values)
    }
}

/// See [`query_scalar`].
pub(super) struct Scalar<'t, T> {
    query: Query<'t>,
    what: PhantomData<fn() -> T>,
}

impl<'t, T: for<'r> Cell<'r>> Scalar<'t, T> {
    /// Adds the next value.
    pub fn bind(self, value: impl Bind) -> Scalar<'t, T> {
        Scalar { query: self.query.bind(value), what: PhantomData }
    }

    /// Of all rows.
    pub async fn fetch_all(self, on: impl On) -> Result<Vec<T>, Error> {
        self.query.fetch_all(on).await?.iter().map(|row| row.try_get(0)).collect()
    }

    /// Of the first row, if there is one.
    pub async fn fetch_optional(self, on: impl On) -> Result<Option<T>, Error> {
        self.query.fetch_optional(on).await?.map(|row| row.try_get(0)).transpose()
    }

    /// Of the first row.
    pub async fn fetch_one(self, on: impl On) -> Result<T, Error> {
        self.query.fetch_one(on).await?.try_get(0)
    }
}

/// What a parameter can be.
pub(super) trait Bind {
    /// The same as SQLite keeps it.
    fn value(self) -> Value;
}

/// What a cell can be read as.
pub(super) trait Cell<'r>: Sized {
    /// What it has to be.
    const WHAT: &'static str;

    /// The cell, if it is one of these.
    fn of(value: &'r Value) -> Option<Self>;
}

macro_rules! whole_numbers {
    ($($number:ty)*) => {$(
        impl Bind for $number {
            fn value(self) -> Value {
                Value::Integer(self.into())
            }
        }

        impl Cell<'_> for $number {
            const WHAT: &'static str = stringify!($number);

            fn of(value: &Value) -> Option<Self> {
                if let Value::Integer(number) = value { (*number).try_into().ok() } else { None }
            }
        }
    )*};
}

whole_numbers! { i64 i32 u32 u16 u8 }

impl Bind for bool {
    fn value(self) -> Value {
        Value::Integer(self.into())
    }
}

impl Cell<'_> for bool {
    const WHAT: &'static str = "yes or no";

    fn of(value: &Value) -> Option<bool> {
        if let Value::Integer(number) = value { Some(*number != 0) } else { None }
    }
}

impl Bind for f64 {
    fn value(self) -> Value {
        Value::Real(self)
    }
}

impl Cell<'_> for f64 {
    const WHAT: &'static str = "a number";

    fn of(value: &Value) -> Option<f64> {
        if let Value::Real(number) = value { Some(*number) } else { None }
    }
}

impl Bind for String {
    fn value(self) -> Value {
        Value::Text(self)
    }
}

impl Bind for &str {
    fn value(self) -> Value {
        Value::Text(self.to_owned())
    }
}

impl<'r> Cell<'r> for &'r str {
    const WHAT: &'static str = "text";

    fn of(value: &'r Value) -> Option<&'r str> {
        if let Value::Text(text) = value { Some(text) } else { None }
    }
}

impl Cell<'_> for String {
    const WHAT: &'static str = "text";

    fn of(value: &Value) -> Option<String> {
        <&str>::of(value).map(str::to_owned)
    }
}

impl Cell<'_> for Arc<str> {
    const WHAT: &'static str = "text";

    fn of(value: &Value) -> Option<Arc<str>> {
        <&str>::of(value).map(Arc::from)
    }
}

impl Bind for Vec<u8> {
    fn value(self) -> Value {
        Value::Blob(self)
    }
}

impl Bind for &[u8] {
    fn value(self) -> Value {
        Value::Blob(self.to_vec())
    }
}

impl Cell<'_> for Vec<u8> {
    const WHAT: &'static str = "bytes";

    fn of(value: &Value) -> Option<Vec<u8>> {
        if let Value::Blob(bytes) = value { Some(bytes.clone()) } else { None }
    }
}

impl Bind for Uuid {
    fn value(self) -> Value {
        Value::Blob(self.as_bytes().to_vec())
    }
}

impl Cell<'_> for Uuid {
    const WHAT: &'static str = "an id of 16 bytes";

    fn of(value: &Value) -> Option<Uuid> {
        if let Value::Blob(bytes) = value { Uuid::from_slice(bytes).ok() } else { None }
    }
}

impl<T: Bind + Clone> Bind for &T {
    fn value(self) -> Value {
        self.clone().value()
    }
}

impl<T: Bind> Bind for Option<T> {
    fn value(self) -> Value {
        self.map_or(Value::Null, Bind::value)
    }
}

impl<'r, T: Cell<'r>> Cell<'r> for Option<T> {
    const WHAT: &'static str = T::WHAT;

    fn of(value: &'r Value) -> Option<Option<T>> {
        if matches!(value, Value::Null) { Some(None) } else { T::of(value).map(Some) }
    }
}
