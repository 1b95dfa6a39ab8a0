//! How fast one principal, or one address without one, may ask; and what every answer says about that.
//!
//! A request takes its token after it is known whose it is and before anything of its body is read.
//!
//! Source: draft-ietf-httpapi-ratelimit-headers-10.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use domain::time::Timestamp;
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
#[derive(Clone, Debug, Default)]
pub struct Standing(Arc<OnceLock<Counted>>);

#[derive(Clone, Copy, Debug)]
struct Counted {
    policy: &'static str,
    rate: Rate,
    left: u32,
    full_in: Duration,
}

impl Standing {
    /// Says so in the answer.
    pub fn tell(&self, headers: &mut HeaderMap) {
        let Some(Counted { policy, rate, left, full_in }) = self.0.get().copied() else { return };
        let seconds = |time: Duration| time.as_millis().div_ceil(1000);
        let window = seconds(rate.window());
        let mut put = |name, text: String| HeaderValue::from_str(&text).map(|value| headers.insert(name, value)).ok();
        put(RATE_LIMIT_POLICY, format!("\"{policy}\";q={};w={window}", rate.burst));
        put(RATE_LIMIT, format!("\"{policy}\";r={left};t={}", seconds(full_in)));
    }
}

/// Both limits.
pub struct Pace {
    principals: Option<(Rate, Limiter<String>)>,
    addresses: Option<(Rate, Limiter<String>)>,
}

impl Pace {
    /// One rate for each principal, one for each address that names none.
    pub fn new(principal: Rate, address: Rate) -> Pace {
        let limiter = |rate: Rate| {
            let refill = Duration::from_secs(1) / rate.per_second.max(1);
            (rate.per_second > 0).then(|| (rate, Limiter::new(rate.burst, refill, REMEMBERED)))
        };
        Pace { principals: limiter(principal), addresses: limiter(address) }
    }

    /// Counts one request of a principal.
    ///
    /// # Errors
    /// 429.
    pub fn principal(&self, key: &str, standing: &Standing, now: Timestamp) -> Result<(), Problem> {
        count(self.principals.as_ref(), "principal", key, standing, now)
    }

    /// Counts one request that names no principal, or a wrong one.
    ///
    /// # Errors
    /// 429.
    pub fn address(&self, address: Option<&str>, standing: &Standing, now: Timestamp) -> Result<(), Problem> {
        let address = address.unwrap_or_default();
        let key = address.parse().map_or_else(|_| address.to_owned(), |address| network(address).to_string());
        count(self.addresses.as_ref(), "address", &key, standing, now)
    }
}

fn count(
    limit: Option<&(Rate, Limiter<String>)>,
    policy: &'static str,
    key: &str,
    standing: &Standing,
    now: Timestamp,
) -> Result<(), Problem> {
    let Some((rate, limiter)) = limit else { return Ok(()) };
    let taken = limiter.take(&key.to_owned(), now);
    let (left, full_in) = limiter.state(&key.to_owned(), now);
    // A request is counted once; the second count of one that turned out to be nobody's is not told.
    let _ = standing.0.set(Counted { policy, rate: *rate, left, full_in });
    taken.map_err(|wait| {
        let detail = format!(
            "more than {} requests at once, or than {} a second in the long run; slow down",
            rate.burst, rate.per_second
        );
        let seconds = u64::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u64::MAX).max(1);
        Problem { retry_after: Some(seconds), ..Problem::new(Code::RateLimited, detail) }
    })
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

    #[test]
    fn every_answer_says_what_is_left_and_the_first_over_it_when_to_come_again() {
        let pace = Pace::new(RATE, Rate { per_second: 0, burst: 0 });
        let now = Timestamp(1_000_000);
        for left in ["2;t=1", "1;t=1", "0;t=2"] {
            let standing = Standing::default();
            assert_eq!(pace.principal("ada", &standing, now), Ok(()));
            assert_eq!(told(&standing), ("\"principal\";q=3;w=2".to_owned(), format!("\"principal\";r={left}")));
        }
        let standing = Standing::default();
        let problem = pace.principal("ada", &standing, now).expect_err("over the burst");
        assert_eq!((problem.code, problem.retry_after), (Code::RateLimited, Some(1)));
        assert_eq!(told(&standing).1, "\"principal\";r=0;t=2");
        assert_eq!(pace.principal("bob", &Standing::default(), now), Ok(()), "another principal");
        assert_eq!(pace.principal("ada", &Standing::default(), now + Duration::from_millis(500)), Ok(()));
        assert!(pace.principal("ada", &Standing::default(), now + Duration::from_millis(500)).is_err());
        let standing = Standing::default();
        assert!((0..100).all(|_| pace.address(Some("192.0.2.1"), &standing, now).is_ok()), "0 is no limit");
        assert_eq!(told(&standing), (String::new(), String::new()));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let pace = Pace::new(RATE, Rate { per_second: 1, burst: 1 });
        let now = Timestamp(0);
        assert_eq!(pace.address(Some("2001:db8::1"), &Standing::default(), now), Ok(()));
        assert!(pace.address(Some("2001:db8::2"), &Standing::default(), now).is_err());
        assert_eq!(pace.address(Some("2001:db8:0:1::1"), &Standing::default(), now), Ok(()));
    }
}
