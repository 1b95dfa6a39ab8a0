//! What machines said of themselves in the past, as fine as was asked for or as is kept. Where roll-ups have not
//! come yet they are made on the way, by the same rule, so nobody sees how far they are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use domain::telemetry::across::Crowd;
use domain::telemetry::history::{MAX_POINTS, ROWS_OF_MANY, Retention, Slice, rows_of_step, slice, steps_of_many};
use domain::telemetry::metric::{Series, Wanted};
use domain::telemetry::rollup::{Bucket, Level, roll};
use domain::telemetry::trend::{Trend, trend};
use domain::time::Timestamp;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, stream};
use plan::id::AgentId;
use ports::clock::Clock;
use ports::error::StoreError;
use ports::telemetry::Telemetry;

/// Most rows read for one answer: a day of reports every second.
const ROWS_MAX: u32 = 100_000;
/// Most numbers put together in one answer: some 30 MB.
const NUMBERS_MAX: usize = 2_000_000;
/// Most series of groups, one for each step, that they are put together to: some 50 MB, and as much again as JSON.
const SPREADS_MAX: usize = 100_000;
/// Machines whose past is read at once.
const AT_ONCE: usize = 4;

/// Why the past of many machines is not told.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AcrossError {
    /// One step of them is read from more rows than one answer may be.
    #[error("one step of {machines} machines is read from {rows} rows, and an answer from at most {ROWS_OF_MANY}")]
    TooWide {
        /// How many machines.
        machines: usize,
        /// How many rows that is.
        rows: u64,
    },
    /// They have too many series.
    #[error("that is more than {NUMBERS_MAX} numbers, or more than {SPREADS_MAX} series of groups and steps")]
    TooMany,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Up to where each level is rolled up.
#[derive(Clone, Copy, Debug)]
struct Marks {
    minute: Option<Timestamp>,
    hour: Option<Timestamp>,
}

/// The use case.
pub struct History {
    /// Where telemetry is kept.
    pub telemetry: Arc<dyn Telemetry>,
    /// How long.
    pub retention: Retention,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl History {
    /// The page of a span that begins at `after`, or at its beginning.
    pub fn slice(&self, span: (Timestamp, Timestamp), after: Option<Timestamp>, step: Duration, points: u32) -> Slice {
        let now = self.clock.now();
        let page = slice(span, after, step, points, &self.retention, now);
        // Nobody reports more often than once a second. A page ends where reading does, or its end would be missing.
        let rows = rows_of_step(page.level, page.step, Duration::from_secs(1));
        let most = u32::try_from(u64::from(ROWS_MAX) / rows).unwrap_or(u32::MAX);
        slice(span, after, step, points.min(most), &self.retention, now)
    }

    /// The same about many machines, each of which reports once an `interval`: as many steps as may be read for one
    /// answer.
    ///
    /// # Errors
    /// [`AcrossError::TooWide`] when that is less than one.
    pub fn slice_of_many(
        &self,
        span: (Timestamp, Timestamp),
        after: Option<Timestamp>,
        step: Duration,
        points: u32,
        (machines, interval): (usize, Duration),
    ) -> Result<Slice, AcrossError> {
        let Slice { level, step, .. } = self.slice(span, after, step, MAX_POINTS);
        let rows = rows_of_step(level, step, interval);
        match steps_of_many(rows, machines) {
            0 => Err(AcrossError::TooWide { machines, rows: rows.saturating_mul(machines as u64) }),
            most => Ok(self.slice(span, after, step, points.min(most))),
        }
    }

    /// What machines said in each step of a page, by group: of each machine, `members` says its id and its group.
    ///
    /// # Errors
    /// [`AcrossError::TooMany`]; the store's.
    pub async fn across(
        &self,
        members: &[(AgentId, usize)],
        wanted: &Wanted,
        page: &Slice,
    ) -> Result<BTreeMap<(Timestamp, usize), Crowd>, AcrossError> {
        let marks = self.marks(page.level).await?;
        let read = |(place, (agent, group)): (usize, (AgentId, usize))| async move {
            Ok::<_, StoreError>((place, group, self.read_by(marks, agent, wanted, page).await?))
        };
        let mut machines = stream::iter(members.iter().copied().enumerate()).map(read).buffered(AT_ONCE);
        let (mut steps, mut numbers) = (BTreeMap::<(Timestamp, usize), Crowd>::new(), (0, 0));
        while let Some(machine) = machines.next().await {
            let (place, group, buckets) = machine?;
            for bucket in buckets {
                let (more, spread) = steps.entry((bucket.start, group)).or_default().add(place, bucket);
                numbers = (numbers.0 + more, numbers.1 + spread);
            }
            if numbers.0 > NUMBERS_MAX || numbers.1 > SPREADS_MAX {
                return Err(AcrossError::TooMany);
            }
        }
        Ok(steps)
    }

    /// One agent's buckets of a page, those series that are wanted.
    ///
    /// # Errors
    /// The store's.
    pub async fn read(&self, agent: AgentId, wanted: &Wanted, page: &Slice) -> Result<Vec<Bucket>, StoreError> {
        self.read_by(self.marks(page.level).await?, agent, wanted, page).await
    }

    /// Up to where the levels are rolled up that `level` is read from.
    async fn marks(&self, level: Level) -> Result<Marks, StoreError> {
        let until = async |made: Level| {
            if made <= level { self.telemetry.rolled_until(made).await } else { Ok(None) }
        };
        Ok(Marks { minute: until(Level::Minute).await?, hour: until(Level::Hour).await? })
    }

    async fn read_by(
        &self,
        marks: Marks,
        agent: AgentId,
        wanted: &Wanted,
        page: &Slice,
    ) -> Result<Vec<Bucket>, StoreError> {
        let mut buckets = self.at(marks, agent, page.level, page.from, page.to).await?;
        for bucket in &mut buckets {
            bucket.series.retain(|(series, _)| wanted.has(series.metric, &series.label));
        }
        buckets.retain(|bucket| !bucket.series.is_empty());
        // What is as fine as was asked for is rolled up already.
        Ok(if page.step == page.level.span() { buckets } else { roll(buckets, page.step) })
    }

    /// Where one agent's series are going, by their averages in each step of a page.
    ///
    /// # Errors
    /// The store's.
    pub async fn trends(
        &self,
        agent: AgentId,
        wanted: &Wanted,
        page: &Slice,
    ) -> Result<Vec<(Series, Trend)>, StoreError> {
        let mut points = BTreeMap::<Series, Vec<(Timestamp, f64)>>::new();
        for bucket in self.read(agent, wanted, page).await? {
            // A state has no slope.
            let numbers = bucket.series.into_iter().filter(|(series, _)| series.metric.unit().words().is_empty());
            for (series, summary) in numbers {
                points.entry(series).or_default().push((bucket.start, summary.avg()));
            }
        }
        Ok(points.into_iter().filter_map(|(series, points)| Some((series, trend(&points)?))).collect())
    }

    fn at(
        &self,
        marks: Marks,
        agent: AgentId,
        level: Level,
        from: Timestamp,
        to: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<Bucket>, StoreError>> {
        Box::pin(async move {
            let (below, made) = match level {
                Level::Raw => return self.telemetry.buckets(agent, level, from, to, ROWS_MAX).await,
                Level::Minute => (Level::Raw, marks.minute),
                Level::Hour => (Level::Minute, marks.hour),
            };
            let made = made.unwrap_or(from).clamp(from, to.max(from));
            let mut buckets = self.telemetry.buckets(agent, level, from, made, ROWS_MAX).await?;
            if made < to {
                buckets.extend(roll(self.at(marks, agent, below, made, to).await?, level.span()));
            }
            Ok(buckets)
        })
    }
}
