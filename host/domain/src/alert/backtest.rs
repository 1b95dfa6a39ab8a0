//! What a rule would have done in the past: each time it would have fired, how long that lasted, and how long it should
//! wait so that what is over soon tells nobody.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Finding, Seen, Severity};
use crate::time::Timestamp;

/// What is over sooner was hardly worth telling.
pub const SHORT: Duration = Duration::from_secs(120);
/// A proposed duration is a multiple of this.
const GRAIN_S: u64 = 30;

/// One time that it would have fired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Episode {
    /// Of which agent, by its place among those looked at.
    pub agent: usize,
    /// Which thing.
    pub key: String,
    /// The worst it was.
    pub severity: Severity,
    /// When it would have fired.
    pub fired: Timestamp,
    /// When it would have been over; none when it was not.
    pub resolved: Option<Timestamp>,
    /// What the rule would have said first.
    pub message: String,
}

impl Episode {
    /// How long it lasted, up to `end` if it was not over.
    pub fn lasted(&self, end: Timestamp) -> Duration {
        self.resolved.unwrap_or(end).since(self.fired)
    }
}

/// All times, in the order they began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trial {
    /// The times.
    pub episodes: Vec<Episode>,
    open: BTreeMap<(usize, String), usize>,
}

/// What they come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How often it would have fired.
    pub fired: u64,
    /// How often that would have been over within [`SHORT`].
    pub short: u64,
    /// Half of the times were shorter.
    pub median: Option<Duration>,
    /// Nine in ten were shorter.
    pub p90: Option<Duration>,
    /// With this `for` duration nine in ten of the short ones would not have fired. None when there are none.
    pub proposed_for_s: Option<u64>,
}

impl Trial {
    /// What the rule finds of an agent at `at`, when it can say something.
    pub fn look(&mut self, agent: usize, at: Timestamp, findings: &[Finding]) {
        for finding in findings {
            let place = (agent, finding.key.clone());
            match (self.open.get(&place), finding.seen) {
                (Some(open), Seen::Wrong(severity)) => {
                    let worst = &mut self.episodes[*open].severity;
                    *worst = severity.max(*worst);
                }
                (None, Seen::Wrong(severity)) => {
                    self.open.insert(place, self.episodes.len());
                    let (key, message) = (finding.key.clone(), finding.message.clone());
                    self.episodes.push(Episode { agent, key, severity, fired: at, resolved: None, message });
                }
                // What only may become something changes nothing, as in an alert's life.
                (Some(_) | None, Seen::Pending) => {}
            }
        }
        let found = |key: &str| findings.iter().any(|finding| finding.key == key);
        let over: Vec<(usize, String)> =
            self.open.keys().filter(|(of, key)| *of == agent && !found(key)).cloned().collect();
        for place in over {
            if let Some(open) = self.open.remove(&place) {
                self.episodes[open].resolved = Some(at);
            }
        }
    }

    /// What all times come to, when the rule waited `for_s` seconds before it fired and the past ends at `end`.
    pub fn summary(&self, for_s: u64, end: Timestamp) -> Summary {
        let mut lasted: Vec<Duration> = self.episodes.iter().map(|episode| episode.lasted(end)).collect();
        lasted.sort_unstable();
        let over = self.episodes.iter().filter(|episode| episode.resolved.is_some());
        let mut short: Vec<Duration> =
            over.map(|episode| episode.lasted(end)).filter(|lasted| *lasted < SHORT).collect();
        short.sort_unstable();
        let longer = rank(&short, 90).map(|lasted| (for_s + lasted.as_secs() + 1).next_multiple_of(GRAIN_S));
        Summary {
            fired: lasted.len() as u64,
            short: short.len() as u64,
            median: rank(&lasted, 50),
            p90: rank(&lasted, 90),
            proposed_for_s: longer,
        }
    }
}

/// The value below or at which so many per cent of sorted values are.
fn rank(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let place = (sorted.len() * percent).div_ceil(100).checked_sub(1)?;
    sorted.get(place).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn finding(key: &str, seen: Seen) -> Finding {
        Finding { key: key.into(), seen, since_ms: 0, value: None, message: "full".into() }
    }

    #[test]
    fn a_time_begins_when_it_is_wrong_and_ends_when_it_is_well() {
        let (warning, critical) = (Seen::Wrong(Severity::Warning), Seen::Wrong(Severity::Critical));
        let mut trial = Trial::default();
        trial.look(0, at(0), &[finding("/", Seen::Pending)]);
        trial.look(0, at(30), &[finding("/", warning), finding("/srv", warning)]);
        trial.look(1, at(30), &[]);
        trial.look(0, at(60), &[finding("/", critical), finding("/srv", Seen::Pending)]);
        trial.look(0, at(90), &[finding("/srv", warning)]);
        let told: Vec<(&str, Severity, Timestamp, Option<Timestamp>)> =
            trial.episodes.iter().map(|one| (one.key.as_str(), one.severity, one.fired, one.resolved)).collect();
        let expected = [("/", Severity::Critical, at(30), Some(at(90))), ("/srv", Severity::Warning, at(30), None)];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_longer_wait_is_proposed_for_what_is_over_soon() {
        let mut trial = Trial::default();
        for (n, lasts) in [20, 30, 40, 50, 60, 70, 80, 90, 95, 119, 600, 3_000].into_iter().enumerate() {
            let begin = n as i64 * 10_000;
            trial.look(0, at(begin), &[finding("", Seen::Wrong(Severity::Warning))]);
            trial.look(0, at(begin + lasts), &[]);
        }
        let summary = trial.summary(60, at(1_000_000));
        assert_eq!((summary.fired, summary.short), (12, 10));
        assert_eq!(summary.median, Some(Duration::from_secs(70)));
        assert_eq!(summary.p90, Some(Duration::from_secs(600)));
        assert_eq!(summary.proposed_for_s, Some(180), "60 it waited, and 95 that nine of ten lasted");
        assert_eq!(Trial::default().summary(60, at(0)), Summary::default());
    }
}
