//! Holds chains and their entries against each other and against their seals, and says what does not
//! fit. The same rules serve the host, which reads its store, and the command line, which reads an
//! export.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use plan::envelope::{parse_key, verify};
use plan::id::ChainId;

use super::chain::{Cause, Chain, Hash, Head, Link, Linked, checkpoint_bytes, hash, seal_bytes};

/// Most faults that are told one by one; more are counted.
const FAULTS: usize = 100;

/// What does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An entry is not as it was written, or not where.
    Changed {
        /// Its number.
        id: u64,
        /// Where it is.
        at: Place,
    },
    /// Entries are gone.
    Missing {
        /// The first of them.
        at: Place,
        /// The place of the last.
        to: u64,
    },
    /// An entry stands where none was written.
    Added {
        /// Its number.
        id: u64,
        /// Where it is.
        at: Place,
    },
    /// The hash where the chain ends is not that of its entries.
    End {
        /// The end.
        at: Place,
    },
    /// The seal of a chain's end, or of what was pruned, is not that of our key.
    Seal {
        /// The place it is over.
        at: Place,
    },
    /// A chain is gone that another one names.
    Gone {
        /// Where it ended, as is told of it.
        at: Place,
        /// Who names it; none when an earlier export does.
        by: Option<ChainId>,
    },
    /// A chain was another when another chain, or an earlier export, named it.
    Rewritten {
        /// The place.
        at: Place,
        /// Who names it; none when an earlier export does.
        by: Option<ChainId>,
    },
    /// Entries are on no chain that there is.
    Strays {
        /// How many older than chains there were when the chains began.
        known: u64,
        /// How many there are.
        found: u64,
    },
    /// The key cannot be read, so that no seal can be checked.
    Key,
}

/// A place on a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The chain.
    pub chain: ChainId,
    /// The place.
    pub position: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "place {} of chain {}", self.position, self.chain)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = |by: &Option<ChainId>| by.map_or("an earlier export".to_owned(), |chain| format!("chain {chain}"));
        match self {
            Fault::Changed { id, at } => write!(f, "entry {id} at {at} is not as it was written"),
            Fault::Missing { at, to } => write!(f, "entries from {at} to place {to} are missing"),
            Fault::Added { id, at } => write!(f, "entry {id} at {at} was added"),
            Fault::End { at } => write!(f, "{at}, the end, has another hash than its entries give"),
            Fault::Seal { at } => write!(f, "the seal at {at} is not by this key"),
            Fault::Gone { at, by: who } => write!(f, "{at} is gone, which {} names", by(who)),
            Fault::Rewritten { at, by: who } => write!(f, "{at} is not what {} names", by(who)),
            Fault::Strays { known, found } => {
                write!(f, "{found} entries are on no chain; {known} were when the chains began")
            }
            Fault::Key => write!(f, "the key is not an Ed25519 public key in base64url"),
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Entries that were looked at and hang on a chain.
    pub entries: u64,
    /// Entries older than chains, of which nothing is known.
    pub unchained: u64,
    /// Entries that were pruned.
    pub pruned: u64,
    /// The chains, as they end now.
    pub heads: Vec<Link>,
    /// What does not fit; at most 100.
    pub faults: Vec<Fault>,
    /// How much does not fit in all.
    pub faults_in_all: u64,
    /// Ends that an earlier export had and a restore gave up: it is in the nature of a backup.
    pub given_up: Vec<Link>,
}

/// A check under way.
pub struct Check<'k> {
    keys: Vec<&'k str>,
    walks: BTreeMap<ChainId, Walk>,
    named: Vec<(Link, Option<ChainId>)>,
    /// Chains that began with a restore, and where.
    restores: BTreeMap<ChainId, Vec<Link>>,
    unchained: u64,
    report: Report,
}

/// What is said of a hash: which it is, and by whom.
type Named = (Hash, Option<ChainId>);

/// How far one chain was followed.
struct Walk {
    genesis: Hash,
    position: u64,
    hash: Hash,
    last_id: u64,
    /// Places at which others say what the hash is.
    named: BTreeMap<u64, Vec<Named>>,
}

impl<'k> Check<'k> {
    /// A check of seals by any of `keys` (public halves, base64url), of what `earlier` exports told of the
    /// chains' ends, and of `chains` as they are now.
    pub fn begin(keys: &[&'k str], earlier: &[Link], chains: &[Chain]) -> Check<'k> {
        let mut check = Check {
            keys: keys.to_vec(),
            walks: BTreeMap::new(),
            named: earlier.iter().map(|link| (*link, None)).collect(),
            restores: BTreeMap::new(),
            unchained: 0,
            report: Report::default(),
        };
        if keys.iter().all(|key| parse_key(key).is_err()) {
            check.fault(Fault::Key);
        }
        for chain in chains {
            check.named.extend(chain.genesis.after.iter().map(|link| (*link, Some(chain.genesis.chain))));
        }
        for chain in chains {
            check.follow(chain);
        }
        check
    }

    /// Begins to follow a chain, if that has not been done.
    pub fn follow(&mut self, chain: &Chain) {
        let id = chain.genesis.chain;
        if self.walks.contains_key(&id) {
            return;
        }
        if chain.genesis.cause == Cause::Restore {
            self.restores.insert(id, chain.genesis.after.clone());
        }
        let genesis = chain.genesis.hash();
        let mut named: BTreeMap<u64, Vec<Named>> = BTreeMap::new();
        for (link, by) in self.named.iter().filter(|(link, _)| link.chain == id) {
            named.entry(link.position).or_default().push((link.hash, *by));
        }
        let mut walk = Walk { genesis, position: 0, hash: genesis, last_id: 0, named };
        if let Some(cut) = &chain.checkpoint {
            let Head { position, hash, .. } = cut.head;
            if !self.is_sealed(&checkpoint_bytes(id, genesis, &cut.head), &cut.seal) {
                self.fault(Fault::Seal { at: Place { chain: id, position } });
            }
            // Of what was pruned nothing more can be said.
            walk.named = walk.named.split_off(&position);
            (walk.position, walk.hash) = (position, hash);
            self.report.pruned += position;
        }
        let found = walk.compare(id);
        self.walks.insert(id, walk);
        self.faults(found);
    }

    /// How far a chain was followed; 0 when it was not.
    pub fn position(&self, chain: ChainId) -> u64 {
        self.walks.get(&chain).map_or(0, |walk| walk.position)
    }

    /// Looks at the next entry: in any order of chains, but of each in the order of its places.
    pub fn entry(&mut self, linked: &Linked) {
        let Some(link) = linked.link else {
            self.unchained += 1;
            return;
        };
        let Some(walk) = self.walks.get_mut(&link.chain) else {
            self.unchained += 1;
            return;
        };
        self.report.entries += 1;
        let found = walk.step(linked, link);
        self.faults(found);
    }

    /// Entries on no chain that were not given to [`entry`](Self::entry).
    pub fn strays(&mut self, strays: u64) {
        self.unchained += strays;
    }

    /// Ends it, with the chains as they are after the last entry that was looked at.
    pub fn end(mut self, chains: &[Chain]) -> Report {
        for chain in chains {
            self.follow(chain);
            self.close(chain);
            self.report.heads.push(chain.end());
        }
        let is_there = |id: ChainId| chains.iter().any(|chain| chain.genesis.chain == id);
        let walked: Vec<ChainId> = self.walks.keys().copied().filter(|id| !is_there(*id)).collect();
        for chain in walked {
            let position = self.position(chain);
            self.fault(Fault::Gone { at: Place { chain, position }, by: None });
        }
        let named = std::mem::take(&mut self.named);
        let earlier: BTreeSet<ChainId> =
            named.iter().filter(|(_, by)| by.is_none()).map(|(link, _)| link.chain).collect();
        let restored_since = self.restores.keys().any(|chain| !earlier.contains(chain));
        for (link, by) in named {
            if self.walks.contains_key(&link.chain) {
                continue;
            }
            if by.is_none() && restored_since {
                self.report.given_up.push(link);
            } else {
                self.fault(Fault::Gone { at: Place { chain: link.chain, position: link.position }, by });
            }
        }
        let known = chains.iter().map(|chain| chain.genesis.unchained).max().unwrap_or(self.unchained);
        if known != self.unchained || chains.iter().any(|chain| chain.genesis.unchained != known) {
            self.fault(Fault::Strays { known, found: self.unchained });
        }
        self.report.unchained = self.unchained;
        self.report
    }

    fn close(&mut self, chain: &Chain) {
        let Some(walk) = self.walks.get(&chain.genesis.chain) else { return };
        let (id, genesis) = (chain.genesis.chain, chain.genesis.hash());
        let (position, reached, entry_hash, begun) = (chain.head.position, walk.position, walk.hash, walk.genesis);
        let at = Place { chain: id, position };
        if reached < position {
            self.fault(Fault::Missing { at: Place { chain: id, position: reached + 1 }, to: position });
        } else if reached > position {
            self.fault(Fault::Added { id: walk.last_id, at: Place { chain: id, position: reached } });
        } else if entry_hash != chain.head.hash || begun != genesis {
            self.fault(Fault::End { at });
        }
        if !self.is_sealed(&seal_bytes(id, genesis, &chain.head), &chain.seal) {
            self.fault(Fault::Seal { at });
        }
        // What is named beyond the end: cut off, unless a restore began from here.
        let beyond = match self.walks.get_mut(&id) {
            Some(walk) => walk.named.split_off(&(reached + 1)),
            None => BTreeMap::new(),
        };
        let restored = self.restored_from(chain);
        for (place, names) in beyond {
            for (hash, by) in names {
                if by.is_none() && restored {
                    self.report.given_up.push(Link { chain: id, position: place, hash });
                } else {
                    self.fault(Fault::Missing { at: Place { chain: id, position: reached + 1 }, to: place });
                }
            }
        }
    }

    /// Whether a restore began where this chain ends: it says so itself, under its own seal.
    fn restored_from(&self, chain: &Chain) -> bool {
        self.restores.values().any(|after| after.contains(&chain.end()))
    }

    fn is_sealed(&self, bytes: &[u8], seal: &str) -> bool {
        let by = |key: &&str| parse_key(key).is_ok_and(|key| verify(&key, &[bytes], seal).is_ok());
        self.keys.iter().any(by)
    }

    fn faults(&mut self, found: Vec<Fault>) {
        found.into_iter().for_each(|fault| self.fault(fault));
    }

    fn fault(&mut self, fault: Fault) {
        self.report.faults_in_all += 1;
        if self.report.faults.len() < FAULTS {
            self.report.faults.push(fault);
        }
    }
}

impl Walk {
    fn step(&mut self, linked: &Linked, link: Link) -> Vec<Fault> {
        let at = Place { chain: link.chain, position: link.position };
        if link.position <= self.position {
            return vec![Fault::Added { id: linked.id, at }];
        }
        let mut found = Vec::new();
        if link.position > self.position + 1 {
            let first = Place { position: self.position + 1, ..at };
            found.push(Fault::Missing { at: first, to: link.position - 1 });
        } else if hash(self.hash, linked.id, link.position, &linked.entry) != link.hash {
            found.push(Fault::Changed { id: linked.id, at });
        }
        (self.position, self.hash, self.last_id) = (link.position, link.hash, linked.id);
        found.extend(self.compare(link.chain));
        found
    }

    /// Holds the hash here against what others say of it.
    fn compare(&mut self, chain: ChainId) -> Vec<Fault> {
        let at = Place { chain, position: self.position };
        let names = self.named.remove(&self.position).unwrap_or_default();
        let other = |(hash, _): &Named| *hash != self.hash;
        names.into_iter().filter(other).map(|(_, by)| Fault::Rewritten { at, by }).collect()
    }
}
