//! The audit log's chains: what verifying found, and the lines of an export.
//!
//! An export is NDJSON: one [`ExportHead`], an [`ExportChain`] for each chain, an [`ExportEntry`] for each
//! entry, chain by chain in the order of their places, and one [`ExportEnd`].

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// A place on a chain and the hash there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditLink {
    /// The chain: one for each start of each host.
    pub chain: String,
    /// The place; entries have places from 1.
    pub position: u64,
    /// SHA-256, lower-case hex.
    pub hash: String,
}

/// Something that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditFault {
    /// `changed`, `missing`, `added`, `end`, `seal`, `gone`, `rewritten`, `strays` or `key`.
    pub what: String,
    /// In words.
    pub message: String,
    /// The entry's number, where it is about one.
    pub id: Option<u64>,
    /// The chain, where it is about one.
    pub chain: Option<String>,
    /// The place on it.
    pub position: Option<u64>,
}

/// Body of `GET /audit/verify`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditReport {
    /// Whether everything fits.
    pub whole: bool,
    /// Entries that hang on a chain and were looked at.
    pub entries: u64,
    /// Entries that are older than chains: nothing vouches for them.
    pub unchained: u64,
    /// Entries that were pruned, up to a sealed checkpoint.
    pub pruned: u64,
    /// Where each chain ends now. Keep them elsewhere, or an export: nothing else tells that the newest
    /// entries were cut off.
    pub heads: Vec<AuditLink>,
    /// What does not fit, at most 100 of it.
    pub faults: Vec<AuditFault>,
    /// How much does not fit in all.
    pub faults_in_all: u64,
    /// The public half of the key that seals: Ed25519, base64url.
    pub public_key: String,
}

/// First line of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExportHead {
    /// `export`.
    pub kind: String,
    /// The form of the lines that follow: 1.
    pub format: u32,
    /// When, RFC 3339.
    pub at: String,
    /// The installation.
    pub cluster_id: String,
    /// The public half of the key that seals.
    pub public_key: String,
}

/// A chain, in an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExportChain {
    /// `chain`.
    pub kind: String,
    /// The chain.
    pub chain: String,
    /// When it began, RFC 3339 to the microsecond.
    pub begun_at: String,
    /// Why it began: `start` or `restore`.
    pub cause: String,
    /// How many entries were on no chain then.
    pub unchained: u64,
    /// Where the chains before it ended.
    pub after: Vec<AuditLink>,
    /// The place of its last entry.
    pub position: u64,
    /// The hash there.
    pub hash: String,
    /// When it was sealed, RFC 3339 to the microsecond.
    pub sealed_at: String,
    /// The seal: an Ed25519 signature, base64url.
    pub seal: String,
    /// Up to where it was pruned.
    pub checkpoint: Option<ExportCheckpoint>,
}

/// Where a chain was cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExportCheckpoint {
    /// The place of the last entry that is gone.
    pub position: u64,
    /// The hash there.
    pub hash: String,
    /// When, RFC 3339 to the microsecond.
    pub at: String,
    /// The seal.
    pub seal: String,
}

/// An entry, in an export. Its hash covers the text of `details` as it stands there.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ExportEntry {
    /// `entry`.
    pub kind: String,
    /// Its number.
    pub id: u64,
    /// RFC 3339 to the microsecond.
    pub at: String,
    /// `info` or `warn`.
    pub level: String,
    /// The area.
    pub category: String,
    /// What was done.
    pub action: String,
    /// Who did it.
    pub actor: Option<String>,
    /// What kind of thing it was done to.
    pub resource_type: Option<String>,
    /// Which one.
    pub resource_id: Option<String>,
    /// Digests and numbers about it.
    #[schema(value_type = Object)]
    pub details: Box<RawValue>,
    /// The peer's address.
    pub ip_address: Option<String>,
    /// The peer's program.
    pub user_agent: Option<String>,
    /// The request it belongs to.
    pub correlation_id: Option<String>,
    /// Where it hangs; null when it is older than chains.
    pub link: Option<AuditLink>,
}

/// Last line of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExportEnd {
    /// `end`.
    pub kind: String,
    /// How many entries there were.
    pub entries: u64,
}
