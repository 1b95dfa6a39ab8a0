//! What agents said last, as it goes to Redis: with the sign of life that is given every other second anyway, so no
//! report costs a request.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use domain::telemetry::metric::Series;
use domain::telemetry::report::{Reading, TOLERATED_SKEW_MS, check};
use domain::time::Timestamp;
use plan::id::AgentId;
use ports::latest::Latest;
use redis::Pipeline;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Reports that go out in one request; the rest goes with the next.
const PUT_AT_ONCE: usize = 2_000;
/// Long enough to find what a machine said before it fell silent.
const KEPT: Duration = Duration::from_secs(3_600);
/// Longest report that is put up, and that is taken down: some hundred containers are said in a quarter of it.
pub(crate) const MOST_BYTES: usize = 256 * 1024;

/// What waits to be put up: one report of each agent.
#[derive(Default)]
pub(crate) struct Waiting(HashMap<AgentId, Arc<Latest>>);

impl Waiting {
    /// One more, in the place of what the agent said before.
    pub fn add(&mut self, agent: AgentId, latest: Arc<Latest>) {
        self.0.insert(agent, latest);
    }

    /// Takes what goes out next.
    pub fn take(&mut self) -> Vec<(AgentId, Arc<Latest>)> {
        if self.0.len() <= PUT_AT_ONCE {
            return self.0.drain().collect();
        }
        let some: Vec<AgentId> = self.0.keys().take(PUT_AT_ONCE).copied().collect();
        some.into_iter().filter_map(|id| self.0.remove_entry(&id)).collect()
    }

    /// What did not get out waits again, unless something later does already.
    pub fn put_back(&mut self, reports: Vec<(AgentId, Arc<Latest>)>) {
        for (agent, latest) in reports {
            self.0.entry(agent).or_insert(latest);
        }
    }
}

/// As it stands in Redis.
#[derive(Serialize, Deserialize)]
struct Put {
    at: i64,
    received_at: i64,
    skew_ms: i64,
    sample: String,
    readings: Vec<(String, f64)>,
}

impl Put {
    fn of(latest: &Latest) -> Put {
        let Latest { sample, at, received_at, skew_ms, readings } = latest;
        let readings = readings.iter().map(|Reading { series, value }| (series.to_string(), *value)).collect();
        Put { at: at.0, received_at: received_at.0, skew_ms: *skew_ms, sample: (**sample).to_owned(), readings }
    }

    /// Read back. A later program may know metrics that this one does not: those are left out.
    fn latest(self) -> Latest {
        let Put { at, received_at, skew_ms, sample, readings } = self;
        let reading = |(series, value): (String, f64)| Some(Reading { series: Series::parse(&series)?, value });
        let readings = readings.into_iter().filter_map(reading).collect();
        Latest { sample: sample.into(), at: Timestamp(at), received_at: Timestamp(received_at), skew_ms, readings }
    }
}

/// What stands in Redis, if a host can have put it up by now.
pub(crate) fn read(text: &[u8], now: Timestamp) -> Option<Latest> {
    let mut latest = serde_json::from_slice::<Put>(text).ok()?.latest();
    let is_near = |one: Timestamp, other: Timestamp| {
        one.as_millis().abs_diff(other.as_millis()) <= TOLERATED_SKEW_MS.unsigned_abs()
    };
    // Hosts' clocks may differ a little.
    let has_come = latest.received_at <= now || is_near(latest.received_at, now);
    let is_sample = serde_json::from_str::<Map<String, Value>>(&latest.sample).is_ok();
    let can_be = has_come && is_near(latest.at, latest.received_at) && is_sample && check(&latest.readings).is_ok();
    // Nobody is believed for longer than until the next word.
    latest.received_at = latest.received_at.min(now);
    can_be.then_some(latest)
}

pub(crate) fn name(prefix: &str, agent: AgentId) -> String {
    format!("{prefix}:latest:{agent}")
}

/// Adds a report to what is to be said.
pub(crate) fn say(words: &mut Pipeline, prefix: &str, agent: AgentId, latest: &Latest) {
    let text = serde_json::to_string(&Put::of(latest)).expect("text and numbers always encode");
    if text.len() > MOST_BYTES {
        tracing::debug!(%agent, bytes = text.len(), "a report is too long for other hosts; this one tells it");
        return;
    }
    words.cmd("SET").arg(name(prefix, agent)).arg(text).arg("PX").arg(KEPT.as_millis() as u64).ignore();
}

#[cfg(test)]
mod tests {
    use domain::telemetry::metric::Metric;
    use uuid::Uuid;

    use super::*;

    fn latest(at: i64) -> Arc<Latest> {
        let readings =
            vec![Reading::new(Metric::CpuTotal, 12.5), Reading::labelled(Metric::DiskUsedPct, "/a{b}", 40.0)];
        let (at, received_at) = (Timestamp(at), Timestamp(at + 1));
        Arc::new(Latest { sample: r#"{"at_ms":7}"#.into(), at, received_at, skew_ms: -3, readings: readings.into() })
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let text = serde_json::to_string(&Put::of(&latest(7))).expect("encodes");
        assert_eq!(read(text.as_bytes(), Timestamp(8)).as_ref(), Some(&*latest(7)));
    }

    #[test]
    fn a_report_is_put_up_as_long_as_it_may_be_and_no_longer() {
        let latest = |bytes: usize| Latest { sample: "x".repeat(bytes).into(), ..(*latest(7)).clone() };
        let is_said = |bytes: usize| {
            let mut words = redis::pipe();
            say(&mut words, "viworks", AgentId(Uuid::nil()), &latest(bytes));
            !words.is_empty()
        };
        let around = serde_json::to_string(&Put::of(&latest(0))).expect("encodes").len();
        assert!(is_said(MOST_BYTES - around) && !is_said(MOST_BYTES - around + 1));
    }

    #[test]
    fn what_no_host_can_have_put_up_is_not_read() {
        const NOW: i64 = 1_700_000_000_000_000;
        let said = |change: fn(&mut Latest)| {
            let mut said = Arc::into_inner(latest(NOW)).expect("nobody else has it");
            change(&mut said);
            serde_json::to_string(&Put::of(&said)).expect("encodes")
        };
        let is_read = |text: &str| read(text.as_bytes(), Timestamp(NOW)).is_some();
        let minutes = |number: i64| number * 60_000_000;
        let shifted: [(i64, bool); 4] =
            [(minutes(2) - 1_000, true), (minutes(3), false), (-minutes(90), true), (0, true)];
        for (by, taken) in shifted {
            let text = serde_json::to_string(&Put::of(&latest(NOW + by))).expect("encodes");
            assert_eq!(is_read(&text), taken, "{by} µs after now");
        }
        let changes: [fn(&mut Latest); 8] = [
            |said| said.at = Timestamp(i64::MAX),
            |said| (said.at, said.received_at) = (Timestamp(i64::MIN), Timestamp(i64::MAX)),
            |said| said.received_at = Timestamp(i64::MIN),
            |said| said.sample = "[]".into(),
            |said| said.sample = r#"{"at_ms":"#.into(),
            |said| said.sample = format!("{{\"deep\":{}1{}}}", "[".repeat(200), "]".repeat(200)).into(),
            |said| said.readings = [12.5, 13.0].map(|cpu| Reading::new(Metric::CpuTotal, cpu)).into(),
            |said| said.readings = [Reading::new(Metric::CpuTotal, -1.0)].into(),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            assert!(!is_read(&said(change)), "change {number}");
        }
        let whole = said(|_| {});
        for text in ["", "null", "[]", "\0", &whole[1..], &whole[..whole.len() - 1], &whole.replace(':', ":[")] {
            assert!(!is_read(text), "{text}");
        }
        assert!(read(b"\xff\xfe", Timestamp(NOW)).is_none());
    }

    #[test]
    fn of_each_agent_only_what_it_said_last_goes_out_and_what_did_not_get_out_waits() {
        let agent = |number: usize| AgentId(Uuid::from_u128(number as u128));
        let mut waiting = Waiting::default();
        for number in 0..PUT_AT_ONCE + 5 {
            waiting.0.insert(agent(number), latest(1));
        }
        let first = waiting.take();
        assert_eq!((first.len(), waiting.0.len()), (PUT_AT_ONCE, 5));
        let some = first[0].0;
        waiting.0.insert(some, latest(2));
        waiting.put_back(first);
        assert_eq!((waiting.0.len(), waiting.0[&some].at), (PUT_AT_ONCE + 5, Timestamp(2)));
    }
}
