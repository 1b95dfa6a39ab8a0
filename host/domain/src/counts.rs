//! How many invocations are in each state.

use crate::attempt::State;

/// How many invocations are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u32; State::ALL.len()]);

impl Counts {
    /// Adds `n` to `state`.
    pub fn add(&mut self, state: State, n: u32) {
        self.0[state as usize] += n;
    }

    /// How many are in `state`.
    pub fn of(&self, state: State) -> u32 {
        self.0[state as usize]
    }

    /// How many there are.
    pub fn total(&self) -> u32 {
        self.0.iter().sum()
    }

    /// States with at least one, in reading order.
    pub fn iter(&self) -> impl Iterator<Item = (State, u32)> + '_ {
        State::ALL.into_iter().map(|state| (state, self.of(state))).filter(|(_, n)| *n > 0)
    }

    /// Whether all are in `state`; so they are when there are none.
    pub fn all(&self, state: State) -> bool {
        self.of(state) == self.total()
    }
}

impl FromIterator<State> for Counts {
    fn from_iter<I: IntoIterator<Item = State>>(states: I) -> Counts {
        let mut counts = Counts::default();
        for state in states {
            counts.add(state, 1);
        }
        counts
    }
}
