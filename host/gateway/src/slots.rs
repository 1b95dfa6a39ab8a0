//! How many attempts all agents of this host run at once, over all sessions: a slot is held from `sent`
//! until the agent says how it ended.
//!
//! Invariant: a session that found none free asks again when one is given back, or passes the word on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// The slots of a host.
pub struct Slots {
    bound: usize,
    taken: AtomicUsize,
    freed: Notify,
}

/// One slot; dropped, it is free again.
pub struct Slot(Arc<Slots>);

impl Slots {
    /// So many at once.
    pub fn new(bound: usize) -> Arc<Slots> {
        Arc::new(Slots { bound, taken: AtomicUsize::new(0), freed: Notify::new() })
    }

    /// Takes a slot, if one is free.
    pub fn take(self: &Arc<Slots>) -> Option<Slot> {
        let more = |taken: usize| (taken < self.bound).then_some(taken + 1);
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok().map(|_| Slot(self.clone()))
    }

    /// Takes a slot for what runs already, whatever the bound says.
    pub fn take_anyway(self: &Arc<Slots>) -> Slot {
        self.taken.fetch_add(1, Ordering::AcqRel);
        Slot(self.clone())
    }

    /// Returns when a slot was given back, to one of those who wait. Cancel safe.
    pub async fn freed(&self) {
        self.freed.notified().await;
    }

    /// Whoever was woken does not need it: somebody else may.
    pub fn pass_on(&self) {
        if self.taken.load(Ordering::Acquire) < self.bound {
            self.freed.notify_one();
        }
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn there_are_so_many_and_one_that_is_given_back_wakes_one() {
        let slots = Slots::new(2);
        let first = slots.take().expect("free");
        let _second = slots.take().expect("free");
        assert!(slots.take().is_none());
        let third = slots.take_anyway();
        assert_eq!(slots.taken(), 3, "what runs already counts");
        drop(third);
        assert!(slots.take().is_none());
        drop(first);
        tokio::time::timeout(std::time::Duration::from_secs(5), slots.freed()).await.expect("woken");
        assert!(slots.take().is_some());
    }
}
