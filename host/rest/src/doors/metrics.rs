//! What machines that watch the host are told.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use domain::agent::AgentStatus;
use domain::alert::Severity;
use domain::attempt::State as Stands;
use domain::priority::Priority;
use ports::alerts::AlertShare;
use ports::delivery::OpenShare;
use services::alerting::RULE_ERROR;
use services::ingest::Tally;
use services::meter::{OTHER, Totals};

use crate::app::App;
use crate::authorize::{Authorized, ReadStatistics};
use crate::metrics::{self, Family, Labels, Vitals, counter, gauge, one, spans};
use crate::problem::Problem;

/// Rules with a count of their own.
const RULES_MAX: usize = 64;
/// How an alert is that wants somebody.
const FIRING: &str = "firing";

/// `GET /metrics`
pub async fn show(_: Authorized<ReadStatistics>, State(app): State<App>) -> Result<Response, Problem> {
    let open = app.statistics.open(app.clock.now()).await?;
    let count = |matches: &dyn Fn(&OpenShare) -> bool| -> u64 {
        open.iter().filter(|share| matches(share)).map(|share| share.count).sum()
    };
    let states = Stands::ALL.into_iter().filter(|state| !state.is_terminal());
    let states = states.map(|state| (vec![("state", state.as_str().to_owned())], count(&|share| share.state == state)));
    let waits = |state: Stands| matches!(state, Stands::Held | Stands::Queued);
    let queue = Priority::ALL.into_iter().map(|priority| {
        let waiting = count(&|share| share.priority == priority && waits(share.state));
        (vec![("priority", priority.as_str().to_owned())], waiting)
    });
    let Vitals { commits, writes, audits, chunks_dropped, notes_dropped, redis_away, redis_requests } = (app.vitals)();
    let mut families = vec![
        gauge("viworks_build_info", "The version of this host; always 1.", vec![(version(&app), 1)]),
        gauge("viworks_invocations_open", "Invocations that are not over, by state.", states.collect()),
        gauge("viworks_queue_length", "Invocations that have not been sent, by priority.", queue.collect()),
        counter("viworks_store_commits", "Transactions on disk.", one(commits)),
        counter("viworks_store_writes", "Writes in them.", one(writes)),
        counter("viworks_store_output_dropped", "Pieces of output that were not stored.", one(chunks_dropped)),
        counter("viworks_store_notes_dropped", "Notes that were not stored.", one(notes_dropped)),
        counter("viworks_audit_entries", "Entries of the audit log that were stored.", one(audits)),
        gauge("viworks_redis_away", "1 while the Redis of the settings does not answer.", one(redis_away)),
        counter("viworks_redis_requests", "Requests to Redis.", one(redis_requests)),
    ];
    families.extend(commands(app.meter.totals()));
    families.extend(machines(&app));
    families.extend(telemetry(app.ingest.tally()));
    families.extend(alerts(&app).await?);
    families.extend(app.http.read());
    let text = metrics::text(families).map_err(|error| Problem::internal(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

fn version(app: &App) -> Labels {
    vec![("version", app.options.version.clone())]
}

/// What became of commands.
fn commands(totals: Totals) -> Vec<Family> {
    let Totals { accepted, reached, calls, dispatch, wait, run } = totals;
    let accepted = accepted.into_iter().map(|(verb, count)| (vec![("verb", verb.to_string())], count));
    let reached = reached
        .into_iter()
        .map(|((verb, state), count)| (vec![("verb", verb.to_string()), ("state", state.to_owned())], count));
    let calls = calls.into_iter().map(|((call, well), count)| {
        let outcome = if well { "ok" } else { "fault" };
        (vec![("call", call.as_str().to_owned()), ("outcome", outcome.to_owned())], count)
    });
    vec![
        counter("viworks_commands_accepted", "Commands accepted, by verb.", accepted.collect()),
        counter("viworks_attempts", "Attempts that came to a state, by verb and state.", reached.collect()),
        counter("viworks_plugin_calls", "Calls of plugins, and what came of them.", calls.collect()),
        spans("viworks_dispatch_seconds", "From acceptance to the first time it was sent.", dispatch),
        spans("viworks_queue_wait_seconds", "From acceptance to the first start.", wait),
        spans("viworks_run_seconds", "From start to end.", run),
    ]
}

/// What became of agents' reports.
fn telemetry(tally: Tally) -> Vec<Family> {
    let Tally { taken: _, stored, repeated, dropped, waiting, refused, passed_over } = tally;
    let outcomes = [("stored", stored), ("repeated", repeated), ("dropped", dropped)];
    let outcomes = outcomes.map(|(outcome, count)| (vec![("outcome", outcome.to_owned())], count));
    let refused = refused.into_iter().map(|(why, count)| (vec![("reason", why.as_str().to_owned())], count));
    vec![
        counter("viworks_telemetry_reports", "Reports that were taken, by what became of them.", outcomes.into()),
        counter("viworks_telemetry_refused", "Reports that cannot be believed, by reason.", refused.collect()),
        gauge("viworks_telemetry_waiting", "Reports that are not stored yet.", one(waiting)),
        counter(
            "viworks_telemetry_passed_over",
            "Reports that are stored and that no rule has seen.",
            one(passed_over),
        ),
    ]
}

/// What is wrong with machines, and whether people hear of it.
async fn alerts(app: &App) -> Result<Vec<Family>, Problem> {
    let mut wrong: BTreeMap<(String, &'static str, &'static str), u64> = BTreeMap::new();
    // A rule that finds nothing is told to find nothing: its line begins before its first alert does.
    let rules = app.alerts.rules.rules();
    let names = rules.iter().map(|rule| rule.plugin().name.as_str()).chain([RULE_ERROR]).take(RULES_MAX);
    for name in names {
        wrong.extend(Severity::ALL.map(|severity| ((name.to_owned(), severity.as_str(), FIRING), 0)));
    }
    for AlertShare { rule, state, count } in app.alerts.counts(app.clock.now()).await?.iter() {
        let Some(severity) = state.severity() else { continue };
        let is_known = wrong.keys().any(|(known, _, _)| known == rule);
        let has_room = is_known || wrong.len() < RULES_MAX * Severity::ALL.len();
        let name = if has_room { rule } else { OTHER };
        *wrong.entry((name.to_owned(), severity.as_str(), state.as_str())).or_default() += count;
    }
    let wrong = wrong.into_iter().map(|((rule, severity, state), count)| {
        let labels = vec![("rule", rule), ("severity", severity.to_owned()), ("state", state.to_owned())];
        (labels, count)
    });
    let tries = app.channels.notifier.tries.read();
    let tries = tries.map(|(outcome, count)| (vec![("outcome", outcome.to_owned())], count));
    Ok(vec![
        gauge("viworks_alerts", "Alerts that are wrong, by rule, severity and state.", wrong.collect()),
        counter("viworks_notifications", "Messages of alerts, by what became of a try.", tries.into()),
    ])
}

/// Agents and plugins as they are.
fn machines(app: &App) -> Vec<Family> {
    let mut statuses: BTreeMap<&'static str, u64> = AgentStatus::ALL.map(|status| (status.as_str(), 0)).into();
    for candidate in app.directory.all().iter().filter(|candidate| candidate.agent.revoked_at.is_none()) {
        *statuses.entry(candidate.status.as_str()).or_default() += 1;
    }
    let (mut states, mut faults) = (BTreeMap::<&'static str, u64>::new(), 0);
    for plugin in app.plugins.plugins() {
        *states.entry(plugin.state).or_default() += 1;
        faults += plugin.faults;
    }
    let by = |label: &'static str, counts: BTreeMap<&'static str, u64>| {
        counts.into_iter().map(|(name, count)| (vec![(label, name.to_owned())], count)).collect()
    };
    vec![
        gauge("viworks_agents", "Agents that are not revoked, by status.", by("status", statuses)),
        gauge("viworks_agent_sessions", "Agents connected to this host.", one(app.directory.sessions() as u64)),
        gauge("viworks_plugins", "Plugin files, by state.", by("state", states)),
        gauge("viworks_plugin_faults", "Faults of the versions that serve, since they became active.", one(faults)),
        gauge("viworks_plugin_generation", "How often the set of verbs has changed.", one(app.plugins.generation())),
    ]
}
