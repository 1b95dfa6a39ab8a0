//! Each gate refuses what it is there for, with its code, and lets an honest component through.

use std::time::{Duration, Instant};

use ports::plugins::Refusal;
use runtime::tool::{self, ToolError};
use serde_json::{Map, Value, json};

use crate::guest::{GROW, Guest, LOOP, PANIC, TRAP, section};

fn refusal(bytes: &[u8]) -> Refusal {
    match tool::check(bytes, "demo.wasm") {
        Err(ToolError::Refused(refusal)) => refusal,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[track_caller]
fn refused(bytes: &[u8], gate: u8, code: &str) -> Refusal {
    let refusal = refusal(bytes);
    assert_eq!((refusal.gate, refusal.code.as_str()), (gate, code), "{}", refusal.cause);
    assert!(!refusal.cause.is_empty() && !refusal.cure.is_empty() && refusal.digest.len() == 64);
    refusal
}

fn with_manifest(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut guest = Guest::new("demo", "1.0.0");
    change(&mut guest.manifest);
    guest.build()
}

#[test]
fn an_honest_component_passes_all_gates() {
    let bytes = Guest::new("demo", "1.0.0").build();
    let checked = tool::check(&bytes, "demo.wasm").expect("passes");
    assert_eq!((checked.manifest.name.as_str(), checked.size), ("demo", bytes.len()));
    assert!(checked.imports.contains(&"viworks:plugin/log@1.0.0".to_owned()), "{:?}", checked.imports);
    assert_eq!(tool::imports(&bytes).expect("imports"), checked.imports);
}

#[test]
fn a_file_of_another_kind_is_named_for_what_it_is() {
    refused(b"", 2, "truncated");
    refused(b"#!/bin/sh\nrm -rf /\n", 2, "not_wasm");
    refused(&wat::parse_str("(module)").expect("a module"), 2, "core_module");
    refused(&wat::parse_str("(component)").expect("a component"), 2, "missing_export");
    refused(&vec![0; 4 * 1024 * 1024 + 1], 1, "file_too_big");
    let named = tool::check(&Guest::new("demo", "1.0.0").build(), "../demo.wasm");
    assert!(matches!(named, Err(ToolError::Refused(refusal)) if refusal.code == "file_name"));
}

#[test]
fn no_cut_and_no_flipped_byte_gets_through_or_breaks_the_gates() {
    let bytes = Guest::new("demo", "1.0.0").build();
    let mut truncated = 0;
    for end in (0..bytes.len()).step_by(61) {
        let refusal = refusal(&bytes[..end]);
        assert!(refusal.gate <= 3, "cut at {end}: {refusal:?}");
        truncated += usize::from(refusal.code == "truncated");
    }
    assert!(truncated > bytes.len() / 61 * 9 / 10, "nearly every cut is seen as one: {truncated}");
    for at in (8..bytes.len()).step_by(97) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x55;
        // Whatever it says, it says it without a panic; names and texts may differ and still be honest.
        _ = tool::check(&flipped, "demo.wasm");
    }
}

#[test]
fn only_the_log_may_be_imported() {
    let guest = Guest { import: Some("read-secret"), ..Guest::new("demo", "1.0.0") };
    let refusal = refused(&guest.build(), 2, "forbidden_import");
    assert!(refusal.cause.contains("read-secret"), "{}", refusal.cause);
}

#[test]
fn an_unstamped_component_can_describe_itself_but_not_serve() {
    let guest = Guest { stamped: false, ..Guest::new("demo", "1.0.0") };
    let bytes = guest.build();
    refused(&bytes, 3, "no_manifest");
    let described: Value = serde_json::from_str(&tool::describe(&bytes).expect("describes")).expect("JSON");
    assert_eq!(described, guest.manifest);
    let stamped = [bytes, section("viworks:manifest", described.to_string().as_bytes())].concat();
    tool::check(&stamped, "demo.wasm").expect("stamped, it passes");
}

#[test]
fn a_manifest_that_lies_is_found_out() {
    let mut guest = Guest::new("demo", "1.0.0");
    let mut modest = guest.manifest.clone();
    modest["verbs"][0]["summary"] = json!("Harmless, surely.");
    guest.stamp = Some(modest.to_string().into_bytes());
    let refusal = refused(&guest.build(), 7, "describe_differs");
    assert!(refusal.cause.contains("/verbs/0/summary"), "{}", refusal.cause);
    guest.stamp = Some(b"{".to_vec());
    refused(&guest.build(), 4, "manifest_malformed");
    guest.stamp = None;
    let twice = [guest.build(), section("viworks:manifest", b"{}")].concat();
    refused(&twice, 4, "manifest_malformed");
}

#[test]
fn schemas_may_neither_reach_out_nor_explode() {
    let remote =
        with_manifest(|m| m["verbs"][0]["args_schema"]["properties"]["x"] = json!({ "$ref": "https://example.com/s" }));
    refused(&remote, 5, "schema_remote_ref");
    let bomb = with_manifest(|m| {
        let mut definitions = Map::new();
        for level in 0..30 {
            let next = json!({ "$ref": format!("#/$defs/d{}", level + 1) });
            definitions.insert(format!("d{level}"), json!({ "allOf": [next, next] }));
        }
        definitions.insert("d30".into(), json!({}));
        m["verbs"][0]["args_schema"]["$defs"] = Value::Object(definitions);
        m["verbs"][0]["args_schema"]["properties"]["x"] = json!({ "$ref": "#/$defs/d0" });
    });
    let began = Instant::now();
    refused(&bomb, 5, "schema_bomb");
    assert!(began.elapsed() < Duration::from_secs(60), "counting is not exploding: {:?}", began.elapsed());
    refused(&with_manifest(|m| m["abi"] = json!("9.0")), 3, "abi_unsupported");
}

#[test]
fn a_describe_that_hangs_traps_or_grows_is_ended() {
    let describe = |body: &str| Guest { describe: body.into(), ..Guest::new("demo", "1.0.0") }.build();
    let began = Instant::now();
    let refusal = refused(&describe(LOOP), 7, "describe_failed");
    assert!(refusal.cause.contains("250 ms"), "{}", refusal.cause);
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    let refusal = refused(&describe(TRAP), 7, "describe_failed");
    assert!(refusal.cause.contains("unreachable"), "{}", refusal.cause);
    let refusal = refused(&describe(GROW), 7, "describe_failed");
    assert!(refusal.cause.contains("16 MiB"), "{}", refusal.cause);
    let refusal = refused(&describe(PANIC), 7, "describe_failed");
    assert!(refusal.cause.contains("unreachable") && refusal.cause.contains("lib.rs:7:9"), "{}", refusal.cause);
    let refusal = refused(&Guest { start: LOOP.into(), ..Guest::new("demo", "1.0.0") }.build(), 7, "describe_failed");
    assert!(refusal.cause.contains("50 ms"), "{}", refusal.cause);
    let greedy = Guest { pages: 512, ..Guest::new("demo", "1.0.0") };
    let refusal = refused(&greedy.build(), 7, "describe_failed");
    assert!(refusal.cause.contains("16 MiB"), "{}", refusal.cause);
}

#[test]
fn every_example_must_work() {
    refused(&with_manifest(|m| m["verbs"][0]["examples"][0]["args"] = json!({ "mode": "x" })), 8, "example_args");
    refused(
        &with_manifest(|m| m["verbs"][0]["examples"][0]["golden"]["result"] = json!({ "lines": 2 })),
        8,
        "example_golden",
    );
    refused(&with_manifest(|m| m["grants"]["programs"] = json!([])), 8, "example_grant");
    refused(&with_manifest(|m| m["verbs"][0]["effect"] = json!("destroy")), 8, "example_grant");
    let trap = Guest { plan: TRAP.into(), ..Guest::new("demo", "1.0.0") };
    let mut trap = Guest { manifest: trap.manifest.clone(), ..trap };
    trap.manifest["verbs"][0]["examples"] = json!([{ "args": { "mode": 1 } }]);
    refused(&trap.build(), 8, "example_plan");
    let odd = Guest { effect: "write", ..Guest::new("demo", "1.0.0") };
    refused(&odd.build(), 8, "example_plan");
}
