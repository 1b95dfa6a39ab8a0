//! Commands: submit, look, cancel.

use std::time::Duration;

use api::command::{CancelAnswer, Command as CommandBody, NewCommand, ReleaseAnswer};
use api::page::Page;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use domain::access::Caller;
use domain::command::Status;
use domain::event::What;
use domain::priority::Priority;
use domain::verb::VerbName;
use plan::id::CommandId;
use ports::commands::{CommandFilter, Page as StorePage};
use ports::live::Heard;
use services::submit::Request;
use tokio::time::{Instant, timeout_at};

use crate::app::App;
use crate::authorize::{Authorized, ReadCommands, RunCommands};
use crate::body::{Nothing, Strict};
use crate::doors::{In, agent_in_sight, id, located};
use crate::page::Asked;
use crate::problem::{Code, Problem};
use crate::query::{Query, one_of};
use crate::views;

/// Longest a submitter may wait for the end in the same request.
const WAIT_MAX: Duration = Duration::from_secs(60);
const PREFER: HeaderName = HeaderName::from_static("prefer");
const APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// `POST /commands`
pub async fn submit(
    who: Authorized<RunCommands>,
    State(app): State<App>,
    headers: HeaderMap,
    Strict(body): Strict<NewCommand>,
) -> Result<Response, Problem> {
    let wait = wait_of(&headers)?;
    let NewCommand { verb, args, target, priority, start_within_ms, run_timeout_ms } = body;
    if !args.is_object() {
        return Err(Problem::at(Code::InvalidArgs, "/args", "arguments are an object"));
    }
    let unknown = || Problem::at(Code::InvalidBody, "/priority", one_of(Priority::ALL.map(Priority::as_str)));
    let priority = match priority {
        None => Priority::default(),
        Some(name) => Priority::parse(&name).ok_or_else(unknown)?,
    };
    let target_json = serde_json::to_string(&target).map_err(|error| Problem::internal(error.to_string()))?;
    let target = views::command::target_of(target)?;
    let request = Request { verb, args, target, target_json, priority, start_within_ms, run_timeout_ms };
    let accepted = app.submit.run(&who.caller, request, &who.origin).await?;
    let id = accepted.command.id;
    let status = match wait {
        Some(wait) => ended(&app, &who.caller, id, wait).await.unwrap_or(accepted.status),
        None => accepted.status,
    };
    let over = wait.is_some() && status.is_terminal();
    let code = if over { StatusCode::OK } else { StatusCode::ACCEPTED };
    let body = views::command::accepted(accepted, status);
    let mut response = located(code, &format!("/api/v1/commands/{id}"), body);
    if let Some(applied) = wait.and_then(|wait| HeaderValue::from_str(&format!("wait={}", wait.as_secs())).ok()) {
        response.headers_mut().insert(APPLIED, applied);
    }
    Ok(response)
}

/// `wait=N` of `Prefer` (RFC 7240); other preferences are ignored, as the RFC says.
fn wait_of(headers: &HeaderMap) -> Result<Option<Duration>, Problem> {
    let values = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let mut preferences = values.flat_map(|value| value.split(',')).map(|preference| preference.trim());
    let Some(text) = preferences.find_map(|preference| preference.strip_prefix("wait=")) else { return Ok(None) };
    let wait = text.parse().ok().map(Duration::from_secs).filter(|wait| *wait <= WAIT_MAX);
    let refuse =
        || Problem::new(Code::InvalidHeader, format!("`Prefer: wait=` takes 0 to {} seconds", WAIT_MAX.as_secs()));
    wait.map(Some).ok_or_else(refuse)
}

/// Follows a command until it is over or `wait` is. The command is accepted already: whatever goes
/// wrong here costs the caller a follow-up request, never the answer.
async fn ended(app: &App, caller: &Caller, id: CommandId, wait: Duration) -> Option<Status> {
    let deadline = Instant::now() + wait;
    // Listened to before it is read, so that no end falls between the two.
    let mut live = app.browse.subscribe(id);
    let mut status = app.browse.command(caller, id).await.ok()?.status;
    while !status.is_terminal() {
        match timeout_at(deadline, live.next()).await {
            Ok(Heard::Event(event)) => {
                if let What::Status { status: now, .. } = event.what {
                    status = now;
                }
            }
            Ok(Heard::Lagged) => status = app.browse.command(caller, id).await.ok()?.status,
            Ok(Heard::Closed) | Err(_) => break,
        }
    }
    Some(status)
}

/// `GET /commands`
pub async fn list(
    who: Authorized<ReadCommands>,
    State(app): State<App>,
    query: Query,
) -> Result<Json<Page<CommandBody>>, Problem> {
    let asked = Asked::read(&query, "commands")?;
    let sites = query.several("site", "a site", |text| (!text.is_empty()).then(|| text.to_owned()))?;
    let agent = match query.one("agent")? {
        None => None,
        Some(text) => match agent_in_sight(&app, &who.caller, text) {
            Ok(found) => Some(found.agent.id),
            // Nobody in sight by that name has any command.
            Err(_) => return Ok(Json(Page { items: Vec::new(), next_cursor: None })),
        },
    };
    let filter = CommandFilter {
        statuses: query.several("status", one_of(Status::ALL.map(Status::as_str)), Status::parse)?,
        verb: query.parsed("verb", "a verb such as docker.ps", VerbName::parse)?.map(|verb| verb.to_string()),
        priority: query.parsed("priority", one_of(Priority::ALL.map(Priority::as_str)), Priority::parse)?,
        agent,
        sites: (!sites.is_empty()).then_some(sites),
        since: query.instant("since")?,
        until: query.instant("until")?,
    };
    let page = StorePage { before: asked.after()?, limit: asked.fetch() };
    let commands = app.browse.commands(&who.caller, filter, &page, || all_sites(&app)).await?;
    let page = asked.page(commands, |view| view.command.id.to_string());
    Ok(Json(Asked::shown(page, views::command::command)))
}

fn all_sites(app: &App) -> Vec<String> {
    let mut sites: Vec<String> = app.directory.all().iter().map(|candidate| candidate.agent.site.clone()).collect();
    sites.sort();
    sites.dedup();
    sites
}

/// `GET /commands/{id}`
pub async fn show(
    who: Authorized<ReadCommands>,
    State(app): State<App>,
    In(command): In<String>,
) -> Result<Json<CommandBody>, Problem> {
    let view = app.browse.command(&who.caller, id(&command, "command")?).await?;
    Ok(Json(views::command::command(view)))
}

/// `POST /commands/{id}/cancel`
pub async fn cancel(
    who: Authorized<RunCommands>,
    State(app): State<App>,
    In(command): In<String>,
    _: Nothing,
) -> Result<Response, Problem> {
    let answer = app.cancel.run(&who.caller, id(&command, "command")?, None, &who.origin).await?;
    let code = if answer.requested == 0 { StatusCode::OK } else { StatusCode::ACCEPTED };
    let body = CancelAnswer { status: answer.status.as_str().to_owned(), requested: answer.requested };
    Ok((code, Json(body)).into_response())
}

/// `POST /commands/{id}/release`
pub async fn release(
    who: Authorized<RunCommands>,
    State(app): State<App>,
    In(command): In<String>,
    _: Nothing,
) -> Result<Response, Problem> {
    let answer = app.release.run(&who.caller, id(&command, "command")?, &who.origin).await?;
    let code = if answer.released == 0 { StatusCode::OK } else { StatusCode::ACCEPTED };
    let body = ReleaseAnswer { status: answer.status.as_str().to_owned(), released: answer.released };
    Ok((code, Json(body)).into_response())
}
