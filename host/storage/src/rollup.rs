//! Rollup: a command's counts and status, kept in step with its invocations move by move, so that a
//! command on ten thousand agents costs no more per result than a command on one.

use domain::attempt::State;
use domain::command::{Counts, Status};
use domain::time::Timestamp;

/// One command while a batch moves its invocations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rollup {
    counts: Counts,
    before: Status,
    /// The earliest start learnt in this batch.
    pub started_at: Option<Timestamp>,
    /// When the latest move was learnt.
    pub changed_at: Timestamp,
}

impl Rollup {
    /// A command as the row has it.
    pub fn new(counts: Counts, status: Status) -> Rollup {
        Rollup { counts, before: status, started_at: None, changed_at: Timestamp(i64::MIN) }
    }

    /// One of its invocations went from one state to another.
    pub fn shift(&mut self, from: State, to: State, at: Timestamp) {
        let mut counts = Counts::default();
        for (state, n) in self.counts.iter() {
            counts.add(state, n - u32::from(state == from));
        }
        counts.add(to, 1);
        self.counts = counts;
        self.changed_at = self.changed_at.max(at);
    }

    /// An invocation is known to have started.
    pub fn started(&mut self, at: Timestamp) {
        self.started_at = Some(self.started_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// How many invocations are in each state now.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What they add up to now.
    pub fn status(&self) -> Status {
        Status::of(&self.counts)
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

    #[test]
    fn shifting_every_invocation_ends_where_counting_would() {
        let mut rollup = Rollup::new([State::Queued; 3].into_iter().collect(), Status::Pending);
        rollup.shift(State::Queued, State::Succeeded, Timestamp(5));
        assert_eq!((rollup.status(), rollup.completed_at()), (Status::Running, None));
        rollup.shift(State::Queued, State::Failed, Timestamp(9));
        rollup.shift(State::Queued, State::Succeeded, Timestamp(7));
        let counted: Counts = [State::Succeeded, State::Failed, State::Succeeded].into_iter().collect();
        assert_eq!(rollup.counts(), counted);
        assert_eq!((rollup.status(), rollup.completed_at()), (Status::Partial, Some(Timestamp(9))));
        assert!(rollup.status_changed());
    }

    #[test]
    fn an_amended_loss_changes_the_status_again() {
        let mut rollup = Rollup::new([State::Lost].into_iter().collect(), Status::Unknown);
        rollup.shift(State::Lost, State::Succeeded, Timestamp(1));
        assert_eq!(rollup.status(), Status::Succeeded);
        assert!(rollup.status_changed());
    }
}
