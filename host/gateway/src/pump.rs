//! One socket, one session: moves frames between them and does what the session wants done.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::attempt::Event;
use domain::time::Timestamp;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use plan::effect::Effect;
use plan::id::{AgentId, AttemptKey};
use plan::secret::KeyText;
use ports::commands::{Advance, Due, Word};
use services::progress::Report;
use wire::codec::{decode, encode};
use wire::frame::{Fault, Goodbye, HostFrame};

use crate::connected::{Registration, Wishes};
use crate::handshake::Greeted;
use crate::room::Gateway;
use crate::session::{Input, Output, Session};
use crate::waiting::QUEUE_MAX;

/// A socket that takes nothing for this long is dropped; a slow reader costs itself only.
const STUCK: Duration = Duration::from_secs(30);
/// What agents are asked to wait before they come back after this host left.
const RETRY_AFTER_MS: u64 = 500;
/// Frames taken from a socket before what they caused is written.
const READ_AHEAD: usize = 64;

type Work = Pin<Box<dyn Future<Output = Done> + Send>>;

/// What came of work the session wanted.
enum Done {
    Stored(AttemptKey),
    Loaded(Vec<Due>, bool),
    Advanced,
}

/// Runs one session to its end.
pub async fn run(gateway: Arc<Gateway>, mut socket: WebSocket, greeted: Greeted, peer: SocketAddr) {
    let (agent, epoch) = (greeted.agent, greeted.opened.epoch);
    let farewell = gateway.connected.farewell(agent, epoch);
    let Some(mut registration) = gateway.connected.register(agent, epoch) else {
        tracing::info!(%agent, epoch, "a newer session of the agent is open");
        replaced(&mut socket).await;
        _ = tokio::time::timeout(Duration::from_secs(1), socket.close()).await;
        return;
    };
    // A revocation that was committed before the registration found nobody to cut.
    if gateway.directory.get(agent).is_none_or(|known| known.agent.revoked_at.is_some()) {
        registration.cut.cancel();
    }
    tracing::info!(%agent, epoch, %peer, "session open");
    let now = gateway.clock.now();
    let (options, opened) = (&gateway.options, &greeted.opened);
    let (slots, at_once) = (gateway.slots.clone(), options.agent_concurrency);
    let dispatch = gateway.dispatch.clone();
    let gate = Arc::new(move |due: &Due, effect: Option<Effect>| dispatch.verdict(due, effect));
    let session = Session::new(slots, gate, at_once, options.heartbeat, &opened.run, &opened.send, now);
    let mut pump = Pump {
        gateway: gateway.clone(),
        agent,
        epoch,
        session,
        wishes: registration.wishes.clone(),
        work: FuturesUnordered::new(),
    };
    let end = pump.converse(&mut socket, &mut registration).await;
    let sent = pump.session.unconfirmed();
    drop(registration);
    tracing::info!(%agent, epoch, end, unconfirmed = sent.len(), "session closed");
    if let Err(error) = gateway.presence.close(agent, epoch, sent).await {
        tracing::warn!(%agent, %error, "the session's end is not stored; what was sent stays possibly sent");
    }
    drop(farewell);
    _ = tokio::time::timeout(Duration::from_secs(1), socket.close()).await;
}

struct Pump {
    gateway: Arc<Gateway>,
    agent: AgentId,
    epoch: u64,
    session: Session,
    wishes: Arc<Wishes>,
    work: FuturesUnordered<Work>,
}

impl Pump {
    /// Moves frames until the conversation is over; says why.
    async fn converse(&mut self, socket: &mut WebSocket, registration: &mut Registration) -> &'static str {
        loop {
            match tokio::time::timeout(STUCK, self.obey(socket)).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return "closed by the session",
                Ok(Err(_)) => return "socket gone",
                Err(_) => return "socket stuck",
            }
            let now = self.gateway.clock.now();
            let wait = self.session.deadline().since(now).max(Duration::from_millis(1));
            let starved = self.session.is_starved();
            tokio::select! {
                () = self.gateway.slots.freed(), if starved => {
                    self.handle(Input::Freed);
                    self.gateway.slots.pass_on();
                }
                message = socket.next() => {
                    let Some(Ok(message)) = message else { return "socket gone" };
                    if !self.hear(message).await { return "closed by the agent" }
                    // What has arrived already is taken along, so that its answers share one write.
                    for _ in 1..READ_AHEAD {
                        match socket.next().now_or_never() {
                            None => break,
                            Some(Some(Ok(message))) => {
                                if !self.hear(message).await { return "closed by the agent" }
                            }
                            Some(_) => return "socket gone",
                        }
                    }
                }
                offer = registration.offers.recv() => {
                    // Its other end went to a newer session.
                    let Some(offer) = offer else { return replaced(socket).await };
                    self.handle(Input::Offer(offer));
                    while let Ok(offer) = registration.offers.try_recv() {
                        self.handle(Input::Offer(offer));
                    }
                }
                () = registration.wishes.any() => self.handle(Input::Settle(Vec::new())),
                () = registration.overflow.happened() => self.handle(Input::Overflow),
                () = registration.retell.notified() => self.handle(Input::Retell),
                Some(done) = self.work.next() => self.done(done),
                () = tokio::time::sleep(wait) => self.session.tick(self.gateway.clock.now()),
                () = registration.replaced.cancelled() => return replaced(socket).await,
                () = registration.cut.cancelled() => {
                    let fault = Fault { code: "cut".into(), message: "the key was revoked".into() };
                    _ = write(socket, &HostFrame::Error(fault)).await;
                    return "cut";
                }
                () = self.gateway.stop.cancelled() => {
                    let reason = "the host is leaving".to_owned();
                    _ = write(socket, &HostFrame::Goodbye(Goodbye { reason, retry_after_ms: Some(RETRY_AFTER_MS) })).await;
                    self.finish_work().await;
                    return "host leaving";
                }
            }
        }
    }

    /// Puts the key of a command's secrets into its frame: only here, on its way out, is it in the clear.
    fn unwrap_key(&self, frame: &mut HostFrame) {
        let HostFrame::Command(command) = frame else { return };
        if command.secret_key.is_none() {
            return;
        }
        let envelope = self.gateway.seal.open(&command.envelope);
        let key = envelope.and_then(|envelope| {
            let wrapped = envelope.secrets?.key;
            self.gateway.vault.unwrap(envelope.command_id, &wrapped)
        });
        if key.is_none() {
            tracing::error!(attempt = %command.attempt, "its secrets cannot be unwrapped: keys/secret.key is not the one they were kept with");
        }
        command.secret_key = key.map(|key| KeyText(URL_SAFE_NO_PAD.encode(key)));
    }

    /// Does everything the session wants; `false` when it wants to end.
    async fn obey(&mut self, socket: &mut WebSocket) -> Result<bool, axum::Error> {
        let mut wrote = false;
        let mut go_on = true;
        while let Some(output) = self.session.poll() {
            match output {
                Output::Send(mut frame) => {
                    self.unwrap_key(&mut frame);
                    socket.feed(Message::Text(encode(&frame).into())).await?;
                    wrote = true;
                }
                Output::Note(key, event, at) => self.gateway.progress.note(key, self.agent, event, at),
                Output::Append { key, stream, offset, data } => {
                    self.gateway.progress.output(key, self.agent, stream, offset, data);
                }
                Output::LetGo { key, stream, gone } => {
                    let (gateway, agent) = (self.gateway.clone(), self.agent);
                    self.work.push(Box::pin(async move {
                        gateway.progress.let_go(key, agent, stream, gone).await;
                        Done::Advanced
                    }));
                }
                Output::Advance(key, events) => self.work.push(self.advance(key, events)),
                Output::Reject(key, why) => {
                    let (gateway, agent, word) = (self.gateway.clone(), self.agent, Word::Session(self.epoch));
                    self.work.push(Box::pin(async move {
                        let store = || gateway.dispatch.reject(key, agent, word, why.clone());
                        gateway.patience.until_stored("a refusal to send", store).await;
                        Done::Advanced
                    }));
                }
                Output::Finish { key, command, outcome, kept } => {
                    let report = Report { key, agent: self.agent, command, outcome, kept };
                    self.work.push(self.finish(report));
                }
                Output::Load => {
                    let (gateway, agent, epoch) = (self.gateway.clone(), self.agent, self.epoch);
                    self.work.push(Box::pin(async move {
                        let read = || gateway.dispatch.due(agent, epoch, QUEUE_MAX as u32);
                        let (due, more) = gateway.patience.until_stored("what waits for an agent", read).await;
                        Done::Loaded(due, more)
                    }));
                }
                Output::Sample(sample) => {
                    let text = serde_json::to_string(&sample).expect("a sample holds nothing that JSON cannot");
                    self.gateway.directory.set_sample(self.agent, text.into());
                }
                Output::Missed => {
                    self.gateway.directory.missed(self.agent);
                }
                Output::Close(fault) => {
                    tracing::info!(agent = %self.agent, code = fault.code, message = fault.message, "conversation over");
                    go_on = false;
                }
            }
        }
        if wrote {
            socket.flush().await?;
        }
        Ok(go_on)
    }

    /// Judges an end and stores it, however long the store is away: until then the agent is not told that
    /// it may forget it.
    fn finish(&self, report: Report) -> Work {
        let gateway = self.gateway.clone();
        Box::pin(async move {
            let (progress, patience) = (&gateway.progress, &gateway.patience);
            let stored = match patience.until_stored("a result's command", || progress.judge(&report)).await {
                Some(end) => patience.until_stored("a result", || progress.store(end.clone())).await,
                None => None,
            };
            if stored.is_none() {
                tracing::warn!(agent = %report.agent, attempt = %report.key, "result for no attempt of this agent; dropped");
            }
            Done::Stored(report.key)
        })
    }

    /// What the session says of what it sent and did not send.
    fn advance(&self, key: AttemptKey, events: Vec<Event>) -> Work {
        let (gateway, agent, at) = (self.gateway.clone(), self.agent, self.gateway.clock.now());
        let word = Word::Session(self.epoch);
        Box::pin(async move {
            let advance = Advance { key, agent, events, at, message: None, end: None, word };
            let store = || gateway.dispatch.commands.advance(advance.clone());
            gateway.patience.until_stored("an attempt's state", store).await;
            Done::Advanced
        })
    }

    /// Takes one message in; `false` when the agent closed the socket.
    async fn hear(&mut self, message: Message) -> bool {
        let now = self.now();
        match message {
            Message::Text(text) => {
                if self.gateway.directory.heard(self.agent, now) {
                    tracing::info!(agent = %self.agent, "heard again");
                }
                match decode(&text) {
                    Ok(frame) => self.handle(Input::Frame(frame)),
                    Err(error) => self.session.refuse(error.code(), error.to_string()),
                }
                true
            }
            Message::Binary(_) => {
                self.session.refuse("malformed_frame", "frames are text".to_owned());
                true
            }
            Message::Ping(_) | Message::Pong(_) => true,
            Message::Close(_) => false,
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Stored(key) => self.handle(Input::Stored(key)),
            Done::Loaded(due, more) => self.handle(Input::Loaded { due, more }),
            Done::Advanced => {}
        }
    }

    /// Tells the session, and before that what is to be ended: what it sends is decided with that in mind.
    fn handle(&mut self, input: Input) {
        let now = self.now();
        let wishes = self.wishes.take();
        if !wishes.is_empty() {
            self.session.handle(Input::Settle(wishes), now);
        }
        self.session.handle(input, now);
    }

    /// Lets commits under way finish before the host leaves.
    async fn finish_work(&mut self) {
        let all = async { while self.work.next().await.is_some() {} };
        _ = tokio::time::timeout(Duration::from_secs(5), all).await;
    }

    fn now(&self) -> Timestamp {
        self.gateway.clock.now()
    }
}

async fn replaced(socket: &mut WebSocket) -> &'static str {
    let message = "another process opened a session with this key; an agent's key is for one machine".into();
    _ = write(socket, &HostFrame::Error(Fault { code: "replaced".into(), message })).await;
    "replaced"
}

async fn write(socket: &mut WebSocket, frame: &HostFrame) -> Result<(), axum::Error> {
    let message = Message::Text(encode(frame).into());
    tokio::time::timeout(Duration::from_secs(1), socket.send(message)).await.unwrap_or(Ok(()))
}
