//! Courses of events, played natively as a host plays a rule's examples.

use std::collections::BTreeMap;

use plan::golden::Played;
use plan::rule::{COURSE_BEGAN_MS, Course, MAX_STATE_BYTES, Turn};
use serde_json::{Map, Value};

use super::violations;
use crate::rule::{Batch, Entrant, Entry, Finding, Judgement, Rule, Sampled, Series};
use crate::text::text_of;

/// Plays a course of events, and holds what is found in each turn against what is written there.
///
/// # Panics
/// When it is no course, or something else is found; and with what a host would not accept.
///
/// ```
/// use viworks_sdk::prelude::*;
///
/// /// When a machine swaps.
/// #[derive(Args)]
/// struct Swap {
///     /// It warns from here on.
///     #[arg(default = 50.0)]
///     warning: f64,
/// }
/// # #[rule(reads("swap.used_pct"), example = json!({ "turns": [{ "at_s": 0, "readings": [] }] }))]
/// # impl Rule for Swap {
/// #     fn judge(&self, agent: &Agent, watch: &mut Watch) -> Result<()> {
/// #         for reading in agent.readings("swap.used_pct") {
/// #             watch.above(&reading, &Levels::new(self.warning, 90.0));
/// #         }
/// #         Ok(())
/// #     }
/// # }
/// let turns = viworks_sdk::test::course::<Swap>(json!({ "config": { "warning": 10 }, "turns": [
///     { "at_s": 0, "readings": [{ "metric": "swap.used_pct", "value": 5 }] },
///     { "at_s": 30, "readings": [{ "metric": "swap.used_pct", "value": 12.5 }], "found": { "": "warning" } },
/// ] }));
/// assert_eq!(turns[1][0].message, "swap.used_pct is 12.5");
/// ```
pub fn course<R: Rule>(course: Value) -> Vec<Vec<Finding>> {
    let course: Course = match serde_json::from_value(course) {
        Ok(course) => course,
        Err(error) => panic!("this is no course of events: {error}"),
    };
    let turns = play(&Entry::of::<R>(), &course);
    hold(&course, &turns, "the course");
    turns.into_iter().map(|turn| turn.findings).collect()
}

/// What stands after one turn.
pub(super) struct Stands {
    findings: Vec<Finding>,
}

impl Stands {
    /// Key by key, how bad.
    fn found(&self) -> BTreeMap<String, String> {
        self.findings.iter().map(|found| (found.key.clone(), found.severity.as_str().to_owned())).collect()
    }
}

/// What stands after each turn.
pub(super) fn play(rule: &Entry, course: &Course) -> Vec<Stands> {
    let config = config(rule, &course.config);
    let (mut state, mut findings, mut turns) = (None, Vec::new(), Vec::new());
    for turn in &course.turns {
        let batch = batch(turn, state.take(), rule.manifest().state_version);
        let now = COURSE_BEGAN_MS + turn.at_s * 1000;
        let first = rule.judge(&config, now, &batch);
        assert_eq!(first, rule.judge(&config, now, &batch), "two judgements of the same differ");
        let answer = first.into_iter().next().unwrap_or_else(|| panic!("no answer at {} s", turn.at_s));
        let Judgement { judged, findings: told, state: next } =
            answer.unwrap_or_else(|why| panic!("nothing is said of the agent at {} s: {why}", turn.at_s));
        let size = next.as_ref().map_or(0, String::len);
        assert!(size <= MAX_STATE_BYTES, "{size} bytes to keep at {} s; at most {MAX_STATE_BYTES}", turn.at_s);
        if judged {
            findings = told;
        }
        state = next;
        turns.push(Stands { findings: findings.clone() });
    }
    turns
}

/// Holds what stands after each turn against what is written there.
pub(super) fn hold(course: &Course, turns: &[Stands], name: &str) {
    for (turn, stands) in course.turns.iter().zip(turns) {
        assert_eq!(stands.found(), turn.found, "{name}: what is found at {} s", turn.at_s);
    }
}

/// As `viworks plugin test` reads it.
pub(super) fn played(file: &str, turns: &[Stands]) -> Played {
    let found: Vec<BTreeMap<String, String>> = turns.iter().map(Stands::found).collect();
    let result = serde_json::to_value(found).expect("keys are text");
    Played { file: file.to_owned(), result: Some(result), ..Played::default() }
}

/// What the course says, over the defaults; JSON text.
fn config(rule: &Entry, said: &Map<String, Value>) -> String {
    let schema = rule.config_schema();
    let mut config = said.clone();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(default) = property.get("default") {
            config.entry(name).or_insert_with(|| default.clone());
        }
    }
    let config = Value::Object(config);
    let issues = violations(&schema, &config);
    assert!(issues.is_empty(), "the course's configuration is refused: {issues:?}");
    text_of(&config)
}

/// One agent in one turn.
fn batch(turn: &Turn, state: Option<String>, version: u32) -> Batch {
    let mut batch = Batch::default();
    let word = |text: &str, words: &mut Vec<String>| {
        words.push(text.to_owned());
        words.len() as u32 - 1
    };
    let status = word(&turn.status, &mut batch.words);
    for reading in turn.readings.iter().flatten() {
        let [metric, label, says] =
            [&reading.metric, &reading.label, &reading.word].map(|text| word(text, &mut batch.words));
        batch.which.push(batch.series.len() as u32);
        batch.series.push(Series { metric, label, word: says });
        batch.values.push(reading.value);
    }
    if turn.readings.is_some() {
        batch.samples.push(Sampled { at_ms: COURSE_BEGAN_MS + turn.at_s * 1000, readings: batch.which.len() as u32 });
    }
    batch.entries.push(Entrant {
        agent: "web-1".to_owned(),
        status,
        heard_ms: COURSE_BEGAN_MS + turn.heard_s.unwrap_or(turn.at_s) * 1000,
        samples: batch.samples.len() as u32,
        state_version: if state.is_some() { version } else { 0 },
        state,
    });
    batch
}
