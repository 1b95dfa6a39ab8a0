//! Gate 9, first half: what the operator says about a plugin in `<plugin name>.toml` beside the wasm.

use std::sync::Arc;

use plan::policy::Rules;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::No;
use crate::build::Build;
use crate::refusal::Code;

/// Most bytes of the toml file.
pub(crate) const MAX_TOML_BYTES: u64 = 256 * 1024;

/// What a plugin may plan while its operator has not said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DefaultGrants {
    /// Nothing: it waits for approval.
    #[default]
    None,
    /// What its manifest requests.
    Requested,
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OperatorFile {
    #[serde(default = "yes")]
    enabled: bool,
    #[serde(default)]
    config: toml::Table,
    #[serde(default)]
    grants: Option<Rules>,
}

fn yes() -> bool {
    true
}

/// What holds for one plugin, from its file or for want of one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Operator {
    pub(crate) enabled: bool,
    /// JSON text of its configuration, defaults filled in.
    pub(crate) config: String,
    /// What it may plan; absent while nobody decided.
    pub(crate) grant: Option<Arc<Rules>>,
}

/// Reads `text`, the operator's file for `build` if there is one.
pub(crate) fn read(build: &Build, text: Option<&str>, defaults: DefaultGrants) -> Result<Operator, No> {
    let name = &build.identity.name;
    let file = match text {
        Some(text) => toml::from_str::<OperatorFile>(text)
            .map_err(|error| (Code::ConfigMalformed, format!("`{name}.toml`: {}", error.message())))?,
        None => OperatorFile { enabled: true, config: toml::Table::new(), grants: None },
    };
    let config = serde_json::to_value(&file.config)
        .map_err(|error| (Code::ConfigMalformed, format!("`{name}.toml`: config: {error}")))?;
    let config = with_defaults(build, config);
    match &build.config_schema {
        // A disabled plugin is not asked, so that it can be switched off whatever its configuration.
        Some(schema) if file.enabled => schema.check(&config).map_err(|violations| {
            let told: Vec<String> = violations.iter().map(|v| format!("`{}`: {}", v.pointer, v.message)).collect();
            (Code::ConfigInvalid, format!("configuration of `{name}`: {}", told.join("; ")))
        })?,
        None if !file.config.is_empty() => {
            return Err((Code::ConfigInvalid, format!("`{name}.toml`: plugin `{name}` takes no configuration")));
        }
        Some(_) | None => {}
    }
    let granted = file.grants.or_else(|| match defaults {
        DefaultGrants::Requested => Some(build.manifest.grants.clone()),
        DefaultGrants::None => None,
    });
    Ok(Operator { enabled: file.enabled, config: config.to_string(), grant: granted.map(Arc::new) })
}

/// The configuration a plugin gets when its operator says nothing.
pub(crate) fn default_config(build: &Build) -> String {
    with_defaults(build, Value::Object(Map::new())).to_string()
}

/// Fills in the `default` of every top-level property of the configuration schema that is not set.
fn with_defaults(build: &Build, mut config: Value) -> Value {
    let schema = build.manifest.config_schema.as_ref();
    let properties = schema.and_then(|schema| schema.get("properties")).and_then(Value::as_object);
    if let (Some(set), Some(properties)) = (config.as_object_mut(), properties) {
        for (key, property) in properties {
            if let Some(default) = property.get("default") {
                set.entry(key).or_insert_with(|| default.clone());
            }
        }
    }
    config
}
