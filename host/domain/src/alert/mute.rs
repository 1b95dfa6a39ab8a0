//! Who is not told, and why: silences by matcher, maintenance, flapping. An alert goes on living while it is muted.
//!
//! Invariant: nothing here changes what an alert is.

use std::collections::BTreeMap;

use super::Severity;
use super::life::Told;
use crate::time::Timestamp;

/// What a silence is about; what is absent matches everything, and all of it must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matcher {
    /// These rules, by name.
    pub rules: Vec<String>,
    /// These agents, by name.
    pub agents: Vec<String>,
    /// These sites.
    pub sites: Vec<String>,
    /// Agents with all of these labels.
    pub labels: BTreeMap<String, String>,
    /// Only this thing, e.g. a mount.
    pub key: Option<String>,
    /// At most so bad: a silence for warnings lets through what is critical.
    pub at_most: Option<Severity>,
}

/// Nobody is told of what it matches, until it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    /// What it is about.
    pub matcher: Matcher,
    /// When it begins.
    pub from: Timestamp,
    /// When it ends.
    pub until: Timestamp,
}

/// What there is to match.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The rule's name.
    pub rule: &'a str,
    /// The agent's name.
    pub agent: &'a str,
    /// The agent's site.
    pub site: &'a str,
    /// The agent's labels.
    pub labels: &'a BTreeMap<String, String>,
    /// Which thing.
    pub key: &'a str,
    /// How bad; none while it is not wrong.
    pub severity: Option<Severity>,
}

/// Why nobody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mute {
    /// The agent is in maintenance.
    Maintenance,
    /// Somebody wants silence.
    Silence,
    /// It fires so often that each time says nothing.
    Flapping,
}

impl Mute {
    /// All of them.
    pub const ALL: [Mute; 3] = [Mute::Maintenance, Mute::Silence, Mute::Flapping];

    /// The reason of that name.
    pub fn parse(name: &str) -> Option<Mute> {
        Mute::ALL.into_iter().find(|mute| mute.as_str() == name)
    }

    /// The name used in JSON and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Mute::Maintenance => "maintenance",
            Mute::Silence => "silence",
            Mute::Flapping => "flapping",
        }
    }
}

impl Matcher {
    /// Whether it says nothing at all, and so would silence everything.
    pub fn is_empty(&self) -> bool {
        *self == Matcher::default()
    }

    /// Whether it is about `subject`.
    pub fn covers(&self, subject: &Subject<'_>) -> bool {
        let Matcher { rules, agents, sites, labels, key, at_most } = self;
        let among = |list: &[String], text: &str| list.is_empty() || list.iter().any(|one| one == text);
        among(rules, subject.rule)
            && among(agents, subject.agent)
            && among(sites, subject.site)
            && labels.iter().all(|(name, value)| subject.labels.get(name) == Some(value))
            && key.as_deref().is_none_or(|key| key == subject.key)
            && at_most.is_none_or(|most| subject.severity.is_none_or(|severity| severity <= most))
    }
}

impl Silence {
    /// Whether it holds for `subject` at `now`.
    pub fn holds(&self, subject: &Subject<'_>, now: Timestamp) -> bool {
        self.from <= now && now < self.until && self.matcher.covers(subject)
    }
}

/// Why nobody is told of `subject` now; none if somebody is.
pub fn mute(
    subject: &Subject<'_>,
    silences: &[Silence],
    in_maintenance: bool,
    is_flapping: bool,
    now: Timestamp,
) -> Option<Mute> {
    if in_maintenance {
        return Some(Mute::Maintenance);
    }
    if silences.iter().any(|silence| silence.holds(subject, now)) {
        return Some(Mute::Silence);
    }
    is_flapping.then_some(Mute::Flapping)
}

/// Whether people are told of a change at all, if it is not muted. `knows` is whether they know of this episode: an end
/// is told to those who heard of the beginning, muted or not, so that nobody waits for it.
pub fn is_news(told: Told, muted: Option<Mute>, knows: bool) -> bool {
    match told {
        Told::Fired | Told::Worsened | Told::Released => muted.is_none(),
        Told::Resolved | Told::Forgotten => knows,
        Told::Eased => knows && muted.is_none(),
        // Whoever did it knows, and what may become something is nothing yet.
        Told::Began | Told::Passed | Told::Acknowledged => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(labels: &BTreeMap<String, String>, severity: Option<Severity>) -> Subject<'_> {
        Subject { rule: "disk", agent: "web-1", site: "eu-1", labels, key: "/srv", severity }
    }

    #[test]
    fn a_silence_holds_for_what_matches_all_of_it_while_it_lasts() {
        let labels = BTreeMap::from([("tier".to_owned(), "web".to_owned())]);
        let full = Matcher {
            rules: vec!["cpu".into(), "disk".into()],
            agents: vec!["web-1".into()],
            sites: vec!["eu-1".into()],
            labels: labels.clone(),
            key: Some("/srv".into()),
            at_most: Some(Severity::Warning),
        };
        let warning = subject(&labels, Some(Severity::Warning));
        assert!(full.covers(&warning) && Matcher::default().covers(&warning) && Matcher::default().is_empty());
        assert!(!full.covers(&subject(&labels, Some(Severity::Critical))), "what is critical is let through");
        for other in [
            Matcher { rules: vec!["cpu".into()], ..full.clone() },
            Matcher { agents: vec!["web-2".into()], ..full.clone() },
            Matcher { sites: vec!["us-1".into()], ..full.clone() },
            Matcher { labels: BTreeMap::from([("tier".into(), "db".into())]), ..full.clone() },
            Matcher { key: Some("/".into()), ..full.clone() },
        ] {
            assert!(!other.covers(&warning), "{other:?}");
        }
        let silence = Silence { matcher: full, from: Timestamp(10), until: Timestamp(20) };
        let holds: Vec<bool> = [9, 10, 19, 20].map(|at| silence.holds(&warning, Timestamp(at))).to_vec();
        assert_eq!(holds, [false, true, true, false]);
        assert_eq!(mute(&warning, std::slice::from_ref(&silence), false, true, Timestamp(10)), Some(Mute::Silence));
        assert_eq!(mute(&warning, std::slice::from_ref(&silence), true, true, Timestamp(10)), Some(Mute::Maintenance));
        assert_eq!(mute(&warning, &[silence], false, true, Timestamp(20)), Some(Mute::Flapping));
        assert_eq!(mute(&warning, &[], false, false, Timestamp(20)), None);
    }

    #[test]
    fn an_end_is_told_to_those_who_heard_of_the_beginning() {
        for told in Told::ALL {
            let heard = [(None, false), (None, true), (Some(Mute::Silence), false), (Some(Mute::Silence), true)];
            let heard = heard.map(|(muted, knows)| is_news(told, muted, knows));
            let expected = match told {
                Told::Fired | Told::Worsened | Told::Released => [true, true, false, false],
                Told::Resolved | Told::Forgotten => [false, true, false, true],
                Told::Eased => [false, true, false, false],
                Told::Began | Told::Passed | Told::Acknowledged => [false; 4],
            };
            assert_eq!(heard, expected, "{told:?}");
        }
    }
}
