//! The eye on the folder. What it reports are hints; losing one costs time, not truth.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

use crate::folder::{self, FolderId};

/// From one regular look at the folder to the next.
const RESCAN: Duration = Duration::from_secs(30);
/// The same where no events come.
const POLL: Duration = Duration::from_secs(2);
/// Changed paths that may wait to be noted; more than that is noted as "look at everything".
const HINTS: usize = 1024;

/// Sees that something happened.
pub(crate) struct Watch {
    folder: PathBuf,
    poll: bool,
    watcher: Option<(RecommendedWatcher, FolderId)>,
    hint: mpsc::Sender<String>,
    pub(crate) hints: mpsc::Receiver<String>,
    pub(crate) overflowed: Arc<AtomicBool>,
}

impl Watch {
    pub(crate) fn new(folder: PathBuf, poll: bool) -> Watch {
        let (hint, hints) = mpsc::channel(HINTS);
        Watch { folder, poll, watcher: None, hint, hints, overflowed: Arc::default() }
    }

    /// How often to look without being told to.
    pub(crate) fn interval(&self) -> Duration {
        if self.watcher.is_some() { RESCAN } else { POLL }
    }

    /// Watches the folder that has the name now. Called before each scan, so that what happens after
    /// the scan has looked is seen by the watch, and a folder that was replaced is watched again.
    pub(crate) fn renew(&mut self) {
        if self.poll {
            return;
        }
        let Ok(id) = folder::identify(&self.folder) else {
            self.watcher = None;
            return;
        };
        if self.watcher.as_ref().is_some_and(|(_, watched)| *watched == id) {
            return;
        }
        let (hint, overflowed) = (self.hint.clone(), Arc::clone(&self.overflowed));
        let watching =
            notify::recommended_watcher(move |event| pass_on(event, &hint, &overflowed)).and_then(|mut watcher| {
                watcher.watch(&self.folder, RecursiveMode::NonRecursive)?;
                Ok(watcher)
            });
        self.watcher = match watching {
            Ok(watcher) => Some((watcher, id)),
            Err(error) => {
                tracing::warn!(folder = %self.folder.display(), error = %error, "plugin folder cannot be watched; looking every 2 s");
                None
            }
        };
    }
}

/// Turns an event into names of files worth a look.
fn pass_on(event: notify::Result<Event>, hint: &mpsc::Sender<String>, overflowed: &AtomicBool) {
    let Ok(event) = event else {
        overflowed.store(true, Ordering::Relaxed);
        return;
    };
    if event.need_rescan() {
        overflowed.store(true, Ordering::Relaxed);
    }
    // Reading is not changing; our own reading least of all.
    if matches!(event.kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write)) {
        return;
    }
    for name in event.paths.iter().filter_map(|path| path.file_name()).filter_map(|name| name.to_str()) {
        if !folder::is_ignored(name) && hint.try_send(folder::subject(name).to_owned()).is_err() {
            overflowed.store(true, Ordering::Relaxed);
        }
    }
}
