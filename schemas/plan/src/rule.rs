//! What a rule says of itself, and courses of events with what it must find in them: the examples of its
//! manifest, and the golden cases of its project.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Most bytes of what a host keeps for a rule and an agent.
pub const MAX_STATE_BYTES: usize = 64 * 1024;
/// When every course begins. Milliseconds since 1970-01-01 UTC.
pub const COURSE_BEGAN_MS: u64 = 1_700_000_000_000;
/// Most turns of one course.
pub const MAX_TURNS: usize = 1_000;

/// One rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleManifest {
    /// The metrics it is given, e.g. `cpu.total`; none for a rule that goes by the agent's status.
    pub reads: Vec<String>,
    /// Which form its state has. It is told the form of what it is given.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub state_version: u32,
    /// Tried at every load, twice: what is found must be what is written there.
    pub examples: Vec<Course>,
}

fn one() -> u32 {
    1
}

fn is_one(number: &u32) -> bool {
    *number == 1
}

/// What happened to one agent, turn by turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Course {
    /// The operator's configuration, over the defaults.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub config: Map<String, Value>,
    /// In order of time.
    pub turns: Vec<Turn>,
}

/// One look at the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// Seconds since the course began.
    pub at_s: u64,
    /// The agent's status.
    #[serde(default = "online", skip_serializing_if = "is_online")]
    pub status: String,
    /// When the agent was last heard, in seconds since the course began; just now when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_s: Option<u64>,
    /// What its sample says; absent when no sample came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readings: Option<Vec<Reading>>,
    /// What is found wrong then, key by key: `pending`, `warning` or `critical`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub found: BTreeMap<String, String>,
}

fn online() -> String {
    "online".to_owned()
}

fn is_online(status: &String) -> bool {
    status == "online"
}

/// One number of a sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    /// e.g. `disk.used_pct`.
    pub metric: String,
    /// Of what, e.g. `/srv`; empty where there is one only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// What a metric of states says, e.g. `exited`; empty for numbers.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub word: String,
    /// The number; 1 where a word says it.
    #[serde(default = "whole")]
    pub value: f64,
}

fn whole() -> f64 {
    1.0
}

/// Whether `text` names a metric: dotted lower-case words.
pub fn is_metric(text: &str) -> bool {
    let word = |word: &str| {
        word.starts_with(|letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit())
            && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    text.len() <= 64 && text.contains('.') && text.split('.').all(word)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_course_is_written_as_short_as_it_is_read() {
        let written = json!({ "turns": [
            { "at_s": 0, "readings": [{ "metric": "cpu.total", "value": 97.5 }], "found": { "": "pending" } },
            { "at_s": 60 },
            { "at_s": 90, "status": "offline", "heard_s": 30 },
        ] });
        let course: Course = serde_json::from_value(written.clone()).expect("a course");
        assert_eq!(course.turns[0].status, "online");
        assert_eq!(serde_json::to_value(&course).expect("JSON"), written);
        assert!(serde_json::from_value::<Course>(json!({ "turns": [{ "at_s": 0, "value": 1 }] })).is_err());
    }

    #[test]
    fn metrics_are_dotted_words() {
        for good in ["cpu.total", "load.1", "disk.used_pct", "a.b.c"] {
            assert!(is_metric(good), "{good}");
        }
        for bad in ["", "cpu", "cpu.", ".total", "CPU.total", "cpu total.x", "cpu.t-x"] {
            assert!(!is_metric(bad), "{bad}");
        }
    }
}
