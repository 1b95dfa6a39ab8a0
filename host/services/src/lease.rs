//! Whether this host may still send work: only while the store has heard of it lately. Other hosts take one that
//! is silent for dead, so a host that was cut off, or stood still, stops before they do.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ports::clock::Clock;
use ports::error::StoreError;
use ports::hosts::Hosts;
use ports::link::Link;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::rhythm::Rhythm;

/// Between two signs of life.
const EVERY: Duration = Duration::from_secs(1);
/// A sign of life is good for this long.
pub const GOOD_FOR: Duration = Duration::from_secs(4);
/// A host that is silent for this long is dead to the others.
pub const SILENCE: Duration = Duration::from_secs(6);

/// The lease. A host that has its store for itself has it for ever.
pub struct Lease {
    hosts: Arc<dyn Hosts>,
    inner: Mutex<Inner>,
    renewed: Notify,
}

struct Inner {
    /// When the latest sign of life that was stored was given.
    since: Instant,
    /// Since when there was no gap.
    steady: Instant,
    /// How many other hosts there were then.
    others: u32,
}

impl Lease {
    /// A lease that begins now.
    pub fn new(hosts: Arc<dyn Hosts>) -> Lease {
        let now = Instant::now();
        Lease { hosts, inner: Mutex::new(Inner { since: now, steady: now, others: 0 }), renewed: Notify::new() }
    }

    /// Whether work may be sent.
    pub fn is_held(&self) -> bool {
        !self.hosts.is_shared() || self.lock().since.elapsed() < GOOD_FOR
    }

    /// Waits until work may be sent.
    pub async fn held(&self) {
        loop {
            let renewed = self.renewed.notified();
            tokio::pin!(renewed);
            renewed.as_mut().enable();
            if self.is_held() {
                return;
            }
            renewed.await;
        }
    }

    /// When work may be sent no more, unless the store hears of this host before that.
    fn ends(&self) -> Instant {
        self.lock().since + GOOD_FOR
    }

    /// How many other hosts there were when this one was last heard.
    pub fn others(&self) -> u32 {
        self.lock().others
    }

    /// Gives a sign of life.
    ///
    /// # Errors
    /// The store's; the lease runs on as it did.
    pub async fn renew(&self) -> Result<(), StoreError> {
        let begun = Instant::now();
        let others = self.hosts.beat(SILENCE).await?;
        let mut inner = self.lock();
        if begun.duration_since(inner.since) >= GOOD_FOR {
            inner.steady = begun;
        }
        (inner.since, inner.others) = (begun, others);
        drop(inner);
        self.renewed.notify_waiters();
        Ok(())
    }

    /// Whether this host was heard for so long that the silence of others is theirs and not the store's.
    fn may_judge(&self) -> bool {
        self.is_held() && self.lock().steady.elapsed() > SILENCE
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the lease, and closes what dead hosts left behind.
pub struct Heartbeat {
    /// The lease.
    pub lease: Arc<Lease>,
    /// The others.
    pub hosts: Arc<dyn Hosts>,
    /// Sessions here.
    pub link: Arc<dyn Link>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl Heartbeat {
    /// Beats until told to stop; at once over when no other host can share the store.
    pub async fn run(self, stop: CancellationToken) {
        if !self.hosts.is_shared() {
            return;
        }
        tokio::join!(self.beat(stop.clone()), self.watch(stop));
    }

    async fn beat(&self, stop: CancellationToken) {
        let mut rhythm = Rhythm::new(EVERY, stop);
        while rhythm.next().await {
            if let Err(error) = self.step().await {
                tracing::debug!(%error, "the store does not hear of this host");
            }
        }
    }

    /// The lease ends by the clock alone: beside the beats, for one that is sent down a dead line is answered late.
    async fn watch(&self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep_until(self.lease.ends()) => {}
            }
            if self.lease.is_held() {
                continue;
            }
            let others = self.lease.others();
            tracing::warn!(others, "the store has not heard of this host for a while; it sends nothing more");
            // Alone, it is the store that is away: then agents are best off where they are.
            if others > 0 {
                self.link.leave_all();
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.lease.held() => tracing::info!("the store hears of this host again"),
            }
        }
    }

    /// One sign of life, and one look for dead hosts.
    ///
    /// # Errors
    /// The store's.
    pub async fn step(&self) -> Result<(), StoreError> {
        self.lease.renew().await?;
        if self.lease.may_judge() {
            let closed = self.hosts.bury(SILENCE, self.clock.now()).await?;
            if closed > 0 {
                tracing::warn!(closed, "another host has died; the sessions it left behind are closed");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::{AtomicBool, Ordering};

    use async_trait::async_trait;
    use domain::time::Timestamp;
    use ports::commands::{Due, Open};
    use ports::link::Settle;

    use super::*;

    /// A store that is there or away.
    #[derive(Default)]
    struct Shared {
        away: AtomicBool,
    }

    #[async_trait]
    impl Hosts for Shared {
        fn is_shared(&self) -> bool {
            true
        }

        async fn beat(&self, _: Duration) -> Result<u32, StoreError> {
            match self.away.load(Ordering::Relaxed) {
                true => Err(StoreError::Unavailable("away".to_owned())),
                false => Ok(1),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_the_store_has_not_heard_of_sends_nothing_until_it_has() {
        let store = Arc::new(Shared::default());
        let lease = Lease::new(store.clone());
        assert!(lease.is_held());
        store.away.store(true, Ordering::Relaxed);
        tokio::time::advance(GOOD_FOR).await;
        lease.renew().await.expect_err("away");
        assert!(!lease.is_held());
        let held = lease.held();
        tokio::pin!(held);
        assert!(futures_util::poll!(&mut held).is_pending());
        store.away.store(false, Ordering::Relaxed);
        lease.renew().await.expect("there");
        held.await;
        assert!(!lease.may_judge(), "it was silent itself");
        for _ in 0..4 {
            tokio::time::advance(Duration::from_secs(2)).await;
            lease.renew().await.expect("there");
        }
        assert!(lease.may_judge());
    }

    /// It was there once, and then its line goes dead: nothing is refused, and nothing is answered.
    #[derive(Default)]
    struct Dead {
        line: AtomicBool,
    }

    #[async_trait]
    impl Hosts for Dead {
        fn is_shared(&self) -> bool {
            true
        }

        async fn beat(&self, _: Duration) -> Result<u32, StoreError> {
            if self.line.swap(true, Ordering::Relaxed) { pending().await } else { Ok(1) }
        }
    }

    #[derive(Default)]
    struct Sessions {
        left: Notify,
    }

    impl Link for Sessions {
        fn offer(&self, _: Vec<Due>) {}

        fn settle(&self, _: Open, _: Settle) -> bool {
            false
        }

        fn leave_all(&self) {
            self.left.notify_one();
        }

        fn cut(&self, _: plan::id::AgentId, _: &str) {}
    }

    struct Noon;

    impl Clock for Noon {
        fn now(&self) -> Timestamp {
            Timestamp(0)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn agents_are_sent_away_when_the_lease_ends_though_the_store_still_owes_an_answer() {
        let hosts: Arc<dyn Hosts> = Arc::new(Dead::default());
        let (lease, link) = (Arc::new(Lease::new(hosts.clone())), Arc::new(Sessions::default()));
        let heartbeat = Heartbeat { lease: lease.clone(), hosts, link: link.clone(), clock: Arc::new(Noon) };
        let begun = Instant::now();
        tokio::select! {
            biased;
            () = link.left.notified() => {}
            () = heartbeat.run(CancellationToken::new()) => panic!("nobody was sent away"),
        }
        assert!(!lease.is_held());
        assert_eq!(begun.elapsed().as_secs(), GOOD_FOR.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_has_its_store_for_itself_needs_no_lease() {
        struct Alone;
        impl Hosts for Alone {}
        let lease = Lease::new(Arc::new(Alone));
        tokio::time::advance(GOOD_FOR * 100).await;
        assert!(lease.is_held());
    }
}
