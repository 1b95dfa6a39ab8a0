//! The world of a joint walk: one host, one agent with its disk and its supervisor, the line between.

use std::collections::{BTreeMap, VecDeque};

use agent::clock::Now;
use agent::journal::{Record, Replay};
use agent::machine::{Input, Machine, Next, Output};
use agent::policy::Policy;
use agent::supervisor::protocol::{Event, Known, Report, Request};
use domain::attempt::{Reason, State};
use domain::time::Timestamp;
use gateway::session::Input as HostInput;
use plan::effect::Effect;
use plan::id::AttemptKey;
use plan::outcome::{End, Outcome, StepEnd};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use wire::codec::encode;
use wire::frame::{AgentFrame, HostFrame};

use crate::joint::host::Host;
use crate::support::{challenge, setup};

/// Rounds in which nothing is left to do, before a walk is over.
const QUIET_ROUNDS: u32 = 60;

/// What happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub commands: u64,
    pub starts: u64,
    pub cancels: u64,
    pub cuts: u64,
    pub repeated: u64,
    pub host_crashes: u64,
    pub agent_crashes: u64,
    pub clock_jumps: u64,
    pub expired: u64,
    pub lost: u64,
}

impl Counts {
    pub fn add(&mut self, other: Counts) {
        self.commands += other.commands;
        self.starts += other.starts;
        self.cancels += other.cancels;
        self.cuts += other.cuts;
        self.repeated += other.repeated;
        self.host_crashes += other.host_crashes;
        self.agent_crashes += other.agent_crashes;
        self.clock_jumps += other.clock_jumps;
        self.expired += other.expired;
        self.lost += other.lost;
    }
}

/// A process, until its supervisor is told to forget it.
enum Child {
    Running { killed: bool },
    Ended(Outcome),
}

/// What is on its way.
#[derive(Default)]
struct Line {
    down: VecDeque<HostFrame>,
    up: VecDeque<AgentFrame>,
    /// Whether the host's session is on this line, and not still on an older one.
    open: bool,
}

pub struct World {
    rng: SmallRng,
    ms: u64,
    host_ahead_ms: i64,
    host: Host,
    machine: Option<Machine>,
    disk: Vec<Record>,
    unsynced: VecDeque<Record>,
    children: BTreeMap<AttemptKey, Child>,
    /// What the supervisor has told and the agent not heard.
    events: VecDeque<Event>,
    line: Option<Line>,
    starts: BTreeMap<AttemptKey, u32>,
    healed: bool,
    pub counts: Counts,
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut world = World {
            rng: SmallRng::seed_from_u64(seed),
            ms: 1_000_000,
            host_ahead_ms: 1_700_000_000_000,
            host: Host::default(),
            machine: None,
            disk: Vec::new(),
            unsynced: VecDeque::new(),
            children: BTreeMap::new(),
            events: VecDeque::new(),
            line: None,
            starts: BTreeMap::new(),
            healed: false,
            counts: Counts::default(),
        };
        world.boot();
        world
    }

    fn now(&self) -> Now {
        Now { mono_ms: self.ms, wall_ms: self.ms as i64 }
    }

    fn host_now(&self) -> Timestamp {
        Timestamp::from_millis(self.ms as i64 + self.host_ahead_ms)
    }

    /// One thing happens.
    pub fn step(&mut self) {
        let now = self.host_now();
        match self.rng.random_range(0..1000) {
            0..10 => self.pass(6_000),
            10..150 => self.pass(60),
            150..300 => self.sync(),
            300..420 => self.supervise(),
            420..480 => self.accept(),
            480..510 => self.cancel(),
            510..530 => {
                self.host.reap(now);
                self.host.make_good(now);
            }
            530..660 => self.down(),
            660..790 => self.up(),
            790..880 => self.host.work(now),
            880..895 => self.host.flush(),
            895..900 => self.host.fail(),
            900..945 => self.connect(),
            945..960 => self.cut(),
            960..968 => self.host.close(),
            968..982 => {
                self.host.crash();
                self.cut();
                self.counts.host_crashes += 1;
            }
            982..994 => self.crash_agent(),
            _ => {
                self.host_ahead_ms += self.rng.random_range(-4_000..4_000);
                self.counts.clock_jumps += 1;
            }
        }
        self.write();
    }

    /// Nothing goes wrong any more: everything ends, and is what it was.
    pub fn settle(&mut self) {
        self.healed = true;
        let mut quiet = 0;
        for round in 0.. {
            let open: Vec<_> = self.host.rows.iter().filter(|(_, row)| !row.state.is_terminal()).collect();
            assert!(round < 3_000, "no end: {:?}", open.iter().map(|(key, row)| (key, row.state)).collect::<Vec<_>>());
            let idle = self.machine.as_ref().is_some_and(|machine| machine.attempts() == 0) && self.unsynced.is_empty();
            // A report of what reads `lost` may still be on its way.
            quiet = if open.is_empty() && idle && self.children.is_empty() { quiet + 1 } else { 0 };
            if quiet > QUIET_ROUNDS {
                break;
            }
            self.connect();
            self.pass(50);
            let now = self.host_now();
            self.host.reap(now);
            self.host.make_good(now);
            for _ in 0..6 {
                self.sync();
                self.supervise();
                self.down();
                self.up();
                self.host.work(now);
                self.host.flush();
                self.write();
            }
        }
        for (key, row) in &self.host.rows {
            let starts = self.starts.get(key).copied().unwrap_or(0);
            let untrue = format!("{key} reads {} {:?} and started {starts} times", row.state, row.reason);
            match (row.state, row.reason) {
                (State::Succeeded, _) | (State::Cancelled, Some(Reason::Killed)) => assert_eq!(starts, 1, "{untrue}"),
                (State::Expired | State::Rejected | State::Cancelled, _) => assert_eq!(starts, 0, "{untrue}"),
                // Nothing was ever heard of it: the agent never had it.
                (State::Lost, Some(Reason::Unacknowledged)) => assert_eq!(starts, 0, "{untrue}"),
                _ => panic!("{untrue}"),
            }
            self.counts.expired += u64::from(row.state == State::Expired);
            self.counts.lost += u64::from(row.state == State::Lost);
        }
    }

    fn boot(&mut self) {
        let mut policy = Policy::of(&[Effect::Read], &[("true", "/bin/true")]).expect("every machine has it");
        policy.max_concurrency = 2;
        let setup = setup(policy, "boot", self.rng.random());
        let mut replay = Replay::default();
        self.disk.iter().cloned().for_each(|record| replay.take(record));
        self.machine = Some(Machine::new(setup, replay.finish(), self.now()));
        let attempts = self.children.iter().map(|(attempt, child)| Report {
            attempt: *attempt,
            state: match child {
                Child::Running { .. } => Known::Running { pid: 7, start_ticks: 1, stdout: 0, stderr: 0 },
                Child::Ended(outcome) => Known::Ended { outcome: outcome.clone() },
            },
        });
        let hello = Event::Hello { instance: "one".to_owned(), pid: 1, attempts: attempts.collect() };
        self.events.clear();
        // As the driver does: the supervisor's greeting comes before any HELLO.
        self.tell(Input::Supervisor(hello));
    }

    fn crash_agent(&mut self) {
        self.counts.agent_crashes += 1;
        self.cut();
        self.machine = None;
        let survives = self.rng.random_range(0..=self.unsynced.len());
        self.disk.extend(self.unsynced.drain(..survives));
        self.unsynced.clear();
        self.boot();
    }

    fn tell(&mut self, input: Input) {
        let now = self.now();
        let Some(machine) = &mut self.machine else { return };
        machine.handle(input, now);
        let (mut recalls, mut lost) = (Vec::new(), Vec::new());
        while let Some(output) = self.machine.as_mut().and_then(Machine::poll) {
            match output {
                Output::Frame(frame) => self.send_up(frame),
                Output::Journal(record) => self.unsynced.push_back(record),
                Output::Supervise(request) => self.request(request),
                Output::Recall(attempt) => recalls.push(attempt),
                Output::Salvage { attempt, .. } => lost.push(attempt),
                Output::Close { .. } => self.line = None,
                Output::Ping
                | Output::Sample
                | Output::Discard(_)
                | Output::MakeKey
                | Output::KeepCertificate(_)
                | Output::AdoptKey => {}
            }
        }
        for attempt in recalls {
            let outcome = self.disk.iter().find_map(|record| match record {
                Record::Result(settled) if settled.attempt == attempt => Some(settled.outcome.clone()),
                _ => None,
            });
            self.tell(Input::Recalled(attempt, outcome));
        }
        lost.into_iter().for_each(|attempt| self.tell(Input::Salvaged(attempt, Default::default())));
    }

    fn send_up(&mut self, frame: AgentFrame) {
        assert!(!matches!(frame, AgentFrame::Error(_)), "the agent complains: {frame:?}");
        let Some(line) = &mut self.line else { return };
        let may_repeat = matches!(
            frame,
            AgentFrame::Ack { .. } | AgentFrame::Started { .. } | AgentFrame::Result { .. } | AgentFrame::Output(_)
        );
        if may_repeat && !self.healed && self.rng.random_bool(0.1) {
            self.counts.repeated += 1;
            line.up.push_back(frame.clone());
        }
        line.up.push_back(frame);
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Start { launch } => {
                let starts = self.starts.entry(launch.attempt).or_default();
                *starts += 1;
                assert_eq!(*starts, 1, "{} started twice", launch.attempt);
                self.counts.starts += 1;
                self.children.insert(launch.attempt, Child::Running { killed: false });
                self.events.push_back(Event::Started { attempt: launch.attempt, pid: 7, start_ticks: 1 });
            }
            Request::Kill { attempt, .. } => {
                if let Some(Child::Running { killed }) = self.children.get_mut(&attempt) {
                    *killed = true;
                }
            }
            Request::Drop { attempt } => drop(self.children.remove(&attempt)),
            Request::Host { .. } => {}
        }
    }

    /// A process ends, or the agent hears of one.
    fn supervise(&mut self) {
        if let Some(event) = self.events.pop_front() {
            return self.tell(Input::Supervisor(event));
        }
        let running: Vec<(AttemptKey, bool)> = self
            .children
            .iter()
            .filter_map(|(key, child)| match child {
                Child::Running { killed } => Some((*key, *killed)),
                Child::Ended(_) => None,
            })
            .collect();
        for (attempt, killed) in running {
            if killed || self.rng.random_bool(0.3) {
                let end = if killed { End::Cancelled { started: true } } else { End::Exited };
                let steps = vec![StepEnd { exit_code: Some(0), ..StepEnd::default() }];
                let outcome = Outcome { steps, ..Outcome::not_started(end) };
                self.children.insert(attempt, Child::Ended(outcome.clone()));
                self.events.push_back(Event::Ended { attempt, outcome });
            }
        }
    }

    fn pass(&mut self, most_ms: u64) {
        self.ms += self.rng.random_range(0..=most_ms);
        self.tell(Input::Tick);
        let now = self.host_now();
        self.host.tick(now);
    }

    fn sync(&mut self) {
        let count = self.rng.random_range(0..=self.unsynced.len());
        let count = if self.healed { self.unsynced.len() } else { count };
        self.disk.extend(self.unsynced.drain(..count));
        if count > 0 {
            self.tell(Input::Durable(count));
        }
    }

    fn accept(&mut self) {
        let (within_ms, offered) = (self.rng.random_range(200..15_000), self.rng.random_bool(0.9));
        let now = self.host_now();
        self.host.accept(within_ms, offered, now);
        self.counts.commands += 1;
    }

    fn cancel(&mut self) {
        let index = self.rng.random_range(0..=self.host.rows.len());
        let Some(key) = self.host.rows.keys().nth(index).copied() else { return };
        let now = self.host_now();
        self.host.cancel(key, now);
        self.counts.cancels += 1;
    }

    fn connect(&mut self) {
        if self.line.is_none() {
            self.line = Some(Line { down: VecDeque::from([HostFrame::Challenge(challenge())]), ..Line::default() });
            // Until HELLO, whatever an older session says goes nowhere.
            self.tell(Input::Opened { facts: Box::default() });
        }
    }

    /// The agent notices; the host's session goes on until it does, or until the next HELLO.
    fn cut(&mut self) {
        if self.line.take().is_some() {
            self.counts.cuts += 1;
            self.tell(Input::Closed);
        }
        self.host.said.clear();
    }

    /// What the session said goes onto the line that it was opened on, or nowhere.
    fn write(&mut self) {
        let said = std::mem::take(&mut self.host.said);
        if self.host.over {
            self.host.close();
        }
        if self.host.session.is_none() && self.line.as_ref().is_some_and(|line| line.open) {
            self.cut();
        }
        let Some(line) = self.line.as_mut().filter(|line| line.open) else { return };
        for frame in said {
            let may_repeat =
                matches!(frame, HostFrame::Command(_) | HostFrame::ResultAck { .. } | HostFrame::Cancel(_));
            if may_repeat && !self.healed && self.rng.random_bool(0.1) {
                self.counts.repeated += 1;
                line.down.push_back(frame.clone());
            }
            line.down.push_back(frame);
        }
    }

    fn down(&mut self) {
        if let Some(frame) = self.line.as_mut().and_then(|line| line.down.pop_front()) {
            self.tell(Input::Text(encode(&frame)));
        }
    }

    fn up(&mut self) {
        let now = self.now();
        while let (Some(machine), Some(line)) = (&mut self.machine, &mut self.line)
            && let Next::Frame(frame) = machine.next_output(now)
        {
            line.up.push_back(*frame);
        }
        let Some(frame) = self.line.as_mut().and_then(|line| line.up.pop_front()) else { return };
        let now = self.host_now();
        match frame {
            AgentFrame::Hello(hello) => {
                self.host.open(&hello, now);
                self.line.as_mut().expect("it came over it").open = true;
            }
            frame => self.host.hear(HostInput::Frame(frame), now),
        }
    }
}
