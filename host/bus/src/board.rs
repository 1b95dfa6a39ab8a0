//! What agents said last, put up for other hosts in Redis for an hour: whoever is asked for it reads it there.
//!
//! Whoever can write to Redis can have another host tell wrong numbers, and nothing else: what no host can have put
//! up is not there, however it is written and however much of it there is.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use plan::id::AgentId;
use ports::clock::Clock;
use ports::latest::{Board, Latest};
use redis::RedisError;
use tokio::time::{Instant, timeout};

use crate::redis::{Line, Shared};
use crate::reports::{MOST_BYTES, name, read};

/// Longest that whoever asks is held up for each [`ASKED_AT_ONCE`] agents.
const WITHIN: Duration = Duration::from_millis(250);
/// Longest that whoever asks is held up for all of them. Of those that there was no time for, what is known here is
/// shown.
const ALL_WITHIN: Duration = Duration::from_secs(1);
/// Agents asked after in one request.
const ASKED_AT_ONCE: usize = 500;
/// Bytes that are taken in at once: three times what so many machines with some dozens of series say.
const TAKEN_AT_ONCE: usize = 8 * 1024 * 1024;

/// Reads at the far end, so that what is too long does not come here at all.
const READ: &str = "local most, left, found = tonumber(ARGV[1]), tonumber(ARGV[2]), {} \
     for place, key in ipairs(KEYS) do \
       local text = redis.pcall('GET', key) \
       local fits = type(text) == 'string' and #text <= most and #text <= left \
       found[place] = fits and text \
       if fits then left = left - #text end \
     end \
     return found";

/// The board.
pub struct SharedBoard {
    shared: Arc<Shared>,
    prefix: String,
    clock: Arc<dyn Clock>,
}

impl SharedBoard {
    /// That of the Redis at the end of this line.
    pub fn of(line: &Line, clock: Arc<dyn Clock>) -> SharedBoard {
        SharedBoard { shared: line.shared.clone(), prefix: line.prefix.clone(), clock }
    }

    async fn ask(&self, agents: &[AgentId]) -> Option<Result<Vec<Option<Vec<u8>>>, RedisError>> {
        let mut line = self.shared.line()?;
        self.shared.counted();
        let mut words = redis::cmd("EVAL");
        words.arg(READ).arg(agents.len());
        for agent in agents {
            words.arg(name(&self.prefix, *agent));
        }
        words.arg(MOST_BYTES).arg(TAKEN_AT_ONCE);
        let late = |_| Err(RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut)));
        Some(timeout(WITHIN, words.query_async(&mut line)).await.unwrap_or_else(late))
    }
}

#[async_trait]
impl Board for SharedBoard {
    fn put(&self, agent: AgentId, latest: Arc<Latest>) {
        self.shared.reports().add(agent, latest);
    }

    async fn of(&self, agents: &[AgentId]) -> Vec<(AgentId, Latest)> {
        let (mut found, now) = (Vec::new(), self.clock.now());
        for some in pieces(agents) {
            let texts = match self.ask(some).await {
                Some(Ok(texts)) => texts,
                Some(Err(error)) => {
                    tracing::debug!(%error, "Redis does not say what agents said; what is known here is shown");
                    self.shared.hang_up();
                    break;
                }
                None => break,
            };
            for (agent, text) in some.iter().zip(texts) {
                let Some(text) = text else { continue };
                match read(&text, now) {
                    Some(latest) => found.push((*agent, latest)),
                    None => tracing::debug!(%agent, "Redis says of an agent what no host can have put up"),
                }
            }
        }
        found
    }
}

/// Pieces of these that are asked after one by one, while there is time for a whole [`WITHIN`]: a Redis that is well is
/// not hung up on because others before took their time.
fn pieces(agents: &[AgentId]) -> impl Iterator<Item = &[AgentId]> {
    let begun = Instant::now();
    agents.chunks(ASKED_AT_ONCE).take_while(move |_| begun.elapsed() + WITHIN <= ALL_WITHIN)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn however_many_are_asked_after_it_takes_so_long_at_most() {
        let fleet: Vec<AgentId> = (0..10_000).map(|n| AgentId(Uuid::from_u128(n))).collect();
        assert_eq!(pieces(&fleet).flatten().count(), 10_000, "where the answers come at once");
        for answer in [WITHIN, Duration::from_millis(70)] {
            let (begun, mut asked) = (Instant::now(), 0);
            for some in pieces(&fleet) {
                asked += some.len();
                tokio::time::advance(answer).await;
            }
            assert!((2_000..10_000).contains(&asked), "{asked}");
            assert!(begun.elapsed() <= ALL_WITHIN, "{:?}", begun.elapsed());
        }
    }
}
