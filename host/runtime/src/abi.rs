//! One adapter per released ABI version behind one face, so that the rest of the room never sees WIT.

mod v1;

use std::time::Duration;

use domain::verb::Profile;
use plan::step::Plan;
use ports::plugins::{Outputs, Violation};
use serde_json::{Value, json};
use wasmtime::component::Component;

use crate::engine::Sandbox;
use crate::fault::Fault;
use crate::guest::Log;
use crate::tier::Tier;

/// The versions of the ABI this host speaks.
pub(crate) const SUPPORTED: &[&str] = &["1.0"];
/// What a component may import, without the minor version: the log, and types that hold no function.
pub(crate) const IMPORTS: &[&str] = &["viworks:plugin/log@1.", "viworks:plugin/types@1."];
/// What a verb plugin must export, without the minor version.
pub(crate) const EXPORT: &str = "viworks:plugin/verbs@1.";

/// A component whose imports and exports fit, ready for a fresh instance per call.
pub(crate) enum Prepared {
    V1(v1::Prepared),
}

/// What a call answered, and what the guest logged meanwhile.
pub(crate) struct Called<T> {
    pub(crate) answer: Result<T, Fault>,
    pub(crate) log: Log,
    pub(crate) cost: Cost,
}

/// What a call took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// What the guest did, counted the same on every machine; 0 where nobody counts.
    pub fuel: u64,
    /// Most bytes of memory it had.
    pub memory_bytes: usize,
}

/// A plugin said no, as it is entitled to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) issues: Vec<Violation>,
}

/// What a plugin made of an attempt's output.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Judgement {
    pub(crate) succeeded: bool,
    /// JSON text, not yet read.
    pub(crate) result: String,
    pub(crate) summary: String,
}

/// What a call knows besides its arguments.
#[derive(Clone, Debug)]
pub(crate) struct CallContext {
    pub(crate) verb: String,
    /// JSON text of the operator's configuration.
    pub(crate) config: String,
    /// JSON text of the machine's profile.
    pub(crate) profile: String,
    /// Nobody waits for the answer, so only the guest's own time counts.
    pub(crate) unhurried: bool,
    /// What its operator leaves it of the limits.
    pub(crate) tighter: Tighter,
}

/// Limits of an operator's that are below those of every plugin; absent ones are as usual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tighter {
    /// Processor time of one plan.
    pub(crate) plan: Option<Duration>,
    /// Processor time of one interpretation, whatever its size.
    pub(crate) interpret: Option<Duration>,
    /// Bytes of linear memory.
    pub(crate) memory: Option<usize>,
}

impl Prepared {
    /// Checks that `component` fits the ABI.
    ///
    /// # Errors
    /// What is missing or of another type.
    pub(crate) fn new(sandbox: &Sandbox, tier: Tier, component: &Component) -> wasmtime::Result<Prepared> {
        v1::Prepared::new(sandbox, tier, component).map(Prepared::V1)
    }

    /// Asks for the manifest.
    pub(crate) fn describe(&self, sandbox: &Sandbox) -> Called<String> {
        match self {
            Prepared::V1(prepared) => prepared.describe(sandbox),
        }
    }

    /// Makes an instance and asks it nothing.
    pub(crate) fn start(&self, sandbox: &Sandbox) -> Called<()> {
        match self {
            Prepared::V1(prepared) => prepared.start(sandbox),
        }
    }

    /// Asks for a plan; `args` is JSON text.
    pub(crate) fn plan(&self, sandbox: &Sandbox, context: CallContext, args: String) -> Called<Result<Plan, Failure>> {
        match self {
            Prepared::V1(prepared) => prepared.plan(sandbox, context, args),
        }
    }

    /// Asks what `outputs` mean; `args` is JSON text.
    pub(crate) fn interpret(
        &self,
        sandbox: &Sandbox,
        context: CallContext,
        args: String,
        outputs: Outputs,
    ) -> Called<Result<Judgement, Failure>> {
        match self {
            Prepared::V1(prepared) => prepared.interpret(sandbox, context, args, outputs),
        }
    }
}

/// A profile as guests read it.
pub(crate) fn profile_text(profile: &Profile) -> String {
    let Profile { os, arch, container_engine, compose } = profile;
    let mut value = json!({ "os": os, "arch": arch });
    for (key, part) in [("container_engine", container_engine), ("compose", compose)] {
        if let Some(part) = part {
            value[key] = Value::from(part.as_str());
        }
    }
    value.to_string()
}
