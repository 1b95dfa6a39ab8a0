//! The agent's protocol core: what it does about every frame, every word from the disk and the
//! supervisor, every instant. It has no socket, no file and no clock; the driver has them.
//!
//! ```text
//!   Input ──▶ handle(input, now) ──▶ poll(): Output…        deadline(now): when to Tick at the latest
//!                                    next_output(now): one piece of output, when the socket has room
//! ```
//!
//! Invariants: a start is asked for only after `accepted` and `starting` are on disk, at most once for
//! each attempt that a supervisor may have heard of; a result is sent only when it is on disk and its
//! output was sent; nothing starts after its time.

mod cancel;
mod command;
mod entry;
mod intake;
mod keys;
mod lane;
mod output;
mod restore;
mod schedule;
mod session;
mod settle;

use std::collections::{BTreeMap, HashMap, VecDeque};

use ed25519_dalek::{SigningKey, VerifyingKey};
use plan::id::{AgentId, AttemptKey, ClusterId};
use plan::keyring::Keyring;
use plan::outcome::{Outcome, StreamEnd};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use wire::facts::Facts;
use wire::frame::{AgentFrame, Fault};
use wire::sample::Sample;

use crate::clock::Now;
use crate::config::SpoolLimits;
use crate::journal::{Record, Recovered};
use crate::machine::entry::{Active, Actives, Kept};
pub use crate::machine::lane::Next;
pub use crate::machine::output::Chunk;
use crate::machine::session::{HostTime, Session};
use crate::policy::Policy;
use crate::supervisor::protocol::{Event, Request};

/// Most attempts an agent holds without a result; one more is refused as busy.
pub const MAX_HELD: usize = 1024;

/// Who the machine is and what it may do.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its id.
    pub agent_id: AgentId,
    /// The installation it belongs to.
    pub cluster_id: ClusterId,
    /// The key commands were signed with when it joined.
    pub cluster_key: VerifyingKey,
    /// Its own key.
    pub key: SigningKey,
    /// One that is to take its place, and may count already.
    pub next_key: Option<SigningKey>,
    /// The kernel's name for this boot.
    pub boot_id: String,
    /// What it may run.
    pub policy: Policy,
    /// How much output it may keep.
    pub spool: SpoolLimits,
    /// Feeds the jitter of telemetry.
    pub seed: u64,
}

/// Something happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A socket to the host is open.
    Opened {
        /// What to say of the machine in HELLO.
        facts: Box<Facts>,
    },
    /// The host sent a frame.
    Text(String),
    /// The host sent something that is not a frame: binary, or too long.
    Foul(Fault),
    /// Anything at all came from the host.
    Heard,
    /// The socket is gone.
    Closed,
    /// This many more records are on disk.
    Durable(usize),
    /// These finished attempts are no longer remembered.
    Purged(Vec<AttemptKey>),
    /// Answer to [`Output::Recall`].
    Recalled(AttemptKey, Option<Outcome>),
    /// Answer to [`Output::Salvage`]: what is on disk of standard output and of standard error.
    Salvaged(AttemptKey, [StreamEnd; 2]),
    /// The supervisor said something. Its greeting begins a connection.
    Supervisor(Event),
    /// The connection to the supervisor is gone.
    SupervisorGone,
    /// Answer to [`Output::Sample`].
    Sampled(Box<Sample>),
    /// Answer to [`Output::MakeKey`]: it is on disk.
    KeyMade(Box<SigningKey>),
    /// The agent is to end. Children live on.
    Stop,
    /// Time has passed.
    Tick,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send this ahead of any output.
    Frame(AgentFrame),
    /// Send a WebSocket ping.
    Ping,
    /// Close the socket once everything above is sent, and do not come back sooner than this.
    Close {
        /// Milliseconds.
        retry_after_ms: Option<u64>,
    },
    /// Put this into the journal.
    Journal(Record),
    /// Look this finished attempt up in the journal.
    Recall(AttemptKey),
    /// Ask the supervisor.
    Supervise(Request),
    /// Look for this attempt's output on disk: nobody knows how it ended.
    Salvage {
        /// Which attempt.
        attempt: AttemptKey,
        /// Bytes kept of each stream; 0 when that is not known, so that none of it can be read.
        output_bytes: u64,
    },
    /// Make a key, beside the one there is, on disk.
    MakeKey,
    /// Keep this certificate, on disk, if it is of one of this agent's keys; PEM.
    KeepCertificate(String),
    /// Put the key that was made in the other's place, on disk.
    AdoptKey,
    /// Take a telemetry sample.
    Sample,
    /// Delete this attempt's output.
    Discard(AttemptKey),
}

/// What waits for a record to be on disk.
#[derive(Clone, Copy, Debug)]
enum After {
    Nothing,
    Ack(AttemptKey),
    Launch(AttemptKey),
    Keep(AttemptKey),
}

/// The core.
#[derive(Debug)]
pub struct Machine {
    setup: Setup,
    /// The key that was pinned, and those that followed it.
    ring: Keyring,
    highest_epoch: u64,
    active: Actives,
    /// Attempts in phase `Waiting`, by arrival.
    waiting: BTreeMap<u64, AttemptKey>,
    kept: BTreeMap<AttemptKey, Kept>,
    past: HashMap<AttemptKey, i64>,
    arrivals: u64,
    after: VecDeque<After>,
    supervisor: Option<String>,
    session: Session,
    host_time: Option<HostTime>,
    host_concurrency: Option<u32>,
    welcomed: bool,
    /// The log says that this machine waits for approval.
    told_pending: bool,
    /// How often another machine with this key took the session over.
    replaced: u32,
    stopping: bool,
    lane: VecDeque<AttemptKey>,
    out: VecDeque<Output>,
    rng: SmallRng,
}

impl Machine {
    /// A machine that goes on from what the journal held.
    pub fn new(setup: Setup, recovered: Recovered, now: Now) -> Machine {
        let rng = SmallRng::seed_from_u64(setup.seed);
        let mut machine = Machine {
            ring: recovered.ring.clone().unwrap_or_else(|| Keyring::pinned(setup.cluster_key)),
            setup,
            highest_epoch: recovered.highest_epoch,
            active: BTreeMap::new(),
            waiting: BTreeMap::new(),
            kept: BTreeMap::new(),
            past: recovered.past.iter().copied().collect(),
            arrivals: 0,
            after: VecDeque::new(),
            supervisor: None,
            session: Session::Closed,
            host_time: None,
            host_concurrency: None,
            welcomed: false,
            told_pending: false,
            replaced: 0,
            stopping: false,
            lane: VecDeque::new(),
            out: VecDeque::new(),
            rng,
        };
        machine.restore(recovered, now);
        machine
    }

    /// Takes note of what happened. What follows from it is in [`Machine::poll`].
    pub fn handle(&mut self, input: Input, now: Now) {
        // First: what comes after too long a silence was said nobody knows when, and its session is over.
        self.keep_time(now);
        match input {
            Input::Opened { facts } => self.on_opened(facts, now),
            Input::Text(text) => self.on_text(&text, now),
            Input::Foul(fault) => self.fail(fault),
            Input::Heard => self.on_heard(now),
            Input::Closed => self.on_closed(),
            Input::Durable(count) => self.on_durable(count, now),
            Input::Purged(attempts) => {
                for attempt in attempts {
                    self.past.remove(&attempt);
                }
            }
            Input::Recalled(attempt, outcome) => self.on_recalled(attempt, outcome),
            Input::Salvaged(attempt, streams) => self.on_salvaged(attempt, streams, now),
            Input::Supervisor(event) => self.on_supervisor(event, now),
            Input::SupervisorGone => self.supervisor = None,
            Input::Sampled(sample) => self.on_sampled(*sample),
            Input::KeyMade(key) => self.on_key_made(*key),
            Input::Stop => self.on_stop(),
            Input::Tick => {}
        }
        self.expire(now);
        self.start_waiting(now);
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When [`Input::Tick`] is due, milliseconds since boot.
    pub fn deadline(&self, now: Now) -> Option<u64> {
        // Output that is due already waits for the socket, not for time.
        let coalesced = self.next_coalesced().filter(|due_ms| *due_ms > now.mono_ms);
        [self.next_expiry(), self.next_beat(), coalesced].into_iter().flatten().min()
    }

    /// The host's clock now, as far as it was heard.
    pub fn host_ms(&self, now: Now) -> Option<i64> {
        self.host_time.map(|time| time.at(now))
    }

    /// Attempts without an acknowledged result, whose output must be kept.
    pub fn wants(&self, attempt: AttemptKey) -> bool {
        self.active.contains_key(&attempt) || self.kept.contains_key(&attempt)
    }

    /// Whether a session is open.
    pub fn in_session(&self) -> bool {
        self.is_open()
    }

    /// The key that HELLO is signed with.
    pub fn key(&self) -> &SigningKey {
        &self.setup.key
    }

    /// The one that is to take its place.
    pub fn next_key_made(&self) -> Option<&SigningKey> {
        self.setup.next_key.as_ref()
    }

    /// Attempts running or waiting.
    pub fn attempts(&self) -> usize {
        self.active.len()
    }

    fn frame(&mut self, frame: AgentFrame) {
        self.out.push_back(Output::Frame(frame));
    }

    fn write(&mut self, record: Record, after: After) {
        self.after.push_back(after);
        self.out.push_back(Output::Journal(record));
    }

    fn ask(&mut self, request: Request) {
        self.out.push_back(Output::Supervise(request));
    }

    fn insert(&mut self, attempt: AttemptKey, active: Active) {
        if matches!(active.phase, entry::Phase::Waiting) {
            self.waiting.insert(active.order, attempt);
        }
        self.active.insert(attempt, active);
    }

    fn output(&mut self, attempt: AttemptKey) -> Option<&mut output::Output> {
        match self.kept.get_mut(&attempt) {
            Some(kept) => Some(&mut kept.output),
            None => self.active.get_mut(&attempt).map(|active| &mut active.output),
        }
    }

    fn arrival(&mut self) -> u64 {
        self.arrivals += 1;
        self.arrivals
    }

    /// Output on disk that the host has not acknowledged.
    fn spool_bytes(&self) -> u64 {
        let active: u64 = self.active.values().map(|active| active.output.kept_bytes()).sum();
        let kept: u64 = self.kept.values().map(|kept| kept.output.kept_bytes()).sum();
        active + kept
    }
}
