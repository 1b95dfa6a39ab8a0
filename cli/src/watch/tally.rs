//! How many agents are where.

use std::collections::BTreeMap;

use api::command::StatusEvent;

/// States in the order a person wants to read them, and what they are called.
const LABELS: [(&str, &str); 14] = [
    ("succeeded", "ok"),
    ("failed", "failed"),
    ("timed_out", "timed out"),
    ("rejected", "rejected"),
    ("cancelled", "cancelled"),
    ("expired", "expired"),
    ("skipped", "skipped"),
    ("interrupted", "interrupted"),
    ("lost", "lost"),
    ("running", "running"),
    ("accepted", "accepted"),
    ("sent", "sent"),
    ("queued", "queued"),
    ("held", "held"),
];

/// States that an agent may still leave.
const OPEN: [&str; 5] = ["running", "accepted", "sent", "queued", "held"];

/// Cells of the progress bar.
const BAR: u64 = 10;

/// Whether nothing more will happen in this state, as far as is known.
pub fn is_over(state: &str) -> bool {
    !OPEN.contains(&state)
}

/// What a person calls a state: never reached because it was not connected is `unreachable`.
pub fn label<'a>(state: &'a str, reason: Option<&str>) -> &'a str {
    match (state, reason) {
        ("expired", Some("offline")) => "unreachable",
        _ => LABELS.iter().find(|(known, _)| *known == state).map_or(state, |(_, label)| label),
    }
}

/// Where each agent stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    states: BTreeMap<String, (String, Option<String>)>,
    status: Option<StatusEvent>,
}

impl Tally {
    /// Everybody waits.
    pub(super) fn new<'a>(agents: impl Iterator<Item = &'a String>) -> Tally {
        Tally { states: agents.map(|agent| (agent.clone(), ("queued".to_owned(), None))).collect(), status: None }
    }

    /// An agent moved.
    pub(super) fn state(&mut self, agent: &str, state: &str, reason: Option<&str>) {
        self.states.insert(agent.to_owned(), (state.to_owned(), reason.map(str::to_owned)));
    }

    /// The command moved.
    pub(super) fn status(&mut self, status: StatusEvent) {
        self.status = Some(status);
    }

    /// The last status heard of.
    pub(super) fn as_status(&self) -> StatusEvent {
        let unknown = || StatusEvent { status: "unknown".to_owned(), counts: BTreeMap::new(), traceparent: None };
        self.status.clone().unwrap_or_else(unknown)
    }

    /// Agents that are over and did not succeed, with their state and reason.
    pub(super) fn unsuccessful(&self) -> impl Iterator<Item = (&str, &str, Option<&str>)> {
        self.states
            .iter()
            .filter(|(_, (state, _))| is_over(state) && state != "succeeded")
            .map(|(agent, (state, reason))| (agent.as_str(), state.as_str(), reason.as_deref()))
    }

    /// Every agent, and what a person calls the state it is in.
    pub(super) fn ends(&self) -> impl Iterator<Item = (&str, &str)> {
        self.states.iter().map(|(agent, (state, reason))| (agent.as_str(), label(state, reason.as_deref())))
    }

    /// `▮▮▮▯ 24/40 · 21 ok · 3 failed · 16 running`
    pub(super) fn progress(&self) -> String {
        let all = self.states.len() as u64;
        let over = self.states.values().filter(|(state, _)| is_over(state)).count() as u64;
        let full = (over * BAR).checked_div(all).unwrap_or(0);
        let bar: String = (0..BAR).map(|cell| if cell < full { '▮' } else { '▯' }).collect();
        format!("{bar} {over}/{all} · {}", counts_line(&self.counts()))
    }

    /// Counts by label: the host's own, with what the reasons add.
    pub(super) fn final_counts(&self, end: &StatusEvent) -> BTreeMap<String, u64> {
        let own = self.counts();
        // After a late start some states may never have been heard; the host's counts are complete.
        let heard: u64 = own.values().sum();
        let told: u64 = end.counts.values().map(|count| u64::from(*count)).sum();
        let offline = own.get("unreachable").copied().unwrap_or(0);
        if told == 0 && heard > 0 {
            return own;
        }
        let mut counts = BTreeMap::new();
        for (state, count) in &end.counts {
            let count = u64::from(*count);
            let named = if state == "expired" { offline.min(count) } else { 0 };
            for (label, count) in [("unreachable", named), (label(state, None), count - named)] {
                if count > 0 {
                    *counts.entry(label.to_owned()).or_default() += count;
                }
            }
        }
        counts
    }

    fn counts(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for (state, reason) in self.states.values() {
            *counts.entry(label(state, reason.as_deref()).to_owned()).or_default() += 1;
        }
        counts
    }
}

/// `8 ok · 1 failed · 1 unreachable`, in the order of [`LABELS`], words of a later version last.
pub(super) fn counts_line(counts: &BTreeMap<String, u64>) -> String {
    let place = |label: &str| {
        let kin = if label == "unreachable" { "expired" } else { label };
        (LABELS.iter().position(|(_, known)| *known == kin).unwrap_or(LABELS.len()), kin == label)
    };
    let mut known: Vec<(&String, &u64)> = counts.iter().collect();
    known.sort_by_key(|(label, _)| place(label));
    let words: Vec<String> = known.into_iter().map(|(label, count)| format!("{count} {label}")).collect();
    if words.is_empty() { "nobody".to_owned() } else { words.join(" · ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally() -> Tally {
        let agents: Vec<String> = (0..10).map(|n| format!("a{n}")).collect();
        let mut tally = Tally::new(agents.iter());
        for agent in &agents[..6] {
            tally.state(agent, "succeeded", None);
        }
        tally.state("a6", "failed", None);
        tally.state("a7", "expired", Some("offline"));
        tally.state("a8", "running", None);
        tally
    }

    #[test]
    fn progress_counts_who_is_over() {
        assert_eq!(tally().progress(), "▮▮▮▮▮▮▮▮▯▯ 8/10 · 6 ok · 1 failed · 1 unreachable · 1 running · 1 queued");
        assert_eq!(Tally::default().progress(), "▯▯▯▯▯▯▯▯▯▯ 0/0 · nobody");
    }

    #[test]
    fn the_end_is_the_hosts_count_with_our_reasons() {
        let counts = [("succeeded", 6), ("failed", 2), ("expired", 2)].map(|(k, v)| (k.to_owned(), v)).into();
        let end = StatusEvent { status: "partial".into(), counts, traceparent: None };
        assert_eq!(counts_line(&tally().final_counts(&end)), "6 ok · 2 failed · 1 unreachable · 1 expired");
    }

    #[test]
    fn unsuccessful_is_everybody_who_ended_otherwise() {
        let tally = tally();
        assert_eq!(
            tally.unsuccessful().collect::<Vec<_>>(),
            [("a6", "failed", None), ("a7", "expired", Some("offline"))]
        );
    }
}
