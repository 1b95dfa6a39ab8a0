//! Statements over many rows. The rows are spelled out as `values (?, …), …` in pieces of a power of
//! two, so that few texts exist, each prepared once, and 255 rows cost nine statements, not 255.
//! What is the same in every row is spelled into the text: a parameter costs two allocations and a copy.
//!
//! Anonymous parameters on purpose: SQLite finds a named one by walking all names.

use std::sync::{Arc, OnceLock};

use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments as _, AssertSqlSafe, Encode, Sqlite, SqliteConnection, Type};

/// Pieces have 1, 2, 4, … up to 2^([`SIZES`] - 1) rows.
const SIZES: usize = 7;

/// Most rows of a bulk that shares a step with others, and most statements of a step: with few of both there are few
/// such texts, and the connection keeps them prepared.
const JOINED_ROWS: usize = 2;
const JOINED: usize = 8;

/// One statement for any number of rows.
pub(super) struct Bulk {
    head: &'static str,
    row: &'static str,
    tail: &'static str,
    texts: [OnceLock<Arc<str>>; SIZES],
}

/// The values of the rows of one piece, in order.
pub(super) struct Values(SqliteArguments);

impl Values {
    /// Adds the next value, text: one allocation, where a `&str` or `String` takes two.
    pub fn text(&mut self, text: &str) -> &mut Values {
        self.put::<Arc<str>>(Arc::from(text))
    }

    /// Adds the next value, text or nothing.
    pub fn text_if_any(&mut self, text: Option<&str>) -> &mut Values {
        self.put::<Option<Arc<str>>>(text.map(Arc::from))
    }

    /// Adds the next value.
    pub fn put<'t, T: Encode<'t, Sqlite> + Type<Sqlite>>(&mut self, value: T) -> &mut Values {
        self.0.add(value).expect("numbers, text and bytes always encode");
        self
    }
}

impl Bulk {
    /// `head`, then `row` as often as there are rows, then `tail`.
    pub const fn new(head: &'static str, row: &'static str, tail: &'static str) -> Bulk {
        Bulk { head, row, tail, texts: [const { OnceLock::new() }; SIZES] }
    }

    /// Runs it for `rows`; `put` adds one row's values. Answers how many rows were changed.
    pub async fn execute<R>(
        &self,
        connection: &mut SqliteConnection,
        rows: &[R],
        put: impl Fn(&R, &mut Values),
    ) -> Result<u64, sqlx::Error> {
        let mut changed = 0;
        for (size, piece) in pieces(rows) {
            let query = sqlx::query_with(AssertSqlSafe(self.text(size)), self.values(piece, &put));
            changed += query.execute(&mut *connection).await?.rows_affected();
        }
        Ok(changed)
    }

    /// Runs it for `rows` and answers what it finds.
    pub async fn fetch<R>(
        &self,
        connection: &mut SqliteConnection,
        rows: &[R],
        put: impl Fn(&R, &mut Values),
    ) -> Result<Vec<SqliteRow>, sqlx::Error> {
        Script::default().fetch(connection, self, rows, put).await
    }

    fn values<R>(&self, rows: &[R], put: &impl Fn(&R, &mut Values)) -> SqliteArguments {
        let columns = self.row.bytes().filter(|byte| *byte == b'?').count();
        let mut values = Values(SqliteArguments::default());
        values.0.reserve(rows.len() * columns, 0);
        for row in rows {
            put(row, &mut values);
        }
        debug_assert_eq!(values.0.len(), rows.len() * columns, "{}", self.head);
        values.0
    }

    /// The statement for 2^`size` rows.
    pub fn text(&self, size: usize) -> Arc<str> {
        let text = self.texts[size].get_or_init(|| {
            let rows = vec![self.row; 1 << size].join(", ");
            format!("{} {rows} {}", self.head, self.tail).into()
        });
        Arc::clone(text)
    }
}

/// Statements that follow each other. The connection has a thread of its own, and going there and back costs as much
/// as a dozen rows: what is short goes in one step.
#[derive(Default)]
pub(super) struct Script {
    steps: Vec<Step>,
    /// The next statement begins another step.
    apart: bool,
}

/// One trip to the connection's thread.
struct Step {
    text: Text,
    values: Values,
    /// Statements of the text.
    statements: usize,
}

enum Text {
    Whole(Arc<str>),
    /// Of bulks of few rows, so that few such texts exist.
    Joined(String),
}

impl Script {
    /// Adds `bulk` for `rows`; `put` adds one row's values.
    pub fn add<R>(&mut self, bulk: &Bulk, rows: &[R], put: impl Fn(&R, &mut Values)) -> &mut Script {
        for (size, piece) in pieces(rows) {
            if rows.len() > JOINED_ROWS {
                let values = Values(bulk.values(piece, &put));
                self.steps.push(Step { text: Text::Whole(bulk.text(size)), values, statements: 1 });
            } else {
                let values = self.join(&bulk.text(size));
                piece.iter().for_each(|row| put(row, values));
            }
        }
        self
    }

    /// Adds a statement without values.
    pub fn say(&mut self, statement: &str) -> &mut Script {
        self.join(statement);
        self
    }

    /// What follows goes in steps of its own: of texts that join few kinds of statements there are few.
    pub fn apart(&mut self) -> &mut Script {
        self.apart = true;
        self
    }

    fn join(&mut self, statement: &str) -> &mut Values {
        let apart = std::mem::take(&mut self.apart);
        let is_open = |step: &Step| matches!(step.text, Text::Joined(_)) && step.statements < JOINED;
        if apart || !self.steps.last().is_some_and(is_open) {
            let (text, values) = (Text::Joined(String::new()), Values(SqliteArguments::default()));
            self.steps.push(Step { text, values, statements: 0 });
        }
        let step = self.steps.last_mut().expect("pushed if there was none");
        if let Text::Joined(text) = &mut step.text {
            if step.statements > 0 {
                text.push_str("; ");
            }
            text.push_str(statement);
        }
        step.statements += 1;
        &mut step.values
    }

    /// Runs all of it, and then `bulk` for `rows`, and answers what that finds. What is left of the script is empty.
    pub async fn fetch<R>(
        &mut self,
        connection: &mut SqliteConnection,
        bulk: &Bulk,
        rows: &[R],
        put: impl Fn(&R, &mut Values),
    ) -> Result<Vec<SqliteRow>, sqlx::Error> {
        let mut found = Vec::with_capacity(rows.len());
        for (size, piece) in pieces(rows) {
            let before = self.steps.pop_if(|step| matches!(step.text, Text::Joined(_)) && step.values.0.len() == 0);
            self.run(connection).await?;
            let text = match before {
                Some(Step { text: Text::Joined(before), .. }) => format!("{before}; {}", bulk.text(size)).into(),
                Some(_) | None => bulk.text(size),
            };
            let query = sqlx::query_with(AssertSqlSafe(text), bulk.values(piece, &put));
            found.append(&mut query.fetch_all(&mut *connection).await?);
        }
        self.run(connection).await?;
        Ok(found)
    }

    /// Runs all of it, in order; then it is empty. On an error some of it may be written.
    pub async fn run(&mut self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        self.apart = false;
        for Step { text, values, statements: _ } in self.steps.drain(..) {
            let query = match text {
                Text::Whole(text) => sqlx::query_with(AssertSqlSafe(text), values.0),
                Text::Joined(text) => sqlx::query_with(AssertSqlSafe(text), values.0),
            };
            query.execute(&mut *connection).await?;
        }
        Ok(())
    }
}

/// A part of a transaction that may fail alone: begun, and then kept or undone. One at a time.
pub(super) struct Savepoint(&'static str);

impl Savepoint {
    /// Begins it.
    pub const BEGIN: Savepoint = Savepoint("savepoint part");
    /// Keeps what was written since.
    pub const KEEP: Savepoint = Savepoint("release part");
    /// Undoes what was written since.
    pub const UNDO: Savepoint = Savepoint("rollback to part; release part");

    /// Says so.
    pub async fn run(self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        sqlx::query(self.0).execute(connection).await.map(|_| ())
    }
}

/// Cuts `rows` into pieces of 2^size, the largest first.
fn pieces<R>(rows: &[R]) -> impl Iterator<Item = (usize, &[R])> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let size = usize::try_from(rest.len().checked_ilog2()?).expect("a small number").min(SIZES - 1);
        let (piece, after) = rest.split_at(1 << size);
        rest = after;
        Some((size, piece))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_powers_of_two_and_leave_nothing_out() {
        for n in [0_usize, 1, 2, 3, 63, 64, 65, 255, 1000] {
            let rows: Vec<usize> = (0..n).collect();
            let joined: Vec<usize> = pieces(&rows).flat_map(|(_, piece)| piece.to_vec()).collect();
            assert_eq!(joined, rows);
            assert!(pieces(&rows).all(|(size, piece)| piece.len() == 1 << size));
        }
    }

    #[test]
    fn a_text_spells_out_its_rows() {
        let bulk = Bulk::new("insert into t values", "(?, 1, ?)", "on conflict do nothing");
        assert_eq!(&*bulk.text(1), "insert into t values (?, 1, ?), (?, 1, ?) on conflict do nothing");
    }

    #[test]
    fn a_transaction_begins_and_ends_with_its_first_and_last_step() {
        static ONE: Bulk = Bulk::new("insert into one values", "(?)", "");
        let mut script = Script::default();
        let put = |n: &i64, values: &mut Values| _ = values.put(*n);
        script.say("begin").add(&ONE, &[1], put).apart().add(&ONE, &[2], put).say("commit");
        let texts: Vec<&str> = script
            .steps
            .iter()
            .map(|step| match &step.text {
                Text::Joined(text) => text.as_str(),
                Text::Whole(text) => text,
            })
            .collect();
        assert_eq!(texts, ["begin; insert into one values (?) ", "insert into one values (?) ; commit"]);
        assert!(script.steps.iter().all(|step| step.values.0.len() == 1));
    }

    #[test]
    fn what_is_short_shares_a_step_with_its_neighbours() {
        static ONE: Bulk = Bulk::new("insert into one values", "(?)", "");
        static TWO: Bulk = Bulk::new("insert into two values", "(?, ?)", "");
        let mut script = Script::default();
        let put_one = |n: &i64, values: &mut Values| _ = values.put(*n);
        script.add(&ONE, &[1], put_one).add(&TWO, &[2, 3], |n, values| _ = values.put(*n).put(*n)).add(
            &ONE,
            &[],
            put_one,
        );
        script.add(&ONE, &[4, 5, 6], put_one).add(&ONE, &[7], put_one);
        let steps: Vec<(usize, usize)> =
            script.steps.iter().map(|step| (step.statements, step.values.0.len())).collect();
        assert_eq!(steps, [(2, 5), (1, 2), (1, 1), (1, 1)]);
        let Text::Joined(text) = &script.steps[0].text else { panic!("joined") };
        assert_eq!(text, "insert into one values (?) ; insert into two values (?, ?), (?, ?) ");
    }
}
