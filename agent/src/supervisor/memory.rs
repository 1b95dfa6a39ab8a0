//! What the supervisor remembers across its own death: which attempts it was asked to start, which it
//! spawned, how they ended. The next supervisor reads it and tells the truth about the rest.
//!
//! Written and not fsynced: it is there for a supervisor that was killed. When the power fails, everything that ran is
//! over and unknown, which the agent's journal says by itself: it asked a supervisor that no longer is. The agent then looks
//! for what is on the disk of its output.

use std::collections::BTreeMap;
use std::path::Path;

use nix::unistd::Pid;
use plan::id::AttemptKey;
use plan::outcome::{End, Outcome, StreamEnd};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::guard;
use crate::log::{Log, LogError};
use crate::spool::Spool;
use crate::supervisor::process;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Memo {
    /// Asked for; written before anything is spawned.
    Heard {
        /// Which attempt.
        attempt: AttemptKey,
        /// Bytes kept of each stream.
        output_bytes: u64,
    },
    /// A process of it was spawned and leads its group.
    Spawned {
        /// Which attempt.
        attempt: AttemptKey,
        /// The process.
        pid: u32,
        /// When it started, in clock ticks since boot.
        start_ticks: u64,
        /// Of which boot.
        boot_id: String,
    },
    /// Over.
    Ended {
        /// Which attempt.
        attempt: AttemptKey,
        /// How.
        outcome: Outcome,
    },
    /// The agent has the end on its own disk.
    Dropped {
        /// Which attempt.
        attempt: AttemptKey,
    },
}

/// The supervisor's log.
#[derive(Debug)]
pub struct Memory {
    log: Log,
}

enum Past {
    Open { output_bytes: u64, leader: Option<(u32, u64, String)> },
    Ended(Outcome),
}

impl Memory {
    /// Opens the log in `data` and settles what an earlier supervisor left: what still runs is killed,
    /// because nobody reads its pipes or knows its timeout any more, and counts as interrupted.
    ///
    /// Answers every end that the agent has not taken over yet. To be called under the supervisor's lock.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn open(data: &Path, spool: &Spool) -> Result<(Memory, BTreeMap<AttemptKey, Outcome>), LogError> {
        let mut past: BTreeMap<AttemptKey, Past> = BTreeMap::new();
        let (mut log, opened) = Log::open(&data.join("supervisor.log"), &mut |_, payload| {
            let memo: Memo = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
            match memo {
                Memo::Heard { attempt, output_bytes } => {
                    past.insert(attempt, Past::Open { output_bytes, leader: None });
                }
                Memo::Spawned { attempt, pid, start_ticks, boot_id } => {
                    if let Some(Past::Open { leader, .. }) = past.get_mut(&attempt) {
                        *leader = Some((pid, start_ticks, boot_id));
                    }
                }
                Memo::Ended { attempt, outcome } => drop(past.insert(attempt, Past::Ended(outcome))),
                Memo::Dropped { attempt } => drop(past.remove(&attempt)),
            }
            Ok(())
        })?;
        if opened.cut_bytes > 0 {
            tracing::warn!(bytes = opened.cut_bytes, "the supervisor's log ended in a torn write, which was cut off");
        }
        let mut ends = BTreeMap::new();
        for (attempt, past) in past {
            let outcome = match past {
                Past::Ended(outcome) => outcome,
                Past::Open { output_bytes, leader } => interrupted(attempt, output_bytes, leader, spool),
            };
            ends.insert(attempt, outcome);
        }
        let mut rewrite = log.rewrite()?;
        for (attempt, outcome) in &ends {
            rewrite.push(&encode(&Memo::Ended { attempt: *attempt, outcome: outcome.clone() }))?;
        }
        log.replace(rewrite)?;
        Ok((Memory { log }, ends))
    }
}

/// Above this size dropped attempts are written out of the log.
const COMPACT_AT_BYTES: u64 = 4 << 20;

impl Memory {
    /// Writes `memo` down.
    ///
    /// # Errors
    /// [`LogError`]: nothing is known about it; the process must end.
    pub fn write(&mut self, memo: &Memo) -> Result<(), LogError> {
        self.log.note(&[encode(memo)])?;
        if self.log.size() > COMPACT_AT_BYTES {
            self.compact()?;
        }
        Ok(())
    }

    fn compact(&mut self) -> Result<(), LogError> {
        let mut dropped = std::collections::HashSet::new();
        self.log.scan(&mut |_, payload| {
            if let Ok(Memo::Dropped { attempt }) = serde_json::from_slice(payload) {
                dropped.insert(attempt);
            }
            Ok(())
        })?;
        let mut rewrite = self.log.rewrite()?;
        self.log.scan(&mut |_, payload| {
            let attempt = match serde_json::from_slice(payload) {
                Ok(
                    Memo::Heard { attempt, .. }
                    | Memo::Spawned { attempt, .. }
                    | Memo::Ended { attempt, .. }
                    | Memo::Dropped { attempt },
                ) => attempt,
                Err(_) => return Ok(()),
            };
            if !dropped.contains(&attempt) {
                rewrite.push(payload)?;
            }
            Ok(())
        })?;
        self.log.replace(rewrite)
    }
}

fn encode(memo: &Memo) -> Vec<u8> {
    serde_json::to_vec(memo).expect("a memo holds nothing that JSON cannot")
}

fn interrupted(attempt: AttemptKey, output_bytes: u64, leader: Option<(u32, u64, String)>, spool: &Spool) -> Outcome {
    let mut message = "the agent's supervisor died while it ran, and it was ended".to_owned();
    let mut is_whole = true;
    if let Some((pid, start_ticks, boot_id)) = leader {
        if boot_id != clock::boot_id() {
            message = "the machine was restarted while it ran".to_owned();
            is_whole = false;
        } else if guard::start_ticks(pid) == Some(start_ticks)
            && let Ok(pid) = i32::try_from(pid)
        {
            // Its guard ends it and everything it started; this is for the case that the guard is dead, too.
            process::kill_group(Pid::from_raw(pid));
        }
    }
    // What was printed and had not reached the disk when the machine went is not known of.
    let mut remains = spool.remains(attempt, output_bytes);
    if !is_whole {
        remains = remains.map(StreamEnd::of_a_part);
    }
    let [stdout, stderr] = remains;
    Outcome { end: End::Interrupted { message }, steps: Vec::new(), stdout, stderr, duration_ms: 0 }
}
