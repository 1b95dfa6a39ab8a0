//! One socket, one session: moves frames between them and does what the session wants done.

use std::future::{Future, pending};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::attempt::Event;
use domain::telemetry::report::Refusal;
use domain::time::Timestamp;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use plan::effect::Effect;
use plan::id::{AgentId, AttemptKey};
use plan::secret::KeyText;
use ports::commands::{Advance, Due, Word};
use services::enrol::EnrolError;
use services::progress::Report;
use tokio::time::{Instant, Interval};
use wire::codec::{decode, encode};
use wire::frame::{Fault, Goodbye, HostFrame, NewKey};

use crate::alarm;
use crate::certificate::LOOK_EVERY;
use crate::connected::{Mailbox, Registration, Wishes};
use crate::handshake::Greeted;
use crate::readings::{begins_as_sample, is_sample};
use crate::reported::Reported;
use crate::room::Gateway;
use crate::session::{Input, Output, Session};
use crate::signals::{Raised, Signal};
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
    KeyStored(String),
    Advanced,
}

/// Runs one session to its end. `certificate` is what the agent showed (DER).
pub async fn run(
    gateway: Arc<Gateway>,
    mut socket: WebSocket,
    greeted: Greeted,
    peer: SocketAddr,
    certificate: Option<Vec<u8>>,
) {
    let (agent, epoch) = (greeted.agent, greeted.opened.epoch);
    let farewell = gateway.connected.farewell(agent, epoch);
    let Some(registration) = gateway.connected.register(agent, epoch) else {
        tracing::info!(%agent, epoch, "a newer session of the agent is open");
        replaced(&mut socket).await;
        _ = tokio::time::timeout(Duration::from_secs(1), socket.close()).await;
        return;
    };
    drop(greeted.place);
    // A revocation that was committed before the registration found nobody to cut.
    if gateway.directory.get(agent).is_none_or(|known| known.agent.revoked_at.is_some()) {
        registration.signals.raise(Signal::Cut);
    }
    tracing::info!(%agent, epoch, %peer, "session open");
    let now = gateway.clock.now();
    let (options, opened) = (&gateway.options, &greeted.opened);
    let (slots, at_once) = (gateway.slots.clone(), options.agent_concurrency);
    let dispatch = gateway.dispatch.clone();
    let gate = Arc::new(move |due: &Due, effect: Option<Effect>| dispatch.verdict(due, effect));
    let running: Vec<_> = opened.run.iter().chain(&opened.ending).copied().collect();
    let mut session = Session::new(slots, gate, at_once, options.heartbeat, &running, &opened.send, now);
    session.were_asked_to_end(opened.ending.iter().map(|(key, _)| *key));
    let mut pump = Pump {
        gateway: gateway.clone(),
        agent,
        epoch,
        session,
        wishes: registration.wishes.clone(),
        work: FuturesUnordered::new(),
        reported: Reported::default(),
        certificate,
    };
    if let Some(key) = greeted.by_next_key {
        pump.key_stored(key);
    }
    if gateway.directory.get(agent).is_some_and(|known| known.agent.rotation_asked_at.is_some()) {
        pump.handle(Input::AskKey);
    }
    let end = pump.converse(&mut socket, &registration).await;
    let sent = pump.session.unconfirmed();
    drop(registration);
    tracing::info!(%agent, epoch, end, unconfirmed = sent.len(), "session closed");
    let written = async {
        if let Err(error) = gateway.presence.close(agent, epoch, sent).await {
            tracing::warn!(%agent, %error, "the session's end is not stored; what was sent stays possibly sent");
        }
        drop(farewell);
    };
    // At once: an agent does not look for another host before it is let go, and the store may be long in answering.
    let closed = async move {
        _ = tokio::time::timeout(Duration::from_secs(1), socket.close()).await;
    };
    tokio::join!(written, closed);
}

struct Pump {
    gateway: Arc<Gateway>,
    agent: AgentId,
    epoch: u64,
    session: Session,
    wishes: Arc<Wishes>,
    work: FuturesUnordered<Work>,
    reported: Reported,
    /// What the agent has to show, as far as is known here (DER).
    certificate: Option<Vec<u8>>,
}

impl Pump {
    /// Moves frames until the conversation is over; says why.
    async fn converse(&mut self, socket: &mut WebSocket, registration: &Registration) -> &'static str {
        // Has nothing to write, and lets go of whoever wrote last: the socket holds on to who waited for it, and that would
        // keep the handshake's whole task in memory until something is said to the agent.
        if socket.flush().await.is_err() {
            return "socket gone";
        }
        let gateway = self.gateway.clone();
        // The first tick is now.
        let mut look = gateway.certificates.is_some().then(|| tokio::time::interval(LOOK_EVERY));
        let signals = registration.signals.clone();
        // Made once: a session goes round for every few frames, and each of these takes a lock.
        let mut leaving = pin!(gateway.stop.cancelled());
        let mut bell = pin!(tokio::time::sleep(Duration::ZERO));
        let mut armed = Timestamp(0);
        let heartbeat = gateway.options.heartbeat;
        loop {
            match tokio::time::timeout(STUCK, self.obey(socket)).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return "closed by the session",
                Ok(Err(_)) => return "socket gone",
                Err(_) => return "socket stuck",
            }
            let deadline = self.session.deadline();
            if bell.is_elapsed() || alarm::is_to_be_set(deadline, armed, heartbeat) {
                armed = alarm::rings(deadline, heartbeat);
                let wait = armed.since(gateway.clock.now()).max(Duration::from_millis(1));
                bell.as_mut().reset(Instant::now() + wait);
            }
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
                raised = signals.any() => {
                    if let Some(end) = self.told(raised, &registration.mailbox, socket).await {
                        return end;
                    }
                }
                () = ticked(&mut look) => self.renew_certificate(),
                Some(done) = self.work.next() => self.done(done),
                () = &mut bell => self.session.tick(gateway.clock.now()),
                () = &mut leaving => {
                    let reason = "the host is leaving".to_owned();
                    _ = write(socket, &HostFrame::Goodbye(Goodbye { reason, retry_after_ms: Some(RETRY_AFTER_MS) })).await;
                    self.finish_work().await;
                    return "host leaving";
                }
            }
        }
    }

    /// Does what it was told; why the conversation is over, if it is.
    async fn told(&mut self, raised: Raised, mailbox: &Mailbox, socket: &mut WebSocket) -> Option<&'static str> {
        if raised.has(Signal::Replaced) {
            return Some(replaced(socket).await);
        }
        if raised.has(Signal::Overtaken) {
            let reason = "the host has lost touch with the store, or another host has the agent".to_owned();
            _ = write(socket, &HostFrame::Goodbye(Goodbye { reason, retry_after_ms: Some(RETRY_AFTER_MS) })).await;
            return Some("overtaken");
        }
        if raised.has(Signal::Cut) {
            let fault = Fault { code: "cut".into(), message: "the key was revoked".into() };
            _ = write(socket, &HostFrame::Error(fault)).await;
            return Some("cut");
        }
        // What is to be ended is heard before anything else is done.
        for (signal, input) in [
            (Signal::Wishes, Input::Settle(Vec::new())),
            (Signal::Overflow, Input::Overflow),
            (Signal::AskKey, Input::AskKey),
            (Signal::Retell, Input::Retell),
        ] {
            if raised.has(signal) {
                self.handle(input);
            }
        }
        if raised.has(Signal::Offers) {
            mailbox.offers().into_iter().for_each(|due| self.handle(Input::Offer(due)));
        }
        if raised.has(Signal::Look)
            && let Some(first) = mailbox.first()
        {
            self.handle(Input::Look(first));
        }
        None
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
                    if let HostFrame::Command(command) = &frame {
                        self.gateway.progress.sent(command.attempt, self.agent);
                    }
                    socket.feed(Message::Text(encode(&frame).into())).await?;
                    wrote = true;
                }
                output @ (Output::Note(..) | Output::Append { .. }) => tell(&self.gateway, self.agent, output),
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
                Output::Finish { key, command, outcome, kept, before } => {
                    let report = Report { key, agent: self.agent, command, outcome, kept };
                    self.work.push(self.finish(report, before));
                }
                Output::Load => {
                    let (gateway, agent, epoch) = (self.gateway.clone(), self.agent, self.epoch);
                    self.work.push(Box::pin(async move {
                        let read = || gateway.dispatch.due(agent, epoch, QUEUE_MAX as u32);
                        let (due, more) = gateway.patience.until_stored("what waits for an agent", read).await;
                        Done::Loaded(due, more)
                    }));
                }
                Output::NewKey(key) => self.work.push(self.take_key(key)),
                Output::Sample(sample) => {
                    self.reported.take(&self.gateway, self.agent, sample);
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
    fn finish(&self, report: Report, before: Vec<Output>) -> Work {
        let gateway = self.gateway.clone();
        Box::pin(async move {
            let (progress, patience) = (&gateway.progress, &gateway.patience);
            let judged = patience.until_stored("a result's command", || progress.judge(&report)).await;
            before.into_iter().for_each(|output| tell(&gateway, report.agent, output));
            let stored = match judged {
                Some(end) => patience.until_stored("a result", || progress.store(end.clone())).await,
                None => None,
            };
            if stored.is_none() {
                tracing::warn!(agent = %report.agent, attempt = %report.key, "result for no attempt of this agent; dropped");
            }
            Done::Stored(report.key)
        })
    }

    /// Puts the agent's other key in place. To its end, also when the session is over before: what is stored has
    /// to be known here as well.
    fn take_key(&self, key: NewKey) -> Work {
        let (gateway, agent) = (self.gateway.clone(), self.agent);
        let rotated = self.gateway.sessions.spawn(async move {
            let store = async || {
                let proofs = [key.signature.as_str(), key.new_signature.as_str()];
                match gateway.enrol.rotate_key(agent, &key.public_key, proofs).await {
                    Err(EnrolError::Store(error)) => Err(error),
                    other => Ok(other),
                }
            };
            match gateway.patience.until_stored("an agent's other key", store).await {
                Ok(()) => Done::KeyStored(key.public_key.clone()),
                Err(error) => {
                    tracing::warn!(%agent, %error, "the agent's other key is not taken");
                    Done::Advanced
                }
            }
        });
        Box::pin(async move { rotated.await.unwrap_or(Done::Advanced) })
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
                if begins_as_sample(&text) && self.gateway.ingest.loses(self.agent) {
                    return true;
                }
                match decode(&text) {
                    Ok(frame) => self.handle(Input::Frame(frame)),
                    Err(error) if is_sample(&text) => {
                        let why = error.to_string();
                        self.reported.refuse(&self.gateway, self.agent, Refusal::Malformed, &why);
                    }
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
            Done::KeyStored(key) => self.key_stored(key),
            Done::Advanced => {}
        }
    }

    /// The agent's other key counts. Its certificate goes first: with the old key goes what that has to show.
    fn key_stored(&mut self, key: String) {
        self.certify(&key);
        self.handle(Input::KeyStored(key));
    }

    /// Gives the agent another certificate when the one it has will not do for long.
    fn renew_certificate(&mut self) {
        let certificates = self.gateway.certificates.as_ref();
        if certificates.is_some_and(|certificates| certificates.is_wanted(self.certificate.as_deref()))
            && let Some(known) = self.gateway.directory.get(self.agent)
        {
            self.certify(&known.agent.public_key);
        }
    }

    fn certify(&mut self, public_key: &str) {
        let certificates = self.gateway.certificates.as_ref();
        if let Some(made) = certificates.and_then(|certificates| certificates.made(self.agent, public_key)) {
            self.certificate = Some(made.der);
            self.handle(Input::Certificate(made.pem));
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

/// The next tick, if there are any.
async fn ticked(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => _ = interval.tick().await,
        None => pending().await,
    }
}

/// Tells the store what nobody waits for.
fn tell(gateway: &Gateway, agent: AgentId, output: Output) {
    match output {
        Output::Note(key, event, at) => gateway.progress.note(key, agent, event, at),
        Output::Append { key, stream, offset, data } => gateway.progress.output(key, agent, stream, offset, data),
        _ => {}
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
