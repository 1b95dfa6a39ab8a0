//! The authors' tools on plugins as they are: what ours take, what chance finds in them, and what it finds in bad ones.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tests::programs::{plugin, program};

use crate::guest::{Guest, TRAP};
use crate::rule_guest::RuleGuest;

const OURS: [&str; 3] = ["exec", "docker", "compose"];
const RULES: [&str; 5] = ["cpu", "memory", "disk", "container_health", "agent_offline"];

fn ran(words: &[&str], code: i32) -> Value {
    let done = Command::new(program("viworks")).arg("plugin").args(words).args(["-o", "json"]).output();
    let done = done.expect("viworks starts");
    let told = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(code), "{words:?}: {told}{}", String::from_utf8_lossy(&done.stdout));
    serde_json::from_slice(&done.stdout).expect("JSON")
}

fn put(folder: &Path, name: &str, bytes: &[u8]) -> String {
    let file = folder.join(format!("{name}.wasm"));
    std::fs::write(&file, bytes).expect("written");
    file.to_str().expect("text").to_owned()
}

/// `VIWORKS_BLESS=1` writes the budgets.
#[test]
fn our_plugins_stay_within_their_budgets_of_work() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in OURS.into_iter().chain(RULES) {
        let file = put(folder.path(), name, plugin(name));
        let budget = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../plugins/{name}/bench.fuel.toml"));
        let budget = budget.to_str().expect("text");
        let mut words = vec!["bench", &file, "--rounds", "20", "--budget", budget];
        if std::env::var_os("VIWORKS_BLESS").is_some() {
            words.push("--bless");
        } else {
            assert!(Path::new(budget).is_file(), "{budget}");
        }
        let first = ran(&words, 0);
        let again = ran(&["bench", &file, "--rounds", "1", "--budget", budget], 0);
        let fuel = |answer: &Value| {
            let rows = answer["examples"].as_array().expect("a list").iter().chain([&answer["fleet"]]);
            let kinds = ["plan_fuel", "interpret_fuel", "evaluate_fuel"];
            rows.map(|one| kinds.map(|kind| one[kind].clone())).collect::<Vec<_>>()
        };
        assert_eq!(fuel(&first), fuel(&again), "equal bytes take equal work");
    }
}

#[test]
fn chance_finds_nothing_wrong_with_our_plugins() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in OURS {
        let file = put(folder.path(), name, plugin(name));
        let count = std::env::var("VIWORKS_FUZZ").unwrap_or_else(|_| "40".to_owned());
        let answer = ran(&["fuzz", &file, "--seed", "1", "--count", &count], 0);
        for verb in answer["verbs"].as_array().expect("a list") {
            assert!(verb["planned"].as_u64().is_some_and(|planned| planned > 0), "{verb}");
        }
    }
}

#[test]
fn chance_finds_nothing_wrong_with_our_rules_and_agents_of_every_kind_are_judged() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in RULES {
        let file = put(folder.path(), name, plugin(name));
        let count = std::env::var("VIWORKS_FUZZ").unwrap_or_else(|_| "60".to_owned());
        let answer = ran(&["fuzz", &file, "--seed", "1", "--count", &count], 0);
        for kind in ["judged", "found"] {
            assert!(answer["rule"][kind].as_u64().is_some_and(|number| number > 0), "{name}: {answer}");
        }
        assert_eq!(answer["rule"]["refused"], 0, "{name} judges whoever there is");
    }
}

#[test]
fn chance_finds_a_rule_that_answers_for_one_agent_whoever_asks() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = put(folder.path(), "demo", &RuleGuest::new("demo").build());
    let found = ran(&["fuzz", &file, "--seed", "7"], 1);
    let finding = &found["findings"][0];
    assert!(finding["what"].as_str().is_some_and(|what| what.contains("answered 1 times for")), "{found:#}");
    assert!(finding["args"]["agents"].as_array().is_some_and(|agents| agents.len() > 1), "{found:#}");
    let again = finding["again"].as_str().expect("a line");
    let words: Vec<&str> = again.split(' ').skip(2).collect();
    assert_eq!(&ran(&words, 1)["findings"][0], finding);
    let lost = Command::new(program("viworks")).args(["plugin", "fuzz", &file, "--verb", "demo.run"]).output();
    assert_eq!(lost.expect("viworks starts").status.code(), Some(2), "a rule has no verbs");
}

#[test]
fn chance_finds_a_plugin_that_traps_and_says_how_to_see_it_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let bad = Guest { plan: TRAP.into(), ..Guest::new("demo", "1.0.0") };
    let file = put(folder.path(), "demo", &bad.build());
    let found = ran(&["fuzz", &file, "--seed", "7"], 1);
    let finding = &found["findings"][0];
    assert!(finding["what"].as_str().is_some_and(|what| what.contains("failed")), "{found:#}");
    let again = finding["again"].as_str().expect("a line");
    let words: Vec<&str> = again.split(' ').skip(2).collect();
    let same = ran(&words, 1);
    assert_eq!((&same["findings"][0]["args"], &same["findings"][0]["seed"]), (&finding["args"], &finding["seed"]));
}

#[test]
fn a_version_that_moves_too_little_for_its_changes_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let built = |version: &str, change: fn(&mut Value)| {
        let mut guest = Guest::new("demo", version);
        change(&mut guest.manifest);
        guest.build()
    };
    let old = put(folder.path(), "old", &built("1.0.0", |_| ()));
    let required: fn(&mut Value) = |manifest| {
        manifest["verbs"][0]["args_schema"]["required"] = json!(["mode"]);
        manifest["verbs"][0]["examples"] = json!([{ "args": { "mode": 1 } }]);
    };
    let small = put(folder.path(), "small", &built("1.1.0", required));
    let told = ran(&["diff", &old, &small], 1);
    assert_eq!((&told["needs"], &told["makes"]), (&json!("major"), &json!("minor")));
    assert_eq!(told["changes"][0]["place"], "demo.run args `mode`");
    let large = put(folder.path(), "large", &built("2.0.0", required));
    assert_eq!(ran(&["diff", &old, &large], 0)["makes"], "major");
    let wider: fn(&mut Value) = |manifest| manifest["grants"]["effects"] = json!(["read", "change", "host"]);
    let wider = put(folder.path(), "wider", &built("1.1.0", wider));
    let told = ran(&["diff", &old, &wider], 0);
    assert_eq!((&told["needs"], &told["widens_grants"]), (&json!("minor"), &json!(true)), "{told:#}");
    assert_eq!(ran(&["diff", &old, &old], 0)["needs"], "none");
}

#[test]
fn a_file_that_is_nested_without_end_is_refused_before_a_plugin_runs_out_of_stack() {
    let folder = tempfile::tempdir().expect("a folder");
    let component = put(folder.path(), "compose", plugin("compose"));
    let stairs: String = (0..200).map(|level| format!("{}k:\n", " ".repeat(level))).collect();
    // Each costs a compilation; what else may nest is tried natively, by the plugin's own tests.
    for file in ["[{a: ".repeat(10_000), stairs] {
        let args = folder.path().join("args.json");
        std::fs::write(&args, json!({ "project": "p", "file": file }).to_string()).expect("written");
        let args = format!("@{}", args.display());
        let words = ["plugin", "run", &component, "compose.up", "--args", &args];
        let done = Command::new(program("viworks")).args(words).output().expect("viworks starts");
        let said = String::from_utf8_lossy(&done.stderr);
        let refused = done.status.code() == Some(2) && said.contains("nested more than 32 levels");
        assert!(refused, "{}: {said}", &file[..20]);
    }
}
