//! What becomes of plugins over time: orders of people, the book the store keeps, and what still needs an
//! older version.

use async_trait::async_trait;
use domain::audit::Entry;
use domain::plugin::{NotNow, Order, Passage, Record};
use plan::id::CommandId;

use crate::error::StoreError;

/// Plugins, as far as they can be told what to do.
#[async_trait]
pub trait PluginLife: Send + Sync {
    /// What is known of the plugin called `name`, and the digest of the version that lies in the folder.
    fn record(&self, name: &str) -> Option<(Record, Option<String>)>;

    /// What is known of all of them.
    fn records(&self) -> Vec<Record>;

    /// Carries out what `actor` wants, which is written down already; comes back when it is in force.
    ///
    /// # Errors
    /// See [`OrderError`].
    async fn order(&self, name: &str, order: Order, actor: &str) -> Result<(), OrderError>;

    /// What happened by itself or followed from an order: passages later than the one numbered `after`, oldest first, with their numbers. Only the latest are kept.
    fn passages(&self, after: u64) -> Vec<(u64, Passage)>;

    /// Waits until the generation is another than `seen`, and answers it. Cancel safe.
    async fn changed(&self, seen: u64) -> u64;
}

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// There is no such plugin.
    #[error("no plugin `{0}` is known")]
    Unknown(String),
    /// It makes no sense now.
    #[error(transparent)]
    NotNow(#[from] NotNow),
    /// Nobody carries out orders any more.
    #[error("the plugin service does not run")]
    Stopped,
}

/// The book of plugins: rows that outlive the host.
#[async_trait]
pub trait PluginBook: Send + Sync {
    /// What is known of every plugin, by name.
    async fn plugin_records(&self) -> Result<Vec<Record>, StoreError>;

    /// Writes down how plugins stand now, what happened to them, and who asked for it, in one transaction.
    async fn keep_plugins(
        &self,
        records: Vec<Record>,
        passages: Vec<Passage>,
        audit: Option<Entry>,
    ) -> Result<(), StoreError>;

    /// What happened to a plugin, newest first, those numbered below `before`.
    async fn plugin_history(
        &self,
        plugin: &str,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(u64, Passage)>, StoreError>;

    /// Commands of a plugin that are not over, by id, those after `after`.
    async fn plugin_waiting(
        &self,
        plugin: &str,
        after: Option<CommandId>,
        limit: u32,
    ) -> Result<Vec<Waiting>, StoreError>;

    /// Digests of the versions that commands which are not over were planned with.
    async fn plugin_digests_in_use(&self) -> Result<Vec<String>, StoreError>;
}

/// A command that is not over, as far as its plugin is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its id.
    pub command: CommandId,
    /// Its verb.
    pub verb: String,
    /// Its arguments, JSON text.
    pub args: String,
}
