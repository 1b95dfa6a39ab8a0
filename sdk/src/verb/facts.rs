//! What there is to say of a verb without its arguments: facts and examples, as data.

use serde_json::Value;

use crate::Effect;
use crate::text::known;

/// Arguments that work, perhaps with a recorded answer. Data, as most examples are literals.
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
/// assert!(Uptime::EXAMPLES[0].golden.is_none());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// The arguments.
    pub args: Json,
    /// What a machine answered and what that means.
    pub golden: Option<Recorded>,
}

/// A recorded answer and its meaning.
///
/// ```
/// use viworks_sdk::verb::{Json, Recorded};
///
/// let golden = Recorded { exit_code: 0, stdout: "Linux\n", stderr: "", result: Json::Text("\"Linux\"") };
/// assert_eq!(golden.result.value(), "Linux");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Recorded {
    /// Exit code of the last step.
    pub exit_code: i32,
    /// Standard output.
    pub stdout: &'static str,
    /// Standard error.
    pub stderr: &'static str,
    /// The typed result that must come out.
    pub result: Json,
}

/// A JSON value in a constant.
///
/// ```
/// use viworks_sdk::json::json;
/// use viworks_sdk::verb::Json;
///
/// assert_eq!(Json::Text("[1]").value(), Json::Made(|| json!([1])).value());
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Json {
    /// As text.
    Text(&'static str),
    /// Put together when it is asked for.
    Made(fn() -> Value),
}

impl Json {
    /// The value.
    ///
    /// ```
    /// use viworks_sdk::verb::Json;
    ///
    /// assert_eq!(Json::Text("{ \"a\": 1 }").value()["a"], 1);
    /// ```
    pub fn value(self) -> Value {
        match self {
            Json::Text(text) => known(text),
            Json::Made(make) => make(),
        }
    }
}

/// What there is to say of a verb without arguments.
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
/// assert_eq!((Uptime::FACTS.effect, Uptime::FACTS.timeout_ms), (Effect::Read, 60_000));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// e.g. `docker.ps`.
    pub name: &'static str,
    /// The least effect a plan of it may have.
    pub effect: Effect,
    /// One line for people; the first paragraph of the arguments' doc comment when absent.
    pub summary: Option<&'static str>,
    /// A capability the agent must have.
    pub needs: Option<&'static str>,
    /// Whether running it twice is the same as running it once.
    pub idempotent: bool,
    /// What cancelling promises.
    pub cancel: Cancel,
    /// Run timeout when the caller names none. Milliseconds.
    pub timeout_ms: u64,
}

/// What cancelling a verb promises.
///
/// ```
/// use viworks_sdk::prelude::*;
///
/// /// Sleeps.
/// #[derive(Args)]
/// struct Sleep;
///
/// #[verb(name = "host.sleep", effect = Read, cancel = Clean, example = json!({}))]
/// impl Verb for Sleep {
///     type Output = ();
///     fn plan(&self, _: &Context) -> Result<Plan> {
///         program("sleep").operand("5").plan()
///     }
///     fn interpret(&self, _: &Outputs) -> Result<()> {
///         Ok(())
///     }
/// }
/// use viworks_sdk::verb::{Cancel, Described};
/// assert_eq!(Sleep::FACTS.cancel, Cancel::Clean);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// Nothing is left behind.
    Clean,
    /// It ends, but what was done stays done.
    LeavesEffects,
    /// It cannot be cancelled once it runs.
    None,
}

impl Cancel {
    /// The word in the manifest.
    ///
    /// ```
    /// assert_eq!(viworks_sdk::verb::Cancel::LeavesEffects.as_str(), "leaves_effects");
    /// ```
    pub fn as_str(self) -> &'static str {
        match self {
            Cancel::Clean => "clean",
            Cancel::LeavesEffects => "leaves_effects",
            Cancel::None => "none",
        }
    }
}
