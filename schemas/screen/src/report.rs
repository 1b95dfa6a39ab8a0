//! What a doctor found, part by part, each fault with what to do about it. The host's and the agent's doctor say
//! it alike.

use std::fmt::Write as _;

use serde::Serialize;

use crate::escape;

/// How a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// As it should be.
    Well,
    /// It works, and deserves a look.
    Look,
    /// It does not work.
    Broken,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What it belongs to.
    pub section: &'static str,
    /// How it is.
    pub outcome: Outcome,
    /// What was found.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Everything that was looked at, in order.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The checks.
    pub checks: Vec<Check>,
}

impl Report {
    /// Says that something is as it should be.
    pub fn well(&mut self, section: &'static str, what: String) {
        self.checks.push(Check { section, outcome: Outcome::Well, what, hint: None });
    }

    /// Says that something works and deserves a look.
    pub fn look(&mut self, section: &'static str, what: impl Into<String>, hint: impl Into<String>) {
        self.checks.push(Check { section, outcome: Outcome::Look, what: what.into(), hint: Some(hint.into()) });
    }

    /// Says that something does not work.
    pub fn broken(&mut self, section: &'static str, what: impl Into<String>, hint: impl Into<String>) {
        self.checks.push(Check { section, outcome: Outcome::Broken, what: what.into(), hint: Some(hint.into()) });
    }

    /// Whether something does not work.
    pub fn is_broken(&self) -> bool {
        self.checks.iter().any(|check| check.outcome == Outcome::Broken)
    }

    /// Parts in which something does not work, one on each line.
    pub fn broken_names(&self) -> String {
        let mut names: Vec<&str> =
            self.checks.iter().filter(|check| check.outcome == Outcome::Broken).map(|check| check.section).collect();
        names.dedup();
        names.into_iter().map(|name| format!("{name}\n")).collect()
    }

    /// The report for a person; its last line says how `whole` is.
    pub fn page(&self, whole: &str, in_colour: bool) -> String {
        let mut text = String::new();
        let mut section = "";
        for check in &self.checks {
            if check.section != section {
                section = check.section;
                let gap = if text.is_empty() { "" } else { "\n" };
                let _ = writeln!(text, "{gap}{section}\n{}", "-".repeat(section.len()));
            }
            let _ = writeln!(text, "{} {}", mark(check.outcome, in_colour), escape::line(&check.what));
            if let Some(hint) = &check.hint {
                let _ = writeln!(text, "    {}", escape::line(hint));
            }
        }
        let verdict = if self.is_broken() { Outcome::Broken } else { Outcome::Well };
        let _ = writeln!(text, "\n{whole} is {}", mark(verdict, in_colour));
        text
    }
}

fn mark(outcome: Outcome, in_colour: bool) -> String {
    let (mark, code) = match outcome {
        Outcome::Well => ('√', 32),
        Outcome::Look => ('‼', 33),
        Outcome::Broken => ('×', 31),
    };
    if in_colour { format!("\x1b[{code}m{mark}\x1b[0m") } else { mark.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_sections_marks_and_hints() {
        let mut report = Report::default();
        report.well("host", "it answers".to_owned());
        report.look("host", "its clock is 4 s off\u{1b}[2J", "run NTP");
        report.broken("agents", "0 of 1 online\u{202e}", "viworks-agent doctor");
        assert_eq!(
            report.page("All in all it", false),
            "host\n----\n√ it answers\n‼ its clock is 4 s off\\x1b[2J\n    run NTP\n\n\
             agents\n------\n× 0 of 1 online\\u{202e}\n    viworks-agent doctor\n\nAll in all it is ×\n"
        );
        assert!(report.page("All", true).contains("\x1b[32m√\x1b[0m it answers"));
        assert_eq!(report.broken_names(), "agents\n");
    }
}
