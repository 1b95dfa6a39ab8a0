//! The world of a random walk: one machine, its disk, its supervisor, its network.

use std::collections::{BTreeMap, VecDeque};

use agent::clock::Now;
use agent::journal::{Record, Replay};
use agent::machine::{Input, Machine, Next, Output};
use agent::policy::Policy;
use agent::supervisor::protocol::{Event, Known, Report, Request};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plan::effect::Effect;
use plan::id::AttemptKey;
use plan::outcome::{End, Outcome, RejectCause};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use wire::codec::encode;
use wire::frame::{AgentFrame, HostFrame, Output as OutputFrame};

use crate::support::setup;
use crate::walk::children::{Child, Supervisor};
use crate::walk::counts::Counts;
use crate::walk::host::Host;

const HOST_AHEAD_MS: i64 = 1_234_567;
pub const ALL_AT_ONCE: usize = 2;

#[derive(Default)]
pub struct Link {
    requests: VecDeque<Request>,
    events: VecDeque<Event>,
}

#[derive(Default)]
pub struct Net {
    down: VecDeque<HostFrame>,
    up: VecDeque<AgentFrame>,
    welcomed: bool,
}

pub struct World {
    pub rng: SmallRng,
    pub abs_ms: u64,
    pub booted_ms: u64,
    pub boots: u64,
    pub machine: Option<Machine>,
    pub disk: Vec<Record>,
    pub unsynced: VecDeque<Record>,
    pub supervisor: Supervisor,
    pub link: Option<Link>,
    pub net: Option<Net>,
    pub host: Host,
    pub epoch: u64,
    pub starts: BTreeMap<AttemptKey, u32>,
    pub healed: bool,
    pub counts: Counts,
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut world = World {
            rng: SmallRng::seed_from_u64(seed),
            abs_ms: 1_000_000,
            booted_ms: 0,
            boots: 1,
            machine: None,
            disk: Vec::new(),
            unsynced: VecDeque::new(),
            supervisor: Supervisor::default(),
            link: None,
            net: None,
            host: Host::default(),
            epoch: 0,
            starts: BTreeMap::new(),
            healed: false,
            counts: Counts::default(),
        };
        world.boot_agent();
        world
    }

    pub fn now(&self) -> Now {
        Now { mono_ms: self.abs_ms - self.booted_ms, wall_ms: self.abs_ms as i64 }
    }

    pub fn host_ms(&self) -> i64 {
        self.abs_ms as i64 + HOST_AHEAD_MS
    }

    fn boot_agent(&mut self) {
        let mut policy = Policy::of(&[Effect::Read], &[("true", "/bin/true")]).expect("every machine has it");
        policy.max_concurrency = ALL_AT_ONCE as u32;
        let setup = setup(policy, &format!("boot-{}", self.boots), self.rng.random());
        let mut replay = Replay::default();
        self.disk.iter().cloned().for_each(|record| replay.take(record));
        self.machine = Some(Machine::new(setup, replay.finish(), self.now()));
    }

    /// One thing happens.
    pub fn step(&mut self) {
        let roll = self.rng.random_range(0..1000);
        match roll {
            0..200 => self.pass(if roll < 8 { 8_000 } else { 60 }),
            200..380 => self.sync(),
            380..470 => self.request(),
            470..560 => self.event(),
            560..680 => self.children(),
            680..740 => self.give(),
            740..860 => self.deliver(),
            860..930 => self.collect(),
            930..960 => self.connect(),
            960..972 => self.cut(),
            972..980 => self.drop_link(),
            980..990 => self.kill_agent(),
            990..996 => self.kill_supervisor(),
            996..998 => self.reboot(),
            _ => self.host_cancels_or_forgets(),
        }
    }

    /// Nothing goes wrong any more; everything must come to its end.
    pub fn settle(&mut self) {
        self.healed = true;
        for round in 0.. {
            assert!(round < 4_000, "no end: {:?}", self.open());
            self.connect();
            self.pass(40);
            for _ in 0..4 {
                self.sync();
                self.request();
                self.event();
                self.deliver();
                self.collect();
            }
            self.children();
            let idle = self.machine.as_ref().is_some_and(|machine| machine.attempts() == 0);
            if self.open().is_empty() && idle {
                break;
            }
            if self.net.as_ref().is_some_and(|net| net.welcomed) && round % 10 == 0 {
                for attempt in self.open() {
                    self.send_command(attempt);
                }
            }
        }
        for (attempt, outcome) in &self.host.results {
            let starts = self.starts.get(attempt).copied().unwrap_or(0);
            match outcome.end {
                End::Expired | End::Rejected { .. } | End::Cancelled { started: false } => {
                    assert_eq!(starts, 0, "{attempt} started although the host was told {outcome:?}");
                }
                End::Exited | End::TimedOut | End::Cancelled { started: true } => assert_eq!(starts, 1, "{attempt}"),
                End::Interrupted { .. } => {}
            }
            self.counts.expired += u64::from(outcome.end == End::Expired);
            self.counts.interrupted += u64::from(matches!(outcome.end, End::Interrupted { .. }));
            self.counts.cancelled_unstarted += u64::from(outcome.end == End::Cancelled { started: false });
        }
    }

    fn open(&self) -> Vec<AttemptKey> {
        let wanted =
            |attempt: &&AttemptKey| !self.host.results.contains_key(attempt) && !self.host.forgotten.contains(attempt);
        self.host.commands.keys().filter(wanted).copied().collect()
    }

    fn handle(&mut self, input: Input) {
        let now = self.now();
        let Some(machine) = &mut self.machine else { return };
        machine.handle(input, now);
        self.act();
    }

    fn act(&mut self) {
        let (mut recalls, mut lost) = (Vec::new(), Vec::new());
        while let Some(output) = self.machine.as_mut().and_then(Machine::poll) {
            match output {
                Output::Frame(frame) => self.send_up(frame),
                Output::Journal(record) => self.unsynced.push_back(record),
                Output::Supervise(request) => {
                    if let Some(link) = &mut self.link {
                        link.requests.push_back(request);
                    }
                }
                Output::Recall(attempt) => recalls.push(attempt),
                Output::Salvage { attempt, .. } => lost.push(attempt),
                Output::Close { .. } => self.net = None,
                Output::Ping | Output::Sample | Output::MakeKey | Output::KeepCertificate(_) | Output::AdoptKey => {}
                Output::Discard(attempt) => {
                    let acked =
                        self.unsynced.iter().chain(&self.disk).any(|record| *record == Record::Acked { attempt });
                    assert!(acked, "{attempt}: output deleted before its acknowledgement was noted");
                }
            }
        }
        for attempt in recalls {
            let outcome = self.disk.iter().find_map(|record| match record {
                Record::Result(settled) if settled.attempt == attempt => Some(settled.outcome.clone()),
                _ => None,
            });
            self.handle(Input::Recalled(attempt, outcome));
        }
        lost.into_iter().for_each(|attempt| self.handle(Input::Salvaged(attempt, Default::default())));
    }

    fn send_up(&mut self, frame: AgentFrame) {
        let durable = |wanted: &dyn Fn(&Record) -> bool| self.disk.iter().any(wanted);
        match &frame {
            AgentFrame::Ack { attempt } => {
                let accepted =
                    durable(&|record| matches!(record, Record::Accepted(accepted) if accepted.attempt == *attempt));
                assert!(accepted, "{attempt}: ACK before it was on disk");
            }
            AgentFrame::Result { attempt, outcome, .. } => {
                let forged = matches!(outcome.end, End::Rejected { cause: RejectCause::Signature, .. });
                let kept = durable(
                    &|record| matches!(record, Record::Result(settled) if settled.attempt == *attempt && settled.outcome == *outcome),
                );
                assert!(forged || kept, "{attempt}: RESULT before it was on disk");
            }
            AgentFrame::Hello(hello) => {
                for unfinished in &hello.unfinished {
                    let started = self.starts.contains_key(&unfinished.attempt);
                    assert!(unfinished.started || !started || !self.link_is_fresh(), "{unfinished:?}");
                }
            }
            _ => {}
        }
        if let Some(net) = &mut self.net {
            net.up.push_back(frame);
        }
    }

    /// Whether everything the supervisor knows has reached the agent.
    fn link_is_fresh(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.events.is_empty() && link.requests.is_empty())
    }

    fn pass(&mut self, most_ms: u64) {
        self.abs_ms += self.rng.random_range(0..=most_ms);
        self.handle(Input::Tick);
        let now = self.now();
        if let Some(deadline) = self.machine.as_ref().and_then(|machine| machine.deadline(now)) {
            assert!(deadline > now.mono_ms, "a deadline that is over would spin");
        }
    }

    fn sync(&mut self) {
        let count = self.rng.random_range(0..=self.unsynced.len());
        let count = if self.healed { self.unsynced.len() } else { count };
        self.disk.extend(self.unsynced.drain(..count));
        if count > 0 {
            self.handle(Input::Durable(count));
        }
    }

    fn request(&mut self) {
        let request = self.link.as_mut().and_then(|link| link.requests.pop_front());
        if let Some(request) = request {
            self.supervise(request);
        }
    }

    fn event(&mut self) {
        if self.machine.is_none() {
            return;
        }
        if let Some(event) = self.link.as_mut().and_then(|link| link.events.pop_front()) {
            self.handle(Input::Supervisor(event));
        }
    }

    pub fn tell(&mut self, event: Event) {
        if let Some(link) = &mut self.link {
            link.events.push_back(event);
        }
    }

    fn give(&mut self) {
        let host_ms = self.host_ms();
        let attempt = match self.rng.random_bool(0.7) {
            true => self.host.command(&mut self.rng, host_ms),
            false => {
                let index = self.rng.random_range(0..=self.host.commands.len());
                let Some(attempt) = self.host.commands.keys().nth(index).copied() else { return };
                self.counts.duplicates += 1;
                attempt
            }
        };
        self.send_command(attempt);
    }

    fn send_command(&mut self, attempt: AttemptKey) {
        let (command, _) = self.host.commands[&attempt].clone();
        if let Some(net) = self.net.as_mut().filter(|net| net.welcomed) {
            net.down.push_back(HostFrame::Command(command));
        }
    }

    fn host_cancels_or_forgets(&mut self) {
        let index = self.rng.random_range(0..=self.host.commands.len());
        let Some(attempt) = self.host.commands.keys().nth(index).copied() else { return };
        if self.rng.random_bool(0.2) {
            self.host.forgotten.insert(attempt);
            return;
        }
        self.host.cancelled.insert(attempt);
        if let Some(net) = self.net.as_mut().filter(|net| net.welcomed) {
            net.down.push_back(HostFrame::Cancel(wire::frame::Cancel { attempt, grace_ms: Some(5) }));
        }
    }

    /// One frame reaches the agent: in any order, sometimes twice, once the session is open.
    fn deliver(&mut self) {
        let Some(net) = &mut self.net else { return };
        if self.machine.is_none() || net.down.is_empty() {
            return;
        }
        let index = if net.welcomed && !self.healed { self.rng.random_range(0..net.down.len()) } else { 0 };
        let handshake = |frame: &HostFrame| matches!(frame, HostFrame::Challenge(_) | HostFrame::Welcome(_));
        let index = net.down.iter().position(handshake).unwrap_or(index);
        let Some(frame) = net.down.remove(index) else { return };
        if !handshake(&frame) && self.rng.random_bool(0.2) {
            net.down.push_back(frame.clone());
        }
        self.handle(Input::Text(encode(&frame)));
    }

    /// The host reads, and the agent writes what its socket has room for.
    fn collect(&mut self) {
        for _ in 0..self.rng.random_range(0..6) {
            let now = self.now();
            let Some(machine) = &mut self.machine else { return };
            let frame = match machine.next_output(now) {
                Next::Idle => break,
                Next::Frame(frame) => *frame,
                Next::Chunk(chunk) => {
                    let bytes = self.rng.random_range(1..=chunk.length);
                    machine.sent(&chunk, bytes, now);
                    AgentFrame::Output(OutputFrame {
                        attempt: chunk.attempt,
                        stream: chunk.stream,
                        offset: chunk.offset,
                        data: STANDARD.encode(vec![0; bytes]),
                        gone: None,
                    })
                }
            };
            self.send_up(frame);
        }
        for _ in 0..self.rng.random_range(0..6) {
            let Some(frame) = self.net.as_mut().and_then(|net| net.up.pop_front()) else { return };
            self.hear(frame);
        }
    }

    fn hear(&mut self, frame: AgentFrame) {
        if let AgentFrame::Hello(hello) = &frame {
            self.epoch += 1;
            let says_what_it_has = self.rng.random_bool(0.5);
            let welcome = self.host.welcome(hello, self.host_ms(), self.epoch, says_what_it_has);
            if let Some(net) = &mut self.net {
                net.welcomed = true;
                net.down.push_back(welcome);
            }
        }
        if let AgentFrame::Result { attempt, outcome, .. } = &frame {
            let acked =
                self.disk.iter().chain(&self.unsynced).any(|record| *record == Record::Acked { attempt: *attempt });
            assert!(
                acked || self.host.has_output(*attempt, outcome),
                "{attempt}: RESULT before its output: {outcome:?}"
            );
        }
        let answer = self.host.hear(frame);
        if let Some(answer) = answer
            && (self.healed || self.rng.random_bool(0.8))
            && let Some(net) = &mut self.net
        {
            net.down.push_back(answer);
        }
    }

    /// What is not connected connects.
    fn connect(&mut self) {
        if self.machine.is_none() {
            self.boot_agent();
        }
        if self.link.is_none() {
            if !self.supervisor.alive {
                self.supervisor.alive = true;
                self.supervisor.instance += 1;
                for child in self.supervisor.children.values_mut() {
                    if let Child::Heard(..) | Child::Running { .. } = child {
                        let end = End::Interrupted { message: "the supervisor died".to_owned() };
                        *child = Child::Ended(Outcome::not_started(end));
                    }
                }
            }
            let attempts = self.supervisor.children.iter().map(|(attempt, child)| Report {
                attempt: *attempt,
                state: match child {
                    Child::Heard(..) => Known::Heard,
                    Child::Running { told, .. } => Known::Running { pid: 7, start_ticks: 1, stdout: *told, stderr: 0 },
                    Child::Ended(outcome) => Known::Ended { outcome: outcome.clone() },
                },
            });
            let hello =
                Event::Hello { instance: self.supervisor.instance.to_string(), pid: 1, attempts: attempts.collect() };
            self.link = Some(Link { requests: VecDeque::new(), events: VecDeque::from([hello]) });
        }
        if self.net.is_none() {
            // As the driver does: the supervisor's greeting comes before any HELLO.
            while self.link.as_ref().is_some_and(|link| !link.events.is_empty()) {
                self.event();
            }
            self.net = Some(Net { down: VecDeque::from([self.host.challenge()]), ..Net::default() });
            self.host.covered.clear();
            self.handle(Input::Opened { facts: Box::default() });
        }
    }

    fn cut(&mut self) {
        if self.net.take().is_some() {
            self.counts.cuts += 1;
            self.handle(Input::Closed);
        }
    }

    /// The old connection is read to its end before the next greeting.
    fn drop_link(&mut self) {
        let Some(link) = self.link.take() else { return };
        self.supervisor.host_gone_ms.get_or_insert(self.abs_ms);
        if self.supervisor.alive {
            link.requests.into_iter().for_each(|request| self.supervise(request));
        }
        self.handle(Input::SupervisorGone);
    }

    fn kill_agent(&mut self) {
        if self.machine.take().is_none() {
            return;
        }
        self.counts.agent_kills += 1;
        self.net = None;
        let survives = self.rng.random_range(0..=self.unsynced.len());
        self.disk.extend(self.unsynced.drain(..survives));
        self.unsynced.clear();
        self.drop_link();
    }

    fn kill_supervisor(&mut self) {
        if !std::mem::replace(&mut self.supervisor.alive, false) {
            return;
        }
        self.counts.supervisor_kills += 1;
        if self.rng.random_bool(0.2) {
            // Its log is gone too: somebody moved a damaged one away. What it had spawned is not known.
            self.supervisor.children.clear();
        }
        if self.link.take().is_some() {
            self.handle(Input::SupervisorGone);
        }
    }

    fn reboot(&mut self) {
        self.counts.reboots += 1;
        self.supervisor.alive = false;
        self.link = None;
        self.kill_agent();
        self.abs_ms += self.rng.random_range(0..10_000);
        self.booted_ms = self.abs_ms - 50;
        self.boots += 1;
    }
}
