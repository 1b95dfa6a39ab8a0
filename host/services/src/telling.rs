//! What becomes of an alert, written down and told: its timeline, and news for those who want to hear of it.

use std::collections::BTreeMap;

use domain::alert::flap::Turn;
use domain::alert::life::{State, Told};
use domain::alert::mute::{self, Mute, Subject};
use domain::alert::standing::Line;
use domain::target::Candidate;
use domain::time::Timestamp;
use plan::id::AgentId;
use ports::alerts::{Change, Kept, KeptSilence, Moment};
use serde_json::json;

/// Whose alert it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The agent; none where it is of no agent.
    pub agent: Option<AgentId>,
    /// Its name.
    pub name: String,
    /// Its site.
    pub site: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it is in maintenance.
    pub in_maintenance: bool,
}

/// What keeps people from being told.
#[derive(Clone, Debug)]
pub struct Quiet {
    /// Silences that have not ended.
    pub silences: Vec<KeptSilence>,
    /// Now.
    pub now: Timestamp,
}

impl About {
    /// An agent as it is now.
    pub fn agent(candidate: &Candidate) -> About {
        let agent = &candidate.agent;
        About {
            agent: Some(agent.id),
            name: agent.name.clone(),
            site: agent.site.clone(),
            labels: agent.effective_labels(),
            in_maintenance: agent.maintenance,
        }
    }

    /// No agent.
    pub fn nobody() -> About {
        About::default()
    }

    /// Whose it was.
    pub fn like(kept: &Kept) -> About {
        About { agent: kept.agent, name: kept.agent_name.clone(), site: kept.site.clone(), ..About::default() }
    }
}

impl Quiet {
    /// Why nobody is told of an alert now.
    pub fn mute(&self, kept: &Kept, about: &About) -> Option<Mute> {
        let subject = Subject {
            rule: &kept.rule,
            agent: &about.name,
            site: &about.site,
            labels: &about.labels,
            key: &kept.key,
            severity: kept.alert.state.severity(),
        };
        let silences: Vec<_> = self.silences.iter().map(|kept| kept.silence.clone()).collect();
        mute::mute(&subject, &silences, about.in_maintenance, kept.alert.flaps.is_flapping(), self.now)
    }

    /// An alert as it is to be kept, with what became of it; `by` is who did it and what they said.
    pub fn change(&self, mut kept: Kept, about: &About, lines: &[Line], by: Option<(&str, &str)>) -> Change {
        kept.agent_name.clone_from(&about.name);
        kept.site.clone_from(&about.site);
        kept.muted = self.mute(&kept, about);
        let mut moments = Vec::new();
        let mut told = Vec::new();
        for line in lines {
            moments.push(Moment {
                at: self.now,
                line: *line,
                severity: kept.alert.state.severity(),
                value: kept.alert.value,
                message: kept.alert.message.clone(),
                actor: by.map(|(actor, _)| actor.to_owned()),
                note: by.map(|(_, note)| note.to_owned()).filter(|note| !note.is_empty()),
            });
            if self.is_news(*line, &kept) {
                told.push(*line);
            }
        }
        // Whoever was kept from hearing of it hears of it as soon as nothing does.
        let is_wrong = matches!(kept.alert.state, State::Firing(_));
        if is_wrong && !kept.alert.known && kept.muted.is_none() && told.is_empty() {
            told.push(Line::Told(Told::Fired));
        }
        kept.alert.known |= is_wrong && kept.muted.is_none();
        let news = told.into_iter().map(|line| self.news(&kept, about, line)).collect();
        Change { alert: kept, moments, news }
    }

    fn is_news(&self, line: Line, kept: &Kept) -> bool {
        match line {
            Line::Told(told) => mute::is_news(told, kept.muted, kept.alert.known),
            // From here on each time says nothing, and that is said once.
            Line::Flap(Turn::Began) => kept.muted == Some(Mute::Flapping),
            Line::Flap(Turn::Ended) => kept.muted.is_none(),
        }
    }

    fn news(&self, kept: &Kept, about: &About, line: Line) -> String {
        let alert = &kept.alert;
        json!({
            "alert": kept.id.to_string(),
            "rule": kept.rule,
            "agent": kept.agent.map(|agent| agent.to_string()),
            "agent_name": about.name,
            "site": about.site,
            "labels": about.labels,
            "key": kept.key,
            "what": line.as_str(),
            "state": alert.state.as_str(),
            "severity": alert.state.severity().map(|severity| severity.as_str()),
            "began_ms": alert.began.as_millis(),
            "at_ms": self.now.as_millis(),
            "message": alert.message,
            "value": alert.value,
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use domain::alert::flap::Limits;
    use domain::alert::standing::Alert;
    use domain::alert::{Finding, Seen, Severity};
    use plan::id::AlertId;

    use super::*;

    fn quiet(now: i64) -> Quiet {
        Quiet { silences: Vec::new(), now: Timestamp::from_millis(now * 1_000) }
    }

    /// An alert that fires, as it is written; and the news of it.
    fn fired(about: &About, now: i64) -> Change {
        let seen = Seen::Wrong(Severity::Warning);
        let finding = Finding { key: "/".into(), seen, since_ms: 0, value: Some(97.0), message: "full".into() };
        let (alert, lines) = Alert::new(&finding, Limits::default(), quiet(now).now);
        let kept = Kept {
            id: AlertId(uuid::Uuid::from_u128(1)),
            rule: "disk".into(),
            agent: None,
            agent_name: String::new(),
            site: String::new(),
            key: "/".into(),
            alert,
            muted: None,
            revision: 0,
        };
        quiet(now).change(kept, about, &lines, None)
    }

    fn told(change: &Change) -> Vec<String> {
        let what = |news: &String| {
            let news: serde_json::Value = serde_json::from_str(news).expect("JSON");
            news["what"].as_str().expect("a word").to_owned()
        };
        change.news.iter().map(what).collect()
    }

    #[test]
    fn what_fires_in_maintenance_is_told_once_when_that_is_over_and_its_end_to_those_who_know() {
        let away = About { in_maintenance: true, ..About::default() };
        let change = fired(&away, 1);
        assert_eq!((change.alert.muted, told(&change).len(), change.moments.len()), (Some(Mute::Maintenance), 0, 1));
        let back = quiet(2).change(change.alert, &About::default(), &[], None);
        assert_eq!((back.alert.muted, told(&back), back.moments.len()), (None, vec!["fired".to_owned()], 0));
        let again = quiet(3).change(back.alert, &About::default(), &[], None);
        assert!(told(&again).is_empty(), "once");
        let mut kept = again.alert;
        let lines = kept.alert.well(Limits::default(), quiet(4).now);
        assert_eq!(told(&quiet(4).change(kept, &away, &lines, None)), ["resolved"], "muted or not");
    }

    #[test]
    fn who_takes_an_alert_stands_in_its_timeline_and_is_no_news() {
        let mut kept = fired(&About::default(), 1).alert;
        let owner = domain::alert::standing::Owner { name: "ada".into(), note: "mine".into(), at: quiet(2).now };
        let lines = kept.alert.acknowledge(owner, Limits::default()).expect("it fires");
        let change = quiet(2).change(kept, &About::default(), &lines, Some(("ada", "mine")));
        assert!(told(&change).is_empty());
        let said: Vec<_> = change.moments.iter().map(|m| (m.actor.as_deref(), m.note.as_deref())).collect();
        assert_eq!(said, [(Some("ada"), Some("mine"))]);
    }

    #[test]
    fn that_it_flaps_is_told_once_and_then_nothing_until_it_is_steady() {
        let limits = Limits::default();
        let mut kept = fired(&About::default(), 0).alert;
        let mut news = Vec::new();
        let seen = Seen::Wrong(Severity::Warning);
        let finding = Finding { key: "/".into(), seen, since_ms: 0, value: None, message: "full".into() };
        for round in 1..8 {
            let now = round * 60;
            let lines = kept.alert.well(limits, quiet(now).now);
            let change = quiet(now).change(kept, &About::default(), &lines, None);
            news.extend(told(&change));
            kept = change.alert;
            let lines = kept.alert.seen(&finding, limits, quiet(now + 30).now);
            let change = quiet(now + 30).change(kept, &About::default(), &lines, None);
            news.extend(told(&change));
            kept = change.alert;
        }
        let flapping: Vec<&String> = news.iter().filter(|what| *what == "flapping").collect();
        assert_eq!((flapping.len(), news.last().map(String::as_str)), (1, Some("flapping")), "{news:?}");
        let now = 7 * 60 + 30 + 1_800;
        let lines = kept.alert.look(limits, quiet(now).now);
        assert_eq!(told(&quiet(now).change(kept, &About::default(), &lines, None)), ["steady"]);
    }
}
