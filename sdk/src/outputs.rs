//! What an attempt printed and how it ended, for a verb to read.

use std::borrow::Cow;

use serde_json::Value;

use crate::failure::{Failure, Result};
use crate::text::parse;
use crate::value::{FromJson, read};

pub use plan::outcome::StepEnd;

/// What an attempt printed and how it ended.
///
/// ```
/// let out = viworks_sdk::test::exited(1).with_stderr("no such file\n");
/// assert_eq!((out.steps.len(), out.stderr.as_slice()), (1, b"no such file\n".as_slice()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outputs {
    /// Why nothing more will happen.
    pub end: End,
    /// One entry for each step that was started, in order.
    pub steps: Vec<StepEnd>,
    /// What is kept of all steps' standard output: head, then tail.
    pub stdout: Vec<u8>,
    /// What is kept of all steps' standard error: head, then tail.
    pub stderr: Vec<u8>,
    /// Whether something between head and tail of `stdout` is not kept.
    pub stdout_truncated: bool,
    /// Whether something between head and tail of `stderr` is not kept.
    pub stderr_truncated: bool,
}

/// Why nothing more will happen in an attempt. Hosts may come to know further ends.
///
/// ```
/// use viworks_sdk::outputs::End;
/// use viworks_sdk::test;
///
/// assert_eq!(test::exited(1).end, End::Exited, "it ran to its end, however that was");
/// assert_eq!(test::ended(End::TimedOut).end, End::TimedOut);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// Every step ran, or one ended other than with 0 and the rest was not run.
    Exited,
    /// Killed at the run timeout.
    TimedOut,
    /// Killed because of a cancel.
    Cancelled,
    /// The agent or the machine died meanwhile; the effect is not known.
    Interrupted,
    /// An end this SDK does not know.
    Other(String),
}

impl End {
    #[cfg(target_family = "wasm")]
    pub(crate) fn parse(word: String) -> End {
        match word.as_str() {
            "exited" => End::Exited,
            "timed_out" => End::TimedOut,
            "cancelled" => End::Cancelled,
            "interrupted" => End::Interrupted,
            _ => End::Other(word),
        }
    }

    /// The word the ABI uses.
    ///
    /// ```
    /// assert_eq!(viworks_sdk::outputs::End::TimedOut.as_str(), "timed_out");
    /// ```
    pub fn as_str(&self) -> &str {
        match self {
            End::Exited => "exited",
            End::TimedOut => "timed_out",
            End::Cancelled => "cancelled",
            End::Interrupted => "interrupted",
            End::Other(word) => word,
        }
    }
}

impl Outputs {
    /// How the last started step ended, if any was started.
    ///
    /// ```
    /// let out = viworks_sdk::test::exited(3);
    /// assert_eq!(out.last().and_then(|step| step.exit_code), Some(3));
    /// ```
    pub fn last(&self) -> Option<&StepEnd> {
        self.steps.last()
    }

    /// The last started step's exit code; absent when a signal ended it or its end is not known.
    ///
    /// ```
    /// use viworks_sdk::outputs::End;
    /// use viworks_sdk::test;
    ///
    /// assert_eq!(test::exited(3).exit_code(), Some(3));
    /// assert_eq!(test::ended(End::Cancelled).exit_code(), None);
    /// ```
    pub fn exit_code(&self) -> Option<i32> {
        self.last().and_then(|step| step.exit_code)
    }

    /// Whether the attempt ran to its end and its last step exited with 0.
    ///
    /// ```
    /// use viworks_sdk::test;
    ///
    /// assert!(test::exited(0).succeeded() && !test::exited(1).succeeded());
    /// ```
    pub fn succeeded(&self) -> bool {
        self.end == End::Exited && self.exit_code() == Some(0)
    }

    /// From the first step's spawn to the last one's exit, in milliseconds, without pauses between them.
    ///
    /// ```
    /// let mut out = viworks_sdk::test::exited(0);
    /// out.steps[0].duration_ms = 20;
    /// assert_eq!(out.duration_ms(), 20);
    /// ```
    pub fn duration_ms(&self) -> u64 {
        self.steps.iter().map(|step| step.duration_ms).sum()
    }

    /// Standard output of an attempt that succeeded.
    ///
    /// # Errors
    /// When it did not: returned from `interpret` this reports the invocation as failed, without a
    /// typed result, in the words of [`Outputs::ending`].
    ///
    /// ```
    /// use viworks_sdk::prelude::*;
    ///
    /// use viworks_sdk::test;
    ///
    /// fn first(out: &Outputs) -> Result<String> {
    ///     Ok(out.ok()?.lossy().into_owned())
    /// }
    /// assert_eq!(first(&test::exited(0).with_stdout("hi")).unwrap(), "hi");
    /// assert_eq!(first(&test::exited(2)).unwrap_err().message, "exited with 2");
    /// ```
    pub fn ok(&self) -> Result<Printed<'_>> {
        match self.succeeded() {
            true => Ok(self.stdout()),
            false => Err(Failure::not_succeeded(self.ending())),
        }
    }

    /// Standard output, however the attempt ended.
    ///
    /// ```
    /// let out = viworks_sdk::test::exited(1).with_stdout("part");
    /// assert_eq!(out.stdout().bytes(), b"part");
    /// ```
    pub fn stdout(&self) -> Printed<'_> {
        Printed { bytes: &self.stdout, truncated: self.stdout_truncated }
    }

    /// Standard output of one step of a plan that has several, counted from 0.
    ///
    /// # Errors
    /// When that step was not started, or so much was printed that its part cannot be told from the others'.
    ///
    /// ```
    /// use viworks_sdk::outputs::StepEnd;
    ///
    /// let mut out = viworks_sdk::test::exited(0).with_stdout("after");
    /// out.steps.insert(0, StepEnd { exit_code: Some(0), stdout_bytes: 6, ..StepEnd::default() });
    /// out.stdout.splice(0..0, *b"before");
    /// assert_eq!(out.stdout_of(0).unwrap().bytes(), b"before");
    /// assert_eq!(out.stdout_of(1).unwrap().bytes(), b"after");
    /// assert!(out.stdout_of(2).is_err());
    /// ```
    pub fn stdout_of(&self, step: usize) -> Result<Printed<'_>> {
        let Some(end) = self.steps.get(step) else {
            return Err(Failure::parse(format!("step {} was not started", step + 1)));
        };
        self.stdout().whole()?;
        let before = self.steps.iter().take(step).map(|earlier| earlier.stdout_bytes).sum::<u64>();
        let range = usize::try_from(before).ok().zip(usize::try_from(before.saturating_add(end.stdout_bytes)).ok());
        let bytes = range.and_then(|(start, end)| self.stdout.get(start..end));
        let bytes = bytes.ok_or_else(|| Failure::parse(format!("the output of step {} is not there", step + 1)))?;
        Ok(Printed { bytes, truncated: false })
    }

    /// What the last started step printed on standard output, of several that share it.
    ///
    /// ```
    /// let mut out = viworks_sdk::test::exited(0).with_stdout("pulling\n{}");
    /// out.steps[0].stdout_bytes = 2;
    /// assert_eq!(out.last_stdout().bytes(), b"{}");
    /// ```
    pub fn last_stdout(&self) -> Printed<'_> {
        let printed = self.last().map_or(0, |step| usize::try_from(step.stdout_bytes).unwrap_or(usize::MAX));
        let start = self.stdout.len().saturating_sub(printed);
        // The end of the stream is always kept; whether all of the step is, only its length can tell.
        let whole = !self.stdout_truncated || printed < self.stdout.len() / 2;
        Printed { bytes: self.stdout.get(start..).unwrap_or_default(), truncated: !whole }
    }

    /// Standard error, however the attempt ended.
    ///
    /// ```
    /// let out = viworks_sdk::test::exited(0).with_stderr("careful\n");
    /// assert_eq!(out.stderr().lossy(), "careful\n");
    /// ```
    pub fn stderr(&self) -> Printed<'_> {
        Printed { bytes: &self.stderr, truncated: self.stderr_truncated }
    }

    /// One line for people: how it ended, and the last line of standard error if it went wrong.
    ///
    /// ```
    /// let out = viworks_sdk::test::exited(2).with_stderr("df: /srv: no such file\n");
    /// assert_eq!(out.ending(), "exited with 2: df: /srv: no such file");
    /// ```
    pub fn ending(&self) -> String {
        let ending = match (&self.end, self.last()) {
            (End::Exited, Some(StepEnd { exit_code: Some(0), .. })) => return "exited with 0".to_owned(),
            (End::Exited, Some(StepEnd { exit_code: Some(code), .. })) => format!("exited with {code}"),
            (End::Exited, Some(StepEnd { signal: Some(signal), .. })) => format!("ended by signal {signal}"),
            (End::Exited, _) => "ended without an exit code".to_owned(),
            (End::TimedOut, _) => "timed out".to_owned(),
            (End::Cancelled, _) => "cancelled".to_owned(),
            (End::Interrupted, _) => "interrupted".to_owned(),
            (End::Other(word), _) => word.clone(),
        };
        match self.stderr().lossy().lines().rev().find(|line| !line.trim().is_empty()) {
            Some(line) => format!("{ending}: {}", one_line(line, 200)),
            None => ending,
        }
    }
}

/// `text` without control characters, cut to at most `limit` bytes.
///
/// ```
/// assert_eq!(viworks_sdk::outputs::one_line(" a\tb\n", 100), "a b");
/// assert_eq!(viworks_sdk::outputs::one_line("abcdef", 6), "abcdef");
/// ```
pub fn one_line(text: &str, limit: usize) -> String {
    let text = text.trim();
    let mut end = text.len();
    if end > limit {
        end = limit - "…".len();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
    }
    let mut line = String::with_capacity(limit.min(text.len()));
    for letter in text.get(..end).unwrap_or_default().chars() {
        line.push(if letter.is_control() { ' ' } else { letter });
    }
    if end < text.len() {
        line.push('…');
    }
    line
}

/// What stands before and after the first `by` in `text`: as `split_once`, without its search for text in text,
/// which made the docker plugin 9 KB (199 to 208) larger.
///
/// ```
/// use viworks_sdk::outputs::cut;
///
/// assert_eq!(cut("8080->80/tcp", "->"), Some(("8080", "80/tcp")));
/// assert_eq!(cut("80/tcp", "->"), None);
/// ```
pub fn cut<'a>(text: &'a str, by: &str) -> Option<(&'a str, &'a str)> {
    let at = text.as_bytes().windows(by.len().max(1)).position(|there| there == by.as_bytes())?;
    Some((text.get(..at)?, text.get(at + by.len()..)?))
}

/// What stands before and after the last `by` in `text`.
///
/// ```
/// use viworks_sdk::outputs::cut_last;
///
/// assert_eq!(cut_last("a: b: c", ": "), Some(("a: b", "c")));
/// ```
pub fn cut_last<'a>(text: &'a str, by: &str) -> Option<(&'a str, &'a str)> {
    let at = text.as_bytes().windows(by.len().max(1)).rposition(|there| there == by.as_bytes())?;
    Some((text.get(..at)?, text.get(at + by.len()..)?))
}

/// What a program printed on one stream.
///
/// ```
/// use viworks_sdk::Printed;
///
/// fn rows(printed: Printed<'_>) -> usize {
///     printed.lines().count()
/// }
/// assert_eq!(rows(viworks_sdk::test::exited(0).with_stdout("a\nb\n").stdout()), 2);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Printed<'a> {
    bytes: &'a [u8],
    truncated: bool,
}

impl<'a> Printed<'a> {
    /// The bytes as they are kept.
    ///
    /// ```
    /// let out = viworks_sdk::test::exited(0).with_stdout([0xff, 0x00]);
    /// assert_eq!(out.stdout().bytes(), [0xff, 0x00]);
    /// ```
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// The text, with what is not UTF-8 replaced.
    ///
    /// ```
    /// let out = viworks_sdk::test::exited(0).with_stdout(b"a\xffb");
    /// assert_eq!(out.stdout().lossy(), "a\u{fffd}b");
    /// ```
    pub fn lossy(self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.bytes)
    }

    /// The text.
    ///
    /// # Errors
    /// When it is not UTF-8.
    ///
    /// ```
    /// let out = viworks_sdk::test::exited(0).with_stdout(b"a\xffb");
    /// assert!(out.stdout().text().is_err());
    /// ```
    pub fn text(self) -> Result<&'a str> {
        Ok(std::str::from_utf8(self.bytes)?)
    }

    /// The lines of the text, with what is not UTF-8 replaced, without empty ones.
    ///
    /// ```
    /// let out = viworks_sdk::test::exited(0).with_stdout("a\n\nb\n");
    /// assert_eq!(out.stdout().lines().collect::<Vec<_>>(), ["a", "b"]);
    /// ```
    pub fn lines(self) -> impl Iterator<Item = String> {
        let mut lines = Vec::new();
        for line in self.lossy().lines() {
            if !line.trim().is_empty() {
                lines.push(line.to_owned());
            }
        }
        lines.into_iter()
    }

    /// One JSON value.
    ///
    /// # Errors
    /// When something is missing from the middle, when it is not JSON, or not a `T`.
    ///
    /// ```
    /// let out = viworks_sdk::test::exited(0).with_stdout("[1, 2]");
    /// assert_eq!(out.stdout().json::<Vec<u8>>(), Ok(vec![1, 2]));
    /// ```
    pub fn json<T: FromJson>(self) -> Result<T> {
        self.whole()?;
        read_printed(parse(self.text()?)?)
    }

    /// One JSON value a line, as `docker ps --format '{{json .}}'` prints them.
    ///
    /// # Errors
    /// When something is missing from the middle, or a line is not JSON or not a `T`; the message names the line.
    ///
    /// ```
    /// use viworks_sdk::prelude::*;
    ///
    /// /// One container.
    /// #[derive(Output)]
    /// struct Container {
    ///     /// Its id.
    ///     #[output(from = "ID")]
    ///     id: String,
    /// }
    ///
    /// let out = viworks_sdk::test::exited(0).with_stdout("{\"ID\":\"a1\",\"Names\":\"web\"}\n{\"ID\":\"b2\"}\n");
    /// let containers: Vec<Container> = out.stdout().json_lines().unwrap();
    /// assert_eq!(containers[1].id, "b2");
    /// ```
    pub fn json_lines<T: FromJson>(self) -> Result<Vec<T>> {
        let mut list = Vec::new();
        self.each_json(&mut |value| {
            list.push(read_printed(value)?);
            Ok(())
        })?;
        Ok(list)
    }

    fn each_json(self, take: &mut dyn FnMut(Value) -> Result<()>) -> Result<()> {
        self.whole()?;
        for (index, line) in self.text()?.lines().enumerate() {
            if !line.trim().is_empty() {
                let taken = parse(line).map_err(Failure::from).and_then(&mut *take);
                taken.map_err(|failure| Failure::parse(format!("line {}: {}", index + 1, failure.message)))?;
            }
        }
        Ok(())
    }

    fn whole(self) -> Result<()> {
        match self.truncated {
            true => Err(Failure::parse("the output is longer than what is kept of it, so it cannot be read whole")),
            false => Ok(()),
        }
    }
}

/// Reads a part of what a program printed, whose faults are not the caller's.
///
/// # Errors
/// When it is not a `T`.
///
/// ```
/// use viworks_sdk::failure::Code;
/// use viworks_sdk::json::json;
///
/// let refused = viworks_sdk::outputs::read_printed::<Vec<u8>>(json!(["x"])).unwrap_err();
/// assert_eq!(refused.code, Code::ParseFailed);
/// ```
pub fn read_printed<T: FromJson>(value: Value) -> Result<T> {
    read(value).map_err(printed_fault)
}

fn printed_fault(failure: Failure) -> Failure {
    let mut message = String::new();
    for (index, issue) in failure.issues.iter().enumerate() {
        message.push_str(if index == 0 { "" } else { "; " });
        message.push_str(&issue.to_string());
    }
    Failure::parse(message)
}
