//! Folding: several advances of one attempt in a batch become one row write.
//!
//! Invariant: what an attempt may become is decided by [`domain::attempt::step`] alone.

use domain::attempt::{Reason, State, Step, step};
use domain::time::Timestamp;
use ports::commands::{Advance, Advanced, AttemptEnd};

/// One attempt while a batch is folded into it.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    /// Its state so far.
    pub state: State,
    /// Why.
    pub reason: Option<Reason>,
    /// What a person should know besides, from the advance that last moved it.
    pub message: Option<String>,
    /// When the agent said it started.
    pub started_at: Option<Timestamp>,
    /// When it last moved.
    pub changed_at: Timestamp,
    /// How it ended; only beside a terminal state.
    pub end: Option<AttemptEnd>,
    before: (State, Option<Reason>),
}

impl Standing {
    /// An attempt as the row has it.
    pub fn new(state: State, reason: Option<Reason>, started_at: Option<Timestamp>) -> Standing {
        Standing {
            state,
            reason,
            message: None,
            started_at,
            changed_at: Timestamp::default(),
            end: None,
            before: (state, reason),
        }
    }

    /// Applies one advance; the answer is for its caller.
    pub fn apply(&mut self, advance: &mut Advance) -> Advanced {
        let mut moved = false;
        for event in &advance.events {
            match step(self.state, self.reason, *event) {
                Step::To(state, reason) => {
                    (self.state, self.reason) = (state, reason);
                    moved = true;
                    if state == State::Running && self.started_at.is_none() {
                        self.started_at = Some(advance.at);
                    }
                }
                Step::Stay => {}
            }
        }
        if moved {
            self.changed_at = advance.at;
            self.message = advance.message.take();
            self.end = if self.state.is_terminal() { advance.end.take() } else { None };
        }
        Advanced { state: self.state, moved }
    }

    /// The state the row had before the batch.
    pub fn was(&self) -> State {
        self.before.0
    }

    /// The same with its reason.
    pub fn before(&self) -> (State, Option<Reason>) {
        self.before
    }

    /// Whether the row has to be written. An attempt that left its state and came back is as it was.
    pub fn changed(&self) -> bool {
        (self.state, self.reason) != self.before
    }
}

#[cfg(test)]
mod tests {
    use domain::attempt::Event;
    use plan::id::{AgentId, AttemptKey, CommandId};
    use plan::outcome::{End, Outcome};
    use ports::commands::Word;
    use uuid::Uuid;

    use super::*;

    fn advance(at: i64, events: &[Event]) -> Advance {
        let key = AttemptKey { command: CommandId(Uuid::from_u128(1)), number: 1 };
        let agent = AgentId(Uuid::from_u128(2));
        Advance { key, agent, events: events.to_vec(), at: Timestamp(at), message: None, end: None, word: Word::Anyone }
    }

    fn end() -> Option<AttemptEnd> {
        let outcome = Outcome::not_started(End::Exited);
        Some(AttemptEnd { outcome, result: Some("{}".into()), summary: None, parse_fault: None })
    }

    fn fresh(state: State) -> Standing {
        Standing::new(state, None, None)
    }

    #[test]
    fn a_whole_life_in_one_batch_is_one_change_that_knows_when_it_started() {
        let mut standing = fresh(State::Queued);
        standing.apply(&mut advance(1, &[Event::Send]));
        standing.apply(&mut advance(2, &[Event::Acknowledge, Event::Start]));
        let last = Advance { end: end(), ..advance(3, &[Event::Finish { succeeded: true }]) };
        let answer = standing.apply(&mut last.clone());
        assert_eq!(answer, Advanced { state: State::Succeeded, moved: true });
        assert_eq!((standing.started_at, standing.changed_at), (Some(Timestamp(2)), Timestamp(3)));
        assert!(standing.changed() && standing.end.is_some() && standing.was() == State::Queued);
    }

    #[test]
    fn a_second_result_neither_moves_nor_replaces_the_first() {
        let mut standing = fresh(State::Running);
        standing.apply(&mut Advance { end: end(), ..advance(1, &[Event::Finish { succeeded: true }]) });
        let late = Advance { message: Some("late".into()), ..advance(2, &[Event::Finish { succeeded: false }]) };
        let answer = standing.apply(&mut late.clone());
        assert_eq!(answer, Advanced { state: State::Succeeded, moved: false });
        assert_eq!((standing.message, standing.changed_at), (None, Timestamp(1)));
    }

    #[test]
    fn there_and_back_is_no_change() {
        let mut standing = fresh(State::Queued);
        assert!(standing.apply(&mut advance(1, &[Event::Send])).moved);
        assert!(standing.apply(&mut advance(2, &[Event::NotKnown])).moved);
        assert!(!standing.changed());
    }

    #[test]
    fn an_amended_loss_drops_the_sentence_about_the_loss() {
        let mut standing = fresh(State::Running);
        standing.apply(&mut Advance { message: Some("away".into()), ..advance(1, &[Event::AgentGone]) });
        assert_eq!(standing.message.as_deref(), Some("away"));
        standing.apply(&mut Advance { end: end(), ..advance(2, &[Event::Finish { succeeded: true }]) });
        assert_eq!((standing.state, standing.message), (State::Succeeded, None));
    }
}
