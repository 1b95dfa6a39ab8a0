//! Rules that fail on some hosts and answer on others. Each host that shares its store says there which rules fail on
//! it, so that another, on which they answer, does not take back what was told. A word that was not said again for a
//! while counts no more: its host may be gone, or have nobody to judge.
//!
//! Invariant: a host writes its own word alone, so that none is lost to another's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::time::Timestamp;
use plan::id::AgentId;
use ports::alerts::{Alerts, Remembered};
use ports::error::StoreError;
use ports::rules::State;
use uuid::Uuid;

/// What a word is called among what rules remember, before the name of its host. No rule has such a name.
const PREFIX: &str = "rule_error@";
/// Words are of no agent.
const NOBODY: AgentId = AgentId(Uuid::nil());
/// A word is said so often while it counts.
const OFTEN: u32 = 4;

/// This host among those that share a store.
#[derive(Debug)]
pub struct Word {
    me: String,
    lasts: Duration,
    /// Rules that fail here and when that was last written; none when it is not known what is.
    said: Option<BTreeMap<String, Timestamp>>,
}

/// What other hosts say.
#[derive(Debug, Default)]
pub struct Heard {
    /// Rules that fail there.
    pub failing: BTreeSet<String>,
    /// Words that count no more, to be dropped.
    pub over: Vec<Remembered>,
}

impl Word {
    /// The word of the host called `me`; it counts for so long.
    pub fn new(me: &str, lasts: Duration) -> Word {
        Word { me: format!("{PREFIX}{me}"), lasts, said: None }
    }

    /// What the others say.
    ///
    /// # Errors
    /// The store's.
    pub async fn hear(&self, alerts: &dyn Alerts, now: Timestamp) -> Result<Heard, StoreError> {
        let mut heard = Heard::default();
        for Remembered { agent, rule: host, state } in alerts.remembered(&[NOBODY]).await? {
            if host == self.me || !host.starts_with(PREFIX) {
                continue;
            }
            let word = state.map(|state| read(&state.text)).unwrap_or_default();
            let counts = |at: &i64| now.since(Timestamp::from_millis(*at)) < self.lasts;
            let failing: Vec<String> = word.into_iter().filter(|(_, at)| counts(at)).map(|(rule, _)| rule).collect();
            if failing.is_empty() {
                heard.over.push(Remembered { agent, rule: host, state: None });
            }
            heard.failing.extend(failing);
        }
        Ok(heard)
    }

    /// What is to be written now that these rules fail here, if it is not there yet or was said long ago.
    pub fn say<'a>(&mut self, failing: impl Iterator<Item = &'a str>, now: Timestamp) -> Option<Remembered> {
        let word: BTreeMap<String, Timestamp> = failing.map(|rule| (rule.to_owned(), now)).collect();
        let is_fresh = |said: &BTreeMap<String, Timestamp>| {
            said.keys().eq(word.keys()) && said.values().all(|at| now.since(*at) * OFTEN < self.lasts)
        };
        if self.said.as_ref().is_some_and(is_fresh) {
            return None;
        }
        let at: BTreeMap<&str, i64> = word.iter().map(|(rule, at)| (rule.as_str(), at.as_millis())).collect();
        let state = (!word.is_empty()).then(|| State { version: 1, text: serde_json::json!(at).to_string() });
        self.said = Some(word);
        Some(Remembered { agent: NOBODY, rule: self.me.clone(), state })
    }

    /// What was to be written may not be.
    pub fn unsaid(&mut self) {
        self.said = None;
    }
}

/// Rules of a word, and when they failed. What cannot be read says nothing.
fn read(text: &str) -> BTreeMap<String, i64> {
    serde_json::from_str(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    #[test]
    fn a_word_is_written_when_it_changes_and_again_before_it_is_forgotten() {
        let mut word = Word::new("a", Duration::from_secs(60));
        let mut says = |rules: &[&str], second: i64| {
            word.say(rules.iter().copied(), at(second)).map(|said| said.state.map(|state| read(&state.text).len()))
        };
        assert_eq!(says(&[], 0), Some(None), "what it left behind before it began is dropped");
        assert_eq!(says(&[], 1), None);
        assert_eq!(says(&["cpu"], 2), Some(Some(1)));
        assert_eq!(says(&["cpu"], 16), None);
        assert_eq!(says(&["cpu"], 17), Some(Some(1)), "said often enough to be believed all the time");
        assert_eq!(says(&["cpu", "disk"], 18), Some(Some(2)));
        assert_eq!(says(&[], 19), Some(None));
    }

    #[test]
    fn what_could_not_be_written_is_said_again() {
        let mut word = Word::new("a", Duration::from_secs(60));
        assert!(word.say(["cpu"].into_iter(), at(0)).is_some());
        word.unsaid();
        assert!(word.say(["cpu"].into_iter(), at(1)).is_some());
    }
}
