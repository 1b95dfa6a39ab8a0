//! What the host asks of rules: what is wrong with many agents at once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use domain::alert::Finding;
use serde_json::Value;

use crate::plugins::{PluginIdentity, Violation};

/// Most agents of one batch.
pub const MAX_SUBJECTS: usize = 10_000;
/// Most bytes of one batch, as [`Batch::weight`] counts them.
pub const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;

/// One version of one rule, pinned: whoever holds it keeps the plugin version.
#[async_trait]
pub trait Rule: Send + Sync {
    /// The plugin version behind it; a rule is called as its plugin is.
    fn plugin(&self) -> &PluginIdentity;
    /// One line for people.
    fn summary(&self) -> &str;
    /// The metrics it wants to be given.
    fn reads(&self) -> &[String];
    /// The operator's configuration for most agents, defaults filled in.
    fn config(&self) -> &Value;
    /// Configurations for some agents; the first that fits one is its own.
    fn overrides(&self) -> &[Override];
    /// JSON Schema of its configuration, if it takes one.
    fn config_schema(&self) -> Option<&Value>;

    /// Checks a configuration against the schema.
    ///
    /// # Errors
    /// Every violation, with pointers from the configuration's root.
    fn validate(&self, config: &Value) -> Result<(), Vec<Violation>>;

    /// Judges all of `batch` in one call: one answer for each agent, in their order. Under the operator's
    /// configuration, or under `config`, which fits the schema.
    ///
    /// # Errors
    /// Why nothing is known of any of them. Their alerts stay as they are.
    async fn evaluate(&self, config: Option<&Value>, now_ms: u64, batch: Batch) -> Result<Vec<Answer>, RuleFault>;
}

/// What the operator says for some agents.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Override {
    /// Agents of these sites; of any when empty.
    pub sites: Vec<String>,
    /// Agents with all of these labels.
    pub labels: BTreeMap<String, String>,
    /// The whole configuration: what is said here, over what is said for most, over the defaults.
    pub config: Value,
}

impl Override {
    /// Whether it is for an agent of this site with these labels.
    pub fn fits(&self, site: &str, labels: &BTreeMap<String, String>) -> bool {
        let at_home = self.sites.is_empty() || self.sites.iter().any(|one| one == site);
        at_home && self.labels.iter().all(|(name, value)| labels.get(name) == Some(value))
    }
}

/// The rules loaded now.
pub trait Rules: Send + Sync {
    /// All of them, by name.
    fn rules(&self) -> Vec<Arc<dyn Rule>>;
}

/// What is said of one agent, or why nothing is; then its alerts and its state stay as they are.
pub type Answer = Result<Verdict, String>;

/// All that a rule says of one agent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// False if nothing can be said, for want of a sample: what was wrong stays wrong.
    pub judged: bool,
    /// What is wrong; each key once. What is not named is well.
    pub findings: Vec<Finding>,
    /// What is to be kept for the next time.
    pub state: Option<State>,
}

/// What a rule has the host keep for one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Which form it has.
    pub version: u32,
    /// At most 64 KiB.
    pub text: String,
}

/// Why a rule judged nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleFault {
    /// The plugin trapped, ran too long, or answered nonsense.
    #[error("rule `{plugin}` failed: {message}")]
    Failed {
        /// Its name.
        plugin: String,
        /// What happened, without anything the guest printed.
        message: String,
    },
    /// Too many calls wait; trying again soon is right.
    #[error("too many plugin calls are waiting")]
    Overloaded,
    /// More agents or more bytes than one call may have.
    #[error("a batch of {subjects} agents and {bytes} bytes; at most {MAX_SUBJECTS} and {MAX_BATCH_BYTES}")]
    TooMuch {
        /// Agents in it.
        subjects: usize,
        /// Bytes of it.
        bytes: usize,
    },
}

/// Many agents at once, in columns: a record for each number would cost more than to judge it. Built in order: an
/// agent, its samples oldest first, the readings of each.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Names, labels and words, once each.
    pub words: Vec<String>,
    /// Metric, label and word of each series, as indices into `words`.
    pub series: Vec<[u32; 3]>,
    /// The agents.
    pub subjects: Vec<Subject>,
    /// When each sample was taken, in milliseconds since 1970-01-01 UTC, and how many of the readings are its own.
    pub samples: Vec<(u64, u32)>,
    /// Of each reading, its series.
    pub which: Vec<u32>,
    /// Of each reading, its number.
    pub values: Vec<f64>,
    places: HashMap<String, u32>,
    known: HashMap<[u32; 3], u32>,
}

/// One agent of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Its name.
    pub agent: String,
    /// Its status, an index into the words.
    pub status: u32,
    /// When it was last heard. Milliseconds since 1970-01-01 UTC.
    pub heard_ms: u64,
    /// How many of the samples are its own.
    pub samples: u32,
    /// What the rule last had the host keep for it.
    pub state: Option<State>,
}

impl Batch {
    /// An agent; what follows is its own.
    pub fn subject(&mut self, agent: impl Into<String>, status: &str, heard_ms: u64, state: Option<State>) {
        let status = self.word(status);
        self.subjects.push(Subject { agent: agent.into(), status, heard_ms, samples: 0, state });
    }

    /// A sample of the last agent.
    pub fn sample(&mut self, at_ms: u64) {
        if let Some(subject) = self.subjects.last_mut() {
            subject.samples += 1;
            self.samples.push((at_ms, 0));
        }
    }

    /// A reading of the last sample. What is no number is left out: rules are not asked to think of infinity.
    pub fn reading(&mut self, series: u32, value: f64) {
        if let Some((_, readings)) = self.samples.last_mut().filter(|_| value.is_finite()) {
            *readings += 1;
            self.which.push(series);
            self.values.push(value);
        }
    }

    /// The number of a series, for [`Batch::reading`]. Ask once for many readings.
    pub fn series(&mut self, metric: &str, label: &str, word: &str) -> u32 {
        let parts = [self.word(metric), self.word(label), self.word(word)];
        let next = index(self.series.len());
        let place = *self.known.entry(parts).or_insert(next);
        if place == next {
            self.series.push(parts);
        }
        place
    }

    /// About how many bytes it has.
    pub fn weight(&self) -> usize {
        let text = |text: &String| text.len() + 8;
        let words: usize = self.words.iter().map(text).sum();
        let state = |subject: &Subject| subject.state.as_ref().map_or(0, |state| state.text.len());
        let subjects: usize = self.subjects.iter().map(|subject| subject.agent.len() + state(subject) + 48).sum();
        words + subjects + self.series.len() * 12 + self.samples.len() * 16 + self.values.len() * 12
    }

    fn word(&mut self, text: &str) -> u32 {
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        let place = index(self.words.len());
        self.words.push(text.to_owned());
        self.places.insert(text.to_owned(), place);
        place
    }
}

/// A batch is bounded long before this saturates.
fn index(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_override_is_for_who_is_of_its_site_and_has_all_its_labels() {
        let labels = |list: &[(&str, &str)]| -> BTreeMap<String, String> {
            list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let both = Override { sites: vec!["eu-1".into()], labels: labels(&[("tier", "db")]), config: Value::Null };
        assert!(both.fits("eu-1", &labels(&[("tier", "db"), ("os", "linux")])));
        for (site, has) in
            [("us-1", labels(&[("tier", "db")])), ("eu-1", labels(&[("tier", "web")])), ("eu-1", labels(&[]))]
        {
            assert!(!both.fits(site, &has), "{site} {has:?}");
        }
        assert!(Override::default().fits("anywhere", &labels(&[])));
    }

    #[test]
    fn a_batch_says_each_word_once_and_counts_what_belongs_to_whom() {
        let mut batch = Batch::default();
        let cpu = batch.series("cpu.total", "", "");
        for agent in ["web-1", "web-2"] {
            batch.subject(agent, "online", 7, None);
            batch.sample(5);
            batch.reading(cpu, 1.0);
            batch.reading(cpu, f64::NAN);
            let disk = batch.series("disk.used_pct", "/", "");
            batch.reading(disk, 2.0);
        }
        assert_eq!(batch.words, ["cpu.total", "", "online", "disk.used_pct", "/"]);
        assert_eq!(batch.series, [[0, 1, 1], [3, 4, 1]]);
        assert_eq!((batch.which.as_slice(), batch.values.as_slice()), (&[0, 1, 0, 1][..], &[1.0, 2.0, 1.0, 2.0][..]));
        assert_eq!(batch.samples, [(5, 2), (5, 2)]);
        assert!(batch.subjects.iter().all(|subject| subject.samples == 1));
        assert!(batch.weight() > 100);
    }
}
