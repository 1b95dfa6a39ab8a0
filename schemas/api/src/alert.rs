//! Alerts, silences, rules.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// What a rule found wrong with one thing of one agent: one alert for all the times it fires.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Alert {
    /// Its id.
    pub id: String,
    /// The rule, as its plugin is called; `rule_error` for a rule that fails.
    pub rule: String,
    /// Id of the agent; absent where it is of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Name of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_name: Option<String>,
    /// Its site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// Which thing, e.g. a mount; empty where there is one only.
    pub key: String,
    /// `pending`, `firing`, `acknowledged` or `resolved`.
    pub state: String,
    /// `warning` or `critical`, while it is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// Since when it is in this state. RFC 3339.
    pub since: String,
    /// When this episode began, by the rule. RFC 3339.
    pub began: String,
    /// What the rule said at the last change.
    pub message: String,
    /// The number at fault then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Who has taken it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<AlertOwner>,
    /// Why nobody is told: `maintenance`, `silence` or `flapping`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muted: Option<String>,
    /// Whether it fires again and again.
    pub flapping: bool,
    /// What became of it, newest first, 100 lines at most; of a single alert only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<Vec<AlertLine>>,
}

/// Who has taken an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AlertOwner {
    /// Their name.
    pub name: String,
    /// What they said; may be empty.
    pub note: String,
    /// RFC 3339.
    pub at: String,
}

/// One line of a timeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AlertLine {
    /// RFC 3339.
    pub at: String,
    /// `began`, `passed`, `fired`, `worsened`, `eased`, `resolved`, `forgotten`, `acknowledged`, `released`, `flapping` or
    /// `steady`.
    pub what: String,
    /// How bad it was then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// The number then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// What the rule said.
    pub message: String,
    /// Who did it, if somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// What they said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Body of `POST /alerts/{id}/ack` and `…/release`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerAlert {
    /// What there is to say, at most 1,000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Data of an `alert` event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AlertEvent {
    /// Its id.
    pub alert: String,
    /// Id of the agent; absent where it is of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Name of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_name: Option<String>,
    /// What became of it; the words of a timeline.
    pub what: String,
    /// Where it stood then.
    pub state: String,
    /// How bad it was, while it was wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// RFC 3339.
    pub at: String,
}

/// What a silence is about: what is absent matches everything, and all of it must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AlertMatcher {
    /// These rules.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// These agents, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<String>,
    /// These sites.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sites: Vec<String>,
    /// Agents with all of these labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Only this thing, e.g. a mount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// At most so bad: `warning` lets through what is critical.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_most: Option<String>,
}

/// Nobody is told of what it matches while it lasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Silence {
    /// Its id.
    pub id: String,
    /// What it is about.
    pub matcher: AlertMatcher,
    /// When it begins. RFC 3339.
    pub from: String,
    /// When it ends. RFC 3339.
    pub until: String,
    /// Who wants it.
    pub created_by: String,
    /// RFC 3339.
    pub created_at: String,
    /// Why.
    pub comment: String,
}

/// Body of `POST /silences`. Ends at `until`, or after `for_s` seconds.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSilence {
    /// What it is about; not everything.
    pub matcher: AlertMatcher,
    /// When it begins; now when absent. RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// When it ends, within a year. RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// How long it lasts, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_s: Option<u64>,
    /// Why, at most 1,000 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
}

/// A rule as it judges now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AlertRule {
    /// Its name; its plugin is switched on and off by that.
    pub name: String,
    /// The version that judges.
    pub version: String,
    /// One line.
    pub summary: String,
    /// The metrics it is given.
    pub reads: Vec<String>,
    /// The configuration for most agents, defaults filled in.
    #[schema(value_type = Object)]
    pub config: Value,
    /// Configurations for some; the first that fits an agent is its own.
    pub overrides: Vec<AlertOverride>,
    /// JSON Schema of a configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub config_schema: Option<Value>,
    /// Why it fails; absent while it answers. Its alerts stay as they are meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<String>,
    /// Samples since the answering host started that it has not seen: they came faster than rules judge.
    #[serde(default)]
    pub passed_over: u64,
}

/// A configuration for some agents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AlertOverride {
    /// Those of these sites; of any when empty.
    pub sites: Vec<String>,
    /// Those with all of these labels.
    pub labels: BTreeMap<String, String>,
    /// The whole configuration.
    #[schema(value_type = Object)]
    pub config: Value,
}

/// Body of `POST /alert-rules/{rule}/backtest`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewBacktest {
    /// The configuration to try, over the defaults; the one in force when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub config: Option<Value>,
    /// These agents, by id or name; all in your sight when empty. 100 at most.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<String>,
    /// Agents of these sites; of any when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sites: Vec<String>,
    /// Where the past begins; a week ago when absent. RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Where it ends; now when absent. RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// What a rule would have found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Backtest {
    /// The rule.
    pub rule: String,
    /// RFC 3339.
    pub from: String,
    /// RFC 3339.
    pub to: String,
    /// The configuration that was tried.
    #[schema(value_type = Object)]
    pub config: Value,
    /// Agents that were looked at.
    pub agents: u64,
    /// Samples that were looked at.
    pub samples: u64,
    /// How often it would have fired.
    pub fired: u64,
    /// How often that would have been over within two minutes.
    pub under_two_minutes: u64,
    /// Half of the times were shorter. Seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median_s: Option<u64>,
    /// Nine in ten were shorter. Seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p90_s: Option<u64>,
    /// The `for` duration with which at most one in ten of the short ones would have fired; absent when none is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposed_for_s: Option<u64>,
    /// One line for people.
    pub summary: String,
    /// Each time, oldest first, 500 at most.
    pub times: Vec<BacktestTime>,
}

/// One time that it would have fired.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BacktestTime {
    /// Name of the agent.
    pub agent_name: String,
    /// Which thing.
    pub key: String,
    /// The worst it was.
    pub severity: String,
    /// When it would have fired. RFC 3339.
    pub fired: String,
    /// When it would have been over; absent when it was not. RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<String>,
    /// How long, up to the end of the past that was looked at. Seconds.
    pub lasted_s: u64,
    /// What the rule would have said first.
    pub message: String,
}
