//! A command's events, followed across broken connections.
//!
//! Invariant: every event is handed out once and in order. After a break the host is asked for what
//! comes after the last id handed out, so nothing is lost and nothing comes twice.

use std::collections::VecDeque;
use std::time::Duration;

use api::command::{OutputEvent, StateEvent, StatusEvent};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use reqwest::Method;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::Client;
use crate::error::ClientError;
use crate::request::Ask;
use crate::sse::{Frame, Parser};

/// One event of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandEvent {
    /// An attempt moved.
    State(StateEvent),
    /// Bytes of an attempt's output.
    Output(OutputEvent),
    /// The command moved.
    Status(StatusEvent),
    /// The command is over; nothing follows.
    End(StatusEvent),
}

/// What following a command brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// An event.
    Event(CommandEvent),
    /// The connection is gone and does not come back at once. A host that ends a stream with its
    /// token and takes the next one is not worth a word.
    Lost {
        /// Why.
        cause: String,
    },
    /// The host is heard again after [`Notice::Lost`].
    Back,
}

/// How long to bear with a host that does not answer.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Wait before the first new attempt; doubled at each further one.
    pub first_wait: Duration,
    /// Longest wait between two attempts.
    pub longest_wait: Duration,
    /// A connection on which nothing comes for this long, not even a heartbeat, is given up.
    pub silence: Duration,
    /// After this long without a connection following ends with the last error.
    pub give_up: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            first_wait: Duration::from_millis(250),
            longest_wait: Duration::from_secs(10),
            silence: Duration::from_secs(60),
            give_up: Duration::from_secs(300),
        }
    }
}

type Body = BoxStream<'static, Result<Vec<u8>, String>>;

enum Line {
    Up(Body),
    Down { retry_at: Instant },
}

/// The events of one command.
pub struct EventStream {
    client: Client,
    command: String,
    patience: Patience,
    line: Line,
    parser: Parser,
    ready: VecDeque<Frame>,
    last_id: String,
    /// Attempts since the connection was lost, and since when it is.
    attempts: u32,
    down_since: Option<Instant>,
    /// [`Notice::Lost`] was given and [`Notice::Back`] not yet.
    told: bool,
    over: bool,
}

impl Client {
    /// Follows a command from its first event, or from after `last_id`. Connects at the first
    /// [`EventStream::next`].
    pub fn follow(&self, command: &str, last_id: Option<String>, patience: Patience) -> EventStream {
        EventStream {
            client: self.clone(),
            command: command.to_owned(),
            patience,
            line: Line::Down { retry_at: Instant::now() },
            parser: Parser::new(),
            ready: VecDeque::new(),
            last_id: last_id.unwrap_or_default(),
            attempts: 0,
            down_since: None,
            told: false,
            over: false,
        }
    }
}

impl EventStream {
    /// The next notice; `None` after [`CommandEvent::End`].
    ///
    /// # Errors
    /// When the host refuses (no such command, login over), or is away for longer than patience lasts.
    pub async fn next(&mut self) -> Result<Option<Notice>, ClientError> {
        loop {
            if self.over {
                return Ok(None);
            }
            if let Some(frame) = self.ready.pop_front() {
                self.last_id.clone_from(&frame.id);
                if let Some(event) = self.read(&frame)? {
                    self.over = matches!(event, CommandEvent::End(_));
                    return Ok(Some(Notice::Event(event)));
                }
                continue;
            }
            if let Some(notice) = self.turn().await? {
                return Ok(Some(notice));
            }
        }
    }

    /// Connects, or reads one chunk.
    async fn turn(&mut self) -> Result<Option<Notice>, ClientError> {
        match &mut self.line {
            Line::Down { retry_at } => {
                tokio::time::sleep_until(*retry_at).await;
                self.connect().await
            }
            Line::Up(body) => {
                let cause = match tokio::time::timeout(self.patience.silence, body.next()).await {
                    Ok(Some(Ok(bytes))) => {
                        // Only bytes prove that the host is back: a proxy may accept and hang up for ever.
                        self.down_since = None;
                        self.attempts = 0;
                        let mut frames = Vec::new();
                        let outcome = self.parser.push(&bytes, &mut frames);
                        self.ready.extend(frames);
                        match outcome {
                            Ok(()) => return Ok(std::mem::take(&mut self.told).then_some(Notice::Back)),
                            Err(too_long) => too_long.to_string(),
                        }
                    }
                    Ok(Some(Err(cause))) => cause,
                    Ok(None) => "the host closed the connection".to_owned(),
                    Err(_) => format!("nothing heard for {} s", self.patience.silence.as_secs()),
                };
                let url = self.client.server().to_string();
                let detail = format!("it accepts connections and drops them ({cause})");
                let again = self.bear(|| ClientError::NotTheApi { url, status: 200, detail })?;
                self.wait(None);
                Ok(if again { self.lost(cause) } else { None })
            }
        }
    }

    async fn connect(&mut self) -> Result<Option<Notice>, ClientError> {
        let url = self.client.server().route(&["commands", &self.command, "events"], &[]);
        let mut ask = Ask::new(Method::GET, url).header("accept", "text/event-stream".to_owned()).stream().at_once();
        if !self.last_id.is_empty() {
            ask = ask.header("last-event-id", self.last_id.clone());
        }
        match self.client.send(&ask).await {
            Ok(response) => {
                let body = response.bytes_stream().map(|chunk| match chunk {
                    Ok(bytes) => Ok(bytes.to_vec()),
                    Err(error) => Err(ClientError::transport(&"", &error).cause()),
                });
                self.line = Line::Up(body.boxed());
                self.parser = Parser::resume(&self.last_id, self.parser.retry_ms());
                Ok(None)
            }
            Err(error) if error.is_passing() => {
                let (asked_for, cause) = (error.retry_after(), error.cause());
                self.bear(|| error)?;
                self.wait(asked_for);
                Ok(self.lost(cause))
            }
            Err(error) => Err(error),
        }
    }

    /// Notes that the host is away, or ends following when it has been for too long. Answers whether
    /// it was away already.
    fn bear(&mut self, error: impl FnOnce() -> ClientError) -> Result<bool, ClientError> {
        let since = *self.down_since.get_or_insert_with(|| {
            self.attempts = 0;
            Instant::now()
        });
        if since.elapsed() >= self.patience.give_up { Err(error()) } else { Ok(self.attempts > 0) }
    }

    fn lost(&mut self, cause: String) -> Option<Notice> {
        (!std::mem::replace(&mut self.told, true)).then_some(Notice::Lost { cause })
    }

    /// Sets when to try again: doubling, with jitter so that many watchers do not return at once.
    fn wait(&mut self, asked_for: Option<u64>) {
        let first = self.parser.retry_ms().map_or(self.patience.first_wait, Duration::from_millis);
        let step = first.saturating_mul(1 << self.attempts.min(10)).min(self.patience.longest_wait);
        let wait = asked_for.map_or(step.mul_f64(rand::random_range(0.5..=1.0)), Duration::from_secs);
        self.attempts += 1;
        self.line = Line::Down { retry_at: Instant::now() + wait.min(self.patience.longest_wait.max(step)) };
    }

    /// The event in a frame; `None` for a type of a later version.
    fn read(&self, frame: &Frame) -> Result<Option<CommandEvent>, ClientError> {
        Ok(Some(match frame.event.as_str() {
            "state" => CommandEvent::State(self.data(frame)?),
            "output" => CommandEvent::Output(self.data(frame)?),
            "status" => CommandEvent::Status(self.data(frame)?),
            "end" => CommandEvent::End(self.data(frame)?),
            _ => return Ok(None),
        }))
    }

    fn data<T: DeserializeOwned>(&self, frame: &Frame) -> Result<T, ClientError> {
        serde_json::from_str(&frame.data).map_err(|error| ClientError::NotTheApi {
            url: self.client.server().route(&["commands", &self.command, "events"], &[]).to_string(),
            status: 200,
            detail: format!("event `{}` with id `{}`: {error}", frame.event, frame.id),
        })
    }
}
