//! Commands: submit, look, cancel.

use std::time::Duration;

use api::command::{CancelAnswer, Command as CommandBody, NewCommand, ReleaseAnswer};
use api::page::Page;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use domain::access::Caller;
use domain::command::Status;
use domain::event::What;
use domain::priority::Priority;
use domain::terms::Wishes;
use domain::verb::VerbName;
use plan::id::CommandId;
use ports::commands::{CommandFilter, Page as StorePage};
use ports::live::Heard;
use services::submit::Request;
use tokio::time::{Instant, timeout_at};

use crate::app::App;
use crate::authorize::{Authorized, ReadCommands, RunCommands};
use crate::body::{Nothing, Strict};
use crate::doors::once::{self, Once};
use crate::doors::{In, Whom, agent_in_sight, id, located};
use crate::edge::Gone;
use crate::instant;
use crate::page::Asked;
use crate::problem::{Code, Problem};
use crate::query::{Query, one_of};
use crate::views;

/// Longest a submitter may wait for the end in the same request.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// What an idempotency key is good for.
const ROUTE: &str = "POST /api/v1/commands";
const PREFER: HeaderName = HeaderName::from_static("prefer");
const APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// `POST /commands`
pub async fn submit(
    who: Authorized<RunCommands>,
    State(app): State<App>,
    Extension(gone): Extension<Gone>,
    headers: HeaderMap,
    Strict(body): Strict<NewCommand>,
) -> Result<Response, Problem> {
    let wait = wait_of(&headers)?;
    let digest = once::digest(&body)?;
    let NewCommand {
        verb,
        args,
        target,
        priority,
        start_within_ms,
        run_timeout_ms,
        finish_by,
        on_disconnect,
        kill_after_ms,
        retry,
        rollout,
    } = body;
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
    let wishes = Wishes {
        start_within_ms,
        finish_by: finish_by.map(|text| instant::parse(&text).ok_or_else(no_instant)).transpose()?,
        kill_after_ms: on_disconnect_of(on_disconnect.as_deref(), kill_after_ms)?,
        retry: retry.map(views::delivery::retry_wish).transpose()?,
        rollout: rollout.map(views::delivery::rollout).transpose()?.unwrap_or_default(),
    };
    let once = match once::ask(&app, &who.caller, &headers, ROUTE, digest, once::accepted).await? {
        Once::Again(response) => return Ok(response),
        Once::First(once) => once,
    };
    let request = Request { verb, args, target, target_json, priority, wishes, run_timeout_ms, parent: None, once };
    let accepted = app.submit.run(&who.caller, request, &who.origin).await?;
    let id = accepted.command.id;
    let status = match wait {
        Some(wait) => ended(&app, &who.caller, id, wait, gone).await.unwrap_or(accepted.status),
        None => accepted.status,
    };
    let over = wait.is_some() && status.is_terminal();
    let code = if over { StatusCode::OK } else { StatusCode::ACCEPTED };
    let body = views::command::accepted(&accepted, status);
    let mut response = located(code, &format!("/api/v1/commands/{id}"), body);
    if let Some(applied) = wait.and_then(|wait| HeaderValue::from_str(&format!("wait={}", wait.as_secs())).ok()) {
        response.headers_mut().insert(APPLIED, applied);
    }
    Ok(response)
}

fn no_instant() -> Problem {
    Problem::at(Code::InvalidBody, "/finish_by", "an instant such as 2026-01-31T12:00:00Z")
}

/// Milliseconds without a session after which it is killed.
fn on_disconnect_of(what: Option<&str>, kill_after_ms: Option<u64>) -> Result<Option<u64>, Problem> {
    let refuse = |at: &str, message: String| Err(Problem::at(Code::InvalidBody, at, message));
    match (what, kill_after_ms) {
        (None | Some("continue"), None) => Ok(None),
        (Some("kill_after"), Some(ms)) => Ok(Some(ms)),
        (Some("kill_after"), None) => refuse("/kill_after_ms", "`kill_after` needs to know after how long".to_owned()),
        (None | Some("continue"), Some(_)) => {
            refuse("/kill_after_ms", "only with `\"on_disconnect\": \"kill_after\"`".to_owned())
        }
        (Some(_), _) => refuse("/on_disconnect", one_of(["continue", "kill_after"])),
    }
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

/// Follows a command until it is over, `wait` is, or its caller has hung up. The command is accepted already: whatever goes
/// wrong here costs the caller a follow-up request, never the answer.
async fn ended(app: &App, caller: &Caller, id: CommandId, wait: Duration, Gone(gone): Gone) -> Option<Status> {
    let deadline = Instant::now() + wait;
    // Listened to before it is read, so that no end falls between the two.
    let mut live = app.browse.subscribe(id);
    let mut status = app.browse.command(caller, id).await.ok()?.status;
    while !status.is_terminal() {
        match timeout_at(deadline, gone.run_until_cancelled(live.next())).await {
            Ok(None) => break,
            Ok(Some(Heard::Event(event))) => {
                if let What::Status { status: now, .. } = event.what {
                    status = now;
                }
            }
            Ok(Some(Heard::Lagged)) => status = app.browse.command(caller, id).await.ok()?.status,
            Ok(Some(Heard::Closed)) | Err(_) => break,
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
    let whom = Whom::asked(&app, &who.caller, &query)?;
    page(&app, &who.caller, &query, Asked::read(&query, "commands")?, whom).await
}

/// `GET /agents/{agent}/commands`
pub async fn of_agent(
    who: Authorized<ReadCommands>,
    State(app): State<App>,
    In(agent): In<String>,
    query: Query,
) -> Result<Json<Page<CommandBody>>, Problem> {
    let whom = Whom::One(agent_in_sight(&app, &who.caller, &agent)?.agent.id);
    page(&app, &who.caller, &query, Asked::read(&query, "agent-commands")?, whom).await
}

/// One page of the commands that the query and `whom` mean.
async fn page(
    app: &App,
    caller: &Caller,
    query: &Query,
    asked: Asked,
    whom: Whom,
) -> Result<Json<Page<CommandBody>>, Problem> {
    let sites = query.several("site", "a site", |text| (!text.is_empty()).then(|| text.to_owned()))?;
    let (since, until) = query.between("since", "until")?;
    let filter = CommandFilter {
        statuses: query.several("status", one_of(Status::ALL.map(Status::as_str)), Status::parse)?,
        verb: query.parsed("verb", "a verb such as docker.ps", VerbName::parse)?.map(|verb| verb.to_string()),
        priority: query.parsed("priority", one_of(Priority::ALL.map(Priority::as_str)), Priority::parse)?,
        agent: whom.agent(),
        sites: (!sites.is_empty()).then_some(sites),
        since,
        until,
    };
    if whom == Whom::Nobody {
        return Ok(Json(Page { items: Vec::new(), next_cursor: None }));
    }
    let page = StorePage { before: asked.after()?, limit: asked.fetch() };
    let commands = app.browse.commands(caller, filter, &page, || all_sites(app)).await?;
    let page = asked.page(commands, |view| view.command.id.to_string());
    Ok(Json(Asked::shown(page, views::command::command)))
}

/// Every site that has an agent.
pub(super) fn all_sites(app: &App) -> Vec<String> {
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
    let answer = app.cancel.run(&who.caller, id(&command, "command")?, &who.origin).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_waited_for_longer_than_agreed() {
        let wait =
            |text: &str| wait_of(&HeaderMap::from_iter([(PREFER, HeaderValue::from_str(text).expect("a header"))]));
        assert_eq!(wait("respond-async, wait=60").ok(), Some(Some(WAIT_MAX)));
        for bad in ["wait=61", "wait=-1", "wait=x", "wait=99999999999999999999"] {
            assert_eq!(wait(bad).expect_err(bad).code, Code::InvalidHeader);
        }
    }
}
