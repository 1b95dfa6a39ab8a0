//! A store that says what a test wants, and counts who reads.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use domain::telemetry::metric::Metric;
use domain::telemetry::report::Report;
use domain::telemetry::rollup::{Summary, start};
use futures_util::future::join_all;
use uuid::Uuid;

use super::*;

const NOW: Timestamp = Timestamp(1_700_000_400_000_000);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const INTERVAL: Duration = Duration::from_secs(30);

struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        NOW
    }
}

#[derive(Default)]
struct Kept {
    /// Up to where minutes are made, and hours.
    marks: [Option<Timestamp>; 2],
    /// What every machine has said.
    past: Vec<Bucket>,
    asked: AtomicUsize,
    reading: AtomicUsize,
    most_reading: AtomicUsize,
}

impl Kept {
    /// Up to where a level is made.
    fn made(&self, level: Level) -> Option<Timestamp> {
        let [minute, hour] = self.marks;
        match level {
            Level::Raw => None,
            Level::Minute => minute,
            Level::Hour => hour,
        }
    }
}

#[async_trait]
impl Telemetry for Kept {
    async fn store_reports(&self, _: &[Report]) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn buckets(
        &self,
        _: AgentId,
        level: Level,
        from: Timestamp,
        to: Timestamp,
        at_most: u32,
    ) -> Result<Vec<Bucket>, StoreError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let reading = self.reading.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_reading.fetch_max(reading, Ordering::SeqCst);
        tokio::task::yield_now().await;
        self.reading.fetch_sub(1, Ordering::SeqCst);
        let is_meant = |bucket: &&Bucket| from <= bucket.start && bucket.start < to;
        let Some(made) = self.made(level) else {
            return Ok(self.past.iter().filter(is_meant).take(at_most as usize).cloned().collect());
        };
        let rolled = roll(self.past.iter().take_while(|bucket| bucket.start < made).cloned(), level.span());
        Ok(rolled.iter().filter(is_meant).take(at_most as usize).cloned().collect())
    }

    async fn rolled_until(&self, level: Level) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.made(level))
    }

    async fn roll_up(&self, _: Level, _: Timestamp, _: Timestamp) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn forget(&self, _: Level, _: Timestamp, _: Timestamp) -> Result<bool, StoreError> {
        Ok(false)
    }
}

const ROLLED_UP: [Option<Timestamp>; 2] = [Some(NOW); 2];

fn history(kept: Kept) -> (History, Arc<Kept>) {
    let kept = Arc::new(kept);
    (History::new(kept.clone(), Retention::default(), Arc::new(Stopped)), kept)
}

fn agent(number: usize) -> AgentId {
    AgentId(Uuid::from_u128(number as u128))
}

fn everything() -> Wanted {
    Wanted::default()
}

/// A minute with so many series.
fn minute(number: u32, series: usize) -> Bucket {
    let one = |n: usize| (Series { metric: Metric::DiskUsed, label: n.to_string() }, Summary::of(1.0));
    Bucket { start: NOW - HOUR + MINUTE * number, series: (0..series).map(one).collect() }
}

#[tokio::test]
async fn an_answer_is_about_so_many_machines_and_a_step_of_so_many_rows_and_no_more() {
    let (history, _) = history(Kept { marks: ROLLED_UP, ..Kept::default() });
    let window = history.window((NOW - HOUR, NOW), MINUTE);
    let of = async |window: Window, machines: usize| {
        history.page_of_many(&window, None, 100, (machines, INTERVAL)).await.map(|page| page.slice)
    };
    let page = of(window, MACHINES_MAX).await.expect("as many as may be");
    assert_eq!(page.to.since(page.from), MINUTE * 20, "so many steps are read from 200,000 rows");
    assert_eq!(of(window, MACHINES_MAX + 1).await, Err(ManyError::TooManyMachines(MACHINES_MAX + 1)));

    // 31 days are 744 hours; the instant before them begins a step of its own.
    let month = HOUR * 744;
    let wide = Window { from: start(NOW - month * 2, month), to: NOW - month, step: month, level: Level::Hour };
    let (fit, one_more) = (1_344, 1_345);
    assert_eq!(of(wide, fit).await.map(|page| page.to.since(page.from)), Ok(month), "999,936 rows");
    assert_eq!(of(wide, one_more).await, Err(ManyError::TooWide { machines: one_more, rows: 1_000_680 }));
}

#[tokio::test]
async fn rows_that_are_not_rolled_up_count_as_what_they_are_read_from() {
    let end = start(NOW, HOUR);
    let (history, _) = history(Kept { marks: [Some(end), Some(end - HOUR)], ..Kept::default() });
    let window = Window { from: end - HOUR * 24, to: end, step: HOUR, level: Level::Hour };
    let page = async |after: Option<Timestamp>| {
        history.page_of_many(&window, after, 100, (3_000, INTERVAL)).await.expect("it is not too much").slice
    };
    let first = page(None).await;
    assert_eq!((first.to, first.next), (end - HOUR, Some(end - HOUR)), "the last hour alone is 60 rows a machine");
    let last = page(first.next).await;
    assert_eq!((last.from, last.to, last.next), (end - HOUR, end, None));

    // Of one machine, too: nobody has rolled anything up.
    let (history, _) = self::history(Kept::default());
    let page = history.page(&window, None, 100).await.expect("read").slice;
    assert_eq!(page.to.since(page.from), HOUR * 24, "86,400 rows at most");
    let longer = Window { from: end - HOUR * 48, ..window };
    let page = history.page(&longer, None, 100).await.expect("read").slice;
    assert_eq!(page.to.since(page.from), HOUR * 27, "97,200 rows at most");
}

#[tokio::test]
async fn so_many_series_of_groups_and_steps_are_put_together_and_no_more() {
    let across = async |past: Vec<Bucket>| {
        let (history, _) = history(Kept { marks: ROLLED_UP, past, ..Kept::default() });
        let window = history.window((NOW - HOUR, NOW), MINUTE);
        let page = history.page_of_many(&window, None, 100, (1, INTERVAL)).await.expect("one machine");
        let turn = history.turn().expect("nobody else asks");
        let answer = history.across(&turn, &[(agent(1), 0)], &everything(), &page).await;
        answer.map(|steps| steps.values().map(|crowd| crowd.series.len()).sum::<usize>())
    };
    let whole: Vec<Bucket> = (0..50).map(|n| minute(n, SPREADS_MAX / 50)).collect();
    assert_eq!(across(whole.clone()).await, Ok(SPREADS_MAX));
    assert_eq!(across([whole, vec![minute(50, 1)]].concat()).await, Err(ManyError::TooMany));
}

#[test]
fn so_many_numbers_are_put_together_and_no_more() {
    let mut together = Together::default();
    assert_eq!(together.add((NUMBERS_MAX, SPREADS_MAX)), Ok(()));
    assert_eq!(Together { ..together }.add((1, 0)), Err(ManyError::TooMany));
    assert_eq!(Together { ..together }.add((0, 1)), Err(ManyError::TooMany));
}

#[tokio::test]
async fn so_many_questions_about_many_are_answered_at_once_and_leave_readers_for_others() {
    let (history, kept) = history(Kept { marks: ROLLED_UP, past: vec![minute(0, 1)], ..Kept::default() });
    let window = history.window((NOW - HOUR, NOW), MINUTE);
    let page = history.page_of_many(&window, None, 100, (10, INTERVAL)).await.expect("ten machines");
    let (members, wanted): (Vec<_>, _) = ((0..10).map(|n| (agent(n), 0)).collect(), everything());
    let agents: Vec<AgentId> = members.iter().map(|(agent, _)| *agent).collect();
    let ask = async || history.across(&history.turn()?, &members, &wanted, &page).await.map(|steps| steps.len());
    let answers = join_all((0..=QUESTIONS_AT_ONCE).map(|_| ask())).await;
    let (busy, well): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| *answer == Err(ManyError::Busy));
    assert_eq!((busy.len(), well), (1, vec![Ok(1); QUESTIONS_AT_ONCE]));
    assert_eq!(kept.most_reading.load(Ordering::SeqCst), READ_AT_ONCE, "all of them together");

    let held: Vec<_> = (0..QUESTIONS_AT_ONCE).map(|_| history.turn().expect("a turn")).collect();
    assert_eq!(ask().await, Err(ManyError::Busy));
    drop(held);
    assert_eq!(ask().await, Ok(1));
    let turn = history.turn().expect("a turn");
    let trends = history.trends(&turn, &agents, &wanted, slice::from_ref(&page)).await;
    assert_eq!(trends.map(|trends| trends.len()), Ok(10));
}

/// A report each ten seconds from `begin` on, for so many.
fn spoken(begin: Timestamp, count: u32) -> Vec<Bucket> {
    let series = Series { metric: Metric::CpuTotal, label: String::new() };
    let report = |n: u32| Bucket {
        start: begin + Duration::from_secs(10) * n,
        series: vec![(series.clone(), Summary::of(f64::from(n % 97)))],
    };
    (0..count).map(report).collect()
}

#[tokio::test]
async fn what_is_read_of_a_span_is_the_same_whatever_has_been_rolled_up_meanwhile() {
    let begin = start(NOW, HOUR) - HOUR * 4;
    let [third, fourth] = [3, 4].map(|n| begin + HOUR * n);
    let past = spoken(begin, 4 * 360);
    for (step, span) in [
        (HOUR, HOUR * 2 + MINUTE * 20 + Duration::from_secs(15)),
        (MINUTE, MINUTE * 100 + Duration::from_secs(25)),
        (MINUTE, Duration::from_secs(25)),
        // Neither bucket nor page ends where a step does.
        (Duration::from_secs(90), Duration::from_secs(3_333)),
        (HOUR + MINUTE * 30, HOUR * 3 + MINUTE * 10),
    ] {
        let mut seen: Vec<Vec<Bucket>> = Vec::new();
        for marks in
            [[None; 2], [Some(begin + HOUR), Some(begin)], [Some(third), Some(begin + HOUR)], [Some(fourth); 2]]
        {
            for points in [1, 2, MAX_POINTS] {
                let (history, _) = history(Kept { marks, past: past.clone(), ..Kept::default() });
                let window = history.window((begin, begin + span), step);
                let (mut after, mut found) = (None, Vec::new());
                loop {
                    let page = history.page(&window, after, points).await.expect("cut");
                    found.extend(history.read(agent(1), &everything(), &page).await.expect("read"));
                    after = page.slice.next;
                    if after.is_none() {
                        break;
                    }
                }
                seen.push(found);
            }
        }
        let said: u64 = seen[0].iter().map(|bucket| bucket.series[0].1.count).sum();
        assert_eq!(u128::from(said), span.as_millis().div_ceil(10_000), "all that was said in {span:?}, and no more");
        assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{step:?} {span:?}: {seen:#?}");
    }
}

#[tokio::test]
async fn a_step_that_is_read_from_any_number_of_rows_has_all_of_them() {
    let days = HOUR * 72;
    let begin = start(NOW, days) - days;
    let count = PIECE_ROWS * 2 + 5;
    let series = Series { metric: Metric::CpuTotal, label: String::new() };
    let report =
        |n: u32| Bucket { start: begin + SECOND * n, series: vec![(series.clone(), Summary::of(f64::from(n)))] };
    let past: Vec<Bucket> = (0..count).map(report).collect();
    // Nobody has rolled anything up.
    let (history, kept) = history(Kept { past, ..Kept::default() });
    let window = Window { from: begin, to: begin + days, step: days, level: Level::Hour };
    let page = history.page(&window, None, 1).await.expect("cut");
    let found = history.read(agent(1), &everything(), &page).await.expect("read");
    let [bucket] = &found[..] else { panic!("one step: {found:?}") };
    let summary = bucket.series[0].1;
    assert_eq!((summary.count, summary.last), (count.into(), f64::from(count - 1)));
    assert_eq!(kept.asked.load(Ordering::SeqCst), 5, "three pieces, after the two levels that have nothing");
}

#[tokio::test]
async fn a_trend_is_drawn_through_all_of_its_span_and_a_span_of_too_many_steps_is_refused() {
    let begin = start(NOW, HOUR) - HOUR * 40;
    // It rises for half of the time, and falls again.
    let series = Series { metric: Metric::CpuTotal, label: String::new() };
    let report = |n: u32| Bucket {
        start: begin + MINUTE * n,
        series: vec![(series.clone(), Summary::of(f64::from(n.min(2_400 - n))))],
    };
    let (history, _) = history(Kept { past: (0..2_400).map(report).collect(), ..Kept::default() });
    // Nothing is rolled up: all of it may be as many rows as are read in two pieces.
    let window = history.window((begin, begin + HOUR * 40), MINUTE * 2);
    let pages = history.pages(&window).await.expect("not too many steps");
    assert!(pages.len() > 1 && pages.windows(2).all(|pair| pair[0].slice.to == pair[1].slice.from), "{pages:?}");
    let turn = history.turn().expect("nobody else asks");
    let trends = history.trends(&turn, &[agent(1)], &everything(), &pages).await.expect("drawn");
    let (_, trend) = &trends[0][0];
    assert_eq!(trend.points, 1_200);
    assert!(trend.per_hour.abs() < 0.1, "as much down as up: {trend:?}");

    let steps = |n: u32| history.window((begin, begin + MINUTE * n), MINUTE);
    assert_eq!(history.pages(&steps(MAX_POINTS)).await.map(|pages| pages.len()), Ok(2));
    let refused = history.pages(&steps(MAX_POINTS + 1)).await.err();
    assert_eq!(refused, Some(ManyError::TooManySteps(2_001)));
    // Of what nobody keeps, or has said yet, there are no steps.
    let month = HOUR * 24 * 31;
    let ever = history.window((Timestamp(0) - month * 12_000, NOW + month * 12_000), month);
    let pages = history.pages(&ever).await.expect("thirteen months and a little");
    assert!(pages.len() <= 14, "{}", pages.len());
}
