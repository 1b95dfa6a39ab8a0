//! `viworks plugin …` for real: a crate becomes a component, and the component answers in the sandbox.

mod authoring;
mod files;
mod rules;
mod signing;
mod tools;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use cli::plugin::component::{componentize, digest, stamp, stamped};
use cli::plugin::{Built, build};
use serde_json::{Value, json};

/// One build for all tests: the first takes a minute.
static EXEC: LazyLock<Built> = LazyLock::new(|| build(&room("plugins/exec")).expect("the exec plugin builds"));

fn room(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the repository").join(path)
}

fn viworks(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_viworks")).arg("plugin").args(words).output().expect("viworks runs")
}

/// A folder with the exec plugin in it, and the file's path.
fn installed() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("exec.wasm");
    build::write(&file, &EXEC.bytes).expect("written");
    let file = file.to_str().expect("text").to_owned();
    (folder, file)
}

#[track_caller]
fn ended(output: &Output, code: i32) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    stderr
}

#[track_caller]
fn answer(output: &Output, code: i32) -> Value {
    ended(output, code);
    serde_json::from_slice(&output.stdout).expect("standard output is JSON")
}

#[test]
fn a_built_plugin_is_small_imports_only_the_log_and_says_what_its_crate_says() {
    assert!(EXEC.bytes.len() < 200_000, "{} bytes", EXEC.bytes.len());
    assert_eq!(EXEC.manifest, exec::PLUGIN.manifest());
    assert_eq!(EXEC.digest, digest(&EXEC.bytes));
    let section = stamped(&EXEC.bytes).expect("a component").expect("stamped");
    assert_eq!(serde_json::from_slice::<Value>(&section).expect("JSON")["name"], "exec");
    // `types` is an interface without a single function: names for what the log and the verbs pass.
    let imports = runtime::tool::imports(&EXEC.bytes).expect("a component");
    assert_eq!(imports, ["viworks:plugin/types@1.0.0", "viworks:plugin/log@1.0.0"]);
}

#[test]
fn no_path_of_the_building_machine_is_in_a_plugin() {
    let holds = |text: &str| EXEC.bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("sdk/src/"), "panic messages name their file");
    for path in [room("sdk"), std::env::home_dir().expect("a home").join(".cargo")] {
        assert!(!holds(path.to_str().expect("text")), "{}", path.display());
    }
}

#[test]
fn the_component_plans_what_the_crate_plans() {
    let (_folder, file) = installed();
    let args =
        json!({ "program": "cat", "args": ["-n", "--", "a b"], "env": { "A": "1" }, "cwd": "/tmp", "stdin": "x\n" });
    let planned = answer(&viworks(&["run", &file, "exec.run", "--args", &args.to_string()]), 0);
    let native = viworks_sdk::test::plan::<exec::Run>(args).expect("accepted");
    assert_eq!(planned, serde_json::to_value(native).expect("plans serialize"));
}

#[test]
fn refused_arguments_end_with_two_and_name_their_place() {
    let (_folder, file) = installed();
    let run = |args: &str| viworks(&["run", &file, "exec.run", "--args", args]);
    assert!(ended(&run(r#"{"program":"ls","args":"-l"}"#), 2).contains("/args: "));
    // The schema cannot say this one; the plugin does.
    assert!(ended(&run(r#"{"program":"ls","cwd":"/a/../b"}"#), 2).contains("/cwd: "));
    assert!(ended(&run("{"), 2).contains("--args is not JSON"));
    assert!(ended(&viworks(&["run", &file, "exec.walk"]), 2).contains("it has `exec.run`"));
}

#[test]
fn checking_names_gate_code_cause_and_cure() {
    let (folder, file) = installed();
    let passed = answer(&viworks(&["check", &file, "-o", "json"]), 0);
    assert_eq!((&passed["ok"], &passed["digest"]), (&json!(true), &json!(EXEC.digest)));

    let broken = folder.path().join("broken.wasm");
    let check = |bytes: &[u8]| {
        build::write(&broken, bytes).expect("written");
        let refused = answer(&viworks(&["check", broken.to_str().expect("text"), "-o", "json"]), 1);
        assert!(refused["cause"].is_string() && refused["cure"].is_string(), "{refused}");
        (refused["gate"].clone(), refused["code"].clone())
    };
    assert_eq!(check(&EXEC.bytes[..1000]), (json!(2), json!("truncated")));
    assert_eq!(check(b"#!/bin/sh\n"), (json!(2), json!("not_wasm")));
    let twice = stamp(&EXEC.bytes, "{}");
    assert_eq!(check(&twice).0, json!(4));
    ended(&viworks(&["inspect", broken.to_str().expect("text")]), 1);
}

#[test]
fn inspecting_shows_the_manifest_and_runs_nothing() {
    let (_folder, file) = installed();
    let shown = answer(&viworks(&["inspect", &file, "-o", "json"]), 0);
    assert_eq!(shown["manifest"]["verbs"][0]["name"], "exec.run");
    assert_eq!((&shown["digest"], &shown["size_bytes"]), (&json!(EXEC.digest), &json!(EXEC.bytes.len())));
    ended(&viworks(&["inspect", "/does/not/exist.wasm"]), 2);
}

#[test]
fn a_folder_that_is_no_plugin_is_refused_with_what_is_missing() {
    let empty = tempfile::tempdir().expect("a folder");
    let refused = ended(&viworks(&["build", empty.path().to_str().expect("text")]), 1);
    assert!(refused.contains("is not a crate"), "{refused}");
    let refused = ended(&viworks(&["build", room("sdk").to_str().expect("text")]), 1);
    assert!(refused.contains("crate-type"), "{refused}");
    let refused = ended(&viworks(&["build", room("").to_str().expect("text")]), 1);
    assert!(refused.contains("is a workspace"), "{refused}");
    assert!(componentize(b"not wasm").is_err());
}
