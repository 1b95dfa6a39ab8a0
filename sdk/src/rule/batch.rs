//! One agent of a batch, as a rule looks at it.

#[cfg(not(target_family = "wasm"))]
use super::columns;
#[cfg(target_family = "wasm")]
use crate::bindings::rules::exports::viworks::plugin1_1_0::rules as columns;

#[cfg(not(target_family = "wasm"))]
pub use columns::{Batch, Entrant, Sampled, Series};
#[cfg(target_family = "wasm")]
pub use columns::{Batch, Entry as Entrant, Sample as Sampled, Series};

/// Where the next agent's samples and readings begin.
#[derive(Clone, Copy, Default)]
pub(super) struct Place {
    sample: usize,
    reading: usize,
}

/// One agent, as a rule looks at it.
///
/// ```
/// use viworks_sdk::prelude::*;
///
/// fn is_away(agent: &Agent) -> bool {
///     agent.is_offline() && agent.now_ms() - agent.heard_ms() > 60_000
/// }
/// # let _ = is_away;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Agent<'a> {
    batch: &'a Batch,
    pub(super) entrant: &'a Entrant,
    samples: &'a [Sampled],
    /// Where its readings begin.
    first: usize,
    now_ms: u64,
}

impl<'a> Agent<'a> {
    pub(super) fn at(batch: &'a Batch, entrant: &'a Entrant, place: &mut Place, now_ms: u64) -> Agent<'a> {
        let end = place.sample + entrant.samples as usize;
        let samples = batch.samples.get(place.sample..end).unwrap_or_default();
        let agent = Agent { batch, entrant, samples, first: place.reading, now_ms };
        place.sample = end;
        place.reading += samples.iter().map(|sample| sample.readings as usize).sum::<usize>();
        agent
    }

    /// Its name.
    ///
    /// ```
    /// # use viworks_sdk::prelude::*;
    /// fn is_ours(agent: &Agent) -> bool {
    ///     agent.name().starts_with("web-")
    /// }
    /// # let _ = is_ours;
    /// ```
    pub fn name(&self) -> &'a str {
        &self.entrant.agent
    }

    /// `online`, `degraded`, `offline` or `maintenance`; hosts may come to know more.
    ///
    /// ```
    /// # use viworks_sdk::prelude::*;
    /// fn is_troubled(agent: &Agent) -> bool {
    ///     agent.status() == "degraded"
    /// }
    /// # let _ = is_troubled;
    /// ```
    pub fn status(&self) -> &'a str {
        self.word(self.entrant.status)
    }

    /// Whether nothing is heard of it.
    ///
    /// ```
    /// # use viworks_sdk::prelude::*;
    /// fn speaks(agent: &Agent) -> bool {
    ///     !agent.is_offline()
    /// }
    /// # let _ = speaks;
    /// ```
    pub fn is_offline(&self) -> bool {
        self.status() == "offline"
    }

    /// When it was last heard. Milliseconds since 1970-01-01 UTC.
    ///
    /// ```
    /// # use viworks_sdk::prelude::*;
    /// fn silent_s(agent: &Agent) -> u64 {
    ///     agent.now_ms().saturating_sub(agent.heard_ms()) / 1000
    /// }
    /// # let _ = silent_s;
    /// ```
    pub fn heard_ms(&self) -> u64 {
        self.entrant.heard_ms
    }

    /// The present, as the host sees it. Milliseconds since 1970-01-01 UTC.
    ///
    /// ```
    /// # use viworks_sdk::prelude::*;
    /// fn since_last_sample(agent: &Agent) -> Option<u64> {
    ///     Some(agent.now_ms().saturating_sub(agent.sampled_ms()?))
    /// }
    /// # let _ = since_last_sample;
    /// ```
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// When its latest sample of this batch was taken; none if none came.
    ///
    /// ```
    /// # use viworks_sdk::prelude::*;
    /// fn has_news(agent: &Agent) -> bool {
    ///     agent.sampled_ms().is_some()
    /// }
    /// # let _ = has_news;
    /// ```
    pub fn sampled_ms(&self) -> Option<u64> {
        self.samples.last().map(|sample| sample.at_ms)
    }

    /// All readings of `metric`, oldest first: one for each sample and label.
    ///
    /// ```
    /// # use viworks_sdk::prelude::*;
    /// fn fullest(agent: &Agent) -> f64 {
    ///     agent.readings("disk.used_pct").map(|reading| reading.value).fold(0.0, f64::max)
    /// }
    /// # let _ = fullest;
    /// ```
    pub fn readings<'m>(&self, metric: &'m str) -> Readings<'a, 'm> {
        Readings { agent: *self, metric, sample: 0, left: 0, next: self.first }
    }

    fn word(&self, index: u32) -> &'a str {
        self.batch.words.get(index as usize).map_or("", String::as_str)
    }
}

/// One number of a sample.
///
/// ```
/// use viworks_sdk::rule::Reading;
///
/// let reading = Reading { at_ms: 0, metric: "disk.used_pct", label: "/srv", word: "", value: 91.5 };
/// assert!(reading.value > 85.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading<'a> {
    /// When. Milliseconds since 1970-01-01 UTC.
    pub at_ms: u64,
    /// e.g. `disk.used_pct`.
    pub metric: &'a str,
    /// Of what, e.g. `/srv`; empty where there is one only.
    pub label: &'a str,
    /// What a metric of states says, e.g. `exited`; empty for numbers.
    pub word: &'a str,
    /// The number; 1 where a word says it.
    pub value: f64,
}

/// Readings of one metric.
///
/// ```
/// use viworks_sdk::prelude::*;
/// use viworks_sdk::rule::Readings;
///
/// fn states<'a>(agent: &Agent<'a>) -> Readings<'a, 'static> {
///     agent.readings("container.state")
/// }
/// # let _ = states;
/// ```
#[derive(Clone, Debug)]
pub struct Readings<'a, 'm> {
    agent: Agent<'a>,
    metric: &'m str,
    /// Samples begun.
    sample: usize,
    /// Readings of the sample last begun that are still to come.
    left: u32,
    next: usize,
}

impl<'a> Iterator for Readings<'a, '_> {
    type Item = Reading<'a>;

    fn next(&mut self) -> Option<Reading<'a>> {
        let Agent { batch, samples, .. } = self.agent;
        loop {
            while self.left == 0 {
                self.left = samples.get(self.sample)?.readings;
                self.sample += 1;
            }
            let (which, value) = (*batch.which.get(self.next)?, *batch.values.get(self.next)?);
            self.next += 1;
            self.left -= 1;
            let series = batch.series.get(which as usize)?;
            let metric = self.agent.word(series.metric);
            if metric == self.metric {
                let (label, word) = (self.agent.word(series.label), self.agent.word(series.word));
                return Some(Reading { at_ms: samples[self.sample - 1].at_ms, metric, label, word, value });
            }
        }
    }
}
