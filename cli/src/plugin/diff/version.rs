//! Semantic versions: which step one is from another, and which step a change needs.

use std::fmt;

/// How far a version moves. Later ones cover earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// It does not move, or backwards.
    None,
    /// Nothing anybody could tell but from texts.
    Patch,
    /// Whatever worked before works as before.
    Minor,
    /// Something that worked before may not, or may mean something else.
    Major,
}

impl Step {
    /// Its name in JSON and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Step::None => "none",
            Step::Patch => "patch",
            Step::Minor => "minor",
            Step::Major => "major",
        }
    }

    /// The step from version `old` to `new`. Below 1.0.0 the second number is for what breaks, and the
    /// third for the rest.
    pub fn between(old: &str, new: &str) -> Step {
        let (Some(old), Some(new)) = (numbers(old), numbers(new)) else { return Step::None };
        match (old, new) {
            (old, new) if new <= old => Step::None,
            ([major, ..], [next, ..]) if next > major => Step::Major,
            ([0, minor, _], [_, next, _]) if next > minor => Step::Major,
            ([0, ..], _) => Step::Minor,
            ([_, minor, _], [_, next, _]) if next > minor => Step::Minor,
            (_, _) => Step::Patch,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Major, minor and patch; what stands behind `-` or `+` is left out.
fn numbers(version: &str) -> Option<[u64; 3]> {
    let core = version.split(['-', '+']).next()?;
    let parts: Vec<u64> = core.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    parts.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_read_from_two_versions() {
        for (old, new, step) in [
            ("1.2.3", "2.0.0", Step::Major),
            ("1.2.3", "1.3.0", Step::Minor),
            ("1.2.3", "1.2.4", Step::Patch),
            ("1.2.3", "1.2.3", Step::None),
            ("1.2.3", "1.2.2", Step::None),
            ("0.2.3", "0.3.0", Step::Major),
            ("0.2.3", "0.2.4", Step::Minor),
            ("0.9.0", "1.0.0", Step::Major),
            ("1.0.0-rc.1", "1.0.1", Step::Patch),
            ("one", "2.0.0", Step::None),
        ] {
            assert_eq!(Step::between(old, new), step, "{old} to {new}");
        }
        assert!(Step::Major > Step::Minor && Step::Patch > Step::None);
    }
}
