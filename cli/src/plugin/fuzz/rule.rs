//! A rule is asked about agents that nobody has seen yet, look after look, with what it wanted kept in between.
//!
//! It must not trap, must answer equal questions with equal bytes, and must answer what a host can use: as many answers
//! as there are agents, each key once, no more kept than a host keeps.

use plan::rule::RuleManifest;
use ports::rules::{Answer, State, Verdict};
use runtime::tool::{Judged, Loaded};
use serde_json::{Value, json};

use super::arguments::{Chance, arguments};
use super::samples::{Look, Maker};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{count, escape};

/// Most looks of one case.
const LOOKS: usize = 6;

/// What came of all cases.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Agents of which something was said.
    pub(super) judged: u64,
    /// Agents of which nothing could be said, for want of a sample.
    pub(super) silent: u64,
    /// Agents that the rule refused to judge.
    pub(super) refused: u64,
    /// Things found wrong.
    pub(super) found: u64,
}

/// A case that went wrong: what was asked, and what is wrong with the answer.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) asked: Value,
    pub(super) what: String,
}

/// Plays the case of `seed`, each look twice. What is wrong with it, if anything is.
pub(super) fn play(
    loaded: &Loaded,
    rule: &RuleManifest,
    seed: u64,
    tally: &mut Tally,
) -> Result<Option<Trouble>, Failure> {
    let mut chance = Chance::new(seed);
    let config = config(loaded, &mut chance);
    let mut maker = Maker::new(rule, &mut chance);
    let mut states: Vec<Option<State>> = Vec::new();
    for _ in 0..1 + chance.below(LOOKS) {
        let look = maker.look(&states, &mut chance);
        let asked = || {
            let judged = loaded.judge(config.as_ref(), look.now_ms, look.batch());
            judged.map_err(|error| Failure::new(Exit::Error, escape::line(&error.to_string())))
        };
        let (first, second) = (asked()?, asked()?);
        let trouble = |what: String| Trouble { asked: shown(config.as_ref(), &look), what };
        if first.answers != second.answers {
            return Ok(Some(trouble("two judgements of equal samples differ".to_owned())));
        }
        let Judged { answers, faulty, .. } = first;
        let answers = match answers {
            Err(fault) => return Ok(Some(trouble(format!("`evaluate` {fault}")))),
            Ok(answers) if faulty => {
                let told: Vec<String> = answers.into_iter().filter_map(Result::err).collect();
                return Ok(Some(trouble(format!("an answer is of no use: {}", told.join("; ")))));
            }
            Ok(answers) => answers,
        };
        answers.iter().for_each(|answer| tally.count(answer));
        // Of whom nothing was said, what was kept stays.
        let before = look.agents.into_iter().map(|agent| agent.state);
        let kept = |(answer, before): (Answer, Option<State>)| answer.map_or(before, |verdict| verdict.state);
        states = answers.into_iter().zip(before).map(kept).collect();
    }
    Ok(None)
}

/// A configuration that a host would take; the default one every other time.
fn config(loaded: &Loaded, chance: &mut Chance) -> Option<Value> {
    let schema = loaded.manifest().config_schema.as_ref().filter(|_| chance.one_in(2))?;
    loaded.config(arguments(schema, &[json!({})], chance))
}

fn shown(config: Option<&Value>, look: &Look) -> Value {
    let mut shown = look.shown();
    if let Some(config) = config {
        shown["config"] = config.clone();
    }
    shown
}

impl Tally {
    fn count(&mut self, answer: &Answer) {
        match answer {
            Err(_) => self.refused += 1,
            Ok(Verdict { judged: false, .. }) => self.silent += 1,
            Ok(Verdict { judged: true, findings, .. }) => {
                self.judged += 1;
                self.found += findings.len() as u64;
            }
        }
    }

    /// As a script reads it.
    pub(super) fn answer(&self) -> Value {
        let Tally { judged, silent, refused, found } = self;
        json!({ "judged": judged, "silent": silent, "refused": refused, "found": found })
    }

    /// As a person reads it.
    pub(super) fn line(&self) -> String {
        let Tally { judged, silent, refused, found } = self;
        let found = count::of(*found, "finding", "findings");
        format!("{judged} judged, {silent} without a sample, {refused} refused; {found}")
    }
}
