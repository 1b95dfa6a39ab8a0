//! Makes what serves follow what lies in the folder. Looks at the truth each time, so that running twice
//! does no harm; what it remembers only saves work and keeps the last good version.
//!
//! Invariant: one loader, on a thread of its own, off every request's path.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::plugin::life::Happening;
use domain::plugin::{NotNow, Order, RETAINED};
use ports::clock::Clock;
use ports::plugin_life::{OrderError, Waiting};
use ports::plugins::Refusal;

use crate::assembly::Assembly;
use crate::build::Build;
use crate::folder::{self, FolderId, Listing, WasmFile};
use crate::gates::operator::{self, DefaultGrants};
use crate::gates::{self, Gates};
use crate::kept::Kept;
use crate::memo::Memo;
use crate::published::Published;
use crate::refusal::Code;
use crate::registry::{Candidate, Found, Ledger, Snapshot};
use crate::signature::{Policy, Signed};
use crate::tier::{Consents, Tier};
use crate::verbs::{Machinery, PluginVersion};

/// A truncated file younger than this is still being copied.
const YOUNG: Duration = Duration::from_secs(5);
/// How soon a file that is still being copied is looked at again.
const AGAIN: Duration = Duration::from_millis(500);

/// The loader and its memory.
pub(crate) struct Loader {
    pub(crate) folder: PathBuf,
    pub(crate) gates: Gates,
    pub(crate) machinery: Machinery,
    pub(crate) defaults: DefaultGrants,
    pub(crate) policy: Policy,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) lost_after: Duration,
    pub(crate) published: Arc<Published>,
    /// Bytes of earlier versions.
    pub(crate) kept: Kept,
    /// Whether somebody can be asked what waits, and what is still needed.
    pub(crate) asks: bool,
    pub(crate) memory: Memory,
}

/// What it knows from scans before.
#[derive(Default)]
pub(crate) struct Memory {
    known: BTreeMap<String, Known>,
    operators: BTreeMap<String, String>,
    /// Who may be of the compat tier, by the operators' files.
    consents: Consents,
    /// Files that ended too early, and when they were first seen so.
    incomplete: BTreeMap<String, (String, Instant)>,
    folder: Option<FolderId>,
    vanished: Option<Instant>,
    unreadable: bool,
    /// What is no plain file and was told of.
    odd: BTreeSet<String>,
    /// What is known of plugins.
    ledger: Ledger,
    /// Builds of versions that may be gone back to or asked again, by digest.
    shelf: BTreeMap<String, Arc<Build>>,
    /// What updates would break of what waits, by digest.
    breaks: BTreeMap<String, String>,
    /// Versions nobody needs any more.
    released: BTreeSet<String>,
    /// Kept bytes that did not pass the gates again.
    lost: BTreeSet<String>,
}

impl Memory {
    /// The memory of a loader that looks for the first time.
    pub(crate) fn knowing(ledger: Ledger) -> Memory {
        Memory { ledger, ..Memory::default() }
    }
}

#[derive(Clone)]
struct Known {
    digest: String,
    candidate: Candidate,
    signed: Signed,
    /// What gate 1 says of digest and signature, by the trust file in force then.
    admitted: Result<(), Refusal>,
}

/// What one scan found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// When another scan is worth while, if before the next regular one.
    pub(crate) again: Option<Duration>,
    /// Updates of which it must be said what they break: plugin and digest.
    pub(crate) questions: Vec<(String, String)>,
    /// Versions that are kept only in case somebody still needs them.
    pub(crate) leaving: Vec<String>,
}

impl Loader {
    /// Looks at the folder and publishes what follows. Files named in `unsettled` are taken to be as
    /// they were.
    pub(crate) fn scan(&mut self, unsettled: &[String]) -> Report {
        if self.policy.follow() {
            // Whom nobody trusted may be trusted now.
            self.memory.lost.clear();
        }
        let listing = match folder::list(&self.folder, unsettled) {
            Ok(listing) => Some(listing),
            Err(error) => {
                if !self.memory.unreadable {
                    tracing::warn!(folder = %self.folder.display(), error = %error, "plugin folder cannot be read");
                }
                None
            }
        };
        self.memory.unreadable = listing.is_none();
        if let Some(wait) = self.may_be_lost(listing.as_ref(), unsettled) {
            return Report { again: Some(wait), ..Report::default() };
        }
        let (wasm, toml) = match listing {
            Some(Listing { id, wasm, toml, odd }) => {
                self.memory.folder = Some(id);
                for name in odd.difference(&self.memory.odd) {
                    let folder = self.folder.display();
                    tracing::warn!(%folder, name, "left alone: a plugin is a plain file, not a link, folder or pipe");
                }
                self.memory.odd = odd;
                (wasm, toml)
            }
            None => (BTreeMap::new(), BTreeMap::new()),
        };
        self.take_operators(toml, unsettled);
        let copying = self.take_files(wasm, unsettled);
        let report = self.publish();
        Report { again: [copying, report.again].into_iter().flatten().min(), ..report }
    }

    /// Whether all plugins vanished in a way that looks like a lost mount; then how long to wait for it
    /// to come back.
    fn may_be_lost(&mut self, listing: Option<&Listing>, unsettled: &[String]) -> Option<Duration> {
        let memory = &mut self.memory;
        let empty = listing.is_none_or(|listing| listing.wasm.is_empty());
        let touched = memory.known.keys().any(|file| unsettled.contains(file));
        if !empty || touched || memory.known.is_empty() {
            memory.vanished = None;
            return None;
        }
        // Removing the only file of a folder that is otherwise the same is what people do.
        let same_folder = listing.is_some_and(|listing| Some(listing.id) == memory.folder);
        if same_folder && memory.known.len() == 1 && memory.vanished.is_none() {
            return None;
        }
        let since = *memory.vanished.get_or_insert_with(|| {
            tracing::error!(
                folder = %self.folder.display(),
                "all plugins vanished at once, as if a mount were lost; they keep serving for now"
            );
            Instant::now()
        });
        let wait = self.lost_after.saturating_sub(since.elapsed());
        if wait.is_zero() {
            memory.vanished = None;
            return None;
        }
        Some(wait)
    }

    fn take_operators(&mut self, mut toml: BTreeMap<String, String>, unsettled: &[String]) {
        for stem in unsettled.iter().filter_map(|name| name.strip_suffix(".toml")) {
            if let Some(text) = self.memory.operators.remove(stem) {
                toml.insert(stem.to_owned(), text);
            }
        }
        self.memory.operators = toml;
        let consents = Consents::of(&self.memory.operators);
        if consents != self.memory.consents {
            // Who was refused for want of a consent is looked at again. Who lost it is parked at gate 9.
            for known in self.memory.known.values_mut() {
                let waits = |refusal: &Refusal| refusal.code == Code::CompatTier.as_str();
                if known.candidate.present.as_ref().is_err_and(waits) {
                    known.digest.clear();
                }
            }
            self.memory.consents = consents;
        }
    }

    /// Leads new bytes through the gates. Answers when a file that is still being copied is to be tried again.
    fn take_files(
        &mut self,
        wasm: BTreeMap<String, std::io::Result<WasmFile>>,
        unsettled: &[String],
    ) -> Option<Duration> {
        let mut before = std::mem::take(&mut self.memory.known);
        let mut incomplete = std::mem::take(&mut self.memory.incomplete);
        let snapshot = self.published.now();
        let mut known: BTreeMap<String, Known> = BTreeMap::new();
        for name in unsettled {
            if let Some(same) = before.remove(name) {
                known.insert(name.clone(), same);
            }
        }
        for (name, read) in wasm {
            let old = before.get(&name);
            let digest = read.as_ref().map_or("", |file| file.digest.as_str()).to_owned();
            let signed =
                read.as_ref().map_or(Signed::Not, |file| self.policy.inspect(file.bytes.as_deref(), &file.signatures));
            let admitted = self.policy.admit(&digest, &signed);
            if let Some(why) = self.policy.warning(&signed).filter(|_| old.is_none_or(|old| old.signed != signed)) {
                tracing::warn!(file = name, digest, why, "plugin file would be refused if signatures were enforced");
            }
            let same = |old: &&Known| !digest.is_empty() && old.digest == digest && old.admitted == admitted;
            if let Some(old) = old.filter(same) {
                if let (Ok(build), Ok(())) = (&old.candidate.present, &admitted) {
                    build.signer.set(signed.clone());
                    if let (true, Ok(WasmFile { bytes: Some(bytes), signatures, .. })) = (signed != old.signed, &read) {
                        self.kept.put(&digest, bytes, signatures);
                    }
                }
                known.insert(name, Known { signed, ..old.clone() });
                continue;
            }
            let serving = snapshot.serving(&name).map(|version| Arc::clone(&version.build));
            let last_good = serving.or_else(|| old.and_then(|old| old.candidate.last_good.clone()));
            let present = match &read {
                Ok(file) => self.judge(&name, file, &admitted, &before),
                Err(error) => Err(Code::FileUnreadable.refuse(format!("the file cannot be read: {error}"), "")),
            };
            if let (Err(refusal), Ok(file)) = (&present, &read)
                && refusal.code == Code::Truncated.as_str()
            {
                let seen = incomplete.remove(&name).filter(|(seen, _)| *seen == digest);
                let since = seen.map_or_else(Instant::now, |(_, since)| since);
                if self.is_young(file) && since.elapsed() < YOUNG {
                    self.memory.incomplete.insert(name.clone(), (digest, since));
                    if let Some(old) = old {
                        known.insert(name, old.clone());
                    }
                    continue;
                }
            }
            // What the host could not do says nothing about the bytes: they are tried again at the next look.
            let ours = |refusal: &Refusal| refusal.code == Code::CompileUnavailable.as_str();
            let digest = if present.as_ref().is_err_and(ours) { String::new() } else { digest };
            if let Ok(build) = &present {
                build.signer.set(signed.clone());
            }
            known.insert(name, Known { digest, candidate: Candidate { present, last_good }, signed, admitted });
        }
        self.memory.known = known;
        (!self.memory.incomplete.is_empty()).then_some(AGAIN)
    }

    /// Gates 1 to 8. Bytes that passed them under another name are not led through again, and bytes that
    /// nobody who is trusted signed are not looked into.
    fn judge(
        &self,
        name: &str,
        file: &WasmFile,
        admitted: &Result<(), Refusal>,
        before: &BTreeMap<String, Known>,
    ) -> Result<Arc<Build>, Refusal> {
        let Some(bytes) = &file.bytes else {
            let (code, cause) = gates::too_big(file.size, Tier::Compat);
            return Err(code.refuse(cause, &file.digest));
        };
        admitted.clone()?;
        match moved(before, &file.digest) {
            Some(build) if gates::name(name).is_ok() => Ok(build),
            // What was judged before and is on the shelf still is what it was.
            Some(_) | None => match self.memory.shelf.get(&file.digest) {
                Some(build) if gates::name(name).is_ok() => Ok(Arc::clone(build)),
                Some(_) | None => self.gates.check(name, bytes, &self.memory.consents).map(Arc::new),
            },
        }
        .inspect(|_| self.kept.put(&file.digest, bytes, &file.signatures))
    }

    fn is_young(&self, file: &WasmFile) -> bool {
        let now = self.clock.now().as_millis() / 1000;
        now.saturating_sub(file.changed) <= i64::try_from(YOUNG.as_secs()).unwrap_or(i64::MAX)
    }

    /// Puts in force what follows from what is known now.
    pub(crate) fn publish(&mut self) -> Report {
        let now = self.clock.now();
        let mut passages = self.mind_the_clock();
        let before = self.published.now();
        let (next, ledger, questions) = loop {
            let files = self.memory.known.iter().map(|(file, known)| (file.clone(), known.candidate.clone()));
            let shown = |known: &Known| self.policy.shown(&known.signed);
            let signatures = self.memory.known.iter().filter_map(|(file, known)| Some((file.clone(), shown(known)?)));
            let found = Found {
                files: files.collect(),
                operators: self.memory.operators.clone(),
                signatures: signatures.collect(),
                shelf: self.memory.shelf.clone(),
                breaks: self.memory.breaks.clone(),
            };
            let mut assembly = Assembly {
                machinery: &self.machinery,
                before: &before,
                found: &found,
                defaults: self.defaults,
                policy: &self.policy,
                asks: self.asks,
                released: &self.memory.released,
                now,
                ledger: self.memory.ledger.clone(),
                passages: Vec::new(),
                wanted: Vec::new(),
                questions: Vec::new(),
            };
            let next = assembly.next();
            let Assembly { ledger, passages: more, wanted, questions, .. } = assembly;
            // A version that was kept is built when it is needed, and what follows is thought over again.
            if !wanted.into_iter().any(|(digest, file)| self.take_down(&digest, &file)) {
                passages.extend(more);
                break (next, ledger, questions);
            }
        };
        self.memory.ledger = ledger;
        for (file, known) in &mut self.memory.known {
            // Once the present bytes serve, going back to older ones is no longer anybody's wish.
            if let (Some(version), Ok(build)) = (next.serving(file), &known.candidate.present)
                && Arc::ptr_eq(&version.build, build)
            {
                known.candidate.last_good = None;
            }
        }
        self.tidy(&next);
        let leaving = next.retained.values().flat_map(|kept| kept.iter().skip(RETAINED));
        let leaving = leaving.map(|version| version.build.identity.digest.clone()).collect();
        let ends = next.records.values().filter_map(|record| record.probation_ends());
        let again = ends.min().map(|end| end.since(now));
        self.published.happened(passages);
        self.published.replace(next, now);
        Report { again, questions, leaving }
    }

    /// What happened without anybody looking: versions that failed too often, probations that are over.
    fn mind_the_clock(&mut self) -> Vec<domain::plugin::Passage> {
        let now = self.clock.now();
        let snapshot = self.published.now();
        let mut passages = Vec::new();
        for version in snapshot.retained.values().flatten() {
            let (name, digest) = (&version.build.identity.name, &version.build.identity.digest);
            if let (Some(why), Some(record)) = (version.build.faults.tripped(), self.memory.ledger.get_mut(name)) {
                passages.extend(record.step(digest, Happening::Trip, Some(why), now));
            }
        }
        for record in self.memory.ledger.values_mut() {
            if record.probation_ends().is_some_and(|end| end <= now)
                && let Some(digest) = record.serving().map(|version| version.digest.clone())
            {
                passages.extend(record.step(&digest, Happening::Outlast, None, now));
            }
        }
        passages
    }

    /// Builds a version whose bytes were kept; whether there is one now that was not there before.
    fn take_down(&mut self, digest: &str, file: &str) -> bool {
        if self.memory.shelf.contains_key(digest) || self.memory.lost.contains(digest) {
            return false;
        }
        let held = self.published.now().version(digest).map(|version| Arc::clone(&version.build));
        let build = held.or_else(|| {
            let (bytes, signatures) = self.kept.get(digest)?;
            let signed = self.policy.inspect(Some(&bytes), &signatures);
            let admitted = self.policy.admit(digest, &signed);
            let judged = admitted.and_then(|()| self.gates.check(file, &bytes, &self.memory.consents));
            let lost = |refusal: &Refusal| {
                tracing::warn!(
                    digest,
                    code = refusal.code,
                    cause = refusal.cause,
                    "a kept plugin version is of no use"
                );
            };
            let build = judged.inspect_err(lost).ok()?;
            build.signer.set(signed);
            Some(Arc::new(build))
        });
        match build {
            Some(build) => {
                self.memory.shelf.insert(digest.to_owned(), build);
                true
            }
            None => {
                self.memory.lost.insert(digest.to_owned());
                false
            }
        }
    }

    /// Puts what serves on the shelf, and off it what can neither be gone back to nor asked again.
    fn tidy(&mut self, next: &Snapshot) {
        let retained = next.retained.values().flatten().map(|version| &version.build);
        self.memory.shelf = retained.map(|build| (build.identity.digest.clone(), Arc::clone(build))).collect();
        let present = |digest: &String| next.entries.values().any(|entry| entry.present.as_ref() == Some(digest));
        self.memory.breaks.retain(|digest, _| present(digest));
        let shelf = &self.memory.shelf;
        self.memory.released.retain(|digest| shelf.contains_key(digest));
    }

    /// Carries out what somebody wants, and puts it in force.
    pub(crate) fn carry_out(&mut self, name: &str, order: Order, actor: &str) -> Result<Report, OrderError> {
        let now = self.clock.now();
        let present = self.published.now().present(name);
        let record = self.memory.ledger.get_mut(name).ok_or_else(|| OrderError::Unknown(name.to_owned()))?;
        let passage =
            record.order(order, present.as_deref(), actor, now).map_err(|no: NotNow| OrderError::NotNow(no))?;
        if let (Order::Retry, Some((_, digest))) = (order, &passage.version) {
            let builds = self.memory.known.values().filter_map(|known| known.candidate.present.as_ref().ok());
            for build in builds.chain(self.memory.shelf.values()).filter(|build| build.identity.digest == *digest) {
                build.faults.forgive();
            }
        }
        // The order itself was written down before it came here; what follows from it was not.
        Ok(self.publish())
    }

    /// What an update would break of what waits, in one line.
    pub(crate) fn weigh(&self, digest: &str, waiting: &[Waiting]) -> Option<String> {
        let mut builds = self.memory.known.values().filter_map(|known| known.candidate.present.as_ref().ok());
        let build = builds.find(|build| build.identity.digest == digest)?;
        waiting.iter().find_map(|Waiting { command, verb, args }| {
            let Some(known) = build.verbs.iter().find(|known| known.traits.name.as_str() == verb) else {
                return Some(format!("it has no verb `{verb}`, which command {command} waits with"));
            };
            let violations = known.args.check(&serde_json::from_str(args).ok()?).err()?;
            let first = violations.first().map(|v| format!("`{}`: {}", v.pointer, v.message)).unwrap_or_default();
            Some(format!("it would refuse the arguments of command {command} (`{verb}`), which waits: {first}"))
        })
    }

    /// Notes what an update would break; empty text is nothing.
    pub(crate) fn weighed(&mut self, digest: String, broken: String) -> Report {
        self.memory.breaks.insert(digest, broken);
        self.publish()
    }

    /// Lets go versions that nobody needs any more, and their bytes.
    pub(crate) fn release(&mut self, in_use: &BTreeSet<String>) -> Report {
        let snapshot = self.published.now();
        let leaving = snapshot.retained.values().flat_map(|kept| kept.iter().skip(RETAINED));
        let leaving = leaving.map(|version| version.build.identity.digest.clone());
        self.memory.released = leaving.filter(|digest| !in_use.contains(digest)).collect();
        let report = self.publish();
        let known = self.memory.ledger.values().flat_map(|record| record.versions.iter().map(|v| v.digest.clone()));
        let needed = known.chain(in_use.iter().cloned()).chain(self.memory.shelf.keys().cloned());
        self.kept.sweep(&needed.collect());
        report
    }

    /// Builds again, after a start, what commands that are not over were planned with. What may be gone back to
    /// is built when it comes to that.
    pub(crate) fn remember(&mut self, in_use: &BTreeSet<String>) -> Report {
        let mut versions = Vec::new();
        for digest in in_use {
            if self.published.now().version(digest).is_none() && self.take_down(digest, "plugin.wasm") {
                versions.extend(self.memory.shelf.get(digest).map(|build| self.version(build)));
            }
        }
        self.published.retain(versions);
        self.release(in_use)
    }

    /// A version that is kept for what was planned with it.
    fn version(&self, build: &Arc<Build>) -> Arc<PluginVersion> {
        let name = &build.identity.name;
        let operator = operator::read(build, self.memory.operators.get(name).map(String::as_str)).ok();
        Arc::new(PluginVersion {
            build: Arc::clone(build),
            name: Arc::from(name.as_str()),
            grant: operator.as_ref().and_then(|operator| operator.grant.clone()).unwrap_or_default(),
            tighter: operator.as_ref().map(|operator| operator.tighter).unwrap_or_default(),
            overrides: operator.as_ref().map(|operator| operator.overrides.clone()).unwrap_or_default(),
            config: operator.map_or_else(|| operator::default_config(build), |operator| operator.config),
            machinery: self.machinery.clone(),
            memo: Memo::default(),
        })
    }
}

/// The build of the same bytes under another name: a renamed file is not compiled again.
fn moved(before: &BTreeMap<String, Known>, digest: &str) -> Option<Arc<Build>> {
    let candidates = before.values().map(|known| &known.candidate);
    let mut builds =
        candidates.flat_map(|candidate| [candidate.present.as_ref().ok(), candidate.last_good.as_ref()]).flatten();
    builds.find(|build| build.identity.digest == digest).cloned()
}
