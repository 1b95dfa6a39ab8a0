//! What the host asks of plugins: which verbs there are, a plan for arguments, a judgement of output.

use std::sync::Arc;

use async_trait::async_trait;
use domain::plugin::Record;
use domain::verb::{Profile, VerbName, VerbTraits};
use plan::outcome::Outcome;
use plan::policy::Rules;
use plan::step::Plan;
use serde_json::Value;

/// One version of one verb, pinned: whoever holds it keeps the plugin version it was resolved from.
#[async_trait]
pub trait Verb: Send + Sync {
    /// Effect, idempotence, cancel behaviour, default timeout.
    fn traits(&self) -> &VerbTraits;
    /// Schemas and examples.
    fn contract(&self) -> &VerbContract;
    /// The plugin version behind it.
    fn plugin(&self) -> &PluginIdentity;

    /// Checks `args` against the argument schema alone: all violations at once, no sandbox entered.
    ///
    /// # Errors
    /// Every violation, with pointers from the arguments' root.
    fn validate(&self, args: &Value) -> Result<(), Vec<Violation>>;

    /// Makes the plan for machines of `profile`: schema, then sandbox, then the operator's grant.
    async fn plan(&self, profile: &Profile, args: &Value) -> Result<Arc<Plan>, PlanError>;

    /// Judges what an attempt printed. Never fails: a parser's fault is part of the answer.
    async fn interpret(&self, profile: &Profile, args: &Value, outputs: Outputs) -> Interpretation;
}

/// The verbs loaded now, and how to find one of before.
pub trait Plugins: Send + Sync {
    /// The verb called `name` now.
    ///
    /// # Errors
    /// Why there is none, with the nearest names.
    fn resolve(&self, name: &str) -> Result<Arc<dyn Verb>, ResolveError>;

    /// `name` as provided by the plugin with `digest`, or by a newer version if that one is gone.
    fn pinned(&self, name: &VerbName, digest: &str) -> Option<Arc<dyn Verb>>;

    /// All verbs, by name.
    fn verbs(&self) -> Vec<Arc<dyn Verb>>;

    /// All plugins, by name, with the files that were refused.
    fn plugins(&self) -> Vec<PluginStatus>;

    /// The operator's grant in force for a plugin; checked again when a stored plan is dispatched.
    fn grant(&self, plugin: &str) -> Option<Arc<Rules>>;

    /// Rises whenever the answer of `verbs` or `plugins` changes.
    fn generation(&self) -> u64;
}

/// Which bytes a verb comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginIdentity {
    /// The manifest's name.
    pub name: String,
    /// The manifest's version.
    pub version: String,
    /// SHA-256 of the file, lower-case hex.
    pub digest: String,
}

/// A verb's schemas, as JSON Schema 2020-12 documents.
#[derive(Clone, Debug, PartialEq)]
pub struct VerbContract {
    /// Of the arguments.
    pub args_schema: Value,
    /// Of the typed result.
    pub result_schema: Value,
    /// Arguments that work.
    pub examples: Vec<Value>,
}

/// One thing wrong with arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// JSON Pointer from the arguments' root; empty for the whole.
    pub pointer: String,
    /// What is wrong and what would be right.
    pub message: String,
    /// The schema keyword that said so, or the plugin's own code.
    pub keyword: String,
}

/// Why a verb cannot be resolved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// No plugin ever provided it since this host started.
    #[error("no verb `{name}` is loaded")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The nearest loaded names, nearest first, at most three.
        nearest: Vec<String>,
    },
    /// A plugin provided it and was removed or disabled.
    #[error("verb `{name}` is not available: {why}")]
    Unavailable {
        /// What was asked for.
        name: String,
        /// What happened to it and when.
        why: String,
    },
    /// Its plugin failed too often, and there is no earlier version to go back to.
    #[error("verb `{name}` is not available: {why}")]
    Quarantined {
        /// What was asked for.
        name: String,
        /// What happened to it and when.
        why: String,
    },
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The arguments break the schema or the plugin's own rules.
    #[error("arguments refused")]
    Invalid(Vec<Violation>),
    /// The plugin asked for more than the operator granted, or for a plan nobody could run.
    #[error("plan denied at {pointer}: {message}")]
    Denied {
        /// JSON Pointer into the plan.
        pointer: String,
        /// Which rule said no.
        message: String,
    },
    /// The plugin trapped, ran too long, or answered nonsense.
    #[error("plugin `{plugin}` failed: {message}")]
    Failed {
        /// Its name.
        plugin: String,
        /// What happened, without anything the guest printed.
        message: String,
    },
    /// Too many calls wait; trying again soon is right.
    #[error("too many plugin calls are waiting")]
    Overloaded,
}

/// What an attempt printed, for the plugin to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outputs {
    /// How it ended.
    pub outcome: Outcome,
    /// What is kept of standard output, head then tail.
    pub stdout: Vec<u8>,
    /// What is kept of standard error, head then tail.
    pub stderr: Vec<u8>,
}

/// A plugin's judgement of an attempt that ran to its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Interpretation {
    /// Whether the verb calls this a success.
    pub succeeded: bool,
    /// The typed result; absent when it could not be parsed.
    pub result: Option<Value>,
    /// One line for people.
    pub summary: String,
    /// Why there is no typed result, if there is none. Raw output is kept either way.
    pub parse_fault: Option<String>,
}

/// One plugin file as operators see it.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginStatus {
    /// The manifest's name, or the file's stem when it was refused before it had one.
    pub name: String,
    /// `verb` or `rule`, going by the version that serves; absent when none does.
    pub kind: Option<&'static str>,
    /// How the version that serves stands, `active` or `probation`; without one, how the newest does.
    pub state: &'static str,
    /// The version that serves, if one does.
    pub active: Option<PluginIdentity>,
    /// File name in the plugin folder.
    pub file: String,
    /// Names of the verbs it serves.
    pub verbs: Vec<String>,
    /// What it may plan.
    pub grant: Rules,
    /// Faults since it became active.
    pub faults: u64,
    /// The last refusal of this file, if its present bytes were refused.
    pub refusal: Option<Refusal>,
    /// Its versions and what people decided; absent while it was never known by a name.
    pub record: Option<Record>,
    /// Who signed the file's present bytes; absent when nobody did.
    pub signature: Option<Signature>,
}

/// A signature beside a plugin file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// `good`, or why it does not count: `malformed`, `untrusted`, `invalid`, `date`.
    pub standing: &'static str,
    /// The key it claims to be made with, 16 hexadecimal digits; absent when it cannot be read.
    pub key_id: Option<String>,
    /// The key's name in the trust file; absent unless the signature is that key's.
    pub signer: Option<String>,
    /// The comment that was signed with the bytes; absent unless that is proved.
    pub comment: Option<String>,
}

/// Why a file was not loaded. The same text in the API, the log and `viworks plugin check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// 1 to 9.
    pub gate: u8,
    /// Stable code, e.g. `forbidden_import`.
    pub code: String,
    /// One line: what is wrong.
    pub cause: String,
    /// One line: how to mend it.
    pub cure: String,
    /// SHA-256 of the refused bytes, lower-case hex.
    pub digest: String,
}
