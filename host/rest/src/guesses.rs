//! How often one address may guess passwords: for one name, and in all.
//!
//! A try takes a token of both buckets before any work is done, and gives them back when it was right. Each host
//! counts by itself; hosts that have a way to count together do that besides, so that neither asking many of them
//! nor whoever can write to what they share makes more guesses of it than one host allows.

use std::sync::Arc;
use std::time::Duration;

use domain::time::Timestamp;
use ports::paces::{Paces, Taken};
use services::digest::sha256_hex;
use services::limiter::Limiter;

use crate::problem::{Code, Problem};
use crate::proxies::network;

/// Most names and addresses remembered.
const REMEMBERED: usize = 10_000;
/// An address may guess so many times as often in all as for one name.
const NAMES: u32 = 10;

/// Both buckets of everybody.
pub struct Guesses {
    names: Bucket,
    peers: Bucket,
    together: Option<Arc<dyn Paces>>,
}

/// One kind of bucket, as this host counts by itself.
struct Bucket {
    burst: u32,
    refill: Duration,
    own: Limiter<String>,
}

/// One try.
pub struct Guess {
    peer: String,
    name: String,
}

impl Guess {
    /// Of `name`'s password, from this address.
    fn new(peer: Option<&str>, name: &str) -> Guess {
        let peer = peer.unwrap_or("unknown");
        let peer = peer.parse().map_or_else(|_| peer.to_owned(), |address| network(address).to_string());
        // Not the name itself: people type passwords into that field, too.
        let name = sha256_hex(format!("{peer} {name}").as_bytes());
        Guess { peer: format!("guesser:{peer}"), name: format!("guess:{name}") }
    }
}

impl Guesses {
    /// So many wrong ones in a row of one name from one address, and one more every `refill`; counted `together`
    /// with other hosts.
    pub fn new(burst: u32, refill: Duration, together: Option<Arc<dyn Paces>>) -> Guesses {
        let bucket = |burst, refill| Bucket { burst, refill, own: Limiter::new(burst, refill, REMEMBERED) };
        let peers = bucket(burst.saturating_mul(NAMES), refill / NAMES);
        Guesses { names: bucket(burst, refill), peers, together }
    }

    /// Takes the tokens of one try.
    ///
    /// # Errors
    /// 429.
    pub async fn take(&self, peer: Option<&str>, name: &str, now: Timestamp) -> Result<Guess, Problem> {
        let guess = Guess::new(peer, name);
        self.take_of(&self.peers, &guess.peer, now).await.map_err(limited)?;
        if let Err(wait) = self.take_of(&self.names, &guess.name, now).await {
            self.give_to(&self.peers, &guess.peer).await;
            return Err(limited(wait));
        }
        Ok(guess)
    }

    /// Gives the tokens of a try back that was not wrong.
    pub async fn give(&self, guess: Guess) {
        self.give_to(&self.peers, &guess.peer).await;
        self.give_to(&self.names, &guess.name).await;
    }

    async fn take_of(&self, Bucket { burst, refill, own }: &Bucket, key: &str, now: Timestamp) -> Result<(), Duration> {
        own.take(key, now)?;
        let Some(together) = &self.together else { return Ok(()) };
        match together.take(key, *burst, *refill).await {
            Some(Taken { granted: false, full_in }) => {
                own.give(key);
                Err((full_in + *refill).saturating_sub(*refill * *burst))
            }
            Some(Taken { granted: true, .. }) | None => Ok(()),
        }
    }

    async fn give_to(&self, Bucket { burst: _, refill, own }: &Bucket, key: &str) {
        own.give(key);
        if let Some(together) = &self.together {
            together.give(key, *refill).await;
        }
    }
}

fn limited(wait: Duration) -> Problem {
    let detail = "too many failed logins; wait, then try again";
    Problem { retry_after: Some(wait.as_secs() + 1), ..Problem::new(Code::RateLimited, detail) }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const NOW: Timestamp = Timestamp(1_000_000);

    /// A count that two hosts share; it can be away.
    struct Common(std::sync::Mutex<Option<Limiter<String>>>);

    #[async_trait]
    impl Paces for Common {
        async fn take(&self, key: &str, _: u32, _: Duration) -> Option<Taken> {
            let common = self.0.lock().expect("no holder panics");
            let own = common.as_ref()?;
            let granted = key.starts_with("guesser:") || own.take(&key.to_owned(), NOW).is_ok();
            Some(Taken { granted, full_in: MINUTE * 3 })
        }

        async fn give(&self, key: &str, _: Duration) {
            if let Some(own) = self.0.lock().expect("no holder panics").as_ref() {
                own.give(key);
            }
        }
    }

    #[tokio::test]
    async fn hosts_count_guesses_together_and_none_allows_more_than_it_would_alone() {
        let common = Arc::new(Common(std::sync::Mutex::new(Some(Limiter::new(3, MINUTE, 10)))));
        let [one, two] = [(); 2].map(|()| Guesses::new(3, MINUTE, Some(common.clone())));
        let peer = Some("192.0.2.1");
        assert!(one.take(peer, "ada", NOW).await.is_ok() && two.take(peer, "ada", NOW).await.is_ok());
        let right = one.take(peer, "ada", NOW).await.expect("the third");
        one.give(right).await;
        let last = two.take(peer, "ada", NOW).await;
        assert!(last.is_ok(), "a right one costs nothing");
        for host in [&one, &two] {
            let problem = host.take(peer, "ada", NOW).await.err().expect("wherever it is asked");
            assert_eq!((problem.code, problem.retry_after), (Code::RateLimited, Some(61)));
            assert!(host.take(peer, "bob", NOW).await.is_ok(), "another name");
        }
        // What they share says yes to everything, or nothing: each still has its own count.
        *common.0.lock().expect("lock") = Some(Limiter::new(100, MINUTE, 10));
        assert!(one.take(peer, "ada", NOW).await.is_ok() && one.take(peer, "ada", NOW).await.is_ok());
        assert!(one.take(peer, "ada", NOW).await.is_err());
        *common.0.lock().expect("lock") = None;
        assert!(one.take(peer, "ada", NOW).await.is_err() && two.take(peer, "ada", NOW).await.is_ok());
    }

    #[tokio::test]
    async fn one_network_of_ipv6_guesses_as_one_address() {
        let guesses = Guesses::new(1, MINUTE, None);
        assert!(guesses.take(Some("2001:db8::1"), "ada", NOW).await.is_ok());
        assert!(guesses.take(Some("2001:db8::2"), "ada", NOW).await.is_err());
        assert!(guesses.take(Some("2001:db8:0:1::1"), "ada", NOW).await.is_ok());
        for n in 0..8 {
            assert!(guesses.take(Some("192.0.2.1"), &format!("name {n}"), NOW).await.is_ok(), "{n}");
        }
        assert!(guesses.take(Some("192.0.2.1"), "a ninth", NOW).await.is_ok());
        assert!(guesses.take(Some("192.0.2.1"), "a tenth", NOW).await.is_ok());
        assert!(guesses.take(Some("192.0.2.1"), "an eleventh", NOW).await.is_err(), "ten names of one address");
    }
}
