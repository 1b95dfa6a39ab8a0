//! Refusals on record, as many as do not fill the store: each address has its share and all together
//! have one, and what goes beyond is counted and told by the next entry that has room.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use domain::audit::{Entry, Level};
use domain::time::Timestamp;
use ports::error::StoreError;
use ports::journal::Journal;
use serde_json::{Value, json};

use crate::limiter::Limiter;

/// Entries one address may cause at once, and how long until one more.
pub const EACH: (u32, Duration) = (20, Duration::from_secs(30));
/// The same for all addresses together: 17,280 a day, when nobody ever stops.
pub const ALL: (u32, Duration) = (200, Duration::from_secs(5));
/// Most addresses that are remembered.
const ADDRESSES: usize = 10_000;

/// The use case.
pub struct Refusals {
    journal: Arc<dyn Journal>,
    shares: Shares,
    left_out: AtomicU64,
}

/// The share of each address, and the one of all.
struct Shares {
    each: Limiter<String>,
    all: Limiter<()>,
}

impl Refusals {
    /// Nothing refused yet.
    pub fn new(journal: Arc<dyn Journal>) -> Refusals {
        Refusals { journal, shares: Shares::new(), left_out: AtomicU64::new(0) }
    }

    /// Records a refusal, or counts it.
    ///
    /// # Errors
    /// The store's; it is counted then.
    pub async fn record(&self, entry: Entry) -> Result<(), StoreError> {
        let address = entry.ip_address.clone().unwrap_or_default();
        if !self.shares.take(&address, entry.at) {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        let entry = Entry { level: Level::Warn, details: with(&entry.details, left_out), ..entry };
        self.journal.audit(entry).await.inspect_err(|_| _ = self.left_out.fetch_add(left_out + 1, Ordering::Relaxed))
    }
}

impl Shares {
    fn new() -> Shares {
        Shares { each: Limiter::new(EACH.0, EACH.1, ADDRESSES), all: Limiter::new(ALL.0, ALL.1, 1) }
    }

    /// Takes of both, or of neither.
    fn take(&self, address: &str, now: Timestamp) -> bool {
        if self.all.take(&(), now).is_err() {
            return false;
        }
        let fits = self.each.take(address, now).is_ok();
        if !fits {
            self.all.give(&());
        }
        fits
    }
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
        let (shares, now) = (Shares::new(), Timestamp(1_000_000));
        let take = |address: &str, now| shares.take(address, now);
        assert_eq!((0..1000).filter(|_| take("a", now)).count(), 20);
        assert!(take("b", now));
        assert!(!take("a", now + EACH.1 / 2) && take("a", now + EACH.1) && !take("a", now + EACH.1));
        let strangers = (0..100_000).filter(|n| take(&format!("s{n}"), now + EACH.1)).count();
        assert!(strangers <= 200, "{strangers}");
        let day = (0..86_400_u64).filter(|s| take(&format!("t{s}"), now + Duration::from_secs(3600 + s))).count();
        assert!((17_280..=17_481).contains(&day), "{day}");
        assert!(shares.each.kept() <= ADDRESSES);
    }

    #[test]
    fn what_was_left_out_is_told() {
        assert_eq!(with(r#"{"code":"x"}"#, 0), r#"{"code":"x"}"#);
        assert_eq!(with(r#"{"code":"x"}"#, 7), r#"{"code":"x","left_out":7}"#);
    }
}
