//! From a verb's draft to a plan an agent can run, or to issues that name the argument at fault.

use plan::step;
use serde_json::Value;

use crate::Effect;
use crate::builder::Plan;
use crate::failure::{Failure, Issue, Result, push_index, push_key};
use crate::outputs::one_line;
use crate::text::{parse, text_of};

/// Fills in what the draft leaves open and refuses what nobody could run. `dashes` are the pointers
/// of the arguments that may begin with `-`.
pub(crate) fn finish(draft: Plan, least: Effect, args: &str, dashes: &[String]) -> Result<step::Plan> {
    let Plan { steps, effect, locks, summary, suspects } = draft;
    if !suspects.is_empty() {
        let args = parse(args)?;
        let mut issues = Vec::new();
        suspects.iter().for_each(|suspect| dash_issues(suspect, &args, dashes, &mut issues));
        if !issues.is_empty() {
            return Err(Failure::issues(issues));
        }
    }
    let summary = one_line(&summary.unwrap_or_else(|| command_line(&steps)), step::MAX_SUMMARY_BYTES);
    let plan = step::Plan { steps, effect: effect.map_or(least, |raised| raised.max(least)), locks, summary };
    match plan.check() {
        Ok(()) => Ok(plan),
        Err(faults) => Err(blame(&faults, &plan, &parse(args)?)),
    }
}

/// Why an argument that begins with `-` is not welcome; nothing when its field allows it.
fn dash_issues(suspect: &str, args: &Value, dashes: &[String], issues: &mut Vec<Issue>) {
    let mut refuse = |pointer: String| {
        let message = format!("`{suspect}` begins with `-` and would be read as an option here");
        let issue = Issue { pointer, keyword: "dash".into(), message };
        // Two fields may have brought the same text into the plan twice; each is told once.
        if !issues.contains(&issue) {
            issues.push(issue);
        }
    };
    let sources = leaves(args, &|text| text.starts_with('-') && suspect.starts_with(text));
    if sources.is_empty() {
        return refuse(String::new());
    }
    for pointer in sources {
        if !dashes.iter().any(|dash| is_within(dash, &pointer)) {
            refuse(pointer);
        }
    }
}

fn is_within(root: &str, pointer: &str) -> bool {
    pointer.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A fault in the plan is the caller's if the faulty text is one of their arguments, else the plugin's.
fn blame(faults: &[step::PlanFault], plan: &step::Plan, args: &Value) -> Failure {
    let mut issues = Vec::new();
    for fault in faults {
        if let Some(pointer) = source(&fault.pointer, plan, args) {
            issues.push(Issue { pointer, keyword: "plan".into(), message: fault.message.clone() });
        }
    }
    if issues.is_empty() {
        let mut message = String::from("these arguments make no plan");
        for (index, fault) in faults.iter().enumerate() {
            message.push_str(if index == 0 { ": " } else { "; " });
            message.push_str(&fault.to_string());
        }
        return Failure::unsupported(message);
    }
    Failure::issues(issues)
}

/// The argument that stands at `pointer` of `plan`, if one does.
fn source(pointer: &str, plan: &step::Plan, args: &Value) -> Option<String> {
    let mut parts = pointer.split('/').skip(1);
    let text = match (parts.next()?, parts.next()?.parse::<usize>().ok()?) {
        ("locks", index) => plan.locks.get(index)?,
        ("steps", index) => {
            let step = plan.steps.get(index)?;
            match parts.next()? {
                "program" => &step.program,
                "args" => step.args.get(parts.next()?.parse::<usize>().ok()?)?,
                "cwd" => step.cwd.as_ref()?,
                "stdin" => step.stdin.as_ref()?,
                // Of a variable, its name may be at fault as well as its value.
                "env" => return named(args, parts.next()?),
                _ => return None,
            }
        }
        _ => return None,
    };
    origin(text, args)
}

/// The argument that `text` is made of: the longest whose value, or whose key, is a part of it. Of those with
/// a NUL byte, if it has one, as that is what is wrong with it.
fn origin(text: &str, args: &Value) -> Option<String> {
    let is_part = |part: &str| !part.is_empty() && text.as_bytes().windows(part.len()).any(|at| at == part.as_bytes());
    let mut best: Option<((bool, usize), String)> = None;
    walk(args, &mut String::new(), &mut |pointer, key, value| {
        for part in [key, value.as_str().unwrap_or_default()] {
            let rank = (part.contains('\0'), part.len());
            if is_part(part) && best.as_ref().is_none_or(|(least, _)| rank > *least) {
                best = Some((rank, pointer.to_owned()));
            }
        }
    });
    best.map(|(_, pointer)| pointer)
}

/// The pointers of all strings in `args` that `fits` accepts, in document order.
fn leaves(args: &Value, fits: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    walk(args, &mut String::new(), &mut |pointer, _, value| {
        if value.as_str().is_some_and(fits) {
            found.push(pointer.to_owned());
        }
    });
    found
}

/// The pointer of the first member of `args` whose key, as written in a pointer, is `key`.
fn named(args: &Value, key: &str) -> Option<String> {
    let mut found = None;
    walk(args, &mut String::new(), &mut |pointer, _, _| {
        if found.is_none() && pointer.rsplit_once('/').is_some_and(|(_, last)| last == key) {
            found = Some(pointer.to_owned());
        }
    });
    found
}

/// Visits every value with its pointer and, of an object's member, its key.
fn walk(args: &Value, pointer: &mut String, visit: &mut dyn FnMut(&str, &str, &Value)) {
    fn inner(key: &str, value: &Value, pointer: &mut String, visit: &mut dyn FnMut(&str, &str, &Value)) {
        visit(pointer, key, value);
        let before = pointer.len();
        match value {
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    push_index(pointer, index);
                    inner("", item, pointer, visit);
                    pointer.truncate(before);
                }
            }
            Value::Object(items) => {
                for (key, item) in items {
                    push_key(pointer, key);
                    inner(key, item, pointer, visit);
                    pointer.truncate(before);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    inner("", args, pointer, visit);
}

/// For people only; nothing ever runs it. Environment and standard input are left out: they may be secret.
fn command_line(steps: &[step::Step]) -> String {
    let mut line = String::from("run");
    for (index, step) in steps.iter().enumerate() {
        line.push_str(if index == 0 { " `" } else { ", then `" });
        line.push_str(&step.program);
        for arg in &step.args {
            // What is behind this is cut off anyway.
            if line.len() > step::MAX_SUMMARY_BYTES {
                return line;
            }
            line.push(' ');
            let plain = !arg.is_empty() && !arg.contains(|letter: char| letter.is_whitespace() || letter == '"');
            match plain {
                true => line.push_str(arg),
                false => line.push_str(&text_of(&Value::from(arg.as_str()))),
            }
        }
        line.push('`');
    }
    line
}
