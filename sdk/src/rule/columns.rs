//! The columns of a batch, as plain data. In a component they are the ABI's own, so that nothing is copied.

/// Many agents at once. Made by hosts and by the test kit.
///
/// ```
/// use viworks_sdk::rule::Batch;
///
/// let batch = Batch::default();
/// assert!(batch.entries.is_empty());
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Names, labels and words, once each.
    pub words: Vec<String>,
    /// What is measured.
    pub series: Vec<Series>,
    /// The agents.
    pub entries: Vec<Entrant>,
    /// Their samples, one agent's behind the other's.
    pub samples: Vec<Sampled>,
    /// Of each reading, its series.
    pub which: Vec<u32>,
    /// Of each reading, its number.
    pub values: Vec<f64>,
}

/// What is measured, as indices into the words of the batch.
///
/// ```
/// let series = viworks_sdk::rule::Series { metric: 0, label: 1, word: 2 };
/// assert_eq!(series.label, 1);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series {
    /// e.g. `disk.used_pct`.
    pub metric: u32,
    /// e.g. `/srv`.
    pub label: u32,
    /// e.g. `exited`; an empty word for numbers.
    pub word: u32,
}

/// One agent of a batch.
///
/// ```
/// let agent = viworks_sdk::rule::Entrant { agent: "web-1".into(), ..Default::default() };
/// assert!(agent.state.is_none());
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entrant {
    /// Its name.
    pub agent: String,
    /// Its status, an index into the words.
    pub status: u32,
    /// When it was last heard. Milliseconds since 1970-01-01 UTC.
    pub heard_ms: u64,
    /// The next so many samples are its own.
    pub samples: u32,
    /// The form of `state`.
    pub state_version: u32,
    /// What the rule last said to keep.
    pub state: Option<String>,
}

/// One sample of a batch.
///
/// ```
/// let sample = viworks_sdk::rule::Sampled { at_ms: 1_700_000_000_000, readings: 3 };
/// assert_eq!(sample.readings, 3);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampled {
    /// Milliseconds since 1970-01-01 UTC.
    pub at_ms: u64,
    /// The next so many readings are its own.
    pub readings: u32,
}
