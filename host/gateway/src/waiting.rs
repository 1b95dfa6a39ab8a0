//! What waits for one agent, as far as it is in memory: the head of a queue whose rest is in the store.
//!
//! Invariant: what was settled, while it was read or on its way here, does not come back.

use std::collections::{BTreeMap, HashSet, VecDeque};

use plan::envelope::Claims;
use plan::id::{AttemptKey, CommandId};
use ports::commands::Due;

/// Most invocations kept in memory for one agent; the rest waits in the store.
pub const QUEUE_MAX: usize = 256;
/// Most attempts remembered that were settled before they were offered: wishes overtake offers, and this is
/// several mailboxes full of those.
const EARLY_MAX: usize = 1024;

/// While nothing in memory may go, the store is read after the first, second, fourth … look, and after each of so many.
const STUCK_LOOKS: u32 = 16;

/// Place in the queue.
pub type Order = (i64, CommandId, u32);

/// What waits, with what its envelope says of its plan: read once, for it is asked again and again.
struct Entry {
    due: Due,
    claims: Claims,
}

impl Entry {
    fn new(due: Due) -> Entry {
        Entry { claims: due.envelope.claims(), due }
    }
}

/// What waits.
#[derive(Default)]
pub struct Waiting {
    queue: BTreeMap<Order, Entry>,
    /// The store may hold more than `queue` does.
    more: bool,
    /// Something that is not in `queue` comes first in the store: it is read whatever there is in `queue`.
    overtaken: bool,
    /// It is being read.
    loading: bool,
    /// An offer came during that and was left to the store.
    passed_over: bool,
    /// Over since a load that is under way began, whose answer may still hold them.
    settled: HashSet<AttemptKey>,
    /// Settled lately without having been heard of.
    early: VecDeque<AttemptKey>,
    /// What comes first in the store was asked for, and is in `queue`.
    looked: bool,
    /// How often that was so since anything went.
    stuck: u32,
}

impl Waiting {
    /// Nothing in memory; the store may hold anything.
    pub fn in_store() -> Waiting {
        Waiting { more: true, ..Waiting::default() }
    }

    /// The store may hold what nobody told of.
    pub fn look_again(&mut self) {
        self.more = true;
    }

    /// This comes first in the store, whoever accepted it.
    pub fn look_for(&mut self, first: AttemptKey) {
        let known = self.queue.values().any(|entry| entry.due.key() == first)
            || self.settled.contains(&first)
            || self.early.contains(&first);
        self.looked |= known;
        if !known {
            (self.more, self.overtaken) = (true, true);
        }
    }

    /// There is room, and nothing in memory may go. A look tells of the first in the store alone: what other hosts took
    /// in behind it may go all the same, so the store is read, ever more rarely.
    pub fn look_behind(&mut self) {
        if self.queue.is_empty() || !std::mem::take(&mut self.looked) {
            return;
        }
        self.stuck = self.stuck.saturating_add(1);
        if self.stuck.is_power_of_two() || self.stuck.is_multiple_of(STUCK_LOOKS) {
            (self.more, self.overtaken) = (true, true);
        }
    }

    /// Takes a freshly accepted invocation in, or leaves it to the store.
    pub fn offer(&mut self, due: Due) {
        let order = order(&due);
        if self.queue.contains_key(&order) || self.early.contains(&due.key()) {
            return;
        }
        // Beyond what is in memory the store keeps the order.
        let beyond = self.more && self.queue.last_key_value().is_none_or(|(last, _)| order > *last);
        if beyond {
            // The read under way may have begun before this one was committed: read again after it.
            self.passed_over |= self.loading;
            return;
        }
        self.queue.insert(order, Entry::new(due));
        if self.queue.len() > QUEUE_MAX {
            self.queue.pop_last();
            self.more = true;
        }
    }

    /// Takes in what was read, but for what the session `has` already.
    pub fn loaded(&mut self, due: Vec<Due>, more: bool, has: impl Fn(AttemptKey) -> bool) {
        self.loading = false;
        self.more = more || std::mem::take(&mut self.passed_over);
        let settled = std::mem::take(&mut self.settled);
        for due in due {
            if !has(due.key()) && !settled.contains(&due.key()) {
                self.queue.entry(order(&due)).or_insert_with(|| Entry::new(due));
            }
        }
        while self.queue.len() > QUEUE_MAX {
            self.queue.pop_last();
            self.more = true;
        }
    }

    /// Whether the store is to be read now. If so, the answer comes with [`loaded`](Self::loaded).
    pub fn begins_to_load(&mut self) -> bool {
        let begins = (self.queue.is_empty() || self.overtaken) && self.more && !self.loading;
        self.overtaken &= !begins;
        self.loading |= begins;
        begins
    }

    /// It is over, or somebody says that it is to be.
    pub fn settle(&mut self, key: AttemptKey) {
        let before = self.queue.len();
        self.queue.retain(|_, entry| entry.due.key() != key);
        if self.queue.len() == before {
            // Its offer may still be on its way here, and must then find it settled.
            self.early.push_back(key);
            if self.early.len() > EARLY_MAX {
                self.early.pop_front();
            }
        }
        self.ended(key);
    }

    /// It was sent from here, and its end is stored.
    pub fn ended(&mut self, key: AttemptKey) {
        if self.loading {
            self.settled.insert(key);
        }
    }

    /// Where the next one is that may go while these locks are `taken`. Nobody goes before another that
    /// wants the same lock, so nothing waits for ever.
    pub fn next(&self, taken: &HashSet<&str>) -> Option<Order> {
        let mut wanted: HashSet<&str> = HashSet::new();
        for (order, Entry { claims: Claims { locks, .. }, .. }) in &self.queue {
            if !locks.iter().any(|lock| taken.contains(lock.as_str()) || wanted.contains(lock.as_str())) {
                return Some(*order);
            }
            wanted.extend(locks.iter().map(String::as_str));
        }
        None
    }

    /// Takes out the one that is there, and what its envelope says of its plan.
    pub fn take(&mut self, order: Order) -> Option<(Due, Claims)> {
        self.stuck = 0;
        self.queue.remove(&order).map(|Entry { due, claims }| (due, claims))
    }
}

fn order(due: &Due) -> Order {
    let (turn, command) = due.order();
    (turn, command, due.attempt)
}
