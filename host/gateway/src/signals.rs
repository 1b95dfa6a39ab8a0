//! What a session is told besides frames: that there is something to look at, or that it is over. A
//! signal is seen once however often it is raised, and all of them cost a session one look.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU16, Ordering};
use std::task::Poll;

use futures_util::task::AtomicWaker;

/// One thing to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Signal {
    /// Attempts are to be ended.
    Wishes = 1,
    /// Offers were dropped for want of room.
    Overflow = 1 << 1,
    /// The agent is to make another key.
    AskKey = 1 << 2,
    /// The store may have lost what it was told.
    Retell = 1 << 3,
    /// A newer session took over.
    Replaced = 1 << 4,
    /// Another host has the agent, or may have it.
    Overtaken = 1 << 5,
    /// The agent was revoked.
    Cut = 1 << 6,
    /// There is something to run in its mailbox.
    Offers = 1 << 7,
    /// Something waits for it in the store.
    Look = 1 << 8,
}

/// The signals of one session: many may raise them, the session alone waits for them.
#[derive(Debug, Default)]
pub struct Signals {
    raised: AtomicU16,
    session: AtomicWaker,
}

/// Signals that were raised since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raised(u16);

impl Raised {
    /// Whether this one was.
    pub fn has(self, signal: Signal) -> bool {
        self.0 & signal as u16 != 0
    }
}

impl Signals {
    /// Tells the session.
    pub fn raise(&self, signal: Signal) {
        self.raised.fetch_or(signal as u16, Ordering::AcqRel);
        self.session.wake();
    }

    /// Whether it was raised and not seen yet.
    pub fn is_raised(&self, signal: Signal) -> bool {
        Raised(self.raised.load(Ordering::Acquire)).has(signal)
    }

    /// Waits until there are some and takes them all. Cancel safe.
    pub async fn any(&self) -> Raised {
        poll_fn(|context| {
            if let Some(raised) = self.take() {
                return Poll::Ready(raised);
            }
            self.session.register(context.waker());
            // Raised between the look and the registration: nobody would have been woken.
            self.take().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    fn take(&self) -> Option<Raised> {
        // Most looks find nothing, and reading costs less than writing.
        let any = self.raised.load(Ordering::Acquire) != 0;
        any.then(|| Raised(self.raised.swap(0, Ordering::AcqRel))).filter(|raised| raised.0 != 0)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, poll};

    use super::*;

    #[tokio::test]
    async fn signals_are_seen_together_and_once_whenever_they_were_raised() {
        let signals = Signals::default();
        assert_eq!(signals.any().now_or_never(), None);
        for signal in [Signal::Retell, Signal::Cut, Signal::Retell] {
            signals.raise(signal);
        }
        assert!(signals.is_raised(Signal::Cut));
        let raised = signals.any().await;
        assert!(raised.has(Signal::Retell) && raised.has(Signal::Cut) && !raised.has(Signal::Wishes));
        let mut waiting = std::pin::pin!(signals.any());
        assert!(poll!(&mut waiting).is_pending());
        signals.raise(Signal::Wishes);
        assert!(waiting.await.has(Signal::Wishes));
    }

    #[tokio::test]
    async fn who_waits_on_another_thread_is_woken() {
        let signals = std::sync::Arc::new(Signals::default());
        let mut session = tokio::task::JoinSet::new();
        let waiting = signals.clone();
        session.spawn(async move { waiting.any().await });
        tokio::task::yield_now().await;
        std::thread::spawn(move || signals.raise(Signal::Overtaken)).join().expect("raised");
        let raised = session.join_next().await.expect("a session").expect("it ends");
        assert!(raised.has(Signal::Overtaken));
    }
}
