//! Telemetry: the latest of machines, their past, where it leads, and how well they are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// What a machine said last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LatestTelemetry {
    /// The agent's id.
    pub agent: String,
    /// Its name.
    pub agent_name: String,
    /// Its site.
    pub site: String,
    /// `online`, `degraded`, `offline`, `maintenance` or `pending`.
    pub status: String,
    /// When it was taken, RFC 3339; null when none has come since this host started.
    pub at: Option<String>,
    /// When it came, RFC 3339.
    pub received_at: Option<String>,
    /// How far the agent's clock is ahead of the host's, in milliseconds. Over two minutes either way the host's
    /// clock is used instead.
    pub clock_skew_ms: i64,
    /// Whether it is older than three intervals.
    pub is_stale: bool,
    /// Each series by its name, e.g. `cpu.total` or `disk.used_pct{/}`: a number, or the word of a state.
    pub series: BTreeMap<String, Value>,
    /// What could not be read on the machine, and why.
    pub missing: Vec<String>,
}

/// What remains of one series in one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TelemetrySummary {
    /// The least.
    pub min: f64,
    /// The average.
    pub avg: f64,
    /// The most.
    pub max: f64,
    /// The last.
    pub last: f64,
    /// The last of a state, as a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_word: Option<String>,
    /// How many reports.
    pub count: u64,
}

/// One step of a machine's past.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TelemetryPoint {
    /// When the step begins, RFC 3339.
    pub at: String,
    /// Each series by its name.
    pub series: BTreeMap<String, TelemetrySummary>,
}

/// A page of a machine's past, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TelemetryHistory {
    /// The agent's id.
    pub agent: String,
    /// Its name.
    pub agent_name: String,
    /// What it was read from: `raw`, `minute` or `hour`.
    pub level: String,
    /// Between two points; not less than what is kept.
    pub step_s: u64,
    /// The points; steps without a report are left out, so a page may be empty and not be the last.
    pub items: Vec<TelemetryPoint>,
    /// Give it as `cursor` for the next page; null on the last, and only there.
    pub next_cursor: Option<String>,
}

/// How one series is spread over several machines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TelemetrySpread {
    /// How many machines have it.
    pub count: u64,
    /// All together.
    pub sum: f64,
    /// The least.
    pub min: f64,
    /// The average.
    pub avg: f64,
    /// The one that 95 of 100 do not exceed.
    pub p95: f64,
    /// The most.
    pub max: f64,
    /// The name of the machine with the most.
    pub max_agent: String,
}

/// Several machines together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TelemetryTogether {
    /// What they have in common: a site, or the value of a label; null for those without that label.
    pub key: Option<String>,
    /// How many machines.
    pub agents: u64,
    /// How many of them have sent telemetry that is not stale; of the past, in that step.
    pub reporting: u64,
    /// Each series by its name.
    pub series: BTreeMap<String, TelemetrySpread>,
}

/// The latest of many machines, put together by what they have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TelemetryAcross {
    /// `site`, or `label.KEY`.
    pub by: String,
    /// One entry for each value.
    pub items: Vec<TelemetryTogether>,
}

/// One step of many machines' past.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TelemetryMoment {
    /// When the step begins, RFC 3339.
    pub at: String,
    /// One entry for each value under which somebody reported. Each machine counts with its average in the step.
    pub groups: Vec<TelemetryTogether>,
}

/// A page of many machines' past, put together by what they have in common now, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TelemetryAcrossHistory {
    /// `site`, or `label.KEY`.
    pub by: String,
    /// What it was read from: `raw`, `minute` or `hour`.
    pub level: String,
    /// Between two points; not less than what is kept.
    pub step_s: u64,
    /// The points; steps without a report are left out, so a page may be empty and not be the last.
    pub items: Vec<TelemetryMoment>,
    /// Give it as `cursor` for the next page; null on the last, and only there.
    pub next_cursor: Option<String>,
}

/// When a percentage will be full, if it goes on as it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TelemetryFull {
    /// By the line through all points, RFC 3339.
    pub at: String,
    /// By the steepest line that they allow.
    pub earliest: String,
    /// By the flattest; null when that one never is full.
    pub latest: Option<String>,
}

/// Where a series is going: a straight line by least squares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TelemetryTrend {
    /// The agent's id.
    pub agent: String,
    /// Its name.
    pub agent_name: String,
    /// The series.
    pub series: String,
    /// Where the line is at the last point.
    pub now: f64,
    /// Change per hour.
    pub per_hour: f64,
    /// How far off that may be: one standard error.
    pub error_per_hour: f64,
    /// Share of the movement that the line explains, 0 to 1.
    pub fit: f64,
    /// How many points.
    pub points: u64,
    /// Of a percentage that rises for sure: when it is full. The interval is two standard errors either way.
    pub full: Option<TelemetryFull>,
}

/// What is taken off a score.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Deduction {
    /// For what.
    pub why: String,
    /// How much.
    pub points: u32,
}

/// How well one machine is: 100 less the points of its deductions, at least 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentHealth {
    /// The agent's id.
    pub agent: String,
    /// Its name.
    pub agent_name: String,
    /// Its site.
    pub site: String,
    /// `online`, `degraded`, `offline`, `maintenance` or `pending`.
    pub status: String,
    /// 0 to 100.
    pub score: u32,
    /// What is taken off.
    pub deductions: Vec<Deduction>,
}

/// How well several machines are: `sum / counted`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GroupHealth {
    /// The site; null for all machines in sight.
    pub site: Option<String>,
    /// The average score; null when nobody counts.
    pub score: Option<f64>,
    /// The scores of all that count, together.
    pub sum: u32,
    /// How many count: all but those in maintenance and those that wait for approval.
    pub counted: u32,
    /// Machines.
    pub agents: u32,
    /// Online ones.
    pub online: u32,
    /// Degraded ones.
    pub degraded: u32,
    /// Offline ones; they count with 0.
    pub offline: u32,
    /// Those in maintenance.
    pub maintenance: u32,
    /// Those that wait for approval.
    pub pending: u32,
}

/// What became of telemetry since this host started: `taken = stored + repeated + dropped + waiting`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IngestTally {
    /// Reports that were believed.
    pub taken: u64,
    /// Reports on disk.
    pub stored: u64,
    /// Reports that were on disk already.
    pub repeated: u64,
    /// Reports lost for want of room, or of a store.
    pub dropped: u64,
    /// Reports on their way.
    pub waiting: u64,
    /// Reports that were not believed, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Reports on disk that no rule has seen: they came faster than rules judge.
    #[serde(default)]
    pub passed_over: u64,
}

/// How well the machines in sight are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HealthReport {
    /// RFC 3339.
    pub at: String,
    /// All of them.
    pub fleet: GroupHealth,
    /// Site by site.
    pub sites: Vec<GroupHealth>,
    /// What became of telemetry.
    pub ingest: IngestTally,
    /// A page of them, by name.
    pub items: Vec<AgentHealth>,
    /// Give it as `cursor` for the next page; null on the last.
    pub next_cursor: Option<String>,
}
