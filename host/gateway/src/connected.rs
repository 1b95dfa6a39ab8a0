//! The sessions there are, and how the rest of the host reaches them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use plan::id::AgentId;
use ports::commands::{Due, Open};
use ports::link::{Link, Settle};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

/// Wishes waiting for one session; what does not fit is read back from the store.
const MAILBOX: usize = 256;

/// All sessions of this host.
#[derive(Default)]
pub struct Connected {
    sessions: RwLock<HashMap<AgentId, Handle>>,
}

/// What others may say to a session.
#[derive(Debug)]
pub enum Mail {
    /// A freshly accepted invocation.
    Offer(Due),
    /// An attempt is to be ended.
    Settle(Open, Settle),
}

#[derive(Clone)]
struct Handle {
    epoch: u64,
    mail: mpsc::Sender<Mail>,
    overflow: Arc<Overflow>,
    retell: Arc<Notify>,
    replaced: CancellationToken,
    cut: CancellationToken,
}

/// Said when mail was dropped for want of room.
#[derive(Debug, Default)]
pub struct Overflow {
    happened: AtomicBool,
    wake: Notify,
}

impl Overflow {
    /// Waits until mail was dropped. Cancel safe.
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
    /// Wishes.
    pub mail: mpsc::Receiver<Mail>,
    /// Whether wishes were dropped.
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
        let (sender, mail) = mpsc::channel(MAILBOX);
        let overflow = Arc::new(Overflow::default());
        let retell = Arc::new(Notify::new());
        let (replaced, cut) = (CancellationToken::new(), CancellationToken::new());
        let handle = Handle {
            epoch,
            mail: sender,
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
        Some(Registration { connected: self.clone(), agent, epoch, mail, overflow, retell, replaced, cut })
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
                && handle.mail.try_send(Mail::Offer(due)).is_err()
            {
                handle.overflow.set();
            }
        }
    }

    fn settle(&self, open: Open, why: Settle) -> bool {
        let Some(handle) = self.handle(open.agent) else { return false };
        match handle.mail.try_send(Mail::Settle(open, why)) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                handle.overflow.set();
                true
            }
        }
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
