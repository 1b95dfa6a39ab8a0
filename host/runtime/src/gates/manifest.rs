//! Gates 3, 4 and 5: the manifest's ABI, its own rules, and the schemas in it.

use std::collections::HashSet;

use domain::verb::{CancelBehaviour, VerbName, VerbTraits};
use plan::manifest::{Kind, MAX_MANIFEST_BYTES, Manifest, RULE_ABI, VerbManifest};
use plan::rule::{MAX_TURNS, RuleManifest, is_metric};
use ports::plugins::VerbContract;
use serde::Deserialize;
use serde_json::Value;

use super::No;
use crate::abi;
use crate::build::VerbBuild;
use crate::refusal::Code;
use crate::schema::Schema;

/// Longest default timeout.
const MAX_TIMEOUT_MS: u64 = 24 * 60 * 60 * 1000;
/// Most verbs of one plugin.
const MAX_VERBS: usize = 256;
/// Most examples of one verb.
const MAX_EXAMPLES: usize = 64;
/// Most metrics of one rule.
const MAX_READS: usize = 64;
/// Longest course of events, in seconds: a month.
const MAX_COURSE_S: u64 = 31 * 24 * 60 * 60;
/// Most characters of a line for people.
const MAX_SUMMARY: usize = 512;

/// A manifest that holds, with its schemas compiled.
pub(super) struct Read {
    pub(super) manifest: Manifest,
    pub(super) verbs: Vec<VerbBuild>,
    pub(super) config_schema: Option<Schema>,
}

/// Only what is the same in every version of the ABI.
#[derive(Deserialize)]
struct Head {
    abi: String,
}

/// Reads and judges a manifest's JSON text.
pub(super) fn read(text: &[u8]) -> Result<Read, No> {
    if text.len() > MAX_MANIFEST_BYTES {
        let cause = format!("manifest of {} bytes; at most {MAX_MANIFEST_BYTES}", text.len());
        return Err((Code::ManifestMalformed, cause));
    }
    let malformed = |error: serde_json::Error| (Code::ManifestMalformed, format!("manifest: {error}"));
    let head: Head = serde_json::from_slice(text).map_err(malformed)?;
    if !abi::SUPPORTED.contains(&head.abi.as_str()) {
        let cause =
            format!("built for ABI `{}`; this host speaks {}", head.abi.escape_debug(), abi::SUPPORTED.join(", "));
        return Err((Code::AbiUnsupported, cause));
    }
    let manifest: Manifest = serde_json::from_slice(text).map_err(malformed)?;
    judge(&manifest)?;
    match &manifest.rule {
        Some(rule) => self::rule(&manifest, rule)?,
        None => verbs_of(&manifest)?,
    }
    let verbs = manifest.verbs.iter().map(verb).collect::<Result<Vec<VerbBuild>, No>>()?;
    let config_schema = match &manifest.config_schema {
        Some(schema) => Some(compile(schema, "config_schema")?),
        None => None,
    };
    Ok(Read { manifest, verbs, config_schema })
}

/// Gate 4 for the plugin as a whole.
fn judge(manifest: &Manifest) -> Result<(), No> {
    if !is_plugin_name(&manifest.name) {
        return Err((Code::PluginName, format!("plugin name `{}`", manifest.name.escape_debug())));
    }
    if !is_semver(&manifest.version) {
        return Err((Code::PluginVersion, format!("version `{}`", manifest.version.escape_debug())));
    }
    summary(&manifest.summary, "the plugin")?;
    if (manifest.kind() == Kind::Rule) != (manifest.abi == RULE_ABI) {
        let cause = format!("a {} is not of ABI {}", manifest.kind().as_str(), manifest.abi.escape_debug());
        return Err((Code::ManifestMalformed, cause));
    }
    Ok(())
}

/// Gate 4 for a rule.
fn rule(manifest: &Manifest, rule: &RuleManifest) -> Result<(), No> {
    let no = |cause: String| Err((Code::RuleFacts, cause));
    if !manifest.verbs.is_empty() || !manifest.grants.effects.is_empty() || !manifest.grants.programs.is_empty() {
        return no("a rule has no verbs and asks for no grants".into());
    }
    if let Some(metric) = rule.reads.iter().find(|metric| !is_metric(metric)) {
        return no(format!("reads `{}`, which is no metric's name", metric.escape_debug()));
    }
    if rule.reads.len() > MAX_READS {
        return no(format!("reads {} metrics; at most {MAX_READS}", rule.reads.len()));
    }
    if rule.state_version == 0 {
        return no("state_version is 0; it begins with 1".into());
    }
    if rule.examples.is_empty() || rule.examples.len() > MAX_EXAMPLES {
        return Err((Code::NoExample, format!("the rule: {} examples; 1 to {MAX_EXAMPLES}", rule.examples.len())));
    }
    for (index, course) in rule.examples.iter().enumerate() {
        let in_order = course.turns.is_sorted_by_key(|turn| turn.at_s);
        let within = course.turns.iter().all(|turn| turn.at_s.max(turn.heard_s.unwrap_or(0)) <= MAX_COURSE_S);
        if course.turns.is_empty() || course.turns.len() > MAX_TURNS || !in_order || !within {
            return no(format!(
                "example {}: a course has 1 to {MAX_TURNS} turns in order of time, all within {MAX_COURSE_S} s",
                index + 1
            ));
        }
    }
    Ok(())
}

/// Gate 4 for a plugin of verbs, as a whole.
fn verbs_of(manifest: &Manifest) -> Result<(), No> {
    if manifest.verbs.is_empty() || manifest.verbs.len() > MAX_VERBS {
        return Err((Code::NoVerb, format!("{} verbs", manifest.verbs.len())));
    }
    let mut seen = HashSet::new();
    match manifest.verbs.iter().find(|verb| !seen.insert(verb.name.as_str())) {
        Some(twice) => Err((Code::VerbTwice, format!("verb `{}` is declared twice", twice.name))),
        None => Ok(()),
    }
}

/// Gates 4 and 5 for one verb.
fn verb(verb: &VerbManifest) -> Result<VerbBuild, No> {
    let shown = verb.name.escape_debug();
    let name = VerbName::parse(&verb.name).ok_or_else(|| (Code::VerbName, format!("verb name `{shown}`")))?;
    summary(&verb.summary, &format!("verb `{name}`"))?;
    let cancel = cancel(&verb.cancel)
        .ok_or_else(|| (Code::CancelUnknown, format!("verb `{name}`: cancel `{}`", verb.cancel.escape_debug())))?;
    if !(1..=MAX_TIMEOUT_MS).contains(&verb.default_timeout_ms) {
        return Err((Code::TimeoutRange, format!("verb `{name}`: default timeout {} ms", verb.default_timeout_ms)));
    }
    if let Some(needs) = verb.needs.as_deref().filter(|needs| !is_plugin_name(needs)) {
        return Err((Code::CapabilityName, format!("verb `{name}`: needs `{}`", needs.escape_debug())));
    }
    if verb.examples.is_empty() || verb.examples.len() > MAX_EXAMPLES {
        return Err((Code::NoExample, format!("verb `{name}`: {} examples; 1 to {MAX_EXAMPLES}", verb.examples.len())));
    }
    if verb.args_schema.get("type").and_then(Value::as_str) != Some("object") {
        return Err((Code::SchemaNotObject, format!("verb `{name}`: args_schema")));
    }
    let args = compile(&verb.args_schema, &format!("verb `{name}`: args_schema"))?;
    let result = compile(&verb.result_schema, &format!("verb `{name}`: result_schema"))?;
    let contract = VerbContract {
        args_schema: verb.args_schema.clone(),
        result_schema: verb.result_schema.clone(),
        examples: verb.examples.iter().map(|example| example.args.clone()).collect(),
    };
    let traits = VerbTraits {
        name,
        summary: verb.summary.clone(),
        effect: verb.effect,
        idempotent: verb.idempotent,
        cancel,
        default_timeout_ms: verb.default_timeout_ms,
        needs: verb.needs.clone(),
    };
    Ok(VerbBuild { traits, contract, args, result, examples: verb.examples.clone() })
}

fn compile(schema: &Value, of: &str) -> Result<Schema, No> {
    Schema::compile(schema).map_err(|fault| (fault.code, format!("{of}: {}", fault.message)))
}

fn cancel(text: &str) -> Option<CancelBehaviour> {
    [CancelBehaviour::Clean, CancelBehaviour::LeavesEffects, CancelBehaviour::None]
        .into_iter()
        .find(|c| c.as_str() == text)
}

fn summary(text: &str, of: &str) -> Result<(), No> {
    let good = !text.trim().is_empty() && text.chars().count() <= MAX_SUMMARY && !text.chars().any(char::is_control);
    if good { Ok(()) } else { Err((Code::Summary, format!("summary of {of}"))) }
}

/// `[a-z][a-z0-9_-]{0,62}`.
pub(crate) fn is_plugin_name(text: &str) -> bool {
    text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'))
}

/// Semantic Versioning 2.0.0, at most 64 bytes.
fn is_semver(text: &str) -> bool {
    let number = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) && (part == "0" || !part.starts_with('0'))
    };
    let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let release_word = |part: &str| word(part) && (number(part) || !part.bytes().all(|b| b.is_ascii_digit()));
    let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
    let (core, release) = rest.split_once('-').map_or((rest, None), |(core, release)| (core, Some(release)));
    text.len() <= 64
        && core.split('.').count() == 3
        && core.split('.').all(number)
        && release.is_none_or(|release| release.split('.').all(release_word))
        && build.is_none_or(|build| build.split('.').all(word))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn manifest() -> Value {
        json!({
            "abi": "1.0", "name": "demo", "version": "1.0.0", "summary": "A demonstration.",
            "grants": { "effects": ["read"], "programs": [] },
            "verbs": [{
                "name": "demo.run", "summary": "Runs.", "effect": "read", "default_timeout_ms": 1000,
                "args_schema": { "type": "object" }, "result_schema": {}, "examples": [{ "args": {} }]
            }]
        })
    }

    fn code(change: impl FnOnce(&mut Value)) -> Option<Code> {
        let mut manifest = manifest();
        change(&mut manifest);
        read(manifest.to_string().as_bytes()).err().map(|(code, _)| code)
    }

    #[test]
    fn every_rule_of_the_manifest_has_its_code() {
        let check = |change: fn(&mut Value), expected| assert_eq!(code(change), expected);
        check(|_| (), None);
        check(|m| m["abi"] = json!("2.0"), Some(Code::AbiUnsupported));
        check(|m| m["surprise"] = json!(1), Some(Code::ManifestMalformed));
        check(|m| m["name"] = json!("Demo"), Some(Code::PluginName));
        check(|m| m["name"] = json!("../demo"), Some(Code::PluginName));
        check(|m| m["version"] = json!("1.0"), Some(Code::PluginVersion));
        check(|m| m["summary"] = json!("two\nlines"), Some(Code::Summary));
        check(|m| m["verbs"] = json!([]), Some(Code::NoVerb));
        check(|m| m["verbs"] = json!([m["verbs"][0], m["verbs"][0]]), Some(Code::VerbTwice));
        check(|m| m["verbs"][0]["name"] = json!("run"), Some(Code::VerbName));
        check(|m| m["verbs"][0]["effect"] = json!("write"), Some(Code::ManifestMalformed));
        check(|m| m["verbs"][0]["cancel"] = json!("maybe"), Some(Code::CancelUnknown));
        check(|m| m["verbs"][0]["default_timeout_ms"] = json!(0), Some(Code::TimeoutRange));
        check(|m| m["verbs"][0]["default_timeout_ms"] = json!(86_400_000), None);
        check(|m| m["verbs"][0]["default_timeout_ms"] = json!(86_400_001), Some(Code::TimeoutRange));
        check(|m| m["verbs"][0]["needs"] = json!("a docker"), Some(Code::CapabilityName));
        check(|m| m["verbs"][0]["examples"] = json!([]), Some(Code::NoExample));
        check(|m| m["verbs"][0]["args_schema"] = json!({}), Some(Code::SchemaNotObject));
        check(
            |m| m["verbs"][0]["result_schema"] = json!({ "$ref": "https://a.example/" }),
            Some(Code::SchemaRemoteRef),
        );
        check(|m| m["config_schema"] = json!({ "type": 1 }), Some(Code::SchemaInvalid));
    }

    #[test]
    fn every_rule_for_rules_has_its_code() {
        let rule = json!({
            "abi": "1.1", "name": "load", "version": "1.0.0", "summary": "A demonstration.",
            "rule": { "reads": ["load.1"], "examples": [{ "turns": [{ "at_s": 0 }] }] }
        });
        let check = |change: fn(&mut Value), expected| {
            let mut manifest = rule.clone();
            change(&mut manifest);
            assert_eq!(read(manifest.to_string().as_bytes()).err().map(|(code, _)| code), expected, "{manifest}");
        };
        check(|_| (), None);
        check(|m| m["abi"] = json!("1.0"), Some(Code::ManifestMalformed));
        check(|m| m["abi"] = json!("1.2"), Some(Code::AbiUnsupported));
        check(|m| m["rule"]["surprise"] = json!(1), Some(Code::ManifestMalformed));
        check(|m| m["grants"] = json!({ "effects": ["host"] }), Some(Code::RuleFacts));
        check(|m| m["rule"]["reads"] = json!(["Load"]), Some(Code::RuleFacts));
        check(|m| m["rule"]["reads"] = json!(vec!["a.b"; 65]), Some(Code::RuleFacts));
        check(|m| m["rule"]["state_version"] = json!(0), Some(Code::RuleFacts));
        check(|m| m["rule"]["examples"] = json!([]), Some(Code::NoExample));
        check(|m| m["rule"]["examples"] = json!([{ "turns": [] }]), Some(Code::RuleFacts));
        check(|m| m["rule"]["examples"] = json!([{ "turns": [{ "at_s": 5 }, { "at_s": 4 }] }]), Some(Code::RuleFacts));
        check(|m| m["rule"]["examples"] = json!([{ "turns": [{ "at_s": u64::MAX }] }]), Some(Code::RuleFacts));
        check(|m| m["config_schema"] = json!({ "type": 1 }), Some(Code::SchemaInvalid));
    }

    #[test]
    fn versions_are_semantic() {
        for good in ["0.0.0", "1.2.3", "1.0.0-rc.1", "1.0.0+build.5", "1.0.0-alpha-1+x"] {
            assert!(is_semver(good), "{good}");
        }
        for bad in ["", "1", "1.2", "1.2.3.4", "01.2.3", "1.2.3-", "1.2.3-01", "1.2.3+", "v1.2.3", "1.2.x"] {
            assert!(!is_semver(bad), "{bad}");
        }
    }
}
