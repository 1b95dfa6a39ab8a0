//! Plugins as operators see them.

use plan::policy::Rules;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One plugin file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Plugin {
    /// The manifest's name, or the file's stem when it was refused before it had one.
    pub name: String,
    /// `active`, `refused`, `removed`, `disabled` or `needs_approval`.
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
