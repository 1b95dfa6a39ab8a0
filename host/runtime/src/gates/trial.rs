//! Gates 7 and 8: the component is run for the first time. It must say of itself what its stamp says,
//! and every example in its manifest must work, twice alike.

use domain::verb::Profile;
use plan::manifest::{Example, Golden};
use plan::outcome::{End, Outcome, StepEnd, StreamEnd};
use plan::step::Plan;
use ports::plugins::{Interpretation, Outputs, PlanError};
use serde_json::Value;

use super::{No, operator};
use crate::abi::CallContext;
use crate::build::{Build, VerbBuild};
use crate::engine::Sandbox;
use crate::execute::{self, Executed};
use crate::refusal::Code;

/// Gate 7: `describe` equals the section.
pub(super) fn describe(sandbox: &Sandbox, build: &Build, section: &[u8]) -> Result<(), No> {
    let called = build.prepared.describe(sandbox);
    let failed = |fault| (Code::DescribeFailed, called.log.explain(format!("`describe` {fault}")));
    let said = called.answer.map_err(failed)?;
    let said: Value = serde_json::from_str(&said)
        .map_err(|error| (Code::DescribeFailed, format!("`describe` answers no JSON: {error}")))?;
    let stamped: Value =
        serde_json::from_slice(section).map_err(|error| (Code::ManifestMalformed, format!("manifest: {error}")))?;
    match difference(&stamped, &said, String::new()) {
        None => Ok(()),
        Some(pointer) => {
            Err((Code::DescribeDiffers, format!("`describe` and the stamped manifest differ at `{pointer}`")))
        }
    }
}

/// Where two values differ first; `None` when they are equal.
fn difference(left: &Value, right: &Value, at: String) -> Option<String> {
    if left == right {
        return None;
    }
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            let keys = left.keys().chain(right.keys().filter(|key| !left.contains_key(*key)));
            for key in keys {
                let here = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
                match (left.get(key), right.get(key)) {
                    (Some(left), Some(right)) => {
                        if let Some(found) = difference(left, right, here) {
                            return Some(found);
                        }
                    }
                    (_, _) => return Some(here),
                }
            }
            Some(at)
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            let mut pairs = left.iter().zip(right).enumerate();
            pairs.find_map(|(index, (left, right))| difference(left, right, format!("{at}/{index}")))
        }
        (_, _) => Some(at),
    }
}

/// Gate 8: every example, under the configuration a plugin has by default and the grants it requests.
pub(super) fn examples(sandbox: &Sandbox, build: &Build) -> Result<(), No> {
    for verb in &build.verbs {
        for (index, example) in verb.examples.iter().enumerate() {
            let trial = Trial { sandbox, build, verb, config: operator::default_config(build) };
            trial.run(example).map_err(|(code, cause)| {
                (code, format!("verb `{}`, example {}: {cause}", verb.traits.name, index + 1))
            })?;
        }
    }
    Ok(())
}

/// The machine that examples are planned for.
pub(crate) fn profile() -> Profile {
    Profile {
        os: "linux".into(),
        arch: "x86_64".into(),
        container_engine: Some("docker".into()),
        compose: Some("v2".into()),
    }
}

struct Trial<'a> {
    sandbox: &'a Sandbox,
    build: &'a Build,
    verb: &'a VerbBuild,
    config: String,
}

impl Trial<'_> {
    fn run(&self, example: &Example) -> Result<(), No> {
        let plan = self.plan(example)?;
        if self.plan(example)? != plan {
            return Err((Code::ExampleUnstable, "two plans for equal arguments differ".into()));
        }
        let Some(golden) = &example.golden else { return Ok(()) };
        let Executed { answer: meant, log, .. } = self.interpret(example, golden, plan.steps.len());
        if let Some(fault) = &meant.parse_fault {
            let cause = log.explain(format!("recorded output was not understood: {fault}"));
            return Err((Code::ExampleGolden, cause));
        }
        // A program that failed printed no result, which is recorded as null.
        if let Some(at) = difference(&golden.result, meant.result.as_ref().unwrap_or(&Value::Null), String::new()) {
            return Err((Code::ExampleGolden, format!("recorded output gives another result at `{at}`")));
        }
        if self.interpret(example, golden, plan.steps.len()).answer != meant {
            return Err((Code::ExampleUnstable, "two interpretations of equal output differ".into()));
        }
        Ok(())
    }

    fn plan(&self, example: &Example) -> Result<Plan, No> {
        let grants = &self.build.manifest.grants;
        let planned = execute::plan(self.sandbox, self.build, self.verb, self.context(), grants, &example.args);
        let log = planned.log;
        planned.answer.map_err(|error| match error {
            PlanError::Invalid(violations) => {
                let told: Vec<String> = violations.iter().map(|v| format!("`{}`: {}", v.pointer, v.message)).collect();
                (Code::ExampleArgs, format!("its arguments are refused: {}", told.join("; ")))
            }
            PlanError::Denied { pointer, message } => {
                (Code::ExampleGrant, format!("its plan is denied at `{pointer}`: {message}"))
            }
            PlanError::Failed { message, .. } => (Code::ExamplePlan, log.explain(format!("`plan` {message}"))),
            PlanError::Overloaded => (Code::ExamplePlan, "too many calls wait".into()),
        })
    }

    fn interpret(&self, example: &Example, golden: &Golden, steps: usize) -> Executed<Interpretation> {
        let outputs = recorded(golden, steps);
        execute::interpret(self.sandbox, self.build, self.verb, self.context(), &example.args, outputs)
    }

    fn context(&self) -> CallContext {
        CallContext { unhurried: true, ..execute::context(self.verb, &self.config, &profile()) }
    }
}

/// A recorded answer as if an agent had just sent it: every step but the last exited with 0.
pub(crate) fn recorded(golden: &Golden, steps: usize) -> Outputs {
    let Golden { exit_code, stdout, stderr, result: _ } = golden;
    let bytes = |text: &str| text.len() as u64;
    let mut ends = vec![StepEnd { exit_code: Some(0), ..StepEnd::default() }; steps];
    if let Some(last) = ends.last_mut() {
        *last = StepEnd {
            exit_code: Some(*exit_code),
            stdout_bytes: bytes(stdout),
            stderr_bytes: bytes(stderr),
            ..StepEnd::default()
        };
    }
    let stream = |text: &str| StreamEnd { bytes: bytes(text), head: bytes(text), ..StreamEnd::default() };
    Outputs {
        outcome: Outcome {
            end: End::Exited,
            steps: ends,
            stdout: stream(stdout),
            stderr: stream(stderr),
            duration_ms: 0,
        },
        stdout: stdout.as_bytes().to_vec(),
        stderr: stderr.as_bytes().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_difference_is_pointed_at() {
        let left = json!({ "a": [1, { "b/c": 2 }], "d": 1 });
        let check = |right: Value, expected: Option<&str>| {
            assert_eq!(difference(&left, &right, String::new()).as_deref(), expected);
        };
        check(left.clone(), None);
        check(json!({ "d": 1, "a": [1, { "b/c": 2 }] }), None);
        check(json!({ "a": [1, { "b/c": 3 }], "d": 1 }), Some("/a/1/b~1c"));
        check(json!({ "a": [1], "d": 1 }), Some("/a"));
        check(json!({ "a": [1, { "b/c": 2 }] }), Some("/d"));
        check(json!(1), Some(""));
    }
}
