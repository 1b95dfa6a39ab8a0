//! A verb as it is called: its name, and the ways to plan and to interpret. What there is to say of it is
//! not here, so that a component which has been described once does not carry it.

use serde_json::Value;

use crate::builder::Plan;
use crate::failure::{Code, Failure, Result};
use crate::outputs::one_line;
use crate::text::parse;
use crate::value::{Reader, ToJson};
use crate::verb::{Interpretation, Verb, Verdict};
use crate::{Context, Effect, Outputs, finish, step};

/// One verb to call, its type forgotten. Made by `plugin!`.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct Call {
    #[cfg_attr(not(target_family = "wasm"), expect(dead_code, reason = "only a component is asked by name"))]
    pub(crate) name: &'static str,
    effect: Effect,
    plan: PlanFor,
    interpret: InterpretFor,
}

/// Reads the arguments and plans. The reader remembers what it found.
type PlanFor = fn(&Context, Value, &mut Reader) -> Result<Plan>;
/// Reads the arguments, judges and interprets: verdict, typed result, one line.
type InterpretFor = fn(Value, &Outputs) -> Result<(Verdict, Value, String)>;

impl Call {
    /// `V` as a call.
    #[doc(hidden)]
    pub const fn of<V: Verb>() -> Call {
        Call { name: V::FACTS.name, effect: V::FACTS.effect, plan: plan_for::<V>, interpret: interpret_for::<V> }
    }

    /// The plan for `args`, JSON text; see `Entry::plan`.
    pub(crate) fn plan(&self, context: &Context, args: &str) -> Result<step::Plan> {
        let mut reader = Reader::default();
        let plan = (self.plan)(context, parse(args)?, &mut reader).map_err(|failure| match failure.code {
            Code::InvalidArgs | Code::Unsupported => failure,
            // There is no output to read or to fail yet: whatever went wrong, this cannot be planned.
            Code::ParseFailed | Code::NotSucceeded => Failure::unsupported(failure.message),
        })?;
        finish::finish(plan, self.effect, args, &reader.dashes)
    }

    /// The pointers of the arguments in `args` that may begin with `-`.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn dashes(&self, context: &Context, args: &Value) -> Vec<String> {
        let mut reader = Reader::default();
        // Where they are is known even when nothing can be planned.
        let _ = (self.plan)(context, args.clone(), &mut reader);
        reader.dashes
    }

    /// The judgement of what an attempt printed; see `Entry::interpret`.
    pub(crate) fn interpret(&self, args: Value, outputs: &Outputs) -> Result<Interpretation> {
        let (succeeded, result, summary) = match (self.interpret)(args, outputs) {
            Ok((verdict, result, summary)) => (verdict == Verdict::Succeeded, result, summary),
            Err(failure) if failure.code == Code::NotSucceeded => (false, Value::Null, failure.message),
            Err(failure) => return Err(failure),
        };
        Ok(Interpretation { succeeded, result, summary: one_line(&summary, step::MAX_SUMMARY_BYTES) })
    }
}

/// That no verb is called `name`, and which there are.
pub(crate) fn unknown(name: &str, known: &[&str]) -> Failure {
    Failure::unsupported(format!("no verb `{name}` here; there are: {}", known.join(", ")))
}

fn plan_for<V: Verb>(context: &Context, args: Value, reader: &mut Reader) -> Result<Plan> {
    let mut verb = V::blank();
    reader.finish(&mut verb, args)?;
    verb.plan(context)
}

fn interpret_for<V: Verb>(args: Value, outputs: &Outputs) -> Result<(Verdict, Value, String)> {
    let mut verb = V::blank();
    Reader::default().finish(&mut verb, args)?;
    let result = verb.interpret(outputs)?;
    Ok((verb.judge(outputs), result.to_json(), verb.summarize(outputs, &result)))
}
