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
#[cfg(test)]
mod tests;

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

    /// How many agents have a session here.
    pub fn sessions(&self) -> usize {
        self.read().by_id.values().filter(|known| known.session.is_some()).count()
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
        let last_seen = self.session.map(|session| session.last_heard).or(self.agent.last_seen);
        Candidate { agent: self.agent.clone(), status: self.status(), last_seen }
    }
}
