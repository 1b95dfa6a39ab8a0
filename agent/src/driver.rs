//! The loop of the agent: feeds the machine with everything that happens and does what it asks.
//!
//! Invariant: decides nothing that the machine could decide. One thread, one loop; what may block is
//! on threads of its own (journal, telemetry).

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use hyper::Uri;
use rand::rngs::SmallRng;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wire::codec::encode;
use wire::facts::Facts;
use wire::sample::Sample;

use crate::backoff::Backoff;
use crate::certificate;
use crate::clock::{self, Alarm};
use crate::config::Config;
use crate::facts;
use crate::failure::RunError;
use crate::identity::{adopt_next_key, load_or_make_next_key};
use crate::journal::{Clocks, Done, Job, Journal};
use crate::line::{HostTrust, Own};
use crate::log::LogError;
use crate::machine::{Input, Machine, Output};
use crate::policy::Policy;
use crate::socket::{self, Heard, Socket};
use crate::spool::Spool;
use crate::supervisor::client::Place;
use crate::supervisor::protocol::Event;
use crate::telemetry::Sampler;
use crate::ways::{Care, CareEvent, Net, NetEvent, dial_supervisor, next_care, next_net};
use crate::writer::Writer;

/// Facts older than this are gathered anew before the next session.
const FACTS_FRESH: Duration = Duration::from_secs(60);
/// Before the next try to reach a supervisor that could not be started.
const SUPERVISOR_AGAIN: Duration = Duration::from_secs(1);
/// Longest that a host which was reached waits for the supervisor's first greeting.
const EARLY: Duration = Duration::from_secs(2);
/// Longest farewell to the disk.
const FAREWELL: Duration = Duration::from_secs(2);
/// Longest farewell to the host: one that is there answers at once, and one that is not keeps from finding another.
const PARTING: Duration = Duration::from_secs(1);
/// A clock this far from the host's is worth a line in the log.
const SKEW_MS: u64 = 30_000;

pub(crate) enum Sampling {
    Idle(Option<Box<Sampler>>),
    Busy(JoinHandle<(Option<Box<Sampler>>, Option<Sample>)>),
}

/// Everything the agent holds while it works.
pub(crate) struct Driver {
    pub machine: Machine,
    pub journal: Writer<Journal>,
    pub spool: Spool,
    pub place: Place,
    pub url: Uri,
    pub known: Arc<Known>,
    pub facts: Option<(Instant, Facts)>,
    pub net: Net,
    pub care: Care,
    /// The supervisor has said what runs.
    pub greeted: bool,
    pub sampling: Sampling,
    pub backoff: Backoff,
    pub rng: SmallRng,
    pub was_in_session: bool,
    pub alarm: Alarm,
}

/// What facts are gathered from.
pub(crate) struct Known {
    pub policy: Policy,
    pub config: Config,
    pub labels: BTreeMap<String, String>,
    pub host: HostTrust,
}

impl Driver {
    /// Works until `stop`.
    pub async fn work(&mut self, stop: &CancellationToken) -> Result<(), RunError> {
        let mut stopping = false;
        loop {
            self.act();
            if stopping && !matches!(self.net, Net::Open(_) | Net::Closing(..)) {
                return Ok(());
            }
            let wake = self.machine.deadline(clock::now());
            tokio::select! {
                done = self.journal.done() => self.on_journal(done?),
                event = next_care(&mut self.care) => self.on_care(event),
                event = next_net(&mut self.net, &mut self.machine, &self.spool) => self.on_net(event),
                (sampler, sample) = sampled(&mut self.sampling) => {
                    self.sampling = Sampling::Idle(sampler);
                    if let Some(sample) = sample {
                        self.machine.handle(Input::Sampled(Box::new(sample)), clock::now());
                    }
                }
                () = self.alarm.at(wake) => self.machine.handle(Input::Tick, clock::now()),
                () = stop.cancelled(), if !stopping => {
                    tracing::info!("stopping; children live on");
                    stopping = true;
                    self.machine.handle(Input::Stop, clock::now());
                }
            }
        }
    }

    /// Has the disk confirm what was asked of it.
    pub async fn finish(mut self) -> Result<(), RunError> {
        let flushed = async {
            while self.journal.is_busy() {
                self.journal.done().await?;
            }
            Ok::<_, LogError>(())
        };
        match tokio::time::timeout(FAREWELL, flushed).await {
            Ok(flushed) => Ok(flushed?),
            Err(_) => Ok(()),
        }
    }

    /// Does everything the machine asks for.
    fn act(&mut self) {
        while let Some(output) = self.machine.poll() {
            match output {
                Output::Frame(frame) => {
                    if let Net::Open(socket) = &mut self.net {
                        socket.push(encode(&frame));
                    }
                }
                Output::Ping => {
                    if let Net::Open(socket) = &mut self.net {
                        socket.ping();
                    }
                }
                Output::Close { retry_after_ms } => {
                    let after = retry_after_ms.map(Duration::from_millis);
                    match std::mem::replace(&mut self.net, Net::Idle) {
                        Net::Open(socket) => self.net = Net::Closing(Box::pin(socket.close(PARTING)), after),
                        other => self.net = other,
                    }
                }
                Output::Journal(record) => {
                    let now = clock::now();
                    let clocks = Clocks { wall_ms: now.wall_ms, host_ms: self.machine.host_ms(now) };
                    self.journal.push(Job::Append(Box::new(record), clocks));
                }
                Output::Recall(attempt) => self.journal.push(Job::Recall(attempt)),
                // Without a supervisor the next greeting brings the machine to ask again.
                Output::Supervise(request) => {
                    if let Care::Up(link) = &mut self.care {
                        link.send(&request);
                    }
                }
                // After the worst only, and no more than was kept: the loop may wait for the disk.
                Output::Salvage { attempt, output_bytes } => {
                    let streams = self.spool.remains(attempt, output_bytes);
                    self.machine.handle(Input::Salvaged(attempt, streams), clock::now());
                }
                Output::Sample => match std::mem::replace(&mut self.sampling, Sampling::Idle(None)) {
                    Sampling::Idle(Some(mut sampler)) => {
                        let runtime = tokio::runtime::Handle::current();
                        self.sampling = Sampling::Busy(tokio::task::spawn_blocking(move || {
                            let sample = sampler.take(&runtime);
                            (Some(sampler), Some(sample))
                        }));
                    }
                    Sampling::Idle(None) => {}
                    busy @ Sampling::Busy(_) => {
                        tracing::warn!("the last look at the machine's load is not over; this one is left out");
                        self.sampling = busy;
                    }
                },
                // Once in a key's life, and short: the loop may wait for the disk.
                Output::MakeKey => match load_or_make_next_key(&self.place.data) {
                    Ok(key) => self.machine.handle(Input::KeyMade(Box::new(key)), clock::now()),
                    Err(error) => tracing::error!(%error, "no other key could be made; the one there is goes on"),
                },
                Output::KeepCertificate(pem) => self.keep_certificate(&pem),
                Output::AdoptKey => {
                    if let Err(error) = adopt_next_key(&self.place.data) {
                        tracing::error!(%error, "the new key is not in its place; both are kept, and either is enough");
                    }
                }
                Output::Discard(attempt) => self.spool.remove(attempt),
            }
        }
        // All of it together: an attempt that is taken and begun at once waits for the disk once.
        self.journal.send();
    }

    /// Short, and seldom: the loop may wait for the disk.
    fn keep_certificate(&self, pem: &str) {
        let key = self.machine.key().verifying_key();
        let next = self.machine.next_key_made().map(SigningKey::verifying_key);
        match certificate::keep(&self.place.data, pem, &key, next.as_ref()) {
            Ok(()) => tracing::info!("another certificate to show the host"),
            Err(error) => tracing::error!(%error, "the host's certificate for this agent is not kept"),
        }
    }

    fn on_journal(&mut self, done: Vec<Done>) {
        let now = clock::now();
        let written = done.iter().filter(|done| matches!(done, Done::Written)).count();
        if written > 0 {
            self.machine.handle(Input::Durable(written), now);
        }
        for done in done {
            match done {
                Done::Written => {}
                Done::Recalled(attempt, outcome) => self.machine.handle(Input::Recalled(attempt, outcome), now),
                Done::Purged(attempts) => self.machine.handle(Input::Purged(attempts), now),
            }
        }
    }

    fn on_care(&mut self, event: CareEvent) {
        match event {
            CareEvent::Dial => self.care = dial_supervisor(&self.place),
            CareEvent::Dialled(Ok(link)) => self.care = Care::Up(Box::new(link)),
            CareEvent::Dialled(Err(error)) => {
                tracing::error!(%error, "cannot reach or start the supervisor; nothing can be run until then");
                self.care = Care::Waiting(Instant::now() + SUPERVISOR_AGAIN);
            }
            CareEvent::Told(event) => {
                let greeting = matches!(event, Event::Hello { .. });
                self.machine.handle(Input::Supervisor(event), clock::now());
                if greeting {
                    self.on_greeted();
                }
            }
            CareEvent::Gone => {
                tracing::warn!("the supervisor is gone");
                self.machine.handle(Input::SupervisorGone, clock::now());
                self.care = dial_supervisor(&self.place);
            }
        }
    }

    fn on_greeted(&mut self) {
        self.greeted = true;
        match std::mem::replace(&mut self.net, Net::Waiting(Instant::now())) {
            Net::Idle => {}
            Net::Early(dialled, _) => self.open(*dialled),
            other => self.net = other,
        }
    }

    fn open(&mut self, (socket, facts): (Socket, Facts)) {
        self.facts = Some((Instant::now(), facts.clone()));
        self.net = Net::Open(Box::new(socket));
        self.was_in_session = false;
        self.machine.handle(Input::Opened { facts: Box::new(facts) }, clock::now());
    }

    fn on_net(&mut self, event: NetEvent) {
        let now = clock::now();
        match event {
            NetEvent::Dial => self.dial(),
            NetEvent::Dialled(Ok(dialled)) if self.greeted => self.open(*dialled),
            NetEvent::Dialled(Ok(dialled)) => self.net = Net::Early(dialled, Instant::now() + EARLY),
            NetEvent::TooEarly => self.net = Net::Idle,
            NetEvent::Dialled(Err(error)) => {
                tracing::warn!(url = %self.url, error, "cannot reach the host");
                self.retry(None);
            }
            NetEvent::Heard(Heard::Text(text)) => {
                self.machine.handle(Input::Text(text), now);
                if !self.was_in_session && self.machine.in_session() {
                    self.was_in_session = true;
                    self.backoff.reset();
                    self.look_at_clocks(now);
                }
            }
            NetEvent::Heard(Heard::Alive) => self.machine.handle(Input::Heard, now),
            NetEvent::Heard(Heard::Foul(fault)) => self.machine.handle(Input::Foul(fault), now),
            NetEvent::Heard(Heard::Gone(reason)) => {
                tracing::warn!(reason, "the connection to the host is gone");
                self.machine.handle(Input::Closed, now);
                self.retry(None);
            }
            NetEvent::Closed => {
                let after = match &self.net {
                    Net::Closing(_, after) => *after,
                    Net::Idle | Net::Early(..) | Net::Waiting(_) | Net::Dialling(_) | Net::Open(_) => None,
                };
                self.retry(after);
            }
        }
    }

    fn retry(&mut self, at_least: Option<Duration>) {
        let wait = self.backoff.next(&mut self.rng, at_least);
        tracing::info!(wait_ms = wait.as_millis() as u64, "next try to reach the host");
        self.net = Net::Waiting(Instant::now() + wait);
    }

    fn dial(&mut self) {
        let fresh = self.facts.as_ref().filter(|(gathered, _)| gathered.elapsed() < FACTS_FRESH);
        let fresh = fresh.map(|(_, facts)| facts.clone());
        let (known, url) = (Arc::clone(&self.known), self.url.clone());
        let own = Own { data: self.place.data.clone(), key: self.machine.key().clone() };
        self.net = Net::Dialling(Box::pin(async move {
            let facts = match fresh {
                Some(facts) => facts,
                None => facts::gather(&known.policy, &known.config, &known.labels).await,
            };
            Ok(Box::new((socket::connect(&url, &known.host, &own).await?, facts)))
        }));
    }

    fn look_at_clocks(&self, now: clock::Now) {
        let Some(host_ms) = self.machine.host_ms(now) else { return };
        let skew_ms = host_ms.abs_diff(now.wall_ms);
        if skew_ms > SKEW_MS {
            tracing::warn!(skew_ms, "this machine's clock and the host's differ; deadlines follow the host's");
        }
    }
}

async fn sampled(sampling: &mut Sampling) -> (Option<Box<Sampler>>, Option<Sample>) {
    match sampling {
        Sampling::Idle(_) => pending().await,
        Sampling::Busy(looking) => looking.await.unwrap_or_else(|error| {
            tracing::error!(%error, "looking at the machine's load failed; no more telemetry");
            (None, None)
        }),
    }
}
