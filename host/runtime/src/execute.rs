//! One plan or one interpretation, from arguments to checked answer, on the thread it is called on.
//!
//! Invariant: an answer of a guest is data from a stranger until everything here has looked at it.

use domain::verb::Profile;
use plan::outcome::{End, Outcome};
use plan::policy::{Denied, Rules};
use plan::step::{Plan, PlanFault};
use ports::plugins::{Interpretation, Outputs, PlanError, Violation};
use serde_json::Value;

use crate::abi::{self, CallContext, Failure, Judgement, Tighter};
use crate::build::{Build, VerbBuild};
use crate::engine::Sandbox;
use crate::fault::Fault;
use crate::guest::Log;

/// Most bytes of a typed result's JSON text.
const MAX_RESULT_BYTES: usize = 8 * 1024 * 1024;
/// Most characters of a line for people.
const MAX_LINE: usize = 512;
/// Most issues taken from a plugin at once.
const MAX_ISSUES: usize = 100;

/// What came of it, and what it says about the plugin.
pub(crate) struct Executed<T> {
    pub(crate) answer: T,
    pub(crate) log: Log,
    pub(crate) health: Health,
}

/// What a call says about the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// Nothing: the guest was not called.
    NotCalled,
    /// It answered, if only to say no.
    Well,
    /// It trapped, wanted too much memory or answered nonsense.
    Faulty,
    /// It used up its time.
    Overran,
}

impl Health {
    fn of(fault: &Fault) -> Health {
        match fault {
            Fault::CpuTime { .. } | Fault::WallTime { .. } => Health::Overran,
            Fault::Trap(_) | Fault::Memory { .. } | Fault::Table { .. } | Fault::Nonsense(_) | Fault::Lost => {
                Health::Faulty
            }
        }
    }

    /// Whether it did not do as a plugin should.
    pub(crate) fn is_fault(self) -> bool {
        matches!(self, Health::Faulty | Health::Overran)
    }
}

/// What a call of `verb` knows besides its arguments.
pub(crate) fn context(verb: &VerbBuild, config: &str, profile: &Profile) -> CallContext {
    let verb = verb.traits.name.to_string();
    let profile = abi::profile_text(profile);
    CallContext { verb, config: config.to_owned(), profile, unhurried: false, tighter: Tighter::default() }
}

/// Schema, then sandbox, then the rules every plan keeps, then the verb's effect, then `grant`, which also says how long
/// a step may run that does not.
pub(crate) fn plan(
    sandbox: &Sandbox,
    build: &Build,
    verb: &VerbBuild,
    context: CallContext,
    grant: &Rules,
    args: &Value,
) -> Executed<Result<Plan, PlanError>> {
    if let Err(violations) = verb.args.check(args) {
        return Executed {
            answer: Err(PlanError::Invalid(violations)),
            log: Log::default(),
            health: Health::NotCalled,
        };
    }
    let called = build.prepared.plan(sandbox, context, args.to_string());
    let (answer, health) = match called.answer {
        Ok(Ok(plan)) => (admit(plan, verb, grant), Health::Well),
        Ok(Err(failure)) => (Err(refused(failure)), Health::Well),
        Err(fault) => (Err(failed(build, &fault)), Health::of(&fault)),
    };
    Executed { answer, log: called.log, health }
}

fn admit(plan: Plan, verb: &VerbBuild, grant: &Rules) -> Result<Plan, PlanError> {
    well_formed(&plan)?;
    let least = verb.traits.effect;
    if plan.effect < least {
        let message = format!("effect `{}` is below the verb's own `{least}`", plan.effect);
        return Err(PlanError::Denied { pointer: "/effect".into(), message });
    }
    let denied = |Denied { pointer, message }| PlanError::Denied { pointer, message };
    let bound = grant.bound(plan).map_err(denied)?;
    // What was added to it counts as well.
    well_formed(&bound)?;
    Ok(bound)
}

fn well_formed(plan: &Plan) -> Result<(), PlanError> {
    let Err(faults) = plan.check() else { return Ok(()) };
    let first = faults.into_iter().next();
    let PlanFault { pointer, message } = first.expect("a failed check names at least one fault");
    Err(PlanError::Denied { pointer, message })
}

fn refused(failure: Failure) -> PlanError {
    let Failure { code, message, mut issues } = failure;
    issues.truncate(MAX_ISSUES);
    for Violation { pointer, message, keyword } in &mut issues {
        (*pointer, *message, *keyword) = (line(pointer), line(message), line(keyword));
    }
    if code != "invalid_args" || issues.is_empty() {
        issues.insert(0, Violation { pointer: String::new(), message: line(&message), keyword: line(&code) });
    }
    PlanError::Invalid(issues)
}

fn failed(build: &Build, fault: &Fault) -> PlanError {
    PlanError::Failed { plugin: build.identity.name.clone(), message: fault.to_string() }
}

/// What `outputs` mean. Whatever goes wrong becomes part of the answer, and whether the verb succeeded
/// is then read from the exit codes alone.
pub(crate) fn interpret(
    sandbox: &Sandbox,
    build: &Build,
    verb: &VerbBuild,
    context: CallContext,
    args: &Value,
    outputs: Outputs,
) -> Executed<Interpretation> {
    let outcome = outputs.outcome.clone();
    if outcome.steps.is_empty() {
        let answer = unread(&outcome, "no process was started");
        return Executed { answer, log: Log::default(), health: Health::NotCalled };
    }
    let called = build.prepared.interpret(sandbox, context, args.to_string(), outputs);
    let (answer, health) = match called.answer {
        Ok(Ok(judgement)) => match typed(verb, &judgement.result) {
            Ok(result) => (understood(judgement, Some(result), None), Health::Well),
            // A program that failed printed no result to read: nothing about the plugin is wrong.
            Err(_) if !judgement.succeeded && judgement.result.trim() == "null" => {
                (understood(judgement, None, None), Health::Well)
            }
            Err(fault) => (understood(judgement, None, Some(fault)), Health::Faulty),
        },
        Ok(Err(Failure { code, message, .. })) => {
            (unread(&outcome, &format!("{}: {}", line(&code), line(&message))), Health::Well)
        }
        Err(fault) => (unread(&outcome, &format!("plugin {fault}")), Health::of(&fault)),
    };
    Executed { answer, log: called.log, health }
}

/// Reads a result and holds it against the schema the verb promises.
fn typed(verb: &VerbBuild, text: &str) -> Result<Value, String> {
    if text.len() > MAX_RESULT_BYTES {
        return Err(format!("result of {} bytes; at most {MAX_RESULT_BYTES}", text.len()));
    }
    let value: Value = serde_json::from_str(text).map_err(|error| format!("result is no JSON: {error}"))?;
    match verb.result.check(&value) {
        Ok(()) => Ok(value),
        Err(violations) => {
            let first = violations.first().map(|v| format!("`{}`: {}", v.pointer, v.message)).unwrap_or_default();
            Err(format!("result breaks the verb's result schema at {first}"))
        }
    }
}

fn understood(judgement: Judgement, result: Option<Value>, parse_fault: Option<String>) -> Interpretation {
    Interpretation { succeeded: judgement.succeeded, result, summary: line(&judgement.summary), parse_fault }
}

/// The judgement of an attempt whose output nobody could read.
pub(crate) fn unread(outcome: &Outcome, why: &str) -> Interpretation {
    let code = outcome.steps.last().and_then(|step| step.exit_code);
    let succeeded = outcome.end == End::Exited && code == Some(0);
    let summary = match (&outcome.end, code) {
        (End::Exited, Some(code)) => format!("exited with {code}"),
        (End::Exited, None) => "ended by a signal".to_owned(),
        (End::TimedOut, _) => "timed out".to_owned(),
        (End::Cancelled { .. }, _) => "cancelled".to_owned(),
        (End::Expired, _) => "expired before it could start".to_owned(),
        (End::Rejected { cause, .. }, _) => format!("rejected by the agent ({})", cause.as_str()),
        (End::Interrupted { .. }, _) => "interrupted; its effect is not known".to_owned(),
    };
    Interpretation { succeeded, result: None, summary, parse_fault: Some(why.to_owned()) }
}

/// Text of a plugin on one line of bearable length.
pub(crate) fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_LINE).collect()
}

#[cfg(test)]
mod tests {
    use plan::outcome::StepEnd;

    use super::*;

    #[test]
    fn a_refusal_of_the_plugin_becomes_violations() {
        let issue = Violation { pointer: "/a".into(), message: "no".into(), keyword: "conflict".into() };
        let failure = |code: &str, issues: Vec<Violation>| Failure { code: code.into(), message: "why".into(), issues };
        assert_eq!(refused(failure("invalid_args", vec![issue.clone()])), PlanError::Invalid(vec![issue]));
        let whole =
            |keyword: &str| Violation { pointer: String::new(), message: "why".into(), keyword: keyword.into() };
        for code in ["unsupported", "from_the_future"] {
            assert_eq!(refused(failure(code, Vec::new())), PlanError::Invalid(vec![whole(code)]));
        }
    }

    #[test]
    fn without_a_reader_the_exit_code_decides() {
        let outcome = |end: End, exit_code| {
            let steps = vec![StepEnd { exit_code, ..StepEnd::default() }];
            Outcome { steps, ..Outcome::not_started(end) }
        };
        assert!(unread(&outcome(End::Exited, Some(0)), "x").succeeded);
        assert!(!unread(&outcome(End::Exited, Some(1)), "x").succeeded);
        assert!(!unread(&outcome(End::Exited, None), "x").succeeded);
        assert!(!unread(&outcome(End::TimedOut, Some(0)), "x").succeeded);
        assert!(!unread(&Outcome::not_started(End::Exited), "x").succeeded);
    }
}
