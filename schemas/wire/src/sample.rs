//! One telemetry sample: what a machine was doing at one instant.

use serde::{Deserialize, Serialize};

/// A sample. Bytes are bytes, percentages 0 to 100, rates per second. What could not be read is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// When it was taken: milliseconds since 1970-01-01 UTC, agent's clock.
    pub at_ms: i64,
    /// CPU use over the last interval, all cores together, 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<f64>,
    /// CPU use of each core, 0 to 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cores_percent: Vec<f64>,
    /// Load averages over 1, 5 and 15 minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<[f64; 3]>,
    /// Memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Usage>,
    /// Swap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<Usage>,
    /// One entry for each mounted disk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<Disk>,
    /// One entry for each network interface.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<Network>,
    /// The agent itself.
    #[serde(default)]
    pub agent: AgentHealth,
}

/// Used and total bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes in use.
    pub used_bytes: u64,
    /// Bytes there are.
    pub total_bytes: u64,
}

/// One mounted disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Where it is mounted.
    pub mount: String,
    /// How full it is.
    #[serde(flatten)]
    pub usage: Usage,
}

/// One network interface, bytes per second over the last interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Its name, e.g. `eth0`.
    pub interface: String,
    /// Received bytes per second.
    pub rx_bytes_per_s: f64,
    /// Sent bytes per second.
    pub tx_bytes_per_s: f64,
}

/// The agent's own health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentHealth {
    /// Resident memory of the agent and its supervisor.
    pub rss_bytes: u64,
    /// Attempts running or waiting.
    pub attempts: u32,
    /// Bytes of output on disk, sent or not.
    pub spool_bytes: u64,
}
