//! The test kit: a plugin's verbs as plain Rust, no wasm and no host. Arguments are checked against
//! the verb's own schema first, as a host does.
//!
//! Everything here panics with a sentence instead of answering what a test would unwrap anyway,
//! except what tests want to look at: plans and refusals.

mod course;
mod golden;
mod injections;
mod violations;

use plan::step;
use serde_json::{Value, json};

use crate::context::{Context, Profile};
use crate::failure::{Failure, Result};
use crate::manifest::Plugin;
use crate::outputs::{End, Outputs, StepEnd};
use crate::text::text_of;
use crate::verb::{Entry, Interpretation, Verb};

pub use course::course;
pub use golden::golden;
pub use injections::{Injected, injections};
pub use violations::violations;

/// A Linux machine with Docker and compose v2, and an empty configuration.
///
/// ```
/// let mut context = viworks_sdk::test::context();
/// context.profile.os = "windows".into();
/// assert_eq!(context.profile.compose.as_deref(), Some("v2"));
/// ```
pub fn context() -> Context {
    Context {
        profile: Profile {
            os: "linux".into(),
            arch: "x86_64".into(),
            container_engine: Some("docker".into()),
            compose: Some("v2".into()),
        },
        config: json!({}),
    }
}

/// The plan of `V` for `args` on [`context`].
///
/// # Errors
/// Everything that is wrong with `args`, or the verb's own refusal.
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
/// let plan = viworks_sdk::test::plan::<Uptime>(json!({})).unwrap();
/// assert_eq!(plan.steps[0].program, "uptime");
/// assert!(viworks_sdk::test::plan::<Uptime>(json!({ "surprise": 1 })).is_err());
/// ```
pub fn plan<V: Verb>(args: Value) -> Result<step::Plan> {
    plan_on::<V>(&context(), args)
}

/// The plan of `V` for `args` on a machine of your choice.
///
/// # Errors
/// Everything that is wrong with `args`, or the verb's own refusal.
///
/// # Panics
/// When the verb plans a lower effect than it declares, which no host accepts.
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
/// let mut context = viworks_sdk::test::context();
/// context.profile.arch = "aarch64".into();
/// assert!(viworks_sdk::test::plan_on::<Uptime>(&context, json!({})).is_ok());
/// ```
pub fn plan_on<V: Verb>(context: &Context, args: Value) -> Result<step::Plan> {
    plan_entry(&Entry::of::<V>(), context, args)
}

fn plan_entry(verb: &Entry, context: &Context, args: Value) -> Result<step::Plan> {
    let issues = violations(&verb.manifest().args_schema, &args);
    if !issues.is_empty() {
        return Err(Failure::issues(issues));
    }
    let args = text_of(&args);
    let first = verb.plan(context, &args);
    let second = verb.plan(context, &args);
    assert_eq!(first, second, "{}: two plans for the same arguments differ", verb.name);
    first
}

/// What `V` makes of `outputs`, checked against its result schema.
///
/// # Errors
/// Why the output cannot be read.
///
/// # Panics
/// When a result breaks the schema the verb promises.
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
/// let out = viworks_sdk::test::exited(1).with_stderr("no\n");
/// let answer = viworks_sdk::test::interpret::<Uptime>(json!({}), &out).unwrap();
/// assert!(!answer.succeeded);
/// assert_eq!(answer.summary, "exited with 1: no");
/// ```
pub fn interpret<V: Verb>(args: Value, outputs: &Outputs) -> Result<Interpretation> {
    interpret_entry(&Entry::of::<V>(), args, outputs)
}

fn interpret_entry(verb: &Entry, args: Value, outputs: &Outputs) -> Result<Interpretation> {
    let answer = verb.interpret(args, outputs)?;
    if answer.succeeded || !answer.result.is_null() {
        let issues = violations(&verb.manifest().result_schema, &answer.result);
        assert!(issues.is_empty(), "{}: the result breaks its schema: {issues:?}", verb.name);
    }
    Ok(answer)
}

/// An attempt of one step that exited with `code`, took no time and printed nothing.
///
/// ```
/// let out = viworks_sdk::test::exited(0).with_stdout("hello\n");
/// assert_eq!(out.stdout().lines().collect::<Vec<_>>(), ["hello"]);
/// ```
pub fn exited(code: i32) -> Outputs {
    Outputs {
        end: End::Exited,
        steps: vec![StepEnd { exit_code: Some(code), ..StepEnd::default() }],
        stdout: Vec::new(),
        stderr: Vec::new(),
        stdout_truncated: false,
        stderr_truncated: false,
    }
}

/// An attempt whose only step had to be ended: by the timeout, a cancel, or the machine.
///
/// ```
/// use viworks_sdk::outputs::End;
///
/// assert_eq!(viworks_sdk::test::ended(End::TimedOut).ending(), "timed out");
/// ```
pub fn ended(end: End) -> Outputs {
    let steps = vec![StepEnd { signal: Some(9), ..StepEnd::default() }];
    Outputs { end, steps, ..exited(0) }
}

impl Outputs {
    /// With this on standard output, printed by the last step.
    ///
    /// ```
    /// let out = viworks_sdk::test::exited(0).with_stdout("hi\n");
    /// assert_eq!(out.steps[0].stdout_bytes, 3);
    /// ```
    pub fn with_stdout(mut self, text: impl AsRef<[u8]>) -> Outputs {
        self.stdout = text.as_ref().to_vec();
        if let Some(step) = self.steps.last_mut() {
            step.stdout_bytes = self.stdout.len() as u64;
        }
        self
    }

    /// With this on standard error, printed by the last step.
    ///
    /// ```
    /// let out = viworks_sdk::test::exited(1).with_stderr("no\n");
    /// assert_eq!(out.ending(), "exited with 1: no");
    /// ```
    pub fn with_stderr(mut self, text: impl AsRef<[u8]>) -> Outputs {
        self.stderr = text.as_ref().to_vec();
        if let Some(step) = self.steps.last_mut() {
            step.stderr_bytes = self.stderr.len() as u64;
        }
        self
    }
}

/// Tries a whole plugin as a host does at load: its name, its sentences, and each example through
/// schema, plan, the grants it asks for and, where golden, interpretation; or, if it is a rule, each example turn by
/// turn.
///
/// # Panics
/// With the first thing that a host would refuse.
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
/// plugin!(name = "host", version = "1.0.0", summary = "Hosts", verbs: [Uptime], grants: [allow("uptime")]);
/// viworks_sdk::test::check(&PLUGIN);
/// ```
pub fn check(plugin: &Plugin) {
    let manifest = plugin.manifest();
    let name = &manifest.name;
    let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-');
    let named = name.starts_with(|letter: char| letter.is_ascii_lowercase()) && name.len() <= 63;
    assert!(named && name.bytes().all(letters), "`{name}` is no plugin name: [a-z][a-z0-9_-]{{0,62}}");
    assert!(!manifest.summary.is_empty(), "{name}: say in one line what the plugin is for: summary = \"…\"");
    if let Some(rule) = &plugin.rule {
        let examples = rule.manifest().examples;
        assert!(!examples.is_empty(), "{name}: show what the rule finds: example = json!({{ \"turns\": […] }})");
        for (index, example) in examples.iter().enumerate() {
            course::hold(example, &course::play(rule, example), &format!("{name}, example {}", index + 1));
        }
    }
    for verb in plugin.verbs {
        let facts = verb.manifest();
        assert!(!facts.summary.is_empty(), "{}: say in the struct's doc comment what the verb does", verb.name);
        assert!(!facts.examples.is_empty(), "{}: give an example of arguments that work", verb.name);
        for example in &facts.examples {
            let args = &example.args;
            let plan = match plan_entry(verb, &context(), args.clone()) {
                Ok(plan) => plan,
                Err(failure) => panic!("{}: the example {args} is refused: {failure}", verb.name),
            };
            if let Err(denied) = manifest.grants.permit(&plan) {
                panic!("{}: the example {args} plans what the plugin's grants do not ask for: {denied}", verb.name);
            }
            let Some(golden) = &example.golden else { continue };
            let mut out = exited(golden.exit_code).with_stdout(&golden.stdout).with_stderr(&golden.stderr);
            // As at a host: every step but the last exited with 0 and printed nothing.
            let earlier = StepEnd { exit_code: Some(0), ..StepEnd::default() };
            out.steps.splice(0..0, vec![earlier; plan.steps.len() - 1]);
            match interpret_entry(verb, args.clone(), &out) {
                Ok(answer) => assert_eq!(answer.result, golden.result, "{}: the example {args}", verb.name),
                Err(failure) => panic!("{}: the output of the example {args} is not read: {failure}", verb.name),
            }
        }
    }
}
