//! The metrics there are: names, what their labels are, the numbers they may have, words for states.

use std::fmt;

/// Most bytes of a label.
pub const MAX_LABEL: usize = 128;
/// More than any machine has of anything: 2^60.
const HUGE: f64 = 1_152_921_504_606_846_976.0;

/// What a container engine calls the states of containers, in the order of their numbers.
pub const CONTAINER_STATES: [&str; 8] =
    ["unknown", "created", "running", "paused", "restarting", "removing", "exited", "dead"];
/// What a container's own check says of it.
pub const CONTAINER_HEALTH: [&str; 5] = ["unknown", "none", "starting", "healthy", "unhealthy"];
/// What systemd calls the states of units; `missing` is a unit that it does not know.
pub const SERVICE_STATES: [&str; 9] =
    ["unknown", "active", "reloading", "inactive", "failed", "activating", "deactivating", "maintenance", "missing"];

macro_rules! metrics {
    ($($variant:ident $code:literal $name:literal $label:literal $unit:ident,)*) => {
        /// One metric. A metric with a label has one series for each label.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Metric {
            $(#[doc = $name] $variant,)*
        }

        impl Metric {
            /// All metrics, in the order in which they are shown.
            pub const ALL: &[Metric] = &[$(Metric::$variant,)*];

            /// The name used in JSON and in rules.
            pub fn as_str(self) -> &'static str {
                match self { $(Metric::$variant => $name,)* }
            }

            /// The number it has in stored rows; never given to another metric.
            pub fn code(self) -> u8 {
                match self { $(Metric::$variant => $code,)* }
            }

            /// The metric with this number.
            pub fn of_code(code: u8) -> Option<Metric> {
                match code { $($code => Some(Metric::$variant),)* _ => None }
            }

            /// What its labels are; empty when it has none.
            pub fn label(self) -> &'static str {
                match self { $(Metric::$variant => $label,)* }
            }

            /// What its numbers are.
            pub fn unit(self) -> Unit {
                match self { $(Metric::$variant => Unit::$unit,)* }
            }
        }
    };
}

metrics! {
    CpuTotal 1 "cpu.total" "" Percent,
    CpuCore 2 "cpu.core" "core" Percent,
    CpuLimit 28 "cpu.limit" "" Cores,
    Load1 3 "load.1" "" Load,
    Load5 4 "load.5" "" Load,
    Load15 5 "load.15" "" Load,
    MemUsedPct 6 "mem.used_pct" "" Percent,
    MemUsed 7 "mem.used" "" Bytes,
    MemTotal 8 "mem.total" "" Bytes,
    SwapUsedPct 9 "swap.used_pct" "" Percent,
    SwapUsed 10 "swap.used" "" Bytes,
    SwapTotal 11 "swap.total" "" Bytes,
    DiskUsedPct 12 "disk.used_pct" "mount" Percent,
    DiskUsed 13 "disk.used" "mount" Bytes,
    DiskTotal 14 "disk.total" "mount" Bytes,
    NetRx 15 "net.rx" "interface" Rate,
    NetTx 16 "net.tx" "interface" Rate,
    ContainerCount 17 "container.count" "" Count,
    ContainerState 18 "container.state" "container" ContainerState,
    ContainerHealth 19 "container.health" "container" ContainerHealth,
    ContainerRestarts 20 "container.restarts" "container" Count,
    ContainerExitCode 21 "container.exit_code" "container" ExitCode,
    ContainerCpu 22 "container.cpu" "container" PercentOfCore,
    ContainerMem 23 "container.mem" "container" Bytes,
    ServiceState 24 "service.state" "unit" ServiceState,
    AgentRss 25 "agent.rss" "" Bytes,
    AgentSpool 26 "agent.spool" "" Bytes,
    AgentQueue 27 "agent.queue" "" Count,
}

/// What numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// 0 to 100.
    Percent,
    /// Of one core: 100 is one core in full.
    PercentOfCore,
    /// So many cores; half of one, too.
    Cores,
    /// A load average.
    Load,
    /// Whole bytes.
    Bytes,
    /// Bytes per second.
    Rate,
    /// How many.
    Count,
    /// What a process ended with.
    ExitCode,
    /// Place in [`CONTAINER_STATES`].
    ContainerState,
    /// Place in [`CONTAINER_HEALTH`].
    ContainerHealth,
    /// Place in [`SERVICE_STATES`].
    ServiceState,
}

impl Unit {
    /// The words of a state, by number.
    pub fn words(self) -> &'static [&'static str] {
        match self {
            Unit::ContainerState => &CONTAINER_STATES,
            Unit::ContainerHealth => &CONTAINER_HEALTH,
            Unit::ServiceState => &SERVICE_STATES,
            Unit::Percent
            | Unit::PercentOfCore
            | Unit::Cores
            | Unit::Load
            | Unit::Bytes
            | Unit::Rate
            | Unit::Count
            | Unit::ExitCode => &[],
        }
    }

    /// The number of a state's word; that of `unknown` for a word that is not known.
    pub fn number(self, word: &str) -> f64 {
        let place = self.words().iter().position(|known| *known == word).unwrap_or(0);
        place as f64
    }

    /// Least and most that it may be.
    pub fn range(self) -> (f64, f64) {
        match self {
            Unit::Percent => (0.0, 100.0),
            Unit::PercentOfCore => (0.0, 1_000_000.0),
            Unit::Cores | Unit::Load => (0.0, 1_000_000.0),
            Unit::Bytes | Unit::Rate => (0.0, HUGE),
            Unit::Count => (0.0, 1_000_000_000.0),
            Unit::ExitCode => (-2_147_483_648.0, 2_147_483_647.0),
            Unit::ContainerState | Unit::ContainerHealth | Unit::ServiceState => (0.0, (self.words().len() - 1) as f64),
        }
    }

    /// Whether seven digits of it are enough. Whole bytes and counts are kept as they are.
    pub fn is_rough(self) -> bool {
        matches!(self, Unit::Percent | Unit::PercentOfCore | Unit::Cores | Unit::Load | Unit::Rate)
    }
}

impl Metric {
    /// The metric called `name`, if there is one.
    pub fn parse(name: &str) -> Option<Metric> {
        Metric::ALL.iter().copied().find(|metric| metric.as_str() == name)
    }

    /// The word for a state's number.
    pub fn word(self, value: f64) -> Option<&'static str> {
        let words = self.unit().words();
        words.iter().enumerate().find(|(place, _)| (*place as f64 - value).abs() < 0.5).map(|(_, word)| *word)
    }
}

/// One series: a metric, and of which thing. Its text is `cpu.total` or `disk.used_pct{/var}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Series {
    /// What is measured.
    pub metric: Metric,
    /// Of what; empty when the metric has no label.
    pub label: String,
}

impl Series {
    /// The series of a metric without label.
    pub fn of(metric: Metric) -> Series {
        Series { metric, label: String::new() }
    }

    /// The series called so.
    pub fn parse(text: &str) -> Option<Series> {
        let (name, label) = match text.split_once('{') {
            Some((name, rest)) => (name, rest.strip_suffix('}')?),
            None => (text, ""),
        };
        let metric = Metric::parse(name)?;
        let fits = metric.label().is_empty() == label.is_empty() && label.len() <= MAX_LABEL;
        fits.then(|| Series { metric, label: label.to_owned() })
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.metric.as_str())?;
        if self.label.is_empty() { Ok(()) } else { write!(f, "{{{}}}", self.label) }
    }
}

/// Which series are wanted: every one of some metrics, or some by name. Empty is all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted(pub Vec<Pick>);

/// One thing wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pick {
    /// Every series of a metric.
    Metric(Metric),
    /// One series.
    Series(Series),
}

impl Pick {
    /// Reads `disk.used_pct` or `disk.used_pct{/var}`.
    pub fn parse(text: &str) -> Option<Pick> {
        Metric::parse(text).map(Pick::Metric).or_else(|| Series::parse(text).map(Pick::Series))
    }
}

impl Wanted {
    /// Whether this series is wanted.
    pub fn has(&self, metric: Metric, label: &str) -> bool {
        let is = |pick: &Pick| match pick {
            Pick::Metric(wanted) => *wanted == metric,
            Pick::Series(series) => series.metric == metric && series.label == label,
        };
        self.0.is_empty() || self.0.iter().any(is)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_metric_has_a_name_and_a_number_of_its_own() {
        let names: HashSet<&str> = Metric::ALL.iter().map(|metric| metric.as_str()).collect();
        let codes: HashSet<u8> = Metric::ALL.iter().map(|metric| metric.code()).collect();
        assert_eq!((names.len(), codes.len()), (Metric::ALL.len(), Metric::ALL.len()));
        for metric in Metric::ALL.iter().copied() {
            assert_eq!(Metric::parse(metric.as_str()), Some(metric));
            assert_eq!(Metric::of_code(metric.code()), Some(metric));
        }
    }

    #[test]
    fn a_series_reads_back_from_its_text() {
        for text in ["cpu.total", "disk.used_pct{/var/lib}", "net.rx{eth0}", "cpu.core{0}", "container.state{a}b}"] {
            assert_eq!(Series::parse(text).map(|series| series.to_string()).as_deref(), Some(text));
        }
        for text in ["", "cpu", "cpu.total{0}", "disk.used_pct", "net.rx{eth0", "net.rx{}", "mem.used{"] {
            assert_eq!(Series::parse(text), None, "{text}");
        }
    }

    #[test]
    fn states_are_words_with_numbers() {
        let state = Metric::ContainerState;
        assert_eq!(state.word(state.unit().number("exited")), Some("exited"));
        assert_eq!(state.word(state.unit().number("melted")), Some("unknown"));
        assert_eq!(Metric::CpuTotal.word(1.0), None);
    }
}
