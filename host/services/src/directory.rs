//! Every agent, in memory: who there is, who is connected, what each said last. Reads never touch
//! the store; whoever changes the store tells the directory after the commit.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use domain::agent::{Agent, AgentStatus};
use domain::target::Candidate;
use domain::time::Timestamp;
use plan::id::AgentId;
use ports::agents::Agents;
use ports::error::StoreError;

/// All agents.
#[derive(Default)]
pub struct Directory {
    inner: RwLock<Inner>,
}

#[derive(Default)]
struct Inner {
    by_id: HashMap<AgentId, Known>,
    by_name: HashMap<String, AgentId>,
}

struct Known {
    agent: Arc<Agent>,
    session: Option<Session>,
    sample: Option<Arc<str>>,
}

/// A session this host owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Session {
    epoch: u64,
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

    /// Takes over what the store now holds about one agent.
    pub fn put(&self, agent: Agent) {
        let mut inner = self.write();
        inner.by_name.insert(agent.name.clone(), agent.id);
        let agent = Arc::new(agent);
        match inner.by_id.get_mut(&agent.id) {
            Some(known) => known.agent = agent,
            None => _ = inner.by_id.insert(agent.id, Known { agent, session: None, sample: None }),
        }
    }

    /// Takes over an agent that nobody told of; what is known of one already is newer.
    pub fn put_if_unknown(&self, agent: Agent) {
        if self.get(agent.id).is_none() {
            self.put(agent);
        }
    }

    /// One agent by id.
    pub fn get(&self, id: AgentId) -> Option<Candidate> {
        self.read().by_id.get(&id).map(Known::candidate)
    }

    /// One agent by id or name.
    pub fn find(&self, text: &str) -> Option<Candidate> {
        let inner = self.read();
        let id = text.parse().ok().or_else(|| inner.by_name.get(text).copied())?;
        inner.by_id.get(&id).map(Known::candidate)
    }

    /// Every agent, by name.
    pub fn all(&self) -> Vec<Candidate> {
        let mut all: Vec<Candidate> = self.read().by_id.values().map(Known::candidate).collect();
        all.sort_by(|a, b| a.agent.name.cmp(&b.agent.name));
        all
    }

    /// The agents named, by id or name; the unknown are left out.
    pub fn named(&self, names: &[String]) -> Vec<Candidate> {
        names.iter().filter_map(|name| self.find(name)).collect()
    }

    /// The agent's latest telemetry sample, JSON text.
    pub fn sample(&self, id: AgentId) -> Option<Arc<str>> {
        self.read().by_id.get(&id).and_then(|known| known.sample.clone())
    }

    /// Keeps the agent's latest sample.
    pub fn set_sample(&self, id: AgentId, sample: Arc<str>) {
        if let Some(known) = self.write().by_id.get_mut(&id) {
            known.sample = Some(sample);
        }
    }

    /// Whether the agent has a session here.
    pub fn is_connected(&self, id: AgentId) -> bool {
        self.read().by_id.get(&id).is_some_and(|known| known.session.is_some())
    }

    /// A session opened; a newer epoch replaces an older one.
    pub fn opened(&self, id: AgentId, epoch: u64, at: Timestamp) {
        if let Some(known) = self.write().by_id.get_mut(&id)
            && known.session.is_none_or(|session| session.epoch < epoch)
        {
            known.session = Some(Session { epoch, last_heard: at, degraded: false });
        }
    }

    /// The session `epoch` ended. `false` when a newer one has taken its place.
    pub fn closed(&self, id: AgentId, epoch: u64, at: Timestamp) -> bool {
        let mut inner = self.write();
        let Some(known) = inner.by_id.get_mut(&id) else { return false };
        if known.session.is_none_or(|session| session.epoch != epoch) {
            return false;
        }
        known.session = None;
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

impl Known {
    fn candidate(&self) -> Candidate {
        let status = match self.session {
            _ if self.agent.maintenance => AgentStatus::Maintenance,
            None => AgentStatus::Offline,
            Some(session) if session.degraded => AgentStatus::Degraded,
            Some(_) => AgentStatus::Online,
        };
        Candidate { agent: self.agent.clone(), status }
    }
}
