//! What an operator asks first.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of `GET /statistics`: what is in your sight, now and in the last hour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Statistics {
    /// RFC 3339: since when the answering host has counted what its `rates` and `latency` tell.
    pub since: String,
    /// Agents that are not revoked.
    pub agents: AgentCounts,
    /// Commands that are not over, by status.
    pub open_commands: BTreeMap<String, u64>,
    /// Invocations that are not over, by state.
    pub open_invocations: BTreeMap<String, u64>,
    /// Those that have not been sent, by priority.
    pub queue: BTreeMap<String, u64>,
    /// How much was accepted and ended lately.
    pub rates: RatesBody,
    /// How long it took, in the last hour.
    pub latency: LatencyBody,
    /// Plugins and what they did.
    pub plugins: PluginCounts,
}

/// How many agents there are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AgentCounts {
    /// In all.
    pub total: u64,
    /// By status.
    pub by_status: BTreeMap<String, u64>,
    /// By site, and there by status.
    pub by_site: BTreeMap<String, BTreeMap<String, u64>>,
}

/// How much was accepted and ended lately.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RatesBody {
    /// In the last minute.
    pub last_1m: RateBody,
    /// In the last five minutes.
    pub last_5m: RateBody,
    /// In the last hour.
    pub last_1h: RateBody,
}

/// Invocations in a stretch of time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RateBody {
    /// Accepted.
    pub submitted: u64,
    /// Ended well; a second attempt counts once more.
    pub succeeded: u64,
    /// Ended otherwise.
    pub unsuccessful: u64,
    /// Accepted each second, on average.
    pub submitted_per_s: f64,
    /// Ended each second, on average.
    pub ended_per_s: f64,
}

/// How long it took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LatencyBody {
    /// From acceptance to the first start.
    pub queue_wait: SpreadBody,
    /// From start to end.
    pub run: SpreadBody,
}

/// Half of them took at most `p50_ms`, all but one in a hundred at most `p99_ms`; at most a quarter too high.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SpreadBody {
    /// How many there were.
    pub count: u64,
    /// Null when there was none.
    pub p50_ms: Option<u64>,
    /// Null when there was none.
    pub p99_ms: Option<u64>,
}

/// Plugins and what they did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PluginCounts {
    /// Files, by state.
    pub by_state: BTreeMap<String, u64>,
    /// Verbs that are loaded.
    pub verbs: u64,
    /// Faults of the versions that serve, since they became active.
    pub faults: u64,
}
