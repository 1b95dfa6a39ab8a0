//! A built file, stamped, explained and installed.

use cli::plugin::build;
use cli::plugin::component::{stamp, unstamped};
use serde_json::{Value, json};

use crate::{EXEC, answer, ended, installed, viworks};

#[test]
fn a_component_without_a_stamp_or_with_an_old_one_is_stamped_to_the_same_bytes() {
    let (folder, _) = installed();
    let file = folder.path().join("bare.wasm");
    let name = file.to_str().expect("text");
    let bare = unstamped(&EXEC.bytes).expect("sections");
    for (bytes, code) in [
        (bare.clone(), "no_manifest"),
        (stamp(&bare, &manifest(|m| m["version"] = json!("9.9.9"))), "describe_differs"),
    ] {
        build::write(&file, &bytes).expect("written");
        assert_eq!(answer(&viworks(&["check", name, "-o", "json"]), 1)["code"], code);
        let stamped = answer(&viworks(&["stamp", name, "-o", "json"]), 0);
        assert_eq!((&stamped["name"], &stamped["digest"]), (&json!("exec"), &json!(EXEC.digest)));
        assert_eq!(std::fs::read(&file).expect("a file"), EXEC.bytes);
    }
    build::write(&file, b"#!/bin/sh\n").expect("written");
    let refused = ended(&viworks(&["stamp", name]), 1);
    assert!(refused.contains("gate 2: not_wasm") && refused.contains("docs/plugins/not_wasm.md"), "{refused}");
    ended(&viworks(&["stamp", "/does/not/exist.wasm"]), 2);
}

fn manifest(change: impl FnOnce(&mut Value)) -> String {
    let mut manifest = serde_json::to_value(&EXEC.manifest).expect("JSON");
    change(&mut manifest);
    manifest.to_string()
}

#[test]
fn a_file_of_the_compat_tier_is_checked_as_for_an_operator_who_consents() {
    let (folder, _) = installed();
    let file = folder.path().join("large.wasm");
    let name = file.to_str().expect("text");
    // A section called `x` of 5 MiB: its length, a number in seven bits a byte, then its name's.
    const LARGE: usize = 5 * 1024 * 1024;
    let length = u32::try_from(LARGE + 2).expect("small");
    let mut bytes = EXEC.bytes.clone();
    bytes.push(0);
    bytes.extend(
        (0..4).map(|at| u8::try_from((length >> (7 * at)) & 0x7f).expect("seven bits") | u8::from(at < 3) << 7),
    );
    bytes.extend([1, b'x']);
    bytes.resize(bytes.len() + LARGE, 0);
    build::write(&file, &bytes).expect("written");
    let refused = answer(&viworks(&["check", name, "-o", "json"]), 1);
    assert_eq!((&refused["gate"], &refused["code"]), (&json!(2), &json!("compat_tier")));
    assert_eq!(answer(&viworks(&["check", name, "--compat", "-o", "json"]), 0)["tier"], "compat");
    let text = viworks(&["check", name, "--compat"]);
    ended(&text, 0);
    assert!(String::from_utf8_lossy(&text.stdout).ends_with("(exec.run), in the compat tier\n"), "{text:?}");
    let (_folder, small) = installed();
    assert_eq!(
        answer(&viworks(&["check", &small, "--compat", "-o", "json"]), 0)["tier"],
        "native",
        "what needs no more"
    );
}

#[test]
fn a_refusal_leads_to_its_page() {
    let page = viworks(&["explain", "forbidden_import"]);
    ended(&page, 0);
    assert!(String::from_utf8_lossy(&page.stdout).starts_with("# forbidden_import"), "{page:?}");
    let unknown = ended(&viworks(&["explain", "bad_weather"]), 2);
    assert!(unknown.contains("`bad_weather`") && unknown.contains("forbidden_import"), "{unknown}");
    let refused = viworks(&["check", "/dev/null"]);
    ended(&refused, 1);
    let text = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(text.contains("page:  docs/plugins/file_name.md, or `viworks plugin explain file_name`"), "{text}");
}

#[test]
fn installing_takes_all_nine_gates_and_says_what_it_replaces() {
    let (folder, file) = installed();
    let plugins = folder.path().join("plugins");
    std::fs::create_dir(&plugins).expect("a folder");
    let dir = plugins.to_str().expect("text").to_owned();
    let install = |file: &str| viworks(&["install", file, "--dir", &dir, "-o", "json"]);
    let listed = || {
        let names = std::fs::read_dir(&plugins).expect("a folder").map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };

    let first = install(&file);
    assert!(ended(&first, 0).contains("wait for approval"));
    let first = answer(&first, 0);
    assert_eq!((&first["ok"], &first["replaces"], &first["digest"]), (&json!(true), &Value::Null, &json!(EXEC.digest)));
    let text = viworks(&["install", &file, "--dir", &dir]);
    assert!(String::from_utf8_lossy(&text.stdout).contains("was there already"), "{text:?}");

    // Gate 9: the operator's file.
    std::fs::write(plugins.join("exec.toml"), "grant = 1\n").expect("written");
    let refused = answer(&install(&file), 1);
    assert_eq!((&refused["gate"], &refused["code"]), (&json!(9), &json!("config_malformed")));
    std::fs::write(plugins.join("exec.toml"), "[grants]\neffects = [\"host\"]\n").expect("written");
    assert!(!ended(&install(&file), 0).contains("approval"));

    // Gate 9: neighbours. The stamp of the other says the same name, so one of them has to go.
    std::fs::rename(plugins.join("exec.wasm"), plugins.join("older.wasm")).expect("renamed");
    let refused = answer(&install(&file), 1);
    assert_eq!(refused["code"], "plugin_conflict", "{refused}");
    assert!(refused["cause"].as_str().is_some_and(|cause| cause.contains("`older.wasm`")), "{refused}");
    let other = stamp(&unstamped(&EXEC.bytes).expect("sections"), &manifest(|m| m["name"] = json!("runner")));
    std::fs::write(plugins.join("older.wasm"), other).expect("written");
    assert_eq!(answer(&install(&file), 1)["code"], "verb_conflict");
    std::fs::remove_file(plugins.join("older.wasm")).expect("removed");

    // What does not pass leaves what is there as it is.
    let old = stamp(&unstamped(&EXEC.bytes).expect("sections"), &manifest(|m| m["version"] = json!("0.0.9")));
    std::fs::write(plugins.join("exec.wasm"), &old).expect("written");
    let broken = folder.path().join("broken.wasm");
    build::write(&broken, &EXEC.bytes[..5000]).expect("written");
    assert_eq!(answer(&install(broken.to_str().expect("text")), 1)["code"], "truncated");
    assert_eq!(std::fs::read(plugins.join("exec.wasm")).expect("a file"), old);
    let replaced = answer(&install(&file), 0);
    assert_eq!(replaced["replaces"]["version"], "0.0.9");
    assert_eq!(std::fs::read(plugins.join("exec.wasm")).expect("a file"), EXEC.bytes);
    assert_eq!(listed(), ["exec.toml", "exec.wasm"], "nothing temporary is left");

    let missing = viworks(&["install", &file, "--dir", "/does/not/exist"]);
    assert!(ended(&missing, 2).contains("`/does/not/exist` cannot be read"));
}
