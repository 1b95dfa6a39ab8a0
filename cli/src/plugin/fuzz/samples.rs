//! What agents could have measured, made from what a rule reads by a seed: some as in its examples, some as never.
//!
//! Invariant: the same seed gives the same agents, on every machine and in every later version. Only what a host
//! would pass on is made: metrics that the rule reads, numbers that are numbers, samples oldest first.

use plan::rule::{COURSE_BEGAN_MS, Reading, RuleManifest};
use ports::rules::{Batch, State};
use serde_json::{Value, json};

use super::arguments::{Chance, TEXTS};

/// Words that hosts say of agents, and one that they may come to say.
const STATUSES: &[&str] = &["online", "online", "online", "degraded", "offline", "maintenance", "hibernating"];
/// What a rule of another version, or another rule of its name, might have had a host keep.
const LEFT_BEHIND: &[&str] = &[
    "",
    "{}",
    "[]",
    "null",
    "7",
    "{\"marks\":{\"\":[2,1,1]}}",
    "{\"marks\":[[[[",
    "{\"memory\":{\"n\":-1e308}}",
    "\u{202e}",
];
/// Numbers at which comparing, rounding and printing go wrong.
const NUMBERS: &[f64] =
    &[0.0, -0.0, 1.0, -1.0, 79.999_999, 80.0, 95.0, 100.0, 100.000_1, 1e-300, 1e300, f64::MAX, f64::MIN];

/// One look at a few agents.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) now_ms: u64,
    pub(super) agents: Vec<Subject>,
}

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    name: String,
    status: &'static str,
    heard_ms: u64,
    samples: Vec<(u64, Vec<Reading>)>,
    pub(super) state: Option<State>,
}

/// Makes looks, one after the other, at the same agents.
pub(super) struct Maker<'a> {
    rule: &'a RuleManifest,
    names: Vec<String>,
    now_ms: u64,
}

impl<'a> Maker<'a> {
    pub(super) fn new(rule: &'a RuleManifest, chance: &mut Chance) -> Maker<'a> {
        let name = |number: usize, chance: &mut Chance| match chance.one_in(2) {
            true => format!("web-{number}"),
            false => TEXTS[chance.below(TEXTS.len())].to_owned(),
        };
        let names = (0..1 + chance.below(4)).map(|number| name(number, chance)).collect();
        Maker { rule, names, now_ms: COURSE_BEGAN_MS }
    }

    /// The next look; `states` is what the rule wanted kept, agent by agent.
    pub(super) fn look(&mut self, states: &[Option<State>], chance: &mut Chance) -> Look {
        self.now_ms = match chance.below(8) {
            // A clock that was set back, a host that was away for a week, two looks at once.
            0 => self.now_ms.saturating_sub(3_600_000),
            1 => self.now_ms + 7 * 86_400_000,
            2 => self.now_ms,
            _ => self.now_ms + 30_000,
        };
        let now_ms = self.now_ms;
        let agents = (0..self.names.len()).map(|at| self.subject(at, states.get(at).cloned().flatten(), chance));
        Look { now_ms, agents: agents.collect() }
    }

    fn subject(&self, at: usize, kept: Option<State>, chance: &mut Chance) -> Subject {
        let heard_ms = match chance.below(6) {
            0 => 0,
            1 => self.now_ms + 60_000,
            2 => self.now_ms.saturating_sub(600_000),
            _ => self.now_ms.saturating_sub(1_000),
        };
        let state = match chance.below(8) {
            0 => None,
            1 => {
                let text = LEFT_BEHIND[chance.below(LEFT_BEHIND.len())].to_owned();
                Some(State { version: self.rule.state_version.saturating_add(u32::from(chance.one_in(2))), text })
            }
            _ => kept,
        };
        let count = [1, 1, 1, 0, 2, 3][chance.below(6)];
        let mut samples: Vec<(u64, Vec<Reading>)> = (0..count)
            .map(|_| (self.now_ms.saturating_sub(chance.below(120_000) as u64), self.readings(chance)))
            .collect();
        samples.sort_by_key(|(at_ms, _)| *at_ms);
        let status = STATUSES[chance.below(STATUSES.len())];
        Subject { name: self.names[at].clone(), status, heard_ms, samples, state }
    }

    /// What one sample says: as in an example half of the time, each number perhaps another.
    fn readings(&self, chance: &mut Chance) -> Vec<Reading> {
        let turns = self.rule.examples.iter().flat_map(|course| &course.turns);
        let known: Vec<&Vec<Reading>> = turns.filter_map(|turn| turn.readings.as_ref()).collect();
        let mut readings: Vec<Reading> = match chance.one_in(2) && !known.is_empty() {
            true => known[chance.below(known.len())].clone(),
            false => (0..chance.below(6)).filter_map(|_| self.reading(&known, chance)).collect(),
        };
        // What the rule does not read, a host does not pass on.
        readings.retain(|reading| self.rule.reads.contains(&reading.metric));
        for reading in &mut readings {
            if chance.one_in(2) {
                reading.value = number(chance);
            }
        }
        readings
    }

    fn reading(&self, known: &[&Vec<Reading>], chance: &mut Chance) -> Option<Reading> {
        let reads = &self.rule.reads;
        let metric = reads.get(chance.below(reads.len().max(1)))?.clone();
        let like: Vec<&Reading> = known.iter().copied().flatten().filter(|reading| reading.metric == metric).collect();
        let text = |chance: &mut Chance| TEXTS[chance.below(TEXTS.len())].to_owned();
        let (label, word) = match like.as_slice() {
            [] => (String::new(), String::new()),
            all => (all[chance.below(all.len())].label.clone(), all[chance.below(all.len())].word.clone()),
        };
        let label = if chance.one_in(3) { text(chance) } else { label };
        let word = if chance.one_in(6) { text(chance) } else { word };
        Some(Reading { metric, label, word, value: number(chance) })
    }
}

fn number(chance: &mut Chance) -> f64 {
    match chance.below(3) {
        0 => NUMBERS[chance.below(NUMBERS.len())],
        // Most are per cent.
        _ => u32::try_from(chance.below(1_001)).map_or(0.0, f64::from) / 10.0,
    }
}

impl Look {
    /// As a host would pass it on.
    pub(super) fn batch(&self) -> Batch {
        let mut batch = Batch::default();
        for Subject { name, status, heard_ms, samples, state } in &self.agents {
            batch.subject(name.clone(), status, *heard_ms, state.clone());
            for (at_ms, readings) in samples {
                batch.sample(*at_ms);
                for Reading { metric, label, word, value } in readings {
                    let series = batch.series(metric, label, word);
                    batch.reading(series, *value);
                }
            }
        }
        batch
    }

    /// For people.
    pub(super) fn shown(&self) -> Value {
        let agents = self.agents.iter().map(|Subject { name, status, heard_ms, samples, state }| {
            let samples: Vec<Value> =
                samples.iter().map(|(at_ms, readings)| json!({ "at_ms": at_ms, "readings": readings })).collect();
            let state = state.as_ref().map(|State { version, text }| json!({ "version": version, "text": text }));
            json!({ "agent": name, "status": status, "heard_ms": heard_ms, "samples": samples, "state": state })
        });
        json!({ "now_ms": self.now_ms, "agents": agents.collect::<Vec<Value>>() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> RuleManifest {
        let turns = json!([{ "at_s": 0, "readings": [
            { "metric": "disk.used_pct", "label": "/srv", "value": 96 }, { "metric": "load.1", "value": 2 },
        ] }]);
        let manifest = json!({ "reads": ["disk.used_pct"], "examples": [{ "turns": turns }] });
        serde_json::from_value(manifest).expect("a rule")
    }

    fn looks(seed: u64) -> Vec<Look> {
        let (rule, mut chance) = (rule(), Chance::new(seed));
        let mut maker = Maker::new(&rule, &mut chance);
        (0..4).map(|_| maker.look(&[], &mut chance)).collect()
    }

    #[test]
    fn a_seed_gives_the_same_agents_for_ever() {
        let shown = |seed| looks(seed).iter().map(Look::shown).collect::<Vec<Value>>();
        assert_eq!(shown(7), shown(7));
        assert_ne!(shown(7), shown(8));
    }

    #[test]
    fn only_what_a_host_passes_on_is_made() {
        let (mut silent, mut known, mut strange) = (0, 0, 0);
        for look in (0..200).flat_map(looks) {
            for Subject { samples, .. } in &look.agents {
                silent += usize::from(samples.is_empty());
                assert!(samples.is_sorted_by_key(|(at_ms, _)| *at_ms));
                for reading in samples.iter().flat_map(|(_, readings)| readings) {
                    assert!(reading.metric == "disk.used_pct" && reading.value.is_finite(), "{reading:?}");
                    if reading.label == "/srv" { known += 1 } else { strange += 1 }
                }
            }
            assert_eq!(look.batch().subjects.len(), look.agents.len());
        }
        assert!(silent > 50 && known > 500 && strange > 100, "{silent} {known} {strange}");
    }
}
