//! A store as slow and as absent as is wanted.

use async_trait::async_trait;
use domain::telemetry::rollup::{Bucket, Level};
use domain::time::Timestamp;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::*;

/// Takes a batch for each permit; while `away`, none.
struct Slow {
    permits: Semaphore,
    /// What the batch that begins at instant 0 needs as well.
    first: Semaphore,
    stored: Mutex<Vec<Report>>,
    away: bool,
}

impl Slow {
    fn new(permits: usize, away: bool) -> Arc<Slow> {
        let [permits, first] = [permits, 1].map(Semaphore::new);
        Arc::new(Slow { permits, first, stored: Mutex::default(), away })
    }
}

#[async_trait]
impl Telemetry for Slow {
    async fn store_reports(&self, reports: &[Report]) -> Result<u64, StoreError> {
        if reports.first().is_some_and(|report| report.at.0 == 0) {
            drop(self.first.acquire().await.expect("open"));
        }
        self.permits.acquire().await.expect("open").forget();
        if self.away {
            return Err(StoreError::Conflict("never".into()));
        }
        let n = reports.len() as u64;
        self.stored.lock().expect("no holder panics").extend_from_slice(reports);
        Ok(n)
    }

    async fn buckets(
        &self,
        _: AgentId,
        _: Level,
        _: Timestamp,
        _: Timestamp,
        _: u32,
    ) -> Result<Vec<Bucket>, StoreError> {
        Ok(Vec::new())
    }

    async fn rolled_until(&self, _: Level) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }

    async fn roll_up(&self, _: Level, _: Timestamp, _: Timestamp) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn forget(&self, _: Level, _: Timestamp, _: Timestamp) -> Result<bool, StoreError> {
        Ok(false)
    }
}

fn report(agent: u128, at: i64) -> Report {
    Report {
        agent: AgentId(Uuid::from_u128(agent)),
        at: Timestamp(at),
        received_at: Timestamp(at),
        readings: Arc::default(),
    }
}

fn balance(tally: &Tally) -> u64 {
    tally.stored + tally.repeated + tally.dropped + tally.waiting
}

#[tokio::test]
async fn at_three_times_what_a_slow_store_takes_every_loss_is_counted() {
    let store = Slow::new(0, false);
    let ingest = Arc::new(Ingest::new(store.clone(), Arc::default()));
    let stop = CancellationToken::new();
    let running = ingest.clone().run(stop.clone());
    tokio::pin!(running);
    // The store takes one batch for every three that come.
    let (rounds, coming) = (60_u64, 3 * MAX_BATCH as u64);
    for round in 0..rounds {
        for n in 0..coming {
            ingest.take(report(u128::from(round * coming + n), 0));
        }
        store.permits.add_permits(1);
        assert!(futures_util::poll!(&mut running).is_pending());
        let tally = ingest.tally();
        assert_eq!(balance(&tally), tally.taken, "{tally:?}");
        assert!(tally.waiting <= (WAITING_MAX + AT_ONCE * MAX_BATCH) as u64, "bounded: {tally:?}");
    }
    store.permits.add_permits(1_000);
    stop.cancel();
    running.await;
    let tally = ingest.tally();
    let stored = store.stored.lock().expect("no holder panics").len() as u64;
    assert_eq!((tally.taken, tally.waiting, tally.stored), (rounds * coming, 0, stored));
    assert_eq!(tally.taken - tally.stored, tally.dropped, "sent less stored is the counter");
    assert!(tally.dropped > 0 && tally.stored > 0, "{tally:?}");
}

#[tokio::test]
async fn an_agent_that_floods_crowds_out_nobody_else() {
    let ingest = Ingest::new(Slow::new(0, false), Arc::default());
    for at in 0..1_000_000 {
        ingest.take(report(1, at));
    }
    ingest.take(report(2, 0));
    let tally = ingest.tally();
    assert_eq!((tally.waiting, tally.dropped), (WAITING_OF_ONE as u64 + 1, 1_000_000 - WAITING_OF_ONE as u64));
}

#[tokio::test]
async fn what_the_store_refuses_is_lost_and_counted() {
    let ingest = Arc::new(Ingest::new(Slow::new(10, true), Arc::default()));
    ingest.take(report(1, 1));
    ingest.refuse(Refusal::OutOfRange);
    let stop = CancellationToken::new();
    stop.cancel();
    ingest.clone().run(stop).await;
    let tally = ingest.tally();
    assert_eq!((tally.dropped, tally.stored, tally.waiting), (1, 0, 0));
    let refused: Vec<Refusal> = tally.refused.iter().filter(|(_, n)| *n == 1).map(|(why, _)| *why).collect();
    assert_eq!(refused, [Refusal::OutOfRange]);
}

#[tokio::test(start_paused = true)]
async fn few_reports_gather_for_a_while_and_many_go_at_once() {
    let store = Slow::new(1_000, false);
    let ingest = Arc::new(Ingest::new(store.clone(), Arc::default()));
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(ingest.clone().run(stop.clone()));
    let stored = || store.stored.lock().expect("no holder panics").len();
    let turns = async || {
        for _ in 0..16 {
            tokio::task::yield_now().await;
        }
    };
    ingest.take(report(1, 1));
    turns().await;
    ingest.take(report(2, 1));
    turns().await;
    assert_eq!(stored(), 0, "they wait for others");
    tokio::time::sleep(GATHER).await;
    turns().await;
    assert_eq!((stored(), 1_000 - store.permits.available_permits()), (2, 1), "both in one batch");
    for agent in 0..MAX_BATCH as u128 {
        ingest.take(report(agent, 2));
    }
    turns().await;
    assert_eq!(stored(), 2 + MAX_BATCH, "a full batch waits for nothing");
    for at in 0..WAITING_OF_ONE as i64 {
        ingest.take(report(1, 10 + at));
    }
    turns().await;
    assert_eq!(stored(), 2 + MAX_BATCH + WAITING_OF_ONE, "nor does an agent that has no room left");
    stop.cancel();
    tasks.join_next().await.expect("one").expect("no panic");
}

#[tokio::test]
async fn what_has_no_room_is_counted_before_it_is_read() {
    let ingest = Ingest::new(Slow::new(0, false), Arc::default());
    let agent = AgentId(Uuid::from_u128(1));
    for at in 0..WAITING_OF_ONE as i64 {
        assert!(!ingest.loses(agent));
        ingest.take(report(1, at));
    }
    assert!(ingest.loses(agent) && !ingest.loses(AgentId(Uuid::from_u128(2))));
    let tally = ingest.tally();
    assert_eq!((tally.taken, tally.dropped), (WAITING_OF_ONE as u64 + 1, 1));
}

#[tokio::test]
async fn rules_see_batches_in_the_order_they_came_whichever_is_stored_first() {
    let onward: Arc<Feed> = Arc::default();
    let store = Slow::new(2, false);
    let held = store.first.acquire().await.expect("open");
    let ingest = Arc::new(Ingest::new(store.clone(), onward.clone()));
    for n in 0..2 * MAX_BATCH as i64 {
        ingest.take(report(n.unsigned_abs().into(), n));
    }
    let stop = CancellationToken::new();
    let running = ingest.clone().run(stop.clone());
    tokio::pin!(running);
    assert!(futures_util::poll!(&mut running).is_pending());
    assert_eq!(ingest.tally().stored, MAX_BATCH as u64, "the second is stored");
    assert!(onward.take().is_empty(), "and waits for the first");
    drop(held);
    stop.cancel();
    running.await;
    assert_eq!((ingest.tally().stored, onward.take().len()), (2 * MAX_BATCH as u64, 2 * MAX_BATCH));
}
