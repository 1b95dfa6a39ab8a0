//! What plugin authors' tools ask: the same gates and the same sandbox as in the host, without a host.

mod bench;
mod loaded;
mod place;
mod rules;

use std::path::PathBuf;
use std::thread;

use domain::verb::{Profile, VerbName};
use plan::manifest::Manifest;
use plan::policy::Rules;
use plan::step::Plan;
use ports::plugins::{PlanError, Refusal, Signature};
use serde_json::Value;

pub use crate::abi::Cost;
use crate::build::Build;
use crate::compile::{Compile, Compiler, digest};
use crate::engine::{EngineError, Sandbox};
use crate::gates::{self, Gates};
pub use crate::guest::LogLine;
use crate::service::GATE_STACK;
use crate::signature::{self, Signed};
use crate::tier::{Consents, Tier};
use crate::trust::Trust;
pub use bench::{Costs, Metered};
pub use loaded::{Loaded, Meant};
pub use place::{Placement, Predecessor, place};
pub use rules::{Fleet, Judged};

/// Why a tool has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// A gate said no.
    #[error("{} (gate {}, {}): {}", .0.cause, .0.gate, .0.code, .0.cure)]
    Refused(Refusal),
    /// The plugin has no such verb.
    #[error("plugin `{plugin}` has no verb `{verb}`; it has {known}")]
    NoVerb {
        /// The plugin.
        plugin: String,
        /// What was asked for.
        verb: String,
        /// What there is, with commas.
        known: String,
    },
    /// This machine cannot run plugins.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The plugin folder cannot be read.
    #[error("plugin folder `{folder}` cannot be read: {source}")]
    Folder {
        /// Which folder.
        folder: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The thread the work needs its stack on was not to be had, or was lost.
    #[error("a thread for the plugin cannot be had: {0}")]
    Thread(String),
}

impl From<Refusal> for ToolError {
    fn from(refusal: Refusal) -> ToolError {
        ToolError::Refused(refusal)
    }
}

/// A component that passed gates 1 to 8, as a person reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// SHA-256 of the file, lower-case hex.
    pub digest: String,
    /// Bytes of the file.
    pub size: usize,
    /// Names of what it imports.
    pub imports: Vec<String>,
    /// Which kind of guest it is.
    pub tier: Tier,
    /// What it says of itself.
    pub manifest: Manifest,
}

/// What one call of `plan` answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// The plan, or why there is none.
    pub answer: Result<Plan, PlanError>,
    /// What the guest logged meanwhile.
    pub log: Vec<LogLine>,
}

/// The manifest, as JSON text, of a component that need not be stamped yet.
///
/// # Errors
/// The first gate that said no.
pub fn describe(bytes: &[u8]) -> Result<String, ToolError> {
    on_deep_stack(|| Ok(gates()?.describe(bytes)?))
}

/// Gates 1 to 8 for a file named `file_name`.
///
/// # Errors
/// The first gate that said no.
pub fn check(bytes: &[u8], file_name: &str) -> Result<Checked, ToolError> {
    checked(bytes, file_name, &Consents::Nobody)
}

/// The same for a file whose operator consents to the compat tier.
///
/// # Errors
/// The first gate that said no.
pub fn check_consented(bytes: &[u8], file_name: &str) -> Result<Checked, ToolError> {
    checked(bytes, file_name, &Consents::Everybody)
}

fn checked(bytes: &[u8], file_name: &str, consents: &Consents) -> Result<Checked, ToolError> {
    on_deep_stack(|| {
        let Build { manifest, imports, tier, .. } = gates()?.check(file_name, bytes, consents)?;
        Ok(Checked { digest: digest(bytes), size: bytes.len(), imports, tier, manifest })
    })
}

/// Plans `verb` once, under the plugin's default configuration. Without `grant`, what the manifest
/// requests is granted.
///
/// # Errors
/// When the plugin does not pass the gates or has no such verb.
pub fn plan_once(
    bytes: &[u8],
    verb: &VerbName,
    profile: &Profile,
    args: &Value,
    grant: Option<&Rules>,
) -> Result<Planned, ToolError> {
    Loaded::open(bytes, "plugin.wasm")?.plan(verb, profile, args, grant)
}

/// Names of what a component imports, allowed or not.
///
/// # Errors
/// When the bytes are no component.
pub fn imports(bytes: &[u8]) -> Result<Vec<String>, ToolError> {
    gates::imports(bytes).map_err(|(code, cause)| code.refuse(cause, &digest(bytes)).into())
}

/// Endings of a signature's file, behind the whole name of the file it signs.
pub const SIGNATURES: [&str; 2] = crate::folder::SIGNATURES;

/// Who signed `bytes`, going by the texts of the signatures beside them, and whether a host that enforces
/// signatures and trusts `trust` would let them in for that.
pub fn signature(bytes: &[u8], texts: &[String], trust: &Trust) -> (Option<Signature>, Result<(), Refusal>) {
    let texts: Vec<Result<String, String>> = texts.iter().cloned().map(Ok).collect();
    let signed = Signed::of(trust, bytes, &texts);
    let judged = signature::judge(trust, &digest(bytes), &signed);
    (signed.shown(trust), judged)
}

/// Gates of its own: a tool looks at a few files and ends.
fn gates() -> Result<Gates, ToolError> {
    let compiler = Compiler::new(Compile::InProcess, None).expect("a compiler without a cache touches nothing");
    Ok(Gates::new(Sandbox::new(1)?, compiler))
}

/// Runs `work` on a thread whose stack is deep enough for compiler and guest.
fn on_deep_stack<T: Send>(work: impl FnOnce() -> Result<T, ToolError> + Send) -> Result<T, ToolError> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("plugin-tool".into()).stack_size(GATE_STACK);
        let thread = thread.spawn_scoped(scope, work).map_err(|error| ToolError::Thread(error.to_string()))?;
        thread.join().unwrap_or_else(|_| Err(ToolError::Thread("it panicked".into())))
    })
}
