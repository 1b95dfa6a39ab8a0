//! Takes agents' reports: lazily what a result will overtake, durably what ends an attempt.

use std::ops::Range;
use std::sync::Arc;

use domain::attempt::Event;
use domain::command::Command;
use domain::deadline::OUTPUT_BYTES_DEFAULT;
use domain::time::Timestamp;
use domain::verb::Profile;
use plan::id::{AgentId, AttemptKey};
use plan::outcome::{End, Outcome, Stream, StreamEnd};
use ports::clock::Clock;
use ports::commands::{Advance, Advanced, AttemptEnd, Chunk, Commands, Word};
use ports::error::StoreError;
use ports::journal::Installation;
use ports::plugins::{Interpretation, Outputs, Plugins};

use crate::directory::Directory;
use crate::meter::{Call, Meter};

/// The use case.
pub struct Progress {
    /// Where commands are kept.
    pub commands: Arc<dyn Commands>,
    /// The store as a whole.
    pub whole: Arc<dyn Installation>,
    /// Verbs, to judge what was printed.
    pub plugins: Arc<dyn Plugins>,
    /// Who there is.
    pub directory: Arc<Directory>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub meter: Arc<Meter>,
}

/// Output that the session still has in memory, if it saw all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Standard output, head then tail.
    pub stdout: Vec<u8>,
    /// Standard error, head then tail.
    pub stderr: Vec<u8>,
}

/// An attempt's end, as its session heard it.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which attempt.
    pub key: AttemptKey,
    /// On which agent.
    pub agent: AgentId,
    /// The intent, if the session sent it.
    pub command: Option<Arc<Command>>,
    /// How it ended.
    pub outcome: Outcome,
    /// All its output, if the session saw it.
    pub kept: Option<Kept>,
}

impl Progress {
    /// It is on its way to the agent.
    pub fn sent(&self, key: AttemptKey, agent: AgentId) {
        self.meter.noted(key, agent, &Event::Send, self.clock.now());
    }

    /// The agent has it in its journal, or started it, and said so at `at`. Nobody waits for the store.
    pub fn note(&self, key: AttemptKey, agent: AgentId, event: Event, at: Timestamp) {
        self.meter.noted(key, agent, &event, at);
        self.commands.note(Advance {
            key,
            agent,
            events: vec![event],
            at,
            message: None,
            end: None,
            word: Word::Anyone,
        });
    }

    /// Bytes arrived.
    pub fn output(&self, key: AttemptKey, agent: AgentId, stream: Stream, offset: u64, data: Vec<u8>) {
        self.commands.append(Chunk { key, agent, stream, offset, data, at: self.clock.now() });
    }

    /// Judges an attempt's end. What is to be stored of it; `None`: there is no such command.
    ///
    /// # Errors
    /// The store's, when intent or output have to be read from it.
    pub async fn judge(&self, report: &Report) -> Result<Option<Advance>, StoreError> {
        let Report { key, agent, command: _, outcome, kept: _ } = report;
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
                let Some(judged) = self.interpret(report).await? else { return Ok(None) };
                (Event::Finish { succeeded: judged.succeeded }, Some(judged))
            }
        };
        let end = AttemptEnd {
            outcome: outcome.clone(),
            result: judged.as_ref().and_then(|j| j.result.as_ref()).map(ToString::to_string),
            summary: judged.as_ref().map(|j| j.summary.clone()).filter(|text| !text.is_empty()),
            parse_fault: judged.and_then(|j| j.parse_fault),
        };
        Ok(Some(Advance {
            key: *key,
            agent: *agent,
            events: vec![event],
            at,
            message,
            end: Some(end),
            word: Word::Anyone,
        }))
    }

    /// Stores a judged end; durable on return, so that the agent may be told to forget it. `None`: there
    /// is no such attempt on this agent.
    ///
    /// # Errors
    /// The store's; the agent must keep the result until a later try goes through.
    pub async fn store(&self, end: Advance) -> Result<Option<Advanced>, StoreError> {
        self.commands.advance(end).await
    }

    async fn interpret(&self, report: &Report) -> Result<Option<Interpretation>, StoreError> {
        let Report { key, agent, command, outcome, kept } = report;
        let command = match command {
            Some(command) => command.clone(),
            None => match self.commands.command(key.command).await? {
                Some(view) => Arc::new(view.command),
                None => return Ok(None),
            },
        };
        let kept = match kept {
            Some(kept) => kept.clone(),
            None => {
                // Its last bytes may still be on their way to the disk.
                self.whole.flush().await?;
                Kept {
                    stdout: self.stored(*key, *agent, Stream::Stdout, &outcome.stdout).await?,
                    stderr: self.stored(*key, *agent, Stream::Stderr, &outcome.stderr).await?,
                }
            }
        };
        let missing = |kept: &[u8], end: &StreamEnd| end.kept().saturating_sub(kept.len() as u64);
        let lost = missing(&kept.stdout, &outcome.stdout).saturating_add(missing(&kept.stderr, &outcome.stderr));
        if lost > 0 {
            let why = format!("{lost} bytes of output that the agent kept did not arrive");
            return Ok(Some(unparsed(outcome, why)));
        }
        let outputs = Outputs { outcome: outcome.clone(), stdout: kept.stdout, stderr: kept.stderr };
        let Some(verb) = self.plugins.pinned(&command.verb, &command.plugin_digest) else {
            return Ok(Some(unparsed(outcome, format!("no loaded plugin provides `{}` any more", command.verb))));
        };
        let profile: Profile = self.directory.get(*agent).map(|known| known.agent.profile()).unwrap_or_default();
        // What was stored was JSON when it was accepted.
        let args = serde_json::from_str(&command.args).unwrap_or_default();
        let judged = verb.interpret(&profile, &args, outputs).await;
        self.meter.called(Call::Interpret, judged.parse_fault.is_none());
        Ok(Some(judged))
    }

    /// Lets go of output that the agent no longer keeps. What the store does not take is let go of when the
    /// attempt is over, or stays: bytes too many harm nobody.
    pub async fn let_go(&self, key: AttemptKey, agent: AgentId, stream: Stream, gone: Range<u64>) {
        if let Err(error) = self.commands.let_go(key, agent, stream, gone).await {
            tracing::debug!(%agent, attempt = %key, %error, "output that passed by is not let go of yet");
        }
    }

    /// Everything stored of one stream that the agent kept, head then tail; not what merely passed by.
    async fn stored(
        &self,
        key: AttemptKey,
        agent: AgentId,
        stream: Stream,
        end: &StreamEnd,
    ) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        let mut offset = 0;
        // An honest agent keeps no more; of what another one says there may be no end.
        while offset < end.bytes && bytes.len() as u64 <= OUTPUT_BYTES_DEFAULT {
            let chunks = self.commands.output(key, agent, stream, offset, 256 * 1024).await?;
            let Some(last) = chunks.last() else { break };
            offset = last.offset.saturating_add(last.data.len() as u64);
            for chunk in &chunks {
                kept_of(chunk.offset, &chunk.data, end).for_each(|part| bytes.extend_from_slice(part));
            }
        }
        Ok(bytes)
    }
}

/// What belongs to the head and to the tail of the bytes at `offset`; nothing of an end that cannot be.
fn kept_of<'a>(offset: u64, data: &'a [u8], end: &StreamEnd) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    let at = move |place: u64| {
        let inside = place.saturating_sub(offset).min(data.len() as u64);
        usize::try_from(inside).unwrap_or(usize::MAX)
    };
    let tail = end.head.max(end.bytes.saturating_sub(end.tail))..end.bytes;
    [0..end.head, tail].into_iter().map(move |kept| data.get(at(kept.start)..at(kept.end)).unwrap_or_default())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_and_tail_are_cut_out_of_what_is_stored_and_an_end_that_cannot_be_cuts_nothing_more() {
        let whole = |bytes, head, tail| {
            let end = StreamEnd { bytes, head, tail, sha256: String::new() };
            kept_of(100, b"0123456789", &end).flatten().copied().map(char::from).collect::<String>()
        };
        for ((bytes, head, tail), kept) in [
            ((110, 110, 0), "0123456789"),
            ((110, 103, 2), "01289"),
            ((110, 103, 7), "0123456789"),
            ((105, 103, 1), "0124"),
            ((110, 0, 10), "0123456789"),
            ((400, 50, 50), ""),
            ((105, 110, 0), "0123456789"),
            ((5, 10, 0), ""),
            ((5, 0, 10), ""),
            ((0, u64::MAX, u64::MAX), "0123456789"),
            ((u64::MAX, 0, u64::MAX), "0123456789"),
        ] {
            assert_eq!(whole(bytes, head, tail), kept, "{bytes} bytes, {head} and {tail} kept");
        }
        let end = StreamEnd { bytes: 5, head: 10, tail: 0, sha256: String::new() };
        assert_eq!(kept_of(0, b"0123456789", &end).count(), 2, "an end before its head");
    }
}
