//! Commands, invocations, targets and their events.

use std::collections::BTreeMap;

use api::command::{
    Accepted as AcceptedBody, Command as CommandBody, Invocation as InvocationBody, KeptOutput, KeptStream,
    OutputEvent, OutputGap, StateEvent, StatusEvent,
};
use api::target::{TargetBody, TargetIn, TargetOut};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::agent::AgentStatus;
use domain::command::{Command, CommandView, Invocation, Status};
use domain::event::{Event, What};
use domain::expression::Expression;
use domain::output::Remains;
use domain::target::{Candidate, Out, Resolution, Target};
use domain::time::millis;
use plan::outcome::End;
use serde_json::Value;
use services::explain;
use services::submit::Accepted;

use crate::instant;
use crate::problem::{Code, Problem};
use crate::views;

/// Most gaps of a stream that are named.
const GAPS_MAX: usize = 100;

/// Most names in one list of a target.
const TARGET_MAX: usize = 10_000;

/// A command as it stands.
pub fn command(view: CommandView) -> CommandBody {
    let CommandView { command, status, counts, completed_at, halted } = view;
    let Command {
        id,
        verb,
        plugin,
        plugin_version,
        plugin_digest,
        args,
        target,
        priority,
        submitter,
        principal: _,
        created_at,
        start_by,
        run_timeout_ms,
        terms,
        parent,
        summary,
        correlation_id,
        traceparent,
    } = command;
    let (retry, rollout) = views::delivery::terms(&terms);
    CommandBody {
        id: id.to_string(),
        status: status.as_str().to_owned(),
        counts: views::counts(&counts),
        verb: verb.to_string(),
        plugin,
        plugin_version,
        plugin_digest,
        args: serde_json::from_str(&args).unwrap_or(Value::Null),
        target: serde_json::from_str(&target).unwrap_or(Value::Null),
        priority: priority.as_str().to_owned(),
        submitter,
        summary,
        created_at: instant::text(created_at),
        start_by: instant::text(start_by),
        run_timeout_ms,
        finish_by: terms.finish_by.map(instant::text),
        kill_after_ms: terms.kill_after.map(millis),
        retry,
        rollout,
        halted,
        parent: parent.map(|parent| parent.to_string()),
        completed_at: completed_at.map(instant::text),
        correlation_id,
        traceparent,
    }
}

/// What was accepted; `status` is its status by now.
pub fn accepted(accepted: &Accepted, status: Status) -> AcceptedBody {
    let Accepted { command, status: _, resolution } = accepted;
    let (targets, excluded) = resolved(resolution);
    AcceptedBody {
        id: command.id.to_string(),
        status: status.as_str().to_owned(),
        summary: command.summary.clone(),
        targets,
        excluded,
    }
}

/// Who is in and who is out.
pub fn resolved(resolution: &Resolution) -> (Vec<TargetIn>, Vec<TargetOut>) {
    let Resolution { included, excluded, unknown: _, groups: _, empty: _ } = resolution;
    (
        included.iter().map(|candidate| target_in(candidate, resolution)).collect(),
        excluded.iter().map(|(candidate, out)| target_out(candidate, out, resolution)).collect(),
    )
}

fn target_in(candidate: &Candidate, resolution: &Resolution) -> TargetIn {
    TargetIn {
        agent: candidate.agent.id.to_string(),
        agent_name: candidate.agent.name.clone(),
        site: candidate.agent.site.clone(),
        status: candidate.status.as_str().to_owned(),
        groups: resolution.groups_of(candidate.agent.id).to_vec(),
    }
}

fn target_out(candidate: &Candidate, out: &Out, resolution: &Resolution) -> TargetOut {
    let agent = &candidate.agent;
    TargetOut { agent: agent.id.to_string(), agent_name: agent.name.clone(), why: resolution.explain(candidate, out) }
}

/// A target as asked for. An empty one is for the service to refuse.
///
/// # Errors
/// 422 with the place.
pub fn target_of(body: TargetBody) -> Result<Target, Problem> {
    let refuse = |at: &str, message: &str| Err(Problem::at(Code::InvalidBody, format!("/target{at}"), message));
    let TargetBody { all, agents, sites, labels, capabilities, os, container_engine, status, expr } = body;
    let lists = [&agents, &sites, &labels, &capabilities, &os, &container_engine, &status];
    if all && (expr.is_some() || lists.iter().any(|list| !list.is_empty())) {
        return refuse("", "`all` stands alone; leave it out to combine lists or an expression");
    }
    if lists.iter().any(|list| list.len() > TARGET_MAX) {
        return refuse("", "a list names at most 10000");
    }
    let mut wanted = BTreeMap::new();
    for (index, label) in labels.iter().enumerate() {
        let Some((key, value)) = label.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return refuse(&format!("/labels/{index}"), "a label is written key=value");
        };
        if wanted.insert(key.to_owned(), value.to_owned()).is_some_and(|before| before != value) {
            return refuse(&format!("/labels/{index}"), "no agent has two values for one label");
        }
    }
    let mut statuses = Vec::new();
    for (index, name) in status.iter().enumerate() {
        match AgentStatus::parse(name) {
            Some(status) => statuses.push(status),
            None => return refuse(&format!("/status/{index}"), "one of online, degraded, offline, maintenance"),
        }
    }
    let expr = match expr.as_deref().map(Expression::parse) {
        None => None,
        Some(Ok(expr)) => Some(expr),
        Some(Err(fault)) => return refuse("/expr", &fault.to_string()),
    };
    Ok(Target { all, agents, sites, labels: wanted, capabilities, os, container_engine, status: statuses, expr })
}

/// The beginnings of an invocation's output, and what is here of it.
#[derive(Debug, Default)]
pub struct Shown {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// What is here of both.
    pub kept: Option<KeptOutput>,
}

/// What is here of one stream.
pub fn kept(remains: Remains) -> KeptStream {
    let Remains { wholeness, bytes, missing, gaps } = remains;
    let gaps = gaps.into_iter().take(GAPS_MAX).map(|gap| OutputGap { from: gap.start, until: gap.end }).collect();
    KeptStream { kept: wholeness.as_str().to_owned(), bytes, missing_bytes: missing, gaps }
}

/// An invocation with its output and the trace of its command.
pub fn invocation(invocation: Invocation, output: Shown, traceparent: Option<String>) -> InvocationBody {
    let Shown { stdout, stderr, kept } = output;
    let explanation = explain::sentence(&invocation);
    let Invocation {
        command: _,
        agent,
        agent_name,
        site,
        attempt,
        state,
        reason,
        message: _,
        cancel_requested_at,
        created_at,
        due_at,
        started_at,
        changed_at,
        outcome,
        result,
        summary,
        parse_fault,
    } = invocation;
    let due_at = due_at.filter(|_| state == domain::attempt::State::Held);
    let ran = outcome.as_ref().is_some_and(|outcome| outcome.end == End::Exited);
    let result: Option<Value> = result.and_then(|text| serde_json::from_str(&text).ok());
    InvocationBody {
        agent: agent.to_string(),
        agent_name,
        site,
        state: state.as_str().to_owned(),
        reason: reason.map(|reason| reason.as_str().to_owned()),
        explanation,
        attempt,
        cancel_requested: cancel_requested_at.is_some(),
        exit_code: outcome.as_ref().and_then(|outcome| outcome.steps.last()?.exit_code),
        parsed: ran.then_some(result.is_some()),
        result,
        parse_fault,
        summary,
        stdout,
        stderr,
        output: kept,
        outcome,
        created_at: instant::text(created_at),
        due_at: due_at.map(instant::text),
        started_at: started_at.map(instant::text),
        changed_at: instant::text(changed_at),
        traceparent,
    }
}

/// An event of a command's stream: its name and its data. `None` for what is not of commands. `output` is what is
/// here of an attempt that is over, when that is not all; `trace` the command's.
pub fn event(event: &Event, output: Option<KeptOutput>, trace: Option<&str>) -> Option<(&'static str, String)> {
    let data = match &event.what {
        What::State { command: _, agent, attempt, state, reason } => json(&StateEvent {
            agent: agent.to_string(),
            attempt: *attempt,
            state: state.as_str().to_owned(),
            at: instant::text(event.at),
            reason: reason.map(|reason| reason.as_str().to_owned()),
            output: output.map(Box::new),
            traceparent: trace.map(str::to_owned),
        }),
        What::Output { command: _, agent, attempt, stream, offset, data } => json(&OutputEvent {
            agent: agent.to_string(),
            attempt: *attempt,
            stream: stream.as_str().to_owned(),
            offset: *offset,
            data_base64: STANDARD.encode(data),
        }),
        What::Status { command: _, status, counts } => json(&status_event(*status, views::counts(counts), trace)),
        What::Agent { .. } | What::Alert { .. } | What::Plugins { .. } => return None,
    };
    Some((event.what.kind(), data))
}

/// The data of `end`.
pub fn end(view: &CommandView) -> String {
    json(&status_event(view.status, views::counts(&view.counts), view.command.traceparent.as_deref()))
}

fn status_event(status: Status, counts: BTreeMap<String, u32>, trace: Option<&str>) -> StatusEvent {
    StatusEvent { status: status.as_str().to_owned(), counts, traceparent: trace.map(str::to_owned) }
}

fn json(data: &impl serde::Serialize) -> String {
    serde_json::to_string(data).expect("an event is plain fields")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(body: TargetBody, pointer: &str) {
        let problem = target_of(body).expect_err("refused");
        assert_eq!((problem.code, problem.errors[0].pointer.as_str()), (Code::InvalidBody, pointer));
    }

    #[test]
    fn a_list_of_targets_has_its_end() {
        let agents = |count: usize| TargetBody { agents: vec!["a".to_owned(); count], ..TargetBody::default() };
        assert!(target_of(agents(TARGET_MAX)).is_ok());
        refused(agents(TARGET_MAX + 1), "/target");
    }

    #[test]
    fn a_target_says_one_thing() {
        let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
        let good =
            TargetBody { labels: list(&["env=prod", "a=b=c"]), status: list(&["online"]), ..TargetBody::default() };
        let target = target_of(good).expect("a target");
        assert_eq!(target.labels["a"], "b=c");
        assert_eq!(target.status, [AgentStatus::Online]);
        refused(TargetBody { expr: Some("sites = eu".into()), ..TargetBody::default() }, "/target/expr");
        refused(TargetBody { all: true, expr: Some("all".into()), ..TargetBody::default() }, "/target");
        refused(TargetBody { all: true, sites: list(&["eu"]), ..TargetBody::default() }, "/target");
        refused(TargetBody { labels: list(&["env"]), ..TargetBody::default() }, "/target/labels/0");
        refused(TargetBody { labels: list(&["=x"]), ..TargetBody::default() }, "/target/labels/0");
        refused(TargetBody { labels: list(&["a=b", "a=c"]), ..TargetBody::default() }, "/target/labels/1");
        refused(TargetBody { status: list(&["online", "up"]), ..TargetBody::default() }, "/target/status/1");
        refused(TargetBody { agents: vec!["x".into(); 10_001], ..TargetBody::default() }, "/target");
        assert!(target_of(TargetBody::default()).expect("a target").is_empty());
    }
}
