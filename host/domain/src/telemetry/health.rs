//! How well a machine is, as a number from 0 to 100 whose arithmetic can be read: 100, and what is taken off.

use crate::agent::AgentStatus;
use crate::telemetry::metric::Metric;
use crate::telemetry::report::{Reading, TOLERATED_SKEW_MS};

/// What is taken off, and for what.
#[derive(Clone, Debug, PartialEq)]
pub struct Deduction {
    /// For what, e.g. `disk.used_pct{/} is 96.2, at or over 95`.
    pub why: String,
    /// How much.
    pub points: u32,
}

/// How well one machine is.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// 100 less everything that is taken off, at least 0.
    pub score: u32,
    /// What is taken off.
    pub deductions: Vec<Deduction>,
}

/// What is known of a machine.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Whether work can reach it.
    pub status: AgentStatus,
    /// Its latest numbers; `None` when there are none.
    pub readings: Option<&'a [Reading]>,
    /// Whether they are older than three intervals.
    pub is_stale: bool,
    /// How far its clock is ahead of the host's.
    pub skew_ms: i64,
}

/// From this on so much is taken off for the worst series of a metric.
const LEVELS: [(Metric, f64, u32, f64, u32); 3] = [
    (Metric::CpuTotal, 80.0, 10, 95.0, 25),
    (Metric::MemUsedPct, 85.0, 10, 95.0, 25),
    (Metric::DiskUsedPct, 85.0, 10, 95.0, 30),
];
/// States that are taken off for, each time, and at most.
const STATES: [(Metric, &[&str], u32, u32); 3] = [
    (Metric::ContainerHealth, &["unhealthy"], 10, 30),
    (Metric::ContainerState, &["restarting", "dead"], 10, 30),
    (Metric::ServiceState, &["failed", "missing"], 10, 30),
];

/// How well a machine is.
pub fn health(known: &Known<'_>) -> Health {
    let mut deductions = Vec::new();
    let mut off = |points: u32, why: String| deductions.push(Deduction { why, points });
    match known.status {
        AgentStatus::Offline => off(100, "it is offline".to_owned()),
        AgentStatus::Degraded => off(20, "it is degraded: a heartbeat was missed, or it reports trouble".to_owned()),
        AgentStatus::Online | AgentStatus::Maintenance | AgentStatus::Pending => {}
    }
    if !matches!(known.status, AgentStatus::Offline | AgentStatus::Pending) {
        match known.readings {
            None => off(15, "it has sent no telemetry".to_owned()),
            Some(_) if known.is_stale => off(15, "its telemetry is older than three intervals".to_owned()),
            Some(_) => {}
        }
        let readings = known.readings.unwrap_or_default();
        for (metric, high, less, very_high, more) in LEVELS {
            let of = readings.iter().filter(|reading| reading.series.metric == metric);
            let Some(worst) = of.max_by(|a, b| a.value.total_cmp(&b.value)) else { continue };
            let (limit, points) = if worst.value >= very_high { (very_high, more) } else { (high, less) };
            if worst.value >= limit {
                off(points, format!("{} is {:.1}, at or over {limit}", worst.series, worst.value));
            }
        }
        for (metric, words, each, at_most) in STATES {
            let of = readings.iter().filter(|reading| reading.series.metric == metric);
            let bad: Vec<&Reading> =
                of.filter(|reading| metric.word(reading.value).is_some_and(|word| words.contains(&word))).collect();
            if let Some(first) = bad.first() {
                let n = u32::try_from(bad.len()).unwrap_or(u32::MAX);
                let word = metric.word(first.value).unwrap_or("unknown");
                let rest = if n > 1 { format!(", and {} more", n - 1) } else { String::new() };
                off(each.saturating_mul(n).min(at_most), format!("{} is {word}{rest}", first.series));
            }
        }
        if known.skew_ms.unsigned_abs() > TOLERATED_SKEW_MS.unsigned_abs() {
            off(5, format!("its clock is off by {} s", known.skew_ms / 1_000));
        }
    }
    let taken: u32 = deductions.iter().map(|deduction| deduction.points).sum();
    Health { score: 100_u32.saturating_sub(taken), deductions }
}

/// How well many machines are: the average of those that are in service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Many {
    /// Machines.
    pub agents: u32,
    /// Those that work can reach in full.
    pub online: u32,
    /// Those that work can reach, in trouble.
    pub degraded: u32,
    /// Those it cannot reach.
    pub offline: u32,
    /// Those that an operator took out; they do not count into the score.
    pub maintenance: u32,
    /// Those that wait for approval; they do not count either.
    pub pending: u32,
    /// The scores of all others together.
    pub sum: u32,
}

impl Many {
    /// Takes one more in.
    pub fn add(&mut self, status: AgentStatus, health: &Health) {
        self.agents += 1;
        let of_status = match status {
            AgentStatus::Online => &mut self.online,
            AgentStatus::Degraded => &mut self.degraded,
            AgentStatus::Offline => &mut self.offline,
            AgentStatus::Maintenance => &mut self.maintenance,
            AgentStatus::Pending => &mut self.pending,
        };
        *of_status += 1;
        if !matches!(status, AgentStatus::Maintenance | AgentStatus::Pending) {
            self.sum = self.sum.saturating_add(health.score);
        }
    }

    /// Those that count into the score.
    pub fn counted(&self) -> u32 {
        self.agents - self.maintenance - self.pending
    }

    /// `sum / counted`; `None` when there is nobody to count.
    pub fn score(&self) -> Option<f64> {
        (self.counted() > 0).then(|| f64::from(self.sum) / f64::from(self.counted()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(status: AgentStatus, readings: &[Reading]) -> Health {
        health(&Known { status, readings: Some(readings), is_stale: false, skew_ms: 0 })
    }

    #[test]
    fn a_score_is_a_hundred_less_what_is_said() {
        let disk = |mount: &str, value| Reading::labelled(Metric::DiskUsedPct, mount, value);
        let health_of = |name: &str, word| {
            Reading::labelled(Metric::ContainerHealth, name, Metric::ContainerHealth.unit().number(word))
        };
        for (status, readings, expected) in [
            (AgentStatus::Online, vec![], 100),
            (AgentStatus::Online, vec![Reading::new(Metric::CpuTotal, 79.9)], 100),
            (AgentStatus::Online, vec![Reading::new(Metric::CpuTotal, 80.0)], 90),
            (AgentStatus::Online, vec![Reading::new(Metric::CpuTotal, 95.0)], 75),
            (AgentStatus::Online, vec![disk("/", 10.0), disk("/var", 99.0), disk("/opt", 90.0)], 70),
            (AgentStatus::Degraded, vec![disk("/", 86.0)], 70),
            (AgentStatus::Online, vec![health_of("a", "healthy"), health_of("b", "unhealthy")], 90),
            (AgentStatus::Online, ["a", "b", "c", "d", "e"].map(|name| health_of(name, "unhealthy")).to_vec(), 70),
            (AgentStatus::Offline, vec![Reading::new(Metric::CpuTotal, 99.0)], 0),
        ] {
            let found = score(status, &readings);
            assert_eq!(found.score, expected, "{found:?}");
            let taken: u32 = found.deductions.iter().map(|deduction| deduction.points).sum();
            assert_eq!(found.score, 100 - taken.min(100), "the arithmetic is shown");
        }
    }

    #[test]
    fn silence_and_a_wrong_clock_are_taken_off_for() {
        let known = Known { status: AgentStatus::Online, readings: None, is_stale: false, skew_ms: -600_000 };
        assert_eq!(health(&known).score, 80);
        let stale = Known { readings: Some(&[]), is_stale: true, skew_ms: 0, ..known };
        assert_eq!(health(&stale).score, 85);
    }

    #[test]
    fn who_is_not_in_service_does_not_count_and_offline_does() {
        let mut many = Many::default();
        assert_eq!(many.score(), None);
        for status in AgentStatus::ALL {
            many.add(status, &score(status, &[]));
        }
        assert_eq!((many.agents, many.offline, many.counted(), many.sum), (5, 1, 3, 180));
        assert_eq!(many.score(), Some(60.0));
    }
}
