//! Building plans: programs and argv, in order. There is no string for a shell to read.
//!
//! Text that is part of the plugin (`&'static str`) goes in as it is. Text from the caller (`String`)
//! that begins with `-` could turn into an option, so it is refused with an issue naming the argument,
//! unless it is written as `--name=value` ([`Draft::opt`]), goes behind `--` ([`Draft::operand`]), or
//! its field says `#[arg(allow_dash)]`.

mod words;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Effect;
use crate::failure::Result;
use crate::step::Step;

pub use words::{MaybeText, Values, Word};

/// Begins a plan with one program. A bare name (`docker`) or an absolute path.
///
/// ```
/// use viworks_sdk::prelude::*;
///
/// /// Follows a container's log.
/// #[derive(Args)]
/// struct Logs {
///     container: String,
///     #[arg(range = 1..=1000, default = 100)]
///     tail: u32,
///     #[arg(default)]
///     timestamps: bool,
/// }
///
/// #[verb(name = "docker.logs", effect = Read, needs = "docker", example = json!({ "container": "web" }))]
/// impl Verb for Logs {
///     type Output = ();
///     fn plan(&self, _: &Context) -> Result<Plan> {
///         program("docker")
///             .arg("logs")
///             .flag("--timestamps", self.timestamps)
///             .opt("--tail", self.tail)
///             .operand(&self.container)
///             .plan()
///     }
///     fn interpret(&self, _: &Outputs) -> Result<()> {
///         Ok(())
///     }
/// }
///
/// let plan = viworks_sdk::test::plan::<Logs>(json!({ "container": "-v", "timestamps": true })).unwrap();
/// assert_eq!(plan.steps[0].args, ["logs", "--timestamps", "--tail=100", "--", "-v"]);
/// ```
pub fn program(name: impl Into<String>) -> Draft {
    Draft { inner: Box::new(Inner { plan: Plan::default(), step: Step::new(name), operands: Vec::new() }) }
}

/// A plan being built. Finished by [`Draft::plan`].
///
/// ```
/// use viworks_sdk::prelude::*;
///
/// let draft: viworks_sdk::builder::Draft = program("df").arg("-h");
/// assert!(draft.plan().is_ok());
/// ```
#[derive(Clone, Debug)]
#[must_use = "finish it with .plan()"]
pub struct Draft {
    // Boxed, as every call moves it.
    inner: Box<Inner>,
}

#[derive(Clone, Debug)]
struct Inner {
    plan: Plan,
    step: Step,
    operands: Vec<String>,
}

/// What a verb wants done. What it leaves open, its effect and its sentence, is filled in from the
/// verb's facts, and everything that no agent could run is refused, before a host sees it.
///
/// ```
/// use viworks_sdk::prelude::*;
///
/// fn df(human: bool) -> Result<Plan> {
///     program("df").flag("-h", human).plan()
/// }
/// assert_eq!(df(false), program("df").plan());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub(crate) steps: Vec<Step>,
    pub(crate) effect: Option<Effect>,
    pub(crate) locks: Vec<String>,
    pub(crate) summary: Option<String>,
    /// Arguments from the caller that begin with `-` and stand where a program would read an option.
    pub(crate) suspects: Vec<String>,
}

impl Draft {
    /// One argument.
    ///
    /// ```
    /// use viworks_sdk::prelude::*;
    ///
    /// let plan = program("docker").arg("ps").arg("--no-trunc").plan();
    /// assert_eq!(plan, program("docker").args(["ps", "--no-trunc"]).plan());
    /// ```
    pub fn arg(mut self, word: impl Into<Word>) -> Draft {
        self.inner.arg(word.into());
        self
    }

    /// Several arguments.
    ///
    /// ```
    /// use viworks_sdk::prelude::*;
    ///
    /// let extra = vec!["-v".to_owned()];
    /// let plan = program("make").args(["-C", "/srv"]).args(&extra).plan();
    /// assert!(plan.is_ok());
    /// ```
    pub fn args<I>(self, words: I) -> Draft
    where
        I: IntoIterator,
        I::Item: Into<Word>,
    {
        words.into_iter().fold(self, Draft::arg)
    }

    /// `name`, if `wanted`.
    ///
    /// ```
    /// use viworks_sdk::prelude::*;
    ///
    /// let quiet = false;
    /// assert_eq!(program("docker").arg("rm").flag("--quiet", quiet).plan(), program("docker").arg("rm").plan());
    /// ```
    pub fn flag(mut self, name: &'static str, wanted: bool) -> Draft {
        self.inner.flag(name, wanted);
        self
    }

    /// `name=value` as one argument for each value: none for `None`, several for a list.
    ///
    /// ```
    /// use viworks_sdk::prelude::*;
    ///
    /// let labels = vec!["a".to_owned(), "b".to_owned()];
    /// let none: Option<u32> = None;
    /// let plan = program("docker").opt("--label", &labels).opt("--tail", none).plan();
    /// assert_eq!(plan, program("docker").args(["--label=a", "--label=b"]).plan());
    /// ```
    pub fn opt(mut self, name: &'static str, values: impl Values) -> Draft {
        self.inner.opt(name, &values);
        self
    }

    /// [`Draft::opt`] for each of many, in order; in a component much smaller than as many calls.
    ///
    /// ```
    /// use viworks_sdk::prelude::*;
    ///
    /// let (user, memory) = (Some("1000".to_owned()), None::<String>);
    /// let plan = program("docker").arg("run").opts(&[("--user", &user), ("--memory", &memory)]).operand("web").plan();
    /// ```
    pub fn opts(mut self, options: &[(&'static str, &dyn Values)]) -> Draft {
        for (name, values) in options {
            self.inner.opt(name, *values);
        }
        self
    }

    /// `option=name=value` as one argument for each pair, e.g. `--env=LANG=C`.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use viworks_sdk::prelude::*;
    ///
    /// let env = BTreeMap::from([("LANG".to_owned(), "C".to_owned())]);
    /// let plan = program("docker").arg("run").pairs("--env", &env).operand("web").plan();
    /// ```
    pub fn pairs(mut self, option: &'static str, pairs: &BTreeMap<String, String>) -> Draft {
        for (name, value) in pairs {
            self.inner.step.args.push([option, "=", name, "=", value].concat());
        }
        self
    }

    /// What the program is to work on. Stands last, behind a single `--`, however it begins.
    ///
    /// ```
    /// use viworks_sdk::prelude::*;
    ///
    /// let plan = program("rm").operand("-rf").flag("--force", true).plan();
    /// assert_eq!(plan, program("rm").args(["--force", "--", "-rf"]).plan());
    /// ```
    pub fn operand(mut self, values: impl Values) -> Draft {
        self.inner.operand(&values);
        self
    }

    /// One environment variable.
    ///
    /// ```
    /// use viworks_sdk::prelude::*;
    ///
    /// let plan = program("df").env("LC_ALL", "C").plan();
    /// assert_ne!(plan, program("df").plan());
    /// ```
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Draft {
        self.inner.step.env.insert(name.into(), value.into());
        self
    }

    /// Several environment variables.
    ///
    /// ```
    /// use viworks_sdk::prelude::*;
    ///
    /// let variables = BTreeMap::from([("LC_ALL".to_owned(), "C".to_owned())]);
    /// assert_eq!(program("df").envs(&variables).plan(), program("df").env("LC_ALL", "C").plan());
    /// ```
    pub fn envs(mut self, variables: &BTreeMap<String, String>) -> Draft {
        self.inner.step.env.extend(variables.iter().map(|(name, value)| (name.clone(), value.clone())));
        self
    }

    /// The working directory, absolute; the agent's own when `None`.
    ///
    /// ```
    /// use viworks_sdk::prelude::*;
    ///
    /// let directory: Option<String> = None;
    /// assert_eq!(program("make").cwd(&directory).plan(), program("make").plan());
    /// assert_ne!(program("make").cwd("/srv/app").plan(), program("make").plan());
    /// ```
    pub fn cwd(mut self, directory: impl Into<MaybeText>) -> Draft {
        self.inner.step.cwd = directory.into().0;
        self
    }

    /// Text for standard input, which is closed after it, and at once when `None`.
    ///
    /// ```
    /// use viworks_sdk::prelude::*;
    ///
    /// let plan = program("tee").operand("/srv/motd").stdin("welcome\n").plan();
    /// assert!(plan.is_ok());
    /// ```
    pub fn stdin(mut self, text: impl Into<MaybeText>) -> Draft {
        self.inner.step.stdin = text.into().0;
        self
    }

    /// Ends this step earlier than the command's run timeout would.
    ///
    /// ```
    /// use viworks_sdk::prelude::*;
    ///
    /// let plan = program("docker").arg("version").timeout(Duration::from_secs(5)).plan();
    /// assert!(plan.is_ok());
    /// ```
    pub fn timeout(mut self, limit: Duration) -> Draft {
        self.inner.step.timeout_ms = Some(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// A further program, run if this one exits with 0.
    ///
    /// ```
    /// use viworks_sdk::prelude::*;
    ///
    /// let plan = program("docker").args(["compose", "pull"]).then("docker").args(["compose", "up"]).plan();
    /// ```
    pub fn then(mut self, program: impl Into<String>) -> Draft {
        self.inner.end_step();
        self.inner.step = Step::new(program);
        self
    }

    /// A key that only one command at a time may hold on one agent, e.g. `compose:shop`.
    ///
    /// ```
    /// use viworks_sdk::prelude::*;
    ///
    /// let project = "shop";
    /// let plan = program("docker").args(["compose", "up"]).lock(format!("compose:{project}")).plan();
    /// assert!(plan.is_ok());
    /// ```
    pub fn lock(mut self, key: impl Into<String>) -> Draft {
        self.inner.plan.locks.push(key.into());
        self
    }

    /// Raises the effect above the verb's own. A lower one changes nothing.
    ///
    /// ```
    /// use viworks_sdk::prelude::*;
    ///
    /// let raised = program("docker").effect(Effect::Host);
    /// assert_eq!(raised.clone().effect(Effect::Read).plan(), raised.plan());
    /// ```
    pub fn effect(mut self, effect: Effect) -> Draft {
        self.inner.plan.effect = self.inner.plan.effect.max(Some(effect));
        self
    }

    /// One sentence for a person: what this does. By default the first command line.
    ///
    /// ```
    /// use viworks_sdk::prelude::*;
    ///
    /// let plan = program("docker").args(["rm", "web"]).summary("remove container web").plan();
    /// assert!(plan.is_ok());
    /// ```
    pub fn summary(mut self, sentence: impl Into<String>) -> Draft {
        self.inner.plan.summary = Some(sentence.into());
        self
    }

    /// The finished plan.
    ///
    /// # Errors
    /// None of its own; it is a `Result` so that it can end a verb's `plan`.
    ///
    /// ```
    /// use viworks_sdk::prelude::*;
    ///
    /// let plan: Result<Plan> = program("uptime").plan();
    /// assert!(plan.is_ok());
    /// ```
    pub fn plan(mut self) -> Result<Plan> {
        self.inner.end_step();
        Ok(self.inner.plan)
    }
}

impl Inner {
    fn arg(&mut self, Word { text, from_caller }: Word) {
        if from_caller && text.starts_with('-') {
            self.plan.suspects.push(text.clone());
        }
        self.step.args.push(text);
    }

    fn flag(&mut self, name: &str, wanted: bool) {
        if wanted {
            self.step.args.push(name.to_owned());
        }
    }

    fn opt(&mut self, name: &str, values: &dyn Values) {
        values.each(&mut |value| self.step.args.push([name, "=", value].concat()));
    }

    fn operand(&mut self, values: &dyn Values) {
        values.each(&mut |value| self.operands.push(value.to_owned()));
    }

    fn end_step(&mut self) {
        let mut step = std::mem::replace(&mut self.step, Step::new(""));
        if !self.operands.is_empty() {
            step.args.push("--".to_owned());
            step.args.append(&mut self.operands);
        }
        self.plan.steps.push(step);
    }
}
