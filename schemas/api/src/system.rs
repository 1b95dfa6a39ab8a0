//! The host itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Body of `GET /version`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// `viworks-host`.
    pub name: String,
    /// The program's version.
    pub version: String,
    /// API versions it speaks.
    pub api: Vec<String>,
    /// The installation.
    pub cluster_id: String,
    /// SHA-256 of the host's TLS key, 64 hexadecimal digits, when its certificate is its own and clients are to pin it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_pin: Option<String>,
}

/// Body of `GET /health` and `GET /readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok` or `unavailable`.
    pub status: String,
    /// Each part and what is wrong with it; `ok` when nothing is.
    pub components: BTreeMap<String, String>,
}

/// One line of the audit log. Item of `GET /audit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Its number; later entries have higher ones.
    pub id: u64,
    /// RFC 3339.
    pub at: String,
    /// `info` for what was done, `warn` for what was refused.
    pub level: String,
    /// `auth`, `agents`, `command`, `groups`, `users`, `plugins`, `audit` or `system`.
    pub category: String,
    /// What was done, e.g. `command.submit`.
    pub action: String,
    /// Name of the user or agent who did it; null when nobody is known.
    pub actor: Option<String>,
    /// What kind of thing it was done to.
    pub resource_type: Option<String>,
    /// Which one.
    pub resource_id: Option<String>,
    /// Digests and numbers about it.
    pub details: Value,
    /// The peer's address.
    pub ip_address: Option<String>,
    /// The peer's program.
    pub user_agent: Option<String>,
    /// The request it belongs to.
    pub correlation_id: Option<String>,
}
