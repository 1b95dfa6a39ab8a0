//! Many commands at once: those that a filter means are asked to end.

use api::bulk::{CancelMany, CancelledMany, CancelledOne};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use domain::command::{CommandView, Status};
use domain::priority::Priority;
use domain::time::Timestamp;
use domain::verb::VerbName;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use ports::commands::{CommandFilter, Page};
use services::cancel::CancelError;

use crate::app::App;
use crate::authorize::{Authorized, RunCommands};
use crate::body::Strict;
use crate::doors::agent_in_sight;
use crate::doors::commands::all_sites;
use crate::instant;
use crate::problem::{Code, Problem};
use crate::query::one_of;

/// Most commands of one request.
const COMMANDS_MAX: u32 = 500;
/// Commands that are asked to end side by side: their writes share commits.
const AT_ONCE: usize = 16;

/// `POST /commands/cancel`
pub async fn cancel(
    who: Authorized<RunCommands>,
    State(app): State<App>,
    Strict(body): Strict<CancelMany>,
) -> Result<Response, Problem> {
    let limit = body.limit.unwrap_or(COMMANDS_MAX);
    if !(1..=COMMANDS_MAX).contains(&limit) {
        return Err(Problem::at(Code::InvalidBody, "/limit", format!("1 to {COMMANDS_MAX}")));
    }
    let Some(filter) = filter(&app, &who, body)? else { return Ok(answer(Vec::new(), false)) };
    let page = Page { before: None, limit };
    let meant = app.browse.commands(&who.caller, filter.clone(), &page, || all_sites(&app)).await?;
    let more = match meant.last().filter(|_| meant.len() == limit as usize) {
        None => false,
        Some(last) => {
            let next = Page { before: Some(last.command.id), limit: 1 };
            !app.browse.commands(&who.caller, filter, &next, || all_sites(&app)).await?.is_empty()
        }
    };
    let asked = stream::iter(meant.into_iter().map(|view| one(&app, &who, view)));
    Ok(answer(asked.buffered(AT_ONCE).try_collect().await?, more))
}

async fn one(app: &App, who: &Authorized<RunCommands>, view: CommandView) -> Result<CancelledOne, Problem> {
    let id = view.command.id;
    let (status, requested) = match app.cancel.run(&who.caller, id, &who.origin).await {
        Ok(answer) => (answer.status, answer.requested),
        // Out of sight by now: somebody changed the caller's grants in between.
        Err(CancelError::NotFound) => (view.status, 0),
        Err(error) => return Err(error.into()),
    };
    Ok(CancelledOne { id: id.to_string(), status: status.as_str().to_owned(), requested })
}

fn answer(items: Vec<CancelledOne>, more: bool) -> Response {
    let requested = items.iter().map(|one| one.requested).sum();
    let code = if requested == 0 { StatusCode::OK } else { StatusCode::ACCEPTED };
    (code, Json(CancelledMany { commands: items.len() as u64, requested, items, more })).into_response()
}

/// What is meant; `None` when nothing in sight can be.
fn filter(app: &App, who: &Authorized<RunCommands>, body: CancelMany) -> Result<Option<CommandFilter>, Problem> {
    let CancelMany { status, verb, agent, priority, site, since, until, limit: _ } = body;
    let nothing = status.is_none() && verb.is_none() && agent.is_none() && priority.is_none() && site.is_none();
    if nothing && since.is_none() && until.is_none() {
        let why = "say which commands are meant: at least one of status, verb, agent, priority, site, since, until";
        return Err(Problem::new(Code::InvalidBody, why));
    }
    let open = || Status::ALL.into_iter().filter(|status| !status.is_terminal());
    let words = || one_of(open().map(Status::as_str));
    let statuses = match status {
        None => open().collect(),
        Some(names) if names.is_empty() => return Err(Problem::at(Code::InvalidBody, "/status", words())),
        Some(names) => names
            .iter()
            .enumerate()
            .map(|(place, name)| {
                let found = Status::parse(name).filter(|status| !status.is_terminal());
                found.ok_or_else(|| Problem::at(Code::InvalidBody, format!("/status/{place}"), words()))
            })
            .collect::<Result<Vec<_>, _>>()?,
    };
    let verb = verb.map(|verb| {
        let parsed = VerbName::parse(&verb).map(|verb| verb.to_string());
        parsed.ok_or_else(|| Problem::at(Code::InvalidBody, "/verb", "a verb such as docker.ps"))
    });
    let priority = priority.map(|name| {
        let refuse = || Problem::at(Code::InvalidBody, "/priority", one_of(Priority::ALL.map(Priority::as_str)));
        Priority::parse(&name).ok_or_else(refuse)
    });
    if site.as_ref().is_some_and(|sites| sites.is_empty() || sites.iter().any(String::is_empty)) {
        return Err(Problem::at(Code::InvalidBody, "/site", "at least one site, and each by its name"));
    }
    if agent.as_ref().is_some_and(String::is_empty) {
        return Err(Problem::at(Code::InvalidBody, "/agent", "an agent's id or name"));
    }
    let agent = match agent {
        None => None,
        Some(text) => match agent_in_sight(app, &who.caller, &text) {
            Ok(found) => Some(found.agent.id),
            // Nobody in sight by that name has any command.
            Err(_) => return Ok(None),
        },
    };
    let (since, until) = (moment("/since", since)?, moment("/until", until)?);
    if since.zip(until).is_some_and(|(since, until)| since > until) {
        let late = Problem::at(Code::InvalidBody, "/since", "is later than `until`: nothing lies between");
        return Err(late.with("/until", "is earlier than `since`", Code::InvalidBody.row().name));
    }
    Ok(Some(CommandFilter {
        statuses,
        verb: verb.transpose()?,
        priority: priority.transpose()?,
        agent,
        sites: site,
        since,
        until,
    }))
}

fn moment(at: &str, text: Option<String>) -> Result<Option<Timestamp>, Problem> {
    let refuse = || Problem::at(Code::InvalidBody, at, "an instant such as 2026-01-31T12:00:00Z");
    text.map(|text| instant::parse(&text).ok_or_else(refuse)).transpose()
}
