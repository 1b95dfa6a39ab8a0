//! `docker.logs`: what a container printed, both streams in one order.

use viworks_sdk::prelude::*;

use crate::complaint;
use crate::container::{docker, ok};
use crate::spelling::{NAME, count};

/// Shows what a container printed.
#[derive(Args)]
pub struct Logs {
    /// Its name or id.
    #[arg(length = 1..=255, pattern = NAME, example = "web")]
    container: String,
    /// How many lines at most, the last ones.
    #[arg(range = 0..=10000, default = 200)]
    tail: u32,
    /// Only what is not older: RFC 3339, or how long ago, such as `10m` or `1h30m`.
    #[arg(length = 1..=64, pattern = MOMENT, example = "10m")]
    since: Option<String>,
    /// Only what is older: RFC 3339, or how long ago.
    #[arg(length = 1..=64, pattern = MOMENT, example = "2026-11-24T04:09:18Z")]
    until: Option<String>,
    /// Begin each line with its time. Without it, standard output comes first and standard error after it.
    #[arg(default = true)]
    timestamps: bool,
    /// Go on until the container stops, the run timeout is over or the command is cancelled. What is printed
    /// meanwhile can be watched as it comes, and is kept; after a timeout or a cancel only as raw output.
    #[arg(default)]
    follow: bool,
}

/// A moment as docker takes it, without signs: a negative age would lie in the future.
const MOMENT: &str = r"^(([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+|[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?|[0-9]{1,12}(\.[0-9]{1,9})?)$";

/// What a container printed.
#[derive(Output)]
pub struct Printed {
    /// The lines, oldest first.
    lines: Vec<Line>,
    /// Whether something between the first and the last lines is not kept.
    truncated: bool,
}

/// One line.
#[derive(Output)]
pub struct Line {
    /// When it was printed, RFC 3339 with nanoseconds; absent without `timestamps`.
    time: Option<String>,
    /// `stdout` or `stderr`.
    stream: String,
    /// The line without its end, with what is not UTF-8 replaced.
    text: String,
}

#[verb(
    name = "docker.logs",
    effect = Read,
    needs = "docker",
    idempotent,
    cancel = Clean,
    timeout = "60s",
    example = json!({ "container": "web", "since": "1h", "tail": 1000 }),
    example = json!({ "container": "web", "follow": true, "tail": 0 }),
    golden(
        args = json!({ "container": "web", "tail": 4 }),
        stdout = "2026-11-24T04:09:18.035635461Z out 100\n2026-11-24T04:09:19.037739905Z out 101\n",
        stderr = "2026-11-24T04:09:18.037272189Z err 100\n2026-11-24T04:09:19.039101936Z err 101\n",
        result = json!({
            "lines": [
                { "time": "2026-11-24T04:09:18.035635461Z", "stream": "stdout", "text": "out 100" },
                { "time": "2026-11-24T04:09:18.037272189Z", "stream": "stderr", "text": "err 100" },
                { "time": "2026-11-24T04:09:19.037739905Z", "stream": "stdout", "text": "out 101" },
                { "time": "2026-11-24T04:09:19.039101936Z", "stream": "stderr", "text": "err 101" }
            ],
            "truncated": false
        }),
    ),
)]
impl Verb for Logs {
    type Output = Printed;

    fn plan(&self, _: &Context) -> Result<Plan> {
        if self.follow && self.until.is_some() {
            let message = "docker stops following only when something is printed after `until`; leave one of both out";
            return Err(Failure::issue("/until", "conflict", message));
        }
        docker("logs")
            .opt("--tail", self.tail)
            .opt("--since", &self.since)
            .opt("--until", &self.until)
            .flag("--timestamps", self.timestamps)
            .flag("--follow", self.follow)
            .operand(&self.container)
            .plan()
    }

    fn interpret(&self, out: &Outputs) -> Result<Printed> {
        let said = out.stderr().lossy();
        if let (false, Some(lost)) = (out.succeeded(), complaint::engine_went_away(&said, cut_off)) {
            return Err(Failure::not_succeeded(lost));
        }
        let stdout = self.lines("stdout", &ok(out)?.lossy());
        let stderr = self.lines("stderr", &said);
        Ok(Printed { lines: merged(stdout, stderr), truncated: out.stdout_truncated || out.stderr_truncated })
    }

    fn summarize(&self, _: &Outputs, printed: &Printed) -> String {
        let cut = if printed.truncated { ", some left out" } else { "" };
        format!("{}{cut}", count(printed.lines.len(), "line"))
    }
}

/// What docker says when the logs do not come to their end.
fn cut_off(line: &str) -> Option<&str> {
    (line == "unexpected EOF").then_some(line)
}

impl Logs {
    fn lines(&self, stream: &str, text: &str) -> Vec<Line> {
        let mut lines = Vec::new();
        for line in text.lines() {
            let (time, text) = match line.split_once(' ') {
                Some((time, text)) if self.timestamps && is_time(time) => (Some(time.to_owned()), text),
                _ => (None, line),
            };
            lines.push(Line { time, stream: stream.to_owned(), text: text.to_owned() });
        }
        lines
    }
}

/// `2026-11-24T04:09:18.035635461Z`: always as long, so that its order is that of its letters.
fn is_time(text: &str) -> bool {
    text.len() == 30 && text.ends_with('Z') && text.as_bytes().first().is_some_and(u8::is_ascii_digit)
}

/// Both streams by time; each keeps its own order, and a line without a time stays behind the one before it.
fn merged(stdout: Vec<Line>, stderr: Vec<Line>) -> Vec<Line> {
    let mut lines = Vec::with_capacity(stdout.len() + stderr.len());
    let mut stderr = stderr.into_iter().peekable();
    for line in stdout {
        if let Some(time) = &line.time {
            while let Some(earlier) = stderr.next_if(|other| other.time.as_ref().is_none_or(|other| other < time)) {
                lines.push(earlier);
            }
        }
        lines.push(line);
    }
    lines.extend(stderr);
    lines
}

#[cfg(test)]
mod tests {
    use viworks_sdk::test;

    use super::*;

    #[test]
    fn options_stand_before_the_container() {
        let plan = test::plan::<Logs>(json!({ "container": "web", "since": "1h30m", "until": "5m", "tail": 7 }));
        let expected = ["logs", "--tail=7", "--since=1h30m", "--until=5m", "--timestamps", "--", "web"];
        assert_eq!(plan.expect("accepted").steps[0].args, expected);
        let plan = test::plan::<Logs>(json!({ "container": "web", "follow": true, "timestamps": false }));
        assert_eq!(plan.expect("accepted").steps[0].args, ["logs", "--tail=200", "--follow", "--", "web"]);
    }

    #[test]
    fn moments_are_ages_dates_or_seconds() {
        for good in ["10m", "1h30m", "1.5h", "2026-11-24", "2026-11-24T04:09:18.5+01:00", "1700000000"] {
            let plan = test::plan::<Logs>(json!({ "container": "web", "since": good }));
            assert!(plan.is_ok(), "{good}: {plan:?}");
        }
        for bad in ["-10s", "yesterday", "10", " 1m", "1m\n", "１m", ""] {
            let plan = test::plan::<Logs>(json!({ "container": "web", "since": bad }));
            // Seconds since 1970 are a plain number, however small.
            assert_eq!(plan.is_ok(), bad == "10", "{bad}");
        }
    }

    #[test]
    fn following_to_a_moment_is_refused_with_the_reason() {
        let refused = test::plan::<Logs>(json!({ "container": "web", "follow": true, "until": "1m" }));
        assert_eq!(refused.expect_err("refused").issues[0].pointer, "/until");
    }

    #[test]
    fn an_engine_that_went_away_is_told_from_logs_that_ended() {
        let out = test::exited(1).with_stdout("tick\n").with_stderr("unexpected EOF\n");
        let answer = test::interpret::<Logs>(json!({ "container": "web", "follow": true }), &out).expect("judged");
        let words =
            "the docker engine went away meanwhile (unexpected EOF): what became of it is to be seen when it is back";
        assert_eq!((answer.succeeded, answer.result, answer.summary.as_str()), (false, Value::Null, words));
        // What a container printed itself is no word of docker's.
        let out = test::exited(0).with_stderr("unexpected EOF\n");
        let answer = test::interpret::<Logs>(json!({ "container": "web", "timestamps": false }), &out).expect("read");
        assert_eq!(answer.result["lines"][0]["text"], "unexpected EOF");
    }

    #[test]
    fn without_times_the_streams_stand_one_after_the_other() {
        let out = test::exited(0).with_stdout("a\n\nb\n").with_stderr("c\n");
        let answer = test::interpret::<Logs>(json!({ "container": "web", "timestamps": false }), &out).expect("read");
        let texts: Vec<&Value> = answer.result["lines"].as_array().expect("lines").iter().map(|l| &l["text"]).collect();
        assert_eq!(texts, ["a", "", "b", "c"]);
        assert_eq!(answer.summary, "4 lines");
    }

    #[test]
    fn a_line_without_a_time_stays_where_it_was_printed() {
        let line = |time: &str, text: &str| Line {
            time: (!time.is_empty()).then(|| time.to_owned()),
            stream: String::new(),
            text: text.to_owned(),
        };
        let merged = merged(
            vec![line("1", "a"), line("", "b"), line("5", "c")],
            vec![line("2", "x"), line("", "y"), line("6", "z")],
        );
        let texts: Vec<&str> = merged.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, ["a", "b", "x", "y", "c", "z"]);
    }

    #[test]
    fn a_gap_is_told() {
        let mut out = test::exited(0).with_stdout("2026-11-24T04:09:18.035635461Z a\n");
        out.stdout_truncated = true;
        let answer = test::interpret::<Logs>(json!({ "container": "web" }), &out).expect("read");
        assert_eq!((&answer.result["truncated"], answer.summary.as_str()), (&json!(true), "1 line, some left out"));
    }
}
