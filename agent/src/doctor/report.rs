//! What was found, part by part, each fault with what to do about it.
//!
//! The host's doctor (`viworks doctor`) has a page of the same looks. They share no code: the agent shares none
//! with what runs elsewhere but the contracts.

use std::fmt::Write as _;

/// How a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Well,
    /// It works, and deserves a look.
    Look,
    /// It does not work.
    Broken,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The checks.
    pub checks: Vec<Check>,
}

impl Report {
    pub(super) fn well(&mut self, section: &'static str, what: String) {
        self.checks.push(Check { section, outcome: Outcome::Well, what, hint: None });
    }

    pub(super) fn look(&mut self, section: &'static str, what: impl Into<String>, hint: impl Into<String>) {
        self.checks.push(Check { section, outcome: Outcome::Look, what: what.into(), hint: Some(hint.into()) });
    }

    pub(super) fn broken(&mut self, section: &'static str, what: impl Into<String>, hint: impl Into<String>) {
        self.checks.push(Check { section, outcome: Outcome::Broken, what: what.into(), hint: Some(hint.into()) });
    }

    /// Whether something does not work.
    pub fn is_broken(&self) -> bool {
        self.checks.iter().any(|check| check.outcome == Outcome::Broken)
    }

    /// The report for a person.
    pub fn page(&self, colour: bool) -> String {
        let mut text = String::new();
        let mut section = "";
        for check in &self.checks {
            if check.section != section {
                section = check.section;
                let gap = if text.is_empty() { "" } else { "\n" };
                let _ = writeln!(text, "{gap}{section}\n{}", "-".repeat(section.len()));
            }
            let mark = mark(check.outcome, colour);
            let _ = writeln!(text, "{mark} {}", harmless(&check.what));
            if let Some(hint) = &check.hint {
                let _ = writeln!(text, "    {}", harmless(hint));
            }
        }
        let verdict = if self.is_broken() { Outcome::Broken } else { Outcome::Well };
        let _ = writeln!(text, "\nThe agent's part is {}", mark(verdict, colour));
        text
    }
}

fn mark(outcome: Outcome, colour: bool) -> String {
    let (mark, code) = match outcome {
        Outcome::Well => ('√', 32),
        Outcome::Look => ('‼', 33),
        Outcome::Broken => ('×', 31),
    };
    if colour { format!("\x1b[{code}m{mark}\x1b[0m") } else { mark.to_string() }
}

/// Paths and answers of others may hold what a terminal would obey.
fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_sections_marks_and_hints() {
        let mut report = Report::default();
        report.well("disk", "much is free".to_owned());
        report.look("clock", "4 s apart\u{1b}[2J", "run NTP");
        assert_eq!(
            report.page(false),
            "disk\n----\n√ much is free\n\nclock\n-----\n‼ 4 s apart?[2J\n    run NTP\n\nThe agent's part is √\n"
        );
        report.broken("clock", "no clock", "buy one");
        let page = report.page(true);
        assert!(page.contains("\x1b[31m×\x1b[0m no clock") && page.ends_with("is \x1b[31m×\x1b[0m\n"), "{page}");
    }
}
