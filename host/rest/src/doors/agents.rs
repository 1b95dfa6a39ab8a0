//! Agents: who there is, and what operators change of them.

use std::cmp::Ordering;

use api::agent::{Agent as AgentBody, AgentPatch, Telemetry};
use api::page::Page;
use axum::Json;
use axum::extract::State;
use domain::agent::{Agent, AgentStatus};
use domain::target::Candidate;
use ports::agents::AgentChange;

use crate::app::App;
use crate::authorize::{Authorized, EnrolAgents, ManageAgents, ReadAgents};
use crate::body::{Nothing, Strict};
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
) -> Result<Json<AgentBody>, Problem> {
    agent_in_sight(&app, &who.caller, &agent).map(|candidate| Json(views::agent(&candidate)))
}

/// `PATCH /agents/{agent}`
pub async fn change(
    who: Authorized<ManageAgents>,
    State(app): State<App>,
    In(agent): In<String>,
    Strict(body): Strict<AgentPatch>,
) -> Result<Json<AgentBody>, Problem> {
    let AgentPatch { site, labels, maintenance } = body;
    let found = agent_in_sight(&app, &who.caller, &agent)?;
    let change = AgentChange { site, labels, maintenance };
    let changed = app.enrol.change_agent(&who.caller, found.agent.id, change, &who.origin).await?;
    Ok(Json(now(&app, changed)))
}

/// `POST /agents/{agent}/revoke`
pub async fn revoke(
    who: Authorized<EnrolAgents>,
    State(app): State<App>,
    In(agent): In<String>,
    _: Nothing,
) -> Result<Json<AgentBody>, Problem> {
    let found = agent_in_sight(&app, &who.caller, &agent)?;
    let revoked = app.enrol.revoke_agent(&who.caller, found.agent.id, &who.origin).await?;
    Ok(Json(now(&app, revoked)))
}

/// `GET /agents/{agent}/telemetry`
pub async fn telemetry(
    who: Authorized<ReadAgents>,
    State(app): State<App>,
    In(agent): In<String>,
) -> Result<Json<Telemetry>, Problem> {
    let found = agent_in_sight(&app, &who.caller, &agent)?.agent;
    let sample = app.directory.sample(found.id).map(|text| serde_json::from_str(&text)).transpose();
    let sample = sample.map_err(|error| Problem::internal(format!("sample of agent {}: {error}", found.id)))?;
    Ok(Json(Telemetry { agent: found.id.to_string(), agent_name: found.name.clone(), sample }))
}

/// An agent that was just changed, with its status now.
fn now(app: &App, agent: Agent) -> AgentBody {
    let status = app.directory.get(agent.id).map_or(AgentStatus::Offline, |known| known.status);
    views::agent(&Candidate { agent: agent.into(), status })
}
