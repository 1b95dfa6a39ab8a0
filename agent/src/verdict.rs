//! A policy in words: what it allows, and what it would say to a plan and by which of its lines.

use std::fmt::Write as _;

use plan::policy::ProgramRule;
use plan::step::{Plan, Step};

use crate::policy::Policy;

/// What a policy says to a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it would run.
    pub is_allowed: bool,
    /// Why, line by line.
    pub text: String,
}

/// Everything that `policy` allows.
pub fn describe(policy: &Policy) -> String {
    let mut text = format!("effects: {}\nattempts at once: {}\n", effects(policy), policy.max_concurrency);
    if policy.rules.programs.is_empty() {
        text.push_str("programs: none\n");
    }
    for rule in &policy.rules.programs {
        say(&mut text, format_args!("program {}: {}", rule.program, policy.file(&rule.program).unwrap_or("?")));
        say(&mut text, format_args!("  arguments: {}", arguments(rule)));
        say(&mut text, format_args!("  variables: {}", list(&rule.env)));
        say(
            &mut text,
            format_args!(
                "  directories: {}",
                if rule.cwd.is_empty() { "the agent's own".to_owned() } else { list(&rule.cwd) }
            ),
        );
        say(&mut text, format_args!("  standard input: {}", if rule.stdin { "yes" } else { "no" }));
        let longest = rule.max_timeout_ms.map_or("the command's own time".to_owned(), |limit| format!("{limit} ms"));
        say(&mut text, format_args!("  longest run: {longest}"));
    }
    text
}

/// What `policy` says to `plan`, as it would when a host sends it.
pub fn judge(policy: &Policy, plan: &Plan) -> Verdict {
    let mut text = String::new();
    if let Err(faults) = plan.check() {
        for fault in &faults {
            say(&mut text, format_args!("no plan: {fault}"));
        }
        return Verdict { is_allowed: false, text };
    }
    let mut is_allowed = policy.rules.effects.contains(&plan.effect);
    let word = if is_allowed { "allowed" } else { "denied" };
    say(&mut text, format_args!("effect {}: {word} (effects: {})", plan.effect, effects(policy)));
    for (index, step) in plan.steps.iter().enumerate() {
        let line = line_of(step);
        match policy.rule_for(step, &format!("/steps/{index}")) {
            Ok(rule) => {
                let file = rule.path.as_deref().unwrap_or("?");
                say(
                    &mut text,
                    format_args!("step {}, {line}: allowed by [programs.{}], runs {file}", index + 1, rule.program),
                );
            }
            Err(denied) => {
                is_allowed = false;
                say(&mut text, format_args!("step {}, {line}: denied at {denied}", index + 1));
                for rule in policy.rules.programs.iter().filter(|rule| is_meant(rule, step)) {
                    say(&mut text, format_args!("  [programs.{}] accepts {}", rule.program, arguments(rule)));
                }
            }
        }
    }
    debug_assert_eq!(is_allowed, policy.resolve(plan).is_ok(), "the words say what is done");
    say(&mut text, format_args!("{}", if is_allowed { "allowed" } else { "denied" }));
    Verdict { is_allowed, text }
}

fn is_meant(rule: &ProgramRule, step: &Step) -> bool {
    rule.program == step.program || rule.path.as_deref() == Some(&step.program)
}

fn effects(policy: &Policy) -> String {
    list(&policy.rules.effects)
}

fn list<T: std::string::ToString>(items: &[T]) -> String {
    if items.is_empty() {
        return "none".to_owned();
    }
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

fn arguments(rule: &ProgramRule) -> String {
    let lists = rule.args.iter().map(|list| match list.as_slice() {
        [] => "no arguments".to_owned(),
        [only] if only == "**" => "any arguments".to_owned(),
        items => items.iter().map(|item| format!("`{item}`")).collect::<Vec<_>>().join(" "),
    });
    list(&lists.collect::<Vec<_>>())
}

/// The step for a person to recognise. It is never run from this.
fn line_of(step: &Step) -> String {
    let words = std::iter::once(&step.program).chain(&step.args);
    let line = words.map(|word| word.escape_debug().to_string()).collect::<Vec<_>>().join(" ");
    let short: String = line.chars().take(80).collect();
    if short.len() < line.len() { format!("`{short}…`") } else { format!("`{line}`") }
}

fn say(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing into a string does not fail.
    _ = writeln!(text, "{line}");
}
