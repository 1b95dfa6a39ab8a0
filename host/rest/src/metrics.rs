//! Metrics for machines that watch the host, in the OpenMetrics text form. What each means is in `docs/metrics.md`,
//! which a test holds against what is told here.
//!
//! Invariant: no label says an agent, a site, a user or anything else that callers can invent; so what is told does
//! not grow with the fleet, and everybody who may see it may see all of it.

mod http;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use services::meter::{BOUNDS_MS, Spans};

pub use http::{Http, Route};

/// What [`text`] is.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the machines below have done, as far as this door cannot see it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vitals {
    /// Transactions on disk.
    pub commits: u64,
    /// Writes in them.
    pub writes: u64,
    /// Audit entries in them.
    pub audits: u64,
    /// Pieces of output that were not stored.
    pub chunks_dropped: u64,
    /// Notes that were not stored.
    pub notes_dropped: u64,
    /// 1 while the Redis that hosts call each other by does not answer.
    pub redis_away: u64,
    /// Requests to it.
    pub redis_requests: u64,
}

/// Asks for them.
pub type AskVitals = Arc<dyn Fn() -> Vitals + Send + Sync>;

/// Names and values that tell one sample from another.
pub type Labels = Vec<(&'static str, String)>;

#[derive(Debug)]
enum Told {
    Counter(Vec<(Labels, u64)>),
    Gauge(Vec<(Labels, u64)>),
    Spans(Spans),
}

/// One metric.
#[derive(Debug)]
pub struct Family {
    name: &'static str,
    help: &'static str,
    told: Told,
}

/// Everything at one moment.
#[derive(Debug)]
struct Snapshot(Vec<Family>);

/// All of it as text.
///
/// # Errors
/// When it cannot be written, which no text can keep it from.
pub fn text(families: Vec<Family>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Snapshot(families)));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// One sample without labels.
pub fn one(count: u64) -> Vec<(Labels, u64)> {
    vec![(Vec::new(), count)]
}

/// What only grows.
pub fn counter(name: &'static str, help: &'static str, samples: Vec<(Labels, u64)>) -> Family {
    Family { name, help, told: Told::Counter(samples) }
}

/// How it is now.
pub fn gauge(name: &'static str, help: &'static str, samples: Vec<(Labels, u64)>) -> Family {
    Family { name, help, told: Told::Gauge(samples) }
}

/// How long things took.
pub fn spans(name: &'static str, help: &'static str, spans: Spans) -> Family {
    Family { name, help, told: Told::Spans(spans) }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        for Family { name, help, told } in &self.0 {
            // Its full stop is the library's.
            let help = help.trim_end_matches('.');
            match told {
                Told::Counter(samples) => {
                    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
                    for (labels, count) in samples {
                        family.encode_family(labels)?.encode_counter::<NoLabelSet, _, u64>(count, None)?;
                    }
                }
                Told::Gauge(samples) => {
                    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
                    for (labels, count) in samples {
                        family.encode_family(labels)?.encode_gauge(count)?;
                    }
                }
                Told::Spans(Spans { count, sum, sizes }) => {
                    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
                    let bounds = BOUNDS_MS.map(|ms| Duration::from_millis(ms).as_secs_f64());
                    let bounds = bounds.into_iter().chain([f64::MAX]);
                    let buckets: Vec<(f64, u64)> = bounds.zip(sizes.iter().copied()).collect();
                    family.encode_histogram::<NoLabelSet>(sum.as_secs_f64(), *count, &buckets, None)?;
                }
            }
        }
        Ok(())
    }
}
