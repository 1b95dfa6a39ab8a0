//! How a command with many targets is let go step by step, and when it stops.
//!
//! ```text
//!   held(rollout) ──▶ queued ──▶ …           a slot and a wave are open
//!         │
//!         └─────────▶ skipped(halted)        too many errors, or too many unreached
//! ```
//!
//! A decision needs nothing but the counts as they stand, so whoever looks, however often and after
//! whatever crash, decides the same.
//!
//! Invariant: a slot is taken when an invocation is released and given back at its terminal state.

use std::time::Duration;

use crate::attempt::{Reason, State};
use crate::counts::Counts;
use crate::deadline::Unreasonable;
use crate::time::Timestamp;

/// Most waves of a rollout.
pub const MAX_WAVES: usize = 20;
/// Longest pause between waves.
pub const PAUSE_MAX: Duration = Duration::from_secs(24 * 3600);

/// So many targets, or so many of a hundred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Portion {
    /// Exactly so many.
    Count(u32),
    /// 0 to 100 of a hundred, rounded down.
    Percent(u8),
}

impl Portion {
    /// How many of `targets` that is, rounded down.
    pub fn of(self, targets: u32) -> u32 {
        match self {
            Portion::Count(count) => count,
            Portion::Percent(percent) => {
                let share = u64::from(targets) * u64::from(percent) / 100;
                u32::try_from(share).unwrap_or(u32::MAX)
            }
        }
    }

    /// As [`of`](Self::of), but at least one.
    pub fn at_least_one_of(self, targets: u32) -> u32 {
        self.of(targets).max(1)
    }

    /// Refuses what would let nobody run at any time.
    ///
    /// # Errors
    /// What would be right.
    pub fn check_slots(self) -> Result<(), String> {
        match self {
            Portion::Count(0) | Portion::Percent(0) => {
                Err(format!("with {self} at once nobody would ever run: it is at least 1, or 1%"))
            }
            Portion::Count(_) | Portion::Percent(_) => Ok(()),
        }
    }

    /// Reads `7` or `25%`.
    ///
    /// # Errors
    /// What would be right.
    pub fn parse(text: &str) -> Result<Portion, String> {
        let wrong = || format!("`{text}` is neither a count such as 10 nor a percentage such as 25%");
        match text.strip_suffix('%') {
            Some(number) => match number.parse() {
                Ok(percent @ 0..=100) => Ok(Portion::Percent(percent)),
                Ok(_) | Err(_) => Err(wrong()),
            },
            None => text.parse().map(Portion::Count).map_err(|_| wrong()),
        }
    }
}

impl std::fmt::Display for Portion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Portion::Count(count) => write!(f, "{count}"),
            Portion::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// How fast it is let go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ramp {
    /// As fast as slots allow.
    #[default]
    Off,
    /// One, then as many again as have ended: 1, 2, 4, 8 … in all.
    Exponential,
    /// So many in all, wave by wave; a wave begins when everything before it has ended and the pause is over.
    Waves {
        /// Ascending; each at least one more than the one before. What the last leaves out comes after it.
        totals: Vec<Portion>,
        /// From the end of one wave to the beginning of the next.
        pause: Duration,
    },
}

/// What happens to what runs when it halts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnHalt {
    /// It may end by itself.
    #[default]
    Finish,
    /// It is asked to stop.
    Cancel,
}

/// How a command is let go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rollout {
    /// At once at most so many; a percentage is at least one.
    pub max_concurrency: Option<Portion>,
    /// How fast.
    pub ramp: Ramp,
    /// Halts when errors exceed it.
    pub max_errors: Option<Portion>,
    /// Halts when more than so many could not be reached in time.
    pub max_unreached: Option<Portion>,
    /// What happens to the rest then.
    pub on_halt: OnHalt,
}

/// How many invocations of a command, at one site, are in one state for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The site.
    pub site: String,
    /// The state.
    pub state: State,
    /// Why, where the state alone does not say.
    pub reason: Option<Reason>,
    /// How many.
    pub count: u32,
    /// When the latest of them came to it.
    pub changed_at: Timestamp,
}

/// How a command's invocations stand, as far as its rollout cares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All of them.
    pub targets: u32,
    /// Held for a slot or a wave.
    pub held: u32,
    /// At a terminal state, whichever.
    pub ended: u32,
    /// Failed, timed out, interrupted, lost, or rejected for another cause than being busy.
    pub errors: u32,
    /// Expired.
    pub unreached: u32,
    /// When the last of those that ended did, where [`Rollout::asks_for_last_end`].
    pub last_end: Option<Timestamp>,
}

impl Tally {
    /// What a command's counts come to; `held` of those in that state are held by its rollout, `busy` of those
    /// rejected were because their agents had no room. An invocation between two attempts keeps its slot.
    pub fn of(counts: &Counts, held: u32, busy: u32) -> Tally {
        let mut tally = Tally { targets: counts.total(), held, ..Tally::default() };
        for (state, count) in counts.iter() {
            match state {
                State::Held | State::Queued | State::Sent | State::Accepted | State::Running => {}
                State::Succeeded | State::Cancelled | State::Skipped => {}
                State::Failed | State::TimedOut | State::Interrupted | State::Lost => tally.errors += count,
                State::Rejected => tally.errors += count.saturating_sub(busy),
                State::Expired => tally.unreached += count,
            }
            if state.is_terminal() {
                tally.ended += count;
            }
        }
        tally
    }
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Let so many more go, at least one.
    Release(u32),
    /// Nothing, until something ends, or until this time if there is one.
    Wait(Option<Timestamp>),
    /// Stop: skip what was not sent.
    Halt(HaltCause),
    /// Nothing is held any more.
    Done,
}

/// Why a rollout halted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HaltCause {
    /// So many errors, more than so many.
    Errors {
        /// Counted.
        found: u32,
        /// Allowed.
        allowed: u32,
    },
    /// So many could not be reached, more than so many.
    Unreached {
        /// Counted.
        found: u32,
        /// Allowed.
        allowed: u32,
    },
}

impl std::fmt::Display for HaltCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HaltCause::Errors { found, allowed } => write!(f, "{found} ended in error, at most {allowed} may"),
            HaltCause::Unreached { found, allowed } => {
                write!(f, "{found} were not reached in time, at most {allowed} may be")
            }
        }
    }
}

impl Rollout {
    /// Whether it can be done.
    ///
    /// # Errors
    /// What cannot.
    pub fn check(&self) -> Result<(), Unreasonable> {
        if let Some(Err(message)) = self.max_concurrency.map(Portion::check_slots) {
            return Err(Unreasonable { pointer: "/rollout/max_concurrency", message });
        }
        let Ramp::Waves { totals, pause } = &self.ramp else { return Ok(()) };
        if totals.is_empty() || totals.len() > MAX_WAVES {
            return Err(Unreasonable { pointer: "/rollout/waves", message: format!("1 to {MAX_WAVES} waves") });
        }
        if *pause > PAUSE_MAX {
            let message = format!("at most {} ms", PAUSE_MAX.as_millis());
            return Err(Unreasonable { pointer: "/rollout/pause_ms", message });
        }
        Ok(())
    }

    /// Whether it lets everything go at once and never halts.
    pub fn is_plain(&self) -> bool {
        *self == Rollout::default()
    }

    /// Whether everything may be released at acceptance, although it may halt later.
    pub fn starts_whole(&self) -> bool {
        self.max_concurrency.is_none() && self.ramp == Ramp::Off
    }

    /// How many of `targets` are released at acceptance.
    pub fn first(&self, targets: u32) -> u32 {
        let nothing_ended = Tally { targets, held: targets, ..Tally::default() };
        match self.decide(&nothing_ended, Timestamp(0)) {
            Decision::Release(count) => count,
            Decision::Wait(_) | Decision::Halt(_) | Decision::Done => 0,
        }
    }

    /// What to do at `now`.
    pub fn decide(&self, tally: &Tally, now: Timestamp) -> Decision {
        let Tally { targets, held, ended, errors, unreached, last_end } = *tally;
        if held == 0 {
            return Decision::Done;
        }
        if let Some(allowed) = self.max_errors.map(|most| most.of(targets)).filter(|allowed| errors > *allowed) {
            return Decision::Halt(HaltCause::Errors { found: errors, allowed });
        }
        if let Some(allowed) = self.max_unreached.map(|most| most.of(targets)).filter(|allowed| unreached > *allowed) {
            return Decision::Halt(HaltCause::Unreached { found: unreached, allowed });
        }
        let released = targets - held;
        let in_flight = released.saturating_sub(ended);
        let slots =
            self.max_concurrency.map_or(u32::MAX, |most| most.at_least_one_of(targets)).saturating_sub(in_flight);
        let (total, opens_at) = self.wave(targets, released, ended, last_end);
        if let Some(at) = opens_at.filter(|at| *at > now) {
            return Decision::Wait(Some(at));
        }
        match held.min(slots).min(total.saturating_sub(released)) {
            0 => Decision::Wait(None),
            count => Decision::Release(count),
        }
    }

    /// Whether it turns on when the last one ended: a wave is to open, not before its pause is over.
    pub fn asks_for_last_end(&self, tally: &Tally) -> bool {
        let Tally { targets, held, ended, .. } = *tally;
        let Ramp::Waves { pause, .. } = &self.ramp else { return false };
        let (_, opens_at) = self.wave(targets, targets - held, ended, Some(Timestamp::default()));
        held > 0 && !pause.is_zero() && opens_at.is_some()
    }

    /// How many in all may have been released by now, and when that begins to hold, if later.
    fn wave(&self, targets: u32, released: u32, ended: u32, last_end: Option<Timestamp>) -> (u32, Option<Timestamp>) {
        match &self.ramp {
            Ramp::Off => (targets, None),
            Ramp::Exponential => (ended.saturating_mul(2).max(1).min(targets), None),
            Ramp::Waves { totals, pause } => {
                let mut before = 0;
                for total in totals {
                    let total = total.at_least_one_of(targets).clamp(before, targets);
                    if total > ended {
                        return (total, opening(before, released, last_end, *pause));
                    }
                    before = total;
                }
                (targets, opening(before, released, last_end, *pause))
            }
        }
    }
}

/// When the wave after the first `before` targets opens, if none of it has been released.
fn opening(before: u32, released: u32, last_end: Option<Timestamp>, pause: Duration) -> Option<Timestamp> {
    last_end.filter(|_| before > 0 && released <= before).map(|end| end + pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp(1_000_000_000);

    fn tally(targets: u32, held: u32, ended: u32, errors: u32) -> Tally {
        Tally { targets, held, ended, errors, unreached: 0, last_end: (ended > 0).then_some(AT) }
    }

    fn waves(totals: &[&str], pause_s: u64) -> Rollout {
        let totals = totals.iter().map(|text| Portion::parse(text).expect("a portion")).collect();
        Rollout { ramp: Ramp::Waves { totals, pause: Duration::from_secs(pause_s) }, ..Rollout::default() }
    }

    #[test]
    fn waves_and_their_pause_are_held_to_their_edges() {
        let pointer = |rollout: Rollout| rollout.check().err().map(|fault| fault.pointer);
        assert_eq!(pointer(waves(&[], 0)), Some("/rollout/waves"));
        assert_eq!(pointer(waves(&["1"; MAX_WAVES], PAUSE_MAX.as_secs())), None);
        assert_eq!(pointer(waves(&["1"; MAX_WAVES + 1], 0)), Some("/rollout/waves"));
        assert_eq!(pointer(waves(&["1"], PAUSE_MAX.as_secs() + 1)), Some("/rollout/pause_ms"));
    }

    #[test]
    fn slots_that_nobody_would_get_are_refused() {
        let check = |text: &str| {
            let slots = Some(Portion::parse(text).expect("a portion"));
            Rollout { max_concurrency: slots, ..Rollout::default() }.check()
        };
        for refused in ["0", "0%"] {
            let fault = check(refused).expect_err("nobody would run");
            assert_eq!(fault.pointer, "/rollout/max_concurrency");
            assert!(fault.message.contains(&format!("with {refused} at once")), "{}", fault.message);
        }
        for good in ["1", "1%", "100%"] {
            assert!(check(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn portions_round_down_and_slots_are_at_least_one() {
        assert_eq!(Portion::parse("25%"), Ok(Portion::Percent(25)));
        assert_eq!(Portion::parse("7"), Ok(Portion::Count(7)));
        for wrong in ["", "%", "101%", "-1", "1.5", "many", "1 %"] {
            assert!(Portion::parse(wrong).is_err_and(|why| why.contains(wrong)), "{wrong}");
        }
        assert_eq!(Portion::Percent(10).of(19), 1);
        assert_eq!(Portion::Percent(10).of(9), 0);
        assert_eq!(Portion::Percent(10).at_least_one_of(9), 1);
        assert_eq!(Portion::Percent(100).of(u32::MAX), u32::MAX);
    }

    #[test]
    fn counts_are_tallied_by_what_each_state_means() {
        let mut counts = Counts::default();
        for (state, count) in [
            (State::Held, 6),
            (State::Running, 2),
            (State::Succeeded, 3),
            (State::Failed, 1),
            (State::Rejected, 2),
            (State::Expired, 1),
        ] {
            counts.add(state, count);
        }
        let found = Tally::of(&counts, 5, 1);
        assert_eq!(found, Tally { targets: 15, held: 5, ended: 7, errors: 2, unreached: 1, last_end: None });
    }

    #[test]
    fn the_last_end_is_asked_for_only_where_a_wave_waits_for_its_pause() {
        let paused = waves(&["1", "50%"], 60);
        for (held, ended, asks) in
            [(10, 0, false), (9, 0, false), (9, 1, true), (5, 1, false), (5, 5, true), (0, 5, false)]
        {
            let tally = Tally { last_end: None, ..tally(10, held, ended, 0) };
            assert_eq!(paused.asks_for_last_end(&tally), asks, "{held} held, {ended} ended");
            assert!(!waves(&["1", "50%"], 0).asks_for_last_end(&tally), "no pause");
        }
    }

    #[test]
    fn a_plain_rollout_lets_everything_go() {
        let plain = Rollout::default();
        assert!(plain.is_plain() && plain.starts_whole());
        assert_eq!(plain.first(10_000), 10_000);
        assert_eq!(plain.decide(&tally(5, 0, 0, 0), AT), Decision::Done);
    }

    #[test]
    fn slots_are_given_back_as_invocations_end() {
        let two = Rollout { max_concurrency: Some(Portion::Count(2)), ..Rollout::default() };
        assert_eq!(two.first(5), 2);
        assert_eq!(two.decide(&tally(5, 3, 0, 0), AT), Decision::Wait(None));
        assert_eq!(two.decide(&tally(5, 3, 1, 0), AT), Decision::Release(1));
        assert_eq!(two.decide(&tally(5, 1, 4, 0), AT), Decision::Release(1));
        let none = Rollout { max_concurrency: Some(Portion::Count(0)), ..Rollout::default() };
        assert_eq!(none.first(5), 1, "nothing at all would never end");
    }

    #[test]
    fn it_halts_only_when_errors_exceed_what_is_allowed() {
        let tenth = Rollout { max_errors: Some(Portion::Percent(10)), ..Rollout::default() };
        assert_eq!(tenth.decide(&tally(20, 10, 10, 2), AT), Decision::Release(10));
        let halt = Decision::Halt(HaltCause::Errors { found: 3, allowed: 2 });
        assert_eq!(tenth.decide(&tally(20, 10, 10, 3), AT), halt);
        let none = Rollout { max_unreached: Some(Portion::Count(0)), ..Rollout::default() };
        let one = Tally { unreached: 1, ..tally(20, 10, 10, 0) };
        assert_eq!(none.decide(&one, AT), Decision::Halt(HaltCause::Unreached { found: 1, allowed: 0 }));
        assert_eq!(none.decide(&Tally { held: 0, ..one }, AT), Decision::Done, "nothing is left to skip");
    }

    #[test]
    fn waves_wait_for_the_one_before_and_for_their_pause() {
        let rollout = waves(&["1", "5%", "25%"], 60);
        assert_eq!(rollout.first(100), 1);
        assert_eq!(rollout.decide(&tally(100, 99, 0, 0), AT), Decision::Wait(None));
        let later = AT + Duration::from_secs(60);
        assert_eq!(rollout.decide(&tally(100, 99, 1, 0), AT), Decision::Wait(Some(later)));
        assert_eq!(rollout.decide(&tally(100, 99, 1, 0), later), Decision::Release(4));
        assert_eq!(rollout.decide(&tally(100, 95, 4, 0), later), Decision::Wait(None), "one of the wave still runs");
        assert_eq!(rollout.decide(&tally(100, 95, 5, 0), later), Decision::Release(20));
        assert_eq!(rollout.decide(&tally(100, 75, 25, 0), later), Decision::Release(75), "what no wave names");
        assert_eq!(waves(&["1", "5%"], 0).first(3), 1, "a percentage of few is at least the wave before");
    }

    #[test]
    fn a_wave_larger_than_the_slots_goes_by_slots() {
        let rollout = Rollout { max_concurrency: Some(Portion::Count(3)), ..waves(&["50%"], 0) };
        assert_eq!(rollout.first(20), 3);
        assert_eq!(rollout.decide(&tally(20, 17, 2, 0), AT), Decision::Release(2));
        assert_eq!(rollout.decide(&tally(20, 10, 9, 0), AT), Decision::Wait(None));
    }

    #[test]
    fn the_exponential_ramp_doubles() {
        let rollout = Rollout { ramp: Ramp::Exponential, ..Rollout::default() };
        let mut released = rollout.first(20);
        let mut steps = vec![released];
        while let Decision::Release(more) = rollout.decide(&tally(20, 20 - released, released, 0), AT) {
            released += more;
            steps.push(released);
        }
        assert_eq!(steps, [1, 2, 4, 8, 16, 20]);
    }

    /// Whatever ends in whatever order, everything is released in the end, and no limit is ever passed.
    #[test]
    fn every_rollout_comes_to_its_end() {
        for (most, totals) in [(1, &["100%"][..]), (3, &["1", "10%", "50%"]), (50, &["1", "2", "3"]), (7, &[])] {
            let rollout = Rollout { max_concurrency: Some(Portion::Count(most)), ..waves(totals, 1) };
            let (targets, mut released, mut ended, mut now, mut last_end) = (37, 0, 0, AT, None);
            let mut looks = 0;
            while ended < targets {
                let found = Tally { last_end, ..tally(targets, targets - released, ended, 0) };
                match rollout.decide(&found, now) {
                    Decision::Release(more) => released += more,
                    Decision::Wait(Some(at)) => now = at,
                    Decision::Wait(None) | Decision::Done => {
                        ended += 1;
                        last_end = Some(now);
                    }
                    Decision::Halt(cause) => panic!("{cause}"),
                }
                assert!(released - ended <= most && released <= targets, "{rollout:?}");
                looks += 1;
                assert!(looks < 500, "{rollout:?} stands at {released} released, {ended} ended");
            }
        }
    }
}
