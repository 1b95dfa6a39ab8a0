//! What rules say of agents, and what becomes of it: alerts.

pub mod life;
pub mod flap;
pub mod mute;
pub mod standing;
pub mod backtest;
pub mod channel;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Somebody should look.
    Warning,
    /// Somebody must look now.
    Critical,
}

impl Severity {
    /// Both, least first.
    pub const ALL: [Severity; 2] = [Severity::Warning, Severity::Critical];

    /// The word in JSON, in the store and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }

    /// The severity of that word.
    pub fn parse(text: &str) -> Option<Severity> {
        Severity::ALL.into_iter().find(|severity| severity.as_str() == text)
    }
}

/// What a rule says of one thing of one agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Seen {
    /// It may become something: it has not lasted long enough.
    Pending,
    /// It is wrong.
    Wrong(Severity),
}

impl Seen {
    /// What a rule's word means; a word from the future is a warning, so that nothing is overheard.
    pub fn read(word: &str) -> Seen {
        match word {
            "pending" => Seen::Pending,
            word => Seen::Wrong(Severity::parse(word).unwrap_or(Severity::Warning)),
        }
    }

    /// The word in JSON and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Seen::Pending => "pending",
            Seen::Wrong(severity) => severity.as_str(),
        }
    }
}

/// One thing that a rule found wrong with an agent.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Which thing, if there may be several: a mount, a container.
    pub key: String,
    /// How bad.
    pub seen: Seen,
    /// Since when. Milliseconds since 1970-01-01 UTC.
    pub since_ms: u64,
    /// The number at fault, if it is one.
    pub value: Option<f64>,
    /// One line for people.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_rules_are_read_and_unknown_ones_are_warnings() {
        for (word, seen) in [
            ("pending", Seen::Pending),
            ("warning", Seen::Wrong(Severity::Warning)),
            ("critical", Seen::Wrong(Severity::Critical)),
            ("apocalyptic", Seen::Wrong(Severity::Warning)),
        ] {
            assert_eq!(Seen::read(word), seen, "{word}");
        }
        assert!(Seen::Pending < Seen::Wrong(Severity::Warning));
    }
}
