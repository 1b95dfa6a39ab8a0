//! A component that passed gates 1 to 8, called as a host would call it.

use std::time::{Duration, Instant};

use domain::verb::{Profile, VerbName};
use plan::manifest::Manifest;
use plan::policy::Rules;
use plan::rule::Course;
use ports::plugins::{Interpretation, Outputs, PlanError};
use serde_json::Value;

use super::{Planned, ToolError, gates, on_deep_stack};
use crate::abi::CallContext;
use crate::build::{Build, VerbBuild};
use crate::execute;
use crate::gates::course::Found;
use crate::gates::{Gates, course, operator};
use crate::guest::LogLine;
use crate::tier::Consents;

/// A component that passed gates 1 to 8. Every call is served by a fresh guest under a host's limits of
/// memory and processor time; only the clock on the wall is more patient, as a build machine may be busy.
pub struct Loaded {
    pub(super) gates: Gates,
    pub(super) build: Build,
}

/// What one call of `interpret` answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Meant {
    /// The judgement; a parser's fault is part of it.
    pub answer: Interpretation,
    /// Whether the plugin is to blame: it trapped, overran a limit or broke its own schema.
    pub faulty: bool,
    /// What the guest logged meanwhile.
    pub log: Vec<LogLine>,
}

impl Loaded {
    /// Leads `bytes`, a file named `file_name`, through gates 1 to 8.
    ///
    /// # Errors
    /// The first gate that said no.
    pub fn open(bytes: &[u8], file_name: &str) -> Result<Loaded, ToolError> {
        on_deep_stack(|| {
            let gates = gates()?;
            // A tool's user ran the file's compiler, too.
            let build = gates.check(file_name, bytes, &Consents::Everybody)?;
            Ok(Loaded { gates, build })
        })
    }

    /// What it says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.build.manifest
    }

    /// SHA-256 of its bytes, lower-case hex.
    pub fn digest(&self) -> &str {
        &self.build.identity.digest
    }

    /// Plans `verb` once, under the plugin's default configuration. Without `grant`, what the manifest
    /// requests is granted.
    ///
    /// # Errors
    /// When the plugin has no such verb.
    pub fn plan(
        &self,
        verb: &VerbName,
        profile: &Profile,
        args: &Value,
        grant: Option<&Rules>,
    ) -> Result<Planned, ToolError> {
        let (verb, context) = self.call(verb, profile)?;
        let grant = grant.unwrap_or(&self.build.manifest.grants);
        on_deep_stack(|| {
            let planned = execute::plan(self.gates.sandbox(), &self.build, verb, context, grant, args);
            Ok(Planned { answer: planned.answer, log: planned.log.lines })
        })
    }

    /// What stands after each turn of `course`, if it is a rule: key by key, how bad.
    ///
    /// # Errors
    /// When the rule fails, or refuses the course's configuration; told as gate 8 does.
    pub fn play(&self, course: &Course) -> Result<Vec<Found>, ToolError> {
        on_deep_stack(|| {
            let played = course::play(self.gates.sandbox(), &self.build, course);
            Ok(played.map_err(|(code, cause)| code.refuse(cause, self.digest()))?.stands)
        })
    }

    /// How long each of `rounds` plans takes, from arguments to a plan that the grant allows, one after the other
    /// on one thread and each in a fresh guest.
    ///
    /// # Errors
    /// When the plugin has no such verb, or has no plan.
    pub fn time_plans(
        &self,
        verb: &VerbName,
        profile: &Profile,
        args: &Value,
        rounds: usize,
    ) -> Result<Vec<Duration>, ToolError> {
        let (verb, context) = self.call(verb, profile)?;
        let grant = &self.build.manifest.grants;
        let plan = |context| execute::plan(self.gates.sandbox(), &self.build, verb, context, grant, args);
        timed(rounds, || match plan(context.clone()).answer {
            Err(PlanError::Failed { message, .. }) => Err(ToolError::Thread(message)),
            Ok(_) | Err(_) => Ok(()),
        })
    }

    /// The same of the sandbox's part alone: a fresh guest, and one call of its `plan` with `args`.
    ///
    /// # Errors
    /// When the plugin has no such verb, or faults.
    pub fn time_calls(
        &self,
        verb: &VerbName,
        profile: &Profile,
        args: &Value,
        rounds: usize,
    ) -> Result<Vec<Duration>, ToolError> {
        let (_, context) = self.call(verb, profile)?;
        let args = args.to_string();
        let call = |context| self.build.prepared.plan(self.gates.sandbox(), context, args.clone());
        timed(rounds, || match call(context.clone()).answer {
            Ok(_) => Ok(()),
            Err(fault) => Err(ToolError::Thread(fault.to_string())),
        })
    }

    /// Lets `verb` judge `outputs` once, under the plugin's default configuration.
    ///
    /// # Errors
    /// When the plugin has no such verb.
    pub fn interpret(
        &self,
        verb: &VerbName,
        profile: &Profile,
        args: &Value,
        outputs: Outputs,
    ) -> Result<Meant, ToolError> {
        let (verb, context) = self.call(verb, profile)?;
        on_deep_stack(|| {
            let meant = execute::interpret(self.gates.sandbox(), &self.build, verb, context, args, outputs);
            let faulty = meant.health.is_fault();
            Ok(Meant { answer: meant.answer, faulty, log: meant.log.lines })
        })
    }

    pub(super) fn call(&self, verb: &VerbName, profile: &Profile) -> Result<(&VerbBuild, CallContext), ToolError> {
        let Some(found) = self.build.verbs.iter().find(|known| known.traits.name == *verb) else {
            let known: Vec<String> = self.build.verbs.iter().map(|known| format!("`{}`", known.traits.name)).collect();
            let (plugin, verb) = (self.build.identity.name.clone(), verb.to_string());
            return Err(ToolError::NoVerb { plugin, verb, known: known.join(", ") });
        };
        let context = execute::context(found, &operator::default_config(&self.build), profile);
        Ok((found, CallContext { unhurried: true, ..context }))
    }
}

/// How long `once` takes, each of `rounds` times.
fn timed(rounds: usize, once: impl Fn() -> Result<(), ToolError> + Send + Sync) -> Result<Vec<Duration>, ToolError> {
    on_deep_stack(|| {
        let measure = |_| {
            let began = Instant::now();
            once().map(|()| began.elapsed())
        };
        (0..rounds).map(measure).collect()
    })
}
