//! When a waiting attempt starts: in arrival order, within the number of attempts at once, with its
//! locks free, in time. The host does priority.

use std::collections::HashSet;

use plan::id::AttemptKey;
use plan::outcome::{End, Outcome, RejectCause};
use plan::secret::filled;

use crate::clock::Now;
use crate::journal::Record;
use crate::machine::entry::{Phase, StartBy};
use crate::machine::{After, Machine};
use crate::supervisor::protocol::{Launch, Request};

impl Machine {
    /// Ends waiting attempts whose time to start is over.
    pub(super) fn expire(&mut self, now: Now) {
        let late: Vec<AttemptKey> =
            self.waiting.values().copied().filter(|attempt| self.start_by(*attempt) < now.mono_ms).collect();
        for attempt in late {
            tracing::info!(%attempt, "its time to start is over");
            self.settle(attempt, Outcome::not_started(End::Expired), now);
        }
    }

    /// When the next waiting attempt expires.
    pub(super) fn next_expiry(&self) -> Option<u64> {
        let soonest = self.waiting.values().map(|attempt| self.start_by(*attempt)).min()?;
        soonest.checked_add(1)
    }

    /// The last instant an attempt may start at, milliseconds since boot; for ever while that cannot be
    /// said, because then it does not start either.
    fn start_by(&self, attempt: AttemptKey) -> u64 {
        match self.active.get(&attempt).and_then(|active| active.task.as_ref()).map(|task| task.start_by) {
            Some(StartBy::Mono(instant_ms)) => instant_ms,
            Some(StartBy::Host(_)) | None => u64::MAX,
        }
    }

    /// Turns deadlines kept on the host's clock into ours, now that it is known.
    pub(super) fn place_after_reboot(&mut self, now: Now) {
        let Some(host_ms) = self.host_ms(now) else { return };
        for task in self.active.values_mut().filter_map(|active| active.task.as_mut()) {
            if let StartBy::Host(instant_ms) = task.start_by {
                // What is over already becomes an instant before this one.
                let left_ms = u64::try_from(instant_ms.saturating_sub(host_ms)).ok();
                let instant_ms = left_ms.map_or(now.mono_ms.saturating_sub(1), |left| now.mono_ms.saturating_add(left));
                task.start_by = StartBy::Mono(instant_ms);
            }
        }
    }

    /// Begins every attempt that may begin now.
    pub(super) fn start_waiting(&mut self, now: Now) {
        if self.waiting.is_empty() || self.stopping {
            return;
        }
        let Some(supervisor) = self.supervisor.clone() else { return };
        let limit = self.host_concurrency.unwrap_or(u32::MAX).min(self.setup.policy.max_concurrency) as usize;
        let holding = || self.active.values().filter(|active| active.phase.holds_slot());
        let mut busy = holding().count();
        if busy >= limit {
            return;
        }
        let mut locked: HashSet<String> = holding()
            .filter_map(|active| active.task.as_ref())
            .flat_map(|task| task.plan.locks.iter().cloned())
            .collect();
        let waiting: Vec<AttemptKey> = self.waiting.values().copied().collect();
        for attempt in waiting {
            if busy >= limit {
                break;
            }
            let Some(active) = self.active.get(&attempt) else { continue };
            let Some(task) = &active.task else {
                let message = "the envelope in the journal does not check against the pinned cluster key".to_owned();
                let end = End::Rejected { cause: RejectCause::Signature, message };
                self.settle(attempt, Outcome::not_started(end), now);
                continue;
            };
            if task.secrets.is_none() {
                let message = "the agent was restarted before the start, and secrets are not kept over that".to_owned();
                let end = End::Rejected { cause: RejectCause::Busy, message };
                self.settle(attempt, Outcome::not_started(end), now);
                continue;
            }
            let free = task.plan.locks.iter().all(|lock| !locked.contains(lock));
            // One that waits keeps its place: nobody behind it takes a lock it wants.
            locked.extend(task.plan.locks.iter().cloned());
            if !free || (active.restored && !self.welcomed) {
                continue;
            }
            if let Err(denied) = self.setup.policy.resolve(&task.plan) {
                // The policy was changed between acceptance and a restart.
                let end = End::Rejected { cause: RejectCause::Policy, message: denied.to_string() };
                self.settle(attempt, Outcome::not_started(end), now);
                continue;
            }
            busy += 1;
            self.begin(attempt, supervisor.clone());
        }
    }

    fn begin(&mut self, attempt: AttemptKey, supervisor: String) {
        let Some(active) = self.active.get_mut(&attempt) else { return };
        self.waiting.remove(&active.order);
        active.phase = Phase::Starting { supervisor: supervisor.clone() };
        self.write(Record::Starting { attempt, supervisor }, After::Launch(attempt));
    }

    /// `starting` is on disk: asks the supervisor, if it is still the one the record names.
    pub(super) fn launch(&mut self, attempt: AttemptKey, now: Now) {
        let Some(active) = self.active.get(&attempt) else { return };
        let Phase::Starting { supervisor } = &active.phase else { return };
        if self.supervisor.as_ref() != Some(supervisor) || self.stopping {
            // Nothing was asked of anybody, so it may wait for the next supervisor.
            return self.wait_again(attempt);
        }
        let supervisor = supervisor.clone();
        let Some(task) = &active.task else { return };
        let start_by_mono_ms = self.start_by(attempt);
        if start_by_mono_ms < now.mono_ms {
            return self.settle(attempt, Outcome::not_started(End::Expired), now);
        }
        let mut steps = match self.setup.policy.resolve(&task.plan) {
            Ok(steps) => steps,
            Err(denied) => {
                let end = End::Rejected { cause: RejectCause::Policy, message: denied.to_string() };
                return self.settle(attempt, Outcome::not_started(end), now);
            }
        };
        // The policy has judged the placeholders; what they stand for goes no further than the child.
        let values = task.secrets.clone().unwrap_or_default();
        for step in &mut steps {
            step.env.values_mut().chain(&mut step.stdin).for_each(|text| *text = filled(text, &values));
        }
        let left_ms = task.finish_by_mono_ms.map_or(u64::MAX, |end_ms| end_ms.saturating_sub(now.mono_ms));
        let launch = Launch {
            attempt,
            steps,
            start_by_mono_ms,
            run_timeout_ms: task.limits.run_timeout_ms.min(left_ms).max(1),
            output_bytes: task.limits.output_bytes.min(self.setup.spool.stream_bytes),
            grace_ms: task.limits.grace_ms,
            kill_after_ms: task.kill_after_ms,
            secrets: values.into_values().collect(),
        };
        self.ask(Request::Start { launch: Box::new(launch) });
        if let Some(active) = self.active.get_mut(&attempt) {
            active.phase = Phase::Launched { supervisor };
        }
    }

    /// Back among the waiting, at its old place.
    pub(super) fn wait_again(&mut self, attempt: AttemptKey) {
        if let Some(active) = self.active.get_mut(&attempt) {
            active.phase = Phase::Waiting;
            self.waiting.insert(active.order, attempt);
        }
    }
}
