//! CANCEL, and the host's wish to hear no more of an attempt.

use plan::id::AttemptKey;
use plan::outcome::{End, Outcome};
use wire::frame::Cancel;

use crate::clock::Now;
use crate::machine::entry::{About, Active, Phase};
use crate::machine::{Machine, Output};
use crate::supervisor::protocol::Request;

/// Longest time to start that a host may give. A CANCEL for an attempt that never arrived is remembered
/// for so long, because until then its COMMAND might still come.
pub(super) const MAX_VALIDITY_MS: i64 = 31 * 24 * 3600 * 1000;
const DEFAULT_GRACE_MS: u64 = 10_000;

impl Machine {
    pub(super) fn on_cancel(&mut self, cancel: Cancel, now: Now) {
        let attempt = cancel.attempt;
        if self.kept.contains_key(&attempt) {
            // It finished first: the true outcome stands, and is said again.
            return self.enter_lane(attempt);
        }
        if self.past.contains_key(&attempt) {
            return self.out.push_back(Output::Recall(attempt));
        }
        let Some(active) = self.active.get_mut(&attempt) else {
            if self.is_overfull() {
                return;
            }
            let order = self.arrival();
            let not_after_ms = self.host_ms(now).unwrap_or(now.wall_ms).saturating_add(MAX_VALIDITY_MS);
            let about = About { not_after_ms, ..About::default() };
            self.active.insert(attempt, Active::waiting(order, about));
            return self.settle(attempt, Outcome::not_started(End::Cancelled { started: false }), now);
        };
        match active.phase {
            Phase::Waiting | Phase::Starting { .. } => {
                self.settle(attempt, Outcome::not_started(End::Cancelled { started: false }), now);
            }
            Phase::Launched { .. } | Phase::Running { .. } => {
                let own = active.task.as_ref().map_or(DEFAULT_GRACE_MS, |task| task.limits.grace_ms);
                active.cancel = Some(cancel.grace_ms.unwrap_or(own));
                self.kill(attempt);
            }
            Phase::Settling(_) => {}
        }
    }

    /// Passes a wanted cancel on to the supervisor, if there is one; its next greeting asks again.
    pub(super) fn kill(&mut self, attempt: AttemptKey) {
        if let Some(grace_ms) = self.active.get(&attempt).and_then(|active| active.cancel)
            && self.supervisor.is_some()
        {
            self.ask(Request::Kill { attempt, grace_ms });
        }
    }

    pub(super) fn on_forget(&mut self, attempt: AttemptKey, now: Now) {
        self.on_result_ack(attempt);
        let Some(active) = self.active.get_mut(&attempt) else { return };
        active.forgotten = true;
        match active.phase {
            Phase::Waiting | Phase::Starting { .. } => {
                self.settle(attempt, Outcome::not_started(End::Cancelled { started: false }), now);
            }
            // What runs goes on to its own end; nobody is told.
            Phase::Launched { .. } | Phase::Running { .. } | Phase::Settling(_) => {}
        }
    }
}
