//! `cargo xtask test`: builds what tests drive, runs them all, and counts.

use std::io::{BufRead, BufReader, IsTerminal as _, Read, Write};
use std::process::{ExitCode, Stdio};
use std::time::Instant;

use anyhow::Context as _;

use crate::program::{self, cargo, say, target_dir};
use crate::{plugins, toolchain};

/// How many tests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Passed.
    pub passed: u64,
    /// Failed.
    pub failed: u64,
    /// Ignored.
    pub skipped: u64,
}

impl Count {
    /// Adds one line of a test program's output, if it is its result line.
    pub fn add_line(&mut self, line: &str) {
        let Some(rest) = line.trim().strip_prefix("test result: ") else { return };
        let Some((_, numbers)) = rest.split_once(". ") else { return };
        for part in numbers.split(';') {
            let Some((number, word)) = part.trim().split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match word {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }

    /// The closing line.
    pub fn line(&self) -> String {
        let skipped = if self.skipped > 0 { format!(", {} skipped", self.skipped) } else { String::new() };
        format!("{} passed, {} failed{skipped}", self.passed, self.failed)
    }
}

/// What failing tests said, gathered on the way, to be told again where somebody looks: at the end.
#[derive(Debug, Default)]
struct Failures {
    inside: bool,
    lines: Vec<String>,
}

impl Failures {
    /// Lines kept of all together. A test that failed says why in its first ones.
    const KEPT: usize = 200;

    /// Takes one line of a test program's output: what stands between `failures:` and the list of names is kept, but
    /// for where the panic came through.
    fn add_line(&mut self, line: &str) {
        let line = line.trim_end();
        if line.starts_with("---- ") && line.ends_with(" ----") {
            self.inside = true;
        } else if line == "failures:" || line == "stack backtrace:" || line.starts_with("test result: ") {
            self.inside = false;
        }
        if self.inside && !line.is_empty() && self.lines.len() < Failures::KEPT {
            self.lines.push(line.to_owned());
        }
    }

    /// Says them again, between two lines that a script finds.
    fn tell(&self) {
        if self.lines.is_empty() {
            return;
        }
        say("what failed:");
        for line in &self.lines {
            say(line);
        }
        say("end of what failed");
    }
}

/// Builds, tests and counts.
///
/// # Errors
/// When something is missing or cannot be built; a failing test is an exit code, not an error.
pub fn run() -> anyhow::Result<ExitCode> {
    let mut parts: Vec<(&str, f64)> = Vec::new();
    let mut begun = Instant::now();
    let mut part = |name, parts: &mut Vec<(&str, f64)>| {
        parts.push((name, begun.elapsed().as_secs_f64()));
        begun = Instant::now();
    };

    let compiler = toolchain::c_tools()?;
    let wasm = toolchain::wasm()?;
    say(format_args!("C compiler: {compiler}; plugins: {}", wasm.describe()));
    for package in toolchain::test_packages()? {
        say(format_args!("skipped: tests that need {package}, which is not installed"));
    }
    for package in toolchain::python_packages(&target_dir()?)? {
        say(format_args!("skipped: tests that need {package}, which is not installed"));
    }
    part("what tests need", &mut parts);

    // Everything at once: chosen crates alone would resolve to other features, and be built a second time.
    program::run(&mut cargo(&["build", "--workspace", "--bins", "--tests"]))?;
    part("programs", &mut parts);

    let target = target_dir()?;
    for line in plugins::build_all(&target.join("debug/viworks"), &target.join("plugins"), &wasm)? {
        say(line);
    }
    part("plugins", &mut parts);

    let (mut count, failures, ended_well) = run_tests()?;
    part("tests", &mut parts);

    failures.tell();
    for (name, seconds) in &parts {
        say(format_args!("{name:<16} {seconds:>7.1} s"));
    }
    if !ended_well && count.failed == 0 {
        say("a test program ended without saying how its tests went; counted as one failure");
        count.failed = 1;
    }
    say(format_args!("{}", count.line()));
    Ok(if count.failed == 0 && ended_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_tests() -> anyhow::Result<(Count, Failures, bool)> {
    let mut tests = cargo(&["test", "--workspace", "--no-fail-fast"]);
    if std::io::stdout().is_terminal() {
        tests.env("CARGO_TERM_COLOR", "always");
    }
    tests.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = tests.spawn().context("`cargo test` cannot be started")?;
    let stdout = child.stdout.take().context("its output is a pipe")?;
    let (count, failures) = pass_on(stdout, &mut std::io::stdout().lock())?;
    let status = child.wait().context("`cargo test` cannot be waited for")?;
    Ok((count, failures, status.success()))
}

/// Passes everything on as it comes, counts on the way and keeps what failing tests said.
fn pass_on(from: impl Read, to: &mut impl Write) -> anyhow::Result<(Count, Failures)> {
    let (mut count, mut failures) = (Count::default(), Failures::default());
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).context("test output cannot be read")? > 0 {
        to.write_all(&line).and_then(|()| to.flush()).context("test output cannot be passed on")?;
        let text = String::from_utf8_lossy(&line);
        count.add_line(&text);
        failures.add_line(&text);
        line.clear();
    }
    Ok((count, failures))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_summed_and_everything_is_passed_on() {
        let text = "running 2 tests\ntest a ... ok\n\
                    test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
                    not utf-8: \u{fffd}\n\
                    test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 7 filtered out; finished in 0.01s";
        let mut seen = Vec::new();
        let (count, failures) = pass_on(text.as_bytes(), &mut seen).expect("read");
        assert_eq!(failures.lines, Vec::<String>::new());
        assert_eq!(count, Count { passed: 4, failed: 2, skipped: 1 });
        assert_eq!(seen, text.as_bytes());
        assert_eq!(count.line(), "4 passed, 2 failed, 1 skipped");
        assert_eq!(Count { passed: 4, failed: 0, skipped: 0 }.line(), "4 passed, 0 failed");
    }
    #[test]
    fn what_a_failing_test_said_is_kept_and_names_and_other_lines_are_not() {
        let text = "test a ... ok\ntest b ... FAILED\n\nfailures:\n\n---- b stdout ----\n\n\
                    thread 'b' panicked at x.rs:1:1:\nleft: 1\nstack backtrace:\n   0: main\n\n\nfailures:\n    b\n\n\
                    test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
                    test c ... ok\n";
        let (_, failures) = pass_on(text.as_bytes(), &mut Vec::new()).expect("read");
        assert_eq!(failures.lines, ["---- b stdout ----", "thread 'b' panicked at x.rs:1:1:", "left: 1"]);
        let many: String = (0..1000).map(|n| format!("line {n}\n")).collect();
        let (_, failures) = pass_on(format!("---- b stdout ----\n{many}").as_bytes(), &mut Vec::new()).expect("read");
        assert_eq!(failures.lines.len(), Failures::KEPT);
    }
}
