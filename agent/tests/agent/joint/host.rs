//! The host of a joint walk: its real session, and a store of which a crash leaves the durable rows.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use domain::attempt::{Event, Reason, State, Step, step};
use domain::command::Command;
use domain::priority::Priority;
use domain::terms::Terms;
use domain::time::Timestamp;
use domain::verb::VerbName;
use gateway::session::{Input, Output, Session};
use gateway::slots::Slots;
use plan::envelope::{SignedEnvelope, seal};
use plan::id::{AttemptKey, CommandId};
use plan::outcome::{End, Outcome};
use ports::commands::{Due, Open};
use ports::link::Settle;
use services::standing::Verdict;
use wire::frame::{Cancel, Hello, HostFrame, Welcome};

use crate::support::{agent_id, attempt, cluster_key, envelope, plan, step as program};

/// What the host lets the agent run at once.
const AT_ONCE: u32 = 3;
const HEARTBEAT: Duration = Duration::from_secs(1);

/// An attempt in the store.
pub struct Row {
    pub state: State,
    pub reason: Option<Reason>,
    pub cancel_requested: bool,
    pub command: Arc<Command>,
    pub envelope: SignedEnvelope,
    pub outcome: Option<Outcome>,
}

#[derive(Default)]
pub struct Host {
    pub rows: BTreeMap<AttemptKey, Row>,
    /// Whether the agent may have been sent what reads `queued`. Durable.
    maybe_sent: bool,
    /// What nobody waits for; a crash forgets it.
    notes: Vec<(AttemptKey, Event)>,
    /// Notes were lost, and the session has not been told.
    retell: bool,
    pub session: Option<Session>,
    work: VecDeque<Output>,
    /// What the session wants said.
    pub said: Vec<HostFrame>,
    /// The session wants to end.
    pub over: bool,
    epoch: u64,
    next: u128,
}

impl Host {
    /// Accepts a command durably, and offers it to the session, unless the offer is lost.
    pub fn accept(&mut self, start_within_ms: u64, offered: bool, now: Timestamp) {
        self.next += 1;
        let key = attempt(self.next, 1);
        let start_by = now + Duration::from_millis(start_within_ms);
        let signed = seal(&envelope(key, plan(vec![program("true", &[])]), start_by.as_millis()), &cluster_key());
        let command = command(key.command, start_by, now);
        let agent = agent_id();
        let due =
            Due { command: command.clone(), agent, attempt: 1, start_by, halted: false, envelope: signed.clone() };
        let row = Row {
            state: State::Queued,
            reason: None,
            cancel_requested: false,
            command,
            envelope: signed,
            outcome: None,
        };
        self.rows.insert(key, row);
        self.hear(if offered { Input::Offer(due) } else { Input::Overflow }, now);
    }

    /// Gives the session something, and does at once what it wants done at once.
    pub fn hear(&mut self, input: Input, now: Timestamp) {
        let Some(session) = &mut self.session else { return };
        session.handle(input, now);
        self.obey();
    }

    pub fn tick(&mut self, now: Timestamp) {
        let Some(session) = &mut self.session else { return };
        session.tick(now);
        self.obey();
    }

    fn obey(&mut self) {
        while let Some(output) = self.session.as_mut().and_then(Session::poll) {
            match output {
                Output::Send(frame) => self.said.push(frame),
                Output::Note(key, event, _) => self.notes.push((key, event)),
                Output::Append { .. } | Output::LetGo { .. } | Output::Sample(_) | Output::Missed => {}
                Output::Close(_) => self.over = true,
                Output::NewKey(_) => panic!("nobody asks for a key here"),
                Output::Reject(key, why) => panic!("nobody loses a grant here, and {key:?} is refused: {why:?}"),
                Output::Advance(..) | Output::Finish { .. } | Output::Load => self.work.push_back(output),
            }
        }
    }

    /// The store does one thing that the session waits for.
    pub fn work(&mut self, now: Timestamp) {
        match self.work.pop_front() {
            Some(Output::Advance(key, events)) => events.into_iter().for_each(|event| self.apply(key, event)),
            Some(Output::Finish { key, outcome, .. }) => {
                let event = match &outcome.end {
                    End::Exited => Event::Finish { succeeded: true },
                    End::TimedOut => Event::TimeOut,
                    End::Cancelled { started } => Event::AgentCancelled { started: *started },
                    End::Expired => Event::AgentExpired,
                    End::Rejected { cause, .. } => Event::Reject(*cause),
                    End::Interrupted { .. } => Event::Interrupt,
                };
                self.apply(key, event);
                let row = self.rows.get_mut(&key).expect("only what was accepted ends");
                row.outcome.get_or_insert(outcome);
                self.hear(Input::Stored(key), now);
            }
            Some(Output::Load) => {
                let waits = |row: &&Row| row.state == State::Queued && !row.cancel_requested;
                let due = self.rows.values().filter(waits).map(due).collect();
                self.hear(Input::Loaded { due, more: false }, now);
            }
            _ => {}
        }
    }

    /// A commit takes what waits along.
    pub fn flush(&mut self) {
        for (key, event) in std::mem::take(&mut self.notes) {
            self.change(key, event);
        }
    }

    /// A commit fails, and what rode with it is gone; the session is told to say it again, some time.
    pub fn fail(&mut self) {
        self.notes.clear();
        self.retell = true;
    }

    /// As `services::reap` does after an outage.
    pub fn make_good(&mut self, now: Timestamp) {
        if std::mem::take(&mut self.retell) {
            self.hear(Input::Retell, now);
        }
    }

    fn apply(&mut self, key: AttemptKey, event: Event) {
        self.flush();
        self.change(key, event);
    }

    fn change(&mut self, key: AttemptKey, event: Event) {
        let Some(row) = self.rows.get_mut(&key) else { return };
        if let Step::To(state, reason) = step(row.state, row.reason, event) {
            assert!(!row.state.is_terminal() || row.state == State::Lost, "{key}: {} after {}", state, row.state);
            (row.state, row.reason) = (state, reason);
        }
    }

    pub fn cancel(&mut self, key: AttemptKey, now: Timestamp) {
        let row = self.rows.get_mut(&key).expect("a row");
        if !row.state.is_terminal() {
            row.cancel_requested = true;
            self.settle(key, Settle::Cancel, now);
        }
    }

    /// Ends what ran out of time.
    pub fn reap(&mut self, now: Timestamp) {
        let overdue = |row: &Row| matches!(row.state, State::Queued | State::Sent) && row.command.start_by < now;
        let keys: Vec<AttemptKey> = self.rows.iter().filter(|(_, row)| overdue(row)).map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| self.settle(key, Settle::StartDeadline, now));
    }

    fn settle(&mut self, key: AttemptKey, why: Settle, now: Timestamp) {
        let row = &self.rows[&key];
        let (agent, state, reason) = (agent_id(), row.state, row.reason);
        let open = Open { key, agent, state, reason, cancel_requested: row.cancel_requested };
        if self.session.is_some() {
            return self.hear(Input::Settle(vec![(open, why)]), now);
        }
        match why {
            // What may have been sent waits for the agent's word.
            Settle::Cancel | Settle::Halt if self.maybe_sent => {}
            Settle::Cancel => self.apply(key, Event::CancelUnsent),
            Settle::Halt => self.apply(key, Event::Halt),
            Settle::StartDeadline => {
                if self.maybe_sent {
                    self.apply(key, Event::Send);
                }
                self.apply(key, Event::StartDeadline);
            }
        }
    }

    /// Reconciles rows and journal as `services::presence` does.
    pub fn open(&mut self, hello: &Hello, now: Timestamp) {
        self.close();
        self.flush();
        self.maybe_sent = true;
        self.epoch += 1;
        let wanted = |row: &Row| !row.state.is_terminal() || row.state == State::Lost;
        let (mut send, mut cancel, mut forget, mut run) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for key in &hello.unacknowledged {
            if wanted(&self.rows[key]) { send.push(*key) } else { forget.push(*key) }
        }
        for held in &hello.unfinished {
            let row = &self.rows[&held.attempt];
            if !wanted(row) || row.cancel_requested && row.state != State::Lost {
                cancel.push(held.attempt);
            } else {
                run.push((held.attempt, held.started));
            }
            if wanted(row) {
                let events = [Event::Send, Event::Acknowledge].into_iter().chain(held.started.then_some(Event::Start));
                events.for_each(|event| self.change(held.attempt, event));
            }
        }
        let held: Vec<AttemptKey> =
            hello.unfinished.iter().map(|held| held.attempt).chain(hello.unacknowledged.iter().copied()).collect();
        let others: Vec<AttemptKey> = self.rows.keys().copied().filter(|key| !held.contains(key)).collect();
        for key in others {
            if !self.rows[&key].state.is_terminal() {
                self.change(key, Event::NotKnown);
                if self.rows[&key].cancel_requested {
                    self.change(key, Event::CancelUnsent);
                }
            }
        }
        let gate = Arc::new(|_: &Due, _| Verdict::May);
        self.session = Some(Session::new(Slots::new(usize::MAX), gate, AT_ONCE, HEARTBEAT, &run, &send, now));
        let welcome = Welcome {
            session_epoch: self.epoch,
            now_ms: now.as_millis(),
            heartbeat_ms: HEARTBEAT.as_millis() as u64,
            telemetry_ms: 0,
            telemetry_jitter_ms: None,
            max_concurrency: AT_ONCE,
            send,
            cancel: cancel.into_iter().map(|attempt| Cancel { attempt, grace_ms: None }).collect(),
            forget,
            run: run.into_iter().map(|(key, _)| key).collect(),
            have: Vec::new(),
        };
        self.said.push(HostFrame::Welcome(welcome));
        self.obey();
    }

    /// The session ends in order: what it sent is written down.
    pub fn close(&mut self) {
        let Some(session) = self.session.take() else { return };
        for key in session.unconfirmed() {
            self.apply(key, Event::Send);
        }
        // Notes are written no later than the mark below, as the store does.
        self.flush();
        // What was under way is done to its end, or not at all.
        self.work.clear();
        self.said.clear();
        self.over = false;
        self.maybe_sent = false;
    }

    /// `kill -9`: the rows stay, and nothing else.
    pub fn crash(&mut self) {
        self.session = None;
        self.notes.clear();
        self.work.clear();
        self.said.clear();
        self.over = false;
    }
}

fn due(row: &Row) -> Due {
    let (command, start_by, envelope) = (row.command.clone(), row.command.start_by, row.envelope.clone());
    Due { command, agent: agent_id(), attempt: 1, start_by, halted: false, envelope }
}

fn command(id: CommandId, start_by: Timestamp, now: Timestamp) -> Arc<Command> {
    Arc::new(Command {
        id,
        verb: VerbName::parse("exec.run").expect("a name"),
        plugin: "exec".into(),
        plugin_version: "1.0.0".into(),
        plugin_digest: String::new(),
        args: "{}".into(),
        target: "{}".into(),
        priority: Priority::Normal,
        submitter: "test".into(),
        principal: None,
        created_at: now,
        start_by,
        run_timeout_ms: 60_000,
        terms: Terms::default(),
        parent: None,
        summary: String::new(),
        correlation_id: String::new(),
        traceparent: None,
    })
}
