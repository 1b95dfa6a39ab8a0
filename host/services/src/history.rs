//! What machines said of themselves in the past, as fine as was asked for or as is kept. Where roll-ups have not
//! come yet they are made on the way, by the same rule, so nobody sees how far they are.

use std::collections::BTreeMap;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use domain::telemetry::across::Crowd;
use domain::telemetry::history::{
    MACHINES_MAX, MAX_POINTS, Marks, ROWS_OF_MANY, ROWS_OF_MANY_MAX, Retention, Slice, Window,
};
use domain::telemetry::metric::{Series, Wanted};
use domain::telemetry::rollup::{Bucket, Level, roll};
use domain::telemetry::trend::{Trend, trend};
use domain::time::Timestamp;
use futures_util::future::BoxFuture;
use futures_util::stream::Stream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use plan::id::AgentId;
use ports::clock::Clock;
use ports::error::StoreError;
use ports::telemetry::Telemetry;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most rows of one machine in memory, and on one page unless its first step alone is more: a day of reports every
/// second.
const ROWS_MAX: u32 = 100_000;
/// Rows in memory at once of what is rolled up as it is read.
const PIECE_ROWS: u32 = 10_000;
/// Longest that an agent's clock, or another host's, is ahead of this one's and is believed.
const AHEAD: Duration = Duration::from_secs(600);
/// Nobody reports more often.
const SECOND: Duration = Duration::from_secs(1);
/// Most numbers put together in one answer: some 30 MB.
const NUMBERS_MAX: usize = 2_000_000;
/// Most series of groups, one for each step, that they are put together to: some 50 MB, and as much again as JSON.
const SPREADS_MAX: usize = 100_000;
/// Questions about many machines that are answered at once: so much of the above is in memory.
pub const QUESTIONS_AT_ONCE: usize = 4;
/// Machines whose past is read at once for all questions about many together: half of the store's readers, where
/// there are as many as there are by default on SQLite.
const READ_AT_ONCE: usize = 2;

/// Why the past of many machines is not told.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ManyError {
    /// There are too many of them.
    #[error("that is {0} machines, and an answer is about at most {MACHINES_MAX}")]
    TooManyMachines(usize),
    /// One step of them is read from more rows than one answer may be.
    #[error("one step of {machines} machines is read from {rows} rows, and an answer from at most {ROWS_OF_MANY_MAX}")]
    TooWide {
        /// How many machines.
        machines: usize,
        /// How many rows that is.
        rows: u64,
    },
    /// The span of a trend has too many steps.
    #[error("that is {0} steps, and a trend is drawn through at most {MAX_POINTS}")]
    TooManySteps(u64),
    /// They have too many series.
    #[error("that is more than {NUMBERS_MAX} numbers, or more than {SPREADS_MAX} series of groups and steps")]
    TooMany,
    /// Others ask about many machines already.
    #[error("{QUESTIONS_AT_ONCE} questions about the past of many machines are being answered; ask again")]
    Busy,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A page of a question, and from what it is read.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Which part.
    pub slice: Slice,
    /// Up to where it is rolled up: as it was when the page was cut, for all of it.
    marks: Marks,
}

/// Leave to ask about many machines, for as long as it is there. Whoever asks keeps it until the answer is no longer in
/// memory.
#[derive(Debug)]
pub struct Turn {
    _permit: OwnedSemaphorePermit,
}

/// What has been put together for one answer.
#[derive(Clone, Copy, Debug, Default)]
struct Together {
    numbers: usize,
    spreads: usize,
}

impl Together {
    /// Takes in so many more of both.
    fn add(&mut self, (numbers, spreads): (usize, usize)) -> Result<(), ManyError> {
        self.numbers += numbers;
        self.spreads += spreads;
        if self.numbers > NUMBERS_MAX || self.spreads > SPREADS_MAX { Err(ManyError::TooMany) } else { Ok(()) }
    }
}

/// The use case.
pub struct History {
    /// Where telemetry is kept.
    pub telemetry: Arc<dyn Telemetry>,
    /// How long.
    pub retention: Retention,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Held by each question about many machines.
    questions: Arc<Semaphore>,
    /// Held while one of their machines is read, so that others find a reader of the store, too.
    reads: Semaphore,
}

impl History {
    /// Puts it together.
    pub fn new(telemetry: Arc<dyn Telemetry>, retention: Retention, clock: Arc<dyn Clock>) -> History {
        let [questions, reads] = [QUESTIONS_AT_ONCE, READ_AT_ONCE].map(Semaphore::new);
        History { telemetry, retention, clock, questions: Arc::new(questions), reads }
    }

    /// What is asked of a span now: it is the same for each of its pages.
    pub fn window(&self, span: (Timestamp, Timestamp), step: Duration) -> Window {
        Window::new(span, step, &self.retention, self.clock.now())
    }

    /// The page that begins at `after`, or at the beginning: as many steps, `points` at most, as are read in one go.
    ///
    /// # Errors
    /// The store's.
    pub async fn page(&self, window: &Window, after: Option<Timestamp>, points: u32) -> Result<Page, StoreError> {
        let marks = self.marks(window.level).await?;
        Ok(cut(marks, window, after, points))
    }

    /// All pages of a span that one line is drawn through.
    ///
    /// # Errors
    /// [`ManyError::TooManySteps`]; the store's.
    pub async fn pages(&self, window: &Window) -> Result<Vec<Page>, ManyError> {
        let marks = self.marks(window.level).await?;
        // What lies before or after what there can be counts for nothing.
        let (from, to) = marks.kept(window.level, (window.from, window.to));
        let window = &Window { from, to, ..*window };
        let steps = window.steps();
        if steps > MAX_POINTS.into() {
            return Err(ManyError::TooManySteps(steps));
        }
        let next = |page: &Page| page.slice.next.map(|next| cut(marks, window, Some(next), MAX_POINTS));
        Ok(std::iter::successors(Some(cut(marks, window, None, MAX_POINTS)), next).collect())
    }

    /// The same about many machines, each of which reports once an `interval`: as many steps as [`ROWS_OF_MANY`] are
    /// enough for, and one at least.
    ///
    /// # Errors
    /// [`ManyError::TooManyMachines`]; [`ManyError::TooWide`] when one step is more than an answer may be; the
    /// store's.
    pub async fn page_of_many(
        &self,
        window: &Window,
        after: Option<Timestamp>,
        points: u32,
        (machines, interval): (usize, Duration),
    ) -> Result<Page, ManyError> {
        if machines > MACHINES_MAX {
            return Err(ManyError::TooManyMachines(machines));
        }
        let marks = self.marks(window.level).await?;
        let each = |page: &Slice, interval| marks.rows(page.level, (page.from, page.to), interval);
        let all = |page: &Slice| {
            let rows = each(page, interval).saturating_mul(machines as u64);
            // Of one machine no more than is read of it in one go, however often it ever reported.
            if each(page, SECOND) > ROWS_MAX.into() { rows.max(ROWS_OF_MANY + 1) } else { rows }
        };
        let (slice, rows) = window.page_within(after, points, ROWS_OF_MANY, all);
        if rows > ROWS_OF_MANY_MAX {
            return Err(ManyError::TooWide { machines, rows });
        }
        Ok(Page { slice, marks })
    }

    /// Leave to ask about many machines, until it is dropped.
    ///
    /// # Errors
    /// [`ManyError::Busy`] while [`QUESTIONS_AT_ONCE`] have it.
    pub fn turn(&self) -> Result<Turn, ManyError> {
        let permit = self.questions.clone().try_acquire_owned().map_err(|_| ManyError::Busy)?;
        Ok(Turn { _permit: permit })
    }

    /// What machines said in each step of a page, by group: of each machine, `members` says its id and its group.
    ///
    /// # Errors
    /// [`ManyError::TooMany`]; the store's.
    pub async fn across(
        &self,
        _turn: &Turn,
        members: &[(AgentId, usize)],
        wanted: &Wanted,
        page: &Page,
    ) -> Result<BTreeMap<(Timestamp, usize), Crowd>, ManyError> {
        let ids = members.iter().map(|(agent, _)| *agent);
        let pages = slice::from_ref(page);
        let mut machines =
            std::pin::pin!(self.read_each(ids, wanted, pages).zip(stream::iter(members.iter().enumerate())));
        let (mut steps, mut together) = (BTreeMap::<(Timestamp, usize), Crowd>::new(), Together::default());
        while let Some((buckets, (place, (_, group)))) = machines.next().await {
            for bucket in buckets? {
                together.add(steps.entry((bucket.start, *group)).or_default().add(place, bucket))?;
            }
        }
        Ok(steps)
    }

    /// One agent's buckets of a page, those series that are wanted.
    ///
    /// # Errors
    /// The store's.
    pub async fn read(&self, agent: AgentId, wanted: &Wanted, page: &Page) -> Result<Vec<Bucket>, StoreError> {
        let Page { slice: Slice { level, from, to, step, .. }, marks } = *page;
        self.at(marks, (agent, wanted), level, (from, to), step).await
    }

    /// The same of many agents, in their order, each with all of the pages. However many ask, they leave the store readers
    /// for others.
    pub fn read_each<'a>(
        &'a self,
        agents: impl IntoIterator<Item = AgentId, IntoIter: 'a + Send>,
        wanted: &'a Wanted,
        pages: &'a [Page],
    ) -> impl Stream<Item = Result<Vec<Bucket>, StoreError>> + Send + 'a {
        let read = move |agent| async move {
            let _read = self.reads.acquire().await.map_err(|_| StoreError::Unavailable("the host stops".to_owned()))?;
            let mut past = Vec::new();
            for page in pages {
                past.extend(self.read(agent, wanted, page).await?);
            }
            Ok(past)
        };
        stream::iter(agents).map(read).buffered(READ_AT_ONCE)
    }

    /// Up to where the levels are rolled up that `level` is read from, and what is kept below them.
    async fn marks(&self, level: Level) -> Result<Marks, StoreError> {
        let until = async |made: Level| {
            if made <= level { self.telemetry.rolled_until(made).await } else { Ok(None) }
        };
        let now = self.clock.now();
        let since = |level| now - self.retention.of(level);
        Ok(Marks {
            minute: until(Level::Minute).await?,
            hour: until(Level::Hour).await?,
            raw_since: since(Level::Raw),
            minute_since: since(Level::Minute),
            hour_since: since(Level::Hour),
            until: Some(now + AHEAD),
        })
    }

    /// Where each agent's series are going, by their averages in each step of these pages.
    ///
    /// # Errors
    /// The store's.
    pub async fn trends(
        &self,
        _turn: &Turn,
        agents: &[AgentId],
        wanted: &Wanted,
        pages: &[Page],
    ) -> Result<Vec<Vec<(Series, Trend)>>, StoreError> {
        let pasts = self.read_each(agents.iter().copied(), wanted, pages);
        pasts.map_ok(trends).try_collect().await
    }

    /// One agent's buckets of a span at `level`, rolled up to `step`.
    fn at<'a>(
        &'a self,
        marks: Marks,
        of: (AgentId, &'a Wanted),
        level: Level,
        (from, to): (Timestamp, Timestamp),
        step: Duration,
    ) -> BoxFuture<'a, Result<Vec<Bucket>, StoreError>> {
        Box::pin(async move {
            let (from, to) = marks.kept(level, (from, to));
            let (made, below) = marks.split(level, (from, to));
            let mut buckets = self.rows(of, level, (from, made), step).await?;
            if let Some(below) = below.filter(|_| made < to) {
                buckets.extend(self.at(marks, of, below, (made, to), level.span()).await?);
                // What is as fine as was asked for is rolled up already.
                if step != level.span() {
                    buckets = roll(buckets, step);
                }
            }
            Ok(buckets)
        })
    }

    /// The rows of a level, rolled up to `step`. However many there are, only so many are in memory.
    async fn rows(
        &self,
        (agent, wanted): (AgentId, &Wanted),
        level: Level,
        (mut from, to): (Timestamp, Timestamp),
        step: Duration,
    ) -> Result<Vec<Bucket>, StoreError> {
        let mut rolled = Vec::new();
        loop {
            let mut rows = self.telemetry.buckets(agent, level, from, to, PIECE_ROWS).await?;
            let last = rows.last().filter(|_| rows.len() >= PIECE_ROWS as usize).map(|last| last.start);
            for row in &mut rows {
                row.series.retain(|(series, _)| wanted.has(series.metric, &series.label));
            }
            rows.retain(|row| !row.series.is_empty());
            rolled.extend(rows);
            if step != level.span() {
                rolled = roll(rolled, step);
            }
            let Some(last) = last else { return Ok(rolled) };
            from = last + Duration::from_micros(1);
        }
    }
}

/// As many steps, `points` at most, as are read in one go.
fn cut(marks: Marks, window: &Window, after: Option<Timestamp>, points: u32) -> Page {
    // A page ends where reading does, or its end would be missing.
    let rows = |page: &Slice| marks.rows(page.level, (page.from, page.to), SECOND);
    let (slice, _) = window.page_within(after, points, ROWS_MAX.into(), rows);
    Page { slice, marks }
}

/// Where the series of one past are going.
fn trends(past: Vec<Bucket>) -> Vec<(Series, Trend)> {
    let mut points = BTreeMap::<Series, Vec<(Timestamp, f64)>>::new();
    for bucket in past {
        // A state has no slope.
        let numbers = bucket.series.into_iter().filter(|(series, _)| series.metric.unit().words().is_empty());
        for (series, summary) in numbers {
            points.entry(series).or_default().push((bucket.start, summary.avg()));
        }
    }
    points.into_iter().filter_map(|(series, points)| Some((series, trend(&points)?))).collect()
}

#[cfg(test)]
mod tests;
