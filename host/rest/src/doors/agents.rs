//! Agents: who there is, and what operators change of them.

use std::cmp::Ordering;

use api::agent::{Agent as AgentBody, AgentPatch, Telemetry};
use api::page::Page;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use domain::agent::{Agent, AgentStatus};
use domain::target::Candidate;
use plan::id::AgentId;
use ports::agents::AgentChange;
use services::enrol::EnrolError;
use services::tag;

use crate::app::App;
use crate::authorize::{Authorized, EnrolAgents, ManageAgents, ReadAgents};
use crate::body::{Nothing, Strict};
use crate::doors::tags::{if_match, tagged};
use crate::doors::{In, agent_in_sight};
use crate::page::Asked;
use crate::problem::Problem;
use crate::query::{Query, one_of};
use crate::views;

/// `GET /agents`
pub async fn list(
    who: Authorized<ReadAgents>,
    State(app): State<App>,
    query: Query,
) -> Result<Json<Page<AgentBody>>, Problem> {
    let asked = Asked::read(&query, "agents")?;
    let statuses = query.several("status", one_of(AgentStatus::ALL.map(AgentStatus::as_str)), AgentStatus::parse)?;
    let sites = query.several("site", "a site", |text| (!text.is_empty()).then(|| text.to_owned()))?;
    let text = query.one("q")?.map(str::to_lowercase);
    let mut agents = app.directory.all();
    agents.retain(|candidate| {
        who.caller.sees_site(&candidate.agent.site)
            && (statuses.is_empty() || statuses.contains(&candidate.status))
            && (sites.is_empty() || sites.contains(&candidate.agent.site))
            && text.as_deref().is_none_or(|text| mentions(&candidate.agent, text))
    });
    let page = asked.slice(agents, Ordering::Less, |candidate| candidate.agent.name.clone());
    Ok(Json(Asked::shown(page, |candidate| views::agent(&candidate))))
}

/// Whether `text`, in lower case, is part of what the agent is called.
fn mentions(agent: &Agent, text: &str) -> bool {
    [&agent.name, &agent.facts.hostname, &agent.site].iter().any(|name| name.to_lowercase().contains(text))
        || agent.id.to_string().starts_with(text)
}

/// `GET /agents/{agent}`
pub async fn show(
    who: Authorized<ReadAgents>,
    State(app): State<App>,
    In(agent): In<String>,
) -> Result<Response, Problem> {
    agent_in_sight(&app, &who.caller, &agent).map(|candidate| shown(&candidate))
}

/// `PATCH /agents/{agent}`
pub async fn change(
    who: Authorized<ManageAgents>,
    State(app): State<App>,
    In(agent): In<String>,
    headers: HeaderMap,
    Strict(body): Strict<AgentPatch>,
) -> Result<Response, Problem> {
    let if_match = if_match(&headers)?;
    let AgentPatch { site, labels, maintenance } = body;
    let found = agent_in_sight(&app, &who.caller, &agent)?;
    let change = AgentChange { site, labels, maintenance, expected: None };
    let id = found.agent.id;
    let changed = app.enrol.change_agent(&who.caller, id, change, if_match.as_deref(), &who.origin).await;
    done(&app, id, changed).await
}

/// `DELETE /agents/{agent}`
pub async fn delete(
    who: Authorized<EnrolAgents>,
    State(app): State<App>,
    In(agent): In<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let if_match = if_match(&headers)?;
    let id = agent_in_sight(&app, &who.caller, &agent)?.agent.id;
    match app.enrol.delete_agent(&who.caller, id, if_match.as_deref(), &who.origin).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error) => Err(refused(&app, id, error).await),
    }
}

/// `POST /agents/{agent}/approve`
pub async fn approve(
    who: Authorized<EnrolAgents>,
    State(app): State<App>,
    In(agent): In<String>,
    headers: HeaderMap,
    _: Nothing,
) -> Result<Response, Problem> {
    let if_match = if_match(&headers)?;
    let id = agent_in_sight(&app, &who.caller, &agent)?.agent.id;
    let approved = app.enrol.approve_agent(&who.caller, id, if_match.as_deref(), &who.origin).await;
    done(&app, id, approved).await
}

/// `POST /agents/{agent}/rotate-key`
pub async fn rotate_key(
    who: Authorized<EnrolAgents>,
    State(app): State<App>,
    In(agent): In<String>,
    headers: HeaderMap,
    _: Nothing,
) -> Result<Response, Problem> {
    let if_match = if_match(&headers)?;
    let id = agent_in_sight(&app, &who.caller, &agent)?.agent.id;
    let asked = app.enrol.ask_key(&who.caller, id, if_match.as_deref(), &who.origin).await;
    done(&app, id, asked).await
}

/// `POST /agents/{agent}/revoke`
pub async fn revoke(
    who: Authorized<EnrolAgents>,
    State(app): State<App>,
    In(agent): In<String>,
    headers: HeaderMap,
    _: Nothing,
) -> Result<Response, Problem> {
    let if_match = if_match(&headers)?;
    let id = agent_in_sight(&app, &who.caller, &agent)?.agent.id;
    let revoked = app.enrol.revoke_agent(&who.caller, id, if_match.as_deref(), &who.origin).await;
    done(&app, id, revoked).await
}

/// `GET /agents/{agent}/telemetry`
pub async fn telemetry(
    who: Authorized<ReadAgents>,
    State(app): State<App>,
    In(agent): In<String>,
) -> Result<Json<Telemetry>, Problem> {
    let found = agent_in_sight(&app, &who.caller, &agent)?.agent;
    app.directory.learn_latest([found.id].into_iter()).await;
    let sample = app.directory.latest(found.id).map(|latest| serde_json::from_str(&latest.sample)).transpose();
    let sample = sample.map_err(|error| Problem::internal(format!("sample of agent {}: {error}", found.id)))?;
    Ok(Json(Telemetry { agent: found.id.to_string(), agent_name: found.name.clone(), sample }))
}

/// An agent that was just changed, with its status now.
async fn done(app: &App, id: AgentId, changed: Result<Agent, EnrolError>) -> Result<Response, Problem> {
    match changed {
        Ok(agent) => {
            let known = app.directory.get(id);
            let status = known.as_ref().map_or(AgentStatus::Offline, |known| known.status);
            let last_seen = known.and_then(|known| known.last_seen).max(agent.last_seen);
            Ok(shown(&Candidate { agent: agent.into(), status, last_seen }))
        }
        Err(error) => Err(refused(app, id, error).await),
    }
}

/// Why it was not changed, with the tag of the state there is when that is another than was asked for.
async fn refused(app: &App, id: AgentId, error: EnrolError) -> Problem {
    let problem = Problem::from(error);
    if !problem.is_stale() {
        return problem;
    }
    // Another host may have changed it. If the store is away, what is known here is told.
    if let Err(error) = app.enrol.look_up(id).await {
        tracing::debug!(agent = %id, %error, "the agent is told of as it was known");
    }
    problem.as_it_is(app.directory.get(id).map(|known| tag::of(&known.agent.placed())))
}

/// An agent with the tag of what operators change of it.
fn shown(candidate: &Candidate) -> Response {
    tagged(Json(views::agent(candidate)).into_response(), &tag::of(&candidate.agent.placed()))
}
