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
    /// Time of so many cores is all that the agent's control group may have; absent when it may have all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_limit_cores: Option<f64>,
    /// Load averages over 1, 5 and 15 minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<[f64; 3]>,
    /// Memory of the machine, or of the share of it that the agent's control group may have.
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
    /// One entry for each container; absent when no engine answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containers: Option<Vec<Container>>,
    /// One entry for each unit that the machine's operator wants watched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Service>,
    /// What could not be read, and why: `containers: no engine at /run/docker.sock`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
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
#[serde(from = "FlatDisk")]
pub struct Disk {
    /// Where it is mounted.
    pub mount: String,
    /// How full it is.
    #[serde(flatten)]
    pub usage: Usage,
}

/// A disk as it is read: what is flattened otherwise goes by way of a map.
#[derive(Deserialize)]
struct FlatDisk {
    mount: String,
    used_bytes: u64,
    total_bytes: u64,
}

impl From<FlatDisk> for Disk {
    fn from(FlatDisk { mount, used_bytes, total_bytes }: FlatDisk) -> Disk {
        Disk { mount, usage: Usage { used_bytes, total_bytes } }
    }
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

/// One container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`.
    pub state: String,
    /// `none`, `starting`, `healthy` or `unhealthy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// How often the engine started it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<u64>,
    /// What it ended with, when it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// CPU use since the last sample; 100 is one core in full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<f64>,
    /// Memory in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

/// One unit of the service manager.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name, e.g. `nginx.service`.
    pub unit: String,
    /// What systemd calls its state, e.g. `active` or `failed`; `missing` when it knows no such unit.
    pub state: String,
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
