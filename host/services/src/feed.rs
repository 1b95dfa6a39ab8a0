//! What was stored and is still to be judged. Ingest hands reports over and never waits; what finds no room pushes out
//! the oldest of the same agent, for a rule that is late needs the latest most.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::telemetry::report::{Reading, Report};
use domain::time::Timestamp;
use plan::id::AgentId;
use tokio::sync::Notify;

/// Samples of one agent that wait at most.
const OF_ONE: usize = 8;
/// Agents that wait at most.
const AGENTS_MAX: usize = 65_536;

/// Samples that wait to be judged.
#[derive(Default)]
pub struct Feed {
    waiting: Mutex<HashMap<AgentId, VecDeque<Taken>>>,
    wake: Notify,
    passed_over: AtomicU64,
}

/// One sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    /// When it was taken.
    pub at: Timestamp,
    /// Its numbers.
    pub readings: Arc<[Reading]>,
}

impl Feed {
    /// Hands reports over. Never waits.
    pub fn give(&self, reports: Vec<Report>) {
        let mut waiting = self.waiting();
        for Report { agent, at, received_at: _, readings } in reports {
            if waiting.len() >= AGENTS_MAX && !waiting.contains_key(&agent) {
                self.passed_over.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let of_agent = waiting.entry(agent).or_default();
            if of_agent.len() >= OF_ONE {
                of_agent.pop_front();
                self.passed_over.fetch_add(1, Ordering::Relaxed);
            }
            of_agent.push_back(Taken { at, readings });
        }
        drop(waiting);
        self.wake.notify_one();
    }

    /// Takes all that waits, each agent's oldest first.
    pub fn take(&self) -> HashMap<AgentId, Vec<Taken>> {
        let waiting = std::mem::take(&mut *self.waiting());
        let sorted = |samples: VecDeque<Taken>| {
            let mut samples = Vec::from(samples);
            samples.sort_by_key(|sample| sample.at);
            samples
        };
        waiting.into_iter().map(|(agent, samples)| (agent, sorted(samples))).collect()
    }

    /// Waits until there is something to take. Cancel safe.
    pub async fn wait(&self) {
        self.wake.notified().await;
    }

    /// How many samples no rule has seen.
    pub fn passed_over(&self) -> u64 {
        self.passed_over.load(Ordering::Relaxed)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<AgentId, VecDeque<Taken>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_of_each_agent_wait_and_the_rest_is_counted() {
        let feed = Feed::default();
        let agent = |n: u128| AgentId(uuid::Uuid::from_u128(n));
        let report = |n: u128, at: i64| Report {
            agent: agent(n),
            at: Timestamp(at),
            received_at: Timestamp(at),
            readings: Arc::default(),
        };
        feed.give((0..20).map(|at| report(1, at)).chain([report(2, 5)]).collect());
        let taken = feed.take();
        let at: Vec<i64> = taken[&agent(1)].iter().map(|sample| sample.at.0).collect();
        assert_eq!((at, taken[&agent(2)].len()), ((12..20).collect::<Vec<i64>>(), 1));
        assert_eq!((feed.passed_over(), feed.take().len()), (12, 0));
    }
}
