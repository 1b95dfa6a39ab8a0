//! Small bounded token buckets: how often one address may guess one name's password, how fast one may ask, how
//! many refusals of one are written down.
//!
//! A try takes a token before any work is done and gets it back when it was right, so parallel
//! guesses count as much as those one after the other.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use domain::time::Timestamp;

/// Buckets by key. Each holds `burst` tokens and gains one every `refill`.
pub struct Limiter<K> {
    burst: u32,
    refill: Duration,
    capacity: usize,
    buckets: Mutex<HashMap<K, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// When it is full again. It lacks one token for every `refill` until then.
    full_at: Timestamp,
}

impl<K: Clone + Eq + Hash> Limiter<K> {
    /// At most `capacity` buckets are kept; beyond it the one nearest to full is forgotten.
    pub fn new(burst: u32, refill: Duration, capacity: usize) -> Limiter<K> {
        Limiter { burst, refill, capacity: capacity.max(1), buckets: Mutex::default() }
    }

    /// Takes a token; how long until `key` has all of them again.
    ///
    /// # Errors
    /// There is none; how long until there is one.
    pub fn take<Q>(&self, key: &Q, now: Timestamp) -> Result<Duration, Duration>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let room = self.refill * self.burst;
        let known = buckets.get_mut(key);
        let full_at = self.full_at(known.as_ref().map(|bucket| **bucket), now) + self.refill;
        let debt = full_at.since(now);
        if debt > room {
            return Err(debt - room);
        }
        if let Some(bucket) = known {
            bucket.full_at = full_at;
            return Ok(debt);
        }
        if buckets.len() >= self.capacity {
            // One that is further from full than empty is of before the clock was set back, and full by now.
            buckets.retain(|_, bucket| bucket.full_at > now && bucket.full_at.since(now) <= room);
            if buckets.len() >= self.capacity
                && let Some(nearest) =
                    buckets.iter().min_by_key(|(_, bucket)| bucket.full_at).map(|(key, _)| key.clone())
            {
                buckets.remove::<K>(&nearest);
            }
        }
        buckets.insert(key.to_owned(), Bucket { full_at });
        Ok(debt)
    }

    /// When a bucket is full again. None is more than empty: what one that seems to be held before the clock was set back
    /// nobody knows, and it counts as full.
    fn full_at(&self, bucket: Option<Bucket>, now: Timestamp) -> Timestamp {
        let can_be = bucket.filter(|bucket| bucket.full_at <= now + self.refill * self.burst);
        can_be.map_or(now, |bucket| bucket.full_at.max(now))
    }

    /// How many buckets are kept.
    #[cfg(test)]
    pub fn kept(&self) -> usize {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Gives a token back.
    pub fn give<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = buckets.get_mut(key) {
            bucket.full_at = bucket.full_at - self.refill;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_burst_is_allowed_and_then_one_each_refill() {
        let limiter = Limiter::new(3, MINUTE, 10);
        let now = Timestamp(1_000_000);
        assert!((0..3).all(|_| limiter.take(&"a", now).is_ok()));
        assert_eq!(limiter.take(&"a", now), Err(MINUTE));
        assert_eq!(limiter.take(&"a", now + MINUTE / 2), Err(MINUTE / 2));
        assert_eq!(limiter.take(&"b", now), Ok(MINUTE));
        assert_eq!(limiter.take(&"a", now + MINUTE), Ok(MINUTE * 3));
        assert!(limiter.take(&"a", now + MINUTE).is_err());
        assert!((0..3).all(|_| limiter.take(&"a", now + MINUTE * 60).is_ok()), "never more than full, never less");
        assert!(limiter.take(&"a", now + MINUTE * 60).is_err());
    }

    #[test]
    fn a_clock_that_is_set_back_keeps_nobody_out() {
        let limiter = Limiter::new(3, MINUTE, 10);
        let before = Timestamp(1_700_000_000_000_000);
        assert!(limiter.take(&"a", before).is_ok());
        let now = before - MINUTE * 60;
        assert_eq!([1, 2, 3].map(|_| limiter.take(&"a", now)), [1, 2, 3].map(|taken| Ok(MINUTE * taken)));
        assert_eq!(limiter.take(&"a", now), Err(MINUTE));
    }

    #[test]
    fn a_token_given_back_can_be_taken_again() {
        let limiter = Limiter::new(1, MINUTE, 10);
        for _ in 0..5 {
            assert_eq!(limiter.take(&"a", Timestamp(0)), Ok(MINUTE));
            limiter.give(&"a");
        }
    }

    #[test]
    fn it_never_grows_beyond_its_capacity() {
        let limiter = Limiter::new(2, MINUTE, 8);
        assert!((0..2).all(|_| limiter.take(&u32::MAX, Timestamp(0)).is_ok()));
        for key in 0..1000 {
            assert!(limiter.take(&key, Timestamp(0)).is_ok());
        }
        assert!(limiter.kept() <= 8);
        assert!(limiter.take(&u32::MAX, Timestamp(0)).is_err(), "the emptiest bucket is the last to be forgotten");
    }
}
