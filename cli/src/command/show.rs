//! One command on a page: what was asked for, how it is delivered, where it stands.

use std::fmt::Write as _;
use std::time::Duration;

use api::command::{Invocation, KeptOutput, KeptStream};
use api::delivery::{AttemptBody, PortionBody, RetryBody, RolloutBody};
use viworks_client::Client;

use crate::failure::Failure;
use crate::output::{count, moment, table};
use crate::watch::{Finished, label};

/// Invocations whose earlier attempts are shown; the others are counted.
const TRIED_SHOWN: usize = 20;

/// A command and where it stands on each agent.
pub(super) fn page(finished: &Finished) -> String {
    let Finished { command, invocations } = finished;
    let counts: Vec<String> =
        command.counts.iter().map(|(state, count)| format!("{count} {}", label(state, None))).collect();
    let mut fields = vec![
        ("command", command.id.clone()),
        ("verb", command.verb.clone()),
        ("status", command.status.clone()),
        ("agents", counts.join(", ")),
        ("does", command.summary.clone()),
        ("arguments", command.args.to_string()),
        ("target", command.target.to_string()),
        ("priority", command.priority.clone()),
        ("by", command.submitter.clone()),
        ("accepted", command.created_at.clone()),
        ("starts before", command.start_by.clone()),
    ];
    let sometimes = [
        ("finishes by", command.finish_by.clone()),
        ("without host", command.kill_after_ms.map(|ms| format!("killed after {}", span(ms)))),
        ("retried", retry(&command.retry)),
        ("rollout", command.rollout.as_ref().map(rollout)),
        ("halted", command.halted.clone()),
        ("follows up", command.parent.clone()),
    ];
    fields.extend(sometimes.into_iter().filter_map(|(name, value)| Some((name, value?))));
    fields.extend([
        ("ended", command.completed_at.clone().unwrap_or_else(|| "not yet".to_owned())),
        ("plugin", format!("{} {} ({})", command.plugin, command.plugin_version, command.plugin_digest)),
        ("request", command.correlation_id.clone()),
    ]);
    let mut text = table::card(&fields);
    text.push('\n');
    let rows = invocations.iter().map(row);
    text.push_str(&table::grid(&["agent", "site", "state", "exit", "attempt", "what"], rows));
    text
}

fn row(invocation: &Invocation) -> Vec<String> {
    let ending = if invocation.cancel_requested { " (cancel asked for)" } else { "" };
    vec![
        invocation.agent_name.clone(),
        invocation.site.clone(),
        format!("{}{ending}", label(&invocation.state, invocation.reason.as_deref())),
        invocation.exit_code.map(|code| code.to_string()).unwrap_or_default(),
        invocation.attempt.to_string(),
        format!("{}{}", said(invocation), not_kept(invocation)),
    ]
}

fn said(invocation: &Invocation) -> &str {
    let summary = invocation.summary.as_deref().filter(|summary| !summary.is_empty());
    summary.unwrap_or(&invocation.explanation)
}

/// ` [70 bytes of stdout were not kept]`; nothing when all of its output is there.
fn not_kept(invocation: &Invocation) -> String {
    let Some(KeptOutput { stdout, stderr }) = &invocation.output else { return String::new() };
    let streams = [("stdout", stdout), ("stderr", stderr)].into_iter().filter(|(_, kept)| kept.missing_bytes > 0);
    let part =
        |(name, kept): (&str, &KeptStream)| format!("{} of {name}", count::of(kept.missing_bytes, "byte", "bytes"));
    let parts: Vec<String> = streams.map(part).collect();
    let were = if stdout.missing_bytes + stderr.missing_bytes == 1 { "was" } else { "were" };
    if parts.is_empty() { String::new() } else { format!(" [{} {were} not kept]", parts.join(" and ")) }
}

/// Earlier attempts of invocations that had more than one; nothing when none had.
///
/// # Errors
/// When the host no longer answers.
pub(super) async fn tried(client: &Client, finished: &Finished) -> Result<String, Failure> {
    let again: Vec<&Invocation> = finished.invocations.iter().filter(|one| one.attempt > 1).collect();
    let mut rows = Vec::new();
    for invocation in again.iter().take(TRIED_SHOWN) {
        let attempts = client.attempts(&finished.command.id, &invocation.agent).await?.items;
        rows.extend(attempts.iter().map(|attempt| attempt_row(&invocation.agent_name, attempt)));
    }
    if rows.is_empty() {
        return Ok(String::new());
    }
    let mut text =
        format!("\nearlier attempts\n{}", table::grid(&["agent", "attempt", "state", "exit", "ended", "what"], rows));
    if again.len() > TRIED_SHOWN {
        let _ = writeln!(text, "and of {}", count::of(again.len() - TRIED_SHOWN, "more agent", "more agents"));
    }
    Ok(text)
}

fn attempt_row(agent: &str, attempt: &AttemptBody) -> Vec<String> {
    let AttemptBody { attempt, state, reason, changed_at, exit_code, summary, .. } = attempt;
    vec![
        agent.to_owned(),
        attempt.to_string(),
        label(state, reason.as_deref()).to_owned(),
        exit_code.map(|code| code.to_string()).unwrap_or_default(),
        changed_at.clone(),
        summary.clone().or_else(|| reason.clone()).unwrap_or_default(),
    ]
}

/// `up to 3 attempts, after failed, lost too, at first within 5.0 s`; nothing when there is one attempt.
fn retry(retry: &RetryBody) -> Option<String> {
    let RetryBody { max_attempts, on, backoff_ms } = retry;
    if *max_attempts <= 1 {
        return None;
    }
    let mut text = format!("up to {max_attempts} attempts");
    let causes = on.as_deref().unwrap_or_default();
    if !causes.is_empty() {
        let _ = write!(text, ", after {} too", causes.join(", "));
    }
    if let Some(ms) = backoff_ms {
        let _ = write!(text, ", at first within {}", span(*ms));
    }
    Some(text)
}

fn rollout(rollout: &RolloutBody) -> String {
    let RolloutBody { max_concurrency, ramp, waves, pause_ms, max_errors, max_unreached, on_halt } = rollout;
    let mut parts = Vec::new();
    parts.extend(max_concurrency.as_ref().map(|most| format!("{} at once", portion(most))));
    parts.extend(ramp.as_ref().filter(|ramp| *ramp != "off").map(|ramp| format!("{ramp} ramp")));
    if !waves.is_empty() {
        parts.push(format!("waves of {}", waves.iter().map(portion).collect::<Vec<_>>().join(", ")));
    }
    parts.extend(pause_ms.filter(|ms| *ms > 0).map(|ms| format!("{} between them", span(ms))));
    parts.extend(max_errors.as_ref().map(|most| format!("halts above {} errors", portion(most))));
    parts.extend(max_unreached.as_ref().map(|most| format!("halts above {} unreached", portion(most))));
    let halts = max_errors.is_some() || max_unreached.is_some();
    parts.extend(on_halt.as_ref().filter(|_| halts).map(|what| format!("then what runs: {what}")));
    parts.join("; ")
}

fn portion(portion: &PortionBody) -> String {
    match portion {
        PortionBody::Count(count) => count.to_string(),
        PortionBody::Text(text) => text.clone(),
    }
}

fn span(ms: u64) -> String {
    moment::length(Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_it_is_delivered_is_one_line_each() {
        let on = Some(vec!["failed".to_owned(), "lost".to_owned()]);
        let wish = RetryBody { max_attempts: 3, on, backoff_ms: Some(5_000) };
        assert_eq!(retry(&wish).as_deref(), Some("up to 3 attempts, after failed, lost too, at first within 5.0 s"));
        assert_eq!(retry(&RetryBody { max_attempts: 1, ..wish }), None);
        let plan = RolloutBody {
            max_concurrency: Some(PortionBody::Count(10)),
            ramp: Some("off".to_owned()),
            waves: vec![PortionBody::Count(1), PortionBody::Text("25%".to_owned())],
            pause_ms: Some(60_000),
            max_errors: Some(PortionBody::Count(0)),
            max_unreached: None,
            on_halt: Some("cancel".to_owned()),
        };
        assert_eq!(
            rollout(&plan),
            "10 at once; waves of 1, 25%; 1 min 0 s between them; halts above 0 errors; then what runs: cancel"
        );
    }
}
