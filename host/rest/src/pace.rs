//! How fast one principal, or one address without one, may ask; and what every answer says about that.
//!
//! A request takes its token after it is known whose it is and before anything of its body is read. Hosts that
//! have a way to count together do that besides, so that neither asking many of them nor whoever can write to what
//! they share lets anybody ask more often than one host allows; while it is away each counts by itself.
//!
//! Source: draft-ietf-httpapi-ratelimit-headers-10.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use domain::time::Timestamp;
use ports::paces::{Paces, Taken};
use services::limiter::Limiter;

use crate::problem::{Code, Problem};
use crate::proxies::network;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// Most principals, and most addresses, remembered.
const REMEMBERED: usize = 10_000;

/// How many requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In the long run; 0 = any number.
    pub per_second: u32,
    /// At once.
    pub burst: u32,
}

impl Rate {
    /// From none to all of a burst.
    fn window(self) -> Duration {
        Duration::from_secs(1) * self.burst / self.per_second.max(1)
    }
}

/// How one request stands after it was counted; absent until then.
#[derive(Debug, Default)]
pub struct Standing(OnceLock<Counted>);

#[derive(Clone, Debug)]
struct Counted {
    name: &'static str,
    policy: HeaderValue,
    left: u32,
    full_in: Duration,
}

impl Standing {
    /// Says so in the answer.
    pub fn tell(&self, headers: &mut HeaderMap) {
        let Some(Counted { name, policy, left, full_in }) = self.0.get() else { return };
        headers.insert(RATE_LIMIT_POLICY, policy.clone());
        headers.insert(RATE_LIMIT, value(format!("\"{name}\";r={left};t={}", seconds(*full_in))));
    }
}

/// Names of policies and numbers, as a header's value.
fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("plain ASCII")
}

/// Whole seconds, at least so long.
fn seconds(time: Duration) -> u128 {
    time.as_millis().div_ceil(1000)
}

/// Both limits.
pub struct Pace {
    principals: Option<Limit>,
    addresses: Option<Limit>,
    together: Option<Arc<dyn Paces>>,
}

/// What a wrong key costs its address, taken on this host before anybody knows whether the key is wrong.
pub struct Aside {
    address: String,
    alone: Taken,
}

/// One limit, as this host counts by itself.
struct Limit {
    name: &'static str,
    /// What every answer says of it.
    policy: HeaderValue,
    rate: Rate,
    refill: Duration,
    own: Limiter<String>,
}

impl Pace {
    /// One rate for each principal, one for each address that names none; counted `together` with other hosts.
    pub fn new(principal: Rate, address: Rate, together: Option<Arc<dyn Paces>>) -> Pace {
        let limit = |name, rate: Rate| {
            let refill = Duration::from_secs(1) / rate.per_second.max(1);
            let own = || Limiter::new(rate.burst, refill, REMEMBERED);
            let policy = value(format!("\"{name}\";q={};w={}", rate.burst, seconds(rate.window())));
            (rate.per_second > 0).then(|| Limit { name, policy, rate, refill, own: own() })
        };
        Pace { principals: limit("principal", principal), addresses: limit("address", address), together }
    }

    /// Counts one request of a principal.
    ///
    /// # Errors
    /// 429.
    pub async fn principal(&self, key: &str, standing: &Standing, now: Timestamp) -> Result<(), Problem> {
        self.count(self.principals.as_ref(), key, standing, now).await
    }

    /// Counts one request that names no principal, or a wrong one.
    ///
    /// # Errors
    /// 429.
    pub async fn address(&self, address: Option<&str>, standing: &Standing, now: Timestamp) -> Result<(), Problem> {
        self.count(self.addresses.as_ref(), &place(address), standing, now).await
    }

    /// Takes what a wrong key costs before the store is asked whose key it is, so that wrong ones are looked up no more
    /// often than they are allowed, however many come at once. `None` when there is no limit.
    ///
    /// # Errors
    /// 429.
    pub fn set_aside(
        &self,
        address: Option<&str>,
        standing: &Standing,
        now: Timestamp,
    ) -> Result<Option<Aside>, Problem> {
        let Some(limit) = &self.addresses else { return Ok(None) };
        let address = place(address);
        let alone = limit.take(&address, now);
        if alone.granted {
            return Ok(Some(Aside { address, alone }));
        }
        limit.judge(alone, standing).map(|()| None)
    }

    /// Gives back what was set aside for a key that turned out to be good, or could not be looked up.
    pub fn give_back(&self, aside: &Aside) {
        if let Some(limit) = &self.addresses {
            limit.own.give(aside.address.as_str());
        }
    }

    /// Counts a wrong key. What this host has set aside for it is gone whatever the others say: else an address that
    /// has had enough of them would have the next one looked up.
    ///
    /// # Errors
    /// 429.
    pub async fn wrong(&self, Aside { address, alone }: Aside, standing: &Standing) -> Result<(), Problem> {
        let Some(limit) = &self.addresses else { return Ok(()) };
        let answer = self.others(limit, &address).await;
        limit.judge(answer.unwrap_or(alone), standing)
    }

    async fn count(
        &self,
        limit: Option<&Limit>,
        key: &str,
        standing: &Standing,
        now: Timestamp,
    ) -> Result<(), Problem> {
        let Some(limit) = limit else { return Ok(()) };
        let alone = limit.take(key, now);
        let answer = if alone.granted { self.others(limit, key).await } else { None };
        if answer.is_some_and(|taken| !taken.granted) {
            limit.own.give(key);
        }
        limit.judge(answer.unwrap_or(alone), standing)
    }

    /// What all hosts that count together say of one more.
    async fn others(&self, Limit { name, rate, refill, .. }: &Limit, key: &str) -> Option<Taken> {
        self.together.as_ref()?.take(&format!("{name}:{key}"), rate.burst, *refill).await
    }
}

/// What an address is counted as.
fn place(address: Option<&str>) -> String {
    let address = address.unwrap_or_default();
    address.parse().map_or_else(|_| address.to_owned(), |address| network(address).to_string())
}

impl Limit {
    /// By what this host has seen.
    fn take(&self, key: &str, now: Timestamp) -> Taken {
        match self.own.take(key, now) {
            Ok(full_in) => Taken { granted: true, full_in },
            Err(wait) => Taken { granted: false, full_in: (wait + self.refill * self.rate.burst) - self.refill },
        }
    }

    /// Tells how one stands who has asked, and refuses who may not.
    fn judge(&self, Taken { granted, full_in }: Taken, standing: &Standing) -> Result<(), Problem> {
        let Limit { name, policy, rate, refill, own: _ } = self;
        let owed = full_in.as_nanos().div_ceil(refill.as_nanos().max(1));
        let left = rate.burst.saturating_sub(u32::try_from(owed).unwrap_or(u32::MAX));
        // A request is counted once; the second count of one that turned out to be nobody's is not told.
        let _ = standing.0.set(Counted { name, policy: policy.clone(), left, full_in });
        if granted {
            return Ok(());
        }
        let wait = (full_in + *refill).saturating_sub(*refill * rate.burst);
        let detail = format!(
            "more than {} requests at once, or than {} a second in the long run; slow down",
            rate.burst, rate.per_second
        );
        let seconds = u64::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u64::MAX).max(1);
        Err(Problem { retry_after: Some(seconds), ..Problem::new(Code::RateLimited, detail) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 2, burst: 3 };

    fn told(standing: &Standing) -> (String, String) {
        let mut headers = HeaderMap::new();
        standing.tell(&mut headers);
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        (text("ratelimit-policy"), text("ratelimit"))
    }

    #[tokio::test]
    async fn every_answer_says_what_is_left_and_the_first_over_it_when_to_come_again() {
        let pace = Pace::new(RATE, Rate { per_second: 0, burst: 0 }, None);
        let now = Timestamp(1_000_000);
        for left in ["2;t=1", "1;t=1", "0;t=2"] {
            let standing = Standing::default();
            assert_eq!(pace.principal("ada", &standing, now).await, Ok(()));
            assert_eq!(told(&standing), ("\"principal\";q=3;w=2".to_owned(), format!("\"principal\";r={left}")));
        }
        let standing = Standing::default();
        let problem = pace.principal("ada", &standing, now).await.expect_err("over the burst");
        assert_eq!((problem.code, problem.retry_after), (Code::RateLimited, Some(1)));
        assert_eq!(told(&standing).1, "\"principal\";r=0;t=2");
        assert_eq!(pace.principal("bob", &Standing::default(), now).await, Ok(()), "another principal");
        assert_eq!(pace.principal("ada", &Standing::default(), now + Duration::from_millis(500)).await, Ok(()));
        assert!(pace.principal("ada", &Standing::default(), now + Duration::from_millis(500)).await.is_err());
        let standing = Standing::default();
        for _ in 0..100 {
            assert_eq!(pace.address(Some("192.0.2.1"), &standing, now).await, Ok(()), "0 is no limit");
        }
        assert_eq!(told(&standing), (String::new(), String::new()));
    }

    #[tokio::test]
    async fn a_network_of_ipv6_is_one_address() {
        let pace = Pace::new(RATE, Rate { per_second: 1, burst: 1 }, None);
        let now = Timestamp(0);
        assert_eq!(pace.address(Some("2001:db8::1"), &Standing::default(), now).await, Ok(()));
        assert!(pace.address(Some("2001:db8::2"), &Standing::default(), now).await.is_err());
        assert_eq!(pace.address(Some("2001:db8:0:1::1"), &Standing::default(), now).await, Ok(()));
    }
    /// Others have taken all but one token, until they cannot be asked any more.
    struct Others(std::sync::Mutex<Vec<Option<Taken>>>);

    #[async_trait::async_trait]
    impl Paces for Others {
        async fn take(&self, key: &str, burst: u32, refill: Duration) -> Option<Taken> {
            assert_eq!((key, burst, refill), ("principal:ada", 3, Duration::from_millis(500)));
            self.0.lock().expect("no holder panics").pop().flatten()
        }

        async fn give(&self, _: &str, _: Duration) {}
    }

    #[tokio::test]
    async fn hosts_count_together_and_each_by_itself_while_they_cannot() {
        let full_in = Duration::from_millis(1500);
        let said = vec![None, Some(Taken { granted: false, full_in }), Some(Taken { granted: true, full_in })];
        let others = Arc::new(Others(std::sync::Mutex::new(said)));
        let pace = Pace::new(RATE, RATE, Some(others));
        let now = Timestamp(0);
        let standing = Standing::default();
        assert_eq!(pace.principal("ada", &standing, now).await, Ok(()));
        assert_eq!(told(&standing).1, "\"principal\";r=0;t=2");
        let problem = pace.principal("ada", &Standing::default(), now).await.expect_err("others took the rest");
        assert_eq!((problem.code, problem.retry_after), (Code::RateLimited, Some(1)));
        let standing = Standing::default();
        assert_eq!(pace.principal("ada", &standing, now).await, Ok(()), "by itself");
        assert_eq!(told(&standing).1, "\"principal\";r=1;t=1", "having counted the one that all of them let through");
    }

    /// Says that nobody has ever asked.
    struct Forgetful;

    #[async_trait::async_trait]
    impl Paces for Forgetful {
        async fn take(&self, _: &str, _: u32, refill: Duration) -> Option<Taken> {
            Some(Taken { granted: true, full_in: refill })
        }

        async fn give(&self, _: &str, _: Duration) {}
    }

    #[tokio::test]
    async fn whatever_others_say_a_host_lets_nobody_ask_more_often_than_it_would_alone() {
        let pace = Pace::new(RATE, RATE, Some(Arc::new(Forgetful)));
        let now = Timestamp(0);
        for _ in 0..RATE.burst {
            assert_eq!(pace.principal("ada", &Standing::default(), now).await, Ok(()));
        }
        let standing = Standing::default();
        assert!(pace.principal("ada", &standing, now).await.is_err());
        assert_eq!(told(&standing).1, "\"principal\";r=0;t=2");
    }

    /// Says that there is nothing left.
    struct Stingy;

    #[async_trait::async_trait]
    impl Paces for Stingy {
        async fn take(&self, _: &str, burst: u32, refill: Duration) -> Option<Taken> {
            Some(Taken { granted: false, full_in: refill * burst })
        }

        async fn give(&self, _: &str, _: Duration) {}
    }

    #[tokio::test]
    async fn a_good_key_costs_its_address_nothing_and_a_wrong_one_what_it_cost_to_look_it_up() {
        let (now, address) = (Timestamp(0), Some("192.0.2.1"));
        for others in [None, Some(Arc::new(Stingy) as Arc<dyn Paces>)] {
            let alone = others.is_none();
            let pace = Pace::new(RATE, RATE, others);
            for _ in 0..100 {
                let aside = pace.set_aside(address, &Standing::default(), now).expect("room").expect("a limit");
                pace.give_back(&aside);
            }
            for _ in 0..RATE.burst {
                let aside = pace.set_aside(address, &Standing::default(), now).expect("room").expect("a limit");
                assert_eq!(pace.wrong(aside, &Standing::default()).await.is_ok(), alone);
            }
            let standing = Standing::default();
            let problem = pace.set_aside(address, &standing, now).map(|_| ()).expect_err("no room");
            assert_eq!((problem.code, problem.retry_after), (Code::RateLimited, Some(1)));
            assert_eq!(told(&standing).1, "\"address\";r=0;t=2");
        }
        let unlimited = Pace::new(RATE, Rate { per_second: 0, burst: 0 }, None);
        assert!(matches!(unlimited.set_aside(address, &Standing::default(), now), Ok(None)));
    }
}
