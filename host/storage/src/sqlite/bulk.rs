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
        let mut found = Vec::with_capacity(rows.len());
        for (size, piece) in pieces(rows) {
            let query = sqlx::query_with(AssertSqlSafe(self.text(size)), self.values(piece, &put));
            found.append(&mut query.fetch_all(&mut *connection).await?);
        }
        Ok(found)
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
}
