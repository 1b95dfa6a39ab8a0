//! Writes down what becomes of plugins, and tells live listeners. Takes no input: it looks at how they stand, and
//! a change makes it look sooner.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use domain::audit::Entry;
use domain::event::{Event, What};
use domain::plugin::{Passage, Record};
use domain::time::Timestamp;
use ports::clock::Clock;
use ports::live::Live;
use ports::plugin_life::{PluginBook, PluginLife};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::origin::Origin;

/// How soon a store that did not take it is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// Most changes that one audit entry names; the history of plugins has all.
const NAMED: usize = 20;

/// The use case.
pub struct Chronicle {
    /// How plugins stand.
    pub life: Arc<dyn PluginLife>,
    /// Where it is written down.
    pub book: Arc<dyn PluginBook>,
    /// Who wants to know at once.
    pub live: Arc<dyn Live>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What the store had when this host started.
    pub known: Vec<Record>,
}

impl Chronicle {
    /// Writes until told to stop, and then what is left.
    pub async fn run(self, stop: CancellationToken) {
        let mut known: BTreeMap<String, Record> =
            self.known.iter().map(|record| (record.name.clone(), record.clone())).collect();
        let (mut written, mut seen) = (0, 0);
        loop {
            let stopping = tokio::select! {
                () = stop.cancelled() => true,
                generation = self.life.changed(seen) => {
                    seen = generation;
                    // The event's place in the order of the log is none: nothing of it is stored, and whoever
                    // hears it asks for the plugins again.
                    let event = Event { seq: 0, at: self.clock.now(), what: What::Plugins { generation } };
                    self.live.publish(&[Arc::new(event)]);
                    false
                }
            };
            while !self.write(&mut known, &mut written).await && !stopping {
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(AGAIN) => {}
                }
            }
            if stopping {
                return;
            }
        }
    }

    /// Whether everything that happened so far is written down.
    async fn write(&self, known: &mut BTreeMap<String, Record>, written: &mut u64) -> bool {
        // Passages first: what comes between the two reads is in the next turn's passages at the latest.
        let passages = self.life.passages(*written);
        let changed: Vec<Record> =
            self.life.records().into_iter().filter(|record| known.get(&record.name) != Some(record)).collect();
        if passages.is_empty() && changed.is_empty() {
            return true;
        }
        let last = passages.last().map_or(*written, |(number, _)| *number);
        let rows: Vec<Passage> = passages.into_iter().map(|(_, passage)| passage).collect();
        let audit = audit(&rows, self.clock.now());
        match self.book.keep_plugins(changed.clone(), rows, audit).await {
            Ok(()) => {
                *written = last;
                known.extend(changed.into_iter().map(|record| (record.name.clone(), record)));
                true
            }
            Err(error) => {
                tracing::warn!(%error, "what became of plugins is not written down yet");
                false
            }
        }
    }
}

/// What the audit log says of changes that nobody ordered: a folder's contents, a fault, a deny list.
fn audit(passages: &[Passage], now: Timestamp) -> Option<Entry> {
    let first = passages.first()?;
    let change = |passage: &Passage| -> Value {
        let Passage { at: _, plugin, version, from, to, why: _, actor: _ } = passage;
        let (version, digest) = version.clone().unzip();
        json!({ "plugin": plugin, "version": version, "digest": digest, "from": from, "to": to })
    };
    let changes: Vec<Value> = passages.iter().take(NAMED).map(change).collect();
    let mut audit = Origin::default().entry(now, "plugins.change", None);
    let alone = passages.iter().all(|passage| passage.plugin == first.plugin);
    audit.resource = alone.then(|| ("plugin", first.plugin.clone()));
    audit.details = json!({ "changes": changes, "in_all": passages.len() }).to_string();
    Some(audit)
}
