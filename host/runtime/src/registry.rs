//! What is loaded, as one immutable picture.
//!
//! Invariant: the picture in force is never changed.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use domain::plugin::Record;
use domain::plugin::life::Life;
use plan::policy::Rules;
use ports::plugins::{Refusal, Signature};

use crate::build::Build;
use crate::verbs::{LoadedVerb, PluginVersion};

/// A file as far as it got by itself.
#[derive(Clone)]
pub(crate) struct Candidate {
    /// Its present bytes after gates 1 to 8.
    pub(crate) present: Result<Arc<Build>, Refusal>,
    /// The last build of this file that served, if its present bytes are others.
    pub(crate) last_good: Option<Arc<Build>>,
}

impl Candidate {
    pub(crate) fn newest(&self) -> Option<&Arc<Build>> {
        self.present.as_ref().ok().or(self.last_good.as_ref())
    }
}

/// Everything found in the folder, and what is known besides.
#[derive(Clone, Default)]
pub(crate) struct Found {
    /// By file name.
    pub(crate) files: BTreeMap<String, Candidate>,
    /// Operators' files by plugin name.
    pub(crate) operators: BTreeMap<String, String>,
    /// Signatures by file name.
    pub(crate) signatures: BTreeMap<String, Signature>,
    /// Builds of earlier versions by digest.
    pub(crate) shelf: BTreeMap<String, Arc<Build>>,
    /// What updates would break of the commands that wait, by digest; empty text is nothing.
    pub(crate) breaks: BTreeMap<String, String>,
}

/// Plugins by name.
pub(crate) type Ledger = BTreeMap<String, Record>;

/// One file in the picture.
#[derive(Clone)]
pub(crate) struct Entry {
    /// The manifest's name, or the file's stem while there is none.
    pub(crate) plugin: String,
    /// Of the version that serves; without one, of the present bytes.
    pub(crate) state: Life,
    /// The version that serves.
    pub(crate) serving: Option<Arc<PluginVersion>>,
    /// What is wrong with the present bytes, or with the operator's file.
    pub(crate) refusal: Option<Refusal>,
    /// In force, or requested while it waits for approval.
    pub(crate) grant: Arc<Rules>,
    /// Digest of the present bytes, if they passed gates 1 to 8.
    pub(crate) present: Option<String>,
    /// Other names of its verbs.
    pub(crate) aliases: BTreeMap<String, String>,
}

/// Why a verb that was there is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gone {
    pub(crate) why: String,
    pub(crate) quarantined: bool,
}

/// The picture.
#[derive(Clone, Default)]
pub(crate) struct Snapshot {
    pub(crate) generation: u64,
    /// By file name; removed ones stay until their name comes back.
    pub(crate) entries: BTreeMap<String, Entry>,
    /// By name.
    pub(crate) verbs: BTreeMap<String, Arc<LoadedVerb>>,
    /// Other names of them.
    pub(crate) aliases: BTreeMap<String, String>,
    /// Verbs that were there, and why they are not.
    pub(crate) gone: BTreeMap<String, Gone>,
    /// In force or last in force, by plugin name.
    pub(crate) grants: BTreeMap<String, Arc<Rules>>,
    /// Of the present bytes, by file name.
    pub(crate) signatures: BTreeMap<String, Signature>,
    /// What is known of plugins.
    pub(crate) records: Ledger,
    /// The newest versions by plugin name, newest first.
    pub(crate) retained: BTreeMap<String, Vec<Arc<PluginVersion>>>,
    /// Older ones somebody may still hold.
    pub(crate) older: Vec<Weak<PluginVersion>>,
}

impl Snapshot {
    /// The version with `digest`, if it is still there.
    pub(crate) fn version(&self, digest: &str) -> Option<Arc<PluginVersion>> {
        let has = |version: &Arc<PluginVersion>| version.build.identity.digest == digest;
        let kept = self.retained.values().flatten().find(|version| has(version)).cloned();
        kept.or_else(|| self.older.iter().filter_map(Weak::upgrade).find(has))
    }

    /// The verb `name` of `version`.
    pub(crate) fn verb_of(version: &Arc<PluginVersion>, name: &str) -> Option<Arc<LoadedVerb>> {
        let verb = version.build.verbs.iter().find(|verb| verb.traits.name.as_str() == name)?;
        Some(Arc::new(LoadedVerb { version: Arc::clone(version), verb: Arc::clone(verb) }))
    }

    /// The verb called `name`, or whose other name it is.
    pub(crate) fn verb(&self, name: &str) -> Option<&Arc<LoadedVerb>> {
        self.verbs.get(name).or_else(|| self.verbs.get(self.aliases.get(name)?))
    }

    /// Digest of the version of `plugin` that lies in the folder.
    pub(crate) fn present(&self, plugin: &str) -> Option<String> {
        self.entries.get(&self.records.get(plugin)?.file)?.present.clone()
    }

    /// The build of `file` that serves.
    pub(crate) fn serving(&self, file: &str) -> Option<&Arc<PluginVersion>> {
        self.entries.get(file).and_then(|entry| entry.serving.as_ref())
    }
}
