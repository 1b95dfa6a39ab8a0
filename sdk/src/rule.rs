//! A rule: what an agent measured in, what is wrong with it out.
//!
//! ```
//! use viworks_sdk::prelude::*;
//!
//! /// When a machine has too much to do.
//! #[derive(Args)]
//! struct Load {
//!     /// It warns from here on.
//!     #[arg(default = 8.0)]
//!     warning: f64,
//!     /// It is critical from here on.
//!     #[arg(default = 16.0)]
//!     critical: f64,
//!     /// Seconds that it must last.
//!     #[arg(default = 120)]
//!     for_s: u64,
//! }
//!
//! #[rule(reads("load.1"), example = json!({ "turns": [
//!     { "at_s": 0, "readings": [{ "metric": "load.1", "value": 9 }], "found": { "": "pending" } },
//!     { "at_s": 120, "readings": [{ "metric": "load.1", "value": 9 }], "found": { "": "warning" } },
//!     { "at_s": 150, "readings": [{ "metric": "load.1", "value": 1 }] },
//! ] }))]
//! impl Rule for Load {
//!     fn judge(&self, agent: &Agent, watch: &mut Watch) -> Result<()> {
//!         let levels = Levels::new(self.warning, self.critical).after(self.for_s).saying("{value} tasks want to run");
//!         for reading in agent.readings("load.1") {
//!             watch.above(&reading, &levels);
//!         }
//!         Ok(())
//!     }
//! }
//!
//! plugin!(name = "load", summary = "Alerts when a machine has too much to do", rule: Load);
//!
//! viworks_sdk::test::check(&PLUGIN);
//! ```
//!
//! Invariant: a rule says what it sees. What becomes of it, who is told and who is not, is the host's.

mod batch;
#[cfg(not(target_family = "wasm"))]
mod columns;
mod levels;
mod marks;
mod watch;

use plan::rule::RuleManifest;
use serde_json::{Map, Value};

pub use batch::{Agent, Batch, Entrant, Reading, Readings, Sampled, Series};
pub use levels::Levels;
pub use watch::Watch;

use crate::Args;
use crate::failure::Result;
use crate::schema::Node;
use crate::text::parse;
use crate::value::read;
use crate::verb::Json;

/// A rule, implemented by its configuration, with [`#[rule]`](macro@crate::rule) above the `impl`.
///
/// ```
/// use viworks_sdk::prelude::*;
///
/// /// When a machine swaps.
/// #[derive(Args)]
/// struct Swap;
///
/// #[rule(reads("swap.used_pct"), example = json!({ "turns": [{ "at_s": 0, "readings": [] }] }))]
/// impl Rule for Swap {
///     fn judge(&self, agent: &Agent, watch: &mut Watch) -> Result<()> {
///         for reading in agent.readings("swap.used_pct") {
///             watch.above(&reading, &Levels::new(50.0, 90.0));
///         }
///         Ok(())
///     }
/// }
/// ```
pub trait Rule: Args + Described {
    /// Tells `watch` what is wrong with `agent`. What was wrong and is not told of any more is well again.
    ///
    /// # Errors
    /// Why nothing can be said of this agent. Its alerts stay as they are, and the host says so.
    fn judge(&self, agent: &Agent<'_>, watch: &mut Watch<'_>) -> Result<()>;
}

/// What [`#[rule]`](macro@crate::rule) writes.
///
/// ```
/// # use viworks_sdk::prelude::*;
/// # /// When a machine swaps.
/// # #[derive(Args)]
/// # struct Swap;
/// # #[rule(reads("swap.used_pct"), example = json!({ "turns": [{ "at_s": 0, "readings": [] }] }))]
/// # impl Rule for Swap {
/// #     fn judge(&self, _: &Agent, _: &mut Watch) -> Result<()> { Ok(()) }
/// # }
/// use viworks_sdk::rule::Described;
///
/// assert_eq!((Swap::FACTS.reads, Swap::FACTS.state_version), (&["swap.used_pct"][..], 1));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say what it reads",
    note = "write #[rule(reads(\"cpu.total\"), example = json!({{…}}))] above `impl Rule for {Self}`"
)]
pub trait Described {
    /// What there is to say without a sample.
    const FACTS: Facts;

    /// Courses of events with what must be found in them, tried at every load.
    const EXAMPLES: &'static [Json];
}

/// What there is to say of a rule without a sample.
///
/// ```
/// let facts = viworks_sdk::rule::Facts { reads: &["cpu.total"], state_version: 1 };
/// assert_eq!(facts.reads.len(), 1);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The metrics it is given.
    pub reads: &'static [&'static str],
    /// Which form what it [remembers](Watch::remember) has.
    pub state_version: u32,
}

/// How bad it is.
///
/// ```
/// use viworks_sdk::rule::Severity;
///
/// assert!(Severity::Critical > Severity::Warning);
/// assert_eq!(Severity::Pending.as_str(), "pending");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It may become something: it has not lasted long enough.
    Pending,
    /// Somebody should look.
    Warning,
    /// Somebody must look now.
    Critical,
}

impl Severity {
    /// The word that hosts read.
    ///
    /// ```
    /// assert_eq!(viworks_sdk::rule::Severity::Warning.as_str(), "warning");
    /// ```
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Pending => "pending",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

/// One thing that is wrong with an agent.
///
/// ```
/// use viworks_sdk::rule::{Finding, Severity};
///
/// let full = Finding {
///     key: "/srv".into(),
///     severity: Severity::Warning,
///     since_ms: 1_700_000_000_000,
///     value: Some(91.5),
///     message: "/srv is 91.5 % full".into(),
/// };
/// assert!(full.severity < Severity::Critical);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Which thing, if there may be several; empty if not.
    pub key: String,
    /// How bad.
    pub severity: Severity,
    /// Since when. Milliseconds since 1970-01-01 UTC.
    pub since_ms: u64,
    /// The number at fault.
    pub value: Option<f64>,
    /// One line for people.
    pub message: String,
}

/// All that a rule says of one agent.
///
/// ```
/// let nothing = viworks_sdk::rule::Judgement::default();
/// assert!(!nothing.judged && nothing.findings.is_empty() && nothing.state.is_none());
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judgement {
    /// False if nothing can be said, for want of a sample.
    pub judged: bool,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What the host keeps until the next time, as text.
    pub state: Option<String>,
}

/// What is said of one agent, or why nothing is.
///
/// ```
/// let answer: viworks_sdk::rule::Answer = Err("the clock stands still".into());
/// assert!(answer.is_err());
/// ```
pub type Answer = std::result::Result<Judgement, String>;

/// A rule, its type forgotten. Made by `plugin!`.
///
/// ```
/// # use viworks_sdk::prelude::*;
/// # /// When a machine swaps.
/// # #[derive(Args)]
/// # struct Swap;
/// # #[rule(reads("swap.used_pct"), example = json!({ "turns": [{ "at_s": 0, "readings": [] }] }))]
/// # impl Rule for Swap {
/// #     fn judge(&self, _: &Agent, _: &mut Watch) -> Result<()> { Ok(()) }
/// # }
/// let entry = viworks_sdk::rule::Entry::of::<Swap>();
/// assert_eq!(entry.manifest().reads, ["swap.used_pct"]);
/// ```
#[derive(Clone, Copy)]
pub struct Entry {
    facts: Facts,
    config: &'static Node,
    examples: &'static [Json],
    judge: JudgeFor,
}

/// Judges a batch.
#[doc(hidden)]
pub type JudgeFor = fn(&str, u64, &Batch) -> Vec<Answer>;

impl Entry {
    /// `R` as an entry.
    ///
    /// ```
    /// # use viworks_sdk::prelude::*;
    /// # /// When a machine swaps.
    /// # #[derive(Args)]
    /// # struct Swap;
    /// # #[rule(reads("swap.used_pct"), example = json!({ "turns": [{ "at_s": 0, "readings": [] }] }))]
    /// # impl Rule for Swap {
    /// #     fn judge(&self, _: &Agent, _: &mut Watch) -> Result<()> { Ok(()) }
    /// # }
    /// viworks_sdk::rule::Entry::of::<Swap>();
    /// ```
    pub const fn of<R: Rule>() -> Entry {
        Entry { facts: R::FACTS, config: R::NODE, examples: R::EXAMPLES, judge: judge_for::<R> }
    }

    #[cfg(test)]
    pub(crate) fn with(facts: Facts, config: &'static Node, examples: &'static [Json]) -> Entry {
        Entry { facts, config, examples, judge: |_, _, _| Vec::new() }
    }

    /// What the manifest says of it.
    ///
    /// # Panics
    /// When an example is no course of events, and says why.
    ///
    /// ```
    /// # use viworks_sdk::prelude::*;
    /// # /// When a machine swaps.
    /// # #[derive(Args)]
    /// # struct Swap;
    /// # #[rule(reads("swap.used_pct"), example = json!({ "turns": [{ "at_s": 0, "readings": [] }] }))]
    /// # impl Rule for Swap {
    /// #     fn judge(&self, _: &Agent, _: &mut Watch) -> Result<()> { Ok(()) }
    /// # }
    /// assert_eq!(viworks_sdk::rule::Entry::of::<Swap>().manifest().examples.len(), 1);
    /// ```
    pub fn manifest(&self) -> RuleManifest {
        let course = |example: &Json| match serde_json::from_value(example.value()) {
            Ok(course) => course,
            Err(error) => panic!("an example of the rule is no course of events: {error}"),
        };
        RuleManifest {
            reads: self.facts.reads.iter().map(|metric| (*metric).to_owned()).collect(),
            state_version: self.facts.state_version,
            examples: self.examples.iter().map(course).collect(),
        }
    }

    /// The same as JSON, without a serializer in every component.
    pub(crate) fn to_json(self) -> Value {
        let mut object = Map::new();
        let mut reads = Vec::with_capacity(self.facts.reads.len());
        for metric in self.facts.reads {
            reads.push(Value::from(*metric));
        }
        object.insert("reads".to_owned(), Value::Array(reads));
        if self.facts.state_version != 1 {
            object.insert("state_version".to_owned(), Value::from(self.facts.state_version));
        }
        let mut examples = Vec::with_capacity(self.examples.len());
        for example in self.examples {
            examples.push(example.value());
        }
        object.insert("examples".to_owned(), Value::Array(examples));
        Value::Object(object)
    }

    /// The schema of its configuration.
    pub(crate) fn config_schema(&self) -> Value {
        self.config.to_document()
    }

    /// Judges all of `batch` under `config`, JSON text.
    ///
    /// ```
    /// # use viworks_sdk::prelude::*;
    /// # /// When a machine swaps.
    /// # #[derive(Args)]
    /// # struct Swap;
    /// # #[rule(reads("swap.used_pct"), example = json!({ "turns": [{ "at_s": 0, "readings": [] }] }))]
    /// # impl Rule for Swap {
    /// #     fn judge(&self, _: &Agent, _: &mut Watch) -> Result<()> { Ok(()) }
    /// # }
    /// let entry = viworks_sdk::rule::Entry::of::<Swap>();
    /// assert!(entry.judge("{}", 0, &viworks_sdk::rule::Batch::default()).is_empty());
    /// ```
    pub fn judge(&self, config: &str, now_ms: u64, batch: &Batch) -> Vec<Answer> {
        (self.judge)(config, now_ms, batch)
    }
}

#[doc(hidden)]
pub fn judge_for<R: Rule>(config: &str, now_ms: u64, batch: &Batch) -> Vec<Answer> {
    let rule: Result<R> = parse(config).map_err(Into::into).and_then(read);
    let mut answers = Vec::with_capacity(batch.entries.len());
    let mut place = batch::Place::default();
    for entrant in &batch.entries {
        let agent = Agent::at(batch, entrant, &mut place, now_ms);
        let answer = match &rule {
            Err(failure) => Err(failure),
            Ok(rule) => {
                let mut watch = Watch::over(&agent, R::FACTS.state_version);
                match rule.judge(&agent, &mut watch) {
                    Ok(()) => Ok(watch.finish()),
                    Err(failure) => {
                        answers.push(Err(failure.message));
                        continue;
                    }
                }
            }
        };
        answers.push(answer.map_err(|failure| failure.to_string()));
    }
    answers
}
