//! How a command is delivered: what a caller may ask for, and what it comes to on many machines.

use plan::outcome::Outcome;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::words;

/// So many targets (`10`), or so many of a hundred (`"25%"`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum PortionBody {
    /// Exactly so many.
    Count(u32),
    /// `"10"` or `"25%"`.
    Text(String),
}

/// When an attempt is followed by another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryBody {
    /// Attempts in all, 1 to 20.
    #[schema(minimum = 1, maximum = 20)]
    pub max_attempts: u32,
    /// What is tried again besides what certainly had no effect: `failed`, `timed_out`, `interrupted`, `lost`.
    /// Absent: `interrupted` and `lost` for an idempotent verb, nothing for another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<words::RetryOn>>)]
    pub on: Option<Vec<String>>,
    /// Longest wait before the second attempt, in milliseconds, 1 to 3600000; it doubles with each. 5000 when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 3_600_000)]
    pub backoff_ms: Option<u64>,
}

/// How a command's targets are let go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RolloutBody {
    /// At once at most so many, at least 1 or `1%`; a percentage comes to at least one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<PortionBody>,
    /// `off` or `exponential`; not together with `waves`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<words::Ramp>)]
    pub ramp: Option<String>,
    /// So many in all by each wave, ascending, at most 20; what the last leaves out comes after it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 20)]
    pub waves: Vec<PortionBody>,
    /// From the end of one wave to the beginning of the next, in milliseconds, a day at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 86_400_000)]
    pub pause_ms: Option<u64>,
    /// Halts when more than so many failed, timed out, were interrupted, lost, or rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_errors: Option<PortionBody>,
    /// Halts when more than so many could not be reached in time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_unreached: Option<PortionBody>,
    /// What happens to what runs when it halts: `finish` (when absent) or `cancel`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<words::OnHalt>)]
    pub on_halt: Option<String>,
}

/// Body of `POST /commands/{id}/retry`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryCommand {
    /// `failed`: where it may have run and did not succeed. `never_started`: where it certainly never started.
    #[schema(value_type = words::RetryOnly)]
    pub only: String,
}

/// One attempt that a later one has taken the place of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AttemptBody {
    /// From 1.
    pub attempt: u32,
    /// Where it ended.
    pub state: String,
    /// Why, where the state alone does not say.
    pub reason: Option<String>,
    /// RFC 3339; null when it never started, as far as is known.
    pub started_at: Option<String>,
    /// RFC 3339: when it ended.
    pub changed_at: String,
    /// Exit code of the last step run; null when none ended by itself.
    pub exit_code: Option<i32>,
    /// The typed result; null when there is none.
    pub result: Option<Value>,
    /// The verb's one line about it.
    pub summary: Option<String>,
    /// How the agent says it ended.
    #[schema(value_type = Option<Object>)]
    pub outcome: Option<Outcome>,
}

/// Answer to `GET /commands/{id}/invocations/{agent}/attempts`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Attempts {
    /// Earlier attempts, first to last; the latest is the invocation itself.
    pub items: Vec<AttemptBody>,
}

/// How many invocations at one site are in one state for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShareBody {
    /// The site.
    pub site: String,
    /// The state.
    pub state: String,
    /// Why, where the state alone does not say.
    pub reason: Option<String>,
    /// How many.
    pub count: u32,
    /// RFC 3339: when the latest of them came to it.
    pub changed_at: String,
}

/// Answer to `GET /commands/{id}/rollup`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RollupBody {
    /// By site, state and reason.
    pub items: Vec<ShareBody>,
}

/// Invocations that ended alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GroupBody {
    /// The state they share.
    pub state: String,
    /// What they share of the typed result; null when they have none of it.
    pub value: Value,
    /// How many there are.
    pub count: u32,
    /// Names of some of them, in order, at most 20.
    pub agents: Vec<String>,
}

/// Answer to `GET /commands/{id}/results`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GroupsBody {
    /// The largest first.
    pub items: Vec<GroupBody>,
}
