//! What an operator asks first: who is there, what waits, how fast it goes, how long it takes.
//!
//! Invariant: no question here costs more the longer the host has been in use. What is open is counted in the store
//! by indexes that hold nothing else; what is over is counted as it ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use domain::access::{Caller, Forbidden, Permission};
use domain::agent::AgentStatus;
use domain::attempt::State;
use domain::command::Status;
use domain::priority::Priority;
use domain::time::Timestamp;
use ports::clock::Clock;
use ports::delivery::{Delivery, OpenShare};
use ports::error::StoreError;
use ports::plugins::Plugins;
use tokio::sync::Mutex;

use crate::directory::Directory;
use crate::meter::{Hour, Meter, Rates, Spread};

/// How long a count of what is open is good enough.
const FRESH: Duration = Duration::from_secs(1);

/// The use case.
pub struct Statistics {
    /// What is open.
    pub delivery: Arc<dyn Delivery>,
    /// Who there is.
    pub directory: Arc<Directory>,
    /// What is loaded.
    pub plugins: Arc<dyn Plugins>,
    /// What happened.
    pub meter: Arc<Meter>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// When this host began to count.
    pub since: Timestamp,
    /// The latest count of what is open.
    pub kept: Mutex<Option<(Timestamp, Arc<Vec<OpenShare>>)>>,
}

/// What is in a caller's sight.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When this host began to count what ended.
    pub since: Timestamp,
    /// Agents by site and status.
    pub agents: BTreeMap<(String, AgentStatus), u64>,
    /// Commands that are not over.
    pub commands: Vec<(Status, u64)>,
    /// Invocations that are not over.
    pub invocations: BTreeMap<State, u64>,
    /// Those among them that have not been sent.
    pub queue: BTreeMap<Priority, u64>,
    /// What happened in the last minute, five minutes, hour.
    pub rates: [Rates; 3],
    /// From acceptance to start, in the last hour.
    pub wait: Spread,
    /// From start to end, in the last hour.
    pub run: Spread,
    /// Plugins by state.
    pub plugins: BTreeMap<&'static str, u64>,
    /// Faults of the versions that serve.
    pub faults: u64,
    /// Verbs that are loaded.
    pub verbs: u64,
}

/// The stretches that rates are told of.
pub const STRETCHES: [Duration; 3] = [Duration::from_secs(60), Duration::from_secs(300), Duration::from_secs(3_600)];

/// Why nothing is told.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StatisticsError {
    /// Not allowed to.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Statistics {
    /// Everything at the caller's sites.
    ///
    /// # Errors
    /// See [`StatisticsError`].
    pub async fn seen(&self, caller: &Caller) -> Result<Seen, StatisticsError> {
        caller.may(Permission::ReadStatistics)?;
        let now = self.clock.now();
        let mut agents: BTreeMap<(String, AgentStatus), u64> = BTreeMap::new();
        let living = self.directory.all().into_iter().filter(|candidate| candidate.agent.revoked_at.is_none());
        for candidate in living.filter(|candidate| caller.sees_site(&candidate.agent.site)) {
            *agents.entry((candidate.agent.site.clone(), candidate.status)).or_default() += 1;
        }
        let (mut invocations, mut queue) = (BTreeMap::new(), BTreeMap::new());
        for share in self.open(now).await?.iter().filter(|share| caller.sees_site(&share.site)) {
            *invocations.entry(share.state).or_default() += share.count;
            if matches!(share.state, State::Held | State::Queued) {
                *queue.entry(share.priority).or_default() += share.count;
            }
        }
        let hour: Hour = self.meter.hour(|site| caller.sees_site(site), caller.sees_all_sites());
        let mut plugins: BTreeMap<&'static str, u64> = BTreeMap::new();
        let statuses = self.plugins.plugins();
        for plugin in &statuses {
            *plugins.entry(plugin.state).or_default() += 1;
        }
        Ok(Seen {
            since: self.since,
            agents,
            commands: self.delivery.open_commands(self.sites(caller).as_deref()).await?,
            invocations,
            queue,
            rates: STRETCHES.map(|stretch| hour.rates(now, stretch)),
            wait: hour.wait(now),
            run: hour.run(now),
            plugins,
            faults: statuses.iter().map(|plugin| plugin.faults).sum(),
            verbs: self.plugins.verbs().len() as u64,
        })
    }

    /// What is open at every site, counted at most once a second however many ask.
    ///
    /// # Errors
    /// The store's.
    pub async fn open(&self, now: Timestamp) -> Result<Arc<Vec<OpenShare>>, StoreError> {
        let mut kept = self.kept.lock().await;
        if let Some((at, open)) = kept.as_ref()
            && now.is_soon_after(*at, FRESH)
        {
            return Ok(open.clone());
        }
        let open = Arc::new(self.delivery.open_shares().await?);
        *kept = Some((now, open.clone()));
        Ok(open)
    }

    /// The sites a caller sees; `None` when that is all there are.
    fn sites(&self, caller: &Caller) -> Option<Vec<String>> {
        if caller.sees_all_sites() {
            return None;
        }
        let mut sites: Vec<String> =
            self.directory.all().iter().map(|candidate| candidate.agent.site.clone()).collect();
        sites.sort();
        sites.dedup();
        sites.retain(|site| caller.sees_site(site));
        Some(sites)
    }
}
