//! Rollup: a command's counts and status, kept in step with its invocations move by move, so that a
//! command on ten thousand agents costs no more per result than a command on one.

use domain::attempt::{Reason, State};
use domain::command::{NewInvocation, Status};
use domain::counts::Counts;
use domain::rollout::Tally;
use domain::time::Timestamp;
use plan::outcome::RejectCause;

/// How many invocations of a command are in each state and, so that a look at its rollout need not count
/// them, how many are there for the two reasons that the state alone does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tallied {
    /// By state.
    pub counts: Counts,
    /// Held by their rollout.
    pub by_rollout: u32,
    /// Rejected because their agents had no room.
    pub busy: u32,
}

impl Tallied {
    /// What is accepted.
    pub fn new(invocations: &[NewInvocation]) -> Tallied {
        let counts: Counts = invocations.iter().map(NewInvocation::state).collect();
        Tallied { counts, by_rollout: counts.of(State::Held), busy: 0 }
    }

    /// As the rollout sees it.
    pub fn tally(&self) -> Tally {
        Tally::of(&self.counts, self.by_rollout, self.busy)
    }

    fn shift(&mut self, from: (State, Option<Reason>), to: (State, Option<Reason>)) {
        let mut counts = Counts::default();
        for (state, n) in self.counts.iter() {
            counts.add(state, n - u32::from(state == from.0));
        }
        counts.add(to.0, 1);
        self.counts = counts;
        let moved = |n: u32, is: fn((State, Option<Reason>)) -> bool| {
            (n + u32::from(is(to))).saturating_sub(u32::from(is(from)))
        };
        self.by_rollout = moved(self.by_rollout, |at| at == (State::Held, Some(Reason::Rollout)));
        self.busy = moved(self.busy, |at| at == (State::Rejected, Some(Reason::Agent(RejectCause::Busy))));
    }
}

/// One command while a batch moves its invocations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rollup {
    tallied: Tallied,
    before: Status,
    /// The earliest start learnt in this batch.
    pub started_at: Option<Timestamp>,
    /// When the latest move was learnt.
    pub changed_at: Timestamp,
}

impl Rollup {
    /// A command as the row has it.
    pub fn new(tallied: Tallied, status: Status) -> Rollup {
        Rollup { tallied, before: status, started_at: None, changed_at: Timestamp(i64::MIN) }
    }

    /// One of its invocations went from one state, with its reason, to another.
    pub fn shift(&mut self, from: (State, Option<Reason>), to: (State, Option<Reason>), at: Timestamp) {
        self.tallied.shift(from, to);
        self.changed_at = self.changed_at.max(at);
    }

    /// An invocation is known to have started.
    pub fn started(&mut self, at: Timestamp) {
        self.started_at = Some(self.started_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// How many invocations are in each state now.
    pub fn counts(&self) -> Counts {
        self.tallied.counts
    }

    /// The same, as it is stored.
    pub fn tallied(&self) -> &Tallied {
        &self.tallied
    }

    /// What they add up to now.
    pub fn status(&self) -> Status {
        Status::of(&self.tallied.counts)
    }

    /// Whether the status is another than before the batch.
    pub fn status_changed(&self) -> bool {
        self.status() != self.before
    }

    /// When the last invocation ended, if all have.
    pub fn completed_at(&self) -> Option<Timestamp> {
        self.status().is_terminal().then_some(self.changed_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(states: &[State]) -> Tallied {
        Tallied { counts: states.iter().copied().collect(), ..Tallied::default() }
    }

    #[test]
    fn shifting_every_invocation_ends_where_counting_would() {
        let mut rollup = Rollup::new(counted(&[State::Queued; 3]), Status::Pending);
        let queued = (State::Queued, None);
        rollup.shift(queued, (State::Succeeded, None), Timestamp(5));
        assert_eq!((rollup.status(), rollup.completed_at()), (Status::Running, None));
        rollup.shift(queued, (State::Failed, None), Timestamp(9));
        rollup.shift(queued, (State::Succeeded, None), Timestamp(7));
        assert_eq!(*rollup.tallied(), counted(&[State::Succeeded, State::Failed, State::Succeeded]));
        assert_eq!((rollup.status(), rollup.completed_at()), (Status::Partial, Some(Timestamp(9))));
        assert!(rollup.status_changed());
    }

    #[test]
    fn an_amended_loss_changes_the_status_again() {
        let mut rollup = Rollup::new(counted(&[State::Lost]), Status::Unknown);
        rollup.shift((State::Lost, Some(Reason::AgentGone)), (State::Succeeded, None), Timestamp(1));
        assert_eq!(rollup.status(), Status::Succeeded);
        assert!(rollup.status_changed());
    }

    #[test]
    fn what_a_rollout_holds_is_told_from_what_is_held_otherwise_and_busy_from_other_refusals() {
        let mut tallied = Tallied { by_rollout: 2, ..counted(&[State::Held, State::Held, State::Queued]) };
        let (rollout, retry) = ((State::Held, Some(Reason::Rollout)), (State::Held, Some(Reason::Retry)));
        let refused = |cause| (State::Rejected, Some(Reason::Agent(cause)));
        tallied.shift(rollout, (State::Queued, None));
        tallied.shift((State::Queued, None), retry);
        tallied.shift((State::Queued, None), refused(RejectCause::Busy));
        assert_eq!((tallied.counts.of(State::Held), tallied.by_rollout, tallied.busy), (2, 1, 1));
        tallied.shift(retry, refused(RejectCause::Policy));
        assert_eq!((tallied.tally().held, tallied.tally().errors), (1, 1));
    }
}
