//! ABI 1.0: the WIT world `verb-plugin` of `sdk/wit/1.0`, translated to and from the house's own types.

use std::collections::BTreeMap;

use plan::effect::Effect;
use plan::outcome::End;
use plan::step::{Plan, Step};
use ports::plugins::{Outputs, Violation};
use wasmtime::Store;
use wasmtime::component::Component;

use super::{CallContext, Called, Failure, Judgement, fresh};
use crate::engine::Sandbox;
use crate::fault::Fault;
use crate::guest::Guest;
use crate::tier::{Budget, Tier};
use crate::world::v1 as bindings;

use bindings::exports::viworks::plugin::verbs as wit;
use bindings::viworks::plugin::types;

/// A component that fits this version.
pub(crate) struct Prepared {
    pre: bindings::VerbPluginPre<Guest>,
    tier: Tier,
}

impl Prepared {
    pub(super) fn new(sandbox: &Sandbox, tier: Tier, component: &Component) -> wasmtime::Result<Prepared> {
        let pre = sandbox.room(tier)?.instantiate_pre(component)?;
        Ok(Prepared { pre: bindings::VerbPluginPre::new(pre)?, tier })
    }

    pub(super) fn describe(&self, sandbox: &Sandbox) -> Called<String> {
        self.call(sandbox, self.tier.describe(), None, |store, verbs| verbs.call_describe(store))
    }

    pub(super) fn start(&self, sandbox: &Sandbox) -> Called<()> {
        self.call(sandbox, self.tier.instantiate(), None, |_, _| Ok(()))
    }

    pub(super) fn plan(&self, sandbox: &Sandbox, context: CallContext, args: String) -> Called<Result<Plan, Failure>> {
        let budget = self.tier.plan().of_a_call(context.unhurried, context.tighter.plan);
        let memory = context.tighter.memory;
        let context = to_wit(context);
        let called = self.call(sandbox, budget, memory, |store, verbs| verbs.call_plan(store, &context, &args));
        let answer = called.answer.and_then(|answer| match answer {
            Ok(plan) => from_wit_plan(plan).map(Ok),
            Err(failure) => Ok(Err(from_wit_failure(failure))),
        });
        Called { answer, log: called.log, cost: called.cost }
    }

    pub(super) fn interpret(
        &self,
        sandbox: &Sandbox,
        context: CallContext,
        args: String,
        outputs: Outputs,
    ) -> Called<Result<Judgement, Failure>> {
        let budget = self.tier.interpret(outputs.stdout.len() + outputs.stderr.len());
        let budget = budget.of_a_call(context.unhurried, context.tighter.interpret);
        let memory = context.tighter.memory;
        let (context, outputs) = (to_wit(context), to_wit_outputs(outputs));
        let called =
            self.call(sandbox, budget, memory, |store, verbs| verbs.call_interpret(store, &context, &args, &outputs));
        let answer = called.answer.map(|answer| match answer {
            Ok(wit::Interpretation { succeeded, result, summary }) => Ok(Judgement { succeeded, result, summary }),
            Err(failure) => Err(from_wit_failure(failure)),
        });
        Called { answer, log: called.log, cost: called.cost }
    }

    fn call<T>(
        &self,
        sandbox: &Sandbox,
        budget: Budget,
        memory: Option<usize>,
        call: impl FnOnce(&mut Store<Guest>, &wit::Guest) -> wasmtime::Result<T>,
    ) -> Called<T> {
        fresh(
            sandbox,
            self.tier,
            budget,
            memory,
            |store| self.pre.instantiate(store),
            |store, instance| call(store, instance.viworks_plugin_verbs()),
        )
    }
}

fn to_wit(context: CallContext) -> types::Context {
    let CallContext { verb, config, profile, unhurried: _, tighter: _ } = context;
    types::Context { verb, config, profile }
}

fn from_wit_failure(failure: types::Failure) -> Failure {
    let types::Failure { code, message, issues } = failure;
    let issues = issues.into_iter().map(|issue| {
        let types::Issue { pointer, keyword, message } = issue;
        Violation { pointer, message, keyword }
    });
    Failure { code, message, issues: issues.collect() }
}

fn from_wit_plan(plan: wit::AgentPlan) -> Result<Plan, Fault> {
    let wit::AgentPlan { steps, effect, locks, summary } = plan;
    let effect = Effect::parse(&effect)
        .ok_or_else(|| Fault::Nonsense("plan's effect is none of read, change, destroy and host".into()))?;
    let steps = steps.into_iter().map(from_wit_step).collect::<Result<Vec<Step>, Fault>>()?;
    Ok(Plan { steps, effect, locks, summary })
}

fn from_wit_step(step: wit::Step) -> Result<Step, Fault> {
    let wit::Step { program, args, env, cwd, stdin, timeout_ms } = step;
    let mut variables = BTreeMap::new();
    for wit::Variable { name, value } in env {
        if variables.insert(name, value).is_some() {
            return Err(Fault::Nonsense("a step names one environment variable twice".into()));
        }
    }
    Ok(Step { program, args, env: variables, cwd, stdin, timeout_ms })
}

fn to_wit_outputs(outputs: Outputs) -> wit::Outputs {
    let Outputs { outcome, stdout, stderr } = outputs;
    let end = match outcome.end {
        End::Exited => "exited",
        End::TimedOut => "timed_out",
        End::Interrupted { .. } => "interrupted",
        // The last two never get here: nothing was started, so there is nothing to interpret.
        End::Cancelled { .. } | End::Expired | End::Rejected { .. } => "cancelled",
    };
    let steps = outcome.steps.into_iter().map(|step| wit::StepEnd {
        exit_code: step.exit_code,
        signal: step.signal,
        duration_ms: step.duration_ms,
        stdout_bytes: step.stdout_bytes,
        stderr_bytes: step.stderr_bytes,
    });
    wit::Outputs {
        end: end.to_owned(),
        steps: steps.collect(),
        stdout,
        stderr,
        stdout_truncated: outcome.stdout.truncated(),
        stderr_truncated: outcome.stderr.truncated(),
    }
}
