//! Many commands at once.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::words;

/// Body of `POST /commands/cancel`: the filters of the list of commands. At least one has to be there; all that are
/// there must hold. What is over already is never meant.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelMany {
    /// In one of these; of those that are not over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 100)]
    pub status: Option<Vec<String>>,
    /// Of this verb.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verb: Option<String>,
    /// With an invocation on this agent, by id or name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Of this priority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<words::Priority>)]
    pub priority: Option<String>,
    /// With an invocation at one of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 100)]
    pub site: Option<Vec<String>>,
    /// RFC 3339: not accepted before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// RFC 3339: accepted before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// At most so many, the newest first; 1 to 500, which is also what is meant when it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
}

/// Answer to `POST /commands/cancel`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CancelledMany {
    /// Commands that were meant.
    pub commands: u64,
    /// Their invocations that were open and have been asked to end.
    pub requested: u64,
    /// Each of the commands, newest first.
    pub items: Vec<CancelledOne>,
    /// Whether there were more than the limit; ask again.
    pub more: bool,
}

/// One of many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CancelledOne {
    /// The command.
    pub id: String,
    /// Its status now.
    pub status: String,
    /// Its invocations that have been asked to end.
    pub requested: u64,
}
