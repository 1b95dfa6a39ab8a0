//! A store that came out of a backup, before any host works with it.

use async_trait::async_trait;
use domain::audit::Entry;
use domain::time::Timestamp;

use crate::error::StoreError;
use crate::journal::Cluster;

/// A restored store. Nobody else has it open.
#[async_trait]
pub trait Restored: Send {
    /// Who the store says it is.
    async fn cluster(&mut self) -> Result<Cluster, StoreError>;

    /// In one transaction: holds what is not over by [`domain::restore::held`], keeping what was asked to be
    /// cancelled, and brings its commands in step; raises the epoch, which must be above the stored one; takes
    /// every agent for one that may have been sent something, with no session; ends every login and every
    /// unused join token, for both may have been used up since; leaves a gap in the numbers of events, so
    /// that no reader's cursor stands ahead of them. Durable on return; doing it again does no harm.
    async fn adopt(&mut self, adopt: Adopt) -> Result<Held, StoreError>;

    /// Closes the store. Everything is in its files then.
    async fn close(self: Box<Self>) -> Result<(), StoreError>;
}

/// How a restored store is taken over.
#[derive(Clone, Debug)]
pub struct Adopt {
    /// The new epoch.
    pub epoch: u64,
    /// When.
    pub at: Timestamp,
    /// For the record.
    pub audit: Entry,
}

/// What was not over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Commands with something held now.
    pub commands: u64,
    /// Invocations held now that were not before.
    pub invocations: u64,
}

/// Events that the host a backup was made from may have told since, at most: their numbers are left out.
pub const EVENTS_SINCE: u64 = 1 << 32;
