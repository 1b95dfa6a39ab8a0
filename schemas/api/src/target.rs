//! Who a command is for: as asked, and as it came out.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::words;

/// Who a command is for: `{"all": true}`, or lists and an expression combined with *and*. Inside a list
/// any match counts, but all labels and all capabilities must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TargetBody {
    /// Every agent not in maintenance.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// Ids or names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<String>,
    /// Sites.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sites: Vec<String>,
    /// `key=value`, all of which must match.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Capabilities, all of which the agent must have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// Operating systems.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub os: Vec<String>,
    /// Container engines, without version.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub container_engine: Vec<String>,
    /// `online`, `degraded`, `offline`, `maintenance`, `pending`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<words::AgentStatus>)]
    pub status: Vec<String>,
    /// One line such as `site = eu-1 and not agent = web-*`; its grammar is in `docs/api.md`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expr: Option<String>,
}

/// An agent that is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TargetIn {
    /// Its id.
    pub agent: String,
    /// Its name.
    pub agent_name: String,
    /// Its site.
    pub site: String,
    /// Its status now.
    pub status: String,
    /// Saved groups of the target that it is in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

/// An agent that is out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TargetOut {
    /// Its id.
    pub agent: String,
    /// Its name.
    pub agent_name: String,
    /// Why.
    pub why: String,
}
