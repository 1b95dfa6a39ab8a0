//! Makes what serves follow what lies in the folder. Looks at the truth each time, so that running twice
//! does no harm; what it remembers only saves work and keeps the last good version.
//!
//! Invariant: one loader, on a thread of its own, off every request's path.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ports::clock::Clock;
use ports::plugins::Refusal;

use crate::build::Build;
use crate::folder::{self, FolderId, Listing, WasmFile};
use crate::gates::operator::DefaultGrants;
use crate::gates::{self, Gates};
use crate::published::Published;
use crate::refusal::Code;
use crate::registry::{Assembly, Candidate, Found};
use crate::verbs::Machinery;

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
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) lost_after: Duration,
    pub(crate) published: Arc<Published>,
    pub(crate) memory: Memory,
}

/// What it knows from scans before.
#[derive(Default)]
pub(crate) struct Memory {
    known: BTreeMap<String, Known>,
    operators: BTreeMap<String, String>,
    /// Files that ended too early, and when they were first seen so.
    incomplete: BTreeMap<String, (String, Instant)>,
    folder: Option<FolderId>,
    vanished: Option<Instant>,
    unreadable: bool,
}

struct Known {
    digest: String,
    candidate: Candidate,
}

/// What one scan found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// When another scan is worth while, if before the next regular one.
    pub(crate) again: Option<Duration>,
}

impl Loader {
    /// Looks at the folder and publishes what follows. Files named in `unsettled` are taken to be as
    /// they were.
    pub(crate) fn scan(&mut self, unsettled: &[String]) -> Report {
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
            return Report { again: Some(wait) };
        }
        let (wasm, toml) = match listing {
            Some(Listing { id, wasm, toml }) => {
                self.memory.folder = Some(id);
                (wasm, toml)
            }
            None => (BTreeMap::new(), BTreeMap::new()),
        };
        self.take_operators(toml, unsettled);
        let again = self.take_files(wasm, unsettled);
        self.publish();
        Report { again }
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
            if let Some(old) = old.filter(|old| !digest.is_empty() && old.digest == digest) {
                known.insert(name, Known { digest, candidate: old.candidate.clone() });
                continue;
            }
            let serving = snapshot.serving(&name).map(|version| Arc::clone(&version.build));
            let last_good = serving.or_else(|| old.and_then(|old| old.candidate.last_good.clone()));
            let present = match &read {
                Ok(file) => self.judge(&name, file, &before),
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
                        let candidate = old.candidate.clone();
                        known.insert(name, Known { digest: old.digest.clone(), candidate });
                    }
                    continue;
                }
            }
            // What the host could not do says nothing about the bytes: they are tried again at the next look.
            let ours = |refusal: &Refusal| refusal.code == Code::CompileUnavailable.as_str();
            let digest = if present.as_ref().is_err_and(ours) { String::new() } else { digest };
            known.insert(name, Known { digest, candidate: Candidate { present, last_good } });
        }
        self.memory.known = known;
        (!self.memory.incomplete.is_empty()).then_some(AGAIN)
    }

    /// Gates 1 to 8. Bytes that passed them under another name are not led through again.
    fn judge(&self, name: &str, file: &WasmFile, before: &BTreeMap<String, Known>) -> Result<Arc<Build>, Refusal> {
        let Some(bytes) = &file.bytes else {
            let cause = format!("{} bytes; a plugin has at most {}", file.size, gates::MAX_WASM_BYTES);
            return Err(Code::FileTooBig.refuse(cause, &file.digest));
        };
        match moved(before, &file.digest) {
            Some(build) if gates::name(name).is_ok() => Ok(build),
            Some(_) | None => self.gates.check(name, bytes).map(Arc::new),
        }
    }

    fn is_young(&self, file: &WasmFile) -> bool {
        let now = self.clock.now().as_millis() / 1000;
        now.saturating_sub(file.changed) <= i64::try_from(YOUNG.as_secs()).unwrap_or(i64::MAX)
    }

    fn publish(&mut self) {
        let now = self.clock.now();
        let files = self.memory.known.iter().map(|(file, known)| (file.clone(), known.candidate.clone()));
        let found = Found { files: files.collect(), operators: self.memory.operators.clone() };
        let assembly = Assembly { machinery: &self.machinery, defaults: self.defaults, now };
        let next = assembly.next(&self.published.now(), &found);
        for (file, known) in &mut self.memory.known {
            // Once the present bytes serve, going back to older ones is no longer anybody's wish.
            if let (Some(version), Ok(build)) = (next.serving(file), &known.candidate.present)
                && Arc::ptr_eq(&version.build, build)
            {
                known.candidate.last_good = None;
            }
        }
        self.published.replace(next, now);
    }
}

/// The build of the same bytes under another name: a renamed file is not compiled again.
fn moved(before: &BTreeMap<String, Known>, digest: &str) -> Option<Arc<Build>> {
    let mut builds = before.values().filter_map(|known| known.candidate.present.as_ref().ok());
    builds.find(|build| build.identity.digest == digest).cloned()
}
