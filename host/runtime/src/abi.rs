//! One adapter per released ABI version behind one face, so that the rest of the room never sees WIT.

mod rules;
mod v1;

use std::time::Duration;

use domain::verb::Profile;
use plan::manifest::{ABI, Kind, RULE_ABI};
use plan::step::Plan;
use ports::plugins::{Outputs, Violation};
use ports::rules::{Answer, Batch};
use serde_json::{Value, json};
use wasmtime::Store;
use wasmtime::component::Component;

use crate::engine::Sandbox;
use crate::fault::Fault;
use crate::guest::{Guest, Log};
use crate::tier::{Budget, Tier};

pub(crate) use rules::Circumstances;

/// The versions of the ABI this host speaks.
pub(crate) const SUPPORTED: &[&str] = &[ABI, RULE_ABI];
/// What a component may import, without the minor version: the log, and types that hold no function.
pub(crate) const IMPORTS: &[&str] = &["viworks:plugin/log@1.", "viworks:plugin/types@1."];
/// What a verb plugin must export, without the minor version.
pub(crate) const EXPORT: &str = "viworks:plugin/verbs@1.";
/// What a rule must export, without the minor version.
pub(crate) const RULE_EXPORT: &str = "viworks:plugin/rules@1.";

/// A component whose imports and exports fit, ready for a fresh instance per call.
pub(crate) enum Prepared {
    V1(v1::Prepared),
    Rule(rules::Prepared),
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
    /// Processor time of one batch.
    pub(crate) evaluate: Option<Duration>,
    /// Bytes of linear memory.
    pub(crate) memory: Option<usize>,
}

impl Prepared {
    /// Checks that `component` fits the ABI.
    ///
    /// # Errors
    /// What is missing or of another type.
    pub(crate) fn new(sandbox: &Sandbox, tier: Tier, kind: Kind, component: &Component) -> wasmtime::Result<Prepared> {
        match kind {
            Kind::Verb => v1::Prepared::new(sandbox, tier, component).map(Prepared::V1),
            Kind::Rule => rules::Prepared::new(sandbox, tier, component).map(Prepared::Rule),
        }
    }

    /// Asks for the manifest.
    pub(crate) fn describe(&self, sandbox: &Sandbox) -> Called<String> {
        match self {
            Prepared::V1(prepared) => prepared.describe(sandbox),
            Prepared::Rule(prepared) => prepared.describe(sandbox),
        }
    }

    /// Makes an instance and asks it nothing.
    pub(crate) fn start(&self, sandbox: &Sandbox) -> Called<()> {
        match self {
            Prepared::V1(prepared) => prepared.start(sandbox),
            Prepared::Rule(prepared) => prepared.start(sandbox),
        }
    }

    /// Asks for a plan; `args` is JSON text.
    pub(crate) fn plan(&self, sandbox: &Sandbox, context: CallContext, args: String) -> Called<Result<Plan, Failure>> {
        match self {
            Prepared::V1(prepared) => prepared.plan(sandbox, context, args),
            Prepared::Rule(_) => Called::nonsense("a rule plans nothing"),
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
            Prepared::Rule(_) => Called::nonsense("a rule interprets nothing"),
        }
    }

    /// Asks what is wrong with the agents of `batch`; `config` is JSON text.
    pub(crate) fn evaluate(
        &self,
        sandbox: &Sandbox,
        circumstances: Circumstances,
        config: &str,
        batch: Batch,
    ) -> Called<Vec<Answer>> {
        match self {
            Prepared::V1(_) => Called::nonsense("a plugin of verbs judges nobody"),
            Prepared::Rule(prepared) => prepared.evaluate(sandbox, circumstances, config, batch),
        }
    }
}

impl<T> Called<T> {
    /// A call that cannot be made.
    fn nonsense(why: &str) -> Called<T> {
        Called { answer: Err(Fault::Nonsense(why.to_owned())), log: Log::default(), cost: Cost::default() }
    }
}

/// One fresh instance, one call, then both are gone.
fn fresh<I, T>(
    sandbox: &Sandbox,
    tier: Tier,
    budget: Budget,
    memory: Option<usize>,
    instantiate: impl FnOnce(&mut Store<Guest>) -> wasmtime::Result<I>,
    call: impl FnOnce(&mut Store<Guest>, &I) -> wasmtime::Result<T>,
) -> Called<T> {
    // It was there when this was prepared.
    let Ok(room) = sandbox.room(tier) else {
        return Called { answer: Err(Fault::Lost), log: Log::default(), cost: Cost::default() };
    };
    let running = room.running();
    let mut store = Guest::store(room.engine(), tier);
    let timed = |budget: Budget| if sandbox.is_metered() { budget.counted() } else { budget };
    if sandbox.is_metered() {
        store.set_fuel(u64::MAX).unwrap_or_else(|error| tracing::error!(error = %error, "a metered engine counts"));
    }
    Guest::confine(&mut store, memory);
    Guest::arm(&mut store, timed(tier.instantiate()));
    let answer = instantiate(&mut store).and_then(|instance| {
        Guest::arm(&mut store, timed(budget));
        call(&mut store, &instance)
    });
    drop(running);
    let answer = answer.map_err(|error| {
        tracing::debug!(error = ?error, "plugin call failed");
        store.data().ended().cloned().unwrap_or_else(|| Fault::of(&error))
    });
    let fuel = if sandbox.is_metered() { store.get_fuel().map_or(0, |left| u64::MAX - left) } else { 0 };
    let cost = Cost { fuel, memory_bytes: store.data().peak() };
    Called { answer, log: store.into_data().into_log(), cost }
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
