//! Forgetting: rewrites the journal so that it holds what may still matter and nothing else.
//!
//! An attempt with a result loses its plan; an acknowledged one becomes one `finished` record, after
//! seven days and ten thousand others a tombstone, and goes when a replayed frame for it could no
//! longer pass the validity check.

use std::collections::HashMap;

use plan::id::AttemptKey;
use plan::keyring::Keyring;

use crate::journal::record::{Record, Settled};
use crate::journal::{Journal, KEEP_FINISHED, KEEP_FINISHED_MS, KEEP_TOMBSTONE_MS, newer};
use crate::log::LogError;

/// What time it is, according to whom. An attempt is forgotten only when both agree that its validity
/// is over, so that a host which lies about the time cannot have an old frame run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// This machine's clock, milliseconds since 1970-01-01 UTC.
    pub wall_ms: i64,
    /// The host's clock, as far as it was ever heard.
    pub host_ms: Option<i64>,
}

impl Clocks {
    fn both_past(self, instant_ms: i64) -> bool {
        self.wall_ms > instant_ms && self.host_ms.is_some_and(|host_ms| host_ms > instant_ms)
    }
}

#[derive(Clone, Copy, Default)]
struct Fate {
    has_result: bool,
    acked: bool,
    at_ms: i64,
}

/// What the file holds besides lives.
struct Held {
    fates: HashMap<AttemptKey, Fate>,
    highest_epoch: u64,
    ring: Option<Keyring>,
}

impl Journal {
    /// Rewrites the file; answers which attempts are remembered no more.
    pub(super) fn compact(&mut self, now: Clocks) -> Result<Vec<AttemptKey>, LogError> {
        let Held { fates, highest_epoch, ring } = self.held()?;
        let whole_since = oldest_kept_whole(&fates, now);
        let mut rewrite = self.log.rewrite()?;
        if highest_epoch > 0 {
            rewrite.push(&Record::Epoch { highest: highest_epoch }.encode())?;
        }
        if let Some(ring) = ring {
            rewrite.push(&Record::Keys { ring }.encode())?;
        }
        let mut finished = HashMap::new();
        let mut purged = Vec::new();
        self.log.scan(&mut |_, payload| {
            let Ok(record) = Record::decode(payload) else { return Ok(()) };
            match record {
                Record::Accepted(ref accepted) if !fate(&fates, accepted.attempt).has_result => {
                    rewrite.push(payload)?;
                }
                Record::Starting { attempt, .. } | Record::Started { attempt, .. }
                    if !fate(&fates, attempt).has_result =>
                {
                    rewrite.push(payload)?;
                }
                Record::Result(settled) if !fate(&fates, settled.attempt).acked => {
                    finished.insert(settled.attempt, rewrite.push(payload)?);
                }
                Record::Result(settled) | Record::Finished(settled) | Record::Tombstone(settled) => {
                    let attempt = settled.attempt;
                    let shrunk = if settled.at_ms >= whole_since {
                        Record::Finished(settled)
                    } else if now.both_past(settled.not_after_ms.saturating_add(KEEP_TOMBSTONE_MS)) {
                        purged.push(attempt);
                        return Ok(());
                    } else {
                        let (verb, submitter, traceparent) = (String::new(), String::new(), None);
                        Record::Tombstone(Settled { verb, submitter, traceparent, ..settled })
                    };
                    finished.insert(attempt, rewrite.push(&shrunk.encode())?);
                }
                Record::Accepted(_)
                | Record::Starting { .. }
                | Record::Started { .. }
                | Record::Acked { .. }
                | Record::Keys { .. }
                | Record::Epoch { .. } => {}
            }
            Ok(())
        })?;
        self.log.replace(rewrite)?;
        self.finished = finished;
        self.compacted_size = self.log.size();
        Ok(purged)
    }

    fn held(&self) -> Result<Held, LogError> {
        let mut fates: HashMap<AttemptKey, Fate> = HashMap::new();
        let (mut highest_epoch, mut ring) = (0, None);
        self.log.scan(&mut |_, payload| {
            match Record::decode(payload) {
                Ok(Record::Result(settled)) => {
                    let fate = fates.entry(settled.attempt).or_default();
                    (fate.has_result, fate.at_ms) = (true, settled.at_ms);
                }
                Ok(Record::Acked { attempt }) => fates.entry(attempt).or_default().acked = true,
                Ok(Record::Finished(settled) | Record::Tombstone(settled)) => {
                    fates.insert(settled.attempt, Fate { has_result: true, acked: true, at_ms: settled.at_ms });
                }
                Ok(Record::Epoch { highest }) => highest_epoch = highest_epoch.max(highest),
                Ok(Record::Keys { ring: followed }) => ring = newer(ring.take(), followed),
                Ok(Record::Accepted(_) | Record::Starting { .. } | Record::Started { .. }) | Err(_) => {}
            }
            Ok(())
        })?;
        Ok(Held { fates, highest_epoch, ring })
    }
}

fn fate(fates: &HashMap<AttemptKey, Fate>, attempt: AttemptKey) -> Fate {
    fates.get(&attempt).copied().unwrap_or_default()
}

/// The instant since which finished attempts are kept whole: seven days ago, or further back so that
/// ten thousand are.
fn oldest_kept_whole(fates: &HashMap<AttemptKey, Fate>, now: Clocks) -> i64 {
    let by_age = now.wall_ms.saturating_sub(KEEP_FINISHED_MS);
    let mut ends: Vec<i64> = fates.values().filter(|fate| fate.acked).map(|fate| fate.at_ms).collect();
    if ends.len() <= KEEP_FINISHED {
        return i64::MIN;
    }
    let cut = ends.len() - KEEP_FINISHED;
    let (_, by_count, _) = ends.select_nth_unstable(cut);
    by_age.min(*by_count)
}
