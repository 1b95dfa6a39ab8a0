//! The last hour in small steps, and how long things took in steps that grow.

use std::cmp::Ordering;
use std::time::Duration;

use domain::time::Timestamp;

/// Steps of what is counted: 5 s each, an hour of them.
const STEP_US: i64 = 5_000_000;
const STEPS: usize = 720;
/// Steps of what is measured: 5 min each, an hour of them.
const LONG_STEP_US: i64 = 300_000_000;
const LONG_STEPS: usize = 12;
/// Steps of a duration, each a quarter above the one before: from a millisecond to two hours.
const SIZES: usize = 72;
const GROWTH: f64 = 1.25;

/// Upper bounds of [`Spans`], in milliseconds; above the last there is one more.
pub const BOUNDS_MS: [u64; 12] = [1, 5, 10, 25, 50, 100, 250, 1_000, 5_000, 30_000, 300_000, 3_600_000];

/// How long things took, since the start.
#[derive(Clone, Debug, Default)]
pub struct Spans {
    /// How many there were.
    pub count: u64,
    /// All of them together.
    pub sum: Duration,
    /// How many were at most as long as each of [`BOUNDS_MS`] and longer than the one before; the last: longer.
    pub sizes: [u64; BOUNDS_MS.len() + 1],
}

impl Spans {
    /// One more.
    pub fn add(&mut self, span: Duration) {
        let place = BOUNDS_MS.iter().position(|bound| span <= Duration::from_millis(*bound));
        self.count += 1;
        self.sum += span;
        self.sizes[place.unwrap_or(BOUNDS_MS.len())] += 1;
    }
}

/// How much happened in a stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Invocations accepted.
    pub submitted: u64,
    /// Attempts that succeeded.
    pub succeeded: u64,
    /// Attempts that ended otherwise.
    pub unsuccessful: u64,
}

/// How long things took: half of them at most this, and all but one in a hundred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// How many there were.
    pub count: u64,
    /// Milliseconds, at most a quarter too many; none of none.
    pub p50_ms: Option<u64>,
    /// The same.
    pub p99_ms: Option<u64>,
}

#[derive(Clone, Copy, Default)]
struct Step {
    number: i64,
    rates: Rates,
}

#[derive(Clone, Copy)]
struct LongStep {
    number: i64,
    wait: [u32; SIZES],
    run: [u32; SIZES],
}

/// One hour.
#[derive(Clone, Default)]
pub struct Hour {
    steps: Vec<Step>,
    long: Vec<LongStep>,
}

impl Hour {
    /// One was accepted.
    pub(super) fn submitted(&mut self, at: Timestamp) {
        self.step(at).submitted += 1;
    }

    /// One ended.
    pub(super) fn ended(&mut self, at: Timestamp, well: bool) {
        let rates = self.step(at);
        *(if well { &mut rates.succeeded } else { &mut rates.unsuccessful }) += 1;
    }

    /// One started after so long.
    pub(super) fn waited(&mut self, at: Timestamp, span: Duration) {
        self.long_step(at.0.div_euclid(LONG_STEP_US)).wait[size(span)] += 1;
    }

    /// One ran for so long.
    pub(super) fn ran(&mut self, at: Timestamp, span: Duration) {
        self.long_step(at.0.div_euclid(LONG_STEP_US)).run[size(span)] += 1;
    }

    /// What another counted, too.
    pub(super) fn add(&mut self, other: &Hour) {
        merge(
            &mut self.steps,
            &other.steps,
            |step| step.number,
            |into, step| {
                into.rates.submitted += step.rates.submitted;
                into.rates.succeeded += step.rates.succeeded;
                into.rates.unsuccessful += step.rates.unsuccessful;
            },
        );
        merge(
            &mut self.long,
            &other.long,
            |step| step.number,
            |into, step| {
                into.wait.iter_mut().zip(step.wait).for_each(|(into, n)| *into += n);
                into.run.iter_mut().zip(step.run).for_each(|(into, n)| *into += n);
            },
        );
    }

    /// What happened in the `span` before now.
    pub fn rates(&self, now: Timestamp, span: Duration) -> Rates {
        let newest = now.0.div_euclid(STEP_US);
        let steps = i64::try_from(span.as_micros()).unwrap_or(i64::MAX) / STEP_US;
        let within = self.steps.iter().filter(|step| step.number > newest - steps && step.number <= newest);
        within.fold(Rates::default(), |sum, step| Rates {
            submitted: sum.submitted + step.rates.submitted,
            succeeded: sum.succeeded + step.rates.succeeded,
            unsuccessful: sum.unsuccessful + step.rates.unsuccessful,
        })
    }

    /// From acceptance to start, in the last hour.
    pub fn wait(&self, now: Timestamp) -> Spread {
        self.spread(now, |step| &step.wait)
    }

    /// From start to end, in the last hour.
    pub fn run(&self, now: Timestamp) -> Spread {
        self.spread(now, |step| &step.run)
    }

    fn spread(&self, now: Timestamp, which: impl Fn(&LongStep) -> &[u32; SIZES]) -> Spread {
        let newest = now.0.div_euclid(LONG_STEP_US);
        let mut sizes = [0_u64; SIZES];
        for step in self.long.iter().filter(|step| step.number > newest - LONG_STEPS as i64) {
            sizes.iter_mut().zip(which(step)).for_each(|(sum, n)| *sum += u64::from(*n));
        }
        let count: u64 = sizes.iter().sum();
        let at = |share: u64| {
            let mut left = (count * share).div_ceil(100);
            sizes.iter().position(|n| {
                left = left.saturating_sub(*n);
                left == 0
            })
        };
        let bound = |share| (count > 0).then(|| at(share)).flatten().map(bound_ms);
        Spread { count, p50_ms: bound(50), p99_ms: bound(99) }
    }

    fn step(&mut self, at: Timestamp) -> &mut Rates {
        let number = at.0.div_euclid(STEP_US);
        if self.steps.is_empty() {
            self.steps = vec![Step::default(); STEPS];
        }
        let place = usize::try_from(number.rem_euclid(STEPS as i64)).unwrap_or_default();
        let step = &mut self.steps[place];
        if step.number != number {
            *step = Step { number, rates: Rates::default() };
        }
        &mut step.rates
    }

    fn long_step(&mut self, number: i64) -> &mut LongStep {
        let fresh = LongStep { number, wait: [0; SIZES], run: [0; SIZES] };
        if self.long.is_empty() {
            self.long = vec![LongStep { number: i64::MIN, ..fresh }; LONG_STEPS];
        }
        let place = usize::try_from(number.rem_euclid(LONG_STEPS as i64)).unwrap_or_default();
        let step = &mut self.long[place];
        if step.number != number {
            *step = fresh;
        }
        step
    }
}

/// Adds steps to others. Both keep a step at the same place, where the newer one stands for the place.
fn merge<S: Copy>(into: &mut Vec<S>, other: &[S], number: fn(&S) -> i64, sum: fn(&mut S, &S)) {
    if into.is_empty() {
        into.extend_from_slice(other);
        return;
    }
    for (into, step) in into.iter_mut().zip(other) {
        match number(step).cmp(&number(into)) {
            Ordering::Greater => *into = *step,
            Ordering::Equal => sum(into, step),
            Ordering::Less => {}
        }
    }
}

fn size(span: Duration) -> usize {
    let ms = span.as_secs_f64() * 1_000.0;
    (0..SIZES).find(|place| ms <= GROWTH.powi(i32::try_from(*place).unwrap_or(0))).unwrap_or(SIZES - 1)
}

fn bound_ms(place: usize) -> u64 {
    GROWTH.powi(i32::try_from(place).unwrap_or(0)).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1_000_000)
    }

    #[test]
    fn an_hour_later_nothing_is_left_of_it() {
        let mut hour = Hour::default();
        for second in 0..120 {
            hour.submitted(at(second));
            hour.ended(at(second), second % 2 == 0);
            hour.ran(at(second), Duration::from_millis(10));
        }
        let rates = |now, span| hour.rates(at(now), Duration::from_secs(span));
        assert_eq!(rates(119, 60).submitted, 60);
        assert_eq!(rates(119, 300), Rates { submitted: 120, succeeded: 60, unsuccessful: 60 });
        assert_eq!(rates(119 + 3_600, 3_600).submitted, 0);
        assert_eq!(hour.run(at(119)).count, 120);
        assert_eq!(hour.run(at(119 + 3_600)), Spread::default());
    }

    #[test]
    fn two_sites_together_are_the_sum_of_both_at_whichever_minute_it_is() {
        let second = |hour: &mut Hour, at: Timestamp| {
            hour.submitted(at);
            hour.ended(at, true);
            hour.waited(at, Duration::from_millis(5));
            hour.ran(at, Duration::from_millis(10));
        };
        for first in (0..2 * 3_600).step_by(5) {
            // One site has an hour behind it, the other nothing; and the other way round.
            let (mut old, mut new, now) = (Hour::default(), Hour::default(), at(first + 3_600));
            second(&mut old, at(first));
            second(&mut new, now);
            second(&mut new, now);
            for order in [[&old, &new], [&new, &old]] {
                let mut sum = Hour::default();
                order.iter().for_each(|one| sum.add(one));
                let rates = sum.rates(now, Duration::from_secs(3_600));
                assert_eq!((rates.submitted, rates.succeeded), (2, 2), "{first}");
                assert_eq!((sum.wait(now).count, sum.run(now).count), (2, 2), "{first}");
                sum.add(&new);
                assert_eq!(sum.wait(now).count, 4, "{first}");
            }
        }
    }

    #[test]
    fn a_spread_is_never_below_and_at_most_a_quarter_above() {
        let mut hour = Hour::default();
        for ms in 1..=1_000 {
            hour.waited(at(0), Duration::from_millis(ms));
        }
        let Spread { count, p50_ms, p99_ms } = hour.wait(at(0));
        assert_eq!(count, 1_000);
        assert!((500..=626).contains(&p50_ms.expect("some")), "{p50_ms:?}");
        assert!((990..=1_239).contains(&p99_ms.expect("some")), "{p99_ms:?}");
        assert_eq!(size(Duration::ZERO), 0);
        assert_eq!(size(Duration::from_secs(999_999)), SIZES - 1);
    }

    #[test]
    fn spans_are_sorted_by_their_bounds() {
        let mut spans = Spans::default();
        for ms in [0, 1, 2, 10, 9_999_999] {
            spans.add(Duration::from_millis(ms));
        }
        assert_eq!((spans.count, spans.sizes[0], spans.sizes[1], spans.sizes[2]), (5, 2, 1, 1));
        assert_eq!(spans.sizes[BOUNDS_MS.len()], 1);
    }
}
