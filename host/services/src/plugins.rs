//! What operators want of plugins: switch one off or on, go back, try again, consent. Every order is written
//! down, with who gave it, before it is carried out.

use std::sync::Arc;

use domain::access::{Caller, Forbidden, Permission};
use domain::plugin::{NotNow, Order, Passage};
use ports::clock::Clock;
use ports::error::StoreError;
use ports::plugin_life::{OrderError, PluginBook, PluginLife};
use serde_json::json;

use crate::origin::Origin;
use crate::tag;

/// The use case.
pub struct PluginOrders {
    /// Who carries them out.
    pub life: Arc<dyn PluginLife>,
    /// Where they are written down.
    pub book: Arc<dyn PluginBook>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// Why nothing was done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PluginOrderError {
    /// Not allowed to.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// No such plugin.
    #[error("not found")]
    NotFound,
    /// It makes no sense now.
    #[error(transparent)]
    NotNow(#[from] NotNow),
    /// Nobody carries out orders any more: the host is stopping.
    #[error("the host is stopping")]
    Stopped,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PluginOrders {
    /// The tag of a plugin as it stands; none for one that nothing is written of.
    pub fn tag(&self, plugin: &str) -> Option<String> {
        self.life.record(plugin).map(|(record, _)| tag::of(&record))
    }

    /// Gives an order; comes back when it is in force. With `if_match`, only to a plugin that still has this tag.
    ///
    /// # Errors
    /// See [`PluginOrderError`].
    pub async fn give(
        &self,
        caller: &Caller,
        plugin: &str,
        order: Order,
        if_match: Option<&str>,
        origin: &Origin,
    ) -> Result<(), PluginOrderError> {
        caller.may(Permission::ManagePlugins)?;
        let now = self.clock.now();
        let (mut record, present) = self.life.record(plugin).ok_or(PluginOrderError::NotFound)?;
        if if_match.is_some_and(|read| read != tag::of(&record)) {
            return Err(StoreError::Stale(format!("plugin `{plugin}`")).into());
        }
        let passage = record.order(order, present.as_deref(), &caller.name, now)?;
        let mut audit = origin.entry(now, action(order), Some(&caller.name));
        audit.resource = Some(("plugin", plugin.to_owned()));
        let (version, digest) = passage.version.clone().unzip();
        audit.details = json!({ "version": version, "digest": digest, "from": passage.from }).to_string();
        // Written down first, so that what was answered is not forgotten by a host that dies here.
        self.book.keep_plugins(vec![record], vec![passage], Some(audit)).await?;
        let Err(error) = self.life.order(plugin, order, &caller.name).await else { return Ok(()) };
        // Something came in between. What was not carried out is not to stand in the book.
        if let Some((record, _)) = self.life.record(plugin) {
            self.book.keep_plugins(vec![record], Vec::new(), None).await?;
        }
        Err(match error {
            OrderError::Unknown(_) => PluginOrderError::NotFound,
            OrderError::NotNow(why) => PluginOrderError::NotNow(why),
            OrderError::Stopped => PluginOrderError::Stopped,
        })
    }

    /// What happened to a plugin, newest first.
    ///
    /// # Errors
    /// When the caller may not, or nothing is known of such a plugin.
    pub async fn history(
        &self,
        caller: &Caller,
        plugin: &str,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(u64, Passage)>, PluginOrderError> {
        caller.may(Permission::ReadPlugins)?;
        let history = self.book.plugin_history(plugin, before, limit).await?;
        if history.is_empty() && before.is_none() && self.life.record(plugin).is_none() {
            return Err(PluginOrderError::NotFound);
        }
        Ok(history)
    }
}

fn action(order: Order) -> &'static str {
    match order {
        Order::Enable => "plugins.enable",
        Order::Disable => "plugins.disable",
        Order::Rollback => "plugins.rollback",
        Order::Retry => "plugins.retry",
        Order::Approve => "plugins.approve",
    }
}
