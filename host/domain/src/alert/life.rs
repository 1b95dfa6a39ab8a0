//! The life of one alert: one for each rule, agent and key, from the first sign until it is well again, and anew.
//!
//! ```text
//!             Seen(pending)          Seen(wrong)             Acknowledge
//!  (nothing) ───────────────▶ pending ─────────▶ firing ◀──────────────────▶ acknowledged
//!      │                        │                │  ▲ ▲  Release, or worse      │
//!      │ Seen(wrong)            │ Well, Forget   │  │ └────────────────────────┤
//!      └────────────────────────┼────────────────┼──┘                          │ Well, Forget
//!                               ▼                ▼                             ▼
//!                          resolved ◀──────────────────────────────────────────┘
//! ```
//!
//! What is seen is a level: the same sight twice changes nothing. Whoever acknowledged a warning has not
//! acknowledged that it is critical, so what gets worse wants somebody again.
//!
//! Invariant: total; every pair of state and happening is decided here and nowhere else. Who is told, and who is not
//! because of silence, maintenance or flapping, is no state: see `mute`.

use super::{Seen, Severity};

/// Where an alert stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It may become something.
    Pending,
    /// It is wrong, and wants somebody.
    Firing(Severity),
    /// It is wrong, and somebody has taken it.
    Acknowledged(Severity),
    /// It is well, or nobody asks any more.
    Resolved,
}

/// What may happen to an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// The rule finds it wrong.
    Seen(Seen),
    /// The rule does not find it wrong any more.
    Well,
    /// Its rule or its agent is gone.
    Forget,
    /// Somebody takes it.
    Acknowledge,
    /// Somebody gives it back.
    Release,
}

/// What is told of a change, in the alert's timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Told {
    /// It may become something.
    Began,
    /// It never became anything.
    Passed,
    /// It is wrong.
    Fired,
    /// It is critical, and was a warning.
    Worsened,
    /// It is a warning, and was critical.
    Eased,
    /// It is well again.
    Resolved,
    /// Nobody asks any more.
    Forgotten,
    /// Somebody has taken it.
    Acknowledged,
    /// Somebody gave it back.
    Released,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It stands there now, and this is told.
    To(State, Told),
    /// Nothing changes.
    Stay,
    /// The order makes no sense here.
    No,
}

impl State {
    /// All of them.
    pub const ALL: [State; 6] = [
        State::Pending,
        State::Firing(Severity::Warning),
        State::Firing(Severity::Critical),
        State::Acknowledged(Severity::Warning),
        State::Acknowledged(Severity::Critical),
        State::Resolved,
    ];

    /// The words they go by; several may share one.
    pub const WORDS: [&'static str; 4] = ["pending", "firing", "acknowledged", "resolved"];

    /// The name used in JSON, SQL and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Firing(_) => "firing",
            State::Acknowledged(_) => "acknowledged",
            State::Resolved => "resolved",
        }
    }

    /// How bad it is, if it is wrong.
    pub fn severity(self) -> Option<Severity> {
        match self {
            State::Firing(severity) | State::Acknowledged(severity) => Some(severity),
            State::Pending | State::Resolved => None,
        }
    }

    /// The state of that name and severity.
    pub fn parse(name: &str, severity: Option<Severity>) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str() == name && state.severity() == severity)
    }

    /// Whether it is over.
    pub fn is_over(self) -> bool {
        self == State::Resolved
    }
}

impl Told {
    /// All of them.
    pub const ALL: [Told; 9] = [
        Told::Began,
        Told::Passed,
        Told::Fired,
        Told::Worsened,
        Told::Eased,
        Told::Resolved,
        Told::Forgotten,
        Told::Acknowledged,
        Told::Released,
    ];

    /// The name used in JSON, SQL and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Told::Began => "began",
            Told::Passed => "passed",
            Told::Fired => "fired",
            Told::Worsened => "worsened",
            Told::Eased => "eased",
            Told::Resolved => "resolved",
            Told::Forgotten => "forgotten",
            Told::Acknowledged => "acknowledged",
            Told::Released => "released",
        }
    }
}

/// The state of an alert that is seen for the first time.
pub fn first(seen: Seen) -> (State, Told) {
    match seen {
        Seen::Pending => (State::Pending, Told::Began),
        Seen::Wrong(severity) => (State::Firing(severity), Told::Fired),
    }
}

/// What follows when `happening` meets an alert in `state`.
pub fn step(state: State, happening: Happening) -> Step {
    use Happening::{Acknowledge, Forget, Release, Well};
    use State::{Acknowledged, Firing, Pending, Resolved};
    match (state, happening) {
        // An episode is over; the next sight begins another.
        (Resolved, Happening::Seen(seen)) => {
            let (state, told) = first(seen);
            Step::To(state, told)
        }
        (Resolved, Well | Forget) => Step::Stay,
        (Pending, Happening::Seen(Seen::Wrong(severity))) => Step::To(Firing(severity), Told::Fired),
        (Pending, Happening::Seen(Seen::Pending)) => Step::Stay,
        (Pending, Well | Forget) => Step::To(Resolved, Told::Passed),
        // A rule that lost its window takes nothing back: only what is well is well.
        (Firing(_) | Acknowledged(_), Happening::Seen(Seen::Pending)) => Step::Stay,
        (Firing(now) | Acknowledged(now), Happening::Seen(Seen::Wrong(severity))) if severity > now => {
            Step::To(Firing(severity), Told::Worsened)
        }
        (Firing(now), Happening::Seen(Seen::Wrong(severity))) if severity < now => {
            Step::To(Firing(severity), Told::Eased)
        }
        (Acknowledged(now), Happening::Seen(Seen::Wrong(severity))) if severity < now => {
            Step::To(Acknowledged(severity), Told::Eased)
        }
        (Firing(_) | Acknowledged(_), Happening::Seen(Seen::Wrong(_))) => Step::Stay,
        (Firing(_) | Acknowledged(_), Well) => Step::To(Resolved, Told::Resolved),
        (Firing(_) | Acknowledged(_), Forget) => Step::To(Resolved, Told::Forgotten),
        // Taking over what somebody else has taken is told, too.
        (Firing(severity) | Acknowledged(severity), Acknowledge) => {
            Step::To(Acknowledged(severity), Told::Acknowledged)
        }
        (Acknowledged(severity), Release) => Step::To(Firing(severity), Told::Released),
        (Pending | Resolved, Acknowledge | Release) | (Firing(_), Release) => Step::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HAPPENINGS: [(&str, Happening); 7] = [
        ("pending", Happening::Seen(Seen::Pending)),
        ("warning", Happening::Seen(Seen::Wrong(Severity::Warning))),
        ("critical", Happening::Seen(Seen::Wrong(Severity::Critical))),
        ("well", Happening::Well),
        ("forget", Happening::Forget),
        ("take", Happening::Acknowledge),
        ("release", Happening::Release),
    ];

    fn shown(state: State) -> String {
        let severity = match state.severity() {
            Some(Severity::Warning) => "W",
            Some(Severity::Critical) => "C",
            None => "",
        };
        format!("{}{severity}", state.as_str())
    }

    #[test]
    fn every_pair_of_state_and_happening_is_decided() {
        let table = "
            pending        pending   =
            pending        warning   firingW fired
            pending        critical  firingC fired
            pending        well      resolved passed
            pending        forget    resolved passed
            pending        take      no
            pending        release   no
            firingW        pending   =
            firingW        warning   =
            firingW        critical  firingC worsened
            firingW        well      resolved resolved
            firingW        forget    resolved forgotten
            firingW        take      acknowledgedW acknowledged
            firingW        release   no
            firingC        pending   =
            firingC        warning   firingW eased
            firingC        critical  =
            firingC        well      resolved resolved
            firingC        forget    resolved forgotten
            firingC        take      acknowledgedC acknowledged
            firingC        release   no
            acknowledgedW  pending   =
            acknowledgedW  warning   =
            acknowledgedW  critical  firingC worsened
            acknowledgedW  well      resolved resolved
            acknowledgedW  forget    resolved forgotten
            acknowledgedW  take      acknowledgedW acknowledged
            acknowledgedW  release   firingW released
            acknowledgedC  pending   =
            acknowledgedC  warning   acknowledgedW eased
            acknowledgedC  critical  =
            acknowledgedC  well      resolved resolved
            acknowledgedC  forget    resolved forgotten
            acknowledgedC  take      acknowledgedC acknowledged
            acknowledgedC  release   firingC released
            resolved       pending   pending began
            resolved       warning   firingW fired
            resolved       critical  firingC fired
            resolved       well      =
            resolved       forget    =
            resolved       take      no
            resolved       release   no
        ";
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let wanted: Vec<String> = table.lines().map(words).filter(|line| !line.is_empty()).collect();
        let mut decided = Vec::new();
        for state in State::ALL {
            for (name, happening) in HAPPENINGS {
                let follows = match step(state, happening) {
                    Step::To(next, told) => format!("{} {}", shown(next), told.as_str()),
                    Step::Stay => "=".to_owned(),
                    Step::No => "no".to_owned(),
                };
                decided.push(format!("{} {name} {follows}", shown(state)));
            }
        }
        assert_eq!(decided, wanted);
    }

    #[test]
    fn the_same_sight_twice_changes_nothing() {
        for state in State::ALL {
            for (name, happening) in HAPPENINGS {
                let is_sight = matches!(happening, Happening::Seen(_) | Happening::Well | Happening::Forget);
                if let (true, Step::To(next, _)) = (is_sight, step(state, happening)) {
                    assert_eq!(step(next, happening), Step::Stay, "{} after {name}", shown(next));
                }
            }
        }
    }

    #[test]
    fn names_are_read_back() {
        for state in State::ALL {
            assert_eq!(State::parse(state.as_str(), state.severity()), Some(state));
        }
        assert_eq!(State::parse("firing", None), None);
        let mut words = State::ALL.map(State::as_str).to_vec();
        words.dedup();
        assert_eq!(words, State::WORDS);
    }
}
