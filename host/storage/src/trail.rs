//! This host's chain of audit entries: what the next entries hang on, and how they are sealed.
//!
//! The end of the chain is kept in memory between transactions, for nobody else adds to it; it is read
//! from the store again after a commit of which it is not known what became. A transaction that adds
//! entries signs once and writes the chain's row once, however many they are.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::audit::Entry;
use domain::audit::chain::{
    Cause, Chain, Checkpoint, Genesis, Hash, Head, Link, Linked, checkpoint_bytes, hash, seal_bytes,
};
use domain::time::Timestamp;
use plan::id::ChainId;
use ports::error::StoreError;
use ports::seal::Notary;
use serde::{Deserialize, Serialize};

use crate::text;

/// How long, and for how many entries, the log of the host goes without telling the chain's end.
const TOLD_EVERY: Duration = Duration::from_secs(60);
const TOLD_ENTRIES: u64 = 1000;

/// The chain of this start of this host.
pub(crate) struct Trail {
    /// Its id.
    pub chain: ChainId,
    /// Why it begins.
    pub cause: Cause,
    notary: Option<Arc<dyn Notary>>,
    end: Option<End>,
    /// When the end was last told, and which place it was.
    told: Option<(Instant, u64)>,
}

/// How the chain begins, and where it ends.
#[derive(Clone, Debug)]
pub(crate) struct End {
    /// How it begins.
    pub genesis: Genesis,
    /// The place of its last entry.
    pub position: u64,
    /// The hash there.
    pub hash: Hash,
    /// The number of the log's last entry, as far as this chain knows; others may add to the log on PostgreSQL.
    pub last: u64,
}

/// Entries as they are to be stored, and where the chain ends with them.
pub(crate) struct Stretch<'e> {
    /// Each with its number in the log and its link.
    pub rows: Vec<(u64, &'e Entry, Link)>,
    /// The chain's new end.
    pub end: End,
    /// The same, as it is sealed.
    pub head: Head,
    /// The seal.
    pub seal: String,
}

impl Trail {
    /// A chain that has not begun, or whose end is not known.
    pub fn new(chain: ChainId, cause: Cause, notary: Option<Arc<dyn Notary>>) -> Trail {
        Trail { chain, cause, notary, end: None, told: None }
    }

    /// Where it ends, if that is known.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Hangs `entries`, at least one, on a chain that ends at `end`; they are numbered from `first`.
    pub fn stretch<'e>(&self, end: End, first: u64, entries: &'e [Entry]) -> Stretch<'e> {
        let End { genesis, mut position, hash: mut last, last: _ } = end;
        let mut rows = Vec::with_capacity(entries.len());
        let mut number = first;
        for (id, entry) in (first..).zip(entries) {
            (number, position) = (id, position + 1);
            last = hash(last, id, position, entry);
            rows.push((id, entry, Link { chain: self.chain, position, hash: last }));
        }
        // Sealed at the time of the last entry: a chain tells no time of its own.
        let at = entries.last().map_or(genesis.begun_at, |entry| entry.at);
        let head = Head { position, hash: last, at };
        let seal = self.sign(&seal_bytes(self.chain, genesis.hash(), &head));
        Stretch { rows, end: End { genesis, position, hash: last, last: number }, head, seal }
    }

    /// The signature of the host's key. Without one there is none, and whoever checks the chain finds that.
    pub fn sign(&self, bytes: &[u8]) -> String {
        self.notary.as_ref().map(|notary| notary.sign(bytes)).unwrap_or_default()
    }

    /// Where `chain` is to be cut: behind the last of `ending`, entries of which each follows the one before.
    ///
    /// # Errors
    /// That one is not what was written there.
    pub fn checkpoint(&self, chain: &Chain, ending: &[Linked], at: Timestamp) -> Result<Checkpoint, StoreError> {
        let id = chain.genesis.chain;
        let Some(link) = ending.last().and_then(|last| last.link).filter(|_| chain.ends_whole(ending)) else {
            return Err(meddled(id));
        };
        let head = Head { position: link.position, hash: link.hash, at };
        Ok(Checkpoint { head, seal: self.sign(&checkpoint_bytes(id, chain.genesis.hash(), &head)) })
    }

    /// The transaction has committed, with this as the chain's end; `None` when it added nothing.
    pub fn committed(&mut self, end: Option<End>) {
        let Some(end) = end else { return };
        let due = |(at, place): &(Instant, u64)| at.elapsed() >= TOLD_EVERY || end.position - place >= TOLD_ENTRIES;
        if self.told.as_ref().is_none_or(due) {
            self.told = Some((Instant::now(), end.position));
            tell(&end);
        }
        self.end = Some(end);
    }

    /// It is not known whether the transaction has committed.
    pub fn forget(&mut self) {
        self.end = None;
    }

    /// Tells the log of the host where the chain ends, for the last time.
    pub fn close(&self) {
        self.end.iter().for_each(tell);
    }
}

fn tell(end: &End) {
    tracing::info!(chain = %end.genesis.chain, position = end.position, hash = %end.hash, "audit log");
}

/// An entry in the one form that both databases give back as it was: what it hangs by must not change on
/// the way.
pub(crate) fn settled(entry: Entry) -> Entry {
    let plain =
        |text: Option<String>| text.map(|text| if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text });
    let Entry { at, level, category, action, actor, resource, details, ip_address, user_agent, correlation_id } = entry;
    Entry {
        at,
        level,
        category,
        action,
        actor: plain(actor),
        resource: resource.map(|(kind, id)| (kind, plain(Some(id)).unwrap_or_default())),
        details: text::canonical(&details),
        // What is no address would keep the whole batch from the disk.
        ip_address: ip_address.and_then(|text| text.parse::<IpAddr>().ok()).map(|ip| ip.to_string()),
        user_agent: plain(user_agent),
        correlation_id: plain(correlation_id),
    }
}

/// A link in the form of the column `after`.
#[derive(Serialize, Deserialize)]
struct Written {
    chain: ChainId,
    position: u64,
    hash: String,
}

/// Links as a JSON array.
pub(crate) fn links_text(links: &[Link]) -> String {
    let written =
        |Link { chain, position, hash }: &Link| Written { chain: *chain, position: *position, hash: hash.to_string() };
    text::json(&links.iter().map(written).collect::<Vec<_>>())
}

/// Reads what [`links_text`] wrote.
pub(crate) fn parse_links(text: &str) -> Result<Vec<Link>, String> {
    let written: Vec<Written> = text::parse(text)?;
    let read = |Written { chain, position, hash }: Written| {
        let hash = Hash::parse(&hash).ok_or_else(|| format!("`{hash}` is not a hash"))?;
        Ok(Link { chain, position, hash })
    };
    written.into_iter().map(read).collect()
}

/// Why nothing of a chain is forgotten: what is to be its beginning is not what was written.
fn meddled(chain: ChainId) -> StoreError {
    let what =
        "an entry is not the one that was written there, so nothing is forgotten; verify the audit log".to_owned();
    StoreError::Corrupt { table: "audit_logs", key: chain.to_string(), what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::audit::Level;

    #[test]
    fn what_a_database_would_change_is_changed_before() {
        let entry = Entry {
            at: Timestamp(1),
            level: Level::Info,
            category: "auth",
            action: "auth.login",
            actor: Some("a\0b".into()),
            resource: Some(("user", "\0".into())),
            details: r#"{ "bb": "\u0000", "a": {"y":1,"x":[1, 2]} }"#.into(),
            ip_address: Some("2001:DB8:0:0::1".into()),
            user_agent: Some("curl".into()),
            correlation_id: None,
        };
        let once = settled(entry);
        assert_eq!(once.details, "{\"a\":{\"x\":[1,2],\"y\":1},\"bb\":\"\u{fffd}\"}");
        assert_eq!((once.actor.as_deref(), once.ip_address.as_deref()), (Some("a\u{fffd}b"), Some("2001:db8::1")));
        assert_eq!(settled(once.clone()), once);
        let nobody = Entry { ip_address: Some("pipe".into()), details: "not json".into(), ..once };
        assert_eq!((settled(nobody.clone()).ip_address, settled(nobody).details), (None, "\"not json\"".to_owned()));
    }

    #[test]
    fn links_read_back_as_written() {
        let link = Link { chain: ChainId(uuid::Uuid::from_u128(7)), position: 3, hash: Hash([9; 32]) };
        assert_eq!(parse_links(&links_text(&[link])), Ok(vec![link]));
        assert_eq!(parse_links("[]"), Ok(vec![]));
    }
}
