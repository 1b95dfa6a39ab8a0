//! A verb: arguments in, a plan out; output in, a typed result out.

mod call;
mod facts;

use plan::manifest::{Example, Golden, VerbManifest};
use plan::step;
use serde_json::Value;

use crate::builder::Plan;
use crate::context::Context;
use crate::failure::Result;
use crate::outputs::Outputs;
use crate::schema::Node;
use crate::{Args, Effect, Output, schema};

#[doc(hidden)]
pub use call::Call;
pub(crate) use call::unknown;
pub use facts::{Cancel, Facts, Json, Recorded, Shown};

/// A verb, implemented by its arguments, with [`#[verb]`](macro@crate::verb) above the `impl`.
///
/// ```
/// use viworks_sdk::prelude::*;
///
/// /// Since when a machine runs.
/// #[derive(Args)]
/// struct Uptime;
/// #[verb(name = "host.uptime", effect = Read, example = json!({}))]
/// impl Verb for Uptime {
///     type Output = ();
///     fn plan(&self, _: &Context) -> Result<Plan> {
///         program("uptime").plan()
///     }
///     fn interpret(&self, _: &Outputs) -> Result<()> {
///         Ok(())
///     }
/// }
/// assert!(viworks_sdk::test::plan::<Uptime>(json!({})).is_ok());
/// ```
pub trait Verb: Args + Described {
    /// The typed result; `()` for none.
    type Output: Output;

    /// What one machine is to do. Called once for each kind of machine among the targets.
    ///
    /// # Errors
    /// [`Failure::issue`](crate::Failure::issue) when arguments that fit the schema cannot work together,
    /// [`Failure::unsupported`](crate::Failure::unsupported) when the machine is not one the verb can serve.
    fn plan(&self, context: &Context) -> Result<Plan>;

    /// Reads what the machine answered.
    ///
    /// # Errors
    /// From [`Outputs::ok`] when the program failed and so printed no result; from anything else when
    /// the output cannot be read, which loses nothing: the raw output is kept with the reason.
    fn interpret(&self, out: &Outputs) -> Result<Self::Output>;

    /// Whether the verb did what it was asked to. By default: it ran to its end and the last step
    /// exited with 0. A failed invocation keeps the typed result that [`Verb::interpret`] reads.
    fn judge(&self, out: &Outputs) -> Verdict {
        match out.succeeded() {
            true => Verdict::Succeeded,
            false => Verdict::Failed,
        }
    }

    /// One line for people, beside the typed result. By default [`Outputs::ending`].
    fn summarize(&self, out: &Outputs, _result: &Self::Output) -> String {
        out.ending()
    }
}

/// A verb's judgement of an attempt that ran to its end.
///
/// ```
/// use viworks_sdk::prelude::*;
///
/// // `diff` exits with 1 when it found something, which is no failure.
/// fn judge(out: &Outputs) -> Verdict {
///     if matches!(out.exit_code(), Some(0 | 1)) { Verdict::Succeeded } else { Verdict::Failed }
/// }
/// assert_eq!(judge(&viworks_sdk::test::exited(1)), Verdict::Succeeded);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It did what it was asked to.
    Succeeded,
    /// It did not.
    Failed,
}

/// What [`#[verb]`](macro@crate::verb) writes.
///
/// ```
/// # use viworks_sdk::prelude::*;
/// # /// Since when a machine runs.
/// # #[derive(Args)]
/// # struct Uptime;
/// # #[verb(name = "host.uptime", effect = Read, example = json!({}))]
/// # impl Verb for Uptime {
/// #     type Output = ();
/// #     fn plan(&self, _: &Context) -> Result<Plan> { program("uptime").plan() }
/// #     fn interpret(&self, _: &Outputs) -> Result<()> { Ok(()) }
/// # }
/// use viworks_sdk::verb::Described;
///
/// assert_eq!(Uptime::FACTS.name, "host.uptime");
/// assert_eq!(Uptime::EXAMPLES.len(), 1);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no name and effect",
    note = "write #[verb(name = \"docker.ps\", effect = Read)] above `impl Verb for {Self}`"
)]
pub trait Described {
    /// What there is to say without arguments.
    const FACTS: Facts;

    /// Arguments that work, tried at every load.
    const EXAMPLES: &'static [Shown];
}

/// A verb's answer to what an attempt printed.
///
/// ```
/// # use viworks_sdk::prelude::*;
/// # /// Since when a machine runs.
/// # #[derive(Args)]
/// # struct Uptime;
/// # #[verb(name = "host.uptime", effect = Read, example = json!({}))]
/// # impl Verb for Uptime {
/// #     type Output = ();
/// #     fn plan(&self, _: &Context) -> Result<Plan> { program("uptime").plan() }
/// #     fn interpret(&self, _: &Outputs) -> Result<()> { Ok(()) }
/// # }
/// let answer = viworks_sdk::test::interpret::<Uptime>(json!({}), &viworks_sdk::test::exited(0)).unwrap();
/// assert_eq!((answer.succeeded, answer.summary.as_str()), (true, "exited with 0"));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Interpretation {
    /// Whether the verb did what it was asked to.
    pub succeeded: bool,
    /// The typed result; `null` when the program failed before it printed one.
    pub result: Value,
    /// One line for people.
    pub summary: String,
}

/// One verb behind its name, its type forgotten. Made by `plugin!`.
///
/// ```
/// # use viworks_sdk::prelude::*;
/// # /// Since when a machine runs.
/// # #[derive(Args)]
/// # struct Uptime;
/// # #[verb(name = "host.uptime", effect = Read, example = json!({}))]
/// # impl Verb for Uptime {
/// #     type Output = ();
/// #     fn plan(&self, _: &Context) -> Result<Plan> { program("uptime").plan() }
/// #     fn interpret(&self, _: &Outputs) -> Result<()> { Ok(()) }
/// # }
/// use viworks_sdk::verb::Entry;
///
/// let entry = Entry::of::<Uptime>();
/// assert_eq!((entry.name, entry.effect), ("host.uptime", Effect::Read));
/// ```
#[derive(Clone, Copy)]
pub struct Entry {
    /// The verb's name.
    pub name: &'static str,
    /// The least effect of its plans.
    pub effect: Effect,
    facts: &'static Facts,
    examples: &'static [Shown],
    args: &'static Node,
    result: &'static Node,
    call: Call,
}

impl Entry {
    /// `V` as an entry.
    ///
    /// ```
    /// # use viworks_sdk::prelude::*;
    /// # /// Since when a machine runs.
    /// # #[derive(Args)]
    /// # struct Uptime;
    /// # #[verb(name = "host.uptime", effect = Read, example = json!({}))]
    /// # impl Verb for Uptime {
    /// #     type Output = ();
    /// #     fn plan(&self, _: &Context) -> Result<Plan> { program("uptime").plan() }
    /// #     fn interpret(&self, _: &Outputs) -> Result<()> { Ok(()) }
    /// # }
    /// use viworks_sdk::verb::Entry;
    ///
    /// let entry = Entry::of::<Uptime>();
    /// assert_eq!(entry.name, "host.uptime");
    /// ```
    pub const fn of<V: Verb>() -> Entry {
        Entry {
            name: V::FACTS.name,
            effect: V::FACTS.effect,
            facts: &V::FACTS,
            examples: V::EXAMPLES,
            args: V::NODE,
            result: <V::Output as schema::Schema>::NODE,
            call: Call::of::<V>(),
        }
    }

    /// What the plugin says of this verb.
    ///
    /// ```
    /// # use viworks_sdk::prelude::*;
    /// # /// Since when a machine runs.
    /// # #[derive(Args)]
    /// # struct Uptime;
    /// # #[verb(name = "host.uptime", effect = Read, example = json!({}))]
    /// # impl Verb for Uptime {
    /// #     type Output = ();
    /// #     fn plan(&self, _: &Context) -> Result<Plan> { program("uptime").plan() }
    /// #     fn interpret(&self, _: &Outputs) -> Result<()> { Ok(()) }
    /// # }
    /// use viworks_sdk::verb::Entry;
    ///
    /// let entry = Entry::of::<Uptime>();
    /// assert_eq!(entry.manifest().cancel, "leaves_effects");
    /// ```
    pub fn manifest(&self) -> VerbManifest {
        let facts = self.facts;
        let args_schema = self.args.to_document();
        let summary = facts.summary.or_else(|| args_schema.get("description")?.as_str()).unwrap_or_default();
        VerbManifest {
            name: facts.name.to_owned(),
            summary: summary.lines().next().unwrap_or_default().to_owned(),
            effect: facts.effect,
            idempotent: facts.idempotent,
            cancel: facts.cancel.as_str().to_owned(),
            default_timeout_ms: facts.timeout_ms,
            needs: facts.needs.map(str::to_owned),
            args_schema,
            result_schema: self.result.to_document(),
            examples: self.examples.iter().map(example).collect(),
        }
    }

    /// The plan for `args`, JSON text.
    ///
    /// # Errors
    /// The verb's refusal, or why nobody could run the plan.
    ///
    /// ```
    /// # use viworks_sdk::prelude::*;
    /// # /// Since when a machine runs.
    /// # #[derive(Args)]
    /// # struct Uptime;
    /// # #[verb(name = "host.uptime", effect = Read, example = json!({}))]
    /// # impl Verb for Uptime {
    /// #     type Output = ();
    /// #     fn plan(&self, _: &Context) -> Result<Plan> { program("uptime").plan() }
    /// #     fn interpret(&self, _: &Outputs) -> Result<()> { Ok(()) }
    /// # }
    /// use viworks_sdk::verb::Entry;
    ///
    /// let entry = Entry::of::<Uptime>();
    /// let plan = entry.plan(&viworks_sdk::test::context(), "{}").unwrap();
    /// assert_eq!(plan.summary, "run `uptime`");
    /// ```
    pub fn plan(&self, context: &Context, args: &str) -> Result<step::Plan> {
        self.call.plan(context, args)
    }

    /// The pointers of the arguments in `args` that may begin with `-`.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn dashes(&self, context: &Context, args: &Value) -> Vec<String> {
        self.call.dashes(context, args)
    }

    /// The judgement of what an attempt printed.
    ///
    /// # Errors
    /// Why the output cannot be read.
    ///
    /// ```
    /// # use viworks_sdk::prelude::*;
    /// # /// Since when a machine runs.
    /// # #[derive(Args)]
    /// # struct Uptime;
    /// # #[verb(name = "host.uptime", effect = Read, example = json!({}))]
    /// # impl Verb for Uptime {
    /// #     type Output = ();
    /// #     fn plan(&self, _: &Context) -> Result<Plan> { program("uptime").plan() }
    /// #     fn interpret(&self, _: &Outputs) -> Result<()> { Ok(()) }
    /// # }
    /// use viworks_sdk::verb::Entry;
    ///
    /// let entry = Entry::of::<Uptime>();
    /// let answer = entry.interpret(json!({}), &viworks_sdk::test::exited(1)).unwrap();
    /// assert!(!answer.succeeded);
    /// ```
    pub fn interpret(&self, args: Value, outputs: &Outputs) -> Result<Interpretation> {
        self.call.interpret(args, outputs)
    }
}

fn example(shown: &Shown) -> Example {
    let golden = shown.golden.map(|golden| Golden {
        exit_code: golden.exit_code,
        stdout: golden.stdout.to_owned(),
        stderr: golden.stderr.to_owned(),
        result: golden.result.value(),
    });
    Example { args: shown.args.value(), golden }
}
