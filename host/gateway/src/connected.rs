//! The sessions there are, and how the rest of the host reaches them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use plan::id::{AgentId, AttemptKey};
use ports::commands::{Due, Open};
use ports::link::{Link, Settle};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

/// Offers waiting for one session; what does not fit is read back from the store.
const MAILBOX: usize = 256;

/// All sessions of this host.
#[derive(Default)]
pub struct Connected {
    sessions: RwLock<HashMap<AgentId, Handle>>,
    /// Sessions whose ends are not written down yet.
    unwritten: Mutex<HashMap<(AgentId, u64), CancellationToken>>,
}

/// Held until a session's end is written down.
pub struct Farewell {
    connected: Arc<Connected>,
    agent: AgentId,
    epoch: u64,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        if let Some(written) = self.connected.unwritten().remove(&(self.agent, self.epoch)) {
            written.cancel();
        }
    }
}

/// Attempts of one agent that are to be ended: none is dropped, for there is at most one of a kind for each
/// attempt that is not over, and those are bounded.
#[derive(Debug, Default)]
pub struct Wishes {
    waiting: Mutex<HashMap<(AttemptKey, Settle), Open>>,
    wake: Notify,
}

impl Wishes {
    /// Waits until there may be one. Cancel safe.
    pub async fn any(&self) {
        self.wake.notified().await;
    }

    /// Takes them all.
    pub fn take(&self) -> Vec<(Open, Settle)> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.drain().map(|((_, why), open)| (open, why)).collect()
    }

    fn add(&self, open: Open, why: Settle) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert((open.key, why), open);
        self.wake.notify_one();
    }
}

#[derive(Clone)]
struct Handle {
    epoch: u64,
    offers: mpsc::Sender<Due>,
    wishes: Arc<Wishes>,
    overflow: Arc<Overflow>,
    retell: Arc<Notify>,
    replaced: CancellationToken,
    cut: CancellationToken,
}

/// Said when offers were dropped for want of room.
#[derive(Debug, Default)]
pub struct Overflow {
    happened: AtomicBool,
    wake: Notify,
}

impl Overflow {
    /// Waits until offers were dropped. Cancel safe.
    pub async fn happened(&self) {
        loop {
            let waken = self.wake.notified();
            if self.happened.swap(false, Ordering::AcqRel) {
                return;
            }
            waken.await;
        }
    }

    fn set(&self) {
        self.happened.store(true, Ordering::Release);
        self.wake.notify_one();
    }
}

/// A session's own end of its handle; dropping it takes the session out.
pub struct Registration {
    connected: Arc<Connected>,
    agent: AgentId,
    epoch: u64,
    /// Freshly accepted invocations.
    pub offers: mpsc::Receiver<Due>,
    /// What is to be ended; to be looked at before anything is sent.
    pub wishes: Arc<Wishes>,
    /// Whether offers were dropped.
    pub overflow: Arc<Overflow>,
    /// Rung when the store may have lost what it was told.
    pub retell: Arc<Notify>,
    /// Set when a newer session took over.
    pub replaced: CancellationToken,
    /// Set when the agent was revoked.
    pub cut: CancellationToken,
}

impl Connected {
    /// Puts a session in; an older one of the same agent is told and ended. `None` when a newer one is there.
    pub fn register(self: &Arc<Self>, agent: AgentId, epoch: u64) -> Option<Registration> {
        let (sender, offers) = mpsc::channel(MAILBOX);
        let wishes = Arc::new(Wishes::default());
        let overflow = Arc::new(Overflow::default());
        let retell = Arc::new(Notify::new());
        let (replaced, cut) = (CancellationToken::new(), CancellationToken::new());
        let handle = Handle {
            epoch,
            offers: sender,
            wishes: wishes.clone(),
            overflow: overflow.clone(),
            retell: retell.clone(),
            replaced: replaced.clone(),
            cut: cut.clone(),
        };
        let mut sessions = self.sessions.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(older) = sessions.get(&agent) {
            if older.epoch >= epoch {
                return None;
            }
            older.replaced.cancel();
        }
        sessions.insert(agent, handle);
        drop(sessions);
        Some(Registration { connected: self.clone(), agent, epoch, offers, wishes, overflow, retell, replaced, cut })
    }

    /// To be taken at once when a session is registered, and held until its end is written down.
    pub fn farewell(self: &Arc<Self>, agent: AgentId, epoch: u64) -> Farewell {
        self.unwritten().insert((agent, epoch), CancellationToken::new());
        Farewell { connected: self.clone(), agent, epoch }
    }

    /// Ends the sessions that `agent` has here, and waits until what they sent is written down: whoever looks
    /// before that takes for never sent what is noted as sent a moment later, and then by nobody again.
    pub async fn overtake(&self, agent: AgentId) {
        if let Some(older) = self.handle(agent) {
            older.replaced.cancel();
        }
        let ends: Vec<CancellationToken> = {
            let unwritten = self.unwritten();
            unwritten.iter().filter(|((of, _), _)| *of == agent).map(|(_, written)| written.clone()).collect()
        };
        for written in ends {
            written.cancelled().await;
        }
    }

    fn unwritten(&self) -> MutexGuard<'_, HashMap<(AgentId, u64), CancellationToken>> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many sessions there are.
    pub fn count(&self) -> usize {
        self.sessions.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn handle(&self, agent: AgentId) -> Option<Handle> {
        self.sessions.read().unwrap_or_else(PoisonError::into_inner).get(&agent).cloned()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut sessions = self.connected.sessions.write().unwrap_or_else(PoisonError::into_inner);
        if sessions.get(&self.agent).is_some_and(|handle| handle.epoch == self.epoch) {
            sessions.remove(&self.agent);
        }
    }
}

impl Link for Connected {
    fn offer(&self, due: Vec<Due>) {
        for due in due {
            if let Some(handle) = self.handle(due.agent)
                && handle.offers.try_send(due).is_err()
            {
                handle.overflow.set();
            }
        }
    }

    fn settle(&self, open: Open, why: Settle) -> bool {
        let Some(handle) = self.handle(open.agent) else { return false };
        if handle.offers.is_closed() {
            return false;
        }
        handle.wishes.add(open, why);
        true
    }

    fn retell(&self) {
        let sessions = self.sessions.read().unwrap_or_else(PoisonError::into_inner);
        sessions.values().for_each(|handle| handle.retell.notify_one());
    }

    fn cut(&self, agent: AgentId, reason: &str) {
        if let Some(handle) = self.handle(agent) {
            tracing::info!(%agent, reason, "session cut");
            handle.cut.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::attempt::State;
    use plan::id::CommandId;
    use uuid::Uuid;

    use super::*;

    #[tokio::test]
    async fn who_overtakes_a_session_waits_until_its_end_is_written_down() {
        let connected = Arc::new(Connected::default());
        let agent = AgentId(Uuid::from_u128(1));
        connected.overtake(agent).await;
        let farewell = connected.farewell(agent, 1);
        let registration = connected.register(agent, 1).expect("the first");
        let replaced = registration.replaced.clone();
        let overtaking = connected.overtake(agent);
        tokio::pin!(overtaking);
        assert!(futures_util::poll!(&mut overtaking).is_pending(), "it is not written down yet");
        assert!(replaced.is_cancelled(), "the older one is told at once");
        drop(registration);
        assert!(futures_util::poll!(&mut overtaking).is_pending(), "gone, and still not written down");
        drop(farewell);
        overtaking.await;
    }

    #[test]
    fn a_wish_to_end_an_attempt_is_kept_however_many_there_are_and_once_however_often_it_comes() {
        let connected = Arc::new(Connected::default());
        let agent = AgentId(Uuid::from_u128(1));
        let registration = connected.register(agent, 1).expect("the first");
        let wanted = 4 * MAILBOX;
        for number in 0..wanted as u128 {
            let key = AttemptKey { command: CommandId(Uuid::from_u128(number)), number: 1 };
            let open = Open { key, agent, state: State::Queued, reason: None, cancel_requested: true };
            for why in [Settle::Halt, Settle::Halt, Settle::Cancel] {
                assert!(connected.settle(open, why));
            }
        }
        assert_eq!(registration.wishes.take().len(), 2 * wanted);
        assert_eq!(registration.wishes.take(), [], "each is told once");
    }
}
