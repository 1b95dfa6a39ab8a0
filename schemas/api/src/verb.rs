//! Verbs, and plans shown before anything runs.

use plan::step::Plan;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::target::{TargetBody, TargetOut};
use crate::words;

/// One loaded verb.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Verb {
    /// e.g. `docker.ps`.
    pub name: String,
    /// One line.
    pub summary: String,
    /// The least effect a plan of it may have.
    pub effect: String,
    /// Whether running it twice is the same as running it once.
    pub idempotent: bool,
    /// `clean`, `leaves_effects` or `none`.
    pub cancel: String,
    /// Run timeout when the caller names none, in milliseconds.
    pub default_timeout_ms: u64,
    /// A capability the agent must have.
    pub needs: Option<String>,
    /// The plugin that provides it.
    pub plugin: String,
    /// Its version.
    pub plugin_version: String,
    /// Its SHA-256.
    pub plugin_digest: String,
    /// JSON Schema 2020-12 of the arguments.
    pub args_schema: Value,
    /// JSON Schema 2020-12 of the typed result.
    pub result_schema: Value,
    /// Arguments that work.
    pub examples: Vec<Value>,
}

/// Body of `POST /verbs/{verb}/plan`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// The arguments.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub args: Value,
    /// Who it would run on.
    pub target: TargetBody,
}

/// What a command would do. Nothing was queued.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PlanPreview {
    /// The verb.
    pub verb: String,
    /// The highest effect of the plans; the verb's least when there is none.
    pub effect: String,
    /// Whether the caller's grants cover every target. A command that they do not cover on one is refused whole, with
    /// 403 `effect_not_granted`.
    pub allowed: bool,
    /// Who it would run on.
    pub targets: Vec<PreviewedTarget>,
    /// Who was meant but is out.
    pub excluded: Vec<TargetOut>,
    /// One plan for each kind of machine. A kind on none of which the caller may run the verb has none: its plugin
    /// was not asked.
    pub plans: Vec<ProfilePlan>,
}

/// An agent that a command would run on, and whether the caller may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PreviewedTarget {
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
    /// What the caller's grants say.
    pub grant: GrantVerdict,
}

/// What the caller's grants say of a verb on one agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GrantVerdict {
    /// Whether one covers it.
    pub allowed: bool,
    /// What was asked about: the plan's effect, or the verb's least when that one is not granted.
    #[schema(value_type = words::Effect)]
    pub effect: String,
    /// Why not; absent when it is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The plan for one kind of machine.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProfilePlan {
    /// Operating system of the machines it is for.
    pub os: String,
    /// Architecture of the machines it is for.
    pub arch: String,
    /// Container engine of the machines it is for.
    pub container_engine: Option<String>,
    /// Compose flavour of the machines it is for.
    pub compose: Option<String>,
    /// How many of the targets it is for.
    pub agents: u64,
    /// SHA-256 of the plan's JSON, lower-case hex.
    pub plan_hash: String,
    /// The plan.
    #[schema(value_type = Object)]
    pub plan: Plan,
}
