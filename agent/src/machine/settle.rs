//! How an attempt ends: the result goes to disk, then to the host, and is kept until the host has
//! committed it.

use plan::id::AttemptKey;
use plan::outcome::Outcome;
use wire::frame::AgentFrame;

use crate::clock::Now;
use crate::journal::{Record, Settled};
use crate::machine::entry::{About, Active, Kept, Phase};
use crate::machine::output::Output as Sent;
use crate::machine::{After, Machine, Output};
use crate::supervisor::protocol::Request;

impl Active {
    /// An attempt that has just arrived.
    pub(super) fn waiting(order: u64, about: About) -> Active {
        Active {
            order,
            about,
            task: None,
            received_mono_ms: None,
            phase: Phase::Waiting,
            cancel: None,
            forgotten: false,
            restored: false,
            output: Sent::default(),
        }
    }
}

impl Kept {
    /// RESULT, as it is said until it is acknowledged.
    pub(super) fn result(&self) -> AgentFrame {
        let Settled { attempt, traceparent, outcome, .. } = &self.settled;
        AgentFrame::Result { attempt: *attempt, outcome: outcome.clone(), traceparent: traceparent.clone() }
    }
}

impl Machine {
    /// The attempt is over. Its result goes to disk.
    pub(super) fn settle(&mut self, attempt: AttemptKey, mut outcome: Outcome, now: Now) {
        let Some(active) = self.active.get_mut(&attempt) else { return };
        if matches!(active.phase, Phase::Settling(_)) {
            return;
        }
        if let Some(received_ms) = active.received_mono_ms {
            outcome.duration_ms = now.mono_ms.saturating_sub(received_ms);
        }
        self.waiting.remove(&active.order);
        active.output.end(&outcome);
        active.task = None;
        let about = std::mem::take(&mut active.about);
        tracing::info!(%attempt, traceparent = about.traceparent, end = outcome.end.kind(), "an attempt is over");
        let settled = Settled {
            attempt,
            verb: about.verb,
            submitter: about.submitter,
            traceparent: about.traceparent,
            not_after_ms: about.not_after_ms,
            at_ms: now.wall_ms,
            outcome,
        };
        active.phase = Phase::Settling(Box::new(settled.clone()));
        self.write(Record::Result(settled), After::Keep(attempt));
    }

    pub(super) fn on_durable(&mut self, count: usize, now: Now) {
        for _ in 0..count {
            match self.after.pop_front() {
                Some(After::Ack(attempt)) if self.is_open() => self.frame(AgentFrame::Ack { attempt }),
                // Without a session the next HELLO lists it, and waits for it.
                Some(After::Ack(_)) | Some(After::Nothing) | None => {}
                Some(After::Launch(attempt)) => self.launch(attempt, now),
                Some(After::Keep(attempt)) => self.keep(attempt),
            }
        }
        self.answer_challenge(now);
    }

    /// The result is on disk: the supervisor may forget it, the host is told.
    fn keep(&mut self, attempt: AttemptKey) {
        let Some(active) = self.active.remove(&attempt) else { return };
        let Phase::Settling(settled) = active.phase else { return };
        self.ask(Request::Drop { attempt });
        let mut kept = Kept { settled: *settled, output: active.output, told: false };
        // Whether it stands in the lane is decided below.
        let in_lane = std::mem::take(&mut kept.output.in_lane);
        self.kept.insert(attempt, kept);
        if active.forgotten {
            self.on_result_ack(attempt);
        } else if self.is_open() {
            if in_lane {
                self.lane.retain(|other| *other != attempt);
            }
            self.tell_result(attempt);
        }
    }

    /// Sends RESULT now, or after the output that is left.
    fn tell_result(&mut self, attempt: AttemptKey) {
        let Some(kept) = self.kept.get_mut(&attempt) else { return };
        if kept.output.pending() {
            return self.enter_lane(attempt);
        }
        kept.told = true;
        let result = kept.result();
        self.frame(result);
    }

    /// The host has the result, or does not want it.
    pub(super) fn on_result_ack(&mut self, attempt: AttemptKey) {
        let Some(kept) = self.kept.remove(&attempt) else { return };
        self.past.insert(attempt, kept.settled.not_after_ms);
        self.lane.retain(|other| *other != attempt);
        self.write(Record::Acked { attempt }, After::Nothing);
        self.out.push_back(Output::Discard(attempt));
    }
}
