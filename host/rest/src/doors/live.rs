//! A command's events as server-sent events: what is logged, then what happens, until the end.
//!
//! The log is the truth and the live feed only says that there is more of it: a reader that comes
//! back with the last id it saw misses nothing and repeats nothing.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;

use api::command::KeptOutput;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::Event as SseEvent;
use domain::event::{Event, What};
use futures_util::{Stream, stream};
use plan::id::{AgentId, CommandId};
use ports::live::{Heard, Subscription};
use services::browse::BrowseError;
use tokio::time::Interval;

use crate::app::App;
use crate::authorize::{Authorized, ReadCommands};
use crate::doors::invocations::kept;
use crate::doors::{In, every, id};
use crate::problem::{Code, Problem};
use crate::streams::Place;
use crate::views;

/// Events read from the log at a time.
const BATCH: u32 = 200;

/// `GET /commands/{id}/events`
pub async fn events(
    who: Authorized<ReadCommands>,
    State(app): State<App>,
    In(command): In<String>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<SseEvent, Infallible>>>, Problem> {
    let command = id(&command, "command")?;
    let last = last_seen(&headers)?;
    let place = app.streams.enter(who.known.payer.clone())?;
    // Listened to before anything is read, so that nothing falls between the two.
    let live = app.browse.subscribe(command);
    let trace = app.browse.command(&who.caller, command).await?.command.traceparent;
    let follower = Follower::new(app, who, place, (command, trace), last, live);
    Ok(Sse::new(stream::unfold(follower, async |mut follower| Some((Ok(follower.next().await?), follower)))))
}

/// The cursor of a reader that comes back. An empty one is what browsers send before the first id.
fn last_seen(headers: &HeaderMap) -> Result<u64, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(0) };
    let text = value.to_str().unwrap_or("?");
    let refuse = || Problem::new(Code::InvalidHeader, "`Last-Event-ID` is the id of an event of this stream, a number");
    if text.is_empty() { Ok(0) } else { text.parse().map_err(|_| refuse()) }
}

/// One reader of one command.
struct Follower {
    app: App,
    who: Authorized<ReadCommands>,
    /// Among the streams of its reader.
    _place: Place,
    command: CommandId,
    /// The trace it belongs to.
    trace: Option<String>,
    live: Box<dyn Subscription>,
    /// The last event that was given or passed over.
    last: u64,
    /// Given before anything new is looked for.
    ready: VecDeque<SseEvent>,
    /// Whether the log may hold more than was read.
    behind: bool,
    /// Nothing comes after what is ready.
    over: bool,
    /// Whether each agent met so far is in sight.
    sight: HashMap<AgentId, bool>,
    recheck: Interval,
    heartbeat: Interval,
}

impl Follower {
    fn new(
        app: App,
        who: Authorized<ReadCommands>,
        place: Place,
        (command, trace): (CommandId, Option<String>),
        last: u64,
        live: Box<dyn Subscription>,
    ) -> Follower {
        let (recheck, heartbeat) = (every(app.options.recheck), every(app.options.heartbeat));
        let (ready, sight) = (VecDeque::new(), HashMap::new());
        let (behind, over) = (true, false);
        Follower { app, who, _place: place, command, trace, live, last, ready, behind, over, sight, recheck, heartbeat }
    }

    /// The next thing to send; `None` ends the stream. A reader that waits with reading holds up only
    /// itself: nothing is fetched before it is asked for.
    async fn next(&mut self) -> Option<SseEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.over {
                return None;
            }
            let step = if self.behind { self.catch_up().await } else { self.listen().await };
            if let Err(problem) = step {
                // The reader comes back with its cursor and is told then.
                tracing::warn!(
                    cause = problem.cause,
                    request_id = self.who.origin.correlation_id,
                    "event stream ended"
                );
                self.over = true;
            }
        }
    }

    /// Reads on in the log. At its end, a command that is over ends the stream.
    async fn catch_up(&mut self) -> Result<(), Problem> {
        // A long log is read for as long as its reader may.
        if !self.still_may().await? {
            self.over = true;
            return Ok(());
        }
        let events = self.app.browse.events(self.command, self.last, BATCH).await?;
        self.behind = events.len() == BATCH as usize;
        for event in events {
            self.take(&event).await?;
        }
        if !self.behind {
            let view = self.app.browse.command(&self.who.caller, self.command).await?;
            if view.status.is_terminal() {
                // It may have ended after the log was read: what it ended with comes first.
                let rest = self.app.browse.events(self.command, self.last, BATCH).await?;
                self.behind = rest.len() == BATCH as usize;
                for event in rest {
                    self.take(&event).await?;
                }
                if !self.behind {
                    self.ready.push_back(self.stamped("end", views::command::end(&view)));
                    self.over = true;
                }
            }
        }
        Ok(())
    }

    /// Waits for something to happen, or to be said that nothing has.
    async fn listen(&mut self) -> Result<(), Problem> {
        tokio::select! {
            heard = self.live.next() => match heard {
                Heard::Event(event) => {
                    if event.seq > self.last {
                        self.take(&event).await?;
                        // The log decides what the last word is.
                        self.behind = matches!(event.what, What::Status { status, .. } if status.is_terminal());
                    }
                }
                Heard::Lagged => self.behind = true,
                Heard::Closed => self.over = true,
            },
            _ = self.recheck.tick() => self.over = !self.still_may().await?,
            _ = self.heartbeat.tick() => self.ready.push_back(SseEvent::default().comment("")),
        }
        Ok(())
    }

    /// Whether the reader still may. What they see is looked at anew when their grants have changed.
    async fn still_may(&mut self) -> Result<bool, Problem> {
        let before = self.who.caller.clone();
        if !self.who.again(&self.app).await? {
            return Ok(false);
        }
        if before != self.who.caller {
            self.sight.clear();
            self.app.browse.command(&self.who.caller, self.command).await?;
        }
        Ok(true)
    }

    async fn take(&mut self, event: &Event) -> Result<(), Problem> {
        if event.seq <= self.last {
            return Ok(());
        }
        self.last = event.seq;
        let agent = match &event.what {
            What::State { agent, .. } | What::Output { agent, .. } => Some(*agent),
            What::Status { .. } | What::Agent { .. } | What::Alert { .. } | What::Plugins { .. } => None,
        };
        let visible = match agent {
            Some(agent) => self.sees(agent).await?,
            None => true,
        };
        if !visible {
            return Ok(());
        }
        let output = self.cut(&event.what).await?;
        if let Some((name, data)) = views::command::event(event, output, self.trace.as_deref()) {
            let event = self.stamped(name, data);
            self.ready.push_back(event);
        }
        Ok(())
    }

    /// What is here of the output of an attempt whose end this is, when that is not all.
    async fn cut(&mut self, what: &What) -> Result<Option<KeptOutput>, Problem> {
        let What::State { agent, attempt, state, .. } = what else { return Ok(None) };
        if !state.is_terminal() {
            return Ok(None);
        }
        let invocation = match self.app.browse.invocation(&self.who.caller, self.command, *agent).await {
            Ok(invocation) => invocation,
            Err(BrowseError::NotFound) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // A later attempt may be under way by now.
        if (invocation.attempt, invocation.state) != (*attempt, *state) {
            return Ok(None);
        }
        let whole = |kept: &KeptOutput| [&kept.stdout, &kept.stderr].iter().all(|stream| stream.missing_bytes == 0);
        Ok(kept(&self.app, &invocation).await?.filter(|kept| !whole(kept)))
    }

    async fn sees(&mut self, agent: AgentId) -> Result<bool, Problem> {
        if self.who.caller.sees_all_sites() {
            return Ok(true);
        }
        if let Some(known) = self.sight.get(&agent) {
            return Ok(*known);
        }
        let seen = match self.app.browse.invocation(&self.who.caller, self.command, agent).await {
            Ok(_) => true,
            Err(BrowseError::NotFound) => false,
            Err(error) => return Err(error.into()),
        };
        self.sight.insert(agent, seen);
        Ok(seen)
    }

    fn stamped(&self, name: &str, data: String) -> SseEvent {
        SseEvent::default().event(name).id(self.last.to_string()).data(data)
    }
}
