//! Every agent, in memory: who there is, who is connected, what each said last. Reads never touch
//! the store; whoever changes the store tells the directory after the commit.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use domain::agent::{Agent, AgentStatus};
use domain::target::Candidate;
use domain::time::Timestamp;
use plan::id::AgentId;
use ports::agents::Agents;
use ports::clock::Clock;
use ports::error::StoreError;
use ports::hosts::{Found, Hosts};
use ports::latest::Board;
pub use ports::latest::Latest;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::looks::Looks;

mod attended;

/// All agents.
#[derive(Default)]
pub struct Directory {
    inner: RwLock<Inner>,
    changed: Notify,
    /// Where other hosts read what agents said last here, and tell what agents said there; set when there is one.
    pub board: OnceLock<Arc<dyn Board>>,
    looks: Looks,
}

#[derive(Default)]
struct Inner {
    by_id: HashMap<AgentId, Known>,
    by_name: HashMap<String, AgentId>,
    /// Deleted, and something may still be open for them.
    leavers: BTreeSet<AgentId>,
    /// Whose sessions are being opened or ended at this moment, and by how many.
    attended: HashMap<AgentId, usize>,
    /// How often that was given up.
    broken_off: u64,
}

struct Known {
    agent: Arc<Agent>,
    session: Option<Session>,
    /// The newest session that ended here: what the store told of it before is old.
    ended: u64,
    /// It has a session at another host, as far as the store knows.
    elsewhere: bool,
    latest: Option<Arc<Latest>>,
    /// Keys that another took the place of while this host looked on.
    former: Vec<String>,
}

/// A session this host owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Session {
    epoch: u64,
    opened: Timestamp,
    last_heard: Timestamp,
    degraded: bool,
}

impl Directory {
    /// Reads every agent from the store.
    ///
    /// # Errors
    /// The store's.
    pub async fn load(agents: &dyn Agents) -> Result<Directory, StoreError> {
        let directory = Directory::default();
        for agent in agents.agents().await? {
            directory.put(agent);
        }
        Ok(directory)
    }

    /// The same, and which of them are at other hosts, when there may be others.
    ///
    /// # Errors
    /// The store's.
    pub async fn load_among(hosts: &dyn Hosts, agents: &dyn Agents) -> Result<Directory, StoreError> {
        if !hosts.is_shared() {
            return Directory::load(agents).await;
        }
        let directory = Directory::default();
        hosts.agents_anywhere().await?.into_iter().for_each(|found| directory.found(found));
        Ok(directory)
    }

    /// Takes over what the store now holds about one agent.
    pub fn put(&self, agent: Agent) {
        self.write().put(Arc::new(agent));
        self.changed.notify_waiters();
    }

    /// Takes over an agent that nobody told of; what is known of one already is newer.
    pub fn put_if_unknown(&self, agent: Agent) {
        if self.get(agent.id).is_none() {
            self.put(agent);
        }
    }

    /// Waits until something of an agent is another than now.
    pub fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Deleted agents for which something may still be open.
    pub fn leavers(&self) -> Vec<AgentId> {
        self.read().leavers.iter().copied().collect()
    }

    /// Nothing is open for this deleted agent any more.
    pub fn left(&self, id: AgentId) {
        self.write().leavers.remove(&id);
    }

    /// Takes over an agent as the store has it, whichever host it is at.
    pub fn found(&self, Found { agent, open }: Found) {
        let (id, epoch) = (agent.id, agent.session_epoch);
        // Read before the session here was opened, or closed: this host knows better.
        let newer = self.get(id).is_some_and(|known| known.agent.session_epoch > agent.session_epoch);
        if !newer {
            self.put(agent);
            if let Some(known) = self.write().by_id.get_mut(&id) {
                known.elsewhere = open && known.ended < epoch;
            }
        }
    }

    /// One agent by id, a deleted one, too.
    pub fn get(&self, id: AgentId) -> Option<Candidate> {
        self.read().by_id.get(&id).map(Known::candidate)
    }

    /// One agent by id or name.
    pub fn find(&self, text: &str) -> Option<Candidate> {
        let inner = self.read();
        let id = text.parse().ok().or_else(|| inner.by_name.get(text).copied())?;
        inner.by_id.get(&id).filter(|known| known.agent.deleted_at.is_none()).map(Known::candidate)
    }

    /// Every agent that is not deleted, by name.
    pub fn all(&self) -> Vec<Candidate> {
        let inner = self.read();
        let there = inner.by_id.values().filter(|known| known.agent.deleted_at.is_none());
        let mut all: Vec<Candidate> = there.map(Known::candidate).collect();
        all.sort_by(|a, b| a.agent.name.cmp(&b.agent.name));
        all
    }

    /// Agents with the status offline that are neither revoked nor deleted, in no order.
    pub fn offline(&self) -> Vec<Candidate> {
        let inner = self.read();
        let there = inner.by_id.values().filter(|known| {
            known.status() == AgentStatus::Offline
                && known.agent.deleted_at.is_none()
                && known.agent.revoked_at.is_none()
        });
        there.map(Known::candidate).collect()
    }

    /// The agents named, by id or name; the unknown are left out.
    pub fn named(&self, names: &[String]) -> Vec<Candidate> {
        names.iter().filter_map(|name| self.find(name)).collect()
    }

    /// What the agent said last of its machine.
    pub fn latest(&self, id: AgentId) -> Option<Arc<Latest>> {
        self.read().by_id.get(&id).and_then(|known| known.latest.clone())
    }

    /// Keeps what the agent said last, and tells other hosts.
    pub fn set_latest(&self, id: AgentId, latest: Latest) {
        let latest = Arc::new(latest);
        // What it said before is let go when nobody waits for that: it is some dozens of pieces of memory.
        let _before = {
            let mut inner = self.write();
            let Some(known) = inner.by_id.get_mut(&id) else { return };
            let before = known.latest.replace(latest.clone());
            // In the order in which they are kept here, whichever of an agent's sessions says it.
            if let Some(board) = self.board.get() {
                board.put(id, latest);
            }
            before
        };
    }

    /// Learns what these agents said last of which this host does not know for certain: those that speak to others,
    /// and those that have said nothing here yet. Whatever cannot be learned in time stays as it is known.
    pub async fn learn_latest(&self, agents: impl Iterator<Item = AgentId>) {
        if let Some((board, doubtful)) = self.doubtful(agents) {
            self.learned(board.of(&doubtful).await);
        }
    }

    /// The same for one of those who listen and come again each second: however many they are, others are asked once
    /// a second for all of them.
    pub async fn listen_latest(&self, agents: impl Iterator<Item = AgentId>, clock: &dyn Clock) {
        if let Some((board, doubtful)) = self.doubtful(agents) {
            self.looks.look(&doubtful, clock, board, |learned| self.learned(learned)).await;
        }
    }

    /// Who may have said something elsewhere, and where that is read; `None` when there is nothing to ask.
    fn doubtful(&self, agents: impl Iterator<Item = AgentId>) -> Option<(&dyn Board, Vec<AgentId>)> {
        let board = self.board.get()?;
        let inner = self.read();
        let known = |id: &AgentId| inner.by_id.get(id).is_some_and(|known| known.speaks_here());
        let doubtful: Vec<AgentId> = agents.filter(|id| !known(id)).collect();
        (!doubtful.is_empty()).then_some((board.as_ref(), doubtful))
    }

    fn learned(&self, learned: Vec<(AgentId, Latest)>) {
        let mut inner = self.write();
        for (id, latest) in learned {
            if let Some(known) = inner.by_id.get_mut(&id)
                && known.latest.as_ref().is_none_or(|before| before.received_at < latest.received_at)
            {
                known.latest = Some(Arc::new(latest));
            }
        }
    }

    /// Whether the agent has a session here.
    pub fn is_connected(&self, id: AgentId) -> bool {
        self.read().by_id.get(&id).is_some_and(|known| known.session.is_some())
    }

    /// Whether the agent has a session, here or at another host.
    pub fn is_reachable(&self, id: AgentId) -> bool {
        self.read().by_id.get(&id).is_some_and(|known| known.session.is_some() || known.elsewhere)
    }

    /// A session opened; a newer epoch replaces an older one.
    pub fn opened(&self, id: AgentId, epoch: u64, at: Timestamp) {
        if let Some(known) = self.write().by_id.get_mut(&id)
            && known.session.is_none_or(|session| session.epoch < epoch)
        {
            known.session = Some(Session { epoch, opened: at, last_heard: at, degraded: false });
        }
    }

    /// The session `epoch` ended. `false` when a newer one has taken its place.
    pub fn closed(&self, id: AgentId, epoch: u64, at: Timestamp) -> bool {
        let mut inner = self.write();
        let Some(known) = inner.by_id.get_mut(&id) else { return false };
        known.ended = known.ended.max(epoch);
        if known.session.is_none_or(|session| session.epoch != epoch) {
            return false;
        }
        (known.session, known.elsewhere) = (None, false);
        let mut agent = Agent::clone(&known.agent);
        agent.last_seen = Some(at);
        known.agent = Arc::new(agent);
        true
    }

    /// The agent was heard. Answers whether its status changed by it.
    pub fn heard(&self, id: AgentId, at: Timestamp) -> bool {
        let mut inner = self.write();
        match inner.by_id.get_mut(&id).and_then(|known| known.session.as_mut()) {
            Some(session) => {
                session.last_heard = at;
                std::mem::replace(&mut session.degraded, false)
            }
            None => false,
        }
    }

    /// The agent missed a heartbeat. Answers whether its status changed by it.
    pub fn missed(&self, id: AgentId) -> bool {
        let mut inner = self.write();
        let session = inner.by_id.get_mut(&id).and_then(|known| known.session.as_mut());
        session.is_some_and(|session| !std::mem::replace(&mut session.degraded, true))
    }

    /// When each connected agent was last heard, for the store.
    pub fn last_heard(&self) -> Vec<(AgentId, Timestamp)> {
        let inner = self.read();
        let sessions = inner.by_id.iter().filter_map(|(id, known)| known.session.map(|s| (*id, s.last_heard)));
        sessions.collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn put(&mut self, agent: Arc<Agent>) {
        let before = self.by_id.get(&agent.id).and_then(|known| known.agent.deleted_at);
        let agent = match self.by_id.get_mut(&agent.id) {
            Some(known) => known.not_behind(agent),
            None => agent,
        };
        if agent.deleted_at.is_none() {
            self.by_name.insert(agent.name.clone(), agent.id);
        } else if self.by_name.get(&agent.name) == Some(&agent.id) {
            self.by_name.remove(&agent.name);
        }
        if agent.deleted_at.is_some() && before.is_none() {
            self.leavers.insert(agent.id);
        }
        match self.by_id.get_mut(&agent.id) {
            Some(known) => known.agent = agent,
            None => _ = self.by_id.insert(agent.id, Known::new(agent)),
        }
    }
}

impl Known {
    fn new(agent: Arc<Agent>) -> Known {
        Known { agent, session: None, ended: 0, elsewhere: false, latest: None, former: Vec::new() }
    }

    /// It has a session here, in which it has said how its machine is.
    fn speaks_here(&self) -> bool {
        let opened = self.session.map(|session| session.opened);
        opened.zip(self.latest.as_ref()).is_some_and(|(opened, latest)| latest.received_at >= opened)
    }

    /// `told`, and what is not taken back of what was told before. Two changes may be told in another order than they
    /// were committed in, and whoever is revoked must not be let in by news of what was before.
    fn not_behind(&mut self, told: Arc<Agent>) -> Arc<Agent> {
        let known = &self.agent;
        let mut agent = Agent::clone(&told);
        agent.revoked_at = agent.revoked_at.or(known.revoked_at);
        agent.deleted_at = agent.deleted_at.or(known.deleted_at);
        agent.awaits_approval &= known.awaits_approval;
        if self.former.contains(&agent.public_key) {
            agent.public_key.clone_from(&known.public_key);
            agent.rotation_asked_at = known.rotation_asked_at;
        } else if agent.public_key != known.public_key {
            self.former.push(known.public_key.clone());
        }
        if agent == *told { told } else { Arc::new(agent) }
    }

    fn status(&self) -> AgentStatus {
        match self.session {
            _ if self.agent.awaits_approval => AgentStatus::Pending,
            _ if self.agent.maintenance => AgentStatus::Maintenance,
            None if self.elsewhere => AgentStatus::Online,
            None => AgentStatus::Offline,
            Some(session) if session.degraded => AgentStatus::Degraded,
            Some(_) => AgentStatus::Online,
        }
    }

    fn candidate(&self) -> Candidate {
        Candidate { agent: self.agent.clone(), status: self.status() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use domain::agent::Facts;

    use super::*;

    pub(super) fn agent() -> Agent {
        Agent {
            id: AgentId(uuid::Uuid::from_u128(1)),
            name: "web-1".to_owned(),
            site: "default".to_owned(),
            labels: BTreeMap::new(),
            public_key: "first".to_owned(),
            facts: Facts::default(),
            maintenance: false,
            awaits_approval: true,
            revoked_at: None,
            deleted_at: None,
            rotation_asked_at: None,
            created_at: Timestamp(0),
            last_seen: None,
            session_epoch: 0,
            maybe_sent: false,
        }
    }

    #[test]
    fn late_news_of_a_session_that_ended_here_does_not_make_an_agent_reachable() {
        let directory = Directory::default();
        let id = agent().id;
        let told = |session_epoch| Found { agent: Agent { session_epoch, ..agent() }, open: true };
        directory.put(agent());
        directory.opened(id, 4, Timestamp(0));
        directory.found(told(4));
        assert!(directory.closed(id, 4, Timestamp(1)));
        directory.found(told(4));
        assert!(!directory.is_reachable(id), "read before the session ended");
        directory.found(told(5));
        assert!(directory.is_reachable(id), "it has gone to another host");
    }

    #[test]
    fn offline_is_who_is_let_in_and_has_no_session_anywhere() {
        let directory = Directory::default();
        let known = Agent { awaits_approval: false, session_epoch: 1, ..agent() };
        let at = Some(Timestamp(1));
        let is_offline = |agent: Agent, open: bool| {
            let directory = Directory::default();
            directory.found(Found { agent, open });
            directory.offline().len() == 1
        };
        assert!(is_offline(known.clone(), false));
        assert!(!is_offline(known.clone(), true), "at another host");
        for other in [
            agent(),
            Agent { maintenance: true, ..known.clone() },
            Agent { revoked_at: at, ..known.clone() },
            Agent { deleted_at: at, ..known.clone() },
        ] {
            assert!(!is_offline(other.clone(), false), "{other:?}");
        }
        directory.put(known.clone());
        directory.opened(known.id, 1, Timestamp(0));
        assert!(directory.offline().is_empty(), "here");
    }

    #[test]
    fn late_news_of_what_was_before_lets_nobody_in_again() {
        let directory = Directory::default();
        let known = || directory.get(agent().id).expect("known").agent;
        directory.put(agent());
        let approved = Agent { awaits_approval: false, ..agent() };
        let rotated = Agent { public_key: "second".to_owned(), ..approved };
        directory.put(rotated.clone());
        directory.put(Agent { maintenance: true, ..agent() });
        assert_eq!(*known(), Agent { maintenance: true, ..rotated.clone() }, "the rest is as it was told last");
        let third = Agent { public_key: "third".to_owned(), ..rotated.clone() };
        directory.put(third.clone());
        directory.put(rotated.clone());
        assert_eq!(*known(), third);
        let gone = Some(Timestamp(7));
        directory.put(Agent { revoked_at: gone, deleted_at: gone, ..third.clone() });
        directory.put(third);
        assert_eq!((known().revoked_at, known().deleted_at), (gone, gone));
        assert_eq!(directory.leavers(), [agent().id]);
        directory.put(Agent { id: AgentId(uuid::Uuid::from_u128(2)), ..agent() });
        directory.put(rotated);
        let named = directory.read().by_name.get("web-1").copied();
        assert_eq!(named, Some(AgentId(uuid::Uuid::from_u128(2))), "nor takes the name from who has it now");
    }

    /// What another host has put up, and what was put up here.
    #[derive(Default)]
    struct Wall {
        there: Option<Latest>,
        put: std::sync::Mutex<Vec<AgentId>>,
    }

    #[async_trait::async_trait]
    impl Board for Wall {
        fn put(&self, agent: AgentId, _: Arc<Latest>) {
            self.put.lock().expect("no test has panicked").push(agent);
        }

        async fn of(&self, agents: &[AgentId]) -> Vec<(AgentId, Latest)> {
            agents.iter().zip(self.there.clone()).map(|(id, latest)| (*id, latest)).collect()
        }
    }

    #[tokio::test]
    async fn what_an_agent_said_to_another_host_is_learned_unless_it_said_something_here_since() {
        let said = |at: i64| Latest {
            sample: "{}".into(),
            at: Timestamp(at),
            received_at: Timestamp(at),
            skew_ms: 0,
            readings: [].into(),
        };
        let directory = Directory::default();
        directory.put(agent());
        let wall = Arc::new(Wall { there: Some(said(50)), ..Wall::default() });
        _ = directory.board.set(wall.clone());
        let id = agent().id;
        let latest = async || {
            directory.learn_latest([id].into_iter()).await;
            directory.latest(id).map(|latest| latest.at.0)
        };
        assert_eq!(latest().await, Some(50));
        directory.set_latest(id, said(40));
        assert_eq!(latest().await, Some(50), "what was said there is later");
        directory.opened(id, 1, Timestamp(45));
        directory.set_latest(id, said(46));
        assert_eq!(latest().await, Some(46), "it speaks here, by this host's clock");
        assert_eq!(*wall.put.lock().expect("no test has panicked"), [id, id]);
    }
}
