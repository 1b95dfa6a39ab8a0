//! Which store a host under test keeps its rows in. Every end-to-end test that reads or writes runs on
//! both: [`on_both_stores!`](crate::on_both_stores) makes one test of each, named after the store.
//!
//! All tests of one program share one PostgreSQL server, each with a database of its own; it ends with
//! the program, however that ends.

use servers::postgres::Postgres;
use servers::shared;

/// A store, empty until a host uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// The embedded one, in the host's data folder.
    Sqlite,
    /// A PostgreSQL database, by its address.
    Postgres(String),
}

impl Store {
    /// A fresh database on the shared server; `None`, said aloud, when this machine has no PostgreSQL.
    ///
    /// # Panics
    /// When the server does not start, or with `CI=true` when there is none.
    pub fn postgres() -> Option<Store> {
        shared::database().map(Store::Postgres)
    }

    /// A server of this test's own, to be ended and started at will, and its only database. `None`, said
    /// aloud, when this machine has no PostgreSQL.
    ///
    /// # Panics
    /// When the server does not start, or with `CI=true` when there is none.
    pub fn own_postgres() -> Option<(Store, Postgres)> {
        let server = shared::own(&[])?;
        Some((Store::Postgres(server.url()), server))
    }

    /// The host's `database.url`.
    pub fn url(&self) -> &str {
        match self {
            Store::Sqlite => "sqlite:viworks.db",
            Store::Postgres(url) => url,
        }
    }
}

/// Makes two tests of each function named: one with SQLite, one with PostgreSQL. A function that nobody
/// names is dead code, which the lints refuse.
#[macro_export]
macro_rules! on_both_stores {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name($crate::store::Store::Sqlite).await;
                }
            )+
        }

        mod postgres {
            $(
                #[tokio::test]
                async fn $name() {
                    if let Some(store) = $crate::store::Store::postgres() {
                        super::$name(store).await;
                    }
                }
            )+
        }
    };
}
