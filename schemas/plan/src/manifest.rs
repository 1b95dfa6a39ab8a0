//! What a plugin says of itself: the JSON answer of `describe`, stamped into the component so that a
//! host can index and refuse it without running anything.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::effect::Effect;
use crate::policy::Rules;
use crate::rule::RuleManifest;

/// The custom section of a component that holds its manifest as JSON text; in fewer bytes, if
/// it begins with one of the marks of [`crate::packed`].
pub const SECTION: &str = "viworks:manifest";
/// The ABI version of plugins that provide verbs.
pub const ABI: &str = "1.0";
/// The ABI version of plugins that are a rule.
pub const RULE_ABI: &str = "1.1";
/// Most bytes of a manifest's JSON text.
pub const MAX_MANIFEST_BYTES: usize = 1024 * 1024;

/// One plugin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// `<major>.<minor>` of the ABI it was built for.
    pub abi: String,
    /// Identity: `[a-z][a-z0-9_-]{0,62}`. Two files of one name are two versions of one plugin.
    pub name: String,
    /// Semantic version.
    pub version: String,
    /// One line for people.
    pub summary: String,
    /// At least one, unless it is a rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verbs: Vec<VerbManifest>,
    /// What its plans need. The operator's grant decides; this is only the request.
    #[serde(default, skip_serializing_if = "asks_nothing")]
    pub grants: Rules,
    /// JSON Schema 2020-12 of its operator configuration; absent when it takes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_schema: Option<Value>,
    /// What there is to say of a rule; absent when it provides verbs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleManifest>,
}

fn asks_nothing(grants: &Rules) -> bool {
    *grants == Rules::default()
}

/// What a plugin provides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Verbs.
    Verb,
    /// A rule of alerts.
    Rule,
}

impl Kind {
    /// The word in JSON and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Verb => "verb",
            Kind::Rule => "rule",
        }
    }
}

impl Manifest {
    /// What the plugin provides.
    pub fn kind(&self) -> Kind {
        if self.rule.is_some() { Kind::Rule } else { Kind::Verb }
    }
}

/// One verb.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerbManifest {
    /// e.g. `docker.ps`.
    pub name: String,
    /// One line for people.
    pub summary: String,
    /// The least effect a plan of it may have; a plan may raise it.
    pub effect: Effect,
    /// Whether running it twice is the same as running it once.
    #[serde(default)]
    pub idempotent: bool,
    /// `clean`, `leaves_effects` or `none`.
    #[serde(default = "leaves_effects")]
    pub cancel: String,
    /// Run timeout when the caller names none. Milliseconds.
    pub default_timeout_ms: u64,
    /// A capability the agent must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<String>,
    /// JSON Schema 2020-12 of the arguments, an object schema.
    pub args_schema: Value,
    /// JSON Schema 2020-12 of the typed result.
    pub result_schema: Value,
    /// Tried at every load: each must pass schema, plan and grant; a golden one must also interpret.
    pub examples: Vec<Example>,
}

fn leaves_effects() -> String {
    "leaves_effects".to_owned()
}

/// Arguments that work, perhaps with what the machine answered and what that means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// The arguments.
    pub args: Value,
    /// A recorded answer and its meaning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub golden: Option<Golden>,
}

/// A recorded answer and its meaning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// Exit code of the last step.
    pub exit_code: i32,
    /// Standard output.
    #[serde(default)]
    pub stdout: String,
    /// Standard error.
    #[serde(default)]
    pub stderr: String,
    /// The typed result that must come out.
    pub result: Value,
}
