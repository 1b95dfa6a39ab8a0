//! Where a request came from, for the audit log, and how entries are made from it.

use domain::audit::{Entry, Level};
use domain::time::Timestamp;

/// One request's context.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The request's id.
    pub correlation_id: String,
    /// The peer's address.
    pub ip_address: Option<String>,
    /// The peer's program.
    pub user_agent: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
}

impl Origin {
    /// An audit entry of something that was done.
    pub fn entry(&self, at: Timestamp, action: &'static str, actor: Option<&str>) -> Entry {
        let category = action.split_once('.').map_or(action, |(category, _)| category);
        Entry {
            at,
            level: Level::Info,
            category,
            action,
            actor: actor.map(str::to_owned),
            resource: None,
            details: "{}".to_owned(),
            ip_address: self.ip_address.clone(),
            user_agent: self.user_agent.clone(),
            correlation_id: Some(self.correlation_id.clone()).filter(|id| !id.is_empty()),
        }
    }
}
