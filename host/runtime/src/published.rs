//! The picture in force, and word of how it came to be.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use domain::plugin::Passage;
use domain::time::Timestamp;
use ports::plugins::{PluginIdentity, Refusal};
use tokio::sync::watch;

use crate::registry::{Entry, Snapshot};
use crate::verbs::PluginVersion;

/// Transitions that are kept; the oldest go first.
const KEPT: usize = 512;
/// Passages that are kept until somebody wrote them down.
const PASSAGES: usize = 4096;

/// One change of one plugin file, for audit and for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// From 1, without gaps; later ones are greater.
    pub sequence: u64,
    /// When the new state came into force.
    pub at: Timestamp,
    /// The generation that began with it.
    pub generation: u64,
    /// File name in the plugin folder.
    pub file: String,
    /// The manifest's name, or the file's stem while there is none.
    pub plugin: String,
    /// The state before; absent for a file not seen before.
    pub from: Option<&'static str>,
    /// The state since, as in `PluginStatus`.
    pub to: &'static str,
    /// The version that serves since, if one does.
    pub active: Option<PluginIdentity>,
    /// What was refused, if something was.
    pub refusal: Option<Refusal>,
}

/// What the loader writes and everybody reads.
pub(crate) struct Published {
    snapshot: ArcSwap<Snapshot>,
    generation: watch::Sender<u64>,
    transitions: Mutex<VecDeque<Transition>>,
    passages: Mutex<Passages>,
}

/// The latest passages, and the number of the last one.
#[derive(Default)]
struct Passages {
    last: u64,
    kept: VecDeque<Passage>,
}

impl Published {
    pub(crate) fn new() -> Published {
        Published {
            snapshot: ArcSwap::from_pointee(Snapshot::default()),
            generation: watch::Sender::new(0),
            transitions: Mutex::default(),
            passages: Mutex::default(),
        }
    }

    /// Adds to what happened to plugins. Comes before the picture that shows it.
    pub(crate) fn happened(&self, passages: Vec<Passage>) {
        let mut kept = self.passages.lock().unwrap_or_else(PoisonError::into_inner);
        kept.last += passages.len() as u64;
        kept.kept.extend(passages);
        let excess = kept.kept.len().saturating_sub(PASSAGES);
        kept.kept.drain(..excess);
    }

    /// Kept passages later than the one numbered `after`, oldest first.
    pub(crate) fn passages(&self, after: u64) -> Vec<(u64, Passage)> {
        let kept = self.passages.lock().unwrap_or_else(PoisonError::into_inner);
        let first = kept.last + 1 - kept.kept.len() as u64;
        let numbered = (first..).zip(&kept.kept).filter(|(number, _)| *number > after);
        numbered.map(|(number, passage)| (number, passage.clone())).collect()
    }

    /// The picture in force; whoever holds it is not disturbed by the next one.
    pub(crate) fn now(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Kept transitions later than `after`, oldest first.
    pub(crate) fn transitions(&self, after: u64) -> Vec<Transition> {
        self.kept().iter().filter(|transition| transition.sequence > after).cloned().collect()
    }

    /// Adds versions to those that are kept, behind what serves. Called by one thread only.
    pub(crate) fn retain(&self, versions: Vec<Arc<PluginVersion>>) {
        let mut next = Snapshot::clone(&self.now());
        for version in versions {
            let name = version.build.identity.name.clone();
            next.retained.entry(name).or_default().push(version);
        }
        self.snapshot.store(Arc::new(next));
    }

    /// Puts `next` in force if anything in it can be told from the picture before. Called by one thread only.
    pub(crate) fn replace(&self, mut next: Snapshot, at: Timestamp) {
        let before = self.now();
        let files: BTreeSet<&String> = before.entries.keys().chain(next.entries.keys()).collect();
        let changed: Vec<String> = files
            .into_iter()
            .filter(|file| {
                !same(before.entries.get(*file), next.entries.get(*file))
                    || before.signatures.get(*file) != next.signatures.get(*file)
            })
            .cloned()
            .collect();
        // What is gone for another reason than before shows too, if only in `resolve`.
        if changed.is_empty() && before.gone == next.gone && before.records == next.records {
            // Versions nobody needs any more may have gone; nobody can tell.
            self.snapshot.store(Arc::new(next));
            return;
        }
        next.generation = before.generation + 1;
        let next = Arc::new(next);
        self.record(&before, &next, &changed, at);
        self.snapshot.store(Arc::clone(&next));
        self.generation.send_replace(next.generation);
    }

    fn record(&self, before: &Snapshot, next: &Snapshot, changed: &[String], at: Timestamp) {
        let mut kept = self.kept();
        for file in changed {
            // An entry that is forgotten altogether was removed long ago and has been told about then.
            let Some(entry) = next.entries.get(file) else { continue };
            let active = entry.serving.as_ref().map(|version| version.build.identity.clone());
            let transition = Transition {
                sequence: kept.back().map_or(1, |last| last.sequence + 1),
                at,
                generation: next.generation,
                file: file.clone(),
                plugin: entry.plugin.clone(),
                from: before.entries.get(file).map(|entry| entry.state.as_str()),
                to: entry.state.as_str(),
                active,
                refusal: entry.refusal.clone(),
            };
            tell(&transition);
            kept.push_back(transition);
        }
        let excess = kept.len().saturating_sub(KEPT);
        kept.drain(..excess);
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Transition>> {
        self.transitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn same(before: Option<&Entry>, next: Option<&Entry>) -> bool {
    match (before, next) {
        (None, None) => true,
        (Some(before), Some(next)) => {
            let serving = match (&before.serving, &next.serving) {
                (None, None) => true,
                (Some(before), Some(next)) => Arc::ptr_eq(before, next),
                (_, _) => false,
            };
            serving
                && before.state == next.state
                && before.plugin == next.plugin
                && before.refusal == next.refusal
                && before.grant == next.grant
        }
        (_, _) => false,
    }
}

fn tell(transition: &Transition) {
    let Transition { file, plugin, to, active, generation, .. } = transition;
    let version = active.as_ref().map_or("none", |identity| identity.version.as_str());
    let digest = active.as_ref().map_or("", |identity| identity.digest.as_str());
    match &transition.refusal {
        None => tracing::info!(plugin, file, state = to, version, digest, generation, "plugin changed"),
        Some(Refusal { gate, code, cause, cure, digest: refused }) => tracing::warn!(
            plugin,
            file,
            state = to,
            version,
            digest,
            generation,
            gate,
            code,
            cause,
            cure,
            refused,
            "plugin file refused"
        ),
    }
}
