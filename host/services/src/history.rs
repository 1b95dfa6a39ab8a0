//! What machines said of themselves in the past, as fine as was asked for or as is kept. Where roll-ups have not
//! come yet they are made on the way, by the same rule, so nobody sees how far they are.

use std::sync::Arc;

use domain::telemetry::history::{Retention, Slice, slice};
use domain::telemetry::metric::{Series, Wanted};
use domain::telemetry::rollup::{Bucket, Level, roll};
use domain::telemetry::trend::{Trend, trend};
use domain::time::Timestamp;
use futures_util::future::BoxFuture;
use plan::id::AgentId;
use ports::clock::Clock;
use ports::error::StoreError;
use ports::telemetry::Telemetry;

/// Most rows read for one answer: a day of reports every second.
const ROWS_MAX: u32 = 100_000;

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
    pub fn slice(
        &self,
        span: (Timestamp, Timestamp),
        after: Option<Timestamp>,
        step: std::time::Duration,
        points: u32,
    ) -> Slice {
        slice(span, after, step, points, &self.retention, self.clock.now())
    }

    /// One agent's buckets of a page, those series that are wanted.
    ///
    /// # Errors
    /// The store's.
    pub async fn read(&self, agent: AgentId, wanted: &Wanted, page: &Slice) -> Result<Vec<Bucket>, StoreError> {
        let mut buckets = self.at(agent, page.level, page.from, page.to).await?;
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
        let mut points: std::collections::BTreeMap<Series, Vec<(Timestamp, f64)>> = Default::default();
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
        agent: AgentId,
        level: Level,
        from: Timestamp,
        to: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<Bucket>, StoreError>> {
        Box::pin(async move {
            let Some(below) = level.below() else {
                return self.telemetry.buckets(agent, level, from, to, ROWS_MAX).await;
            };
            let made = self.telemetry.rolled_until(level).await?.unwrap_or(from).clamp(from, to.max(from));
            let mut buckets = self.telemetry.buckets(agent, level, from, made, ROWS_MAX).await?;
            if made < to {
                buckets.extend(roll(self.at(agent, below, made, to).await?, level.span()));
            }
            Ok(buckets)
        })
    }
}
