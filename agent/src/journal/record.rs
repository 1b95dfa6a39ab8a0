//! What the journal remembers, one record per step of an attempt's life, as JSON.

use plan::envelope::SignedEnvelope;
use plan::id::AttemptKey;
use plan::keyring::Keyring;
use plan::outcome::Outcome;
use serde::{Deserialize, Serialize};

/// One record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// The attempt was checked and admitted; ACK may be sent.
    Accepted(Accepted),
    /// The supervisor is about to be asked to start it.
    Starting {
        /// Which attempt.
        attempt: AttemptKey,
        /// The supervisor process that will be asked, by its own random name.
        supervisor: String,
    },
    /// Its first process was spawned.
    Started {
        /// Which attempt.
        attempt: AttemptKey,
        /// The process.
        pid: u32,
        /// When it started, in clock ticks since boot, from `/proc/<pid>/stat`.
        start_ticks: u64,
        /// Of which boot.
        boot_id: String,
    },
    /// It is over; RESULT may be sent.
    Result(Settled),
    /// The host has committed the result.
    Acked {
        /// Which attempt.
        attempt: AttemptKey,
    },
    /// Result and acknowledgement in one, as compaction writes them.
    Finished(Settled),
    /// What is left of an old finished attempt, so that a replayed frame finds it.
    Tombstone(Settled),
    /// The cluster's keys, as far as they were followed.
    Keys {
        /// All that count.
        ring: Keyring,
    },
    /// The highest cluster epoch a signed envelope has named.
    Epoch {
        /// The epoch.
        highest: u64,
    },
}

/// An admitted attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accepted {
    /// Which attempt.
    pub attempt: AttemptKey,
    /// When it was received: milliseconds since boot.
    pub received_mono_ms: u64,
    /// Not to be started after this, milliseconds since boot.
    pub start_by_mono_ms: u64,
    /// The same instant on the host's clock, for the case that the machine reboots in between.
    pub start_by_host_ms: i64,
    /// To be ended when there was no session for this long, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill_after_ms: Option<u64>,
    /// To be over when more than this has passed since it was received, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_within_ms: Option<u64>,
    /// Which boot the first two count from.
    pub boot_id: String,
    /// What was signed; checked again when it is read back.
    pub envelope: SignedEnvelope,
    /// W3C trace context of the request that asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// A finished attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settled {
    /// Which attempt.
    pub attempt: AttemptKey,
    /// Name of the verb, for the record; empty in a tombstone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub verb: String,
    /// Who asked; empty in a tombstone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub submitter: String,
    /// W3C trace context of the request that asked for it; none in a tombstone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// Until when a frame for it could still be replayed, host's clock.
    pub not_after_ms: i64,
    /// When it ended, this machine's clock.
    pub at_ms: i64,
    /// How.
    pub outcome: Outcome,
}

impl Record {
    /// The record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a record holds nothing that JSON cannot")
    }

    /// Whether it has to be on disk before anything follows from it. What does not may be lost when the power fails: the
    /// next supervisor does not know the process either, and the host acknowledges again.
    pub fn must_last(&self) -> bool {
        !matches!(self, Record::Started { .. } | Record::Acked { .. })
    }

    /// Reads [`Record::encode`]'s bytes.
    ///
    /// # Errors
    /// A sentence: they are no record this version knows.
    pub fn decode(bytes: &[u8]) -> Result<Record, String> {
        serde_json::from_slice(bytes).map_err(|error| format!("not a record this version knows: {error}"))
    }
}
