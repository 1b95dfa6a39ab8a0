//! What is loaded, as one immutable picture, and how the next picture follows from the files found.
//!
//! Gate 9 lives here: a plugin's name and its verbs belong to whoever had them first, and a second
//! claimant is refused, never silently preferred.
//!
//! Invariant: building a picture does no I/O and runs no guest; the picture in force is never changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use domain::time::Timestamp;
use plan::policy::Rules;
use ports::plugins::Refusal;

use crate::build::Build;
use crate::gates::operator::{self, DefaultGrants};
use crate::refusal::Code;
use crate::verbs::{LoadedVerb, Machinery, PluginVersion};

/// Versions of a plugin that are kept for what was planned with them.
const RETAINED: usize = 3;
/// Removed plugins that are still told about.
const REMEMBERED: usize = 256;

/// A file as far as it got by itself.
#[derive(Clone)]
pub(crate) struct Candidate {
    /// Its present bytes after gates 1 to 8.
    pub(crate) present: Result<Arc<Build>, Refusal>,
    /// The last build of this file that served, if its present bytes are others.
    pub(crate) last_good: Option<Arc<Build>>,
}

/// Everything found in the folder.
#[derive(Clone, Default)]
pub(crate) struct Found {
    /// By file name.
    pub(crate) files: BTreeMap<String, Candidate>,
    /// Operators' files by plugin name.
    pub(crate) operators: BTreeMap<String, String>,
}

/// How a file stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Active,
    Refused,
    Removed,
    Disabled,
    NeedsApproval,
}

impl State {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            State::Active => "active",
            State::Refused => "refused",
            State::Removed => "removed",
            State::Disabled => "disabled",
            State::NeedsApproval => "needs_approval",
        }
    }
}

/// One file in the picture.
#[derive(Clone)]
pub(crate) struct Entry {
    /// The manifest's name, or the file's stem while there is none.
    pub(crate) plugin: String,
    pub(crate) state: State,
    /// The version that serves; only while active.
    pub(crate) serving: Option<Arc<PluginVersion>>,
    /// What is wrong with the present bytes, or with the operator's file.
    pub(crate) refusal: Option<Refusal>,
    /// In force, or requested while it waits for approval.
    pub(crate) grant: Arc<Rules>,
}

/// The picture.
#[derive(Default)]
pub(crate) struct Snapshot {
    pub(crate) generation: u64,
    /// By file name; removed ones stay until their name comes back.
    pub(crate) entries: BTreeMap<String, Entry>,
    /// By name.
    pub(crate) verbs: BTreeMap<String, Arc<LoadedVerb>>,
    /// Verbs that were there, and why they are not.
    pub(crate) gone: BTreeMap<String, String>,
    /// In force or last in force, by plugin name.
    pub(crate) grants: BTreeMap<String, Arc<Rules>>,
    /// The newest versions by plugin name, newest first.
    retained: BTreeMap<String, Vec<Arc<PluginVersion>>>,
    /// Older ones somebody may still hold.
    older: Vec<Weak<PluginVersion>>,
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

    /// The build of `file` that serves.
    pub(crate) fn serving(&self, file: &str) -> Option<&Arc<PluginVersion>> {
        self.entries.get(file).and_then(|entry| entry.serving.as_ref())
    }
}

/// What the next picture is made with.
pub(crate) struct Assembly<'a> {
    pub(crate) machinery: &'a Machinery,
    pub(crate) defaults: DefaultGrants,
    pub(crate) now: Timestamp,
}

impl Assembly<'_> {
    /// The picture that follows `before` once `found` is all there is; the generation is not yet raised.
    pub(crate) fn next(&self, before: &Snapshot, found: &Found) -> Snapshot {
        let mut claims = Claims::of(before, found);
        let mut next = Snapshot { generation: before.generation, ..Snapshot::default() };
        // Whoever serves already is asked first, so that a newcomer never takes what is in use.
        let (incumbents, newcomers): (Vec<_>, Vec<_>) =
            found.files.iter().partition(|(file, _)| before.serving(file).is_some());
        for (file, candidate) in incumbents.into_iter().chain(newcomers) {
            let entry = self.place(file, candidate, before, found, &mut claims);
            next.entries.insert(file.clone(), entry);
        }
        self.remember_removed(before, found, &mut next);
        for version in next.entries.values().filter_map(|entry| entry.serving.as_ref()) {
            for verb in &version.build.verbs {
                let loaded = LoadedVerb { version: Arc::clone(version), verb: Arc::clone(verb) };
                next.verbs.insert(verb.traits.name.to_string(), Arc::new(loaded));
            }
        }
        self.explain_gone(before, found, &mut next);
        self.keep_grants(before, &mut next);
        keep_versions(before, &mut next);
        next
    }

    /// Decides about one file: its present bytes, else its last good ones, else nothing.
    fn place(&self, file: &str, candidate: &Candidate, before: &Snapshot, found: &Found, claims: &mut Claims) -> Entry {
        let mut refusal: Option<Refusal> = None;
        let mut builds: Vec<&Arc<Build>> = Vec::new();
        match &candidate.present {
            Ok(build) => builds.push(build),
            Err(refused) => refusal = Some(refused.clone()),
        }
        builds.extend(candidate.last_good.as_ref());
        let stem = file.trim_end_matches(".wasm").to_owned();
        let mut plugin = builds.first().map_or(stem, |build| build.identity.name.clone());
        for build in builds {
            match self.admit(file, build, before, found, claims) {
                Ok(mut entry) => {
                    entry.refusal = refusal;
                    return entry;
                }
                Err(refused) => refusal = refusal.or(Some(refused)),
            }
        }
        // An operator's file that cannot be read must not stop what runs: it goes on as it was.
        if let Some(serving) = before.serving(file)
            && candidate.serves(serving)
            && claims.take(file, &serving.build).is_ok()
        {
            plugin.clone_from(&serving.build.identity.name);
            let (serving, grant) = (Some(Arc::clone(serving)), Arc::clone(&serving.grant));
            return Entry { plugin, state: State::Active, serving, refusal, grant };
        }
        Entry { plugin, state: State::Refused, serving: None, refusal, grant: Arc::default() }
    }

    /// Gate 9 for one build.
    fn admit(
        &self,
        file: &str,
        build: &Arc<Build>,
        before: &Snapshot,
        found: &Found,
        claims: &mut Claims,
    ) -> Result<Entry, Refusal> {
        let (name, digest) = (&build.identity.name, &build.identity.digest);
        claims.free_name(file, build)?;
        let text = found.operators.get(name).map(String::as_str);
        let operator =
            operator::read(build, text, self.defaults).map_err(|(code, cause)| code.refuse(cause, digest))?;
        let idle = |state, grant| Entry { plugin: name.clone(), state, serving: None, refusal: None, grant };
        if !operator.enabled {
            claims.take_name(file, build);
            return Ok(idle(State::Disabled, Arc::default()));
        }
        let Some(grant) = operator.grant else {
            claims.take_name(file, build);
            return Ok(idle(State::NeedsApproval, Arc::new(build.manifest.grants.clone())));
        };
        claims.take(file, build)?;
        let version = match before.serving(file) {
            Some(same) if Arc::ptr_eq(&same.build, build) && same.config == operator.config && same.grant == grant => {
                Arc::clone(same)
            }
            _ => Arc::new(PluginVersion {
                build: Arc::clone(build),
                name: Arc::from(name.as_str()),
                config: operator.config,
                grant: Arc::clone(&grant),
                machinery: self.machinery.clone(),
            }),
        };
        Ok(Entry { plugin: name.clone(), state: State::Active, serving: Some(version), refusal: None, grant })
    }

    fn remember_removed(&self, before: &Snapshot, found: &Found, next: &mut Snapshot) {
        let back: BTreeSet<String> = next.entries.values().map(|entry| entry.plugin.clone()).collect();
        let lost = before.entries.iter().filter(|(file, entry)| {
            // A file that was never accepted leaves nothing to tell about.
            !found.files.contains_key(*file) && entry.state != State::Refused && !back.contains(&entry.plugin)
        });
        for (file, entry) in lost.take(REMEMBERED) {
            let (plugin, grant) = (entry.plugin.clone(), Arc::clone(&entry.grant));
            next.entries
                .insert(file.clone(), Entry { plugin, state: State::Removed, serving: None, refusal: None, grant });
        }
    }

    /// Says of every verb that is not there any more, or not yet, why.
    fn explain_gone(&self, before: &Snapshot, found: &Found, next: &mut Snapshot) {
        let at = moment(self.now);
        let mut gone = BTreeMap::new();
        for (file, candidate) in &found.files {
            let (Some(entry), Some(build)) = (next.entries.get(file), candidate.newest()) else { continue };
            let why = match entry.state {
                State::Disabled => format!("plugin `{0}` is disabled in `{0}.toml`", entry.plugin),
                State::NeedsApproval => {
                    format!("plugin `{0}` waits for approval: grant what it may do in `{0}.toml`", entry.plugin)
                }
                State::Active | State::Refused | State::Removed => continue,
            };
            gone.extend(build.verbs.iter().map(|verb| (verb.traits.name.to_string(), why.clone())));
        }
        for (name, verb) in &before.verbs {
            let plugin = &verb.version.build.identity.name;
            let still = next.entries.values().any(|entry| entry.serving.is_some() && entry.plugin == *plugin);
            let why = match still {
                true => format!("plugin `{plugin}` provides it no longer since its update at {at}"),
                false => format!("plugin `{plugin}` was removed at {at}"),
            };
            gone.entry(name.clone()).or_insert(why);
        }
        for (name, why) in &before.gone {
            gone.entry(name.clone()).or_insert_with(|| why.clone());
        }
        gone.retain(|name, _| !next.verbs.contains_key(name));
        while gone.len() > REMEMBERED * 4 {
            gone.pop_first();
        }
        next.gone = gone;
    }

    /// Grants in force; those of a removed plugin stay, because what it planned may still be queued.
    fn keep_grants(&self, before: &Snapshot, next: &mut Snapshot) {
        for entry in next.entries.values() {
            let grant = match entry.state {
                State::Active => Some(Arc::clone(&entry.grant)),
                State::Removed => before.grants.get(&entry.plugin).cloned(),
                State::Refused | State::Disabled | State::NeedsApproval => None,
            };
            if let Some(grant) = grant {
                next.grants.insert(entry.plugin.clone(), grant);
            }
        }
    }
}

impl Candidate {
    fn serves(&self, version: &PluginVersion) -> bool {
        let same = |build: &Arc<Build>| Arc::ptr_eq(build, &version.build);
        self.present.as_ref().is_ok_and(same) || self.last_good.as_ref().is_some_and(same)
    }

    fn newest(&self) -> Option<&Arc<Build>> {
        self.present.as_ref().ok().or(self.last_good.as_ref())
    }
}

/// Moves the versions that serve to the front of what is kept.
fn keep_versions(before: &Snapshot, next: &mut Snapshot) {
    next.retained = before.retained.clone();
    next.older = before.older.iter().filter(|version| version.strong_count() > 0).cloned().collect();
    for version in next.entries.values().filter_map(|entry| entry.serving.as_ref()) {
        let kept = next.retained.entry(version.build.identity.name.clone()).or_default();
        let digest = &version.build.identity.digest;
        kept.retain(|old| old.build.identity.digest != *digest);
        kept.insert(0, Arc::clone(version));
        next.older.extend(kept.drain(RETAINED.min(kept.len())..).map(|old| Arc::downgrade(&old)));
    }
}

/// Who has which name, while a picture is made.
struct Claims {
    plugins: BTreeMap<String, String>,
    verbs: BTreeMap<String, (String, String)>,
}

impl Claims {
    /// What files that serve now, and still could, hold before anybody else is asked.
    fn of(before: &Snapshot, found: &Found) -> Claims {
        let mut claims = Claims { plugins: BTreeMap::new(), verbs: BTreeMap::new() };
        for (file, candidate) in &found.files {
            let (Some(serving), Some(build)) = (before.serving(file), candidate.newest()) else { continue };
            if build.identity.name == serving.build.identity.name {
                claims.take_name(file, build);
            }
            let served: BTreeSet<&str> = serving.build.verbs.iter().map(|verb| verb.traits.name.as_str()).collect();
            for name in build.verbs.iter().map(|verb| verb.traits.name.as_str()).filter(|name| served.contains(name)) {
                claims.verbs.insert(name.to_owned(), (file.clone(), build.identity.name.clone()));
            }
        }
        claims
    }

    fn free_name(&self, file: &str, build: &Build) -> Result<(), Refusal> {
        let name = &build.identity.name;
        match self.plugins.get(name) {
            Some(owner) if owner != file => Err(Code::PluginConflict
                .refuse(format!("plugin `{name}` is already provided by `{owner}`"), &build.identity.digest)),
            Some(_) | None => Ok(()),
        }
    }

    fn take_name(&mut self, file: &str, build: &Build) {
        self.plugins.insert(build.identity.name.clone(), file.to_owned());
    }

    /// Takes the plugin's name and all its verbs, or nothing.
    fn take(&mut self, file: &str, build: &Build) -> Result<(), Refusal> {
        self.free_name(file, build)?;
        for verb in &build.verbs {
            let name = verb.traits.name.as_str();
            if let Some((owner, plugin)) = self.verbs.get(name).filter(|(owner, _)| owner != file) {
                let cause = format!("verb `{name}` is already provided by plugin `{plugin}` (`{owner}`)");
                return Err(Code::VerbConflict.refuse(cause, &build.identity.digest));
            }
        }
        self.take_name(file, build);
        for verb in &build.verbs {
            let owner = (file.to_owned(), build.identity.name.clone());
            self.verbs.insert(verb.traits.name.to_string(), owner);
        }
        Ok(())
    }
}

/// An instant for a sentence.
fn moment(at: Timestamp) -> String {
    let at = chrono::DateTime::from_timestamp_micros(at.0).unwrap_or_default();
    at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
