//! Rows of saved groups.

use async_trait::async_trait;
use domain::audit::Entry;
use domain::group::{Change, Effect, Group, Refused};

use crate::error::StoreError;
use crate::replies::Once;

/// Saved groups.
#[async_trait]
pub trait Groups: Send + Sync {
    /// All of them, by name.
    async fn saved_groups(&self) -> Result<Vec<Group>, StoreError>;

    /// Makes a change, if [`Groups::decide`](domain::group::Groups::decide) agrees to it in the transaction that
    /// writes. The audit entry says when and by whom; it is stored with the change or not at all, and so is the
    /// reply that `once` makes of what was written.
    async fn change_group(&self, change: Change, audit: Entry, once: Option<Once>) -> Result<Changed, StoreError>;
}

/// What came of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It is stored.
    Done(Effect),
    /// Nothing was written.
    Refused(Refused),
}
