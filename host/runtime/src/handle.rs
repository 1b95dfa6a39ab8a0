//! What everybody else holds of the plugin service: the picture in force, and the way to ask for another look.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use domain::plugin::{Order, Passage, Record};
use domain::verb::VerbName;
use plan::policy::Rules;
use ports::plugin_life::{OrderError, PluginLife};
use ports::plugins::{PluginStatus, Plugins, ResolveError, Verb};
use ports::rules::{Rule, Rules as LoadedRules};
use tokio::sync::{mpsc, oneshot, watch};

use crate::engine::Allocation;
use crate::published::{Published, Transition};
use crate::registry::{Gone, Snapshot};
use crate::rules::LoadedRule;
use domain::nearest::nearest;

/// The service does not run, or not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("plugin service is not running")]
pub struct NotRunning;

/// What everybody else holds. Cloning it is cheap.
#[derive(Clone)]
pub struct Handle {
    pub(crate) published: Arc<Published>,
    pub(crate) asks: mpsc::Sender<Ask>,
    pub(crate) allocation: Allocation,
}

/// What is asked of the service.
pub(crate) enum Ask {
    /// Look at the folder now.
    Rescan(oneshot::Sender<()>),
    /// Do what a person wants.
    Order { name: String, order: Order, actor: String, done: oneshot::Sender<Result<(), OrderError>> },
}

impl Handle {
    /// Looks at the folder now and comes back when what was found is in force.
    ///
    /// # Errors
    /// When the service does not run.
    ///
    /// # Cancel safety
    /// The scan is made whether or not anybody waits for it.
    pub async fn rescan(&self) -> Result<(), NotRunning> {
        let (done, scanned) = oneshot::channel();
        self.asks.send(Ask::Rescan(done)).await.map_err(|_| NotRunning)?;
        scanned.await.map_err(|_| NotRunning)
    }

    /// Tells of every new generation.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.published.changes()
    }

    /// Transitions later than the one numbered `after`, oldest first; the last 512 are kept.
    pub fn transitions(&self, after: u64) -> Vec<Transition> {
        self.published.transitions(after)
    }

    /// Whether instances come from reserved memory; if not, every call is several times slower.
    pub fn allocation(&self) -> Allocation {
        self.allocation
    }
}

impl Plugins for Handle {
    fn resolve(&self, name: &str) -> Result<Arc<dyn Verb>, ResolveError> {
        let snapshot = self.published.now();
        if let Some(verb) = snapshot.verb(name) {
            return Ok(Arc::clone(verb) as Arc<dyn Verb>);
        }
        let name = name.to_owned();
        match snapshot.gone.get(&name) {
            Some(Gone { why, quarantined: true }) => Err(ResolveError::Quarantined { why: why.clone(), name }),
            Some(Gone { why, quarantined: false }) => Err(ResolveError::Unavailable { why: why.clone(), name }),
            None => {
                Err(ResolveError::Unknown { nearest: nearest(&name, snapshot.verbs.keys().map(String::as_str)), name })
            }
        }
    }

    fn pinned(&self, name: &VerbName, digest: &str) -> Option<Arc<dyn Verb>> {
        let snapshot = self.published.now();
        let now = snapshot.verbs.get(name.as_str());
        if let Some(verb) = now.filter(|verb| verb.plugin().digest == digest) {
            return Some(Arc::clone(verb) as Arc<dyn Verb>);
        }
        let pinned = snapshot.version(digest).and_then(|version| Snapshot::verb_of(&version, name.as_str()));
        pinned.or_else(|| now.cloned()).map(|verb| verb as Arc<dyn Verb>)
    }

    fn verbs(&self) -> Vec<Arc<dyn Verb>> {
        self.published.now().verbs.values().map(|verb| Arc::clone(verb) as Arc<dyn Verb>).collect()
    }

    fn plugins(&self) -> Vec<PluginStatus> {
        let snapshot = self.published.now();
        let mut plugins: Vec<PluginStatus> = snapshot
            .entries
            .iter()
            .map(|(file, entry)| {
                let build = entry.serving.as_ref().map(|version| &version.build);
                let verbs = build.map(|build| build.verbs.iter().map(|verb| verb.traits.name.to_string()).collect());
                PluginStatus {
                    name: entry.plugin.clone(),
                    kind: build.map(|build| build.manifest.kind().as_str()),
                    state: entry.state.as_str(),
                    active: build.map(|build| build.identity.clone()),
                    file: file.clone(),
                    verbs: verbs.unwrap_or_default(),
                    grant: Rules::clone(&entry.grant),
                    faults: build.map_or(0, |build| build.faults.total.load(Ordering::Relaxed)),
                    refusal: entry.refusal.clone(),
                    signature: snapshot.signatures.get(file).cloned(),
                    record: snapshot.records.get(&entry.plugin).filter(|record| record.file == *file).cloned(),
                }
            })
            .collect();
        plugins.sort_by(|a, b| (&a.name, &a.file).cmp(&(&b.name, &b.file)));
        plugins
    }

    fn grant(&self, plugin: &str) -> Option<Arc<Rules>> {
        self.published.now().grants.get(plugin).cloned()
    }

    fn generation(&self) -> u64 {
        self.published.now().generation
    }
}

impl LoadedRules for Handle {
    fn rules(&self) -> Vec<Arc<dyn Rule>> {
        let snapshot = self.published.now();
        let serving = snapshot.entries.values().filter_map(|entry| entry.serving.as_ref());
        let mut rules: Vec<Arc<dyn Rule>> =
            serving.filter_map(LoadedRule::of).map(|rule| Arc::new(rule) as Arc<dyn Rule>).collect();
        rules.sort_by(|a, b| a.plugin().name.cmp(&b.plugin().name));
        rules
    }
}

#[async_trait]
impl PluginLife for Handle {
    fn record(&self, name: &str) -> Option<(Record, Option<String>)> {
        let snapshot = self.published.now();
        snapshot.records.get(name).map(|record| (record.clone(), snapshot.present(name)))
    }

    fn records(&self) -> Vec<Record> {
        self.published.now().records.values().cloned().collect()
    }

    async fn order(&self, name: &str, order: Order, actor: &str) -> Result<(), OrderError> {
        let (done, answer) = oneshot::channel();
        let ask = Ask::Order { name: name.to_owned(), order, actor: actor.to_owned(), done };
        self.asks.send(ask).await.map_err(|_| OrderError::Stopped)?;
        answer.await.unwrap_or(Err(OrderError::Stopped))
    }

    fn passages(&self, after: u64) -> Vec<(u64, Passage)> {
        self.published.passages(after)
    }

    async fn changed(&self, seen: u64) -> u64 {
        let mut changes = self.published.changes();
        let changed = changes.wait_for(|generation| *generation != seen).await.map(|generation| *generation);
        match changed {
            Ok(generation) => generation,
            // The picture outlives whoever might change it; nothing will.
            Err(_) => std::future::pending().await,
        }
    }
}
