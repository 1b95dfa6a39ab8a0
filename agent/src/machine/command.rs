//! What follows from a COMMAND, and where an attempt stands.

use plan::id::AttemptKey;
use plan::outcome::{End, Outcome, RejectCause};
use wire::frame::{AgentFrame, Command, Fault};
use wire::limits::MAX_HELLO_ATTEMPTS;

use crate::clock::Now;
use crate::journal::{Accepted, Record};
use crate::machine::entry::{About, Active, Phase, StartBy, Task};
use crate::machine::intake::{Bench, Verdict, examine};
use crate::machine::{After, MAX_HELD, Machine, Output};

impl Machine {
    /// Whether the attempt is not on disk yet. ACK comes when it is.
    pub(super) fn ack_waits(&self, attempt: AttemptKey) -> bool {
        self.after.iter().any(|after| matches!(after, After::Ack(waiting) if *waiting == attempt))
    }

    /// Tells the host where an attempt without a result stands.
    pub(super) fn say_state(&mut self, attempt: AttemptKey) {
        if self.ack_waits(attempt) {
            return;
        }
        let Some(active) = self.active.get(&attempt).filter(|active| !active.forgotten) else { return };
        match active.phase {
            Phase::Waiting | Phase::Starting { .. } | Phase::Launched { .. } => {
                self.frame(AgentFrame::Ack { attempt });
            }
            Phase::Running { pid } => {
                let traceparent = active.about.traceparent.clone();
                self.frame(AgentFrame::Ack { attempt });
                self.frame(AgentFrame::Started { attempt, pid, traceparent });
                self.enter_lane(attempt);
            }
            // The result follows as soon as it is on disk.
            Phase::Settling(_) => {}
        }
    }

    pub(super) fn on_command(&mut self, command: Command, now: Now) {
        let attempt = command.attempt;
        if self.active.contains_key(&attempt) {
            return self.say_state(attempt);
        }
        if let Some(kept) = self.kept.get_mut(&attempt) {
            kept.told = false;
            return self.enter_lane(attempt);
        }
        if self.past.contains_key(&attempt) {
            return self.out.push_back(Output::Recall(attempt));
        }
        if self.stopping || self.is_overfull() {
            return;
        }
        let host_ms = self.host_ms(now).unwrap_or(now.wall_ms);
        let full = self.full();
        let bench = Bench {
            keys: &self.ring,
            cluster_id: self.setup.cluster_id,
            agent_id: self.setup.agent_id,
            highest_epoch: self.highest_epoch,
            host_ms,
            policy: &self.setup.policy,
            full: full.as_deref(),
        };
        match examine(&command, bench) {
            Verdict::Forged(message) => {
                let traceparent = command.traceparent;
                tracing::error!(
                    %attempt,
                    traceparent,
                    message,
                    "refused a command that is not signed for this agent"
                );
                let outcome = Outcome::not_started(End::Rejected { cause: RejectCause::Signature, message });
                self.frame(AgentFrame::Result { attempt, outcome, traceparent });
            }
            Verdict::Refused(envelope, cause, message) => {
                let (cause_text, traceparent) = (cause.as_str(), command.traceparent);
                tracing::warn!(%attempt, traceparent, cause = cause_text, message, "refused a command");
                let order = self.arrival();
                let mut active = Active::waiting(order, About::of(&envelope, traceparent));
                active.received_mono_ms = Some(now.mono_ms);
                self.active.insert(attempt, active);
                self.settle(attempt, Outcome::not_started(End::Rejected { cause, message }), now);
            }
            Verdict::Late(envelope) => {
                let traceparent = command.traceparent;
                tracing::info!(%attempt, traceparent, "its time to start was over when it came");
                let order = self.arrival();
                let mut active = Active::waiting(order, About::of(&envelope, traceparent));
                active.received_mono_ms = Some(now.mono_ms);
                self.active.insert(attempt, active);
                self.settle(attempt, Outcome::not_started(End::Expired), now);
            }
            Verdict::Accepted(envelope) => {
                // Whoever follows a request's trace finds from here on all that is said of the attempt.
                let traceparent = command.traceparent;
                tracing::info!(%attempt, traceparent, "took a command");
                if envelope.epoch > self.highest_epoch {
                    self.highest_epoch = envelope.epoch;
                    self.write(Record::Epoch { highest: envelope.epoch }, After::Nothing);
                }
                let valid_ms = u64::try_from(envelope.not_after_ms - host_ms).unwrap_or(0);
                let finish_in_ms = command.finish_within_ms.unwrap_or(u64::MAX);
                let start_in_ms = command.start_within_ms.min(valid_ms).min(finish_in_ms);
                let start_by_mono_ms = now.mono_ms.saturating_add(start_in_ms);
                let accepted = Accepted {
                    attempt,
                    received_mono_ms: now.mono_ms,
                    start_by_mono_ms,
                    start_by_host_ms: host_ms.saturating_add(i64::try_from(start_in_ms).unwrap_or(i64::MAX)),
                    kill_after_ms: command.kill_after_ms,
                    finish_within_ms: command.finish_within_ms,
                    boot_id: self.setup.boot_id.clone(),
                    envelope: command.envelope,
                    traceparent: traceparent.clone(),
                };
                self.write(Record::Accepted(accepted), After::Ack(attempt));
                let order = self.arrival();
                let mut active = Active::waiting(order, About::of(&envelope, traceparent));
                active.received_mono_ms = Some(now.mono_ms);
                let start_by = StartBy::Mono(start_by_mono_ms);
                let secrets = envelope.secrets(command.secret_key.as_ref()).ok();
                let (plan, limits, kill_after_ms) = (envelope.plan, envelope.limits, command.kill_after_ms);
                let finish_by_mono_ms = command.finish_within_ms.map(|left_ms| now.mono_ms.saturating_add(left_ms));
                active.task = Some(Task { plan, secrets, limits, start_by, kill_after_ms, finish_by_mono_ms });
                self.insert(attempt, active);
            }
        }
    }

    /// One HELLO must be able to name everything that is held, or the host would take the rest for lost.
    /// A host that never acknowledges is left instead: what it sends next never arrived.
    pub(super) fn is_overfull(&mut self) -> bool {
        let held = self.active.len() + self.kept.len();
        if held >= MAX_HELLO_ATTEMPTS {
            let message = format!("{held} attempts are held or wait for RESULT_ACK; acknowledge some first");
            self.fail(Fault { code: "too_many_results".to_owned(), message });
            return true;
        }
        false
    }

    fn full(&self) -> Option<String> {
        if self.active.len() >= MAX_HELD {
            return Some(format!("{MAX_HELD} attempts are held already"));
        }
        let (bytes, limit) = (self.spool_bytes(), self.setup.spool.max_bytes);
        (bytes > limit).then(|| format!("{bytes} bytes of output wait to be acknowledged, over the limit of {limit}"))
    }

    pub(super) fn on_recalled(&mut self, attempt: AttemptKey, outcome: Option<Outcome>) {
        if let Some(outcome) = outcome
            && self.is_open()
        {
            // Told already, with its trace; what is left of an old one does not have it.
            self.frame(AgentFrame::Result { attempt, outcome, traceparent: None });
        }
    }
}
