//! Verbs, and plans shown before anything runs.

use plan::step::Plan;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::target::{TargetBody, TargetIn, TargetOut};

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
    /// The highest effect of the plans.
    pub effect: String,
    /// Who it would run on.
    pub targets: Vec<TargetIn>,
    /// Who was meant but is out.
    pub excluded: Vec<TargetOut>,
    /// One plan for each kind of machine.
    pub plans: Vec<ProfilePlan>,
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
