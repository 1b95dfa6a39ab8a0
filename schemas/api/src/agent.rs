//! Agents and how they join.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// One enrolled machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Agent {
    /// Its id.
    pub id: String,
    /// Its unique name.
    pub name: String,
    /// Its site.
    pub site: String,
    /// `online`, `degraded`, `offline`, `maintenance` or `pending`.
    pub status: String,
    /// Its labels, those set at the host over its own.
    pub labels: BTreeMap<String, String>,
    /// What it can do.
    pub capabilities: Vec<String>,
    /// Version of the agent program.
    pub version: String,
    /// Operating system.
    pub os: String,
    /// Kernel release.
    pub kernel: String,
    /// Architecture.
    pub arch: String,
    /// Host name.
    pub hostname: String,
    /// Container engine and version; null when there is none.
    pub container_engine: Option<String>,
    /// `v1` or `v2`; null when there is none.
    pub compose: Option<String>,
    /// Whether an operator took it out of `all` and site targets.
    pub maintenance: bool,
    /// Whether it joined and waits for approval: until then nothing is sent to it.
    #[serde(default)]
    pub awaits_approval: bool,
    /// The key it proves who it is with: Ed25519, base64url.
    #[serde(default)]
    pub public_key: String,
    /// RFC 3339; null unless it was asked for another key and has not proven one yet.
    #[serde(default)]
    pub rotation_asked_at: Option<String>,
    /// RFC 3339.
    pub created_at: String,
    /// When it was last heard; of one at another host, when that said last that it lived; of one that is not in
    /// session, when that ended. RFC 3339; null before its first session.
    pub last_seen: Option<String>,
    /// RFC 3339; null unless its key was revoked.
    pub revoked_at: Option<String>,
}

/// Body of `PATCH /agents/{agent}`. Absent = as it is.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentPatch {
    /// Its site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// All its host-side labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Its maintenance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<bool>,
}

/// Body of `POST /join-tokens`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewJoinToken {
    /// The site its agent will belong to; `default` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// Labels its agent will have.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// How long it may be used, in seconds: 60 to 604,800; an hour when absent.
    #[schema(minimum = 60, maximum = 604_800)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u64>,
    /// Whether its agent waits for approval before anything is sent to it.
    #[serde(default)]
    pub needs_approval: bool,
}

/// A join token. `token` is set in the answer to its creation and never again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinToken {
    /// Its id.
    pub id: String,
    /// The secret, shown once: `vwj_<id>_<secret>_<cluster key pin>`, and `_<TLS key pin>` where clients pin it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The site its agent will belong to.
    pub site: String,
    /// Labels its agent will have.
    pub labels: BTreeMap<String, String>,
    /// Whether its agent waits for approval.
    #[serde(default)]
    pub needs_approval: bool,
    /// Who made it.
    pub created_by: String,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339.
    pub expires_at: String,
    /// RFC 3339; null until used.
    pub used_at: Option<String>,
    /// Id of the agent that used it.
    pub used_by: Option<String>,
    /// RFC 3339; null unless revoked.
    pub revoked_at: Option<String>,
}

/// Answer to `GET /agents/{agent}/telemetry`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Telemetry {
    /// The agent's id.
    pub agent: String,
    /// Its name.
    pub agent_name: String,
    /// The latest sample as the agent sent it; null when none has come since this host started.
    pub sample: Option<Value>,
}

/// A join token just made, and where its agent should go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MadeJoinToken {
    /// The token.
    #[serde(flatten)]
    pub token: JoinToken,
    /// Address of the agents' listener, for `viworks-agent join`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agents_url: Option<String>,
}
