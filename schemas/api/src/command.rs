//! Commands, their invocations and their events.

use std::collections::BTreeMap;

use plan::outcome::Outcome;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::delivery::{RetryBody, RolloutBody};
use crate::target::{TargetBody, TargetIn, TargetOut};
use crate::words;

/// Body of `POST /commands`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCommand {
    /// e.g. `docker.ps`.
    pub verb: String,
    /// The verb's arguments; an empty object when absent.
    #[serde(default = "empty_object")]
    #[schema(value_type = Object)]
    pub args: Value,
    /// Who it runs on.
    pub target: TargetBody,
    /// `critical`, `high`, `normal` or `low`; `normal` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<words::Priority>)]
    pub priority: Option<String>,
    /// Not to be started later than this after acceptance, in milliseconds; an hour when absent, 30
    /// days at most. 0: agents not connected now are not waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 2_592_000_000u64)]
    pub start_within_ms: Option<u64>,
    /// An attempt is killed after this long, in milliseconds; the verb's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_timeout_ms: Option<u64>,
    /// RFC 3339: nothing of it runs after this; within 31 days. No such end when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub finish_by: Option<String>,
    /// What happens when its agent loses the host: `continue` (when absent), or `kill_after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<words::OnDisconnect>)]
    pub on_disconnect: Option<String>,
    /// With `kill_after`: how long the agent may be without a session, in milliseconds, a day at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill_after_ms: Option<u64>,
    /// When an attempt is followed by another; the verb's own way when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryBody>,
    /// How the targets are let go; all at once when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutBody>,
}

impl NewCommand {
    /// A verb with these arguments for this target, and nothing said of how it is delivered.
    pub fn new(verb: &str, args: Value, target: TargetBody) -> NewCommand {
        NewCommand {
            verb: verb.to_owned(),
            args,
            target,
            priority: None,
            start_within_ms: None,
            run_timeout_ms: None,
            finish_by: None,
            on_disconnect: None,
            kill_after_ms: None,
            retry: None,
            rollout: None,
        }
    }
}

fn empty_object() -> Value {
    Value::Object(serde_json::Map::new())
}

/// Answer to `POST /commands`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Accepted {
    /// The command's id.
    pub id: String,
    /// `pending`, usually.
    pub status: String,
    /// One sentence: what it does.
    pub summary: String,
    /// Who it runs on.
    pub targets: Vec<TargetIn>,
    /// Who was meant but is out.
    pub excluded: Vec<TargetOut>,
}

/// A command as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Command {
    /// Its id.
    pub id: String,
    /// `scheduled`, `pending`, `running`, `halted`, `succeeded`, `partial`, `unknown`, `cancelled`,
    /// `expired` or `failed`.
    pub status: String,
    /// How many invocations are in each state.
    pub counts: BTreeMap<String, u32>,
    /// The verb.
    pub verb: String,
    /// The plugin that planned it.
    pub plugin: String,
    /// Its version.
    pub plugin_version: String,
    /// Its SHA-256.
    pub plugin_digest: String,
    /// The arguments.
    pub args: Value,
    /// The target as asked for.
    pub target: Value,
    /// `critical`, `high`, `normal` or `low`.
    pub priority: String,
    /// Who asked.
    pub submitter: String,
    /// One sentence: what it does.
    pub summary: String,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339: nothing of it starts after this.
    pub start_by: String,
    /// One attempt's longest run, in milliseconds.
    pub run_timeout_ms: u64,
    /// RFC 3339: nothing of it runs after this; null when there is no such end.
    pub finish_by: Option<String>,
    /// How long its agent may be without a session before it is killed, in milliseconds; null when it goes on.
    pub kill_after_ms: Option<u64>,
    /// When an attempt is followed by another.
    pub retry: RetryBody,
    /// How the targets are let go; null when all at once.
    pub rollout: Option<RolloutBody>,
    /// Why its rollout halted; null when it did not.
    pub halted: Option<String>,
    /// The command this one follows up; null when it is none.
    pub parent: Option<String>,
    /// RFC 3339; null until every invocation is over.
    pub completed_at: Option<String>,
    /// The request that submitted it.
    pub correlation_id: String,
    /// The W3C trace context that request came with, as it goes to the agents; null when it had none.
    #[serde(default)]
    pub traceparent: Option<String>,
}

/// A command on one agent, as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Invocation {
    /// The agent's id.
    pub agent: String,
    /// Its name when the command was accepted.
    pub agent_name: String,
    /// Its site when the command was accepted.
    pub site: String,
    /// `held`, `queued`, `sent`, `accepted`, `running`, `succeeded`, `failed`, `timed_out`, `cancelled`,
    /// `expired`, `rejected`, `skipped`, `interrupted` or `lost`.
    pub state: String,
    /// Why, where the state alone does not say.
    pub reason: Option<String>,
    /// One sentence a person understands about the state.
    pub explanation: String,
    /// The latest attempt, from 1.
    pub attempt: u32,
    /// Whether a cancel was asked for.
    pub cancel_requested: bool,
    /// Exit code of the last step run; null when none ended by itself.
    pub exit_code: Option<i32>,
    /// The typed result; null until there is one.
    pub result: Option<Value>,
    /// Whether `result` was parsed from the output; null until it ran to its end.
    pub parsed: Option<bool>,
    /// Why it was not parsed.
    pub parse_fault: Option<String>,
    /// The verb's one line about it.
    pub summary: Option<String>,
    /// Standard output, lossy UTF-8, first 64 KiB.
    pub stdout: String,
    /// Standard error, lossy UTF-8, first 64 KiB.
    pub stderr: String,
    /// What of its output is here; null until the agent has said how it ended.
    #[serde(default)]
    pub output: Option<KeptOutput>,
    /// How the agent says it ended.
    #[schema(value_type = Option<Object>)]
    pub outcome: Option<Outcome>,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339: when it is tried again; null unless a retry is pending.
    pub due_at: Option<String>,
    /// RFC 3339; null until the agent says it started.
    pub started_at: Option<String>,
    /// RFC 3339: when its state last changed.
    pub changed_at: String,
    /// The W3C trace context of the request that submitted the command, as the agent has it; null when it had none.
    #[serde(default)]
    pub traceparent: Option<String>,
}

/// What is here of the output of an attempt that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeptOutput {
    /// Of standard output.
    pub stdout: KeptStream,
    /// Of standard error.
    pub stderr: KeptStream,
}

/// What is here of one stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeptStream {
    /// `complete`; `truncated`: more was written than is kept, and its beginning and end are here; `partial`: bytes
    /// are missing that were kept once, or, of an interrupted attempt, may be.
    pub kept: String,
    /// Bytes written, as far as is known.
    pub bytes: u64,
    /// How many of them are not here.
    pub missing_bytes: u64,
    /// Where they would be, ascending, the first 100.
    pub gaps: Vec<OutputGap>,
}

/// Bytes of a stream that were written and are not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutputGap {
    /// The first of them.
    pub from: u64,
    /// The first one after them.
    pub until: u64,
}

/// Answer to `POST /commands/{id}/cancel`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CancelAnswer {
    /// The command's status now.
    pub status: String,
    /// Invocations that were still open and have been asked to end.
    pub requested: u64,
}

/// Answer to `POST /commands/{id}/release`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ReleaseAnswer {
    /// The command's status now.
    pub status: String,
    /// Invocations that were held since a restore and are not any more.
    pub released: u64,
}

/// Data of a `state` event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StateEvent {
    /// The agent's id.
    pub agent: String,
    /// The attempt, from 1.
    pub attempt: u32,
    /// Its state now.
    pub state: String,
    /// RFC 3339.
    pub at: String,
    /// Why, where the state alone does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What of its output is here, when it is over and that is not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Box<KeptOutput>>,
    /// The trace the command belongs to, if it belongs to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// Data of an `output` event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutputEvent {
    /// The agent's id.
    pub agent: String,
    /// The attempt, from 1.
    pub attempt: u32,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// Where in the stream the first byte stands.
    pub offset: u64,
    /// The bytes, standard base64 with padding.
    pub data_base64: String,
}

/// Data of `status` and `end` events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatusEvent {
    /// The command's status.
    pub status: String,
    /// How many invocations are in each state.
    pub counts: BTreeMap<String, u32>,
    /// The trace the command belongs to, if it belongs to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// Data of a `state` event of everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AnyStateEvent {
    /// The command's id.
    pub command: String,
    /// The agent's id.
    pub agent: String,
    /// The attempt, from 1.
    pub attempt: u32,
    /// Its state now.
    pub state: String,
    /// Why, where the state alone does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// RFC 3339.
    pub at: String,
}

/// Data of a `status` event of everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AnyStatusEvent {
    /// The command's id.
    pub command: String,
    /// Its status now.
    pub status: String,
    /// RFC 3339.
    pub at: String,
}

/// Data of an `agent` event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentEvent {
    /// Its id.
    pub agent: String,
    /// Its name.
    pub agent_name: String,
    /// Its site.
    pub site: String,
    /// Its status then.
    pub status: String,
    /// Whether its key is revoked by now.
    pub revoked: bool,
    /// RFC 3339.
    pub at: String,
}

/// Data of a `plugins` event: their generation now. Ask for the plugins, the verbs or the description again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PluginsEvent {
    /// Rises with every change.
    pub generation: u64,
}
