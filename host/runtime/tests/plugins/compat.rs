//! The compat tier: only where an operator says so, with WASI that answers with nothing, within limits of its
//! own. Real components of other languages are made and loaded where `VIWORKS_COMPAT=1` allows it: that takes
//! the network, a minute, and the toolchains' packages from npm and PyPI.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use plan::outcome::{End, Outcome, StepEnd};
use ports::plugins::{Outputs, PlanError, PluginStatus, Plugins as _};
use serde_json::json;

use crate::calls::{House, profile};
use crate::guest::{GROW, Guest, LOOP, section};

const CONSENT: &[u8] = b"tier = \"compat\"\n";

fn status(house: &House) -> PluginStatus {
    house.handle.plugins().remove(0)
}

fn refusal(house: &House) -> (&'static str, String, String) {
    let status = status(house);
    let refusal = status.refusal.expect("a refusal");
    (status.state, refusal.code, refusal.cause)
}

async fn rescan(house: &House) {
    house.handle.rescan().await.expect("the service runs");
}

#[tokio::test]
async fn wasi_needs_consent_and_answers_with_nothing() {
    let plan = "(if (i64.ne (call $chance) (i64.const 0)) (then unreachable))";
    let guest = Guest { wasi: true, plan: plan.into(), ..Guest::new("demo", "1.0.0") };
    let house = House::open(&[("demo.wasm", &guest.build())], |options| options).await;
    let (state, code, cause) = refusal(&house);
    assert_eq!((state, code.as_str()), ("refused", "compat_tier"));
    assert!(cause.contains("wasi:random/random@0.2.0") && cause.contains("demo.toml"), "{cause}");
    assert!(house.handle.verbs().is_empty());

    house.write("demo.toml", CONSENT);
    rescan(&house).await;
    assert_eq!((status(&house).state, status(&house).refusal), ("active", None));
    let verb = house.verb("demo.run");
    verb.plan(&profile(), &json!({ "mode": 1 })).await.expect("chance is 0");

    house.write("demo.toml", b"");
    rescan(&house).await;
    let (state, code, _) = refusal(&house);
    assert_eq!((state, code.as_str()), ("needs_approval", "compat_tier"), "what lost its consent does not serve");
    assert!(house.handle.resolve("demo.run").is_err());
    house.write("demo.toml", CONSENT);
    rescan(&house).await;
    assert_eq!(status(&house).state, "active");
}

#[tokio::test]
async fn consent_to_one_plugin_is_no_consent_to_another_nor_to_everything() {
    let big = [Guest::new("demo", "1.0.0").build(), section("x", &vec![0; 5 * 1024 * 1024])].concat();
    let house = House::open(&[("demo.wasm", &big), ("other.toml", CONSENT)], |options| options).await;
    let (_, code, cause) = refusal(&house);
    assert_eq!(code, "compat_tier");
    assert!(cause.contains("4194304"), "{cause}");
    house.write("demo.toml", CONSENT);
    rescan(&house).await;
    assert_eq!(status(&house).state, "active");
    // What no consent reaches: other worlds, and files beyond the tier's own limit.
    let spin = Guest { import: Some("open-socket"), ..Guest::new("demo", "1.1.0") }.build();
    let huge = [Guest::new("demo", "1.2.0").build(), section("x", &vec![0; 48 * 1024 * 1024])].concat();
    for (bytes, expected) in [(spin, "forbidden_import"), (huge, "file_too_big")] {
        house.write("demo.wasm", &bytes);
        rescan(&house).await;
        let (state, code, _) = refusal(&house);
        assert_eq!((state, code.as_str()), ("active", expected), "the last good one serves");
    }
}

#[tokio::test]
async fn it_has_more_room_and_time_and_an_end_of_both() {
    // 100 MiB are fine, without end is not.
    let room = "(if (i32.eq (memory.grow (i32.const 1600)) (i32.const -1)) (then unreachable))";
    for (plan, told) in [(room, None), (GROW, Some("128 MiB")), (LOOP, Some("250 ms"))] {
        let guest = Guest { wasi: true, plan: plan.into(), ..Guest::new("demo", "1.0.0") };
        let house = House::open(&[("demo.wasm", &guest.build()), ("demo.toml", CONSENT)], |options| options).await;
        match (house.verb("demo.run").plan(&profile(), &json!({ "mode": 1 })).await, told) {
            (Ok(_), None) => {}
            (Err(PlanError::Failed { message, .. }), Some(told)) if message.contains(told) => {}
            (answer, _) => panic!("{plan}: {answer:?}"),
        }
    }
}

/// Runs a tool, and says all of it when it fails.
fn tool(dir: &Path, program: &str, args: &[&str]) {
    let ran = Command::new(program).args(args).current_dir(dir).output();
    let ran = ran.unwrap_or_else(|error| panic!("{program} cannot be run: {error}"));
    let text = [ran.stdout, ran.stderr].concat();
    assert!(ran.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&text));
}

/// Whether real components may be made here.
fn allowed(name: &str) -> bool {
    let allowed = std::env::var_os("VIWORKS_COMPAT").is_some_and(|value| value == "1");
    if !allowed {
        eprintln!("{name}: skipped, as VIWORKS_COMPAT=1 is not set: it installs packages from the network");
    }
    allowed
}

fn source(file: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/plugins/compat").join(file).display().to_string()
}

fn wit() -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../sdk/wit/1.0").display().to_string()
}

/// Stamps the component, loads it under its operator's consent, calls it, and says what that costs.
async fn serves(name: &str, component: &Path) {
    let bytes = std::fs::read(component).expect("the toolchain left a component");
    let manifest = runtime::tool::describe(&bytes).expect("it says what it is");
    let stamped = [bytes, section("viworks:manifest", manifest.as_bytes())].concat();
    let began = Instant::now();
    let (file, toml) = (format!("{name}.wasm"), format!("{name}.toml"));
    let house = House::open(&[(&file, &stamped), (&toml, CONSENT)], |options| options).await;
    let loaded = began.elapsed();
    assert_eq!(status(&house).state, "active", "{:#?}", status(&house));
    let verb = house.verb(&format!("{name}.hello"));
    let args = json!({ "name": "you" });
    let mut took: Vec<_> = Vec::new();
    for _ in 0..50 {
        let began = Instant::now();
        let plan = verb.plan(&profile(), &args).await.expect("a plan");
        took.push(began.elapsed());
        assert_eq!(
            (plan.steps[0].program.as_str(), plan.steps[0].args.as_slice()),
            ("echo", ["hello you".to_owned()].as_slice())
        );
    }
    took.sort_unstable();
    let steps = vec![StepEnd { exit_code: Some(0), ..StepEnd::default() }];
    let outcome = Outcome { steps, ..Outcome::not_started(End::Exited) };
    let outputs = Outputs { outcome, stdout: b"hello you\n".to_vec(), stderr: Vec::new() };
    let meant = verb.interpret(&profile(), &args, outputs).await;
    assert_eq!((meant.succeeded, meant.result, meant.parse_fault), (true, Some(json!({ "said": "hello you" })), None));
    println!(
        "{name}: {} bytes, {loaded:?} from file to verb, plan p50 {:?}, slowest {:?}",
        stamped.len(),
        took[25],
        took[49]
    );
}

#[tokio::test]
async fn a_plugin_written_in_javascript_loads() {
    if !allowed("a_plugin_written_in_javascript_loads") {
        return;
    }
    let dir = tempfile::tempdir().expect("temp dir");
    tool(dir.path(), "npm", &["install", "--no-audit", "--no-fund", "@bytecodealliance/componentize-js@0.23"]);
    let compiler = dir.path().join("node_modules/.bin/componentize-js").display().to_string();
    let (source, wit) = (source("plugin.js"), wit());
    // As small as it gets, without WASI; and as the toolchain does it by itself, with most of WASI.
    let none = ["stdio", "random", "clocks", "http", "fetch-event"];
    for (out, disabled) in [("bare.wasm", none.as_slice()), ("full.wasm", &[])] {
        let mut args = vec![source.as_str(), "--wit", &wit, "--world-name", "verb-plugin", "-o", out];
        if !disabled.is_empty() {
            args.push("--disable");
            args.extend(disabled);
        }
        tool(dir.path(), &compiler, &args);
        serves("js", &dir.path().join(out)).await;
    }
}

#[tokio::test]
async fn a_plugin_written_in_python_loads() {
    if !allowed("a_plugin_written_in_python_loads") {
        return;
    }
    let dir = tempfile::tempdir().expect("temp dir");
    tool(dir.path(), "python3", &["-m", "venv", "venv"]);
    tool(dir.path(), "venv/bin/pip", &["install", "--quiet", "componentize-py==0.25.*"]);
    std::fs::copy(source("plugin_py.py"), dir.path().join("plugin_py.py")).expect("copied");
    let args = ["-d", &wit(), "-w", "verb-plugin", "componentize", "plugin_py", "-o", "py.wasm"];
    tool(dir.path(), "venv/bin/componentize-py", &args);
    serves("py", &dir.path().join("py.wasm")).await;
}
