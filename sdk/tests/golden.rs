//! Golden cases as a plugin's own tests play them.

use std::path::{Path, PathBuf};

use viworks_sdk::prelude::*;
use viworks_sdk::test;

/// Says which kernel a machine runs.
#[derive(Args)]
struct Kernel;

#[verb(name = "host.kernel", effect = Read, example = json!({}))]
impl Verb for Kernel {
    type Output = String;

    fn plan(&self, context: &Context) -> Result<Plan> {
        if context.profile.os != "linux" {
            return Err(Failure::unsupported("only on linux"));
        }
        program("uname").opt("--as", context.config["style"].as_str()).plan()
    }

    fn interpret(&self, out: &Outputs) -> Result<String> {
        match out.ok()?.text()?.trim() {
            "" => Err(Failure::parse("nothing was printed")),
            name => Ok(name.to_owned()),
        }
    }
}

/// How to ask.
#[derive(Args)]
struct Config {
    #[arg(default = "posix")]
    style: String,
}

plugin!(name = "host", version = "1.0.0", summary = "Hosts", verbs: [Kernel], grants: [allow("uname")], config: Config);

/// A project's folder with these cases.
fn project(name: &str, cases: &[(&str, Value)]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("golden-{name}"));
    // Left there by a run before, perhaps with other cases.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(folder.join("tests/golden")).expect("a folder");
    for (file, case) in cases {
        std::fs::write(folder.join("tests/golden").join(file), case.to_string()).expect("written");
    }
    folder
}

fn told(folder: &Path) -> String {
    let folder = folder.to_owned();
    let panic = std::panic::catch_unwind(|| test::golden(&PLUGIN, folder)).expect_err("it differs");
    panic.downcast_ref::<String>().cloned().unwrap_or_else(|| (*panic.downcast_ref::<&str>().expect("text")).to_owned())
}

fn recorded() -> Value {
    json!({
        "verb": "host.kernel", "args": {},
        "plan": { "effect": "read", "steps": [{ "program": "uname", "args": ["--as=posix"] }], "summary": "run `uname --as=posix`" },
        "outputs": { "steps": [{ "exit_code": 0 }], "stdout": "Linux\n" },
        "result": { "succeeded": true, "summary": "exited with 0", "value": "Linux" },
    })
}

fn with(pointer: &str, value: Value) -> Value {
    let mut case = recorded();
    *case.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
    case
}

#[test]
fn what_is_recorded_comes_out_with_the_default_configuration() {
    let unread = json!({ "steps": [{ "exit_code": 0 }] });
    let mut silent = with("/outputs", unread);
    silent["result"] = json!({ "unread": "parse_failed: nothing was printed" });
    let mut failed = with("/outputs", json!({ "steps": [{ "exit_code": 3 }], "stderr": "no\n" }));
    failed["result"] = json!({ "succeeded": false, "summary": "exited with 3: no", "value": null });
    let mut ended = with("/outputs", json!({ "end": "timed_out", "steps": [{ "signal": 9 }] }));
    ended["result"] = json!({ "succeeded": false, "summary": "timed out", "value": null });
    let mut never = with("/outputs", json!({ "end": "cancelled", "steps": [] }));
    never["result"] = json!({ "unread": "no process was started" });
    let cases = [("a.json", recorded()), ("b.json", silent), ("c.json", failed), ("d.json", ended), ("e.json", never)];
    test::golden(&PLUGIN, project("good", &cases));
}

#[test]
fn what_differs_is_told_with_its_file_and_place() {
    let other = with("/plan/steps/0/args/0", json!("--as=bsd"));
    let wrong = with("/result/value", json!("BSD"));
    let windows = {
        let mut case = recorded();
        case["profile"] = json!({ "os": "windows", "arch": "x86_64" });
        case
    };
    let told = told(&project("other", &[("a.json", other), ("b.json", wrong), ("c.json", windows)]));
    for line in [
        "viworks plugin test --bless",
        "a.json: - plan/steps/0/args/0: \"--as=bsd\"\n  a.json: + plan/steps/0/args/0: \"--as=posix\"",
        "b.json: - result/value: \"BSD\"\n  b.json: + result/value: \"Linux\"",
        "c.json: the arguments make no plan: unsupported: only on linux",
    ] {
        assert!(told.contains(line), "{line}\nis not in\n{told}");
    }
}

#[test]
fn a_file_that_is_no_case_and_a_folder_without_one_are_named() {
    let mut odd = recorded();
    odd["surprise"] = json!(1);
    let refused = told(&project("odd", &[("odd.json", odd)]));
    assert!(refused.contains("odd.json` is no golden case: unknown field `surprise`"), "{refused}");
    assert!(told(&project("none", &[])).contains("holds no golden case"));
    let unknown = told(&project("verb", &[("a.json", with("/verb", json!("host.walk")))]));
    assert!(unknown.contains("a.json: no verb `host.walk` here; there are: host.kernel"), "{unknown}");
}
