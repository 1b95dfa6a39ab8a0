//! Verbs as an author writes them, driven through the test kit.

use viworks_sdk::failure::Code;
use viworks_sdk::outputs::End;
use viworks_sdk::prelude::*;
use viworks_sdk::{schema, test};

/// Copies files.
///
/// A second paragraph that no summary needs.
#[derive(Args)]
struct Copy {
    /// What to copy.
    #[arg(length = 1..=3, items(length = 1..=20))]
    from: Vec<String>,
    /// Where to.
    to: String,
    /// How hard.
    #[arg(range = 1..=9, default = 5)]
    level: u8,
    #[arg(default = Mode::Fast)]
    mode: Mode,
    #[arg(one_of("md5", "sha256"), default = "md5")]
    check: String,
    #[arg(default, allow_dash)]
    extra: Vec<String>,
    #[arg(default, keys(length = ..=8))]
    labels: BTreeMap<String, String>,
    owner: Option<Owner>,
    #[arg(name = "as")]
    rename: Option<String>,
}

/// Who owns the copy.
#[derive(Args)]
struct Owner {
    user: String,
    #[arg(default)]
    group: Option<u32>,
}

/// How to copy.
#[derive(Choice, Debug, PartialEq)]
enum Mode {
    Fast,
    VerySafe,
    #[choice(name = "never")]
    Off,
}

/// What was copied.
#[derive(Output, Debug, PartialEq)]
struct Copied {
    /// How many.
    #[output(from = "Count")]
    count: u64,
    #[output(from = "Note")]
    note: Option<String>,
}

#[verb(name = "file.copy", effect = Change, example = json!({ "from": ["a"], "to": "/b" }))]
impl Verb for Copy {
    type Output = Copied;

    fn plan(&self, context: &Context) -> Result<Plan> {
        if context.profile.os != "linux" {
            return Err(Failure::unsupported("only on linux"));
        }
        let draft = program("cp")
            .args(&self.extra)
            .opt("--level", self.level)
            .opt("--label", self.labels.keys().cloned().collect::<Vec<_>>())
            .opt("--owner", self.owner.as_ref().map(|owner| owner.user.clone()))
            .opt("--group", self.owner.as_ref().and_then(|owner| owner.group))
            .opt("--as", &self.rename)
            .flag("--safe", self.mode == Mode::VerySafe)
            .arg("--check")
            .arg(&self.check)
            .arg("-t")
            .arg(&self.to)
            .operand(&self.from)
            .timeout(Duration::from_secs(5))
            .lock(format!("file:{}", self.to));
        match self.mode {
            Mode::Off => draft.then("rm").args(["-r"]).operand(&self.to).effect(Effect::Destroy).plan(),
            Mode::Fast | Mode::VerySafe => draft.plan(),
        }
    }

    fn interpret(&self, out: &Outputs) -> Result<Copied> {
        out.ok()?.json()
    }

    fn judge(&self, out: &Outputs) -> Verdict {
        // Exit code 2 of this program is a warning.
        if matches!(out.exit_code(), Some(0 | 2)) { Verdict::Succeeded } else { Verdict::Failed }
    }
}

plugin!(
    name = "files",
    version = "1.2.3",
    summary = "Files",
    verbs: [Copy],
    grants: [allow("cp"), allow("rm").args(["-r", "**"])],
    effects: [Destroy],
);

fn plan(args: Value) -> Result<viworks_sdk::step::Plan> {
    test::plan::<Copy>(args)
}

#[track_caller]
fn refused(args: Value, expected: &[(&str, &str)]) {
    let failure = plan(args).expect_err("refused");
    let found: Vec<(&str, &str)> = failure.issues.iter().map(|i| (i.pointer.as_str(), i.keyword.as_str())).collect();
    assert_eq!(found, expected, "{failure}");
}

#[test]
fn a_host_would_load_the_plugin() {
    test::check(&PLUGIN);
}

#[test]
fn the_schema_says_what_the_types_and_attributes_say() {
    let schema = schema::document::<Copy>();
    let expected = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "description": "Copies files.\n\nA second paragraph that no summary needs.",
        "required": ["from", "to"],
        "additionalProperties": false,
        "properties": {
            "from": {
                "type": "array", "description": "What to copy.", "minItems": 1, "maxItems": 3,
                "items": { "type": "string", "minLength": 1, "maxLength": 20 },
            },
            "to": { "type": "string", "description": "Where to." },
            "level": { "type": "integer", "description": "How hard.", "minimum": 1, "maximum": 9, "default": 5 },
            "mode": {
                "type": "string", "description": "How to copy.", "enum": ["fast", "very_safe", "never"], "default": "fast",
            },
            "check": { "type": "string", "enum": ["md5", "sha256"], "default": "md5" },
            "extra": { "type": "array", "items": { "type": "string" }, "default": [] },
            "labels": {
                "type": "object", "additionalProperties": { "type": "string" }, "propertyNames": { "maxLength": 8 },
                "default": {},
            },
            "owner": {
                "type": "object", "description": "Who owns the copy.", "required": ["user"], "additionalProperties": false,
                "properties": {
                    "user": { "type": "string" },
                    "group": { "type": "integer", "minimum": 0, "maximum": 4294967295_u32 },
                },
            },
            "as": { "type": "string" },
        },
    });
    assert_eq!(schema, expected);
}

#[test]
fn the_manifest_carries_the_facts() {
    let manifest = PLUGIN.manifest();
    assert_eq!((manifest.name.as_str(), manifest.version.as_str()), ("files", "1.2.3"));
    assert_eq!(manifest.grants.effects, [Effect::Change, Effect::Destroy]);
    let verb = &manifest.verbs[0];
    assert_eq!((verb.summary.as_str(), verb.cancel.as_str()), ("Copies files.", "leaves_effects"));
    assert_eq!((verb.default_timeout_ms, verb.idempotent, verb.needs.as_deref()), (60_000, false, None));
}

#[test]
fn a_plan_is_argv_and_nothing_else() {
    let plan = plan(json!({
        "from": ["a b", "--; rm"], "to": "/b", "mode": "very_safe", "labels": { "x": "", "y": "" },
        "owner": { "user": "-root", "group": 7.0 }, "as": "n",
    }))
    .expect("accepted");
    assert_eq!(
        plan.steps[0].args,
        [
            "--level=5",
            "--label=x",
            "--label=y",
            "--owner=-root",
            "--group=7",
            "--as=n",
            "--safe",
            "--check",
            "md5",
            "-t",
            "/b",
            "--",
            "a b",
            "--; rm",
        ]
    );
    assert_eq!((plan.effect, plan.steps[0].timeout_ms), (Effect::Change, Some(5000)));
    assert_eq!(plan.locks, ["file:/b"]);
}

#[test]
fn a_plan_may_raise_its_effect_and_never_lower_it() {
    let raised = plan(json!({ "from": ["a"], "to": "/b", "mode": "never" })).expect("accepted");
    assert_eq!((raised.effect, raised.steps.len()), (Effect::Destroy, 2));
    assert_eq!(raised.summary, "run `cp --level=5 --check md5 -t /b -- a`, then `rm -r -- /b`");
    let draft = program("x").effect(Effect::Host).effect(Effect::Read).plan().expect("a plan");
    assert_eq!(draft, program("x").effect(Effect::Host).plan().expect("a plan"));
}

#[test]
fn a_callers_value_never_becomes_an_option() {
    refused(json!({ "from": ["a"], "to": "-b" }), &[("/to", "dash")]);
    let plan = plan(json!({ "from": ["-f"], "to": "b", "extra": ["-v"] })).expect("behind -- or allowed");
    assert_eq!((plan.steps[0].args[0].as_str(), plan.steps[0].args.last().map(String::as_str)), ("-v", Some("-f")));
    // The same text in a field that allows it does not excuse the one that does not.
    refused(json!({ "from": ["a"], "to": "-v", "extra": ["-v"] }), &[("/to", "dash")]);
}

#[test]
fn every_fault_is_named_where_it_is() {
    refused(json!({}), &[("/from", "required"), ("/to", "required")]);
    refused(json!({ "from": [], "to": "b" }), &[("/from", "minItems")]);
    refused(json!({ "from": ["a", ""], "to": "b" }), &[("/from/1", "minLength")]);
    refused(json!({ "from": ["a"], "to": null }), &[("/to", "type")]);
    refused(json!({ "from": ["a"], "to": "b", "level": 10 }), &[("/level", "maximum")]);
    refused(
        json!({ "from": ["a"], "to": "b", "level": 1.5, "mode": "slow" }),
        &[("/level", "type"), ("/mode", "enum")],
    );
    refused(json!({ "from": ["a"], "to": "b", "check": "crc" }), &[("/check", "enum")]);
    refused(
        json!({ "from": ["a"], "to": "b", "labels": { "long/name~": "x" } }),
        &[("/labels/long~1name~0", "maxLength")],
    );
    refused(
        json!({ "from": ["a"], "to": "b", "owner": { "usr": "x" } }),
        &[("/owner/user", "required"), ("/owner/usr", "additionalProperties")],
    );
    // What no process can carry is found in the plan and blamed on the argument it came from.
    refused(json!({ "from": ["a\u{0}"], "to": "b" }), &[("/from/0", "plan")]);
}

#[test]
fn reading_alone_is_as_strict_as_the_schema_about_shapes() {
    let read = |args: Value| viworks_sdk::value::read::<Copy>(args).map(|_| ());
    assert_eq!(read(json!({ "from": ["a"], "to": "b", "level": 5.0 })), Ok(()));
    let failure = read(json!({ "from": "a", "level": 300, "mode": "x", "also": 1, "owner": { "user": 1 } }));
    let failure = failure.expect_err("refused");
    let pointers: Vec<&str> = failure.issues.iter().map(|issue| issue.pointer.as_str()).collect();
    assert_eq!(pointers, ["/also", "/from", "/to", "/level", "/mode", "/owner/user"]);
}

#[test]
fn a_machine_the_verb_does_not_know_is_unsupported() {
    let mut context = test::context();
    context.profile.os = "plan9".into();
    let failure = test::plan_on::<Copy>(&context, json!({ "from": ["a"], "to": "b" })).expect_err("refused");
    assert_eq!((failure.code, failure.message.as_str()), (Code::Unsupported, "only on linux"));
}

#[test]
fn output_is_read_leniently_and_written_as_promised() {
    let args = json!({ "from": ["a"], "to": "b" });
    let out = test::exited(0).with_stdout(r#"{"Count":2,"Note":null,"Later":true}"#);
    let answer = test::interpret::<Copy>(args.clone(), &out).expect("read");
    assert!(answer.succeeded);
    assert_eq!(answer.result, json!({ "count": 2 }));
    let answer = test::interpret::<Copy>(args.clone(), &test::exited(1).with_stderr("no\n")).expect("judged");
    assert_eq!((answer.succeeded, answer.result, answer.summary.as_str()), (false, Value::Null, "exited with 1: no"));
    for (printed, reason) in [("", "ends too early"), ("[]", "an object is expected"), (r#"{"Count":-1}"#, "/Count")] {
        let failure =
            test::interpret::<Copy>(args.clone(), &test::exited(0).with_stdout(printed)).expect_err("refused");
        assert_eq!(failure.code, Code::ParseFailed);
        assert!(failure.message.contains(reason), "{failure}");
    }
    let mut cut = out;
    cut.stdout_truncated = true;
    assert_eq!(test::interpret::<Copy>(args, &cut).expect_err("refused").code, Code::ParseFailed);
}

#[test]
fn every_end_has_words() {
    for (out, words) in [
        (test::exited(0).with_stderr("warning\n"), "exited with 0"),
        (test::exited(3).with_stderr("a\n\u{1b}[31mb\n\n"), "exited with 3:  [31mb"),
        (test::ended(End::TimedOut), "timed out"),
        (test::ended(End::Cancelled), "cancelled"),
        (test::ended(End::Interrupted), "interrupted"),
        (test::ended(End::Exited), "ended by signal 9"),
    ] {
        assert_eq!(out.ending(), words);
    }
}
