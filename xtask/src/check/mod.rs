//! `cargo xtask check`: everything that must hold besides the tests. Every check runs, whatever the
//! others found.

mod arrows;
mod circles;
mod deny;
mod files;
mod graph;
mod limits;
mod tools;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::bail;

use crate::program::say;

/// What one check found.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing to say.
    Holds,
    /// Each line is one violation.
    Broken(Vec<String>),
    /// It could not be made here, and why.
    Skipped(String),
}

impl Verdict {
    fn of(violations: Vec<String>) -> Verdict {
        if violations.is_empty() { Verdict::Holds } else { Verdict::Broken(violations) }
    }
}

type Check = fn() -> anyhow::Result<Verdict>;

/// In the order of what is quickest to say.
const CHECKS: [(&str, Check); 13] = [
    ("arrows between rooms", arrows::check),
    ("module circles", circles::check),
    ("lints inherited", graph::check_lints),
    ("file length", files::check_length),
    ("words that stay out", files::check_words),
    ("limits and their tests", limits::check),
    ("format", tools::format),
    ("schemas", tools::schemas),
    ("clippy", tools::clippy),
    ("docs", tools::docs),
    ("bans, licences, sources", deny::rules),
    ("advisories", deny::advisories),
    ("lock file", tools::lock_file),
];

/// Which checks to run.
#[derive(clap::Args)]
pub struct Options {
    /// Only those whose name holds one of these words; all when there is none
    words: Vec<String>,
}

/// Runs all checks, or those asked for.
///
/// # Errors
/// When none is called as asked; a check that cannot be made is a failed check.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let wanted = |name: &str| options.words.is_empty() || options.words.iter().any(|word| name.contains(word.as_str()));
    let checks: Vec<_> = CHECKS.into_iter().filter(|(name, _)| wanted(name)).collect();
    if checks.is_empty() {
        bail!(
            "no check is called {}; there are: {}",
            options.words.join(", "),
            CHECKS.map(|(name, _)| name).join("; ")
        );
    }
    let mut lines = Vec::new();
    let mut failed = 0;
    for (name, check) in &checks {
        let begun = Instant::now();
        let verdict = check().unwrap_or_else(|error| Verdict::Broken(vec![format!("{error:#}")]));
        let (word, violations) = match verdict {
            Verdict::Holds => ("ok".to_owned(), Vec::new()),
            Verdict::Broken(violations) => ("FAIL".to_owned(), violations),
            Verdict::Skipped(why) => (format!("skipped: {why}"), Vec::new()),
        };
        failed += usize::from(!violations.is_empty());
        let line = format!("{name:<24} {:>6.1} s  {word}", begun.elapsed().as_secs_f64());
        say(&line);
        for violation in violations {
            say(format_args!("    {}", violation.replace('\n', "\n    ")));
        }
        lines.push(line);
    }
    say(format_args!("\n{}", lines.join("\n")));
    say(format_args!("{} checks, {failed} failed", checks.len()));
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
