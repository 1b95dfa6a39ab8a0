//! The bare disk beside a measurement: a small file, written and synced again and again, all along. Disks of shared
//! machines stand still for a tenth of a second now and then, whoever asks; what a wait shares with such a moment is
//! not what the store under measure made of it.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

use crate::schedule::now_ns;

/// What is written each time: as much as a small commit.
const WRITE: [u8; 16 * 1024] = [0x5a; 16 * 1024];
/// Places in the file, taken in turn.
const PLACES: u64 = 64;
/// Between two syncs.
const BREATH: Duration = Duration::from_millis(2);

/// A stretch of time, in nanoseconds of [`now_ns`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Its beginning.
    pub from: u64,
    /// Its end.
    pub to: u64,
}

impl Stretch {
    /// How long it is, in nanoseconds.
    pub fn long(self) -> u64 {
        self.to.saturating_sub(self.from)
    }

    /// How much of it is in none of the others, which are in order and do not overlap: nanoseconds.
    pub fn without(self, others: &[Stretch]) -> u64 {
        let shared = |other: &Stretch| self.to.min(other.to).saturating_sub(self.from.max(other.from));
        let first = others.partition_point(|other| other.to <= self.from);
        let common: u64 = others[first..].iter().take_while(|other| other.from < self.to).map(shared).sum();
        self.long() - common
    }
}

/// The syncs of a file that nothing else uses.
pub struct Disk {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<std::io::Result<Vec<Stretch>>>>,
}

impl Disk {
    /// Writes and syncs in `folder` until [`Disk::end`].
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn watch(folder: &Path) -> Result<Disk> {
        let path = folder.join("bare-disk");
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path);
        let file = file.with_context(|| format!("`{}` cannot be made", path.display()))?;
        let over = Arc::new(AtomicBool::new(false));
        let told = over.clone();
        let thread = std::thread::Builder::new().name("bare disk".to_owned()).spawn(move || {
            for place in 0..PLACES {
                file.write_all_at(&WRITE, place * WRITE.len() as u64)?;
            }
            file.sync_all()?;
            let mut syncs = Vec::new();
            for place in (0..PLACES).cycle() {
                if told.load(Ordering::Relaxed) {
                    break;
                }
                file.write_all_at(&WRITE, place * WRITE.len() as u64)?;
                let from = now_ns();
                file.sync_data()?;
                syncs.push(Stretch { from, to: now_ns() });
                #[expect(clippy::disallowed_methods, reason = "a pace, and nothing that is waited for")]
                std::thread::sleep(BREATH);
            }
            std::fs::remove_file(&path)?;
            Ok(syncs)
        })?;
        Ok(Disk { over, thread: Some(thread) })
    }

    /// All syncs, in order.
    ///
    /// # Errors
    /// When the file could not be written.
    pub fn end(mut self) -> Result<Vec<Stretch>> {
        self.over.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("it ends once")?;
        let syncs = thread.join().map_err(|_| anyhow!("the bare disk's thread panicked"))?;
        Ok(syncs?)
    }
}

impl Drop for Disk {
    /// Of a run that failed nothing goes on.
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // It ends by itself, and removes its file.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_wait_shares_with_the_disk_is_not_counted() {
        let stretch = |from, to| Stretch { from, to };
        let syncs = [stretch(0, 10), stretch(20, 30), stretch(40, 140), stretch(150, 160)];
        assert_eq!(stretch(10, 20).without(&syncs), 10);
        assert_eq!(stretch(25, 45).without(&syncs), 10);
        assert_eq!(stretch(50, 100).without(&syncs), 0);
        assert_eq!(stretch(35, 155).without(&syncs), 15);
        assert_eq!(stretch(200, 210).without(&syncs), 10);
        assert_eq!(stretch(5, 9).without(&[]), 4);
    }

    #[test]
    fn the_bare_disk_is_watched_until_it_is_told_to_end() {
        let dir = tempfile::tempdir().expect("temp dir");
        let disk = Disk::watch(dir.path()).expect("made");
        while std::fs::metadata(dir.path().join("bare-disk")).expect("there").len() < PLACES * WRITE.len() as u64 {
            std::thread::yield_now();
        }
        let syncs = disk.end().expect("written");
        assert!(syncs.windows(2).all(|two| two[0].to <= two[1].from), "in order, one at a time");
        assert_eq!(std::fs::read_dir(dir.path()).expect("there").count(), 0, "nothing is left");
    }
}
