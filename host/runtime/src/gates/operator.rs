//! Gate 9, first half: what the operator says about a plugin in `<plugin name>.toml` beside the wasm.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use domain::verb::VerbName;
use plan::policy::Rules;
use ports::plugins::Violation;
use ports::rules::Override;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::No;
use crate::abi::Tighter;
use crate::build::Build;
use crate::refusal::Code;
use crate::tier::Tier;

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
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    tier: Tier,
    #[serde(default)]
    pin: Option<String>,
    #[serde(default)]
    aliases: BTreeMap<String, String>,
    #[serde(default)]
    overrides: Vec<Overrides>,
}

/// A rule's configuration for some agents.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Overrides {
    #[serde(default)]
    sites: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    config: toml::Table,
}

/// Limits below those that every plugin has.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Limits {
    plan_ms: Option<u64>,
    interpret_ms: Option<u64>,
    evaluate_ms: Option<u64>,
    memory_mib: Option<usize>,
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
    /// What it may plan; absent where the file does not say.
    pub(crate) grant: Option<Arc<Rules>>,
    pub(crate) tighter: Tighter,
    /// The dearest kind of guest it may be.
    pub(crate) tier: Tier,
    /// The only version, or digest, that may serve.
    pub(crate) pin: Option<String>,
    /// Other names of its verbs.
    pub(crate) aliases: BTreeMap<String, String>,
    /// A rule's configurations for some agents.
    pub(crate) overrides: Vec<Override>,
}

impl Operator {
    /// Whether a pin leaves `build` out.
    pub(crate) fn excludes(&self, build: &Build) -> bool {
        let names =
            |pin: &str| pin == build.identity.version || (pin.len() >= 12 && build.identity.digest.starts_with(pin));
        self.pin.as_deref().is_some_and(|pin| !names(pin))
    }
}

/// Reads `text`, the operator's file for `build` if there is one.
pub(crate) fn read(build: &Build, text: Option<&str>) -> Result<Operator, No> {
    let name = &build.identity.name;
    let file = match text {
        Some(text) => parse(name, text)?,
        None => parse(name, "")?,
    };
    let at = |key: &str| place(name, text.unwrap_or_default(), key);
    let invalid = |key: &str, what: String| (Code::ConfigInvalid, format!("{}: {what}", at(key)));
    let config = serde_json::to_value(&file.config)
        .map_err(|error| (Code::ConfigMalformed, format!("{}: config: {error}", at("config"))))?;
    let config = with_defaults(build, config);
    let told = |violations: Vec<Violation>| {
        let told = violations.iter().map(|violation| {
            let key = violation.pointer.rsplit('/').next().unwrap_or_default();
            format!("{}: `{}`: {}", at(key), violation.pointer, violation.message)
        });
        (Code::ConfigInvalid, told.collect::<Vec<_>>().join("; "))
    };
    match &build.config_schema {
        // A disabled plugin is not asked, so that it can be switched off whatever its configuration.
        Some(schema) if file.enabled => schema.check(&config).map_err(told)?,
        None if !file.config.is_empty() => {
            return Err(invalid("config", format!("plugin `{name}` takes no configuration")));
        }
        Some(_) | None => {}
    }
    if !file.overrides.is_empty() && build.manifest.rule.is_none() {
        return Err(invalid(
            "overrides",
            format!("only a rule can be configured agent by agent, and `{name}` is none"),
        ));
    }
    let mut overrides = Vec::with_capacity(file.overrides.len());
    for Overrides { sites, labels, config: said } in file.overrides {
        let said = serde_json::to_value(&said)
            .map_err(|error| (Code::ConfigMalformed, format!("{}: overrides: {error}", at("overrides"))))?;
        let whole = laid_over(&config, said);
        if let Some(schema) = build.config_schema.as_ref().filter(|_| file.enabled) {
            schema.check(&whole).map_err(told)?;
        }
        overrides.push(Override { sites, labels, config: whole });
    }
    let known = |verb: &String| build.verbs.iter().any(|known| known.traits.name.as_str() == verb);
    for (alias, verb) in &file.aliases {
        if VerbName::parse(alias).is_none() {
            return Err(invalid(
                alias,
                format!("alias `{alias}` is no verb's name: two or more dotted lower-case words"),
            ));
        }
        if !known(verb) || known(alias) {
            return Err(invalid(
                alias,
                format!("alias `{alias}` must stand for a verb of plugin `{name}`, and be none"),
            ));
        }
    }
    let Limits { plan_ms, interpret_ms, evaluate_ms, memory_mib } = file.limits;
    if [plan_ms, interpret_ms, evaluate_ms, memory_mib.map(|mib| mib as u64)].contains(&Some(0)) {
        return Err(invalid("limits", "a limit is at least 1".to_owned()));
    }
    let tighter = Tighter {
        plan: plan_ms.map(Duration::from_millis),
        interpret: interpret_ms.map(Duration::from_millis),
        evaluate: evaluate_ms.map(Duration::from_millis),
        memory: memory_mib.map(|mib| mib.saturating_mul(1024 * 1024)),
    };
    Ok(Operator {
        enabled: file.enabled,
        config: config.to_string(),
        grant: file.grants.map(Arc::new),
        tighter,
        tier: file.tier,
        pin: file.pin,
        aliases: file.aliases,
        overrides,
    })
}

/// `base` with every key of `said` in place of its own.
fn laid_over(base: &Value, said: Value) -> Value {
    let mut whole = base.clone();
    if let (Some(whole), Value::Object(said)) = (whole.as_object_mut(), said) {
        whole.extend(said);
    }
    whole
}

/// What a file says a plugin may plan, whatever else it says.
pub(crate) fn grant_of(text: &str) -> Option<Arc<Rules>> {
    toml::from_str::<OperatorFile>(text).ok()?.grants.map(Arc::new)
}

/// Reads the form alone; a fault is named with its line and key.
fn parse(name: &str, text: &str) -> Result<OperatorFile, No> {
    toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count();
        let words = text.lines().nth(line).unwrap_or_default();
        let key = words.split_once('=').map_or(words, |(key, _)| key).trim();
        let key = if key.is_empty() { String::new() } else { format!("`{key}`: ") };
        (Code::ConfigMalformed, format!("`{name}.toml:{}`: {key}{}", line + 1, error.message()))
    })
}

/// The file and the line on which `key` is set, as far as it can be found.
fn place(name: &str, text: &str, key: &str) -> String {
    let sets = |line: &str| {
        let line = line.trim_start().trim_start_matches(['[', '"']);
        let rest = line.strip_prefix(key).map(|rest| rest.trim_start_matches('"').trim_start());
        rest.is_some_and(|rest| rest.starts_with(['=', ']', '.']))
    };
    match text.lines().position(sets).filter(|_| !key.is_empty()) {
        Some(line) => format!("`{name}.toml:{}`", line + 1),
        None => format!("`{name}.toml`"),
    }
}

/// The configuration a plugin gets when its operator says nothing.
pub(crate) fn default_config(build: &Build) -> String {
    with_defaults(build, Value::Object(Map::new())).to_string()
}

/// Fills in the `default` of every top-level property of the configuration schema that is not set.
pub(crate) fn with_defaults(build: &Build, mut config: Value) -> Value {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_the_form_is_named_with_line_and_key() {
        let wrong = |text: &str| parse("demo", text).err().map(|(_, cause)| cause).unwrap_or_default();
        for (text, beginning) in [
            ("\nenabled = 7\n", "`demo.toml:2`: `enabled`: invalid type"),
            ("pin = \"1.0.0\"\ngrant = 1\n", "`demo.toml:2`: `grant`: unknown field `grant`"),
            ("[limits]\nplan_ms = -1\n", "`demo.toml:2`: `plan_ms`: "),
            ("enabled = maybe\n", "`demo.toml:1`: `enabled`: "),
        ] {
            assert!(wrong(text).starts_with(beginning), "{text}: {}", wrong(text));
        }
        assert_eq!(
            laid_over(&serde_json::json!({ "warning": 80, "for_s": 300 }), serde_json::json!({ "warning": 90 })),
            serde_json::json!({ "warning": 90, "for_s": 300 })
        );
        assert!(parse("demo", "").is_ok_and(|file| file.enabled && file.grants.is_none()));
        let text = "[config]\ncolour = 1\n\"a b\" = 2\n";
        let places = ["colour", "a b", "config", "nothing"].map(|key| place("demo", text, key));
        assert_eq!(places, ["`demo.toml:2`", "`demo.toml:3`", "`demo.toml:1`", "`demo.toml`"]);
    }
}
