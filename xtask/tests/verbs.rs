//! `schemas/json/verbs`: what every verb of `plugins/*` takes and answers, for people who build against
//! this house. Made natively, from the crates themselves; `cargo xtask schemas` writes it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::json;
use viworks_sdk::Plugin;

/// Set to have the files written instead of checked.
const WRITE: &str = "VIWORKS_WRITE_SCHEMAS";

/// All of them; the first test sees to that.
const PLUGINS: [&Plugin; 3] = [&compose::PLUGIN, &docker::PLUGIN, &exec::PLUGIN];

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

/// By file name, the text that belongs there.
fn documents() -> BTreeMap<String, String> {
    let mut documents = BTreeMap::new();
    for plugin in PLUGINS {
        for verb in plugin.manifest().verbs {
            let document = json!({
                "verb": verb.name, "plugin": plugin.name, "summary": verb.summary, "effect": verb.effect,
                "idempotent": verb.idempotent, "cancel": verb.cancel, "default_timeout_ms": verb.default_timeout_ms,
                "needs": verb.needs, "args_schema": verb.args_schema, "result_schema": verb.result_schema,
                "examples": verb.examples.iter().map(|example| &example.args).collect::<Vec<_>>(),
            });
            let text = serde_json::to_string_pretty(&document).expect("JSON has text keys only") + "\n";
            assert!(documents.insert(format!("{}.json", verb.name), text).is_none(), "{} twice", verb.name);
        }
    }
    documents
}

#[test]
fn the_schemas_of_all_verbs_are_what_their_plugins_say() {
    let (documents, folder) = (documents(), room("schemas/json/verbs"));
    if std::env::var_os(WRITE).is_some() {
        std::fs::create_dir_all(&folder).expect("a folder");
        for stale in names("schemas/json/verbs").iter().filter(|name| !documents.contains_key(*name)) {
            std::fs::remove_file(folder.join(stale)).expect("removed");
        }
        documents.iter().for_each(|(name, text)| std::fs::write(folder.join(name), text).expect("written"));
        return;
    }
    let told = "is out of date: run `cargo xtask schemas`";
    for (name, wanted) in &documents {
        let text = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(text == *wanted, "schemas/json/verbs/{name} {told}");
    }
    assert_eq!(names("schemas/json/verbs"), documents.into_keys().collect(), "schemas/json/verbs {told}");
}
