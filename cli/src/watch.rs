//! Following a command: output line by line, progress, and how it ended.

mod files;
mod gathered;
mod missed;
mod report;
mod screen;
mod shown;
mod tally;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use api::command::{KeptOutput, KeptStream, OutputEvent, StateEvent, StatusEvent};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plan::outcome::Stream;
use serde::Serialize;
use viworks_client::{Client, CommandEvent, Notice, Patience};

use crate::failure::Failure;
use crate::output::{Format, Sink, count, escape};

use gathered::Gathered;
use screen::Screen;
use shown::Shown;
use tally::Tally;

pub use files::LogFiles;
pub use missed::{Missed, Only};
pub use report::Finished;
pub use tally::{is_over, label};

/// How often the progress line is looked at.
const TICK: Duration = Duration::from_millis(200);

/// Why following stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The command is over.
    Over(StatusEvent),
    /// Ctrl-C.
    Interrupted,
    /// It took longer than the caller wanted to wait.
    TimedOut,
}

/// One command being followed.
pub struct Watch {
    client: Client,
    command: String,
    sink: Sink,
    screen: Screen,
    tally: Tally,
    names: BTreeMap<String, String>,
    /// Only these agents' output is shown; empty = everybody's.
    only: BTreeSet<String>,
    /// What was shown of each stream of each attempt, so that nothing is shown twice.
    shown: BTreeMap<(String, u32, Stream), Shown>,
    /// Output to be shown at the end, equal ones once; absent: it is shown as it comes.
    gathered: Option<Gathered>,
    /// Where output goes besides.
    files: Option<LogFiles>,
    started: Instant,
    patience: Patience,
}

/// One line of `-o ndjson`.
#[derive(Serialize)]
struct EventLine<'a, T> {
    event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_name: Option<&'a str>,
    #[serde(flatten)]
    data: &'a T,
}

/// Says that some output is not to be had: never silently cut.
pub fn missing(name: &str, bytes: u64, stream: Stream) -> String {
    let were = if bytes == 1 { "was" } else { "were" };
    escape::line(&format!("[{name}] {} of {} {were} not kept", count::of(bytes, "byte", "bytes"), stream.as_str()))
}

impl Watch {
    /// Will follow `command`; `names` are its agents' names by id.
    pub fn new(client: &Client, command: &str, names: BTreeMap<String, String>, sink: Sink) -> Watch {
        Watch {
            client: client.clone(),
            command: command.to_owned(),
            sink,
            screen: Screen::new(sink),
            tally: Tally::new(names.keys()),
            names,
            only: BTreeSet::new(),
            shown: BTreeMap::new(),
            gathered: None,
            files: None,
            started: Instant::now(),
            patience: Patience::default(),
        }
    }

    /// Shows the output of these agents only.
    pub fn only(mut self, agents: impl IntoIterator<Item = String>) -> Watch {
        self.only = agents.into_iter().collect();
        self
    }

    /// Shows output at the end, equal ones once, if `folded`.
    pub fn folded(mut self, folded: bool) -> Watch {
        self.gathered = folded.then(Gathered::default);
        self
    }

    /// Writes output into files besides.
    ///
    /// # Errors
    /// When an agent's file cannot be made.
    pub fn also_into(mut self, files: Option<LogFiles>) -> Result<Watch, Failure> {
        self.files = files;
        if let Some(files) = &mut self.files {
            self.names.values().try_for_each(|name| files.begin(name))?;
        }
        Ok(self)
    }

    /// Follows until the command is over, Ctrl-C, or `wait` is up.
    ///
    /// # Errors
    /// When the host refuses or stays away, or output cannot be written.
    pub async fn follow(&mut self, wait: Option<Duration>) -> Result<Ending, Failure> {
        let mut events = self.client.follow(&self.command, None, self.patience);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let deadline = wait.and_then(|wait| tokio::time::Instant::now().checked_add(wait));
        let up = async move {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(up);
        let interrupt = tokio::signal::ctrl_c();
        tokio::pin!(interrupt);
        let ending = loop {
            let next = events.next();
            tokio::pin!(next);
            // The same future across ticks: dropping it would drop a connection being made.
            let notice = loop {
                tokio::select! {
                    biased;
                    _ = &mut interrupt => break None,
                    () = &mut up => {
                        self.screen.close()?;
                        return Ok(Ending::TimedOut);
                    }
                    _ = ticks.tick() => self.screen.progress(|| self.tally.progress(), self.started.elapsed())?,
                    // Last, because a flood of events is always ready.
                    notice = &mut next => break Some(notice),
                }
            };
            match notice {
                None => break Ending::Interrupted,
                Some(Ok(Some(Notice::Event(event)))) => {
                    if let Some(end) = self.show(event)? {
                        break Ending::Over(end);
                    }
                }
                Some(Ok(Some(Notice::Lost { cause }))) => {
                    self.screen.say(&format!(
                        "connection to {} lost ({cause}); trying again, the command goes on",
                        self.client.server()
                    ))?;
                }
                Some(Ok(Some(Notice::Back))) => self.screen.say("connected again")?,
                Some(Ok(None)) => break Ending::Over(self.tally.as_status()),
                Some(Err(error)) => {
                    self.screen.close()?;
                    return Err(error.into());
                }
            }
        };
        self.screen.close()?;
        if let Some(files) = &mut self.files {
            files.finish()?;
        }
        Ok(ending)
    }

    fn show(&mut self, event: CommandEvent) -> Result<Option<StatusEvent>, Failure> {
        match event {
            CommandEvent::State(state) => self.state(&state)?,
            CommandEvent::Output(output) => self.output(&output)?,
            CommandEvent::Status(status) => {
                self.line("status", None, &status)?;
                self.tally.status(status);
            }
            CommandEvent::End(end) => {
                self.not_kept(None)?;
                self.line("end", None, &end)?;
                return Ok(Some(end));
            }
        }
        Ok(None)
    }

    fn state(&mut self, state: &StateEvent) -> Result<(), Failure> {
        self.line("state", Some(&state.agent), state)?;
        self.tally.state(&state.agent, &state.state, state.reason.as_deref());
        if is_over(&state.state) {
            match &state.output {
                Some(kept) => self.cut(&state.agent, kept)?,
                None => self.not_kept(Some(&state.agent))?,
            }
            self.screen.finish(self.name(&state.agent).to_owned().as_str())?;
        }
        Ok(())
    }

    fn output(&mut self, output: &OutputEvent) -> Result<(), Failure> {
        if !self.shows(&output.agent) {
            return Ok(());
        }
        self.line("output", Some(&output.agent), output)?;
        let (Some(stream), Ok(data)) = (Stream::parse(&output.stream), STANDARD.decode(&output.data_base64)) else {
            self.screen.say(&format!("an output event of agent {} makes no sense and is left out", output.agent))?;
            return Ok(());
        };
        let shown = self.shown.entry((output.agent.clone(), output.attempt, stream)).or_default();
        let pieces = shown.take(output.offset, data.len() as u64);
        let name = self.name(&output.agent).to_owned();
        for piece in pieces {
            let bytes = data.get(piece.within(output.offset)).unwrap_or_default();
            if let Some(files) = &mut self.files {
                files.take(&name, stream, bytes)?;
            }
            if let Some(gathered) = &mut self.gathered {
                gathered.take(&output.agent, output.attempt, stream, piece.bytes.start, bytes);
                continue;
            }
            if !self.sink.is_for_people() {
                continue;
            }
            if piece.late || piece.skipped > 0 {
                self.screen.finish(&name)?;
                let stream = stream.as_str();
                let text = match piece.late {
                    true => format!("[{name}] {stream} from byte {}, which was left out before:", piece.bytes.start),
                    false => {
                        format!("[{name}] {} of {stream} left out here", count::of(piece.skipped, "byte", "bytes"))
                    }
                };
                self.screen.say(&text)?;
            }
            self.screen.output(&name, stream, bytes)?;
            if piece.late {
                self.screen.finish(&name)?;
            }
        }
        Ok(())
    }

    /// Says what of an agent's output, or of everybody's, never came.
    fn not_kept(&mut self, agent: Option<&str>) -> Result<(), Failure> {
        if !self.sink.is_for_people() {
            return Ok(());
        }
        let of = |(name, ..): &(String, u32, Stream)| agent.is_none_or(|agent| agent == name);
        for ((agent, _, stream), shown) in self.shown.iter_mut().filter(|(key, _)| of(key)) {
            let bytes = shown.give_up();
            if bytes > 0 {
                let name = self.names.get(agent).unwrap_or(agent);
                self.screen.say(&missing(name, bytes, *stream))?;
            }
        }
        Ok(())
    }

    /// Says what of an agent's output the host does not have, now that it is over.
    fn cut(&mut self, agent: &str, kept: &KeptOutput) -> Result<(), Failure> {
        // What was left out on the way is among it.
        self.shown.retain(|(of, ..), _| of != agent);
        if !self.sink.is_for_people() || !self.shows(agent) {
            return Ok(());
        }
        for (stream, KeptStream { missing_bytes, .. }) in
            [(Stream::Stdout, &kept.stdout), (Stream::Stderr, &kept.stderr)]
        {
            if *missing_bytes > 0 {
                self.screen.say(&missing(self.name(agent), *missing_bytes, stream))?;
            }
        }
        Ok(())
    }

    /// Everybody's output, equal ones once, if it was held back for that.
    fn fold(&self) -> Result<(), Failure> {
        let Some(gathered) = self.gathered.as_ref().filter(|_| self.sink.is_for_people()) else { return Ok(()) };
        let ends: Vec<(String, String, String)> = self
            .tally
            .ends()
            .filter(|(agent, _)| self.shows(agent))
            .map(|(agent, how)| (agent.to_owned(), self.name(agent).to_owned(), how.to_owned()))
            .collect();
        Ok(self.sink.print(&gathered.page(&ends, self.sink.look()))?)
    }

    fn shows(&self, agent: &str) -> bool {
        self.only.is_empty() || self.only.contains(agent)
    }

    fn name<'a>(&'a self, agent: &'a str) -> &'a str {
        self.names.get(agent).map_or(agent, String::as_str)
    }

    /// The event itself, for scripts.
    fn line<T: Serialize>(&self, event: &str, agent: Option<&str>, data: &T) -> Result<(), Failure> {
        if self.sink.format == Format::Ndjson && agent.is_none_or(|agent| self.shows(agent)) {
            let agent_name = agent.map(|agent| self.name(agent));
            self.sink.document(&EventLine { event, agent_name, data })?;
        }
        Ok(())
    }
}
