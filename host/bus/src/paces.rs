//! Buckets of tokens that hosts share by Redis. While it is away, or slower than a caller should feel, each host keeps
//! count by itself.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use ports::paces::{Paces, Taken};
use redis::RedisError;
use tokio::time::timeout;

use crate::lots::{Given, Lots, Wanted};
use crate::redis::{Line, Shared};

/// Longest that a request to Redis holds up who asks, who may wait for the one under way and for the next.
const WITHIN: Duration = Duration::from_millis(100);

/// When the bucket is full again is all that is kept, by the clock of Redis, and for no longer than it matters. What
/// no bucket can be was written by somebody else, and is none.
const TAKE: &str = "local t = redis.call('TIME') \
     local now = t[1] * 1000000 + t[2] \
     local refill, burst = tonumber(ARGV[1]), tonumber(ARGV[2]) \
     local full = tonumber(redis.pcall('GET', KEYS[1])) \
     if not (full and full > now and full - now <= refill * burst) then full = now end \
     local there = math.floor(burst - (full - now) / refill) \
     local given = math.min(tonumber(ARGV[3]), there) \
     if there - given - ARGV[4] >= burst / 2 then given = given + ARGV[4] end \
     if given < 1 then return {0, full - now} end \
     full = full + refill * given \
     redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000)) \
     return {given, full - now}";

/// Full one token sooner, and gone at once if that is now: who may do little may not delete. Nothing is given to what
/// is full, or is no bucket of this century.
const GIVE: &str = "local t = redis.call('TIME') \
     local now = t[1] * 1000000 + t[2] \
     local full = tonumber(redis.pcall('GET', KEYS[1])) \
     if not (full and full > now and full - now < 1e15) then return {1, 0} end \
     full = full - tonumber(ARGV[1]) \
     redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.max(math.ceil((full - now) / 1000), 1)) \
     return {1, 0}";

/// The buckets.
pub struct SharedPaces {
    redis: Redis,
    lots: Arc<Lots>,
}

#[derive(Clone)]
struct Redis {
    shared: Arc<Shared>,
    prefix: String,
}

impl SharedPaces {
    /// Those of the Redis at the end of this line.
    pub fn of(line: &Line) -> SharedPaces {
        let redis = Redis { shared: line.shared.clone(), prefix: format!("{}:pace:", line.prefix) };
        SharedPaces { redis, lots: Arc::default() }
    }
}

impl Redis {
    /// Has Redis do it; `None` when it cannot, or not in time.
    async fn ask(&self, script: &str, key: &str, refill: Duration, others: &[u32]) -> Option<(u32, u64)> {
        let mut line = self.shared.line()?;
        self.shared.counted();
        let mut asked = redis::cmd("EVAL");
        asked.arg(script).arg(1).arg(format!("{}{key}", self.prefix));
        asked.arg(u64::try_from(refill.as_micros()).unwrap_or(u64::MAX).max(1)).arg(others);
        let late = |_| Err(RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut)));
        match timeout(WITHIN, asked.query_async(&mut line)).await.unwrap_or_else(late) {
            Ok(answer) => Some(answer),
            Err(error) => {
                tracing::debug!(%error, "Redis does not count requests; this host counts by itself");
                // Nobody else waits for it before it has given a sign of life.
                self.shared.hang_up();
                None
            }
        }
    }
}

#[async_trait]
impl Paces for SharedPaces {
    async fn take(&self, key: &str, burst: u32, refill: Duration) -> Option<Taken> {
        let ask = |Wanted { tokens, ahead }| {
            let (redis, key) = (self.redis.clone(), key.to_owned());
            async move {
                let (tokens, full_in) = redis.ask(TAKE, &key, refill, &[burst, tokens, ahead]).await?;
                Some(Given { tokens, full_in: Duration::from_micros(full_in) })
            }
            .boxed()
        };
        self.lots.take(key, burst, refill, ask).await
    }

    async fn give(&self, key: &str, refill: Duration) {
        self.redis.ask(GIVE, key, refill, &[]).await;
    }
}
