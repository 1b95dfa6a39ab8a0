//! What a rule tells of an agent while it looks at it.

use serde_json::Value;

use super::marks::{Kept, Mark};
use super::{Agent, Finding, Judgement, Levels, Reading, Severity};
use crate::outputs::one_line;
use crate::text::text_of;

/// Most bytes of a line for people.
const MAX_MESSAGE: usize = 512;
/// Most bytes of a key: hosts take no longer one, and none with control characters.
const MAX_KEY: usize = 256;

/// Takes down what is wrong with one agent, and since when.
///
/// ```
/// use viworks_sdk::prelude::*;
///
/// fn look(agent: &Agent, watch: &mut Watch) {
///     for reading in agent.readings("service.state").filter(|reading| reading.word == "failed") {
///         watch.holds(&reading, Severity::Critical, 60, "{label} has failed");
///     }
/// }
/// # let _ = look;
/// ```
#[derive(Debug)]
pub struct Watch<'a> {
    agent: Agent<'a>,
    kept: Kept,
    judged: bool,
    findings: Vec<Finding>,
}

impl<'a> Watch<'a> {
    pub(super) fn over(agent: &Agent<'a>, version: u32) -> Watch<'a> {
        let mut kept = agent.entrant.state.as_deref().map(Kept::read).unwrap_or_default();
        if agent.entrant.state_version != version {
            // Windows are of one form; what the rule itself remembered is not.
            kept.memory.clear();
        }
        Watch { agent: *agent, kept, judged: agent.sampled_ms().is_some(), findings: Vec::new() }
    }

    /// It is wrong for the number to be high.
    ///
    /// ```
    /// # use viworks_sdk::prelude::*;
    /// fn look(agent: &Agent, watch: &mut Watch) {
    ///     for reading in agent.readings("cpu.total") {
    ///         watch.above(&reading, &Levels::new(80.0, 95.0).clear_by(5.0).after(300));
    ///     }
    /// }
    /// # let _ = look;
    /// ```
    pub fn above(&mut self, reading: &Reading<'_>, levels: &Levels) {
        self.look(reading, |held| levels.above(reading.value, held), levels.after_ms, levels.saying);
    }

    /// It is wrong for the number to be low.
    ///
    /// ```
    /// # use viworks_sdk::prelude::*;
    /// fn look(agent: &Agent, watch: &mut Watch) {
    ///     for reading in agent.readings("battery.charge_pct") {
    ///         watch.below(&reading, &Levels::new(20.0, 5.0).clear_by(5.0));
    ///     }
    /// }
    /// # let _ = look;
    /// ```
    pub fn below(&mut self, reading: &Reading<'_>, levels: &Levels) {
        self.look(reading, |held| levels.below(reading.value, held), levels.after_ms, levels.saying);
    }

    /// What the reading says is wrong, whatever its number, once it lasted so many seconds. Call it only while it
    /// is so. Only [`Severity::Critical`] is more than a warning.
    ///
    /// ```
    /// # use viworks_sdk::prelude::*;
    /// fn look(agent: &Agent, watch: &mut Watch) {
    ///     for reading in agent.readings("container.health").filter(|reading| reading.word == "unhealthy") {
    ///         watch.holds(&reading, Severity::Warning, 60, "{label} is unhealthy");
    ///     }
    /// }
    /// # let _ = look;
    /// ```
    pub fn holds(&mut self, reading: &Reading<'_>, severity: Severity, after_s: u64, saying: &str) {
        let level = if severity == Severity::Critical { 2 } else { 1 };
        self.look(reading, |_| level, after_s.saturating_mul(1000), saying);
    }

    /// Something is wrong since a time that is known: no sample says it, and no window is needed.
    ///
    /// ```
    /// # use viworks_sdk::prelude::*;
    /// fn look(agent: &Agent, watch: &mut Watch) {
    ///     watch.judges();
    ///     if agent.is_offline() {
    ///         watch.since("", Severity::Critical, agent.heard_ms(), "nothing is heard of it");
    ///     }
    /// }
    /// # let _ = look;
    /// ```
    pub fn since(&mut self, key: &str, severity: Severity, since_ms: u64, message: &str) {
        self.judged = true;
        self.found(key, severity, since_ms, None, message.to_owned());
    }

    /// What is not told of is well, even if no sample came. Without it, nothing is said of an agent that sent none.
    ///
    /// ```
    /// # use viworks_sdk::prelude::*;
    /// fn look(agent: &Agent, watch: &mut Watch) {
    ///     watch.judges();
    ///     // …by what is known without a sample.
    /// #   let _ = agent;
    /// }
    /// # let _ = look;
    /// ```
    pub fn judges(&mut self) {
        self.judged = true;
    }

    /// What [`remember`](Watch::remember) was given under this name, at an earlier look at this agent.
    ///
    /// ```
    /// # use viworks_sdk::prelude::*;
    /// fn risen(watch: &mut Watch, reading: &viworks_sdk::rule::Reading) -> bool {
    ///     let before = watch.recall(reading.label).and_then(Value::as_f64);
    ///     watch.remember(reading.label, reading.value);
    ///     before.is_some_and(|before| reading.value > before)
    /// }
    /// # let _ = risen;
    /// ```
    pub fn recall(&self, name: &str) -> Option<&Value> {
        self.kept.memory.get(name)
    }

    /// Has the host keep a value for the next look at this agent; `null` is forgotten. All of it is at most 64 KiB.
    ///
    /// ```
    /// # use viworks_sdk::prelude::*;
    /// fn look(watch: &mut Watch) {
    ///     watch.remember("restarts", 3);
    ///     watch.remember("image", Value::Null);
    /// }
    /// # let _ = look;
    /// ```
    pub fn remember(&mut self, name: &str, value: impl Into<Value>) {
        match value.into() {
            Value::Null => _ = self.kept.memory.remove(name),
            value => _ = self.kept.memory.insert(name.to_owned(), value),
        }
    }

    fn look(&mut self, reading: &Reading<'_>, level: impl Fn(u8) -> u8, after_ms: u64, saying: &str) {
        let place = self.kept.marks.iter().position(|(key, _)| key == reading.label);
        let old = place.map(|place| self.kept.marks[place].1);
        let mark = match level(old.map_or(0, |mark| mark.held)) {
            0 => {
                place.map(|place| self.kept.marks.swap_remove(place));
                return;
            }
            level => Mark::next(old, reading.at_ms, level, after_ms),
        };
        match place {
            Some(place) => self.kept.marks[place].1 = mark,
            None => self.kept.marks.push((reading.label.to_owned(), mark)),
        }
        // Only the latest sample says what is wrong now; earlier ones say since when.
        if Some(reading.at_ms) == self.agent.sampled_ms() {
            let (severity, since_ms) = mark.told();
            self.found(reading.label, severity, since_ms, Some(reading.value), said(saying, reading));
        }
    }

    /// The worst that is told of a key counts.
    fn found(&mut self, key: &str, severity: Severity, since_ms: u64, value: Option<f64>, message: String) {
        let (key, message) = (one_line(key, MAX_KEY), one_line(&message, MAX_MESSAGE));
        let finding = Finding { key, severity, since_ms, value, message };
        match self.findings.iter_mut().find(|known| known.key == finding.key) {
            Some(known) if known.severity < severity => *known = finding,
            Some(_) => {}
            None => self.findings.push(finding),
        }
    }

    pub(super) fn finish(mut self) -> Judgement {
        if let Some(latest) = self.agent.sampled_ms() {
            // What the latest sample does not tell of any more is over, or gone.
            self.kept.marks.retain(|(_, mark)| mark.last == latest);
        }
        Judgement { judged: self.judged, findings: self.findings, state: self.kept.text() }
    }
}

/// The line for people, with what stands for the reading's parts put in.
fn said(saying: &str, reading: &Reading<'_>) -> String {
    let mut line = String::with_capacity(saying.len() + 32);
    let mut rest = saying;
    while let Some((before, after)) = rest.split_once('{') {
        line.push_str(before);
        let (name, after) = after.split_once('}').unwrap_or((after, ""));
        match name {
            "value" => line.push_str(&number(reading.value)),
            "label" => line.push_str(reading.label),
            "metric" => line.push_str(reading.metric),
            "word" => line.push_str(reading.word),
            _ => {}
        }
        rest = after;
    }
    line.push_str(rest);
    line
}

/// One decimal is all that people read.
fn number(value: f64) -> String {
    let text = text_of(&Value::from((value * 10.0).round() / 10.0 + 0.0));
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_what_it_is_about() {
        let reading = Reading { at_ms: 0, metric: "disk.used_pct", label: "/srv", word: "x", value: 91.46 };
        let line = |saying: &str| said(saying, &reading);
        assert_eq!(line("{label} is {value} % full"), "/srv is 91.5 % full");
        assert_eq!(line("{metric}{word}{other}{"), "disk.used_pctx");
        assert_eq!(number(97.0), "97");
        assert_eq!(number(-0.04), "0");
    }
}
