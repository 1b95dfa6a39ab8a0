//! Gate 8 for a rule: every example is played turn by turn, twice, and must find what is written there.

use std::collections::BTreeMap;

use plan::rule::{COURSE_BEGAN_MS, Course, Turn};
use ports::rules::{Batch, State, Verdict};
use serde_json::Value;

use super::{No, operator};
use crate::abi::{Circumstances, Tighter};
use crate::build::Build;
use crate::engine::Sandbox;
use crate::evaluate::evaluate;
use crate::refusal::Code;

/// The agent of every course.
const AGENT: &str = "web-1";

/// What stands after one turn: key by key, how bad.
pub(crate) type Found = BTreeMap<String, String>;

/// Gate 8: every example, under the configuration the course says.
pub(super) fn examples(sandbox: &Sandbox, build: &Build) -> Result<(), No> {
    for (index, course) in build.manifest.rule.iter().flat_map(|rule| &rule.examples).enumerate() {
        let told = |(code, cause): No| (code, format!("example {}: {cause}", index + 1));
        let first = play(sandbox, build, course).map_err(told)?.stands;
        if play(sandbox, build, course).map_err(told)?.stands != first {
            return Err(told((Code::ExampleUnstable, "two judgements of the same course differ".into())));
        }
        for (turn, found) in course.turns.iter().zip(&first) {
            if turn.found != *found {
                let (at, wanted) = (turn.at_s, shown(&turn.found));
                let cause = format!("at {at} s it finds {}, and the example says {wanted}", shown(found));
                return Err(told((Code::ExampleFindings, cause)));
            }
        }
    }
    Ok(())
}

/// A course that was played.
pub(crate) struct Played {
    /// JSON text.
    pub(crate) config: String,
    /// What the rule was asked, turn by turn.
    pub(crate) calls: Vec<(Circumstances, Batch)>,
    /// What stands after each turn.
    pub(crate) stands: Vec<Found>,
}

/// Plays `course` turn by turn, each with what the rule wanted kept at the one before.
pub(crate) fn play(sandbox: &Sandbox, build: &Build, course: &Course) -> Result<Played, No> {
    let version = build.manifest.rule.as_ref().map_or(1, |rule| rule.state_version);
    let config = config(build, course)?;
    let (mut state, mut stands) = (None, Found::new());
    let (mut calls, mut turns) = (Vec::new(), Vec::new());
    for turn in &course.turns {
        let now_ms = COURSE_BEGAN_MS + turn.at_s * 1000;
        let circumstances =
            Circumstances { now_ms, unhurried: true, tighter: Tighter::default(), state_version: version };
        let batch = batch(turn, state.take());
        calls.push((circumstances, batch.clone()));
        let judged = evaluate(sandbox, build, circumstances, &config, batch);
        let failed =
            |cause: String| (Code::ExampleFindings, judged.log.explain(format!("at {} s: {cause}", turn.at_s)));
        let answers = judged.answer.as_ref().map_err(|fault| failed(format!("`evaluate` {fault}")))?;
        let Some(Ok(Verdict { judged: is_judged, findings, state: next })) = answers.first() else {
            let why = answers.first().and_then(|answer| answer.as_ref().err()).map_or("no answer", String::as_str);
            return Err(failed(format!("nothing is said of the agent: {why}")));
        };
        if *is_judged {
            stands = findings.iter().map(|found| (found.key.clone(), found.seen.as_str().to_owned())).collect();
        }
        state.clone_from(next);
        turns.push(stands.clone());
    }
    Ok(Played { config, calls, stands: turns })
}

/// The course's configuration over the defaults; JSON text.
fn config(build: &Build, course: &Course) -> Result<String, No> {
    let config = operator::with_defaults(build, Value::Object(course.config.clone()));
    let refused = |told: String| (Code::ExampleFindings, format!("its configuration is refused: {told}"));
    match &build.config_schema {
        Some(schema) => schema.check(&config).map_err(|violations| {
            let told: Vec<String> = violations.iter().map(|v| format!("`{}`: {}", v.pointer, v.message)).collect();
            refused(told.join("; "))
        })?,
        None if !course.config.is_empty() => return Err(refused("the rule takes none".into())),
        None => {}
    }
    Ok(config.to_string())
}

fn batch(turn: &Turn, state: Option<State>) -> Batch {
    let mut batch = Batch::default();
    let heard = turn.heard_s.unwrap_or(turn.at_s);
    batch.subject(AGENT, &turn.status, COURSE_BEGAN_MS + heard * 1000, state);
    if let Some(readings) = &turn.readings {
        batch.sample(COURSE_BEGAN_MS + turn.at_s * 1000);
        for reading in readings {
            let series = batch.series(&reading.metric, &reading.label, &reading.word);
            batch.reading(series, reading.value);
        }
    }
    batch
}

fn shown(found: &Found) -> String {
    if found.is_empty() {
        return "nothing".to_owned();
    }
    let told: Vec<String> = found.iter().map(|(key, word)| format!("`{key}` {word}")).collect();
    told.join(", ")
}
