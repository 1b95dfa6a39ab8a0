//! One connection to the file. SQLite is called where the caller is: going to a thread and back costs more than most
//! statements.

use std::borrow::Cow;
use std::future::{Future, ready};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OpenFlags, Statement};

use super::query::{Answer, Error, On, Row};

/// More than the statements there are, each in every size of a bulk statement.
const STATEMENTS: usize = 512;

/// Steps of SQLite's machine between two looks whether anybody waits still: a millisecond at most.
const LOOK_EVERY: i32 = 10_000;

/// How a connection is opened.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    path: PathBuf,
    flags: OpenFlags,
    immutable: bool,
    busy_timeout: Duration,
    pragmas: Vec<(&'static str, String)>,
}

impl Opening {
    /// Of a file that exists, to write; `busy_timeout` is the longest wait for a lock that another program holds on it.
    pub fn writing(path: &Path, busy_timeout: Duration) -> Opening {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Opening { path: path.to_owned(), flags, immutable: false, busy_timeout, pragmas: Vec::new() }
    }

    /// Of a file that nobody changes meanwhile, to read.
    pub fn immutable(path: &Path) -> Opening {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        Opening { flags, immutable: true, ..Opening::writing(path, Duration::ZERO) }
    }

    /// Makes the file when there is none.
    #[cfg(test)]
    pub fn creating(mut self) -> Opening {
        self.flags |= OpenFlags::SQLITE_OPEN_CREATE;
        self
    }

    /// Waits so long for a lock.
    pub fn busy_timeout(self, busy_timeout: Duration) -> Opening {
        Opening { busy_timeout, ..self }
    }

    /// With this setting, whatever it was before.
    pub fn pragma(mut self, name: &'static str, value: impl Into<String>) -> Opening {
        self.pragmas.retain(|(known, _)| *known != name);
        self.pragmas.push((name, value.into()));
        self
    }

    /// Which file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it.
    pub fn open(&self) -> Result<Sqlite, Error> {
        let connection = if self.immutable {
            Connection::open_with_flags(immutable_uri(&self.path), self.flags)?
        } else {
            Connection::open_with_flags(&self.path, self.flags)?
        };
        connection.busy_timeout(self.busy_timeout)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        for (name, value) in &self.pragmas {
            connection.pragma_update(None, name, value)?;
        }
        Ok(Sqlite(connection))
    }
}

/// The path as SQLite reads it in a URI.
fn immutable_uri(path: &Path) -> String {
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => uri.push(char::from(*byte)),
            other => uri.push_str(&format!("%{other:02x}")),
        }
    }
    uri.push_str("?immutable=1");
    uri
}

/// One connection.
pub(super) struct Sqlite(Connection);

impl Sqlite {
    /// Of nothing but memory.
    #[cfg(test)]
    pub fn in_memory() -> Sqlite {
        Sqlite(Connection::open_in_memory().expect("opens"))
    }

    /// Runs one statement and answers its rows, and how many it changed.
    pub fn ask(&mut self, text: &str, values: &[Value]) -> Result<Answer, Error> {
        let mut rows = Vec::new();
        self.each(text, values, |row| {
            rows.push(row);
            true
        })?;
        Ok(Answer { rows, changed: self.0.changes() })
    }

    /// Runs one statement for as long as `take` wants another of its rows.
    pub fn each(&mut self, text: &str, values: &[Value], mut take: impl FnMut(Row) -> bool) -> Result<(), Error> {
        let mut statement = self.0.prepare_cached(text)?;
        let wanted = statement.parameter_count();
        if values.len() != wanted {
            return Err(rusqlite::Error::InvalidParameterCount(values.len(), wanted).into());
        }
        for (place, value) in values.iter().enumerate() {
            statement.raw_bind_parameter(place + 1, value)?;
        }
        step(&mut statement, &mut take)
    }

    /// How it would go about a statement, whatever its values.
    #[cfg(test)]
    pub fn explain(&mut self, text: &str) -> Vec<String> {
        let text = format!("explain query plan {text}");
        let wanted = self.0.prepare(&text).expect("a statement").parameter_count();
        let steps = self.ask(&text, &vec![Value::Null; wanted]).expect("explains");
        steps.rows.iter().map(|step| step.try_get(3).expect("text")).collect()
    }

    /// Runs several statements without values.
    pub fn batch(&mut self, text: &str) -> Result<(), Error> {
        Ok(self.0.execute_batch(text)?)
    }

    /// Ends the transaction that was begun: keeps what was `done`, or nothing. No longer inside of it either way.
    pub fn end<T, E: From<Error>>(&mut self, done: Result<T, E>) -> Result<T, E> {
        let done = done.and_then(|done| self.batch("commit").map(|()| done).map_err(E::from));
        if done.is_err() {
            // SQLite may have ended it by itself, and then this fails; what went wrong is told already.
            _ = self.batch("rollback");
        }
        done
    }

    /// Ends whatever is running as soon as `is_over`, or nothing any more.
    pub fn until(&mut self, is_over: Option<impl FnMut() -> bool + Send + 'static>) -> Result<(), Error> {
        Ok(self.0.progress_handler(LOOK_EVERY, is_over)?)
    }

    /// Closes it. The last one of a file writes its log into it and removes that.
    pub fn close(self) -> Result<(), Error> {
        self.0.close().map_err(|(_, error)| error.into())
    }
}

fn step(statement: &mut Statement<'_>, take: &mut impl FnMut(Row) -> bool) -> Result<(), Error> {
    let columns = statement.column_count();
    let mut found = statement.raw_query();
    while let Some(row) = found.next()? {
        let cells = (0..columns).map(|place| Ok(owned(row.get_ref(place)?))).collect::<Result<_, Error>>()?;
        if !take(Row(cells)) {
            break;
        }
    }
    Ok(())
}

/// Text that is none is bytes: whoever reads the cell says of which row it is.
fn owned(cell: ValueRef<'_>) -> Value {
    match cell {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Text(text) => {
            String::from_utf8(text.to_vec()).map_or_else(|error| Value::Blob(error.into_bytes()), Value::Text)
        }
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    }
}

impl On for &mut Sqlite {
    fn run(self, text: Cow<'_, str>, values: Vec<Value>) -> impl Future<Output = Result<Answer, Error>> + Send {
        ready(self.ask(&text, &values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_paths_are_read_as_they_are() {
        let folder = tempfile::tempdir().expect("a folder");
        let odd = folder.path().join("a b?c#d%41&e=ü.db");
        let writing = Opening::writing(&odd, Duration::ZERO).creating();
        writing.open().expect("opens").batch("create table t (n integer)").expect("made");
        let doubled = PathBuf::from(format!("/{}", odd.display()));
        for path in [odd, doubled] {
            let mut line = Opening::immutable(&path).open().expect("opens");
            assert_eq!(line.ask("select name from sqlite_schema", &[]).expect("read").rows.len(), 1, "{path:?}");
        }
    }

    #[test]
    fn a_statement_that_lacks_a_value_is_refused() {
        let mut line = Sqlite::in_memory();
        for (text, values) in [("select ?", 0), ("select ?1, ?1", 2)] {
            line.ask(text, &vec![Value::Null; values]).expect_err(text);
        }
    }

    #[test]
    fn a_transaction_that_cannot_be_ended_is_left_and_says_why() {
        let mut line = Sqlite::in_memory();
        line.batch("create table t (n integer primary key); pragma max_page_count = 3").expect("made");
        line.batch("begin").expect("begun");
        let done = line.batch("insert into t select value from generate_series(1, 1)").or_else(|_| {
            line.batch("with recursive n (n) as (select 1 union all select n + 1 from n where n < 9999) insert into t select n from n")
        });
        let refused = line.end(done).expect_err("no room").to_string();
        assert!(refused.contains("full") && refused.contains("code: 13"), "{refused}");
        line.batch("begin").expect("it is not inside of one");
    }
}
