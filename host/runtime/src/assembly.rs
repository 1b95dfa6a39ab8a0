//! How the next picture follows from the files found and from what is known of their plugins.
//!
//! Invariant: does no I/O and runs no guest; looking twice at the same changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use domain::plugin::life::{Happening, Life};
use domain::plugin::{Passage, RETAINED, Record};
use domain::time::Timestamp;
use plan::policy::Rules;

use crate::build::Build;
use crate::claims::Claims;
use crate::gates::operator::{self, DefaultGrants};
use crate::judge::{Bench, Serves, Verdict, moment};
use crate::memo::Memo;
use crate::refusal::Code;
use crate::registry::{Candidate, Entry, Found, Gone, Ledger, Snapshot};
use crate::signature::Policy;
use crate::verbs::{LoadedVerb, Machinery, PluginVersion};

/// Removed plugins that are still told about.
const REMEMBERED: usize = 256;

/// What the next picture is made with.
pub(crate) struct Assembly<'a> {
    pub(crate) machinery: &'a Machinery,
    pub(crate) before: &'a Snapshot,
    pub(crate) found: &'a Found,
    pub(crate) defaults: DefaultGrants,
    pub(crate) policy: &'a Policy,
    /// Whether somebody can be asked what waits, and what is still needed.
    pub(crate) asks: bool,
    /// Versions nobody needs any more, by digest.
    pub(crate) released: &'a BTreeSet<String>,
    pub(crate) now: Timestamp,
    pub(crate) ledger: Ledger,
    /// What happened to plugins meanwhile.
    pub(crate) passages: Vec<Passage>,
    /// Builds that would have been gone back to, had they been there; by digest, with their file.
    pub(crate) wanted: Vec<(String, String)>,
    /// Updates of which it must be said what they break: plugin and digest.
    pub(crate) questions: Vec<(String, String)>,
}

impl Assembly<'_> {
    /// The picture that follows; the generation is not yet raised.
    pub(crate) fn next(&mut self) -> Snapshot {
        let (before, found) = (self.before, self.found);
        let mut claims = Claims::of(before, found);
        let signatures = found.signatures.clone();
        let mut next = Snapshot { generation: before.generation, signatures, ..Snapshot::default() };
        // Whoever serves already is asked first, so that a newcomer never takes what is in use.
        let in_use = |file: &String| {
            let had = |record: &Record| record.file == *file && record.serving().is_some();
            before.serving(file).is_some() || self.ledger.values().any(had)
        };
        let (incumbents, newcomers): (Vec<_>, Vec<_>) = found.files.iter().partition(|(file, _)| in_use(file));
        for (file, candidate) in incumbents.into_iter().chain(newcomers) {
            let entry = self.place(file, candidate, &mut claims);
            next.entries.insert(file.clone(), entry);
        }
        self.settle(&next);
        self.remember_removed(&mut next);
        for entry in next.entries.values() {
            let Some(version) = &entry.serving else { continue };
            for verb in &version.build.verbs {
                let loaded = LoadedVerb { version: Arc::clone(version), verb: Arc::clone(verb) };
                next.verbs.insert(verb.traits.name.to_string(), Arc::new(loaded));
            }
        }
        let aliases = next.entries.values().filter(|entry| entry.serving.is_some()).flat_map(|entry| &entry.aliases);
        // A verb's own name goes before anybody's other name for another.
        next.aliases = aliases
            .filter(|(alias, _)| !next.verbs.contains_key(*alias))
            .map(|(alias, verb)| (alias.clone(), verb.clone()))
            .collect();
        self.explain_gone(&mut next);
        self.keep_grants(&mut next);
        self.keep_versions(&mut next);
        // What is denied since is not kept for anything, not even for reading what it planned.
        next.retained.values_mut().for_each(|kept| kept.retain(|version| self.allows(&version.build)));
        next.older.retain(|old| old.upgrade().is_some_and(|version| self.allows(&version.build)));
        for record in self.ledger.values_mut() {
            record.trim();
        }
        next.records = self.ledger.clone();
        next
    }

    /// Gate 1 again, for bytes that passed it under another trust file.
    fn allows(&self, build: &Build) -> bool {
        self.policy.admit(&build.identity.digest, &build.signer.get()).is_ok()
    }

    /// Decides about one file: its present bytes, else the last good ones, else nothing.
    fn place(&mut self, file: &str, candidate: &Candidate, claims: &mut Claims) -> Entry {
        let before = self.before;
        let stem = file.trim_end_matches(".wasm").to_owned();
        let known = self.ledger.values().find(|record| record.file == file).map(|record| record.name.clone());
        let last_good = candidate.last_good.as_ref().map(|build| build.identity.name.clone());
        let present = candidate.present.as_ref().ok();
        let mut plugin = present.map(|build| build.identity.name.clone());
        let earlier = last_good.or(known);
        let mut entry = Entry {
            plugin: plugin.clone().or_else(|| earlier.clone()).unwrap_or(stem),
            state: Life::Refused,
            serving: None,
            refusal: candidate.present.as_ref().err().cloned(),
            grant: Arc::default(),
            present: present.map(|build| build.identity.digest.clone()),
            aliases: BTreeMap::new(),
        };
        if let Some(build) = present {
            if let Err(refusal) = claims.free_name(file, build) {
                // The name is another's, and so is its record.
                (entry.refusal, plugin) = (Some(refusal), None);
            } else if let Some(done) = self.take_present(file, build, &mut entry, claims) {
                return done;
            }
        }
        for name in plugin.iter().chain(earlier.iter().filter(|earlier| plugin.as_ref() != Some(earlier))) {
            if let Some(done) = self.go_back(file, name, &entry, claims) {
                return done;
            }
        }
        // An operator's file that cannot be read must not stop what runs: it goes on as it was.
        let may = |version: &&Arc<PluginVersion>| {
            let (name, digest) = (&version.build.identity.name, &version.build.identity.digest);
            let life = self.ledger.get(name).and_then(|record| record.version(digest)).map(|version| version.life);
            life.is_some_and(Life::serves) && entry.state == Life::Refused
        };
        if let Some(serving) = before.serving(file).filter(may)
            && self.allows(&serving.build)
            && claims.free(file, &serving.build).is_ok()
        {
            claims.take(file, &serving.build);
            let life = self.life(&serving.build.identity.name, &serving.build.identity.digest);
            let aliases = before.entries.get(file).map(|entry| entry.aliases.clone()).unwrap_or_default();
            return Entry {
                plugin: serving.build.identity.name.clone(),
                state: life,
                grant: Arc::clone(&serving.grant),
                serving: Some(Arc::clone(serving)),
                aliases,
                ..entry
            };
        }
        entry
    }

    /// Lets the present bytes serve, or notes in `entry` why they do not. What is answered is all there is to say.
    fn take_present(
        &mut self,
        file: &str,
        build: &Arc<Build>,
        entry: &mut Entry,
        claims: &mut Claims,
    ) -> Option<Entry> {
        let (name, digest) = (build.identity.name.clone(), build.identity.digest.clone());
        let verbs = || build.verbs.iter().map(|verb| verb.traits.name.to_string()).collect();
        let record = self.ledger.entry(name.clone()).or_insert_with(|| Record::new(&name, file));
        file.clone_into(&mut record.file);
        record.see(&digest, &build.identity.version, verbs, self.now);
        let record = record.clone();
        let predecessor = self.before.serving(file).map(|version| Arc::clone(&version.build));
        let predecessor = predecessor.filter(|old| old.identity.name == name && old.identity.digest != digest);
        let bench = Bench { found: self.found, defaults: self.defaults, asks: self.asks };
        match bench.judge(file, build, &record, predecessor.as_ref(), claims) {
            Verdict::Serve(serves) => {
                let proven = record.version(&digest).is_some_and(|version| version.proven);
                let alone = proven || record.fallbacks(&digest).next().is_none();
                let happening = if alone { Happening::Begin } else { Happening::Try };
                self.happen(&name, &digest, happening, None);
                return Some(self.serve(file, build, serves, entry.clone(), claims));
            }
            Verdict::Off => {
                self.happen(&name, &digest, Happening::Disable, None);
                claims.take_name(file, build);
                entry.state = Life::Disabled;
                return Some(entry.clone());
            }
            Verdict::Wait { refusal } => {
                if refusal.as_ref().is_some_and(|refusal| refusal.code == Code::BreaksQueued.as_str()) {
                    // What waits does not wait for ever.
                    self.questions.push((name.clone(), digest.clone()));
                }
                let why = refusal.as_ref().map(|refusal| refusal.cause.clone());
                self.happen(&name, &digest, Happening::Park, why);
                claims.take_name(file, build);
                (entry.state, entry.refusal) = (Life::NeedsApproval, refusal);
                entry.grant = Arc::new(build.manifest.grants.clone());
            }
            Verdict::Held { refusal, grant } => {
                claims.take_name(file, build);
                entry.state = self.life(&name, &digest);
                (entry.refusal, entry.grant) = (Some(refusal), grant.unwrap_or_default());
            }
            Verdict::Unclear(refusal) => {
                let serving = self.before.serving(file).map(|version| &version.build.identity.digest);
                if serving != Some(&digest) {
                    self.happen(&name, &digest, Happening::Refuse, Some(refusal.cause.clone()));
                }
                entry.refusal = Some(refusal);
            }
            Verdict::Refuse(refusal) => {
                self.happen(&name, &digest, Happening::Refuse, Some(refusal.cause.clone()));
                entry.refusal = Some(refusal);
            }
            Verdict::Ask => self.questions.push((name, digest)),
        }
        None
    }

    /// Lets an earlier version of plugin `name` serve in place of the present bytes, if there is one that may.
    fn go_back(&mut self, file: &str, name: &str, entry: &Entry, claims: &mut Claims) -> Option<Entry> {
        let record = self.ledger.get(name).filter(|record| record.file == file)?.clone();
        let present = entry.present.clone().unwrap_or_default();
        for version in record.fallbacks(&present) {
            let digest = &version.digest;
            let serving = self.before.serving(file).map(|version| &version.build);
            let serving = serving.filter(|build| build.identity.digest == *digest);
            let Some(build) = serving.or_else(|| self.found.shelf.get(digest)).cloned() else {
                self.wanted.push((digest.clone(), file.to_owned()));
                continue;
            };
            if !self.allows(&build) {
                continue;
            }
            let bench = Bench { found: self.found, defaults: self.defaults, asks: false };
            let Verdict::Serve(serves) = bench.judge(file, &build, &record, None, claims) else { continue };
            self.happen(
                name,
                digest,
                Happening::Begin,
                Some("back in the place of a version that may not serve".into()),
            );
            return Some(self.serve(file, &build, serves, entry.clone(), claims));
        }
        None
    }

    fn serve(&mut self, file: &str, build: &Arc<Build>, serves: Serves, entry: Entry, claims: &mut Claims) -> Entry {
        let Serves { operator, grant, as_requested } = serves;
        let (name, digest) = (&build.identity.name, &build.identity.digest);
        claims.take(file, build);
        if let Some(record) = self.ledger.get_mut(name) {
            record.grant(digest, as_requested.then(|| Rules::clone(&grant)));
        }
        let version = match self.before.serving(file) {
            Some(same)
                if Arc::ptr_eq(&same.build, build)
                    && same.config == operator.config
                    && same.grant == grant
                    && same.tighter == operator.tighter
                    && same.overrides == operator.overrides =>
            {
                Arc::clone(same)
            }
            Some(_) | None => Arc::new(PluginVersion {
                build: Arc::clone(build),
                name: Arc::from(name.as_str()),
                config: operator.config,
                grant: Arc::clone(&grant),
                tighter: operator.tighter,
                overrides: operator.overrides,
                machinery: self.machinery.clone(),
                memo: Memo::default(),
            }),
        };
        let state = self.life(name, digest);
        Entry { plugin: name.clone(), state, serving: Some(version), grant, aliases: operator.aliases, ..entry }
    }

    fn life(&self, plugin: &str, digest: &str) -> Life {
        let version = self.ledger.get(plugin).and_then(|record| record.version(digest));
        version.map_or(Life::Refused, |version| version.life)
    }

    fn happen(&mut self, plugin: &str, digest: &str, happening: Happening, why: Option<String>) {
        let Some(record) = self.ledger.get_mut(plugin) else { return };
        self.passages.extend(record.step(digest, happening, why, self.now));
    }

    /// What follows for versions that have no place any more: another has it, or their plugin's file is gone.
    fn settle(&mut self, next: &Snapshot) {
        let mut places: BTreeMap<&str, (Option<&str>, Option<&str>)> = BTreeMap::new();
        for entry in next.entries.values() {
            let serving = entry.serving.as_ref().map(|version| version.build.identity.digest.as_str());
            let owned = self.ledger.get(&entry.plugin).is_some_and(|record| next.entries.contains_key(&record.file));
            if owned && (serving.is_some() || entry.present.is_some()) {
                let place = places.entry(entry.plugin.as_str()).or_default();
                *place = (place.0.or(serving), place.1.or(entry.present.as_deref()));
            }
        }
        for record in self.ledger.values_mut() {
            let place = places.get(record.name.as_str());
            let digests: Vec<String> = record.versions.iter().map(|version| version.digest.clone()).collect();
            for digest in digests {
                let happening = match place {
                    None => Happening::Remove,
                    Some((serving, present)) if [*serving, *present].contains(&Some(&digest)) => continue,
                    Some(_) => Happening::Supersede,
                };
                self.passages.extend(record.step(&digest, happening, None, self.now));
            }
        }
    }

    fn remember_removed(&self, next: &mut Snapshot) {
        let back: BTreeSet<String> = next.entries.values().map(|entry| entry.plugin.clone()).collect();
        let gone = |file: &String, plugin: &String| !self.found.files.contains_key(file) && !back.contains(plugin);
        let mut removed: BTreeMap<String, Entry> = BTreeMap::new();
        let ever = |record: &&Record| record.versions.iter().any(|version| version.proven || version.grant.is_some());
        for record in self.ledger.values().filter(ever).filter(|record| gone(&record.file, &record.name)) {
            removed.insert(record.file.clone(), self.removed(&record.name, Arc::default()));
        }
        for (file, entry) in self.before.entries.iter().filter(|(file, entry)| gone(file, &entry.plugin)) {
            // A file that was never accepted leaves nothing to tell about.
            if entry.state != Life::Refused {
                removed.insert(file.clone(), self.removed(&entry.plugin, Arc::clone(&entry.grant)));
            }
        }
        next.entries.extend(removed.into_iter().take(REMEMBERED));
    }

    fn removed(&self, plugin: &str, grant: Arc<Rules>) -> Entry {
        Entry {
            plugin: plugin.to_owned(),
            state: Life::Removed,
            serving: None,
            refusal: None,
            grant,
            present: None,
            aliases: BTreeMap::new(),
        }
    }

    /// Says of every verb that is not there any more, or not yet, why.
    fn explain_gone(&self, next: &mut Snapshot) {
        let mut gone: BTreeMap<String, Gone> = BTreeMap::new();
        for entry in next.entries.values().filter(|entry| entry.serving.is_none()) {
            let Some(record) = self.ledger.get(&entry.plugin) else { continue };
            let present = entry.present.as_deref().and_then(|digest| record.version(digest));
            let Some(version) = present.or(record.versions.first()) else { continue };
            let (plugin, since) = (&entry.plugin, moment(version.since));
            let why = match entry.state {
                Life::Disabled if record.enabled => format!("plugin `{plugin}` is disabled in `{plugin}.toml`"),
                Life::Disabled => format!("plugin `{plugin}` is disabled; `viworks plugin enable {plugin}` ends that"),
                Life::NeedsApproval => format!(
                    "plugin `{plugin}` waits for approval: grant what it may do in `{plugin}.toml`, or `viworks plugin approve {plugin}`"
                ),
                Life::Quarantined => {
                    let why = version.why.as_deref().unwrap_or("it failed too often");
                    format!("plugin `{plugin}` is quarantined since {since}: {why}")
                }
                Life::Removed => format!("plugin `{plugin}` was removed at {since}"),
                Life::RolledBack => format!("plugin `{plugin}` was rolled back at {since}"),
                Life::Refused => format!("plugin `{plugin}` is refused since {since}"),
                Life::Found | Life::Probation | Life::Active | Life::Kept => continue,
            };
            let quarantined = entry.state == Life::Quarantined;
            gone.extend(version.verbs.iter().map(|verb| (verb.clone(), Gone { why: why.clone(), quarantined })));
        }
        let at = moment(self.now);
        for (name, verb) in &self.before.verbs {
            let plugin = &verb.version.build.identity.name;
            let still = next.entries.values().any(|entry| entry.serving.is_some() && entry.plugin == *plugin);
            let why = match still {
                true => format!("plugin `{plugin}` provides it no longer since its update at {at}"),
                false => format!("plugin `{plugin}` was removed at {at}"),
            };
            gone.entry(name.clone()).or_insert(Gone { why, quarantined: false });
        }
        for (name, why) in &self.before.gone {
            gone.entry(name.clone()).or_insert_with(|| why.clone());
        }
        gone.retain(|name, _| !next.verbs.contains_key(name));
        while gone.len() > REMEMBERED * 4 {
            gone.pop_first();
        }
        next.gone = gone;
    }

    /// Grants in force; those of a plugin that is gone or sent back stay, because what it planned may still be
    /// queued.
    fn keep_grants(&self, next: &mut Snapshot) {
        for entry in next.entries.values() {
            let before = || self.before.grants.get(&entry.plugin).cloned();
            let grant = match entry.state {
                Life::Active | Life::Probation => Some(Arc::clone(&entry.grant)),
                Life::Quarantined | Life::RolledBack => before().or_else(|| Some(Arc::clone(&entry.grant))),
                Life::Removed => before().or_else(|| {
                    let written = self.found.operators.get(&entry.plugin).and_then(|text| operator::grant_of(text));
                    let record = self.ledger.get(&entry.plugin)?;
                    let known = record.granted(self.defaults == DefaultGrants::None);
                    written.or_else(|| known.map(|rules| Arc::new(rules.clone())))
                }),
                Life::Found | Life::Refused | Life::Disabled | Life::NeedsApproval | Life::Kept => None,
            };
            if let Some(grant) = grant {
                next.grants.insert(entry.plugin.clone(), grant);
            }
        }
    }

    /// Moves the versions that serve to the front of what is kept.
    fn keep_versions(&self, next: &mut Snapshot) {
        next.retained = self.before.retained.clone();
        next.older = self.before.older.iter().filter(|version| version.strong_count() > 0).cloned().collect();
        for version in next.entries.values().filter_map(|entry| entry.serving.as_ref()) {
            let kept = next.retained.entry(version.build.identity.name.clone()).or_default();
            let digest = &version.build.identity.digest;
            kept.retain(|old| old.build.identity.digest != *digest);
            kept.insert(0, Arc::clone(version));
        }
        for kept in next.retained.values_mut() {
            let mut place = 0;
            kept.retain(|old| {
                place += 1;
                let stays = place <= RETAINED || (self.asks && !self.released.contains(&old.build.identity.digest));
                if !stays {
                    next.older.push(Arc::downgrade(old));
                }
                stays
            });
        }
    }
}
