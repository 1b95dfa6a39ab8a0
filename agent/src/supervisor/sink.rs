//! Where one stream of an attempt goes: without its secrets, to the disk, and to whoever looks on.

use std::io;
use std::sync::Arc;

use plan::outcome::StreamEnd;

use crate::spool::Keeper;
use crate::supervisor::blot::Blots;
use crate::supervisor::growth::Totals;

/// One stream.
#[derive(Debug)]
pub struct Sink {
    keeper: Keeper,
    blots: Blots,
    totals: Arc<Totals>,
    /// 0 for standard output, 1 for standard error.
    index: usize,
}

impl Sink {
    /// A stream of which nothing has come yet.
    pub fn new(index: usize, keeper: Keeper, blots: Blots, totals: Arc<Totals>) -> Sink {
        Sink { keeper, blots, totals, index }
    }

    /// Takes what a process printed.
    pub fn take(&mut self, bytes: &[u8]) {
        if self.blots.is_empty() {
            return self.keep(bytes);
        }
        let passed = self.blots.pass(bytes);
        self.keep(&passed);
    }

    /// A process is over: what was held back of its output is no secret.
    pub fn settle(&mut self) {
        let rest = self.blots.rest();
        self.keep(&rest);
    }

    /// Bytes kept or counted so far.
    pub fn total(&self) -> u64 {
        self.keeper.total()
    }

    /// Whether it has a file for the disk to confirm.
    pub fn is_on_disk(&self) -> bool {
        self.keeper.is_on_disk()
    }

    /// Has the disk confirm the bytes and says what is kept.
    ///
    /// # Errors
    /// What the file system answered.
    pub fn finish(self) -> io::Result<StreamEnd> {
        self.keeper.finish()
    }

    fn keep(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let before = self.keeper.total();
        self.keeper.write(bytes);
        let kept = usize::try_from(self.keeper.head().saturating_sub(before)).unwrap_or(usize::MAX).min(bytes.len());
        self.totals.took(self.index, self.keeper.readable(), before + kept as u64, &bytes[kept..]);
    }
}
