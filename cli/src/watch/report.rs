//! How a followed command ended, and why where it did not succeed.

use std::fmt::Write as _;
use std::time::Duration;

use api::command::{Command, Invocation, StatusEvent};
use serde::Serialize;

use super::Watch;
use super::missed::{Missed, Only, is_refused};
use super::tally::{counts_line, label};
use crate::failure::Failure;
use crate::output::{Format, colour, escape, moment};

/// Unsuccessful agents that are explained one by one; the others are counted.
const EXPLAINED: usize = 20;

/// A command and all its invocations: what `-o json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct Finished {
    /// The command.
    pub command: Command,
    /// One for each agent.
    pub invocations: Vec<Invocation>,
}

impl Watch {
    /// Says how it ended on standard error, prints it as JSON or by name if that was asked for, and
    /// returns the agents on which it did not succeed.
    ///
    /// # Errors
    /// When the host no longer answers, or output cannot be written.
    pub async fn conclude(&mut self, end: &StatusEvent, elapsed: Option<Duration>) -> Result<Vec<Missed>, Failure> {
        match self.sink.format {
            Format::Json | Format::Yaml => {
                let command = self.client.command(&self.command).await?;
                let invocations = self.client.invocations(&self.command).await?.items;
                self.sink.document(&Finished { command, invocations })?;
            }
            Format::Name => self.sink.print(&format!("{}\n", self.command))?,
            Format::Table | Format::Wide => self.fold()?,
            Format::Ndjson => {}
        }
        let counts = counts_line(&self.tally.final_counts(end));
        let length = elapsed.map(|elapsed| format!(" · {}", moment::length(elapsed))).unwrap_or_default();
        self.sink.say(&format!("{counts}{length} (command {})", self.command))?;

        let unsuccessful: Vec<(String, Option<Only>, bool)> = self
            .tally
            .unsuccessful()
            .map(|(agent, state, reason)| (agent.to_owned(), Only::of(state, reason), is_refused(state, reason)))
            .collect();
        for (agent, _, _) in unsuccessful.iter().take(EXPLAINED) {
            // The end is known already; that its reason cannot be had is no reason to fail.
            let line = match self.client.invocation(&self.command, agent).await {
                Ok(invocation) => explain(&invocation),
                Err(error) => format!("{}: why is not known ({})", self.name(agent), error.cause()),
            };
            let line =
                if self.sink.colour && self.sink.chatter_terminal { colour::paint(colour::RED, &line) } else { line };
            self.sink.say(&format!("  {line}"))?;
        }
        if unsuccessful.len() > EXPLAINED {
            let more = unsuccessful.len() - EXPLAINED;
            self.sink.say(&format!("  and {more} more: viworks command show {}", self.command))?;
        }
        // Where it was refused a retry would be refused as well: none is offered.
        let missed = |(agent, only, refused): (String, _, bool)| {
            (!refused).then(|| Missed { agent: self.name(&agent).to_owned(), only })
        };
        Ok(unsuccessful.into_iter().filter_map(missed).collect())
    }
}

/// `web-02 failed: exit code 1 (the process ended with 1)`
fn explain(invocation: &Invocation) -> String {
    let Invocation { agent_name, state, reason, explanation, exit_code, summary, attempt, .. } = invocation;
    let mut line = format!("{} {}", agent_name, label(state, reason.as_deref()));
    if let Some(code) = exit_code {
        let _ = write!(line, " with exit code {code}");
    }
    if *attempt > 1 {
        let _ = write!(line, " at attempt {attempt}");
    }
    let said = if explanation.is_empty() { reason.as_deref().unwrap_or_default() } else { explanation };
    for text in [said, summary.as_deref().unwrap_or_default()] {
        if !text.is_empty() {
            let _ = write!(line, ": {text}");
        }
    }
    escape::line(&line)
}
