//! Refusals on record, as many as do not fill the store: each address has its share and all together
//! have one, and what goes beyond is counted and told by the next entry that has room.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::audit::{Entry, Level};
use domain::time::Timestamp;
use ports::error::StoreError;
use ports::journal::Journal;
use serde_json::{Value, json};

/// Entries one address may cause at once, and how long until one more.
pub const EACH: (u32, Duration) = (20, Duration::from_secs(30));
/// The same for all addresses together: 17,280 a day, when nobody ever stops.
pub const ALL: (u32, Duration) = (200, Duration::from_secs(5));
/// Most addresses that are remembered; one more forgets those with a full share.
const ADDRESSES: usize = 10_000;

/// The use case.
pub struct Refusals {
    journal: Arc<dyn Journal>,
    shares: Mutex<Shares>,
    left_out: AtomicU64,
}

/// When each share is full again: it lacks one entry for every refill until then.
#[derive(Default)]
struct Shares {
    each: HashMap<String, Timestamp>,
    all: Timestamp,
}

impl Refusals {
    /// Nothing refused yet.
    pub fn new(journal: Arc<dyn Journal>) -> Refusals {
        Refusals { journal, shares: Mutex::default(), left_out: AtomicU64::new(0) }
    }

    /// Records a refusal, or counts it.
    ///
    /// # Errors
    /// The store's; it is counted then.
    pub async fn record(&self, entry: Entry) -> Result<(), StoreError> {
        let address = entry.ip_address.clone().unwrap_or_default();
        let fits = self.shares.lock().unwrap_or_else(PoisonError::into_inner).take(address, entry.at);
        if !fits {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        let entry = Entry { level: Level::Warn, details: with(&entry.details, left_out), ..entry };
        self.journal.audit(entry).await.inspect_err(|_| _ = self.left_out.fetch_add(left_out + 1, Ordering::Relaxed))
    }
}

impl Shares {
    fn take(&mut self, address: String, now: Timestamp) -> bool {
        if self.each.len() >= ADDRESSES && !self.each.contains_key(&address) {
            self.each.retain(|_, full_at| *full_at > now);
            // As many strangers as that within minutes: they have the common share only.
            if self.each.len() >= ADDRESSES {
                self.each.clear();
            }
        }
        let each = taken(self.each.get(&address).copied(), EACH, now);
        let all = taken(Some(self.all), ALL, now);
        let (Some(each), Some(all)) = (each, all) else { return false };
        self.each.insert(address, each);
        self.all = all;
        true
    }
}

/// When a share is full again after one more was taken; `None` when there is none left.
fn taken(full_at: Option<Timestamp>, (burst, refill): (u32, Duration), now: Timestamp) -> Option<Timestamp> {
    let full_at = full_at.map_or(now, |full_at| full_at.max(now)) + refill;
    (full_at.since(now) <= refill * burst).then_some(full_at)
}

/// Details with the number of refusals that were left out before, if any were.
fn with(details: &str, left_out: u64) -> String {
    if left_out == 0 {
        return details.to_owned();
    }
    let mut details: Value = serde_json::from_str(details).unwrap_or_else(|_| json!({}));
    details["left_out"] = json!(left_out);
    details.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_from_one_address_leaves_room_for_others_and_one_from_many_ends() {
        let (mut shares, now) = (Shares::default(), Timestamp(1_000_000));
        let mut take = |address: &str, now| shares.take(address.to_owned(), now);
        assert_eq!((0..1000).filter(|_| take("a", now)).count(), 20);
        assert!(take("b", now));
        assert!(!take("a", now + EACH.1 / 2) && take("a", now + EACH.1) && !take("a", now + EACH.1));
        let strangers = (0..100_000).filter(|n| take(&format!("s{n}"), now + EACH.1)).count();
        assert!(strangers <= 200, "{strangers}");
        let day = (0..86_400_u64).filter(|s| take(&format!("t{s}"), now + Duration::from_secs(3600 + s))).count();
        assert!((17_280..=17_481).contains(&day), "{day}");
        assert!(shares.each.len() <= ADDRESSES);
    }

    #[test]
    fn what_was_left_out_is_told() {
        assert_eq!(with(r#"{"code":"x"}"#, 0), r#"{"code":"x"}"#);
        assert_eq!(with(r#"{"code":"x"}"#, 7), r#"{"code":"x","left_out":7}"#);
    }
}
