//! Agents on which a command did not succeed, and which kind of retry means them.

use clap::ValueEnum;

/// On which agents a command is run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Only {
    /// Where it may have run and did not succeed.
    Failed,
    /// Where it certainly never started.
    NeverStarted,
}

/// An agent on which it did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// Its name.
    pub agent: String,
    /// The retry that means it, as far as is known.
    pub only: Option<Only>,
}

impl Only {
    /// Both.
    pub const ALL: [Only; 2] = [Only::Failed, Only::NeverStarted];

    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Only::Failed => "failed",
            Only::NeverStarted => "never_started",
        }
    }

    /// As the command line spells it.
    pub fn as_word(self) -> &'static str {
        match self {
            Only::Failed => "failed",
            Only::NeverStarted => "never-started",
        }
    }

    /// The one that means an end like this; the host decides by the same rule.
    pub(super) fn of(state: &str, reason: Option<&str>) -> Option<Only> {
        match (state, reason) {
            ("expired" | "skipped" | "rejected", _) => Some(Only::NeverStarted),
            ("cancelled", Some("never_sent" | "not_started")) => Some(Only::NeverStarted),
            ("failed" | "timed_out" | "interrupted" | "lost", _) => Some(Only::Failed),
            _ => None,
        }
    }
}

/// Whether it was refused for a reason that does not pass by itself, so that it would be again.
pub(super) fn is_refused(state: &str, reason: Option<&str>) -> bool {
    state == "rejected" && reason != Some("busy")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_for_want_of_room_passes_by_itself() {
        assert!(is_refused("rejected", Some("policy")) && is_refused("rejected", None));
        assert!(!is_refused("rejected", Some("busy")) && !is_refused("failed", None));
    }

    #[test]
    fn an_end_is_meant_by_one_retry_at_most() {
        for (state, reason, only) in [
            ("failed", None, Some(Only::Failed)),
            ("lost", Some("agent_gone"), Some(Only::Failed)),
            ("rejected", Some("policy"), Some(Only::NeverStarted)),
            ("rejected", Some("busy"), Some(Only::NeverStarted)),
            ("expired", Some("offline"), Some(Only::NeverStarted)),
            ("skipped", Some("halted"), Some(Only::NeverStarted)),
            ("cancelled", Some("never_sent"), Some(Only::NeverStarted)),
            ("cancelled", Some("killed"), None),
            ("of a later version", None, None),
        ] {
            assert_eq!(Only::of(state, reason), only, "{state} {reason:?}");
        }
    }
}
