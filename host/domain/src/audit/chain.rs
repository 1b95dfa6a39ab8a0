//! What the entries of the audit log hang on: one chain for each start of each host.
//!
//! An entry's hash covers all of it and the hash of the entry before. The last hash is sealed with a key
//! that is not in the store, anew by each transaction that adds entries; so the store alone is not
//! enough to change, drop, add or move one. A chain begins by naming where the chains before it ended,
//! and thereby holds these in place for as long as it is there itself.

use std::fmt;

use plan::id::ChainId;
use sha2::{Digest as _, Sha256};

use super::Entry;
use crate::time::Timestamp;

const ENTRY_CONTEXT: &[u8] = b"viworks-audit-entry-v1\0";
const GENESIS_CONTEXT: &[u8] = b"viworks-audit-chain-v1\0";
const SEAL_CONTEXT: &[u8] = b"viworks-audit-seal-v1\0";
const CHECKPOINT_CONTEXT: &[u8] = b"viworks-audit-checkpoint-v1\0";

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash(pub [u8; 32]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

impl Hash {
    /// Reads 64 hex digits, lower case.
    pub fn parse(text: &str) -> Option<Hash> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        (text.len() == 64).then_some(Hash(hash))
    }
}

/// A place on a chain and the hash there. Entries have places from 1; at 0 stands [`Genesis::hash`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// The chain.
    pub chain: ChainId,
    /// The place.
    pub position: u64,
    /// The hash.
    pub hash: Hash,
}

/// An entry as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linked {
    /// Its number in the log.
    pub id: u64,
    /// What it says.
    pub entry: Entry,
    /// Where it hangs; `None` for entries that are older than chains.
    pub link: Option<Link>,
}

/// Why a chain began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A host started.
    Start,
    /// A store was restored from a backup: what came after the backup is not in it.
    Restore,
}

impl Cause {
    /// The name used in JSON and SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Start => "start",
            Cause::Restore => "restore",
        }
    }

    /// Reads such a name.
    pub fn parse(text: &str) -> Option<Cause> {
        [Cause::Start, Cause::Restore].into_iter().find(|cause| cause.as_str() == text)
    }
}

/// How a chain begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    /// The chain.
    pub chain: ChainId,
    /// When it began.
    pub begun_at: Timestamp,
    /// Why.
    pub cause: Cause,
    /// How many entries of the log are on no chain, because they are older than chains.
    pub unchained: u64,
    /// Where the chains before ended that no other chain names.
    pub after: Vec<Link>,
}

/// Where a chain ends, or is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The place of its last entry; 0 when it has none.
    pub position: u64,
    /// The hash there.
    pub hash: Hash,
    /// When it was sealed.
    pub at: Timestamp,
}

/// A chain without its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// How it begins.
    pub genesis: Genesis,
    /// Where it ends.
    pub head: Head,
    /// The seal over [`seal_bytes`]: an Ed25519 signature, base64url.
    pub seal: String,
    /// What was pruned of it, if anything was.
    pub checkpoint: Option<Checkpoint>,
}

/// Where a chain was cut: entries up to here are not kept any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last entry that is gone.
    pub head: Head,
    /// The seal over [`checkpoint_bytes`].
    pub seal: String,
}

impl Genesis {
    /// The hash at place 0.
    pub fn hash(&self) -> Hash {
        let Genesis { chain, begun_at, cause, unchained, after } = self;
        let mut fold = Fold::new(GENESIS_CONTEXT)
            .bytes(chain.to_string().as_bytes())
            .signed(begun_at.0)
            .bytes(cause.as_str().as_bytes())
            .number(*unchained)
            .number(after.len() as u64);
        for Link { chain, position, hash } in after {
            fold = fold.bytes(chain.to_string().as_bytes()).number(*position).bytes(&hash.0);
        }
        fold.done()
    }
}

impl Chain {
    /// Where it ends.
    pub fn end(&self) -> Link {
        Link { chain: self.genesis.chain, position: self.head.position, hash: self.head.hash }
    }

    /// The last place whose entry was pruned; 0 when none was.
    pub fn cut(&self) -> u64 {
        self.checkpoint.as_ref().map_or(0, |cut| cut.head.position)
    }

    /// Whether entries that are left may be older than `before`.
    pub fn reaches_before(&self, before: Timestamp) -> bool {
        self.genesis.begun_at < before && self.cut() < self.head.position
    }

    /// Whether the last of these entries, of which each follows the one before, is what was written at its place of this
    /// chain: only over such a one may a checkpoint be sealed, or it would vouch for what somebody put there.
    pub fn ends_whole(&self, entries: &[Linked]) -> bool {
        let Some((last, before)) = entries.split_last() else { return false };
        let Some(link) = last.link else { return false };
        let cut = self.checkpoint.as_ref().map_or_else(|| self.genesis.hash(), |cut| cut.head.hash);
        let previous = match before.last().and_then(|entry| entry.link) {
            Some(previous) if previous.position + 1 == link.position => previous.hash,
            Some(_) | None if self.cut() + 1 == link.position => cut,
            Some(_) | None => return false,
        };
        let is_head = link.position == self.head.position;
        link.chain == self.genesis.chain
            && hash(previous, last.id, link.position, &last.entry) == link.hash
            && if is_head { link.hash == self.head.hash } else { link.position < self.head.position }
    }
}

/// What a new chain comes after: the ends that no other chain names.
pub fn open_ends(chains: &[Chain]) -> Vec<Link> {
    let named = |end: &Link| chains.iter().any(|chain| chain.genesis.after.contains(end));
    let mut ends: Vec<Link> = chains.iter().map(Chain::end).filter(|end| !named(end)).collect();
    ends.sort();
    ends
}

/// The hash of an entry, from that of the one before.
pub fn hash(previous: Hash, id: u64, position: u64, entry: &Entry) -> Hash {
    let Entry { at, level, category, action, actor, resource, details, ip_address, user_agent, correlation_id } = entry;
    Fold::new(ENTRY_CONTEXT)
        .bytes(&previous.0)
        .number(id)
        .number(position)
        .signed(at.0)
        .bytes(level.as_str().as_bytes())
        .bytes(category.as_bytes())
        .bytes(action.as_bytes())
        .text_if_any(actor.as_deref())
        .text_if_any(resource.as_ref().map(|(kind, _)| *kind))
        .text_if_any(resource.as_ref().map(|(_, id)| id.as_str()))
        .bytes(details.as_bytes())
        .text_if_any(ip_address.as_deref())
        .text_if_any(user_agent.as_deref())
        .text_if_any(correlation_id.as_deref())
        .done()
}

/// What is sealed of a chain's end.
pub fn seal_bytes(chain: ChainId, genesis: Hash, head: &Head) -> Vec<u8> {
    sealed(SEAL_CONTEXT, chain, genesis, head)
}

/// What is sealed of the place where a chain is cut.
pub fn checkpoint_bytes(chain: ChainId, genesis: Hash, head: &Head) -> Vec<u8> {
    sealed(CHECKPOINT_CONTEXT, chain, genesis, head)
}

fn sealed(context: &[u8], chain: ChainId, genesis: Hash, head: &Head) -> Vec<u8> {
    let Head { position, hash, at } = head;
    [context, chain.0.as_bytes(), &genesis.0, &position.to_be_bytes(), &hash.0, &at.0.to_be_bytes()].concat()
}

/// A hash over fields, each with its length, so that no two lists of fields have one form.
struct Fold(Sha256);

impl Fold {
    fn new(context: &[u8]) -> Fold {
        Fold(Sha256::new_with_prefix(context))
    }

    fn bytes(mut self, bytes: &[u8]) -> Fold {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
        self
    }

    fn number(mut self, number: u64) -> Fold {
        self.0.update(number.to_be_bytes());
        self
    }

    fn signed(mut self, number: i64) -> Fold {
        self.0.update(number.to_be_bytes());
        self
    }

    fn text_if_any(mut self, text: Option<&str>) -> Fold {
        self.0.update([u8::from(text.is_some())]);
        self.bytes(text.unwrap_or_default().as_bytes())
    }

    fn done(self) -> Hash {
        Hash(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Level;

    fn entry() -> Entry {
        Entry {
            at: Timestamp(7),
            level: Level::Info,
            category: "auth",
            action: "auth.login",
            actor: Some("ada".into()),
            resource: Some(("user", "ada".into())),
            details: "{}".into(),
            ip_address: Some("192.0.2.1".into()),
            user_agent: None,
            correlation_id: None,
        }
    }

    #[test]
    fn every_field_and_every_place_counts() {
        let zero = Hash([0; 32]);
        let plain = hash(zero, 1, 1, &entry());
        assert_eq!(plain, hash(zero, 1, 1, &entry()));
        let changed = [
            hash(Hash([1; 32]), 1, 1, &entry()),
            hash(zero, 2, 1, &entry()),
            hash(zero, 1, 2, &entry()),
            hash(zero, 1, 1, &Entry { at: Timestamp(8), ..entry() }),
            hash(zero, 1, 1, &Entry { level: Level::Warn, ..entry() }),
            hash(zero, 1, 1, &Entry { category: "auti", ..entry() }),
            hash(zero, 1, 1, &Entry { action: "auth.logout", ..entry() }),
            hash(zero, 1, 1, &Entry { actor: None, ..entry() }),
            hash(zero, 1, 1, &Entry { actor: Some(String::new()), ..entry() }),
            hash(zero, 1, 1, &Entry { resource: None, ..entry() }),
            hash(zero, 1, 1, &Entry { resource: Some(("user", "adb".into())), ..entry() }),
            hash(zero, 1, 1, &Entry { details: "{ }".into(), ..entry() }),
            hash(zero, 1, 1, &Entry { ip_address: None, user_agent: Some("192.0.2.1".into()), ..entry() }),
            hash(zero, 1, 1, &Entry { correlation_id: Some("r".into()), ..entry() }),
        ];
        for (n, one) in changed.iter().enumerate() {
            assert!(*one != plain && !changed[..n].contains(one), "{n}");
        }
    }

    #[test]
    fn a_hash_reads_back_from_its_text() {
        let hash = Hash(std::array::from_fn(|n| n as u8 * 8));
        assert_eq!(Hash::parse(&hash.to_string()), Some(hash));
        for bad in ["", &hash.to_string()[1..], &hash.to_string().to_uppercase(), &format!("{hash}00")] {
            assert_eq!(Hash::parse(bad), None, "{bad}");
        }
    }
}
