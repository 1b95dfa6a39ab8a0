//! What an agent says about its machine when it opens a session.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The machine behind an agent. Claims, not proof: they choose plans and targets, never permissions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Version of the agent program, e.g. `0.1.0`.
    pub version: String,
    /// Operating system, e.g. `linux`.
    pub os: String,
    /// Kernel release, e.g. `6.1.0-18-amd64`.
    #[serde(default)]
    pub kernel: String,
    /// Machine architecture, e.g. `x86_64`.
    #[serde(default)]
    pub arch: String,
    /// Host name, for people.
    #[serde(default)]
    pub hostname: String,
    /// Container engine and version, e.g. `docker 28.2.2`, or `docker unreachable` when its command is
    /// there and it does not answer; `, client …` may follow. Absent when none was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_engine: Option<String>,
    /// Flavour and version: `v1` (docker-compose 1.x), `v2` (docker compose) or `v2-standalone` (the same as
    /// docker-compose), e.g. `v2 2.26.1`; absent when none was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compose: Option<String>,
    /// What the agent can do, e.g. `exec`, `docker`, `compose`. Sorted, no duplicates.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// Labels from the agent's own configuration; labels set at the host win.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Changes with every boot of the machine.
    #[serde(default)]
    pub boot_id: String,
}
