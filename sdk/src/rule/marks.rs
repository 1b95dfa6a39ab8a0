//! Windows: since when something is wrong, kept by the host between two looks, so that neither a restart nor a new
//! version of the plugin begins them anew.

use serde_json::{Map, Value};

use super::Severity;
use crate::text::{parse, text_of};

/// A silence that is longer than this, and than the window, begins the window anew: nobody knows what was meanwhile.
const SILENCE_MS: u64 = 120_000;

/// Since when one thing is wrong. Milliseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// What is told of: 0 nothing yet, 1 a warning, 2 that it is critical.
    pub(super) held: u8,
    /// When it was last seen.
    pub(super) last: u64,
    /// Since when it is at least a warning.
    warning: u64,
    /// Since when it is critical, if it is.
    critical: Option<u64>,
}

impl Mark {
    /// What follows `old` when `level` (1 or 2) is seen at `at`, if it must last `after` milliseconds to be told of.
    pub(super) fn next(old: Option<Mark>, at: u64, level: u8, after: u64) -> Mark {
        let held = old.map_or(0, |mark| mark.held);
        let broken = old.is_some_and(|mark| at.saturating_sub(mark.last) > after.max(SILENCE_MS));
        // What is told of already is not pending again for a silence.
        let began = |since: Option<u64>, told: bool| since.filter(|_| told || !broken).unwrap_or(at);
        let warning = began(old.map(|mark| mark.warning), held >= 1);
        let critical = (level >= 2).then(|| began(old.and_then(|mark| mark.critical), held >= 2));
        let lasted = |since: u64| at.saturating_sub(since) >= after;
        let held = match critical {
            Some(since) if held >= 2 || lasted(since) => 2,
            _ if held >= 1 || lasted(warning) => 1,
            _ => 0,
        };
        Mark { held, last: at, warning, critical }
    }

    /// How bad that is, and since when.
    pub(super) fn told(self) -> (Severity, u64) {
        match (self.held, self.critical) {
            (2, Some(critical)) => (Severity::Critical, critical),
            (0, _) => (Severity::Pending, self.warning),
            (_, _) => (Severity::Warning, self.warning),
        }
    }

    fn to_json(self) -> Value {
        let mut numbers = vec![Value::from(self.held), Value::from(self.last), Value::from(self.warning)];
        numbers.extend(self.critical.map(Value::from));
        Value::Array(numbers)
    }

    fn read(value: &Value) -> Option<Mark> {
        let number = |index: usize| value.get(index).and_then(Value::as_u64);
        let held = u8::try_from(number(0)?).ok().filter(|held| *held <= 2)?;
        Some(Mark { held, last: number(1)?, warning: number(2)?, critical: number(3) })
    }
}

/// What a host keeps for one rule and agent: marks by key, and what the rule itself remembers.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Kept {
    pub(super) marks: Vec<(String, Mark)>,
    pub(super) memory: Map<String, Value>,
}

impl Kept {
    /// Reads what was written; what cannot be read is as if it had never been there.
    pub(super) fn read(text: &str) -> Kept {
        let mut kept = Kept::default();
        let Ok(Value::Object(mut object)) = parse(text) else { return kept };
        if let Some(Value::Object(marks)) = object.get("marks") {
            for (key, value) in marks {
                if let Some(mark) = Mark::read(value) {
                    kept.marks.push((key.clone(), mark));
                }
            }
        }
        if let Some(Value::Object(memory)) = object.get_mut("memory") {
            kept.memory = std::mem::take(memory);
        }
        kept
    }

    /// As text; nothing when there is nothing to keep.
    pub(super) fn text(self) -> Option<String> {
        if self.marks.is_empty() && self.memory.is_empty() {
            return None;
        }
        let mut object = Map::new();
        if !self.marks.is_empty() {
            let mut marks = Map::new();
            for (key, mark) in self.marks {
                marks.insert(key, mark.to_json());
            }
            object.insert("marks".to_owned(), Value::Object(marks));
        }
        if !self.memory.is_empty() {
            object.insert("memory".to_owned(), Value::Object(self.memory));
        }
        Some(text_of(&Value::Object(object)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of after each look: seconds and level.
    fn told(after_s: u64, looks: &[(u64, u8)]) -> Vec<(Severity, u64)> {
        let mut mark = None;
        let mut told = Vec::new();
        for (at, level) in looks {
            let next = Mark::next(mark, at * 1000, *level, after_s * 1000);
            told.push((next.told().0, next.told().1 / 1000));
            mark = Some(next);
        }
        told
    }

    #[test]
    fn a_window_runs_for_each_level_by_itself() {
        use Severity::{Critical, Pending, Warning};
        assert_eq!(told(0, &[(7, 1), (8, 2)]), [(Warning, 7), (Critical, 8)]);
        let looks = [(0, 1), (200, 2), (299, 2), (300, 2), (500, 2), (530, 1)];
        let expected = [(Pending, 0), (Pending, 0), (Pending, 0), (Warning, 0), (Critical, 200), (Warning, 0)];
        assert_eq!(told(300, &looks), expected);
    }

    #[test]
    fn a_long_silence_begins_a_window_anew_and_takes_nothing_back() {
        use Severity::{Pending, Warning};
        assert_eq!(told(60, &[(0, 1), (121, 1), (181, 1)]), [(Pending, 0), (Pending, 121), (Warning, 121)]);
        assert_eq!(told(60, &[(0, 1), (60, 1), (3600, 1)])[2], (Warning, 0));
        assert_eq!(told(300, &[(0, 1), (300, 1)])[1], (Warning, 0), "as long as the window itself is no silence");
    }

    #[test]
    fn what_is_kept_is_read_back_and_nonsense_is_nothing() {
        let mark = Mark { held: 1, last: 5, warning: 3, critical: Some(4) };
        let memory = Map::from_iter([("restarts".to_owned(), Value::from(7))]);
        let kept = || Kept { marks: vec![("/srv".into(), mark)], memory: memory.clone() };
        let text = kept().text().expect("there is something");
        assert_eq!(text, r#"{"marks":{"/srv":[1,5,3,4]},"memory":{"restarts":7}}"#);
        assert_eq!(Kept::read(&text), kept());
        assert_eq!(Kept::default().text(), None);
        for nonsense in ["", "{", "[]", r#"{"marks":{"a":[9,1,1],"b":[],"c":"x"}}"#, r#"{"marks":7,"memory":[]}"#] {
            assert_eq!(Kept::read(nonsense), Kept::default(), "{nonsense}");
        }
    }
}
