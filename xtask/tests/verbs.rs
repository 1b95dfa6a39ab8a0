//! `schemas/json/verbs` and `…/rules`: what every verb of `plugins/*` takes and answers, and how every rule is
//! configured, for people who build against this house. Made natively, from the crates themselves; `cargo xtask schemas`
//! writes it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::{Value, json};
use viworks_sdk::Plugin;

/// Set to have the files written instead of checked.
const WRITE: &str = "VIWORKS_WRITE_SCHEMAS";

/// All of them; the first test sees to that.
const PLUGINS: [&Plugin; 8] = [
    &agent_offline::PLUGIN,
    &compose::PLUGIN,
    &container_health::PLUGIN,
    &cpu::PLUGIN,
    &disk::PLUGIN,
    &docker::PLUGIN,
    &exec::PLUGIN,
    &memory::PLUGIN,
];

fn room(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("the root").join(path)
}

fn names(folder: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(room(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn every_folder_of_plugins_is_looked_at() {
    let known: BTreeSet<String> = PLUGINS.iter().map(|plugin| plugin.name.to_owned()).collect();
    assert_eq!(known, names("plugins"), "name the plugin in PLUGINS, and its crate among the dev-dependencies");
}

/// By folder and file name, the text that belongs there.
fn documents() -> BTreeMap<(&'static str, String), String> {
    let mut documents = BTreeMap::new();
    let mut put = |folder, name: &str, document: &Value| {
        let text = serde_json::to_string_pretty(document).expect("JSON has text keys only") + "\n";
        assert!(documents.insert((folder, format!("{name}.json")), text).is_none(), "{name} twice");
    };
    for plugin in PLUGINS {
        let manifest = plugin.manifest();
        for verb in manifest.verbs {
            let document = json!({
                "verb": verb.name, "plugin": plugin.name, "summary": verb.summary, "effect": verb.effect,
                "idempotent": verb.idempotent, "cancel": verb.cancel, "default_timeout_ms": verb.default_timeout_ms,
                "needs": verb.needs, "args_schema": verb.args_schema, "result_schema": verb.result_schema,
                "examples": verb.examples.iter().map(|example| &example.args).collect::<Vec<_>>(),
            });
            put("verbs", &verb.name, &document);
        }
        if let Some(rule) = manifest.rule {
            let document = json!({
                "rule": plugin.name, "summary": plugin.summary, "reads": rule.reads,
                "config_schema": manifest.config_schema, "examples": rule.examples,
            });
            put("rules", plugin.name, &document);
        }
    }
    documents
}

#[test]
fn the_schemas_of_all_verbs_and_rules_are_what_their_plugins_say() {
    let documents = documents();
    for kind in ["verbs", "rules"] {
        let folder = format!("schemas/json/{kind}");
        let wanted = documents.iter().filter(|((of, _), _)| *of == kind).map(|((_, name), text)| (name, text));
        let wanted: BTreeMap<&String, &String> = wanted.collect();
        if std::env::var_os(WRITE).is_some() {
            std::fs::create_dir_all(room(&folder)).expect("a folder");
            for stale in names(&folder).iter().filter(|name| !wanted.contains_key(*name)) {
                std::fs::remove_file(room(&folder).join(stale)).expect("removed");
            }
            wanted.iter().for_each(|(name, text)| std::fs::write(room(&folder).join(name), text).expect("written"));
            continue;
        }
        let told = "is out of date: run `cargo xtask schemas`";
        for (name, wanted) in &wanted {
            let text = std::fs::read_to_string(room(&folder).join(name)).unwrap_or_default();
            assert!(text == **wanted, "{folder}/{name} {told}");
        }
        assert_eq!(names(&folder), wanted.into_keys().cloned().collect(), "{folder} {told}");
    }
}
