//! The supervisor of a random walk: what it spawns, and what must be true whenever it does.

use std::collections::BTreeMap;

use agent::journal::Record;
use agent::supervisor::protocol::{Event, Launch, Request};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plan::id::AttemptKey;
use plan::outcome::{End, Outcome, StepEnd, Stream, StreamEnd};
use rand::RngExt as _;

use crate::walk::world::{ALL_AT_ONCE, World};

/// One attempt as the supervisor knows it.
pub enum Child {
    Heard(Box<Launch>, bool),
    Running { launch: Box<Launch>, written: u64, told: u64, killed: bool },
    Ended(Outcome),
}

/// What the supervisor remembers; survives its death.
#[derive(Default)]
pub struct Supervisor {
    pub instance: u64,
    pub alive: bool,
    pub children: BTreeMap<AttemptKey, Child>,
    /// Since when the agent said nothing of a session with its host.
    pub host_gone_ms: Option<u64>,
}

impl World {
    pub fn supervise(&mut self, request: Request) {
        match request {
            Request::Start { launch } => {
                let attempt = launch.attempt;
                let on_disk = |wanted: &dyn Fn(&Record) -> bool| self.disk.iter().any(wanted);
                assert!(on_disk(&|record| matches!(record, Record::Accepted(accepted) if accepted.attempt == attempt)));
                let instance = self.supervisor.instance.to_string();
                assert!(on_disk(&|record| *record == Record::Starting { attempt, supervisor: instance.clone() }));
                assert!(!self.supervisor.children.contains_key(&attempt), "{attempt} asked for twice");
                self.supervisor.children.insert(attempt, Child::Heard(launch, false));
            }
            Request::Kill { attempt, .. } => match self.supervisor.children.get_mut(&attempt) {
                Some(Child::Heard(_, killed) | Child::Running { killed, .. }) => *killed = true,
                Some(Child::Ended(_)) | None => {}
            },
            Request::Host { here } => self.supervisor.host_gone_ms = (!here).then_some(self.abs_ms),
            Request::Drop { attempt } => {
                if let Some(Child::Ended(_)) = self.supervisor.children.get(&attempt) {
                    self.supervisor.children.remove(&attempt);
                }
            }
        }
    }

    /// Children start, write and end.
    pub fn children(&mut self) {
        if !self.supervisor.alive {
            return;
        }
        let keys: Vec<AttemptKey> = self.supervisor.children.keys().copied().collect();
        for attempt in keys {
            if self.rng.random_bool(0.5) {
                self.child(attempt);
            }
        }
    }

    fn child(&mut self, attempt: AttemptKey) {
        let now = self.now();
        let gone_ms = self.supervisor.host_gone_ms.map_or(0, |since_ms| self.abs_ms - since_ms);
        let abandoned = |launch: &Launch| launch.kill_after_ms.is_some_and(|allowed_ms| gone_ms > allowed_ms);
        let Some(child) = self.supervisor.children.remove(&attempt) else { return };
        let next = match child {
            Child::Heard(_, true) => Child::Ended(Outcome::not_started(End::Cancelled { started: false })),
            Child::Heard(launch, _) if now.mono_ms > launch.start_by_mono_ms => {
                Child::Ended(Outcome::not_started(End::Expired))
            }
            Child::Heard(launch, _) if abandoned(&launch) => Child::Ended(Outcome::not_started(End::Expired)),
            Child::Heard(launch, killed) => {
                self.spawned(attempt);
                self.tell(Event::Started { attempt, pid: 7, start_ticks: 1 });
                Child::Running { launch, written: 0, told: 0, killed }
            }
            Child::Running { launch, written, killed, .. }
                if killed || abandoned(&launch) || self.rng.random_bool(0.3) =>
            {
                let end = match (killed, abandoned(&launch)) {
                    (true, _) => End::Cancelled { started: true },
                    (false, true) => End::TimedOut,
                    (false, false) => End::Exited,
                };
                self.counts.abandoned += u64::from(end == End::TimedOut);
                let (head, tail) = if written > 90_000 { (50_000, 20_000) } else { (written, 0) };
                let stdout = StreamEnd { bytes: written, head, tail, sha256: String::new() };
                let steps = vec![StepEnd { exit_code: Some(0), ..StepEnd::default() }];
                Child::Ended(Outcome { steps, stdout, ..Outcome::not_started(end) })
            }
            Child::Running { launch, written, told, killed } => {
                let (before, written) = (written, written + self.rng.random_range(0..60_000));
                let readable = written.min(50_000);
                if readable > told {
                    self.tell(Event::Grew { attempt, stream: Stream::Stdout, bytes: readable });
                }
                let passing = before.max(50_000);
                if written > passing && self.rng.random_bool(0.7) {
                    let data = STANDARD.encode(vec![0; (written - passing) as usize]);
                    self.tell(Event::Passed { attempt, stream: Stream::Stdout, offset: passing, data });
                }
                Child::Running { launch, written, told: readable, killed }
            }
            Child::Ended(outcome) => return drop(self.supervisor.children.insert(attempt, Child::Ended(outcome))),
        };
        if let Child::Ended(outcome) = &next {
            let outcome = outcome.clone();
            self.tell(Event::Ended { attempt, outcome });
        }
        self.supervisor.children.insert(attempt, next);
    }

    fn spawned(&mut self, attempt: AttemptKey) {
        let starts = self.starts.entry(attempt).or_default();
        *starts += 1;
        assert_eq!(*starts, 1, "{attempt} started twice");
        self.counts.starts += 1;
        let (_, envelope) = &self.host.commands[&attempt];
        assert!(self.host_ms() <= envelope.not_after_ms, "{attempt} started after its validity");
        let accepted = self.disk.iter().find_map(|record| match record {
            Record::Accepted(accepted) if accepted.attempt == attempt => Some(accepted.start_by_host_ms),
            _ => None,
        });
        assert!(self.host_ms() <= accepted.expect("accepted before it starts"), "{attempt} started late");
        let running: Vec<AttemptKey> = self
            .supervisor
            .children
            .iter()
            .filter(|(_, child)| matches!(child, Child::Running { .. }))
            .map(|(attempt, _)| *attempt)
            .collect();
        assert!(running.len() < ALL_AT_ONCE, "{attempt} is one too many beside {running:?}");
        for other in running {
            let (_, other) = &self.host.commands[&other];
            assert!(
                !other.plan.locks.iter().any(|lock| envelope.plan.locks.contains(lock)),
                "{attempt} took a held lock"
            );
        }
    }
}
