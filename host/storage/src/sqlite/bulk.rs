//! Statements over many rows. The rows are spelled out as `values (?, …), …` in pieces of a power of
//! two, so that few texts exist, each prepared once, and 255 rows cost nine statements, not 255.
//! What is the same in every row is spelled into the text: a parameter costs an allocation and a copy.
//!
//! Anonymous parameters on purpose: SQLite finds a named one by walking all names.

use std::borrow::Cow;
use std::sync::OnceLock;

use rusqlite::types::Value;

use super::connection::Sqlite;
use super::query::{Bind, Error, Row};

/// Pieces have 1, 2, 4, … up to 2^([`SIZES`] - 1) rows.
const SIZES: usize = 7;

/// One statement for any number of rows.
pub(super) struct Bulk {
    head: &'static str,
    row: &'static str,
    tail: &'static str,
    texts: [OnceLock<String>; SIZES],
}

/// The values of the rows of one piece, in order.
pub(super) struct Values(Vec<Value>);

impl Values {
    /// Adds the next value.
    pub fn put(&mut self, value: impl Bind) -> &mut Values {
        self.0.push(value.value());
        self
    }
}

impl Bulk {
    /// `head`, then `row` as often as there are rows, then `tail`.
    pub const fn new(head: &'static str, row: &'static str, tail: &'static str) -> Bulk {
        Bulk { head, row, tail, texts: [const { OnceLock::new() }; SIZES] }
    }

    /// Runs it for `rows`; `put` adds one row's values. Answers how many rows were changed.
    pub fn execute<R>(&self, line: &mut Sqlite, rows: &[R], put: impl Fn(&R, &mut Values)) -> Result<u64, Error> {
        let mut changed = 0;
        for (size, piece) in pieces(rows) {
            changed += line.ask(self.text(size), &self.values(piece, &put))?.rows_affected();
        }
        Ok(changed)
    }

    /// Runs it for `rows` and answers what it finds.
    pub fn fetch<R>(&self, line: &mut Sqlite, rows: &[R], put: impl Fn(&R, &mut Values)) -> Result<Vec<Row>, Error> {
        let mut found = Vec::new();
        for (size, piece) in pieces(rows) {
            found.append(&mut line.ask(self.text(size), &self.values(piece, &put))?.rows);
        }
        Ok(found)
    }

    fn values<R>(&self, rows: &[R], put: &impl Fn(&R, &mut Values)) -> Vec<Value> {
        let columns = self.row.bytes().filter(|byte| *byte == b'?').count();
        let mut values = Values(Vec::with_capacity(rows.len() * columns));
        for row in rows {
            put(row, &mut values);
        }
        debug_assert_eq!(values.0.len(), rows.len() * columns, "{}", self.head);
        values.0
    }

    /// The statement for 2^`size` rows.
    pub fn text(&self, size: usize) -> &str {
        self.texts[size].get_or_init(|| {
            let rows = vec![self.row; 1 << size].join(", ");
            format!("{} {rows} {}", self.head, self.tail)
        })
    }
}

/// Statements that follow each other, run when somebody asks for what they do.
#[derive(Default)]
pub(super) struct Script(Vec<(Cow<'static, str>, Vec<Value>)>);

impl Script {
    /// Adds `bulk` for `rows`; `put` adds one row's values.
    pub fn add<R>(&mut self, bulk: &'static Bulk, rows: &[R], put: impl Fn(&R, &mut Values)) -> &mut Script {
        let statements = pieces(rows).map(|(size, piece)| (bulk.text(size).into(), bulk.values(piece, &put)));
        self.0.extend(statements);
        self
    }

    /// Adds a statement without values.
    pub fn say(&mut self, statement: &'static str) -> &mut Script {
        self.0.push((statement.into(), Vec::new()));
        self
    }

    /// Runs all of it, in order; then it is empty. On an error some of it may be written.
    pub fn run(&mut self, line: &mut Sqlite) -> Result<(), Error> {
        for (text, values) in self.0.drain(..) {
            line.ask(&text, &values)?;
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
    pub fn run(self, line: &mut Sqlite) -> Result<(), Error> {
        line.batch(self.0)
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
        assert_eq!(bulk.text(1), "insert into t values (?, 1, ?), (?, 1, ?) on conflict do nothing");
    }
}
