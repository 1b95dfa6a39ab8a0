//! `compose.logs`.

use viworks_sdk::prelude::*;

use crate::containers::{self, Container};
use crate::file::{Node, write};
use crate::flavour::Flavour;

/// Reads what a project's containers have written.
#[derive(Args)]
pub struct Logs {
    /// Name of the project.
    #[arg(pattern = "^[a-z0-9][a-z0-9_-]*$", length = 1..=63)]
    pub project: String,
    /// Only of these services. Needed with docker-compose 1.x; all of them when empty.
    #[arg(default, length = ..=64, items(pattern = "^[A-Za-z0-9][A-Za-z0-9_.-]*$", length = 1..=64))]
    pub services: Vec<String>,
    /// Most lines of each container, counted from the last.
    #[arg(range = 0..=100000, default = 1000)]
    pub tail: u32,
    /// Not before: an instant as in `2026-01-31T12:00:00Z`, or how long ago, as in `10m`. Not with docker-compose 1.x.
    #[arg(pattern = "^[0-9][0-9A-Za-z:.+-]*$", length = 1..=64)]
    pub since: Option<String>,
    /// Not after, in the same forms. Not with docker-compose 1.x.
    #[arg(pattern = "^[0-9][0-9A-Za-z:.+-]*$", length = 1..=64)]
    pub until: Option<String>,
    /// Say when each line was written.
    #[arg(default)]
    pub timestamps: bool,
    /// Go on until the containers end or the run timeout does, which then is the outcome.
    #[arg(default)]
    pub follow: bool,
}

/// What was written.
#[derive(Output, Debug)]
pub struct Written {
    /// Lines in the order compose printed them: those of one container in their order.
    pub lines: Vec<Line>,
    /// Whether something in the middle is not kept.
    pub truncated: bool,
}

/// One line of one container.
#[derive(Output, Debug, PartialEq)]
pub struct Line {
    /// The service, where the container is still there to say so.
    pub service: Option<String>,
    /// The container in compose's words, e.g. `web-1`.
    pub source: String,
    /// `stdout` or `stderr`; docker-compose 1.x prints both as `stdout`.
    pub stream: String,
    /// When it was written, with `timestamps`.
    pub timestamp: Option<String>,
    /// The line.
    pub text: String,
}

#[verb(
    name = "compose.logs",
    effect = Read,
    needs = "compose",
    idempotent,
    cancel = Clean,
    timeout = "60s",
    example = json!({ "project": "shop", "services": ["web"], "tail": 50, "since": "10m", "timestamps": true }),
    golden(
        args = json!({ "project": "shop", "services": ["web"] }),
        stdout = "web-1  | ready\nweb-1  | a | b\n",
        result = json!({
            "lines": [
                { "source": "web-1", "stream": "stdout", "text": "ready" },
                { "source": "web-1", "stream": "stdout", "text": "a | b" },
            ],
            "truncated": false,
        }),
    ),
)]
impl Verb for Logs {
    type Output = Written;

    fn plan(&self, context: &Context) -> Result<Plan> {
        let flavour = Flavour::of(context)?;
        let mut draft = flavour.step(Some(flavour.list(None, &self.project, true)), &self.project);
        if flavour == Flavour::V1 {
            if self.since.is_some() || self.until.is_some() {
                return Err(Failure::unsupported("docker-compose 1.x knows no `since` and `until`; use `tail`"));
            }
            if self.services.is_empty() {
                let words = "this machine has docker-compose 1.x, which must be told the names of services";
                return Err(Failure::issue("/services", "required", words));
            }
            // Of a file, `logs` uses nothing but the names of services.
            draft = draft.arg("--file=-").stdin(write::write(&named(&self.services)));
        }
        draft
            .arg("logs")
            .arg("--no-color")
            .opt("--tail", self.tail)
            .opt("--since", &self.since)
            .opt("--until", &self.until)
            .flag("--timestamps", self.timestamps)
            .flag("--follow", self.follow)
            .operand(&self.services)
            .summary(format!("read logs of project {}", self.project))
            .plan()
    }

    fn interpret(&self, out: &Outputs) -> Result<Written> {
        out.ok()?;
        let listed = out.steps.first().and_then(|step| usize::try_from(step.stdout_bytes).ok()).unwrap_or_default();
        let (listed, printed) = out.stdout.split_at(listed.min(out.stdout.len()));
        let mut list = out.clone();
        (list.stdout, list.stdout_truncated) = (listed.to_vec(), false);
        // Without the list, which may have been cut, lines still say which container they are of.
        let containers = containers::read(list.stdout()).unwrap_or_default();
        let mut lines = Vec::new();
        for (stream, text) in [("stdout", String::from_utf8_lossy(printed)), ("stderr", out.stderr().lossy())] {
            for line in text.lines() {
                lines.extend(self.line(line, stream, &containers));
            }
        }
        Ok(Written { lines, truncated: out.stdout_truncated || out.stderr_truncated })
    }

    fn summarize(&self, _: &Outputs, result: &Written) -> String {
        format!("{} lines", result.lines.len())
    }
}

impl Logs {
    /// `web-1  | text`; compose's own words have no such beginning.
    fn line(&self, line: &str, stream: &str, containers: &[Container]) -> Option<Line> {
        let (source, text) = line.split_once('|')?;
        // Some releases of compose 2 clear the terminal's line first, whether there is a terminal or not.
        let mut source = source.trim_end();
        while let Some(rest) = source.strip_prefix("\u{1b}[2K") {
            source = rest;
        }
        if source.is_empty() || source.contains(char::is_whitespace) {
            return None;
        }
        let is_named = |name: &str| {
            let rest = name.strip_prefix(self.project.as_str());
            name == source || rest.and_then(|rest| rest.strip_prefix(['-', '_'])) == Some(source)
        };
        let known = containers.iter().find(|container| is_named(&container.name));
        let service = known.map(|container| container.service.clone());
        let text = text.strip_prefix(' ').unwrap_or(text);
        let (timestamp, text) = match text.split_once(' ') {
            Some((timestamp, text)) if self.timestamps => (Some(timestamp.to_owned()), text),
            _ => (None, text),
        };
        let (source, stream, text) = (source.to_owned(), stream.to_owned(), text.to_owned());
        Some(Line { service, source, stream, timestamp, text })
    }
}

/// A file that has these services and says nothing of them.
fn named(services: &[String]) -> Node {
    let mut entries: Vec<(String, Node)> = Vec::new();
    for name in services {
        if !entries.iter().any(|(known, _)| known == name) {
            entries.push((name.clone(), Node::Map(vec![("image".to_owned(), Node::quoted("none"))])));
        }
    }
    Node::Map(vec![("services".to_owned(), Node::Map(entries))])
}
