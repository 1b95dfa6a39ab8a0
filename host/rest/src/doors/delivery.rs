//! What came of a command on many machines, and running it again where it did not do what was wanted.

use api::delivery::{Attempts, GroupsBody, RetryCommand, RollupBody};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use services::follow_up::Only;

use crate::app::App;
use crate::authorize::{Authorized, ReadCommands, RunCommands};
use crate::body::Strict;
use crate::doors::once::{self, Once};
use crate::doors::{In, agent_in_sight, id, located};
use crate::problem::{Code, Problem};
use crate::query::{Query, one_of};
use crate::views;

/// Most groups in one answer.
const GROUPS_MAX: u64 = 500;
/// Groups in one answer when the caller does not say.
const GROUPS: u32 = 50;
/// Most steps of a pointer into a result.
const POINTER_MAX: usize = 16;

/// `GET /commands/{id}/rollup`
pub async fn rollup(
    who: Authorized<ReadCommands>,
    State(app): State<App>,
    In(command): In<String>,
) -> Result<Json<RollupBody>, Problem> {
    let shares = app.browse.rollup(&who.caller, id(&command, "command")?).await?;
    Ok(Json(RollupBody { items: shares.into_iter().map(views::delivery::share).collect() }))
}

/// `GET /commands/{id}/results`
pub async fn results(
    who: Authorized<ReadCommands>,
    State(app): State<App>,
    In(command): In<String>,
    query: Query,
) -> Result<Json<GroupsBody>, Problem> {
    let by = pointer(query.one("by")?.unwrap_or_default())?;
    let limit = match query.number("limit")? {
        None => GROUPS,
        Some(limit @ 1..=GROUPS_MAX) => u32::try_from(limit).unwrap_or(GROUPS),
        Some(_) => return Err(Problem::at(Code::InvalidParameter, "?limit", format!("1 to {GROUPS_MAX}"))),
    };
    let groups = app.browse.groups(&who.caller, id(&command, "command")?, &by, limit).await?;
    Ok(Json(GroupsBody { items: groups.into_iter().map(views::delivery::group).collect() }))
}

/// The steps of a JSON Pointer (RFC 6901); none: the whole result.
fn pointer(text: &str) -> Result<Vec<String>, Problem> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let steps: Option<Vec<String>> = text
        .strip_prefix('/')
        .map(|rest| rest.split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect());
    let wrong = || format!("a JSON Pointer such as /os/name, of at most {POINTER_MAX} steps");
    steps.filter(|steps| steps.len() <= POINTER_MAX).ok_or_else(|| Problem::at(Code::InvalidParameter, "?by", wrong()))
}

/// `GET /commands/{id}/invocations/{agent}/attempts`
pub async fn attempts(
    who: Authorized<ReadCommands>,
    State(app): State<App>,
    In((command, agent)): In<(String, String)>,
) -> Result<Json<Attempts>, Problem> {
    let command = id(&command, "command")?;
    let agent = agent_in_sight(&app, &who.caller, &agent)?.agent.id;
    let found = app.browse.attempts(&who.caller, command, agent).await?;
    Ok(Json(Attempts { items: found.into_iter().map(views::delivery::attempt).collect() }))
}

/// `POST /commands/{id}/retry`
pub async fn retry(
    who: Authorized<RunCommands>,
    State(app): State<App>,
    In(command): In<String>,
    headers: HeaderMap,
    Strict(body): Strict<RetryCommand>,
) -> Result<Response, Problem> {
    let digest = once::digest(&body)?;
    let RetryCommand { only } = body;
    let wrong = || Problem::at(Code::InvalidBody, "/only", one_of(Only::ALL.map(Only::as_str)));
    let only = Only::parse(&only).ok_or_else(wrong)?;
    let parent = id(&command, "command")?;
    let route = format!("POST /api/v1/commands/{parent}/retry");
    let once = match once::ask(&app, &who.caller, &headers, &route, digest, once::accepted).await? {
        Once::Again(response) => return Ok(response),
        Once::First(once) => once,
    };
    let accepted = app.follow_up.run(&who.caller, parent, only, once, &who.origin).await?;
    let (child, status) = (accepted.command.id, accepted.status);
    let body = views::command::accepted(&accepted, status);
    Ok(located(StatusCode::ACCEPTED, &format!("/api/v1/commands/{child}"), body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_read_as_the_rfc_says() {
        assert_eq!(pointer("").expect("whole"), Vec::<String>::new());
        assert_eq!(pointer("/a~1b/0/~0").expect("steps"), ["a/b", "0", "~"]);
        assert!(pointer("a/b").is_err());
        assert!(pointer(&"/a".repeat(POINTER_MAX + 1)).is_err());
        assert!(pointer(&"/a".repeat(POINTER_MAX)).is_ok());
    }
}
