//! What a component exports and imports: the ABI of `sdk/wit/1.0`, translated. Only in wasm, and only
//! for what `plugin!` writes.

pub mod rules;

use std::sync::Once;

use plan::manifest::MAX_MANIFEST_BYTES;
use plan::packed::unpack;

pub use crate::bindings;
use crate::context::{self, Profile};
use crate::failure::{Failure, Result};
use crate::manifest::Plugin;
use crate::outputs::{self, End, StepEnd};
use crate::text::{parse, text_of};
pub use crate::verb::Call;
use crate::verb::unknown;
use crate::{log, step};

pub use bindings::export;
pub use wit_bindgen::rt as wit_bindgen_rt;

use bindings::exports::viworks::plugin::verbs::{AgentPlan, Failure as GuestFailure, Interpretation, Step, Variable};
pub use bindings::exports::viworks::plugin::verbs::{Context, Guest, Outputs};
use bindings::viworks::plugin::types::Issue as GuestIssue;

/// What `plan` answers.
pub type PlanAnswer = std::result::Result<AgentPlan, GuestFailure>;
/// What `interpret` answers.
pub type InterpretAnswer = std::result::Result<Interpretation, GuestFailure>;

/// Answers `describe`.
pub fn describe(plugin: &Plugin) -> String {
    report_panics();
    plugin.describe()
}

/// Answers `describe` with what the plugin said when it was built; `packed` is that.
pub fn described(packed: &[u8]) -> String {
    // The build made it, and a host compares it with what the component is stamped with.
    unpack(packed, MAX_MANIFEST_BYTES).unwrap_or_default()
}

/// Answers `plan`.
pub fn plan(calls: &[Call], context: Context, args: String) -> PlanAnswer {
    report_panics();
    let call = || called(calls, &context.verb)?.plan(&host_context(&context)?, &args);
    call().map(guest_plan).map_err(guest_failure)
}

/// Answers `interpret`.
pub fn interpret(calls: &[Call], context: Context, args: String, outputs: Outputs) -> InterpretAnswer {
    report_panics();
    let call = || called(calls, &context.verb)?.interpret(parse(&args)?, &host_outputs(outputs));
    let answer = call().map_err(guest_failure)?;
    Ok(Interpretation { succeeded: answer.succeeded, result: text_of(&answer.result), summary: answer.summary })
}

fn called<'a>(calls: &'a [Call], name: &str) -> Result<&'a Call> {
    match calls.iter().find(|call| call.name == name) {
        Some(call) => Ok(call),
        None => {
            let names: Vec<&str> = calls.iter().map(|call| call.name).collect();
            Err(unknown(name, &names))
        }
    }
}

/// Makes a panic a log line with file and line before it becomes a trap.
pub(crate) fn report_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map_or_else(String::new, |at| format!("{}:{}: ", at.file(), at.line()));
            let message = panic.payload_as_str().unwrap_or("panicked");
            log::error(&format!("{place}{message}"));
        }));
    });
}

fn host_context(context: &Context) -> Result<context::Context> {
    Ok(context::Context { profile: Profile::read(&parse(&context.profile)?), config: parse(&context.config)? })
}

fn host_outputs(outputs: Outputs) -> outputs::Outputs {
    let steps = outputs.steps.into_iter().map(|step| StepEnd {
        exit_code: step.exit_code,
        signal: step.signal,
        duration_ms: step.duration_ms,
        stdout_bytes: step.stdout_bytes,
        stderr_bytes: step.stderr_bytes,
    });
    outputs::Outputs {
        end: End::parse(outputs.end),
        steps: steps.collect(),
        stdout: outputs.stdout,
        stderr: outputs.stderr,
        stdout_truncated: outputs.stdout_truncated,
        stderr_truncated: outputs.stderr_truncated,
    }
}

fn guest_plan(plan: step::Plan) -> AgentPlan {
    let mut steps = Vec::with_capacity(plan.steps.len());
    for step in plan.steps {
        let mut env = Vec::with_capacity(step.env.len());
        for (name, value) in step.env {
            env.push(Variable { name, value });
        }
        let step::Step { program, args, cwd, stdin, timeout_ms, .. } = step;
        steps.push(Step { program, args, env, cwd, stdin, timeout_ms });
    }
    AgentPlan { steps, effect: plan.effect.as_str().to_owned(), locks: plan.locks, summary: plan.summary }
}

fn guest_failure(failure: Failure) -> GuestFailure {
    let issues = failure.issues.into_iter().map(|issue| GuestIssue {
        pointer: issue.pointer,
        keyword: issue.keyword,
        message: issue.message,
    });
    GuestFailure { code: failure.code.as_str().to_owned(), message: failure.message, issues: issues.collect() }
}
