//! The sessions there are, and how the rest of the host reaches them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use plan::id::{AgentId, AttemptKey};
use ports::commands::{Due, Open};
use ports::link::{Link, Settle};
use tokio_util::sync::CancellationToken;

use crate::signals::{Signal, Signals};

/// Offers waiting for one session; what does not fit is read back from the store.
const MAILBOX: usize = 256;

/// All sessions of this host.
#[derive(Default)]
pub struct Connected {
    sessions: RwLock<HashMap<AgentId, Handle>>,
    /// Agents whose sessions are about to be, and how many of each.
    coming: Mutex<HashMap<AgentId, usize>>,
    /// Sessions whose ends are not written down yet, and how to tell who waits for that, if anybody does.
    unwritten: Mutex<BTreeMap<(AgentId, u64), Option<CancellationToken>>>,
}

/// A place for one session that is about to be, held until it is there.
pub struct Coming {
    connected: Arc<Connected>,
    agent: AgentId,
}

impl Drop for Coming {
    fn drop(&mut self) {
        let mut coming = self.connected.coming();
        if let Some(count) = coming.get_mut(&self.agent) {
            *count -= 1;
            if *count == 0 {
                coming.remove(&self.agent);
            }
        }
    }
}

/// Held until a session's end is written down.
pub struct Farewell {
    connected: Arc<Connected>,
    agent: AgentId,
    epoch: u64,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        if let Some(Some(written)) = self.connected.unwritten().remove(&(self.agent, self.epoch)) {
            written.cancel();
        }
    }
}

/// Attempts of one agent that are to be ended: none is dropped, for there is at most one of a kind for each
/// attempt that is not over, and those are bounded.
#[derive(Debug, Default)]
pub struct Wishes {
    waiting: Mutex<HashMap<(AttemptKey, Settle), Open>>,
}

impl Wishes {
    /// Takes them all.
    pub fn take(&self) -> Vec<(Open, Settle)> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.drain().map(|((_, why), open)| (open, why)).collect()
    }

    fn add(&self, open: Open, why: Settle) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert((open.key, why), open);
    }
}

/// What a session is to run next, until it looks. Empty, it takes no room: most sessions wait most of the time.
#[derive(Debug, Default)]
pub struct Mailbox(Mutex<Mail>);

#[derive(Debug, Default)]
struct Mail {
    offers: VecDeque<Due>,
    first: Option<AttemptKey>,
    closed: bool,
}

impl Mailbox {
    /// Takes the freshly accepted invocations.
    pub fn offers(&self) -> VecDeque<Due> {
        std::mem::take(&mut self.mail().offers)
    }

    /// Takes the first of what waits in the store.
    pub fn first(&self) -> Option<AttemptKey> {
        self.mail().first.take()
    }

    /// Puts one in; `false` when there is no room.
    fn offer(&self, due: Due) -> bool {
        let mut mail = self.mail();
        let room = !mail.closed && mail.offers.len() < MAILBOX;
        if room {
            mail.offers.push_back(due);
        }
        room
    }

    fn mail(&self) -> MutexGuard<'_, Mail> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone)]
struct Handle {
    epoch: u64,
    mailbox: Arc<Mailbox>,
    wishes: Arc<Wishes>,
    signals: Arc<Signals>,
}

/// A session's own end of its handle; dropping it takes the session out.
pub struct Registration {
    connected: Arc<Connected>,
    agent: AgentId,
    epoch: u64,
    /// What it is to run next.
    pub mailbox: Arc<Mailbox>,
    /// What is to be ended; to be looked at before anything is sent.
    pub wishes: Arc<Wishes>,
    /// What it is told besides.
    pub signals: Arc<Signals>,
}

impl Connected {
    /// A place for a session of `agent`, when fewer than `most` agents have one; an agent that has one already
    /// takes its own.
    pub fn expect(self: &Arc<Self>, agent: AgentId, most: usize) -> Option<Coming> {
        let mut coming = self.coming();
        {
            let sessions = self.sessions.read().unwrap_or_else(PoisonError::into_inner);
            let has_one = |of: &AgentId| sessions.contains_key(of);
            // Looked at one by one only where there may be no place.
            if sessions.len() + coming.len() >= most && !has_one(&agent) && !coming.contains_key(&agent) {
                let taken = sessions.len() + coming.keys().filter(|of| !has_one(of)).count();
                if taken >= most {
                    return None;
                }
            }
        }
        *coming.entry(agent).or_default() += 1;
        drop(coming);
        Some(Coming { connected: self.clone(), agent })
    }

    /// Puts a session in; an older one of the same agent is told and ended. `None` when a newer one is there.
    pub fn register(self: &Arc<Self>, agent: AgentId, epoch: u64) -> Option<Registration> {
        let mailbox = Arc::new(Mailbox::default());
        let wishes = Arc::new(Wishes::default());
        let signals = Arc::new(Signals::default());
        let handle = Handle { epoch, mailbox: mailbox.clone(), wishes: wishes.clone(), signals: signals.clone() };
        let mut sessions = self.sessions.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(older) = sessions.get(&agent) {
            if older.epoch >= epoch {
                return None;
            }
            older.signals.raise(Signal::Replaced);
        }
        sessions.insert(agent, handle);
        drop(sessions);
        let connected = self.clone();
        Some(Registration { connected, agent, epoch, mailbox, wishes, signals })
    }

    /// To be taken at once when a session is registered, and held until its end is written down.
    pub fn farewell(self: &Arc<Self>, agent: AgentId, epoch: u64) -> Farewell {
        self.unwritten().insert((agent, epoch), None);
        Farewell { connected: self.clone(), agent, epoch }
    }

    /// Ends the sessions that `agent` has here, and waits until what they sent is written down: whoever looks
    /// before that takes for never sent what is noted as sent a moment later, and then by nobody again.
    pub async fn overtake(&self, agent: AgentId) {
        if let Some(older) = self.handle(agent) {
            older.signals.raise(Signal::Replaced);
        }
        let ends: Vec<CancellationToken> = {
            let mut unwritten = self.unwritten();
            let of_agent = unwritten.range_mut((agent, 0)..=(agent, u64::MAX));
            of_agent.map(|(_, written)| written.get_or_insert_default().clone()).collect()
        };
        for written in ends {
            written.cancelled().await;
        }
    }

    fn coming(&self) -> MutexGuard<'_, HashMap<AgentId, usize>> {
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unwritten(&self) -> MutexGuard<'_, BTreeMap<(AgentId, u64), Option<CancellationToken>>> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, agent: AgentId) -> Option<Handle> {
        self.sessions.read().unwrap_or_else(PoisonError::into_inner).get(&agent).cloned()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.mailbox.mail().closed = true;
        let mut sessions = self.connected.sessions.write().unwrap_or_else(PoisonError::into_inner);
        if sessions.get(&self.agent).is_some_and(|handle| handle.epoch == self.epoch) {
            sessions.remove(&self.agent);
        }
    }
}

impl Link for Connected {
    fn offer(&self, due: Vec<Due>) {
        for due in due {
            if let Some(handle) = self.handle(due.agent) {
                let taken = handle.mailbox.offer(due);
                handle.signals.raise(if taken { Signal::Offers } else { Signal::Overflow });
            }
        }
    }

    fn settle(&self, open: Open, why: Settle) -> bool {
        let Some(handle) = self.handle(open.agent) else { return false };
        if handle.mailbox.mail().closed {
            return false;
        }
        handle.wishes.add(open, why);
        handle.signals.raise(Signal::Wishes);
        true
    }

    fn look(&self, agent: AgentId, first: AttemptKey) {
        if let Some(handle) = self.handle(agent) {
            // Of several looks one is enough; the next sweep tells again.
            handle.mailbox.mail().first.get_or_insert(first);
            handle.signals.raise(Signal::Look);
        }
    }

    fn latest(&self, agent: AgentId, epoch: u64, open: bool) {
        if let Some(handle) = self.handle(agent)
            && (epoch > handle.epoch || (epoch == handle.epoch && !open))
        {
            tracing::info!(%agent, epoch = handle.epoch, latest = epoch, "session overtaken at another host");
            handle.signals.raise(Signal::Overtaken);
        }
    }

    fn leave_all(&self) {
        let sessions = self.sessions.read().unwrap_or_else(PoisonError::into_inner);
        sessions.values().for_each(|handle| handle.signals.raise(Signal::Overtaken));
    }

    fn retell(&self) {
        let sessions = self.sessions.read().unwrap_or_else(PoisonError::into_inner);
        sessions.values().for_each(|handle| handle.signals.raise(Signal::Retell));
    }

    fn ask_key(&self, agent: AgentId) {
        if let Some(handle) = self.handle(agent) {
            handle.signals.raise(Signal::AskKey);
        }
    }

    fn cut(&self, agent: AgentId, reason: &str) {
        if let Some(handle) = self.handle(agent) {
            tracing::info!(%agent, reason, "session cut");
            handle.signals.raise(Signal::Cut);
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
        let signals = registration.signals.clone();
        let other = AgentId(Uuid::from_u128(2));
        let _of_another = connected.farewell(other, 1);
        let overtaking = connected.overtake(agent);
        tokio::pin!(overtaking);
        assert!(futures_util::poll!(&mut overtaking).is_pending(), "it is not written down yet");
        assert!(signals.is_raised(Signal::Replaced), "the older one is told at once");
        drop(registration);
        assert!(futures_util::poll!(&mut overtaking).is_pending(), "gone, and still not written down");
        drop(farewell);
        overtaking.await;
        let others = connected.overtake(other);
        tokio::pin!(others);
        assert!(futures_util::poll!(&mut others).is_pending(), "each agent's are its own");
    }

    #[test]
    fn the_last_place_is_given_once_however_many_come_at_once_and_an_agent_keeps_its_own() {
        const MOST: usize = 5;
        let connected = Arc::new(Connected::default());
        let agent = |number: usize| AgentId(Uuid::from_u128(number as u128));
        let coming: Vec<Coming> = std::thread::scope(|scope| {
            let connected = &connected;
            let comers: Vec<_> =
                (0..4 * MOST).map(|number| scope.spawn(move || connected.expect(agent(number), MOST))).collect();
            comers.into_iter().filter_map(|comer| comer.join().expect("it does not panic")).collect()
        });
        assert_eq!(coming.len(), MOST);
        let (first, other) = (coming[0].agent, agent(4 * MOST));
        assert!(connected.expect(first, MOST).is_some(), "twice on its way is one place");
        assert!(connected.expect(other, MOST).is_none());
        let sessions: Vec<_> = coming.iter().map(|coming| connected.register(coming.agent, 1)).collect();
        assert!(connected.expect(other, MOST).is_none(), "on its way and there is one place, too");
        drop(coming);
        assert!(connected.expect(other, MOST).is_none());
        assert!(connected.expect(first, MOST).is_some(), "it comes again before it was missed");
        drop(sessions);
        let last = connected.expect(other, 1);
        assert!(last.is_some() && connected.expect(first, 1).is_none(), "nobody is remembered who left");
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
