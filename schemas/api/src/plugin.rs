//! Plugins as operators see them.

use plan::policy::Rules;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One plugin file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Plugin {
    /// The manifest's name, or the file's stem when it was refused before it had one.
    pub name: String,
    /// What it provides: `verb` or `rule`; null when no version serves.
    #[serde(default)]
    pub kind: Option<String>,
    /// How the version that serves stands: `active`, or `probation` for five minutes after an update. Without one,
    /// how the newest does: `refused`, `removed`, `disabled`, `needs_approval`, `quarantined` or `rolled_back`.
    pub state: String,
    /// File name in the plugin folder.
    pub file: String,
    /// The version that serves; null when none does.
    pub version: Option<String>,
    /// SHA-256 of the version that serves.
    pub digest: Option<String>,
    /// Names of the verbs it serves.
    pub verbs: Vec<String>,
    /// What it may plan.
    #[schema(value_type = Object)]
    pub grant: Rules,
    /// Faults since it became active.
    pub faults: u64,
    /// Why the file's present bytes were refused; null when they were not.
    pub refusal: Option<PluginRefusal>,
    /// False when somebody disabled it by an order; its operator's file may disable it, too.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Who signed the file's present bytes; null when nobody did.
    pub signature: Option<PluginSignature>,
    /// Its versions: what serves, what may be gone back to, what waits, what was sent back.
    #[serde(default)]
    pub versions: Vec<PluginVersion>,
}

fn yes() -> bool {
    true
}

/// One version of a plugin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PluginVersion {
    /// The manifest's version.
    pub version: String,
    /// SHA-256 of the file.
    pub digest: String,
    /// `found`, `needs_approval`, `refused`, `disabled`, `probation`, `active`, `kept`, `quarantined`, `rolled_back`
    /// or `removed`.
    pub state: String,
    /// RFC 3339, UTC: since when.
    pub since: String,
    /// Why, where the state alone does not say.
    pub why: Option<String>,
    /// Whether somebody consented to what it asks for.
    pub approved: bool,
}

/// One change in the life of a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PluginPassage {
    /// RFC 3339, UTC.
    pub at: String,
    /// The version it is about; null when it is about none.
    pub version: Option<String>,
    /// Its digest.
    pub digest: Option<String>,
    /// Where it stood.
    pub from: Option<String>,
    /// Where it stands since.
    pub to: String,
    /// Why.
    pub why: Option<String>,
    /// Who wanted it; null for what the host does by itself.
    pub actor: Option<String>,
}

/// A signature beside a plugin file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PluginSignature {
    /// `good`, or why it does not count: `malformed`, `untrusted`, `invalid`, `date`.
    pub standing: String,
    /// The key it claims to be made with, 16 hexadecimal digits; null when it cannot be read.
    pub key_id: Option<String>,
    /// The key's name in the trust file; null unless the signature is that key's.
    pub signer: Option<String>,
    /// The comment that was signed with the bytes; null unless that is proved.
    pub comment: Option<String>,
}

/// Why a plugin file was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PluginRefusal {
    /// 1 to 9.
    pub gate: u8,
    /// Stable code.
    pub code: String,
    /// What is wrong.
    pub cause: String,
    /// How to mend it.
    pub cure: String,
    /// SHA-256 of the refused bytes.
    pub digest: String,
}
