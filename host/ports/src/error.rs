//! How machines fail, told apart only as far as a caller can act on it.

/// A store that did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Away, too slow or full; nothing was written. Trying again later is right.
    #[error("store unavailable: {0}")]
    Unavailable(String),
    /// Somebody else got there first, or a name is taken.
    #[error("conflict: {0}")]
    Conflict(String),
    /// It is no longer as it was when the caller read it; nothing was written.
    #[error("changed since it was read: {0}")]
    Stale(String),
    /// A row that this version cannot read. Trying again is pointless.
    #[error("corrupt row in {table} `{key}`: {what}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The row's key as text.
        key: String,
        /// What is wrong with it.
        what: String,
    },
}
