//! When a version has failed too often to go on serving: five faults in a row, or more than a fifth of at
//! least ten calls within a minute.
//!
//! Invariant: pure; time is an argument, counted from any fixed moment.

use std::time::Duration;

/// What is too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Faults in a row.
    pub in_a_row: u32,
    /// Calls within the window before their share counts.
    pub calls: u32,
    /// Faults of a hundred calls that are not yet too many.
    pub percent: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { in_a_row: 5, calls: 10, percent: 20 }
    }
}

impl Limits {
    /// Nothing is too often.
    pub const NEVER: Limits = Limits { in_a_row: u32::MAX, calls: u32::MAX, percent: 100 };
}

/// The window in seconds; one slot of the breaker is one of them.
const WINDOW: usize = 60;

/// Calls of one second.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    second: u64,
    calls: u32,
    faults: u32,
}

/// The calls of the last minute.
#[derive(Clone, Debug)]
pub struct Breaker {
    in_a_row: u32,
    slots: [Slot; WINDOW],
    open: bool,
}

impl Default for Breaker {
    /// One that has seen nothing.
    fn default() -> Breaker {
        Breaker { in_a_row: 0, slots: [Slot::default(); WINDOW], open: false }
    }
}

impl Breaker {
    /// Counts one call; says once, in one line, why there should be no more.
    pub fn note(&mut self, limits: Limits, well: bool, at: Duration) -> Option<String> {
        let second = at.as_secs();
        let index = usize::try_from(second % WINDOW as u64).unwrap_or(0);
        let slot = &mut self.slots[index];
        if slot.second != second {
            *slot = Slot { second, ..Slot::default() };
        }
        slot.calls += 1;
        if well {
            self.in_a_row = 0;
            return None;
        }
        slot.faults += 1;
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.open {
            return None;
        }
        let recent = self.slots.iter().filter(|slot| second - slot.second.min(second) < WINDOW as u64);
        let (calls, faults) = recent.fold((0_u32, 0_u32), |(calls, faults), slot| {
            (calls.saturating_add(slot.calls), faults.saturating_add(slot.faults))
        });
        let share = u64::from(faults) * 100 > u64::from(calls) * u64::from(limits.percent);
        let why = if self.in_a_row >= limits.in_a_row {
            format!("{} faults in a row", self.in_a_row)
        } else if calls >= limits.calls && share {
            format!("{faults} faults in {calls} calls within {WINDOW} s")
        } else {
            return None;
        };
        self.open = true;
        Some(why)
    }

    /// Forgets everything: somebody wants it tried again.
    pub fn reset(&mut self) {
        *self = Breaker::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `.` is a call that went well, `x` a fault, a digit lets that many times ten seconds go by.
    fn trips_at(calls: &str) -> Option<(usize, String)> {
        let (mut breaker, mut at) = (Breaker::default(), Duration::from_secs(1000));
        let mut tripped = None;
        for (index, call) in calls.chars().enumerate() {
            match call.to_digit(10) {
                Some(tens) => at += Duration::from_secs(u64::from(tens) * 10),
                None => tripped = tripped.or(breaker.note(Limits::default(), call == '.', at).map(|why| (index, why))),
            }
        }
        tripped
    }

    #[test]
    fn five_in_a_row_or_more_than_a_fifth_of_ten_open_it() {
        for (calls, expected) in [
            ("xxxxx", Some((4, "5 faults in a row"))),
            ("x9x9x9x9x", Some((8, "5 faults in a row"))),
            ("........xx", None),
            (".......xx.x", Some((10, "3 faults in 11 calls within 60 s"))),
            ("........x.x.x", Some((12, "3 faults in 13 calls within 60 s"))),
            (".......xx6..........x", None),
            (".......xx5.x", Some((11, "3 faults in 11 calls within 60 s"))),
            ("xxxx.xxxx", None),
            ("xxxx.xxxx.", None),
            ("xxxx.xxxx.x", Some((10, "9 faults in 11 calls within 60 s"))),
        ] {
            let expected = expected.map(|(at, why)| (at, why.to_owned()));
            assert_eq!(trips_at(calls), expected, "{calls}");
        }
    }

    #[test]
    fn it_says_so_once_and_again_only_after_a_reset() {
        let fault = |breaker: &mut Breaker, limits| breaker.note(limits, false, Duration::ZERO).is_some();
        let (mut breaker, limits) = (Breaker::default(), Limits::default());
        let said: Vec<bool> = (0..8).map(|_| fault(&mut breaker, limits)).collect();
        assert_eq!(said, [false, false, false, false, true, false, false, false]);
        breaker.reset();
        assert_eq!((0..5).filter(|_| fault(&mut breaker, limits)).count(), 1);
        let mut never = Breaker::default();
        assert!((0..1000).all(|_| !fault(&mut never, Limits::NEVER)));
    }
}
