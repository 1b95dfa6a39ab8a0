//! A rule asked as a host asks it, and what that takes: for each of its examples, and for a fleet at once.

use std::time::{Duration, Instant};

use plan::rule::Course;
use ports::rules::{Answer, Batch, MAX_BATCH_BYTES, Subject};
use serde_json::Value;

use super::bench::Metered;
use super::{Loaded, ToolError, on_deep_stack};
use crate::abi::{Circumstances, Cost, Tighter};
use crate::evaluate::evaluate;
use crate::gates::course::{self, Played};
use crate::gates::operator;
use crate::guest::LogLine;

/// What one call of `evaluate` answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// One answer for each agent; or how the call failed.
    pub answers: Result<Vec<Answer>, String>,
    /// Whether the plugin is to blame: it trapped, overran a limit, or answered what it must not.
    pub faulty: bool,
    /// What the guest logged meanwhile.
    pub log: Vec<LogLine>,
}

/// Agents of a fleet. One call may have ten times as many, which a busy machine does not judge in time when something
/// is wrong with most of them, as in examples there is.
const FLEET: usize = 1_000;

/// One call of `evaluate`.
type Call = (Circumstances, Batch);

/// Many agents, each as in one turn of an example, to be judged in one call.
#[derive(Clone, Debug)]
pub struct Fleet {
    config: String,
    call: Call,
}

impl Fleet {
    /// How many they are.
    pub fn agents(&self) -> usize {
        self.call.1.subjects.len()
    }
}

impl Loaded {
    /// Asks the rule once, under `config` (its default configuration when absent), at `now_ms`.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub fn judge(&self, config: Option<&Value>, now_ms: u64, batch: Batch) -> Result<Judged, ToolError> {
        let state_version = self.build.manifest.rule.as_ref().map_or(1, |rule| rule.state_version);
        let circumstances = Circumstances { now_ms, unhurried: true, tighter: Tighter::default(), state_version };
        let config = config.map_or_else(|| operator::default_config(&self.build), Value::to_string);
        on_deep_stack(|| {
            let judged = evaluate(self.gates.sandbox(), &self.build, circumstances, &config, batch);
            let answers = judged.answer.map_err(|fault| fault.to_string());
            Ok(Judged { answers, faulty: judged.health.is_fault(), log: judged.log.lines })
        })
    }

    /// `config` with the defaults of what it does not say, if a host would take that.
    pub fn config(&self, config: Value) -> Option<Value> {
        let whole = operator::with_defaults(&self.build, config);
        self.build.config_schema.as_ref().filter(|schema| schema.check(&whole).is_ok()).map(|_| whole)
    }

    /// How long calls of `evaluate` take in a course of events, `rounds` of each turn's, each in a fresh guest; sorted.
    ///
    /// # Errors
    /// When the course cannot be played.
    pub fn time_course(&self, course: &Course, rounds: usize) -> Result<Vec<Duration>, ToolError> {
        let Played { config, calls, .. } = self.played(course)?;
        self.time_judging(&config, &calls, rounds)
    }

    /// A thousand agents in which the turns of `course` go round, fewer where they have much to say; none of a course
    /// without turns.
    ///
    /// # Errors
    /// When the course cannot be played.
    pub fn fleet(&self, course: &Course) -> Result<Option<Fleet>, ToolError> {
        let Played { config, calls, .. } = self.played(course)?;
        let Some((circumstances, _)) = calls.last() else { return Ok(None) };
        let mut batch = Batch::default();
        for (number, (_, turn)) in calls.iter().cycle().take(FLEET).enumerate() {
            join(&mut batch, &format!("web-{number}"), turn);
            if number % 100 == 0 && batch.weight() > MAX_BATCH_BYTES / 2 {
                break;
            }
        }
        Ok(Some(Fleet { config, call: (*circumstances, batch) }))
    }

    /// How long it takes to judge `fleet` in one call, `rounds` times; sorted.
    ///
    /// # Errors
    /// When the rule faults.
    pub fn time_fleet(&self, fleet: &Fleet, rounds: usize) -> Result<Vec<Duration>, ToolError> {
        self.time_judging(&fleet.config, std::slice::from_ref(&fleet.call), rounds)
    }

    fn time_judging(&self, config: &str, calls: &[Call], rounds: usize) -> Result<Vec<Duration>, ToolError> {
        on_deep_stack(|| {
            let mut times = Vec::with_capacity(calls.len() * rounds);
            for (circumstances, batch) in calls.iter().cycle().take(calls.len() * rounds) {
                let batch = batch.clone();
                let began = Instant::now();
                let judged = evaluate(self.gates.sandbox(), &self.build, *circumstances, config, batch);
                times.push(began.elapsed());
                judged.answer.map_err(|fault| ToolError::Thread(fault.to_string()))?;
            }
            times.sort();
            Ok(times)
        })
    }

    fn played(&self, course: &Course) -> Result<Played, ToolError> {
        on_deep_stack(|| {
            let played = course::play(self.gates.sandbox(), &self.build, course);
            Ok(played.map_err(|(code, cause)| code.refuse(cause, self.digest()))?)
        })
    }
}

impl Metered {
    /// What all turns of `course` take together, and the most memory of any.
    ///
    /// # Errors
    /// When the course cannot be played.
    pub fn course(&self, course: &Course) -> Result<Cost, ToolError> {
        let Played { config, calls, .. } = self.0.played(course)?;
        self.judging(&config, &calls)
    }

    /// What it takes to judge `fleet` in one call.
    ///
    /// # Errors
    /// When the rule faults.
    pub fn fleet(&self, fleet: &Fleet) -> Result<Cost, ToolError> {
        self.judging(&fleet.config, std::slice::from_ref(&fleet.call))
    }

    fn judging(&self, config: &str, calls: &[Call]) -> Result<Cost, ToolError> {
        let Metered(loaded) = self;
        on_deep_stack(|| {
            let mut whole = Cost::default();
            for (circumstances, batch) in calls {
                let prepared = &loaded.build.prepared;
                let called = prepared.evaluate(loaded.gates.sandbox(), *circumstances, config, batch.clone());
                called.answer.map_err(|fault| ToolError::Thread(fault.to_string()))?;
                whole.fuel += called.cost.fuel;
                whole.memory_bytes = whole.memory_bytes.max(called.cost.memory_bytes);
            }
            Ok(whole)
        })
    }
}

/// Adds the one agent of `turn` to `batch`, under another name.
fn join(batch: &mut Batch, agent: &str, turn: &Batch) {
    let Some(Subject { status, heard_ms, state, .. }) = turn.subjects.first() else { return };
    let word = |index: u32| turn.words.get(index as usize).map_or("", String::as_str);
    batch.subject(agent, word(*status), *heard_ms, state.clone());
    let mut readings = turn.which.iter().zip(&turn.values);
    for (at_ms, count) in &turn.samples {
        batch.sample(*at_ms);
        for (series, value) in readings.by_ref().take(*count as usize) {
            let [metric, label, state] = turn.series.get(*series as usize).copied().unwrap_or_default().map(word);
            let series = batch.series(metric, label, state);
            batch.reading(series, *value);
        }
    }
}

#[cfg(test)]
mod tests {
    use ports::rules::State;

    use super::*;

    #[test]
    fn an_agent_joins_a_fleet_with_all_that_was_measured() {
        let mut turn = Batch::default();
        turn.subject("web-1", "degraded", 7, Some(State { version: 2, text: "{}".into() }));
        for (at_ms, value) in [(5, 1.0), (6, 2.0)] {
            turn.sample(at_ms);
            for label in ["/", "/srv"] {
                let series = turn.series("disk.used_pct", label, "");
                turn.reading(series, value);
            }
        }
        let mut fleet = Batch::default();
        join(&mut fleet, "web-7", &turn);
        join(&mut fleet, "web-8", &turn);
        assert_eq!(fleet.samples, [&turn.samples[..], &turn.samples[..]].concat());
        assert_eq!(fleet.values, [&turn.values[..], &turn.values[..]].concat());
        assert_eq!((fleet.series.len(), &fleet.subjects[1].agent), (2, &"web-8".to_owned()));
        assert_eq!(fleet.subjects[1].state, turn.subjects[0].state);
    }
}
