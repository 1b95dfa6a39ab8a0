//! One golden case of a plugin, a file of `tests/golden/*.json`: arguments, what a machine answered, and
//! what the plugin made of both. The SDK's test kit plays it natively and `viworks plugin test` in the
//! sandbox; both read and judge it with what is here.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::outcome::StepEnd;
use crate::rule::Course;

/// Where a project keeps its cases, from its own folder.
pub const FOLDER: &str = "tests/golden";
/// Names a file that the test kit appends one [`Played`] a line to, instead of judging.
pub const REPORT: &str = "VIWORKS_GOLDEN_REPORT";
/// Most lines of a difference that are shown.
const MAX_LINES: usize = 40;
/// Most characters of one value in a difference.
const MAX_SHOWN: usize = 200;

/// One case. Fields it does not know are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Which of the plugin's verbs.
    pub verb: String,
    /// Its arguments.
    pub args: Value,
    /// The machine it is planned for; a Linux machine with Docker and compose v2 when absent.
    #[serde(default, skip_serializing_if = "Machine::is_default")]
    pub profile: Machine,
    /// The plan that must come out; absent until it is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Value>,
    /// What a machine answered; absent when only the plan is of interest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Recorded>,
    /// What the outputs must mean: `{succeeded, summary, value}`, or `{unread}` with the reason when they
    /// cannot be read; absent until it is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
}

/// The kind of machine a case is planned for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// e.g. `linux`.
    pub os: String,
    /// e.g. `x86_64`.
    pub arch: String,
    /// e.g. `docker`; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_engine: Option<String>,
    /// `v1` or `v2`; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compose: Option<String>,
}

impl Default for Machine {
    fn default() -> Machine {
        Machine {
            os: "linux".into(),
            arch: "x86_64".into(),
            container_engine: Some("docker".into()),
            compose: Some("v2".into()),
        }
    }
}

impl Machine {
    fn is_default(&self) -> bool {
        *self == Machine::default()
    }
}

/// What a machine answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// Why nothing more happened.
    #[serde(default, skip_serializing_if = "Ended::is_exited")]
    pub end: Ended,
    /// How each step that was started ended, e.g. `[{"exit_code": 0}]`.
    pub steps: Vec<RecordedStep>,
    /// Standard output of all steps.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stdout: String,
    /// Standard error of all steps.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stderr: String,
    /// Whether something in the middle of standard output is missing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stdout_truncated: bool,
    /// Whether something in the middle of standard error is missing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stderr_truncated: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// How one step ended; what is not written down is none, or nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedStep {
    /// Exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// From spawn to exit, in milliseconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub duration_ms: u64,
    /// Bytes of standard output that are this step's.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stdout_bytes: u64,
    /// Bytes of standard error that are this step's.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stderr_bytes: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Why nothing more happened in a recorded attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Every step ran, or one ended other than with 0.
    #[default]
    Exited,
    /// Killed at the run timeout.
    TimedOut,
    /// Killed because of a cancel.
    Cancelled,
    /// The agent or the machine died meanwhile.
    Interrupted,
}

impl Ended {
    fn is_exited(&self) -> bool {
        *self == Ended::Exited
    }
}

impl Recorded {
    /// The steps; if none says how much it printed, the last one printed everything.
    pub fn steps(&self) -> Vec<StepEnd> {
        let end = |step: &RecordedStep| {
            let RecordedStep { exit_code, signal, duration_ms, stdout_bytes, stderr_bytes } = *step;
            StepEnd { exit_code, signal, duration_ms, stdout_bytes, stderr_bytes }
        };
        let mut steps: Vec<StepEnd> = self.steps.iter().map(end).collect();
        let silent = steps.iter().all(|step| step.stdout_bytes == 0 && step.stderr_bytes == 0);
        if let Some(last) = steps.last_mut().filter(|_| silent) {
            (last.stdout_bytes, last.stderr_bytes) = (self.stdout.len() as u64, self.stderr.len() as u64);
        }
        steps
    }
}

/// What a plugin made of one case.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Played {
    /// The case's file name.
    pub file: String,
    /// The plan.
    pub plan: Option<Value>,
    /// What the outputs mean, as in [`Case::result`].
    pub result: Option<Value>,
    /// Why there is no plan.
    pub refused: Option<String>,
}

/// The judgement of outputs that were read, as a case records it.
pub fn read(succeeded: bool, summary: &str, value: &Value) -> Value {
    json!({ "succeeded": succeeded, "summary": summary, "value": value })
}

/// The judgement of outputs that cannot be read, as a case records it.
pub fn unread(why: &str) -> Value {
    let line: String = why.chars().map(|c| if c.is_control() { ' ' } else { c }).take(512).collect();
    json!({ "unread": line })
}

/// One case from its file's text.
///
/// # Errors
/// Where and why the text is no case.
pub fn parse(text: &str) -> Result<Case, serde_json::Error> {
    serde_json::from_str(text)
}

impl Case {
    /// The text of its file.
    pub fn text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a case has text keys only");
        text.push('\n');
        text
    }

    /// Everything in which `played` is not what is recorded, as lines for a person; none when it is.
    pub fn differences(&self, played: &Played) -> Vec<String> {
        if let Some(why) = &played.refused {
            return vec![format!("the arguments make no plan: {why}")];
        }
        let mut lines = Vec::new();
        for (what, recorded, found) in [("plan", &self.plan, &played.plan), ("result", &self.result, &played.result)] {
            match (recorded, found) {
                (None, None) => {}
                (Some(recorded), Some(found)) => lines.extend(differences(what, recorded, found)),
                (None, Some(_)) => lines.push(format!("no {what} is recorded yet")),
                (Some(_), None) => lines.push(format!("a {what} is recorded, but there are no outputs to read")),
            }
        }
        lines
    }

    /// The case with what came out of it recorded.
    pub fn blessed(&self, played: &Played) -> Case {
        Case { plan: played.plan.clone(), result: played.result.clone(), ..self.clone() }
    }
}

/// A rule's case is a course of events; what it records stands in its turns.
impl Course {
    /// The text of its file.
    pub fn text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a course has text keys only");
        text.push('\n');
        text
    }

    /// Everything in which `played` is not what is recorded, turn by turn; none when it is.
    pub fn differences(&self, played: &Played) -> Vec<String> {
        if let Some(why) = &played.refused {
            return vec![format!("nothing is found out: {why}")];
        }
        let found = self.turns.iter().map(|turn| &turn.found).collect::<Vec<_>>();
        differences("found", &json!(found), played.result.as_ref().unwrap_or(&Value::Null))
    }

    /// The course with what was found recorded.
    pub fn blessed(&self, played: &Played) -> Course {
        let mut course = self.clone();
        let found = played.result.as_ref().and_then(Value::as_array);
        for (turn, found) in course.turns.iter_mut().zip(found.into_iter().flatten()) {
            let said = |(key, word): (&String, &Value)| (key.clone(), word.as_str().unwrap_or_default().to_owned());
            turn.found = found.as_object().into_iter().flatten().map(said).collect();
        }
        course
    }
}

/// Where `recorded` and `found` differ: two lines for each place, `- ` recorded and `+ ` found, under the
/// JSON Pointer that leads there from `what`.
pub fn differences(what: &str, recorded: &Value, found: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    compare(what, Some(recorded), Some(found), &mut lines);
    if lines.len() > MAX_LINES {
        let more = lines.len() - MAX_LINES;
        lines.truncate(MAX_LINES);
        lines.push(format!("… and {more} lines more"));
    }
    lines
}

fn compare(at: &str, recorded: Option<&Value>, found: Option<&Value>, lines: &mut Vec<String>) {
    if recorded == found {
        return;
    }
    match (recorded, found) {
        (Some(Value::Object(recorded)), Some(Value::Object(found))) => {
            let deeper = |key: &String| format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
            let added: Map<_, _> = found.iter().filter(|(key, _)| !recorded.contains_key(*key)).map(owned).collect();
            recorded.iter().for_each(|(key, value)| compare(&deeper(key), Some(value), found.get(key), lines));
            added.iter().for_each(|(key, value)| compare(&deeper(key), None, Some(value), lines));
        }
        (Some(Value::Array(recorded)), Some(Value::Array(found))) => {
            for index in 0..recorded.len().max(found.len()) {
                compare(&format!("{at}/{index}"), recorded.get(index), found.get(index), lines);
            }
        }
        (recorded, found) => {
            lines.extend(recorded.map(|value| format!("- {at}: {}", shown(value))));
            lines.extend(found.map(|value| format!("+ {at}: {}", shown(value))));
        }
    }
}

fn owned((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case() -> Case {
        let text = r#"{ "verb": "disk.df", "args": { "path": "/" }, "outputs": { "steps": [{ "exit_code": 0 }], "stdout": "x\n" } }"#;
        parse(text).expect("a case")
    }

    #[test]
    fn a_case_is_read_strictly_and_written_back() {
        assert_eq!((case().profile, case().plan), (Machine::default(), None));
        assert_eq!(parse(&case().text()).expect("a case"), case());
        // What nobody wrote is not written either.
        assert!(!case().text().contains("profile") && !case().text().contains("duration_ms"), "{}", case().text());
        for (text, part) in [
            (r#"{ "verb": "a.b", "args": {}, "surprise": 1 }"#, "unknown field `surprise`"),
            (r#"{ "verb": "a.b", "args": {}, "profile": { "os": "linux", "arch": "x", "cpu": 1 } }"#, "`cpu`"),
            (r#"{ "verb": "a.b", "args": {}, "outputs": { "steps": [{ "code": 1 }] } }"#, "`code`"),
            (r#"{ "verb": "a.b", "args": {}, "outputs": { "stdout": "" } }"#, "missing field `steps`"),
            (r#"{ "args": {} }"#, "missing field `verb`"),
        ] {
            let refused = parse(text).expect_err("refused").to_string();
            assert!(refused.contains(part), "{text}: {refused}");
        }
    }

    #[test]
    fn the_last_step_printed_what_nobody_else_did() {
        let outputs = case().outputs.expect("outputs");
        assert_eq!(outputs.steps()[0].stdout_bytes, 2);
        let steps = vec![RecordedStep { stdout_bytes: 1, ..RecordedStep::default() }, RecordedStep::default()];
        let printed: Vec<u64> = Recorded { steps, ..outputs }.steps().iter().map(|step| step.stdout_bytes).collect();
        assert_eq!(printed, [1, 0]);
    }

    #[test]
    fn differences_point_at_what_is_other_missing_or_new() {
        let recorded = json!({ "steps": [{ "args": ["-s", "-r"], "a/b": 1 }], "effect": "read" });
        let found = json!({ "steps": [{ "args": ["-s", "-m", "-n"] }], "effect": "read", "locks": [] });
        let expected = [
            "- plan/steps/0/a~1b: 1",
            "- plan/steps/0/args/1: \"-r\"",
            "+ plan/steps/0/args/1: \"-m\"",
            "+ plan/steps/0/args/2: \"-n\"",
            "+ plan/locks: []",
        ];
        assert_eq!(differences("plan", &recorded, &found), expected);
        assert!(differences("plan", &recorded, &recorded).is_empty());
        let long = differences("result", &json!([]), &json!((0..100).collect::<Vec<_>>()));
        assert_eq!((long.len(), long[MAX_LINES].as_str()), (MAX_LINES + 1, "… and 60 lines more"));
    }

    #[test]
    fn a_case_is_judged_by_what_it_records() {
        let played = Played {
            file: "a.json".into(),
            plan: Some(json!({ "steps": [] })),
            result: Some(read(true, "exited with 0", &json!([1]))),
            refused: None,
        };
        assert_eq!(case().differences(&played), ["no plan is recorded yet", "no result is recorded yet"]);
        let blessed = case().blessed(&played);
        assert!(blessed.differences(&played).is_empty());
        let other = Played { result: Some(unread("parse_failed:\nline 1")), ..played.clone() };
        assert_eq!(
            blessed.differences(&other).last().map(String::as_str),
            Some("+ result/unread: \"parse_failed: line 1\"")
        );
        let refused = Played { refused: Some("/path: is missing".into()), ..Played::default() };
        assert_eq!(blessed.differences(&refused), ["the arguments make no plan: /path: is missing"]);
    }
}
