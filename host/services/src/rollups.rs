//! Telemetry after it is stored: rolled up when nothing more can come for a span, forgotten when it is old.
//! It takes no input; to run twice, here or on two hosts, does no harm.

use std::sync::Arc;
use std::time::Duration;

use domain::telemetry::history::Retention;
use domain::telemetry::report::TOLERATED_SKEW_MS;
use domain::telemetry::rollup::{Level, start};
use domain::time::Timestamp;
use ports::clock::Clock;
use ports::error::StoreError;
use ports::telemetry::Telemetry;
use tokio_util::sync::CancellationToken;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(20);
/// Looks between two attempts at forgetting.
const FORGET_EVERY: u64 = 15;
/// After a span has ended, reports of it may come for as long as a clock may be off and a batch may be tried.
const LATE: Duration = Duration::from_millis(TOLERATED_SKEW_MS.unsigned_abs() + 60_000);
/// Rolled up by one step.
const PIECE: Duration = Duration::from_secs(3_600);
/// Where the first host of a store begins.
const BEGIN: Duration = Duration::from_secs(7_200);
/// Between two steps of forgetting, so that whoever writes is never far from its turn.
const BREATH: Duration = Duration::from_millis(20);

/// The use case.
pub struct Rollups {
    /// Where telemetry is kept.
    pub telemetry: Arc<dyn Telemetry>,
    /// How long.
    pub retention: Retention,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl Rollups {
    /// Looks again and again until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        for turn in 0_u64.. {
            if let Err(error) = self.turn(turn.is_multiple_of(FORGET_EVERY), &stop).await {
                tracing::warn!(%error, "telemetry is not rolled up or forgotten now; it will be");
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn turn(&self, forget: bool, stop: &CancellationToken) -> Result<(), StoreError> {
        let now = self.clock.now();
        if forget {
            for level in Level::ALL {
                let before = now - self.retention.of(level);
                while self.telemetry.forget(level, before, now).await? && !stop.is_cancelled() {
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
        let rolled = self.roll_up(Level::Minute, start(now - LATE, Level::Minute.span()), now, stop).await?;
        self.roll_up(Level::Hour, start(rolled, Level::Hour.span()), now, stop).await?;
        Ok(())
    }

    /// Rolls a level up to `until`, in pieces. Answers how far it came.
    async fn roll_up(
        &self,
        level: Level,
        until: Timestamp,
        now: Timestamp,
        stop: &CancellationToken,
    ) -> Result<Timestamp, StoreError> {
        let below = level.below().unwrap_or(Level::Raw);
        // What is forgotten below can make nothing any more.
        let oldest = start(now - self.retention.of(below), PIECE);
        let known = self.telemetry.rolled_until(level).await?;
        let mut at = known.unwrap_or_else(|| start(now - BEGIN, PIECE)).max(oldest);
        while at < until && !stop.is_cancelled() {
            let piece = (at + PIECE).min(until);
            self.telemetry.roll_up(level, at, piece).await?;
            at = piece;
        }
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use domain::telemetry::report::Report;
    use domain::telemetry::rollup::Bucket;
    use plan::id::AgentId;

    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

    struct Stopped;

    impl Clock for Stopped {
        fn now(&self) -> Timestamp {
            NOW
        }
    }

    /// Remembers what it was asked to do.
    #[derive(Default)]
    struct Kept {
        marks: Mutex<[Option<Timestamp>; 3]>,
        rolled: Mutex<Vec<(Level, Timestamp, Timestamp)>>,
        forgotten: Mutex<Vec<(Level, Timestamp)>>,
    }

    #[async_trait]
    impl Telemetry for Kept {
        async fn store_reports(&self, _: &[Report]) -> Result<u64, StoreError> {
            Ok(0)
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

        async fn rolled_until(&self, level: Level) -> Result<Option<Timestamp>, StoreError> {
            Ok(self.marks.lock().expect("no holder panics")[level as usize])
        }

        async fn roll_up(&self, level: Level, from: Timestamp, until: Timestamp) -> Result<u64, StoreError> {
            self.rolled.lock().expect("no holder panics").push((level, from, until));
            self.marks.lock().expect("no holder panics")[level as usize] = Some(until);
            Ok(0)
        }

        async fn forget(&self, level: Level, before: Timestamp, _: Timestamp) -> Result<bool, StoreError> {
            let mut forgotten = self.forgotten.lock().expect("no holder panics");
            forgotten.push((level, before));
            Ok(forgotten.len() == 1)
        }
    }

    #[tokio::test]
    async fn every_span_is_rolled_up_once_in_pieces_when_nothing_of_it_can_come_any_more() {
        let kept = Arc::new(Kept::default());
        let rollups = Rollups { telemetry: kept.clone(), retention: Retention::default(), clock: Arc::new(Stopped) };
        let stop = CancellationToken::new();
        rollups.turn(true, &stop).await.expect("done");
        let rolled = kept.rolled.lock().expect("no holder panics").clone();
        for level in [Level::Minute, Level::Hour] {
            let of: Vec<_> = rolled.iter().filter(|(found, ..)| *found == level).collect();
            assert!(of.windows(2).all(|pair| pair[0].2 == pair[1].1), "without gap or overlap: {of:?}");
            assert!(of.iter().all(|(_, from, until)| from < until && *until <= *from + PIECE), "{of:?}");
            let aligned = |at: Timestamp| start(at, level.span()) == at;
            assert!(of.iter().all(|(_, from, until)| aligned(*from) && aligned(*until)), "{of:?}");
            assert!(of.last().is_some_and(|(_, _, until)| *until <= NOW - LATE), "{of:?}");
        }
        let day = Duration::from_secs(86_400);
        let forgotten = kept.forgotten.lock().expect("no holder panics").clone();
        assert_eq!(forgotten.len(), 4, "until there is no more: {forgotten:?}");
        assert_eq!((forgotten[0], forgotten[3]), ((Level::Raw, NOW - day * 7), (Level::Hour, NOW - day * 396)));

        rollups.turn(false, &stop).await.expect("done");
        assert_eq!(*kept.rolled.lock().expect("no holder panics"), rolled, "there is nothing new");
    }
}
