//! One alert with all that is known of it, and what follows when a rule judged its agent.
//!
//! Invariant: one alert for each rule, agent and key; time is an argument.

use std::collections::BTreeMap;

use super::flap::{Flaps, Limits, Turn};
use super::life::{self, Happening, State, Step, Told};
use super::{Finding, Seen};
use crate::time::Timestamp;

/// Who took an alert, and what they said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Who.
    pub name: String,
    /// What they said; may be empty.
    pub note: String,
    /// When.
    pub at: Timestamp,
}

/// One alert.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// Where it stands.
    pub state: State,
    /// Since when it stands there.
    pub since: Timestamp,
    /// When this episode began, by the rule.
    pub began: Timestamp,
    /// What the rule last said.
    pub message: String,
    /// The number it last said.
    pub value: Option<f64>,
    /// Who has taken it; none unless it is acknowledged.
    pub owner: Option<Owner>,
    /// Whether people were told of this episode.
    pub known: bool,
    /// How often it fired of late.
    pub flaps: Flaps,
}

/// One line of an alert's timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// It changed.
    Told(Told),
    /// It began to fire too often, or stopped.
    Flap(Turn),
}

impl Line {
    /// The name used in JSON, SQL and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Line::Told(told) => told.as_str(),
            Line::Flap(Turn::Began) => "flapping",
            Line::Flap(Turn::Ended) => "steady",
        }
    }

    /// The line of that name.
    pub fn parse(name: &str) -> Option<Line> {
        let turns = [Line::Flap(Turn::Began), Line::Flap(Turn::Ended)];
        Told::ALL.into_iter().map(Line::Told).chain(turns).find(|line| line.as_str() == name)
    }
}

/// The order makes no sense as the alert stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotNow(pub State);

impl Alert {
    /// The alert of a finding nobody has seen before.
    pub fn new(finding: &Finding, limits: Limits, now: Timestamp) -> (Alert, Vec<Line>) {
        let (state, told) = life::first(finding.seen);
        let mut alert = Alert {
            state: State::Resolved,
            since: now,
            began: now,
            message: String::new(),
            value: None,
            owner: None,
            known: false,
            flaps: Flaps::default(),
        };
        let lines = alert.goes(state, told, limits, now);
        alert.hears(finding);
        (alert, lines)
    }

    /// What the rule finds now.
    pub fn seen(&mut self, finding: &Finding, limits: Limits, now: Timestamp) -> Vec<Line> {
        let over = self.state.is_over();
        let lines = self.happens(Happening::Seen(finding.seen), limits, now).unwrap_or_default();
        if !over || !self.state.is_over() {
            self.hears(finding);
        }
        lines
    }

    /// The rule finds nothing wrong any more.
    pub fn well(&mut self, limits: Limits, now: Timestamp) -> Vec<Line> {
        self.happens(Happening::Well, limits, now).unwrap_or_default()
    }

    /// Its rule or its agent is gone.
    pub fn forget(&mut self, limits: Limits, now: Timestamp) -> Vec<Line> {
        self.happens(Happening::Forget, limits, now).unwrap_or_default()
    }

    /// Somebody takes it.
    ///
    /// # Errors
    /// When it is not wrong.
    pub fn acknowledge(&mut self, owner: Owner, limits: Limits) -> Result<Vec<Line>, NotNow> {
        let lines = self.happens(Happening::Acknowledge, limits, owner.at)?;
        self.owner = Some(owner);
        Ok(lines)
    }

    /// Somebody gives it back.
    ///
    /// # Errors
    /// When nobody has taken it.
    pub fn release(&mut self, limits: Limits, now: Timestamp) -> Result<Vec<Line>, NotNow> {
        self.happens(Happening::Release, limits, now)
    }

    /// Time went by.
    pub fn look(&mut self, limits: Limits, now: Timestamp) -> Vec<Line> {
        self.flaps.look(limits, now).map(Line::Flap).into_iter().collect()
    }

    fn happens(&mut self, happening: Happening, limits: Limits, now: Timestamp) -> Result<Vec<Line>, NotNow> {
        match life::step(self.state, happening) {
            Step::To(state, told) => Ok(self.goes(state, told, limits, now)),
            Step::Stay => Ok(Vec::new()),
            Step::No => Err(NotNow(self.state)),
        }
    }

    fn goes(&mut self, state: State, told: Told, limits: Limits, now: Timestamp) -> Vec<Line> {
        if self.state.is_over() {
            (self.known, self.began) = (false, now);
        }
        // Whoever took it has it as long as it stands there.
        if !matches!(state, State::Acknowledged(_)) {
            self.owner = None;
        }
        (self.state, self.since) = (state, now);
        let mut lines = vec![Line::Told(told)];
        if told == Told::Fired {
            lines.extend(self.flaps.fired(limits, now).map(Line::Flap));
        }
        lines
    }

    fn hears(&mut self, finding: &Finding) {
        self.message.clone_from(&finding.message);
        self.value = finding.value;
        // The rule knows better since when it is so.
        let since = Timestamp::from_millis(i64::try_from(finding.since_ms).unwrap_or(i64::MAX));
        self.began = self.began.min(since);
    }
}

/// What a rule's judgement of an agent means for the alerts it has with it, by key: those there are and those there
/// were. Lines are told in order of keys.
pub fn judged(
    alerts: &mut BTreeMap<String, Alert>,
    findings: &[Finding],
    limits: Limits,
    now: Timestamp,
) -> Vec<(String, Line)> {
    let mut lines: BTreeMap<String, Vec<Line>> = BTreeMap::new();
    for finding in findings {
        let told = match alerts.get_mut(&finding.key) {
            Some(alert) => alert.seen(finding, limits, now),
            None => {
                let (alert, told) = Alert::new(finding, limits, now);
                alerts.insert(finding.key.clone(), alert);
                told
            }
        };
        lines.insert(finding.key.clone(), told);
    }
    for (key, alert) in alerts.iter_mut() {
        if !lines.contains_key(key) {
            lines.insert(key.clone(), alert.well(limits, now));
        }
    }
    lines.into_iter().flat_map(|(key, lines)| lines.into_iter().map(move |line| (key.clone(), line))).collect()
}

/// Whether a finding is worth an alert of its own: what is only pending is not stored before it has to be.
pub fn is_worth_storing(seen: Seen, before: Option<&Alert>) -> bool {
    !matches!((seen, before), (Seen::Pending, None))
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn finding(key: &str, seen: Seen) -> Finding {
        Finding { key: key.into(), seen, since_ms: 1000, value: Some(97.0), message: "it is full".into() }
    }

    const WARNING: Seen = Seen::Wrong(Severity::Warning);
    const CRITICAL: Seen = Seen::Wrong(Severity::Critical);

    #[test]
    fn a_judgement_tells_of_what_is_new_worse_and_well_once() {
        let mut alerts = BTreeMap::new();
        let mut look = |second: i64, found: &[(&str, Seen)]| -> Vec<String> {
            let findings: Vec<Finding> = found.iter().map(|(key, seen)| finding(key, *seen)).collect();
            let lines = judged(&mut alerts, &findings, Limits::default(), at(second));
            lines.into_iter().map(|(key, line)| format!("{key} {line:?}")).collect()
        };
        assert_eq!(look(1, &[("/", Seen::Pending), ("/srv", WARNING)]), ["/ Told(Began)", "/srv Told(Fired)"]);
        assert!(look(2, &[("/", Seen::Pending), ("/srv", WARNING)]).is_empty(), "the same sight says nothing");
        assert_eq!(look(3, &[("/srv", CRITICAL)]), ["/ Told(Passed)", "/srv Told(Worsened)"]);
        assert_eq!(look(4, &[]), ["/srv Told(Resolved)"]);
        assert!(look(5, &[]).is_empty());
        assert_eq!(look(6, &[("/srv", WARNING)]), ["/srv Told(Fired)"]);
        assert_eq!(alerts.len(), 2, "one alert for each key, over or not");
        assert_eq!((alerts["/srv"].began, alerts["/srv"].since), (at(1), at(6)));
    }

    #[test]
    fn who_took_a_warning_did_not_take_what_is_critical() {
        let limits = Limits::default();
        let (mut alert, _) = Alert::new(&finding("", WARNING), limits, at(1));
        let owner = Owner { name: "anna".into(), note: "on it".into(), at: at(2) };
        assert_eq!(alert.release(limits, at(2)), Err(NotNow(State::Firing(Severity::Warning))));
        assert_eq!(alert.acknowledge(owner.clone(), limits), Ok(vec![Line::Told(Told::Acknowledged)]));
        assert_eq!(alert.owner, Some(owner.clone()));
        assert_eq!(alert.seen(&finding("", CRITICAL), limits, at(3)), [Line::Told(Told::Worsened)]);
        assert_eq!((alert.owner.clone(), alert.state), (None, State::Firing(Severity::Critical)));
        assert!(alert.acknowledge(owner, limits).is_ok() && alert.release(limits, at(4)).is_ok());
        assert_eq!((alert.owner.clone(), alert.forget(limits, at(5))), (None, vec![Line::Told(Told::Forgotten)]));
        assert_eq!(alert.release(limits, at(6)), Err(NotNow(State::Resolved)));
    }

    #[test]
    fn what_fires_again_and_again_is_told_to_flap_and_to_have_stopped() {
        let limits = Limits::default();
        let (mut alert, mut lines) = Alert::new(&finding("", WARNING), limits, at(0));
        for round in 1..6 {
            lines.extend(alert.well(limits, at(round * 60)));
            lines.extend(alert.seen(&finding("", WARNING), limits, at(round * 60 + 30)));
        }
        let turns = |lines: &[Line]| lines.iter().filter(|line| matches!(line, Line::Flap(_))).count();
        assert_eq!((turns(&lines), alert.flaps.is_flapping()), (1, true));
        assert_eq!(alert.look(limits, at(330 + 1800)), [Line::Flap(Turn::Ended)]);
    }

    #[test]
    fn what_only_may_become_something_is_not_worth_a_row() {
        let (alert, _) = Alert::new(&finding("", WARNING), Limits::default(), at(0));
        assert!(!is_worth_storing(Seen::Pending, None));
        assert!(is_worth_storing(Seen::Pending, Some(&alert)) && is_worth_storing(WARNING, None));
    }
}
