//! Takes agents' reports: lazily what a result will overtake, durably what ends an attempt.

use std::sync::Arc;

use domain::attempt::Event;
use domain::command::Command;
use domain::verb::Profile;
use plan::id::{AgentId, AttemptKey};
use plan::outcome::{End, Outcome, Stream, StreamEnd};
use ports::clock::Clock;
use ports::commands::{Advance, Advanced, AttemptEnd, Chunk, Commands};
use ports::error::StoreError;
use ports::plugins::{Interpretation, Outputs, Plugins};

use crate::directory::Directory;

/// The use case.
pub struct Progress {
    /// Where commands are kept.
    pub commands: Arc<dyn Commands>,
    /// Verbs, to judge what was printed.
    pub plugins: Arc<dyn Plugins>,
    /// Who there is.
    pub directory: Arc<Directory>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// Output that the session still has in memory, if it saw all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Standard output, head then tail.
    pub stdout: Vec<u8>,
    /// Standard error, head then tail.
    pub stderr: Vec<u8>,
}

impl Progress {
    /// The agent has it in its journal, or started it. Nobody waits for the store.
    pub fn note(&self, key: AttemptKey, agent: AgentId, event: Event) {
        let at = self.clock.now();
        self.commands.note(Advance { key, agent, events: vec![event], at, message: None, end: None });
    }

    /// Bytes arrived.
    pub fn output(&self, key: AttemptKey, agent: AgentId, stream: Stream, offset: u64, data: Vec<u8>) {
        self.commands.append(Chunk { key, agent, stream, offset, data, at: self.clock.now() });
    }

    /// An attempt's end arrived. Judges it and stores it; durable on return, so that the agent may
    /// be told to forget it. `None`: there is no such attempt on this agent.
    ///
    /// # Errors
    /// The store's; the agent must keep the result and send it again.
    pub async fn finished(
        &self,
        key: AttemptKey,
        agent: AgentId,
        command: Option<Arc<Command>>,
        outcome: Outcome,
        kept: Option<Kept>,
    ) -> Result<Option<Advanced>, StoreError> {
        let at = self.clock.now();
        let message = message_of(&outcome.end);
        let event = match &outcome.end {
            End::Exited => None,
            End::TimedOut => Some(Event::TimeOut),
            End::Cancelled { started } => Some(Event::AgentCancelled { started: *started }),
            End::Expired => Some(Event::AgentExpired),
            End::Rejected { cause, .. } => Some(Event::Reject(*cause)),
            End::Interrupted { .. } => Some(Event::Interrupt),
        };
        let (event, judged) = match event {
            Some(event) => (event, None),
            None => {
                let Some(judged) = self.judge(key, agent, command, &outcome, kept).await? else { return Ok(None) };
                (Event::Finish { succeeded: judged.succeeded }, Some(judged))
            }
        };
        let end = AttemptEnd {
            outcome,
            result: judged.as_ref().and_then(|j| j.result.as_ref()).map(ToString::to_string),
            summary: judged.as_ref().map(|j| j.summary.clone()).filter(|text| !text.is_empty()),
            parse_fault: judged.and_then(|j| j.parse_fault),
        };
        self.commands.advance(Advance { key, agent, events: vec![event], at, message, end: Some(end) }).await
    }

    async fn judge(
        &self,
        key: AttemptKey,
        agent: AgentId,
        command: Option<Arc<Command>>,
        outcome: &Outcome,
        kept: Option<Kept>,
    ) -> Result<Option<Interpretation>, StoreError> {
        let command = match command {
            Some(command) => command,
            None => match self.commands.command(key.command).await? {
                Some(view) => Arc::new(view.command),
                None => return Ok(None),
            },
        };
        let kept = match kept {
            Some(kept) => kept,
            None => Kept {
                stdout: self.stored(key, agent, Stream::Stdout, &outcome.stdout).await?,
                stderr: self.stored(key, agent, Stream::Stderr, &outcome.stderr).await?,
            },
        };
        let missing = |kept: &[u8], end: &StreamEnd| (end.head + end.tail).saturating_sub(kept.len() as u64);
        let lost = missing(&kept.stdout, &outcome.stdout) + missing(&kept.stderr, &outcome.stderr);
        if lost > 0 {
            let why = format!("{lost} bytes of output that the agent kept did not arrive");
            return Ok(Some(unparsed(outcome, why)));
        }
        let outputs = Outputs { outcome: outcome.clone(), stdout: kept.stdout, stderr: kept.stderr };
        let Some(verb) = self.plugins.pinned(&command.verb, &command.plugin_digest) else {
            return Ok(Some(unparsed(outcome, format!("no loaded plugin provides `{}` any more", command.verb))));
        };
        let profile: Profile = self.directory.get(agent).map(|known| known.agent.profile()).unwrap_or_default();
        // What was stored was JSON when it was accepted.
        let args = serde_json::from_str(&command.args).unwrap_or_default();
        Ok(Some(verb.interpret(&profile, &args, outputs).await))
    }

    /// Everything stored of one stream, head then tail.
    async fn stored(
        &self,
        key: AttemptKey,
        agent: AgentId,
        stream: Stream,
        end: &StreamEnd,
    ) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        let mut offset = 0;
        while offset < end.bytes {
            let chunks = self.commands.output(key, agent, stream, offset, 256 * 1024).await?;
            let Some(last) = chunks.last() else { break };
            offset = last.offset + last.data.len() as u64;
            bytes.extend(chunks.into_iter().flat_map(|chunk| chunk.data));
        }
        Ok(bytes)
    }
}

fn message_of(end: &End) -> Option<String> {
    match end {
        End::Rejected { message, .. } | End::Interrupted { message } => {
            Some(message.clone()).filter(|text| !text.is_empty())
        }
        End::Exited | End::TimedOut | End::Cancelled { .. } | End::Expired => None,
    }
}

/// Without its plugin or its output, exit code 0 of the last step is all that can be said.
fn unparsed(outcome: &Outcome, why: String) -> Interpretation {
    let succeeded = outcome.steps.last().is_some_and(|step| step.exit_code == Some(0));
    Interpretation { succeeded, result: None, summary: String::new(), parse_fault: Some(why) }
}
