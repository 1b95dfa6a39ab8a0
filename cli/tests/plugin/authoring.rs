//! What an author goes through, from nothing to an installed plugin, outside of the repository.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::{answer, ended, room};

/// A project made by `viworks plugin new`, in a folder of its own.
struct Project {
    dir: tempfile::TempDir,
}

impl Project {
    /// Each with a name of its own: in a shared target folder a name is a file.
    fn new(name: &str) -> Project {
        Project::made(name, &[])
    }

    fn made(name: &str, words: &[&str]) -> Project {
        let project = Project { dir: tempfile::tempdir().expect("a folder") };
        ended(&project.viworks(&[&["new", name, "--dir", project.text(".")], words].concat()), 0);
        project
    }

    fn path(&self, file: &str) -> PathBuf {
        if file == "." { self.dir.path().to_owned() } else { self.dir.path().join(file) }
    }

    fn text(&self, file: &str) -> &'static str {
        // A test's few words may live as long as the test program.
        Box::leak(self.path(file).display().to_string().into_boxed_str())
    }

    /// Without network; what other projects compiled is taken from a folder that all tests share.
    fn viworks(&self, words: &[&str]) -> Output {
        let shared = room("target/projects");
        let mut viworks = Command::new(env!("CARGO_BIN_EXE_viworks"));
        viworks.arg("plugin").args(words).env("CARGO_NET_OFFLINE", "true").env("CARGO_TARGET_DIR", shared);
        viworks.output().expect("viworks runs")
    }

    fn edit(&self, file: &str, from: &str, to: &str) {
        let before = std::fs::read_to_string(self.path(file)).expect("a file");
        assert!(before.contains(from), "{file} holds no {from}: {before}");
        std::fs::write(self.path(file), before.replacen(from, to, 1)).expect("written");
    }

    fn test(&self, words: &[&str], code: i32) -> Value {
        answer(&self.viworks(&[&["test", self.text("."), "-o", "json"], words].concat()), code)
    }

    fn build(&self) -> PathBuf {
        let built = answer(&self.viworks(&["build", self.text("."), "-o", "json"]), 0);
        assert!(built["size_bytes"].as_u64().is_some_and(|size| size < 200_000), "{built}");
        PathBuf::from(built["file"].as_str().expect("a file"))
    }
}

fn cases(answer: &Value) -> Vec<(&str, bool, bool)> {
    let cases = answer["cases"].as_array().expect("cases");
    let case = |case: &'static str, one: &Value| one[case].as_bool().expect("a flag");
    cases.iter().map(|one| (one["file"].as_str().expect("a name"), case("ok", one), case("recorded", one))).collect()
}

#[test]
fn a_new_project_outside_the_repository_passes_its_tests_and_its_changes_are_caught_then_blessed() {
    let project = Project::new("weather");
    assert!(!project.dir.path().starts_with(room("")), "a folder outside");
    ended(&project.viworks(&["new", "weather", "--dir", project.text(".")]), 2);
    let first = project.test(&[], 0);
    assert_eq!(cases(&first), [("failed.json", true, false), ("kernel.json", true, false)], "{first}");

    // Another plan: both ways agree, and neither is what is recorded.
    project.edit("src/lib.rs", ".arg(\"-s\")", ".arg(\"-sm\")");
    project.edit("src/lib.rs", "[\"-s\", \"-r\"]", "[\"-sm\", \"-r\"]");
    let changed = project.viworks(&["test", project.text(".")]);
    let chatter = ended(&changed, 1);
    let page = String::from_utf8(changed.stdout).expect("text");
    assert!(chatter.contains("--bless"), "{chatter}");
    assert!(page.contains("- plan/steps/0/args/0: \"-s\"\n  + plan/steps/0/args/0: \"-sm\""), "{page}");
    let before = std::fs::read_to_string(project.path("tests/golden/kernel.json")).expect("a case");
    let blessed = project.test(&["--bless"], 0);
    assert_eq!(cases(&blessed), [("failed.json", true, true), ("kernel.json", true, true)], "{blessed}");
    let after = std::fs::read_to_string(project.path("tests/golden/kernel.json")).expect("a case");
    assert_eq!(
        after,
        before.replace("\"-s\"", "\"-sm\"").replace("uname -s ", "uname -sm "),
        "nothing else is touched"
    );
    project.test(&[], 0);

    // A case with a field that nobody knows is no case.
    project.edit("tests/golden/kernel.json", "\"verb\"", "\"surprise\": 1, \"verb\"");
    let refused = ended(&project.viworks(&["test", project.text(".")]), 1);
    assert!(refused.contains("kernel.json") && refused.contains("unknown field `surprise`"), "{refused}");
    project.edit("tests/golden/kernel.json", "\"surprise\": 1, ", "");

    // Code that is other in wasm than natively is found, and never recorded.
    project.edit(
        "src/lib.rs",
        ".flag(\"-r\", self.release)",
        ".flag(\"-r\", self.release && !cfg!(target_family = \"wasm\"))",
    );
    let parted = project.test(&["--bless"], 1);
    assert_eq!(cases(&parted), [("failed.json", true, false), ("kernel.json", false, false)], "{parted}");
    let told = parted["cases"][1]["differences"].to_string();
    assert!(told.contains("in the sandbox") && told.contains("- plan/steps/0/args/1"), "{told}");
    project.edit("src/lib.rs", " && !cfg!(target_family = \"wasm\")", "");

    // A project whose tests do not play its cases is told which call is missing.
    project.edit("src/lib.rs", "test::golden(&PLUGIN, env!(\"CARGO_MANIFEST_DIR\"));", "");
    let missing = ended(&project.viworks(&["test", project.text(".")]), 1);
    assert!(missing.contains("viworks_sdk::test::golden(&PLUGIN"), "{missing}");
}

#[test]
fn a_new_alert_outside_the_repository_passes_its_tests_and_what_it_finds_is_blessed() {
    let project = Project::made("busy", &["--alert"]);
    assert_eq!(cases(&project.test(&[], 0)), [("swings.json", true, false)]);

    // Other levels find other things: both ways agree, and neither is what is recorded.
    project.edit("src/lib.rs", "default = 1.0)", "default = 0.25)");
    let changed = project.test(&[], 1);
    assert_eq!(cases(&changed), [("swings.json", false, false)], "{changed}");
    assert_eq!(changed["cases"][0]["differences"], json!(["- found/1/: \"warning\""]), "{changed}");
    assert_eq!(cases(&project.test(&["--bless"], 0)), [("swings.json", true, true)]);
    assert_eq!(cases(&project.test(&[], 0)), [("swings.json", true, false)]);

    let wasm = project.build();
    let wasm = wasm.to_str().expect("text");
    assert_eq!(answer(&project.viworks(&["check", wasm, "-o", "json"]), 0)["kind"], "rule");
    let course = |config: Value| {
        json!({ "config": config, "turns": [{ "at_s": 0, "readings": [{ "metric": "load.1", "value": 99 }] }] })
            .to_string()
    };
    let played = answer(&project.viworks(&["run", wasm, "--course", &course(json!({ "for_s": 0 }))]), 0);
    assert_eq!(played["turns"][0]["found"], json!({ "": "critical" }), "{played}");
    let refused = ended(&project.viworks(&["run", wasm, "--course", &course(json!({ "for_s": -1 }))]), 1);
    assert!(refused.contains("its configuration is refused"), "{refused}");
}

#[test]
fn a_panic_names_its_file_and_line_and_an_example_that_fails_names_its_gate() {
    let project = Project::new("panics");
    let file = project.build();
    let plan = |args: &str| {
        let run = project.viworks(&["run", file.to_str().expect("text"), "panics.kernel", "--args", args]);
        (run.status.code(), String::from_utf8_lossy(&run.stderr).into_owned())
    };
    assert_eq!(plan("{}").0, Some(0));
    project.edit(
        "src/lib.rs",
        "        program(\"uname\")",
        "        assert!(self.release, \"out of weather\");\n        program(\"uname\")",
    );
    project.build();
    let line = std::fs::read_to_string(project.path("src/lib.rs")).expect("a file");
    let line = 1 + line.lines().position(|line| line.contains("out of weather")).expect("the line");
    let (code, told) = plan("{}");
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains(&format!("error: src/lib.rs:{line}: out of weather")), "{told}");

    project.edit("src/lib.rs", "assert!(self.release", "assert!(!self.release");
    let refused = answer(&project.viworks(&["build", project.text("."), "-o", "json"]), 1);
    assert_eq!((&refused["gate"], &refused["code"]), (&json!(8), &json!("example_plan")), "{refused}");
    assert!(refused["cause"].as_str().is_some_and(|cause| cause.contains("src/lib.rs:")), "{refused}");
    assert_eq!(refused["page"], "docs/plugins/example_plan.md");
}

#[test]
fn the_sdk_of_a_project_can_be_renewed_or_be_taken_from_elsewhere() {
    let project = Project::new("renewed");
    let own = project.path("vendor/viworks-sdk/sdk/src/lib.rs");
    std::fs::write(&own, "").expect("written");
    ended(&project.viworks(&["sdk", project.text(".")]), 0);
    let copy = std::fs::read_to_string(&own).expect("a file");
    assert_eq!(copy, std::fs::read_to_string(room("sdk/src/lib.rs")).expect("a file"));
    let left: Vec<_> = std::fs::read_dir(project.path("vendor")).expect("a folder").collect();
    assert_eq!(left.len(), 1, "{left:?}");
    ended(&project.viworks(&["sdk", project.text("src")]), 2);

    let elsewhere = project.path("other");
    let sdk = room("sdk").display().to_string();
    ended(&project.viworks(&["new", "other", "--dir", elsewhere.to_str().expect("text"), "--sdk", &sdk]), 0);
    assert!(!elsewhere.join("vendor").exists());
    let built = answer(&project.viworks(&["build", elsewhere.to_str().expect("text"), "-o", "json"]), 0);
    let bytes = std::fs::read(built["file"].as_str().expect("a file")).expect("built");
    assert!(!holds(&bytes, &room("")) && !holds(&bytes, project.dir.path()), "a path of this machine is in it");
}

fn holds(bytes: &[u8], path: &Path) -> bool {
    let text = path.to_str().expect("text").trim_end_matches('/').as_bytes();
    bytes.windows(text.len()).any(|window| window == text)
}
