//! One agent's conversation after the handshake, without a socket: frames and wishes in, frames and
//! work out. The pump does what it says; tests drive it with a hand-turned clock.
//!
//! What wants a lock that something it sent has is held back, so that it takes no place here while it would
//! only wait at the agent.
//!
//! Invariant: an attempt is sent at most once by a session, and never after the session said that
//! it was not sent.

mod exchange;
mod held;
mod parked;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::attempt::Event;
use domain::command::Command;
use domain::time::{Timestamp, millis};
use plan::effect::Effect;
use plan::envelope::Claims;
use plan::id::AttemptKey;
use plan::outcome::{Outcome, Stream};
use plan::secret::{BEGIN, KeyText};
use ports::commands::Due;
use ports::link::Settle;
use services::standing::Verdict;
use wire::frame::{self, AgentFrame, Fault, HostFrame};
use wire::limits::{MAX_HELLO_ATTEMPTS, MAX_OUTPUT_CHUNK_BYTES, MISSED_HEARTBEATS};

use crate::collector::Collector;
use crate::slots::{Slot, Slots};
use crate::waiting::Waiting;
pub use exchange::{Input, Output};
use held::{HELD_BYTES, Held};
pub use parked::PARKED_BYTES;
use parked::Parked;

/// Most results of one agent on their way to the store at once. While the store is away this bounds what
/// a session holds: nothing more is sent to the agent, and further results wait without their output,
/// which is read back from the store.
pub const STORING_MAX: usize = 64;

/// How far an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Sent,
    Accepted,
    Running,
    /// Over on the agent before this session; its output comes again, then its result.
    Ended,
    Finishing,
}

struct InFlight {
    stage: Stage,
    /// When the agent said so.
    since: Timestamp,
    command: Option<Arc<Command>>,
    collector: Option<Collector>,
    /// What the store was given of standard output and standard error.
    held: [Held; 2],
    /// Held until the agent says how it ended.
    slot: Option<Slot>,
    /// Keys it holds at the agent until it ends, as far as this session sent it.
    locks: Vec<String>,
}

impl InFlight {
    fn new(stage: Stage, since: Timestamp, slot: Option<Slot>) -> InFlight {
        InFlight { stage, since, command: None, collector: None, held: [Held::default(); 2], slot, locks: Vec::new() }
    }

    /// Whether it takes one of the agent's places, and has its locks.
    fn is_busy(&self) -> bool {
        !matches!(self.stage, Stage::Ended | Stage::Finishing)
    }
}

/// Asked of each command right before it is sent: whether its submitter may still have it run, with this effect.
pub type Gate = Arc<dyn Fn(&Due, Option<Effect>) -> Verdict + Send + Sync>;

/// One agent's conversation.
pub struct Session {
    slots: Arc<Slots>,
    gate: Gate,
    /// Something waits for a slot of the host's.
    starved: bool,
    max_concurrency: usize,
    heartbeat: Duration,
    last_heard: Timestamp,
    /// When it was noticed that nothing is heard any more.
    missed: Option<Timestamp>,
    waiting: Waiting,
    in_flight: HashMap<AttemptKey, InFlight>,
    /// What the agent was asked to end: a wish is heard again and again until it is fulfilled.
    asked: HashSet<AttemptKey>,
    /// Results being stored.
    storing: usize,
    /// Results that wait for one of those.
    parked: Parked,
    out: VecDeque<Output>,
    closed: bool,
}

impl Session {
    /// A session just opened; `running` are the attempts its agent goes on with or ends, and whether each was
    /// started, `ended` those whose results it was asked for. It begins by reading the store.
    pub fn new(
        slots: Arc<Slots>,
        gate: Gate,
        max_concurrency: u32,
        heartbeat: Duration,
        running: &[(AttemptKey, bool)],
        ended: &[AttemptKey],
        now: Timestamp,
    ) -> Session {
        let entry = |key, stage, slot| {
            (key, InFlight { collector: Some(Collector::default()), ..InFlight::new(stage, now, slot) })
        };
        let stage = |started| if started { Stage::Running } else { Stage::Accepted };
        let running = running.iter().map(|(key, started)| entry(*key, stage(*started), Some(slots.take_anyway())));
        let in_flight = running.chain(ended.iter().map(|key| entry(*key, Stage::Ended, None))).collect();
        let mut session = Session {
            slots,
            gate,
            starved: false,
            max_concurrency: max_concurrency as usize,
            heartbeat,
            last_heard: now,
            missed: None,
            waiting: Waiting::in_store(),
            in_flight,
            asked: HashSet::new(),
            storing: 0,
            parked: Parked::default(),
            out: VecDeque::new(),
            closed: false,
        };
        session.dispatch(now);
        session
    }

    /// These were asked to end in the WELCOME: not again, but what they say until then is taken.
    pub fn were_asked_to_end(&mut self, attempts: impl Iterator<Item = AttemptKey>) {
        self.asked.extend(attempts);
    }

    /// Takes one input in.
    pub fn handle(&mut self, input: Input, now: Timestamp) {
        match input {
            Input::Frame(frame) => {
                self.last_heard = now;
                self.missed = None;
                self.frame(frame, now);
            }
            Input::Offer(due) if self.in_flight.contains_key(&due.key()) => {}
            Input::Offer(due) => self.waiting.offer(due),
            Input::Overflow => self.waiting.look_again(),
            Input::Look(first) if self.in_flight.contains_key(&first) => {}
            Input::Look(first) => self.waiting.look_for(first),
            Input::Loaded { due, more } => {
                self.waiting.loaded(due, more, |key| self.in_flight.contains_key(&key));
            }
            Input::Settle(wishes) => {
                for (open, why) in wishes {
                    if why == Settle::Cancel && open.is_restored() && !self.in_flight.contains_key(&open.key) {
                        // Only the agent knows whether it ever had this one. Its answer ends it.
                        self.ask_to_end(open.key);
                    }
                    self.settle(open.key, why);
                }
            }
            Input::Freed => {}
            Input::AskKey => self.say(HostFrame::RotateKey),
            Input::Certificate(certificate) => self.say(HostFrame::Certificate { certificate }),
            Input::KeyStored(public_key) => self.say(HostFrame::KeyAck { public_key }),
            Input::Retell => self.retell(),
            Input::Stored(key) => self.stored(key),
        }
        self.dispatch(now);
    }

    /// What to do next; `None` when there is nothing.
    pub fn poll(&mut self) -> Option<Output> {
        let output = self.out.pop_front();
        if output.is_none() {
            // Most sessions wait most of the time, and room for what they may say one day is a kilobyte each.
            self.out = VecDeque::new();
        }
        output
    }

    /// When [`tick`](Self::tick) is wanted.
    pub fn deadline(&self) -> Timestamp {
        // Half an interval of grace: a heartbeat sent on time may arrive late.
        let silent_for = |missed: u32| self.last_heard + self.heartbeat * missed + self.heartbeat / 2;
        let Some(noticed) = self.missed else { return silent_for(1) };
        // A host that stood still, or whose clock was set ahead, has not read yet what came meanwhile.
        silent_for(MISSED_HEARTBEATS).max(noticed + self.heartbeat * (MISSED_HEARTBEATS - 1))
    }

    /// Time passed.
    pub fn tick(&mut self, now: Timestamp) {
        // A clock that was set back does not keep an agent that is gone here until it has caught up.
        self.last_heard = self.last_heard.min(now);
        self.missed = self.missed.map(|noticed| noticed.min(now));
        if now < self.deadline() {
            return;
        }
        if self.missed.is_some() {
            self.close("heartbeats_missed", format!("nothing heard for {} s", now.since(self.last_heard).as_secs()));
        } else {
            self.missed = Some(now);
            self.out.push_back(Output::Missed);
        }
    }

    /// Whether something waits for a slot of the host's: then [`Input::Freed`] is wanted when one is free.
    pub fn is_starved(&self) -> bool {
        self.starved
    }

    /// Attempts that the store may believe unsent: what the agent said of them since is only noted, and a
    /// commit that fails loses notes.
    pub fn unconfirmed(&self) -> Vec<AttemptKey> {
        self.in_flight.keys().copied().collect()
    }

    /// The agent said something that is no frame.
    pub fn refuse(&mut self, code: &str, message: String) {
        self.close(code, message);
    }

    fn frame(&mut self, frame: AgentFrame, now: Timestamp) {
        match frame {
            AgentFrame::Ack { attempt } => self.advance(attempt, Stage::Accepted, Event::Acknowledge, now),
            AgentFrame::Started { attempt, pid: _, traceparent: _ } => {
                self.advance(attempt, Stage::Running, Event::Start, now)
            }
            AgentFrame::Output(output) => self.output(output),
            AgentFrame::Result { attempt, outcome, traceparent } => {
                tracing::debug!(%attempt, traceparent, "the agent says how it ended");
                self.result(attempt, outcome, now);
            }
            AgentFrame::Telemetry { sample } => self.out.push_back(Output::Sample(sample)),
            AgentFrame::NewKey(key) => self.out.push_back(Output::NewKey(key)),
            AgentFrame::Heartbeat { attempts: _ } => {}
            AgentFrame::Hello(_) => self.close("unexpected_hello", "the session is open already".to_owned()),
            AgentFrame::Error(fault) => {
                tracing::warn!(code = fault.code, message = fault.message, "the agent ends the session with an error");
                self.closed = true;
                self.out.push_back(Output::Close(fault));
            }
            AgentFrame::Goodbye(goodbye) => {
                self.closed = true;
                self.out.push_back(Output::Close(Fault { code: "goodbye".into(), message: goodbye.reason }));
            }
        }
    }

    fn advance(&mut self, key: AttemptKey, to: Stage, event: Event, now: Timestamp) {
        // Unknown or overtaken: nothing that the store needs to hear.
        let Some(attempt) = self.in_flight.get_mut(&key) else { return };
        let forward = match (attempt.stage, to) {
            (Stage::Sent, Stage::Accepted | Stage::Running) | (Stage::Accepted, Stage::Running) => true,
            (Stage::Sent | Stage::Accepted | Stage::Running | Stage::Ended | Stage::Finishing, _) => false,
        };
        if forward {
            (attempt.stage, attempt.since) = (to, now);
            self.out.push_back(Output::Note(key, event, now));
        }
    }

    fn output(&mut self, output: frame::Output) {
        let Some(attempt) = self.in_flight.get_mut(&output.attempt) else { return };
        if attempt.stage == Stage::Finishing {
            return;
        }
        let Ok(data) = STANDARD.decode(&output.data) else {
            return self.close("bad_output", "output data is not standard base64".to_owned());
        };
        let end = output.offset.checked_add(data.len() as u64).filter(|end| *end <= i64::MAX as u64);
        let Some(end) = end.filter(|_| (1..=MAX_OUTPUT_CHUNK_BYTES).contains(&data.len())) else {
            let rule = format!("an OUTPUT frame carries 1 to {MAX_OUTPUT_CHUNK_BYTES} bytes below offset 2^63");
            return self.close("bad_output", rule);
        };
        let held = &mut attempt.held[usize::from(output.stream == Stream::Stderr)];
        if !held.takes(data.len() as u64, end) {
            let rule = format!("more than {HELD_BYTES} bytes of a stream that are not said to be gone");
            return self.close("bad_output", rule);
        }
        let let_go = output.gone.map(|frame::Gone { from, until }| from..until).filter(|gone| held.lets_go(gone));
        if let Some(collector) = &mut attempt.collector {
            collector.add(output.stream, output.offset, &data);
        }
        let (key, stream, offset) = (output.attempt, output.stream, output.offset);
        self.out.push_back(Output::Append { key, stream, offset, data });
        self.out.extend(let_go.map(|gone| Output::LetGo { key, stream, gone }));
    }

    fn result(&mut self, key: AttemptKey, outcome: Outcome, now: Timestamp) {
        if let Err(fault) = outcome.check() {
            return self.close("bad_result", fault.to_string());
        }
        let attempt = self.in_flight.entry(key).or_insert_with(|| InFlight::new(Stage::Running, now, None));
        if attempt.stage == Stage::Finishing {
            return;
        }
        (attempt.stage, attempt.since) = (Stage::Finishing, now);
        attempt.slot = None;
        let ends = [(Stream::Stdout, &outcome.stdout), (Stream::Stderr, &outcome.stderr)];
        for (held, (stream, end)) in attempt.held.iter().zip(ends) {
            let gone = end.head..end.bytes.saturating_sub(end.tail);
            if held.has_let_go() && !gone.is_empty() {
                self.out.push_back(Output::LetGo { key, stream, gone });
            }
        }
        let collector = attempt.collector.take();
        let command = attempt.command.take();
        if self.storing < STORING_MAX {
            self.storing += 1;
            let kept = collector.and_then(|collector| collector.take(&outcome));
            let before = if kept.is_some() { self.unsaid(key) } else { Vec::new() };
            self.out.push_back(Output::Finish { key, command, outcome, kept, before });
        } else if !self.parked.push((key, command, outcome)) {
            let most = format!("{MAX_HELLO_ATTEMPTS} results, or {PARKED_BYTES} bytes of them");
            let rule = format!("more than {most} wait for their acknowledgement");
            self.close("too_many_results", rule);
        }
    }

    /// What the store was to be told of an attempt and was not yet, because its end came along: it goes with the
    /// end, in one commit.
    fn unsaid(&mut self, key: AttemptKey) -> Vec<Output> {
        let of_it = |output: &Output| match output {
            Output::Note(of, ..) | Output::Append { key: of, .. } => *of == key,
            _ => false,
        };
        let (unsaid, others): (VecDeque<Output>, VecDeque<Output>) = self.out.drain(..).partition(of_it);
        self.out = others;
        Vec::from(unsaid)
    }

    fn stored(&mut self, key: AttemptKey) {
        self.in_flight.remove(&key);
        self.asked.remove(&key);
        self.waiting.ended(key);
        self.say(HostFrame::ResultAck { attempt: key });
        self.storing = self.storing.saturating_sub(1);
        if let Some((key, command, outcome)) = self.parked.pop() {
            self.storing += 1;
            self.out.push_back(Output::Finish { key, command, outcome, kept: None, before: Vec::new() });
        }
    }

    /// Notes where attempts stand once more, and looks for commands that were stored without a word.
    fn retell(&mut self) {
        for (key, attempt) in &self.in_flight {
            let event = match attempt.stage {
                Stage::Accepted => Event::Acknowledge,
                Stage::Running => Event::Start,
                // Not noted before either: a session that is open says that it may have been sent.
                Stage::Sent | Stage::Ended | Stage::Finishing => continue,
            };
            self.out.push_back(Output::Note(*key, event, attempt.since));
        }
        self.waiting.look_again();
    }

    fn settle(&mut self, key: AttemptKey, why: Settle) {
        if let Some(attempt) = self.in_flight.get(&key) {
            match (attempt.stage, why) {
                (Stage::Sent | Stage::Accepted | Stage::Running, Settle::Cancel) => {
                    self.ask_to_end(key);
                }
                (Stage::Sent, Settle::StartDeadline) => {
                    self.out.push_back(Output::Advance(key, vec![Event::Send, Event::StartDeadline]));
                }
                (Stage::Accepted | Stage::Running, Settle::StartDeadline)
                | (Stage::Sent | Stage::Accepted | Stage::Running, Settle::Halt)
                | (Stage::Ended | Stage::Finishing, _) => {}
            }
            return;
        }
        self.waiting.settle(key);
        let event = match why {
            Settle::Cancel => Event::CancelUnsent,
            Settle::StartDeadline => Event::StartDeadline,
            Settle::Halt => Event::Halt,
        };
        self.out.push_back(Output::Advance(key, vec![event]));
    }

    fn ask_to_end(&mut self, key: AttemptKey) {
        if self.asked.insert(key) {
            self.say(HostFrame::Cancel(frame::Cancel { attempt: key, grace_ms: None }));
        }
    }

    /// Sends while there are slots; reads on when memory runs dry.
    fn dispatch(&mut self, now: Timestamp) {
        self.starved = false;
        if self.closed {
            return;
        }
        while self.room() > 0 {
            let Some(place) = self.waiting.next(&self.taken()) else {
                self.waiting.look_behind();
                break;
            };
            let Some(slot) = self.slots.take() else {
                self.starved = true;
                break;
            };
            let Some((due, Claims { effect, locks })) = self.waiting.take(place) else { break };
            let key = due.key();
            let remaining = due.start_by.since(now);
            if remaining.is_zero() {
                self.out.push_back(Output::Advance(key, vec![Event::StartDeadline]));
                continue;
            }
            match (self.gate)(&due, effect) {
                Verdict::May => {}
                Verdict::MayNot(why) => {
                    self.out.push_back(Output::Reject(key, why));
                    continue;
                }
                // Whoever reads it from the store finds out first.
                Verdict::Unknown => {
                    self.waiting.look_again();
                    continue;
                }
            }
            let terms = &due.command.terms;
            self.say(HostFrame::Command(frame::Command {
                attempt: key,
                start_within_ms: millis(remaining).max(1),
                kill_after_ms: terms.kill_after.map(millis),
                finish_within_ms: terms.finish_by.map(|end| millis(end.since(now)).max(1)),
                // Empty: whoever sends it knows how to unwrap the key.
                secret_key: due.command.args.contains(BEGIN).then(|| KeyText(String::new())),
                envelope: due.envelope,
                traceparent: due.command.traceparent.clone(),
            }));
            let collector = Some(Collector::default());
            let command = Some(due.command);
            let sent = InFlight::new(Stage::Sent, now, Some(slot));
            self.in_flight.insert(key, InFlight { command, collector, locks, ..sent });
        }
        if self.room() > 0 && self.waiting.begins_to_load() {
            self.out.push_back(Output::Load);
        }
    }

    /// How many more this agent may run.
    fn room(&self) -> usize {
        if self.storing >= STORING_MAX {
            return 0;
        }
        let busy = self.in_flight.values().filter(|attempt| attempt.is_busy()).count();
        self.max_concurrency.saturating_sub(busy)
    }

    /// Locks of what was sent and has not ended.
    fn taken(&self) -> HashSet<&str> {
        let busy = self.in_flight.values().filter(|attempt| attempt.is_busy());
        busy.flat_map(|attempt| &attempt.locks).map(String::as_str).collect()
    }

    fn say(&mut self, frame: HostFrame) {
        self.out.push_back(Output::Send(frame));
    }

    fn close(&mut self, code: &str, message: String) {
        self.closed = true;
        let fault = Fault { code: code.to_owned(), message };
        self.say(HostFrame::Error(fault.clone()));
        self.out.push_back(Output::Close(fault));
    }
}

#[cfg(test)]
mod tests;
