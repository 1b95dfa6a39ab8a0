//! Verbs as operators see them, and where a plan will run.

use std::fmt;

use plan::effect::Effect;

/// A verb's name: dotted lower-case words, e.g. `docker.ps`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VerbName(String);

impl VerbName {
    /// Most bytes of a name.
    pub const MAX_BYTES: usize = 64;

    /// Reads a name; `None` when `text` is not two or more dotted words of `[a-z0-9_-]`, each
    /// starting with a letter.
    pub fn parse(text: &str) -> Option<VerbName> {
        let word = |w: &str| {
            w.starts_with(|c: char| c.is_ascii_lowercase())
                && w.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'))
        };
        let fits = text.len() <= Self::MAX_BYTES && text.contains('.') && text.split('.').all(word);
        fits.then(|| VerbName(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VerbName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a verb's cancel promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelBehaviour {
    /// Nothing is left behind.
    Clean,
    /// Ends, but what was done stays done.
    LeavesEffects,
    /// Cannot be cancelled once it runs.
    None,
}

impl CancelBehaviour {
    /// The name used in manifests and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            CancelBehaviour::Clean => "clean",
            CancelBehaviour::LeavesEffects => "leaves_effects",
            CancelBehaviour::None => "none",
        }
    }
}

/// The kind of machine a plan is made for. One plan serves all agents with an equal profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Profile {
    /// e.g. `linux`.
    pub os: String,
    /// e.g. `x86_64`.
    pub arch: String,
    /// Container engine without its version, e.g. `docker`; absent when there is none.
    pub container_engine: Option<String>,
    /// `v1`, `v2` or `v2-standalone`; absent when there is none.
    pub compose: Option<String>,
}

/// What everybody may know of one loaded verb, besides its schemas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerbTraits {
    /// Its name.
    pub name: VerbName,
    /// One line for people.
    pub summary: String,
    /// The least effect a plan of it may have.
    pub effect: Effect,
    /// Whether running it twice is the same as running it once.
    pub idempotent: bool,
    /// What cancel promises.
    pub cancel: CancelBehaviour,
    /// Run timeout when the caller names none, in milliseconds.
    pub default_timeout_ms: u64,
    /// A capability the agent must have, if any.
    pub needs: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verb_names_are_dotted_lower_case_words() {
        for good in ["exec.run", "docker.ps", "a.b.c2", "my-tool.do_it"] {
            assert!(VerbName::parse(good).is_some(), "{good}");
        }
        for bad in ["", "exec", "Exec.run", "exec.", ".run", "exec..run", "1.2", "a.b c", &"a.".repeat(40)] {
            assert!(VerbName::parse(bad).is_none(), "{bad}");
        }
    }
}
