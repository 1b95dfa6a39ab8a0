//! Every code has a page in `docs/plugins`, and what the page shows is refused with that code.

use std::collections::BTreeSet;
use std::path::PathBuf;

use runtime::Code;
use runtime::tool::{self, ToolError};
use serde_json::{Map, Value, json};

use crate::guest::{Guest, TRAP, section};
use crate::rule_guest::RuleGuest;

/// Codes that no bytes alone bring about; where each is brought about instead.
const ELSEWHERE: [(&str, &str); 16] = [
    ("file_unreadable", "a file that the host's user may not read; tests may run as root, who may"),
    ("plugin_denied", "`signed.rs`"),
    ("trust_unreadable", "`signature.rs`"),
    ("signature_missing", "`signed.rs`"),
    ("signature_malformed", "`signature.rs`"),
    ("signature_untrusted", "`signed.rs`"),
    ("signature_invalid", "`signed.rs`"),
    ("signature_date", "`signature.rs`"),
    ("compile_failed", "`reload.rs`, by a worker that complains"),
    ("compile_limit", "`reload.rs`, by a worker that dies"),
    ("compile_unavailable", "`reload.rs`, by a worker that is not there"),
    ("grants_widened", "`life.rs`, by an update"),
    ("breaks_queued", "`life.rs`, by an update"),
    ("quarantined", "`life.rs`, by a version that fails"),
    ("rolled_back", "`life.rs`, by an order"),
    ("example_unstable", "nothing: a fresh guest without clock or chance repeats itself"),
];

fn pages() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/plugins"))
}

fn page(code: Code) -> String {
    let file = pages().join(format!("{}.md", code.as_str()));
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{} has no page: {error}", code.as_str()))
}

#[test]
fn every_code_has_a_page_with_its_gate_an_example_and_its_cure_and_no_page_is_left_over() {
    for code in Code::ALL {
        let (name, text) = (code.as_str(), page(*code));
        let mut cure = code.cure().to_owned();
        cure[..1].make_ascii_uppercase();
        let gate = format!("# {name}\n\nGate {}. ", code.gate());
        assert!(text.starts_with(&gate), "docs/plugins/{name}.md does not begin with `{gate}`");
        let parts: Vec<&str> = text.split("\n## ").collect();
        let [_, example, mend] = parts.as_slice() else { panic!("{name}: three parts: {parts:?}") };
        assert!(example.starts_with("An example\n\n") && example.len() > 30, "{name}: {example}");
        assert!(
            mend.starts_with(&format!("How to mend it\n\n{cure}.\n")),
            "{name}: the page says `{mend}`, the gate `{cure}`"
        );
    }
    let table = std::fs::read_to_string(pages().with_extension("md")).expect("docs/plugins.md");
    let rows = Code::ALL.iter().map(|code| {
        let (gate, name, cure) = (code.gate(), code.as_str(), code.cure());
        format!("| {gate} | [`{name}`](plugins/{name}.md) | {cure} |\n")
    });
    let rows: String = rows.collect();
    assert!(table.contains(&format!("| gate | code | cure |\n|---|---|---|\n{rows}\n")), "docs/plugins.md:\n{rows}");
    let files = std::fs::read_dir(pages()).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let files: BTreeSet<String> = files.map(|name| name.to_string_lossy().into_owned()).collect();
    let wanted: BTreeSet<String> = Code::ALL.iter().map(|code| format!("{}.md", code.as_str())).collect();
    assert_eq!(files, wanted);
}

#[test]
fn what_a_page_shows_is_refused_with_its_code() {
    for code in Code::ALL {
        let name = code.as_str();
        let elsewhere = ELSEWHERE.iter().any(|(known, _)| *known == name);
        let refused = refusal(*code);
        assert_eq!(refused.is_none(), elsewhere, "{name}: brought about here or named in ELSEWHERE, and not both");
        assert!(refused.is_none_or(|found| found == name), "{name}: something else was refused");
    }
}

/// The code that what stands on the page is refused with; `None` when nothing stands there that could be tried.
fn refusal(code: Code) -> Option<String> {
    if ELSEWHERE.iter().any(|(known, _)| *known == code.as_str()) {
        return None;
    }
    let text = page(code);
    let mut guest = Guest::new("demo", "1.0.0");
    if let Some(changes) = text.contains("In the manifest (pointer and value)").then(|| block(&text, "json")) {
        for (pointer, value) in changes.parse::<Value>().expect("JSON").as_object().expect("pointers") {
            set(&mut guest.manifest, pointer, value.clone());
        }
        return Some(checked(&guest.build(), "demo.wasm"));
    }
    if text.contains("```toml") {
        guest.manifest["config_schema"] =
            json!({ "type": "object", "properties": { "colour": { "enum": ["red", "blue"] } } });
        return Some(placed(&guest, &[("demo.toml", block(&text, "toml").as_bytes())]));
    }
    if text.contains("```wat") {
        let component = wat::parse_str(block(&text, "wat")).expect("a component");
        let stamp = section("viworks:manifest", guest.manifest.to_string().as_bytes());
        return Some(checked(&[component, stamp].concat(), "demo.wasm"));
    }
    by_hand(code, guest)
}

/// What pages describe in words or in another language.
fn by_hand(code: Code, mut guest: Guest) -> Option<String> {
    let property =
        |guest: &mut Guest, value: Value| set(&mut guest.manifest, "/verbs/0/args_schema/properties/mode", value);
    let bytes = match code {
        Code::FileName => return Some(checked(&guest.build(), "my disk.wasm")),
        Code::FileTooBig => vec![0; 4 * 1024 * 1024 + 1],
        Code::NotWasm => b"\x7fELF\x02\x01\x01".to_vec(),
        Code::Truncated => guest.build()[..500].to_vec(),
        Code::CoreModule => wat::parse_str("(module)").expect("a module"),
        Code::Malformed => {
            wat::parse_str("(component (core module (memory 1 1 shared)))").map(exporting).expect("text")
        }
        Code::ForbiddenImport => Guest { import: Some("environment"), ..guest }.build(),
        Code::CompatTier => Guest { wasi: true, ..guest }.build(),
        Code::NoManifest => Guest { stamped: false, ..guest }.build(),
        Code::VerbTwice => {
            let verb = guest.manifest["verbs"][0].clone();
            guest.manifest["verbs"].as_array_mut().expect("a list").push(verb);
            guest.build()
        }
        Code::SchemaSize => {
            property(&mut guest, json!({ "enum": ["x".repeat(256 * 1024)] }));
            guest.build()
        }
        Code::SchemaDepth => {
            let deep = (0..32).fold(json!({}), |deep, _| json!({ "not": deep }));
            property(&mut guest, deep);
            guest.build()
        }
        Code::DescribeFailed => Guest { describe: TRAP.into(), ..guest }.build(),
        Code::DescribeDiffers => {
            let mut stamp = guest.manifest.clone();
            stamp["summary"] = json!("Another plugin altogether.");
            Guest { stamp: Some(stamp.to_string().into_bytes()), ..guest }.build()
        }
        Code::ExamplePlan => {
            guest.manifest["verbs"][0]["examples"] = json!([{ "args": { "mode": 1 } }]);
            Guest { plan: TRAP.into(), ..guest }.build()
        }
        Code::ExampleFindings => RuleGuest { finds: Some(""), ..RuleGuest::new("demo") }.build(),
        Code::PluginConflict => return Some(placed(&guest, &[("demo-2.wasm", &guest.build())])),
        Code::VerbConflict => {
            let mut other = Guest::new("other", "1.0.0");
            other.manifest["verbs"][0]["name"] = json!("demo.run");
            return Some(placed(&guest, &[("other.wasm", &other.build())]));
        }
        _ => return None,
    };
    Some(checked(&bytes, "demo.wasm"))
}

/// Makes a component seem to be a plugin as far as its exports tell.
fn exporting(component: Vec<u8>) -> Vec<u8> {
    let plugin = wat::parse_str(
        "(component (component $c) (instance $i (instantiate $c)) (export \"viworks:plugin/verbs@1.0.0\" (instance $i)))",
    );
    // The second one's sections follow the first one's; only the header stands once.
    [component, plugin.expect("a component")[8..].to_vec()].concat()
}

/// The first block of this language.
fn block<'a>(text: &'a str, language: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("```{language}\n")).expect("the block begins");
    rest.split_once("```").expect("the block ends").0
}

fn checked(bytes: &[u8], file: &str) -> String {
    match tool::check(bytes, file) {
        Err(ToolError::Refused(refusal)) => refusal.code,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// What a folder with these files says to the guest.
fn placed(guest: &Guest, files: &[(&str, &[u8])]) -> String {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, bytes) in files {
        std::fs::write(dir.path().join(name), bytes).expect("written");
    }
    match tool::place(&guest.build(), "demo.wasm", dir.path()) {
        Err(ToolError::Refused(refusal)) => refusal.code,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// Puts `value` where `pointer` leads, which need not be there yet.
fn set(document: &mut Value, pointer: &str, value: Value) {
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    let parent = document.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer} leads nowhere"));
    match parent {
        Value::Object(members) => _ = members.insert(name.to_owned(), value),
        Value::Array(items) => items[name.parse::<usize>().expect("an index")] = value,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            *parent = Value::Object(Map::from_iter([(name.to_owned(), value)]));
        }
    }
}

#[test]
fn a_plugin_finds_its_place_in_a_folder() {
    let dir = tempfile::tempdir().expect("a folder");
    let place = |guest: &Guest| tool::place(&guest.build(), "anything.wasm", dir.path()).expect("all nine gates");
    let first = place(&Guest::new("demo", "1.0.0"));
    assert_eq!(
        (first.file_name.as_str(), &first.replaces, first.granted, first.enabled),
        ("demo.wasm", &None, false, true)
    );
    std::fs::write(dir.path().join("demo.wasm"), Guest::new("demo", "1.0.0").build()).expect("written");
    // Files that are no plugin defend no name, whatever they are called.
    std::fs::write(dir.path().join("broken.wasm"), b"garbage").expect("written");
    std::fs::write(dir.path().join("demo.toml"), "enabled = false\n[grants]\neffects = [\"read\"]\n").expect("written");
    let second = place(&Guest::new("demo", "1.1.0"));
    let replaced = second.replaces.expect("the first");
    assert_eq!((replaced.version.as_deref(), replaced.digest), (Some("1.0.0"), Some(first.digest)));
    assert_eq!((second.granted, second.enabled), (true, false));
    let nowhere = tool::place(&Guest::new("demo", "1.0.0").build(), "demo.wasm", &dir.path().join("nowhere"));
    assert!(matches!(nowhere, Err(ToolError::Folder { .. })), "{nowhere:?}");
}
