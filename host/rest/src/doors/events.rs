//! Everything that happens in a caller's sight: what is logged after a cursor, then what happens.
//!
//! The log is the truth and the live feed only says that there is more of it. Its numbers follow the
//! order of commits, so a reader that comes back with the last one it saw misses nothing and repeats
//! nothing. Nobody polls: a reader with nothing to read waits on its mailbox.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;

use api::alert::AlertEvent;
use api::command::{AgentEvent, AnyStateEvent, AnyStatusEvent, PluginsEvent};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::Event as SseEvent;
use domain::access::Permission;
use domain::event::{Event, What};
use futures_util::{Stream, stream};
use plan::id::{AgentId, CommandId};
use ports::live::{Heard, Subscription};
use serde::Serialize;
use services::browse::BrowseError;
use tokio::time::Interval;

use crate::app::App;
use crate::authorize::{Authorized, ReadCommands};
use crate::doors::every;
use crate::doors::samples::{self, Samples};
use crate::instant;
use crate::problem::{Code, Problem};
use crate::query::Query;
use crate::streams::Place;

/// Events read from the log at a time.
const BATCH: u32 = 200;
/// Most commands and invocations whose visibility is remembered.
const SIGHT_MAX: usize = 10_000;

/// `GET /events`
pub async fn sse(
    who: Authorized<ReadCommands>,
    State(app): State<App>,
    query: Query,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<SseEvent, Infallible>>>, Problem> {
    let reader = Reader::open(app, who, cursor(&query, &headers)?, Samples::read(&query)?).await?;
    Ok(Sse::new(stream::unfold(reader, async |mut reader| {
        let event = match reader.next().await? {
            Told::Event { id, name, data } => {
                let event = SseEvent::default().event(name).data(data);
                if let Some(id) = id { event.id(id.to_string()) } else { event }
            }
            Told::Nothing => SseEvent::default().comment(""),
        };
        Some((Ok(event), reader))
    })))
}

/// Where a reader goes on: `Last-Event-ID`, which browsers send by themselves, before `?cursor=`.
pub fn cursor(query: &Query, headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let unread = || Problem::at(Code::InvalidCursor, "?cursor", "give the id of an event, a whole number");
    let asked = query.one("cursor")?.map(|text| text.parse().map_err(|_| unread())).transpose()?;
    let Some(value) = headers.get("last-event-id").filter(|value| !value.is_empty()) else { return Ok(asked) };
    let refuse = || Problem::new(Code::InvalidHeader, "`Last-Event-ID` is the id of an event of this stream, a number");
    value.to_str().ok().and_then(|text| text.parse().ok()).map(Some).ok_or_else(refuse)
}

/// What a reader is told next.
pub enum Told {
    /// Something happened.
    Event {
        /// Its cursor; none for what is no part of the log.
        id: Option<u64>,
        /// `state`, `status`, `agent`, `alert`, `plugins` or `telemetry`.
        name: &'static str,
        /// JSON.
        data: String,
    },
    /// Nothing has, and the connection is still there.
    Nothing,
}

/// One reader of everything in its sight.
pub struct Reader {
    app: App,
    who: Authorized<ReadCommands>,
    /// Among the streams of its reader.
    _place: Place,
    live: Box<dyn Subscription>,
    /// The last event that was given or passed over.
    last: u64,
    ready: VecDeque<Told>,
    /// Whether the log may hold more than was read.
    behind: bool,
    over: bool,
    commands: HashMap<CommandId, bool>,
    invocations: HashMap<(CommandId, AgentId), bool>,
    /// What is told of telemetry, if anything is.
    samples: Option<Samples>,
    recheck: Interval,
    heartbeat: Interval,
}

impl Reader {
    /// Begins after `cursor`, or with what happens from now on.
    ///
    /// # Errors
    /// 400 for a cursor that nobody was given yet, 429 for one stream too many; the store's.
    pub async fn open(
        app: App,
        who: Authorized<ReadCommands>,
        cursor: Option<u64>,
        samples: Option<Samples>,
    ) -> Result<Reader, Problem> {
        if samples.is_some() {
            who.caller.may(Permission::ReadAgents)?;
        }
        let place = app.streams.enter(who.known.payer.clone())?;
        // Listened to before anything is read, so that nothing falls between the two.
        let live = app.browse.subscribe_all();
        let newest = app.browse.last_event().await?;
        let last = cursor.unwrap_or(newest);
        if last > newest {
            return Err(Problem::at(Code::InvalidCursor, "?cursor", "no event has had this id yet"));
        }
        let (recheck, heartbeat) = (every(app.options.recheck), every(app.options.heartbeat));
        let generation = app.plugins.generation();
        let (commands, invocations) = (HashMap::new(), HashMap::new());
        let (ready, behind, over) = (VecDeque::new(), last < newest, false);
        let mut reader = Reader {
            app,
            who,
            _place: place,
            live,
            last,
            ready,
            behind,
            over,
            commands,
            invocations,
            samples,
            recheck,
            heartbeat,
        };
        // Not logged, so each reader is told where the plugins stand when it comes.
        reader.plugins(generation)?;
        Ok(reader)
    }

    /// The last event that was given or passed over.
    pub fn cursor(&self) -> u64 {
        self.last
    }

    /// What to tell next; `None` ends the stream. Nothing is fetched before it is asked for, so a reader
    /// that is slow holds up only itself.
    ///
    /// # Cancel safety
    /// None: what is dropped half way has passed over what it was looking at.
    pub async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some(told) = self.ready.pop_front() {
                return Some(told);
            }
            if self.over {
                return None;
            }
            let step = if self.behind { self.catch_up().await } else { self.listen().await };
            if let Err(problem) = step {
                // The reader comes back with its cursor and is told then.
                let request_id = self.who.origin.correlation_id.as_str();
                tracing::warn!(cause = problem.cause, request_id, "event stream ended");
                self.over = true;
            }
        }
    }

    async fn catch_up(&mut self) -> Result<(), Problem> {
        // A long log is read for as long as the token is good.
        if !self.still_may().await? {
            self.over = true;
            return Ok(());
        }
        let events = self.app.browse.everything(self.last, BATCH).await?;
        self.behind = events.len() == BATCH as usize;
        for event in events {
            self.take(&event).await?;
        }
        Ok(())
    }

    async fn listen(&mut self) -> Result<(), Problem> {
        tokio::select! {
            heard = self.live.next() => match heard {
                Heard::Event(event) => self.take(&event).await?,
                Heard::Lagged => {
                    self.behind = true;
                    // Among what was missed may be what is not in the log.
                    self.plugins(self.app.plugins.generation())?;
                }
                Heard::Closed => self.over = true,
            },
            _ = self.recheck.tick() => self.over = !self.still_may().await?,
            _ = self.heartbeat.tick() => self.ready.push_back(Told::Nothing),
            // One at a time, so that what happens comes between: whoever is behind is told of the latest when it is told.
            () = std::future::ready(()), if self.samples.as_ref().is_some_and(Samples::has_more) => self.sample()?,
            () = samples::tick(&mut self.samples) => {
                if let Some(samples) = &mut self.samples {
                    samples.look(&self.app, &self.who.caller).await;
                }
            }
        }
        Ok(())
    }

    fn sample(&mut self) -> Result<(), Problem> {
        let may = self.may(Permission::ReadAgents);
        let said = self.samples.as_mut().and_then(|samples| samples.next(&self.app, &self.who.caller));
        said.filter(|_| may).map_or(Ok(()), |said| self.tell(None, "telemetry", &said))
    }

    /// Whether the token is still good. What they may see is as it is now.
    async fn still_may(&mut self) -> Result<bool, Problem> {
        let before = Arc::clone(&self.who.known);
        let may = self.who.again(&self.app).await?;
        if !Arc::ptr_eq(&before, &self.who.known) {
            self.commands.clear();
            self.invocations.clear();
        }
        Ok(may)
    }

    async fn take(&mut self, event: &Event) -> Result<(), Problem> {
        let at = || instant::text(event.at);
        if let What::Plugins { generation } = event.what {
            return self.plugins(generation);
        }
        if event.seq <= self.last {
            return Ok(());
        }
        self.last = event.seq;
        let id = Some(event.seq);
        match &event.what {
            What::State { command, agent, attempt, state, reason } => {
                if self.may(Permission::ReadCommands) && self.sees_invocation(*command, *agent).await? {
                    let told = AnyStateEvent {
                        command: command.to_string(),
                        agent: agent.to_string(),
                        attempt: *attempt,
                        state: state.as_str().to_owned(),
                        reason: reason.map(|reason| reason.as_str().to_owned()),
                        at: at(),
                    };
                    self.tell(id, "state", &told)?;
                }
            }
            What::Status { command, status, .. } => {
                if self.may(Permission::ReadCommands) && self.sees_command(*command).await? {
                    let (command, status) = (command.to_string(), status.as_str().to_owned());
                    self.tell(id, "status", &AnyStatusEvent { command, status, at: at() })?;
                }
            }
            What::Agent { agent, status } => {
                let found = self.app.directory.get(*agent).filter(|found| self.who.caller.sees_site(&found.agent.site));
                if let Some(found) = found.filter(|_| self.may(Permission::ReadAgents)) {
                    let told = AgentEvent {
                        agent: agent.to_string(),
                        agent_name: found.agent.name.clone(),
                        site: found.agent.site.clone(),
                        status: status.as_str().to_owned(),
                        revoked: found.agent.revoked_at.is_some(),
                        at: at(),
                    };
                    self.tell(id, "agent", &told)?;
                }
            }
            What::Alert { alert, agent, state, line } => {
                let about = agent.map(|agent| self.app.directory.get(agent));
                let site = match &about {
                    Some(Some(found)) => Some(found.agent.site.as_str()),
                    Some(None) => None,
                    None => Some(""),
                };
                let caller = &self.who.caller;
                if self.may(Permission::ReadAlerts) && site.is_some_and(|site| caller.sees_site(site)) {
                    let told = AlertEvent {
                        alert: alert.to_string(),
                        agent: agent.map(|agent| agent.to_string()),
                        agent_name: about.flatten().map(|found| found.agent.name.clone()),
                        what: line.as_str().to_owned(),
                        state: state.as_str().to_owned(),
                        severity: state.severity().map(|severity| severity.as_str().to_owned()),
                        at: at(),
                    };
                    self.tell(id, "alert", &told)?;
                }
            }
            // Output is told to whoever follows its command.
            What::Output { .. } | What::Plugins { .. } => {}
        }
        Ok(())
    }

    fn may(&self, permission: Permission) -> bool {
        self.who.caller.may(permission).is_ok()
    }

    fn plugins(&mut self, generation: u64) -> Result<(), Problem> {
        if self.may(Permission::ReadPlugins) {
            self.tell(None, "plugins", &PluginsEvent { generation })
        } else {
            Ok(())
        }
    }

    fn tell(&mut self, id: Option<u64>, name: &'static str, data: &impl Serialize) -> Result<(), Problem> {
        let data = serde_json::to_string(data).map_err(|error| Problem::internal(error.to_string()))?;
        self.ready.push_back(Told::Event { id, name, data });
        Ok(())
    }

    async fn sees_invocation(&mut self, command: CommandId, agent: AgentId) -> Result<bool, Problem> {
        if self.who.caller.sees_all_sites() {
            return Ok(true);
        }
        if let Some(known) = self.invocations.get(&(command, agent)) {
            return Ok(*known);
        }
        let seen = found(self.app.browse.invocation(&self.who.caller, command, agent).await.map(drop))?;
        remember(&mut self.invocations, (command, agent), seen);
        Ok(seen)
    }

    async fn sees_command(&mut self, command: CommandId) -> Result<bool, Problem> {
        if self.who.caller.sees_all_sites() {
            return Ok(true);
        }
        if let Some(known) = self.commands.get(&command) {
            return Ok(*known);
        }
        let seen = found(self.app.browse.command(&self.who.caller, command).await.map(drop))?;
        remember(&mut self.commands, command, seen);
        Ok(seen)
    }
}

fn found(looked: Result<(), BrowseError>) -> Result<bool, Problem> {
    match looked {
        Ok(()) => Ok(true),
        Err(BrowseError::NotFound) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn remember<K: std::hash::Hash + Eq>(known: &mut HashMap<K, bool>, key: K, seen: bool) {
    if known.len() >= SIGHT_MAX {
        known.clear();
    }
    known.insert(key, seen);
}
