//! What may be stored although its caller was told that the store did not answer: the connection may break
//! in the middle of a commit, or the answer come late. Remembered until it is known, so that a command
//! that is stored after all is sent, and an agent that joined after all is let in.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::time::Timestamp;
use plan::id::CommandId;

/// Commands remembered at most. Past this the oldest are forgotten: their agents' next sessions find them.
const COMMANDS_MAX: usize = 64 * 1024;
/// Before the first look.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// Longer than any statement and any commit may take: what is not stored by then never will be.
const KNOWN_AFTER: Duration = Duration::from_secs(25 * 60);

/// Everything that is in doubt.
#[derive(Debug, Default)]
pub struct Doubts {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    commands: VecDeque<Doubt<CommandId>>,
    enrolment: Option<Doubt<()>>,
}

/// One thing in doubt, looked at less and less often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Doubt<T> {
    pub what: T,
    since: Timestamp,
    next: Timestamp,
}

impl<T> Doubt<T> {
    fn new(what: T, now: Timestamp) -> Doubt<T> {
        Doubt { what, since: now, next: now + FIRST_LOOK }
    }

    /// The same a while later; `None` when there is no doubt any more.
    fn later(self, now: Timestamp) -> Option<Doubt<T>> {
        let age = now.since(self.since);
        (age < KNOWN_AFTER).then(|| Doubt { next: now + (age / 2).max(FIRST_LOOK), ..self })
    }
}

impl Doubts {
    /// A command was refused for want of an answer.
    pub fn command(&self, command: CommandId, now: Timestamp) {
        let mut inner = self.lock();
        if inner.commands.len() >= COMMANDS_MAX {
            inner.commands.pop_front();
        }
        inner.commands.push_back(Doubt::new(command, now));
    }

    /// A machine was refused for want of an answer.
    pub fn enrolment(&self, now: Timestamp) {
        self.lock().enrolment = Some(Doubt::new((), now));
    }

    /// Takes out the commands that are to be looked at, at most `limit`.
    pub(crate) fn commands_due(&self, now: Timestamp, limit: usize) -> Vec<Doubt<CommandId>> {
        let mut inner = self.lock();
        let (mut due, mut rest) = (Vec::new(), VecDeque::with_capacity(inner.commands.len()));
        for doubt in inner.commands.drain(..) {
            if doubt.next <= now && due.len() < limit {
                due.push(doubt);
            } else {
                rest.push_back(doubt);
            }
        }
        inner.commands = rest;
        due
    }

    /// Puts those back that are still in doubt.
    pub(crate) fn commands_later(&self, doubts: impl IntoIterator<Item = Doubt<CommandId>>, now: Timestamp) {
        self.lock().commands.extend(doubts.into_iter().filter_map(|doubt| doubt.later(now)));
    }

    /// Whether agents are to be looked at; if so, not again for a while.
    pub(crate) fn enrolment_due(&self, now: Timestamp) -> bool {
        let mut inner = self.lock();
        let due = inner.enrolment.filter(|doubt| doubt.next <= now);
        if let Some(doubt) = due {
            inner.enrolment = doubt.later(now);
        }
        due.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn id(number: u128) -> CommandId {
        CommandId(Uuid::from_u128(number))
    }

    #[test]
    fn a_doubt_is_looked_at_less_and_less_often_until_it_is_none() {
        let doubts = Doubts::default();
        let begun = Timestamp::from_millis(1_700_000_000_000);
        doubts.command(id(1), begun);
        doubts.enrolment(begun);
        let (mut looks, mut others) = (0, 0);
        for second in 0..7_200 {
            let now = begun + Duration::from_secs(second);
            let due = doubts.commands_due(now, 10);
            looks += due.len();
            others += usize::from(doubts.enrolment_due(now));
            doubts.commands_later(due, now);
        }
        assert_eq!(looks, others);
        assert!((10..30).contains(&looks), "{looks} looks");
        assert!(doubts.lock().commands.is_empty() && doubts.lock().enrolment.is_none());
    }

    #[test]
    fn as_many_are_looked_at_as_asked_for_and_the_oldest_are_forgotten_past_the_limit() {
        let doubts = Doubts::default();
        let begun = Timestamp::from_millis(1_700_000_000_000);
        for number in 0..COMMANDS_MAX as u128 + 5 {
            doubts.command(id(number), begun);
        }
        let now = begun + FIRST_LOOK;
        let due = doubts.commands_due(now, 3);
        assert_eq!(due.iter().map(|doubt| doubt.what).collect::<Vec<_>>(), [id(5), id(6), id(7)]);
        assert_eq!(doubts.lock().commands.len(), COMMANDS_MAX - 3);
        assert!(doubts.commands_due(begun, 3).is_empty(), "not before its time");
    }
}
