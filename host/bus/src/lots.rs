//! Tokens of shared buckets: who asks this host for one while it asks for others of that bucket is asked for by its
//! next request, together with all who do; and while most of a bucket is there, a few more are taken than are asked for.
//!
//! Invariant: one request for a bucket at a time; what a request brought is given out once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use ports::paces::Taken;
use tokio::time::Instant;

/// What was taken ahead is used within this time or not at all; as much as is lost so comes back to the bucket meanwhile.
const AHEAD_FOR: Duration = Duration::from_secs(1);
/// Most tokens taken ahead: by so much at each host may a burst be longer than it should.
const MOST_AHEAD: u32 = 64;
/// The part of a bucket that is taken ahead.
const PART_AHEAD: u32 = 32;
/// Of a bucket that holds fewer nothing is taken ahead: where tries are counted, each counts.
const EXACT_BELOW: u32 = 256;
/// With more buckets than these, what was taken ahead too long ago is forgotten, each [`AHEAD_FOR`].
const TIDY_ABOVE: usize = 1_024;

/// What a request is to bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// For those who wait.
    pub tokens: u32,
    /// Besides, if half of the bucket is there after it.
    pub ahead: u32,
}

/// What a request brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    pub tokens: u32,
    /// How long until the bucket is full again, all of these taken.
    pub full_in: Duration,
}

type Answer = BoxFuture<'static, Option<Given>>;

/// The tokens.
#[derive(Default)]
pub(crate) struct Lots(Mutex<Book>);

#[derive(Default)]
struct Book {
    lots: HashMap<String, Lot>,
    tidied: Option<Instant>,
}

struct Lot {
    waiting: u32,
    asking: Option<WeakShared<Answer>>,
    left: u32,
    until: Instant,
    full_at: Instant,
}

/// One who waits, until it is served or goes away.
struct Place<'a> {
    lots: &'a Lots,
    key: &'a str,
    served: bool,
}

impl Lots {
    /// One token of the bucket `key`, of those at hand or of those that `ask` brings; `None` when that cannot say.
    pub async fn take(
        self: &Arc<Lots>,
        key: &str,
        burst: u32,
        refill: Duration,
        ask: impl Fn(Wanted) -> Answer,
    ) -> Option<Taken> {
        let mut place = Place::at(self, key);
        loop {
            let answer = {
                let mut book = self.lock();
                let lot = book.lots.entry(key.to_owned()).or_insert_with(Lot::empty);
                if let Some(full_in) = lot.one(refill) {
                    // In the same breath, or the next request would ask for this one once more.
                    place.served = true;
                    book.leave(key);
                    return Some(Taken { granted: true, full_in });
                }
                match lot.asking.as_ref().and_then(WeakShared::upgrade) {
                    Some(answer) => answer,
                    None => {
                        let wanted = Wanted { tokens: lot.waiting, ahead: ahead(burst, refill) };
                        self.ask(key, lot, ask(wanted))
                    }
                }
            };
            let Given { tokens, full_in } = answer.await?;
            if tokens == 0 {
                return Some(Taken { granted: false, full_in });
            }
        }
    }

    /// Puts what comes where all find it, before anybody is told that it came.
    fn ask(self: &Arc<Lots>, key: &str, lot: &mut Lot, answer: Answer) -> Shared<Answer> {
        let (lots, key) = (self.clone(), key.to_owned());
        let answer = answer.map(move |given| {
            if let Some(lot) = lots.lock().lots.get_mut(&key) {
                lot.came(given);
            }
            given
        });
        let answer = answer.boxed().shared();
        lot.asking = answer.downgrade();
        answer
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ahead(burst: u32, refill: Duration) -> u32 {
    let comes_back = AHEAD_FOR.as_nanos() / refill.as_nanos().max(1);
    let most = u32::try_from(comes_back).unwrap_or(u32::MAX).min(MOST_AHEAD);
    if burst < EXACT_BELOW { 0 } else { (burst / PART_AHEAD).min(most) }
}

impl Book {
    /// One waits no more.
    fn leave(&mut self, key: &str) {
        let now = Instant::now();
        if let Some(lot) = self.lots.get_mut(key) {
            lot.waiting -= 1;
            if lot.is_over(now) {
                self.lots.remove(key);
            }
        }
        if self.lots.len() > TIDY_ABOVE && self.tidied.is_none_or(|tidied| now >= tidied + AHEAD_FOR) {
            self.tidied = Some(now);
            self.lots.retain(|_, lot| !lot.is_over(now));
        }
    }
}

impl Lot {
    fn empty() -> Lot {
        let now = Instant::now();
        Lot { waiting: 0, asking: None, left: 0, until: now, full_at: now }
    }

    /// One of those at hand: how long until the bucket would be full had the others not been taken.
    fn one(&mut self, refill: Duration) -> Option<Duration> {
        let now = Instant::now();
        self.left = self.at_hand(now).checked_sub(1)?;
        Some(self.full_at.saturating_duration_since(now).saturating_sub(refill * self.left))
    }

    fn at_hand(&self, now: Instant) -> u32 {
        if now < self.until { self.left } else { 0 }
    }

    fn is_over(&self, now: Instant) -> bool {
        self.waiting == 0 && self.at_hand(now) == 0
    }

    fn came(&mut self, given: Option<Given>) {
        self.asking = None;
        if let Some(Given { tokens, full_in }) = given {
            let now = Instant::now();
            (self.left, self.until, self.full_at) = (tokens, now + AHEAD_FOR, now + full_in);
        }
    }
}

impl<'a> Place<'a> {
    fn at(lots: &'a Lots, key: &'a str) -> Place<'a> {
        lots.lock().lots.entry(key.to_owned()).or_insert_with(Lot::empty).waiting += 1;
        Place { lots, key, served: false }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.served {
            self.lots.lock().leave(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::future::{join_all, ready};
    use tokio::sync::Semaphore;

    use super::*;

    const REFILL: Duration = Duration::from_millis(1);

    /// A bucket that answers when it is let, and remembers what it was asked for.
    struct Bucket {
        there: AtomicU32,
        asked: Mutex<Vec<Wanted>>,
        may_answer: Semaphore,
    }

    impl Bucket {
        fn of(tokens: u32, answers: usize) -> Arc<Bucket> {
            let (there, may_answer) = (AtomicU32::new(tokens), Semaphore::new(answers));
            Arc::new(Bucket { there, asked: Mutex::default(), may_answer })
        }

        fn asked(&self) -> Vec<Wanted> {
            self.asked.lock().expect("no holder panics").clone()
        }

        fn ask(self: &Arc<Bucket>, wanted: Wanted) -> Answer {
            let bucket = self.clone();
            async move {
                bucket.asked.lock().expect("no holder panics").push(wanted);
                bucket.may_answer.acquire().await.expect("open").forget();
                let tokens = (wanted.tokens + wanted.ahead).min(bucket.there.load(Ordering::Relaxed));
                bucket.there.fetch_sub(tokens, Ordering::Relaxed);
                Some(Given { tokens, full_in: REFILL * 100 })
            }
            .boxed()
        }
    }

    async fn take(lots: &Arc<Lots>, burst: u32, bucket: &Arc<Bucket>) -> Option<Taken> {
        lots.take("ada", burst, REFILL, |wanted| bucket.ask(wanted)).await
    }

    #[tokio::test]
    async fn who_asks_while_others_are_asked_for_is_asked_for_with_all_who_do() {
        let (lots, bucket) = (Arc::new(Lots::default()), Bucket::of(60, 0));
        let asking = join_all((0..64).map(|_| take(&lots, 100, &bucket)));
        let letting = async {
            for _ in 0..3 {
                bucket.may_answer.add_permits(1);
                tokio::task::yield_now().await;
            }
        };
        let (answers, ()) = tokio::join!(asking, letting);
        let granted = answers.iter().flatten().filter(|taken| taken.granted).count();
        assert_eq!((granted, answers.iter().flatten().count()), (60, 64));
        let wanted = |tokens| Wanted { tokens, ahead: 0 };
        assert_eq!(bucket.asked(), [wanted(1), wanted(63), wanted(4)]);
        assert!(lots.lock().lots.is_empty(), "nothing is kept of who asked");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_taken_ahead_is_given_out_for_a_second_and_told_as_if_it_were_taken_one_by_one() {
        let (lots, bucket) = (Arc::new(Lots::default()), Bucket::of(1_000, 9));
        for left in (0..=64).rev() {
            let full_in = REFILL * (100 - left);
            assert_eq!(take(&lots, 100_000, &bucket).await, Some(Taken { granted: true, full_in }));
        }
        assert_eq!(bucket.asked(), [Wanted { tokens: 1, ahead: MOST_AHEAD }]);
        assert!(lots.lock().lots.is_empty());
        assert!(take(&lots, 100_000, &bucket).await.is_some_and(|taken| taken.granted));
        tokio::time::advance(AHEAD_FOR).await;
        assert!(take(&lots, 100_000, &bucket).await.is_some_and(|taken| taken.granted));
        assert_eq!(bucket.asked().len(), 3, "the second lot was too old");
    }

    #[test]
    fn of_a_small_bucket_nothing_is_taken_ahead_and_of_a_slow_one_what_comes_back_in_time() {
        let of = |burst| ahead(burst, REFILL);
        assert_eq!([0, 10, 200, EXACT_BELOW - 1].map(of), [0; 4]);
        assert_eq!([EXACT_BELOW, 2_000, 2_048, u32::MAX].map(of), [8, 62, 64, MOST_AHEAD]);
        // Nor more than comes back while it is held.
        assert_eq!([20, 100, 1_001].map(|ms| ahead(2_000, Duration::from_millis(ms))), [50, 10, 0]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_more_is_asked_for_than_wait_however_many_threads_ask() {
        let (lots, bucket) = (Arc::new(Lots::default()), Bucket::of(u32::MAX, 20_000));
        let at_once = Arc::new(tokio::sync::Barrier::new(16));
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let (lots, bucket, at_once) = (lots.clone(), bucket.clone(), at_once.clone());
            asking.spawn(async move {
                // Each round has a bucket of its own, so that what one takes too much is used by no other.
                for round in 0..1_000 {
                    at_once.wait().await;
                    let taken = lots.take(&round.to_string(), 100, REFILL, |wanted| bucket.ask(wanted)).await;
                    assert!(taken.is_some_and(|taken| taken.granted));
                }
            });
        }
        asking.join_all().await;
        assert_eq!(u32::MAX - bucket.there.load(Ordering::Relaxed), 16_000);
        assert!(lots.lock().lots.is_empty());
    }

    #[tokio::test]
    async fn who_goes_away_keeps_nobody_waiting() {
        let (lots, bucket) = (Arc::new(Lots::default()), Bucket::of(10, 0));
        let mut first = Box::pin(take(&lots, 100, &bucket));
        assert_eq!((&mut first).now_or_never(), None);
        let mut second = Box::pin(take(&lots, 100, &bucket));
        assert_eq!((&mut second).now_or_never(), None);
        drop(first);
        bucket.may_answer.add_permits(1);
        assert!(second.await.is_some_and(|taken| taken.granted));
        // Alone, it takes its question with it.
        let mut third = Box::pin(take(&lots, 100, &bucket));
        assert_eq!((&mut third).now_or_never(), None);
        drop(third);
        bucket.may_answer.add_permits(1);
        assert!(take(&lots, 100, &bucket).await.is_some_and(|taken| taken.granted));
        assert!(lots.lock().lots.is_empty());
    }

    #[tokio::test]
    async fn where_nobody_can_say_all_who_wait_are_told_so() {
        let lots = Arc::new(Lots::default());
        let silent = async || lots.take("ada", 100, REFILL, |_| ready(None).boxed()).await;
        assert_eq!(tokio::join!(silent(), silent()), (None, None));
        assert!(lots.lock().lots.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_lies_too_long_is_forgotten_when_there_is_much_of_it() {
        let (lots, bucket) = (Arc::new(Lots::default()), Bucket::of(u32::MAX, 2 * TIDY_ABOVE));
        for number in 0..TIDY_ABOVE {
            lots.take(&number.to_string(), 2_000, REFILL, |wanted| bucket.ask(wanted)).await;
        }
        assert_eq!(lots.lock().lots.len(), TIDY_ABOVE);
        tokio::time::advance(AHEAD_FOR).await;
        take(&lots, 2_000, &bucket).await;
        assert_eq!(lots.lock().lots.len(), 1);
    }
}
