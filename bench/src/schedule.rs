//! When things are due. An open loop sends by a schedule made beforehand and never waits for answers,
//! so that a stall is charged to everything that should have been sent meanwhile.
//!
//! Invariant: due times are computed before the first one is reached; nothing moves them later.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_nanosleep};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::Semaphore;

/// Nanoseconds on the machine's monotonic clock.
pub fn now_ns() -> u64 {
    let now = ClockId::CLOCK_MONOTONIC.now().expect("every Linux has a monotonic clock");
    nanos(Duration::from(now))
}

/// A duration in nanoseconds; half a millennium at most.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Blocks this thread until the monotonic clock shows `due`. Timers of the async runtime tick in
/// milliseconds and would send in bursts.
pub fn sleep_until(due: u64) {
    let at = TimeSpec::from_duration(Duration::from_nanos(due));
    while let Err(Errno::EINTR) = clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::TIMER_ABSTIME, &at) {}
}

/// The part of a run that is measured; what is due before it is warm-up. Monotonic nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First instant inside.
    pub from: u64,
    /// First instant after.
    pub to: u64,
}

impl Window {
    /// Begins after `warmup` from now and lasts for `duration`.
    pub fn after(warmup: Duration, duration: Duration) -> Window {
        let from = now_ns() + nanos(warmup);
        Window { from, to: from + nanos(duration) }
    }

    /// Whether `at` is inside.
    pub fn holds(&self, at: u64) -> bool {
        (self.from..self.to).contains(&at)
    }

    /// Its length in seconds.
    pub fn seconds(&self) -> f64 {
        (self.to - self.from) as f64 / 1e9
    }
}

/// Due times, as nanoseconds after the start, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    offsets: Vec<u64>,
}

impl Schedule {
    /// `rate` per second, evenly spaced, over `length`.
    pub fn constant(rate: f64, length: Duration) -> Schedule {
        let count = (rate * length.as_secs_f64()).floor() as u64;
        Schedule { offsets: (0..count).map(|i| (i as f64 * 1e9 / rate) as u64).collect() }
    }

    /// `rate` per second on average, arrivals independent of each other, over `length`.
    pub fn poisson(rate: f64, length: Duration, seed: u64) -> Schedule {
        let mut chance = StdRng::seed_from_u64(seed);
        let mut offsets = Vec::new();
        let mut at = 0.0_f64;
        loop {
            let uniform: f64 = chance.random();
            at += -(1.0 - uniform).ln() / rate;
            if at >= length.as_secs_f64() {
                return Schedule { offsets };
            }
            offsets.push((at * 1e9) as u64);
        }
    }

    /// The due times of a schedule that begins at `start`, monotonic nanoseconds.
    pub fn due(&self, start: u64) -> impl Iterator<Item = u64> + '_ {
        self.offsets.iter().map(move |offset| start + offset)
    }

    /// How many things are due.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.offsets.len()
    }
}

/// Hands each due time to one waiting worker, when it is reached and not before.
pub struct Turnstile {
    schedule: Schedule,
    start: u64,
    open: Semaphore,
    next: AtomicUsize,
}

impl Turnstile {
    /// The schedule begins at `start`, monotonic nanoseconds.
    pub fn new(schedule: Schedule, start: u64) -> Arc<Turnstile> {
        Arc::new(Turnstile { schedule, start, open: Semaphore::new(0), next: AtomicUsize::new(0) })
    }

    /// How many things are due inside `window`.
    pub fn due_inside(&self, window: Window) -> u64 {
        self.schedule.due(self.start).filter(|due| window.holds(*due)).count() as u64
    }

    /// Drives the schedule to its end; blocks, so it has a thread of its own. `workers` is how many
    /// tasks call [`take`](Self::take): each is let through once more, to find that nothing is left. What is due within
    /// one `lump` of time is let through at its end, together.
    pub fn drive(&self, workers: usize, lump: Duration) {
        let lump = nanos(lump).max(1);
        for due in self.schedule.due(self.start) {
            let at = due.next_multiple_of(lump);
            if now_ns() < at {
                sleep_until(at);
            }
            self.open.add_permits(1);
        }
        self.open.add_permits(workers);
    }

    /// The next due time that has been reached; `None` when the schedule is over. Its wait for a free
    /// worker is part of what is measured, because the due time does not move.
    pub async fn take(&self) -> Option<u64> {
        self.open.acquire().await.expect("never closed").forget();
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        self.schedule.offsets.get(index).map(|offset| self.start + offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_schedule_is_evenly_spaced_and_does_not_drift() {
        let schedule = Schedule::constant(3.0, Duration::from_secs(1000));
        assert_eq!(schedule.len(), 3000);
        assert_eq!(schedule.offsets[..4], [0, 333_333_333, 666_666_666, 1_000_000_000]);
        assert_eq!(schedule.offsets[2997], 999_000_000_000);
    }

    #[test]
    fn a_poisson_schedule_has_its_rate_is_ascending_and_repeats_by_seed() {
        let schedule = Schedule::poisson(1000.0, Duration::from_secs(20), 7);
        assert!((19_000..21_000).contains(&schedule.len()), "{}", schedule.len());
        assert!(schedule.offsets.is_sorted());
        assert_eq!(schedule, Schedule::poisson(1000.0, Duration::from_secs(20), 7));
        assert_ne!(schedule, Schedule::poisson(1000.0, Duration::from_secs(20), 8));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nobody_gets_through_early_and_everybody_gets_a_due_time_of_the_schedule() {
        let start = now_ns() + 5_000_000;
        let turnstile = Turnstile::new(Schedule::constant(2000.0, Duration::from_millis(50)), start);
        let mut workers = tokio::task::JoinSet::new();
        for _ in 0..3 {
            let turnstile = turnstile.clone();
            workers.spawn(async move {
                let mut seen = Vec::new();
                while let Some(due) = turnstile.take().await {
                    assert!(now_ns() >= due, "let through before it was due");
                    seen.push(due - start);
                }
                seen
            });
        }
        let driver = turnstile.clone();
        let thread = std::thread::spawn(move || driver.drive(3, Duration::ZERO));
        let mut seen: Vec<u64> = workers.join_all().await.concat();
        thread.join().expect("driver ends");
        seen.sort_unstable();
        assert_eq!(seen, turnstile.schedule.offsets);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_late_worker_is_given_the_due_time_it_missed_not_a_fresh_one() {
        // The whole schedule lies in the past: what comes out are its instants, not now.
        let start = now_ns() - 1_000_000_000;
        let turnstile = Turnstile::new(Schedule::constant(10.0, Duration::from_millis(300)), start);
        turnstile.drive(1, Duration::from_millis(1));
        let mut seen = Vec::new();
        while let Some(due) = turnstile.take().await {
            seen.push(due - start);
        }
        assert_eq!(seen, [0, 100_000_000, 200_000_000]);
    }
}
