//! After a restart, of the agent or of its supervisor: what is known, what is not, and what may still
//! be started.
//!
//! ```text
//!   journal         supervisor's greeting             then
//!   accepted        –                                 waits for a WELCOME, then as if it had just come
//!   starting, S     S: never heard                    proven not spawned: as accepted
//!   starting, S     S: heard | running | ended        goes on
//!   starting, S     another: never heard              interrupted, with what is on disk of its output
//!   started         running | ended | neither         goes on | goes on | interrupted, likewise
//! ```

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plan::id::AttemptKey;
use plan::outcome::{End, Outcome, StreamEnd};
use wire::frame::AgentFrame;

use crate::clock::Now;
use crate::journal::{Record, Recovered, Unfinished};
use crate::machine::cancel::MAX_VALIDITY_MS;
use crate::machine::entry::{About, Active, Kept, Phase, StartBy, Task};
use crate::machine::output::Output as Sent;
use crate::machine::{After, Machine, Output};
use crate::supervisor::protocol::{Event, Known, Report, Request};

impl Machine {
    pub(super) fn restore(&mut self, recovered: Recovered, now: Now) {
        for settled in recovered.unacknowledged {
            let output = Sent::ended(&settled.outcome);
            self.kept.insert(settled.attempt, Kept { settled, output, told: false });
        }
        for unfinished in recovered.unfinished {
            self.restore_unfinished(unfinished, now);
        }
    }

    fn restore_unfinished(&mut self, unfinished: Unfinished, now: Now) {
        let Unfinished { accepted, supervisor, pid } = unfinished;
        let attempt = accepted.attempt;
        let order = self.arrival();
        let same_boot = accepted.boot_id == self.setup.boot_id && accepted.received_mono_ms <= now.mono_ms;
        let mut active = match self.ring.open(&accepted.envelope) {
            Ok(envelope) => {
                let start_by = match same_boot {
                    true => StartBy::Mono(accepted.start_by_mono_ms),
                    false => StartBy::Host(accepted.start_by_host_ms),
                };
                let mut active = Active::waiting(order, About::of(&envelope, accepted.traceparent));
                // Values are not written down: what has not begun cannot begin any more.
                let secrets = envelope.secrets(None).ok();
                let (plan, mut limits, kill_after_ms) = (envelope.plan, envelope.limits, accepted.kill_after_ms);
                let mut finish_by_mono_ms = None;
                match accepted.finish_within_ms {
                    Some(left_ms) if same_boot => {
                        finish_by_mono_ms = Some(accepted.received_mono_ms.saturating_add(left_ms));
                    }
                    // How long the machine was off is not known: as much is left as if it began at the last moment.
                    Some(left_ms) => {
                        let start_in_ms = accepted.start_by_mono_ms.saturating_sub(accepted.received_mono_ms);
                        limits.run_timeout_ms = limits.run_timeout_ms.min(left_ms.saturating_sub(start_in_ms));
                    }
                    None => {}
                }
                active.task = Some(Task { plan, secrets, limits, start_by, kill_after_ms, finish_by_mono_ms });
                active
            }
            Err(error) => {
                tracing::error!(%attempt, %error, "an accepted envelope in the journal no longer checks");
                Active::waiting(order, About { not_after_ms: accepted.start_by_host_ms, ..About::default() })
            }
        };
        active.restored = true;
        active.received_mono_ms = same_boot.then_some(accepted.received_mono_ms);
        active.phase = match (pid, supervisor) {
            (Some(pid), _) => Phase::Running { pid },
            (None, Some(supervisor)) => Phase::Launched { supervisor },
            (None, None) => Phase::Waiting,
        };
        self.insert(attempt, active);
    }

    pub(super) fn on_supervisor(&mut self, event: Event, now: Now) {
        match event {
            Event::Hello { instance, attempts, .. } => self.on_greeting(instance, attempts, now),
            Event::Started { attempt, pid, start_ticks } => self.on_started(attempt, pid, start_ticks),
            Event::Grew { attempt, stream, bytes } => {
                if let Some(active) = self.active.get_mut(&attempt) {
                    active.output.grew(stream, bytes);
                    if self.is_open() {
                        self.enter_lane(attempt);
                    }
                }
            }
            Event::Passed { attempt, stream, offset, data } => {
                // Nobody looks on while there is no session; what is kept is sent in the next.
                if self.is_open()
                    && let Some(active) = self.active.get_mut(&attempt)
                    && let Ok(bytes) = STANDARD.decode(data)
                {
                    active.output.passed(stream, offset, &bytes);
                    self.enter_lane(attempt);
                }
            }
            Event::Ended { attempt, outcome } => self.on_ended(attempt, outcome, now),
        }
    }

    fn on_greeting(&mut self, instance: String, attempts: Vec<Report>, now: Now) {
        self.supervisor = Some(instance.clone());
        self.tell_host_is_here();
        let mut reports: BTreeMap<AttemptKey, Known> =
            attempts.into_iter().map(|report| (report.attempt, report.state)).collect();
        let held: Vec<AttemptKey> = self.active.keys().copied().collect();
        for attempt in held {
            let Some(active) = self.active.get_mut(&attempt) else { continue };
            let asked = match &active.phase {
                Phase::Launched { supervisor } => Some(supervisor.clone()),
                Phase::Running { .. } => None,
                // Never asked for, says the journal, and the supervisor knows better: the end of the journal
                // is lost. What it says then goes for what the journal said.
                Phase::Waiting | Phase::Starting { .. } if reports.contains_key(&attempt) => {
                    tracing::error!(%attempt, "the supervisor was asked to start it and the journal does not say so");
                    let order = active.order;
                    active.phase = Phase::Launched { supervisor: instance.clone() };
                    self.waiting.remove(&order);
                    Some(instance.clone())
                }
                Phase::Waiting | Phase::Starting { .. } | Phase::Settling(_) => continue,
            };
            match (reports.remove(&attempt), asked) {
                (Some(Known::Heard), _) => self.kill(attempt),
                (Some(Known::Running { pid, start_ticks, stdout, stderr }), _) => {
                    self.on_started(attempt, pid, start_ticks);
                    if let Some(active) = self.active.get_mut(&attempt) {
                        active.output.grew(plan::outcome::Stream::Stdout, stdout);
                        active.output.grew(plan::outcome::Stream::Stderr, stderr);
                    }
                    if self.is_open() {
                        self.enter_lane(attempt);
                    }
                    self.kill(attempt);
                }
                (Some(Known::Ended { outcome }), _) => self.on_ended(attempt, outcome, now),
                (None, Some(supervisor)) if supervisor == instance => self.never_heard(attempt, now),
                (None, _) => self.salvage(attempt),
            }
        }
        for (attempt, state) in reports {
            // The end is on our disk or on its way there; `keep` asks to drop it then.
            if self.active.contains_key(&attempt) {
                continue;
            }
            if self.kept.contains_key(&attempt) || self.past.contains_key(&attempt) {
                self.ask(Request::Drop { attempt });
            } else {
                self.adopt(attempt, state, &instance, now);
            }
        }
    }

    /// The supervisor runs, or ran, what the journal does not know: the end of the journal is lost. It is
    /// ended and remembered, so that the COMMAND, should it come again, does not start it again.
    fn adopt(&mut self, attempt: AttemptKey, state: Known, instance: &str, now: Now) {
        tracing::error!(%attempt, "the supervisor was asked to start an attempt that the journal does not know; ending it");
        let order = self.arrival();
        let not_after_ms = self.host_ms(now).unwrap_or(now.wall_ms).saturating_add(MAX_VALIDITY_MS);
        let mut active = Active::waiting(order, About { not_after_ms, ..About::default() });
        active.phase = Phase::Launched { supervisor: instance.to_owned() };
        active.cancel = Some(0);
        self.insert(attempt, active);
        match state {
            Known::Ended { outcome } => self.on_ended(attempt, outcome, now),
            Known::Heard | Known::Running { .. } => self.kill(attempt),
        }
    }

    /// No supervisor knows what became of it: its log is lost, as by a power failure. What it had printed may be on the
    /// disk all the same.
    fn salvage(&mut self, attempt: AttemptKey) {
        let task = self.active.get(&attempt).and_then(|active| active.task.as_ref());
        let output_bytes = task.map_or(0, |task| task.limits.output_bytes);
        self.out.push_back(Output::Salvage { attempt, output_bytes });
    }

    pub(super) fn on_salvaged(&mut self, attempt: AttemptKey, [stdout, stderr]: [StreamEnd; 2], now: Now) {
        match self.active.get(&attempt).map(|active| &active.phase) {
            Some(Phase::Launched { .. } | Phase::Running { .. }) => {}
            Some(Phase::Waiting | Phase::Starting { .. } | Phase::Settling(_)) | None => return,
        }
        let message = "the agent's supervisor died and left no word of it, so what became of it is not known; \
                       its output is what was on the disk";
        let end = End::Interrupted { message: message.to_owned() };
        // What was printed and never written is not known of, so this may not be all of it.
        let [stdout, stderr] = [stdout, stderr].map(StreamEnd::of_a_part);
        self.settle(attempt, Outcome { stdout, stderr, ..Outcome::not_started(end) }, now);
    }

    /// The supervisor that was to be asked lives and was never asked: nothing was spawned.
    fn never_heard(&mut self, attempt: AttemptKey, now: Now) {
        let cancelled = self.active.get(&attempt).is_some_and(|active| active.cancel.is_some() || active.forgotten);
        if cancelled {
            return self.settle(attempt, Outcome::not_started(End::Cancelled { started: false }), now);
        }
        self.wait_again(attempt);
    }

    fn on_started(&mut self, attempt: AttemptKey, pid: u32, start_ticks: u64) {
        let Some(active) = self.active.get_mut(&attempt) else { return };
        if !matches!(active.phase, Phase::Launched { .. }) {
            return;
        }
        active.phase = Phase::Running { pid };
        let (forgotten, traceparent) = (active.forgotten, active.about.traceparent.clone());
        let boot_id = self.setup.boot_id.clone();
        self.write(Record::Started { attempt, pid, start_ticks, boot_id }, After::Nothing);
        if self.is_open() && !forgotten {
            self.frame(AgentFrame::Started { attempt, pid, traceparent });
        }
    }

    fn on_ended(&mut self, attempt: AttemptKey, outcome: Outcome, now: Now) {
        match self.active.get(&attempt).map(|active| &active.phase) {
            Some(Phase::Launched { .. } | Phase::Running { .. }) => self.settle(attempt, outcome, now),
            // Settled already; `keep` asks to drop it when the result is on disk.
            Some(Phase::Waiting | Phase::Starting { .. } | Phase::Settling(_)) => {}
            None => self.ask(Request::Drop { attempt }),
        }
    }
}
