//! What a command would do, shown before it does it, and the question whether it should.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal;

use api::target::{TargetBody, TargetOut};
use api::verb::{PlanPreview, PlanRequest, ProfilePlan, Verb};
use plan::step::Step;
use serde_json::Value;
use viworks_client::{Client, ClientError};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Sink, count, escape, table};
use crate::prompt;
use crate::schema::quote;

/// Most names of agents in one sentence.
const SHOWN: usize = 10;

/// Why it was not confirmed.
#[derive(Debug)]
pub(super) enum Declined {
    /// The host refused to say what it would do.
    Client(ClientError),
    /// The host would refuse it, or a person said no or could not be asked.
    Said(Failure),
}

impl From<ClientError> for Declined {
    fn from(error: ClientError) -> Declined {
        Declined::Client(error)
    }
}

/// Asks before something that changes more than `above` agents.
pub(super) async fn confirm(
    client: &Client,
    verb: &Verb,
    args: &Value,
    target: &TargetBody,
    above: u64,
) -> Result<(), Declined> {
    let too_many = |count: usize| count as u64 > above;
    // Lists narrow each other, so who is named by name is all there can be.
    let named_few = !target.agents.is_empty() && !too_many(target.agents.len());
    if verb.effect == "read" || named_few {
        return Ok(());
    }
    let plan = client.preview(&verb.name, &PlanRequest { args: args.clone(), target: target.clone() }).await?;
    if let Some(refusal) = refusal(&plan) {
        // Nobody is asked about what the host would refuse.
        return Err(Declined::Said(refusal));
    }
    let count = plan.targets.len();
    if !too_many(count) {
        return Ok(());
    }
    let said = |failure: Failure| Declined::Said(failure);
    let what = format!("`{}` (effect {}) on {}", verb.name, plan.effect, agents(count));
    if !std::io::stdin().is_terminal() {
        let message = format!("{what} needs a yes, and there is no terminal to ask at: add --yes");
        return Err(said(Failure::new(Exit::NotDone, message)));
    }
    let mut names: Vec<String> =
        plan.targets.iter().take(SHOWN).map(|target| escape::line(&target.agent_name)).collect();
    if count > names.len() {
        names.push("…".to_owned());
    }
    let ask = format!("{what}: {}\ntype {count} to go on: ", names.join(", "));
    let answer = prompt::ask(&ask).map_err(|error| said(Failure::new(Exit::NotDone, format!("declined: {error}"))))?;
    if answer != count.to_string() {
        return Err(said(Failure::new(Exit::NotDone, "declined: nothing was run")));
    }
    Ok(())
}

/// Prints a plan that was only asked about.
pub(super) fn print(plan: &PlanPreview, sink: &Sink) -> Result<Exit, Failure> {
    sink.one(plan, &plan.verb, || page(plan))?;
    say_excluded(&plan.excluded, sink)?;
    if plan.targets.is_empty() {
        return Err(Failure::new(Exit::NoTarget, "it would run on nobody"));
    }
    if let Some(refusal) = refusal(plan) {
        return Err(refusal);
    }
    sink.say(&format!("dry run: it would run on {}; nothing was queued", agents(plan.targets.len())))?;
    Ok(Exit::Ok)
}

/// Why the host would refuse it: the targets that no grant of the caller covers, by what is said of them.
fn refusal(plan: &PlanPreview) -> Option<Failure> {
    let refused = plan.targets.iter().filter(|target| !target.grant.allowed);
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for target in refused {
        let reason = target.grant.reason.as_deref().unwrap_or("not granted");
        reasons.entry(reason).or_default().push(&target.agent_name);
    }
    if plan.allowed && reasons.is_empty() {
        return None;
    }
    let count: usize = reasons.values().map(Vec::len).sum();
    let mut message = format!("it would be refused: on {count} of {} it is not granted", agents(plan.targets.len()));
    for (reason, names) in reasons {
        let more = if names.len() > SHOWN { ", …" } else { "" };
        let names: Vec<String> = names.into_iter().take(SHOWN).map(escape::line).collect();
        let _ = write!(message, "\n  {}{more}: {}", names.join(", "), escape::line(reason));
    }
    Some(Failure::new(Exit::NotAllowed, message))
}

fn agents(count: usize) -> String {
    count::of(count, "agent", "agents")
}

/// Says who was meant but is out.
pub(super) fn say_excluded(excluded: &[TargetOut], sink: &Sink) -> std::io::Result<()> {
    excluded
        .iter()
        .try_for_each(|out| sink.say(&format!("without {}: {}", escape::line(&out.agent_name), escape::line(&out.why))))
}

fn page(plan: &PlanPreview) -> String {
    let rows = plan.targets.iter().map(|target| {
        let granted = if target.grant.allowed { "yes" } else { "no" }.to_owned();
        vec![
            target.agent_name.clone(),
            target.site.clone(),
            target.status.clone(),
            target.grant.effect.clone(),
            granted,
        ]
    });
    let mut text = table::grid(&["agent", "site", "status", "effect", "granted"], rows);
    for profile in &plan.plans {
        text.push('\n');
        describe(profile, &mut text);
    }
    text
}

fn describe(profile: &ProfilePlan, text: &mut String) {
    let ProfilePlan { os, arch, container_engine, compose, agents, plan_hash, plan } = profile;
    let extras: String = [container_engine, compose].into_iter().flatten().map(|extra| format!(", {extra}")).collect();
    let _ = writeln!(
        text,
        "on {agents} of them ({}): {}",
        escape::line(&format!("{os} {arch}{extras}")),
        escape::line(&plan.summary)
    );
    let _ = writeln!(text, "  effect {}, plan {}", plan.effect, escape::line(plan_hash));
    if !plan.locks.is_empty() {
        let _ = writeln!(text, "  one at a time with {}", escape::line(&plan.locks.join(", ")));
    }
    for step in &plan.steps {
        let _ = writeln!(text, "  $ {}", shown(step));
    }
}

/// A step as a shell would have it; nothing of it ever goes through one.
fn shown(step: &Step) -> String {
    let Step { program, args, env, cwd, stdin, timeout_ms } = step;
    let mut words: Vec<String> = env.iter().map(|(name, value)| format!("{name}={}", quote(value))).collect();
    words.push(quote(program));
    words.extend(args.iter().map(|arg| quote(arg)));
    let mut line = escape::line(&words.join(" "));
    let mut notes = Vec::new();
    notes.extend(cwd.as_ref().map(|cwd| format!("in {}", escape::line(cwd))));
    notes.extend(stdin.as_ref().map(|stdin| format!("{} of standard input", count::of(stdin.len(), "byte", "bytes"))));
    notes.extend(timeout_ms.map(|ms| format!("at most {ms} ms")));
    if !notes.is_empty() {
        let _ = write!(line, "   ({})", notes.join(", "));
    }
    line
}
