//! Saved groups: see, save, change, delete.

use std::cmp::Ordering;

use api::group::{Group as GroupBody, GroupPatch, NewGroup};
use api::page::Page;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use domain::access::Caller;
use domain::time::Timestamp;
use services::groups::{GroupError, Shown};

use crate::app::App;
use crate::authorize::{Authorized, ManageGroups, ReadGroups};
use crate::body::Strict;
use crate::doors::once::{self, Once};
use crate::doors::tags::{if_match, tagged};
use crate::doors::{In, located};
use crate::page::Asked;
use crate::problem::Problem;
use crate::query::Query;
use crate::views;

/// `GET /groups`
pub async fn list(
    who: Authorized<ReadGroups>,
    State(app): State<App>,
    query: Query,
) -> Result<Json<Page<GroupBody>>, Problem> {
    let asked = Asked::read(&query, "groups")?;
    let groups = app.groups.list(&who.caller).await?;
    let page = asked.slice(groups, Ordering::Less, |shown| shown.group.name.to_string());
    Ok(Json(Asked::shown(page, |shown| views::group::group(shown, None))))
}

/// `GET /groups/{group}`
pub async fn show(
    who: Authorized<ReadGroups>,
    State(app): State<App>,
    In(name): In<String>,
) -> Result<Response, Problem> {
    let shown = app.groups.show(&who.caller, &name).await?;
    let agents = app.groups.size(&who.caller, &name).await?;
    Ok(answer(shown, Some(agents), |body| Json(body).into_response()))
}

/// `POST /groups`
pub async fn create(
    who: Authorized<ManageGroups>,
    State(app): State<App>,
    headers: HeaderMap,
    Strict(body): Strict<NewGroup>,
) -> Result<Response, Problem> {
    let made = |shown: &Shown| {
        let location = format!("/api/v1/groups/{}", shown.group.name);
        once::made(StatusCode::CREATED, location, &views::group::group(shown.clone(), None))
    };
    let keep = match once::ask(&app, &who.caller, &headers, "POST /api/v1/groups", once::digest(&body)?, made).await? {
        Once::Again(response) => return Ok(response),
        Once::First(keep) => keep,
    };
    let NewGroup { name, expr, description } = body;
    let shown = app.groups.create(&who.caller, &name, &expr, description, keep, &who.origin).await?;
    let location = format!("/api/v1/groups/{name}");
    Ok(answer(shown, None, |body| located(StatusCode::CREATED, &location, body)))
}

/// `PATCH /groups/{group}`
pub async fn change(
    who: Authorized<ManageGroups>,
    State(app): State<App>,
    In(name): In<String>,
    headers: HeaderMap,
    Strict(body): Strict<GroupPatch>,
) -> Result<Response, Problem> {
    let GroupPatch { expr, description } = body;
    let if_at = if_at(&headers)?;
    let changed = app.groups.change(&who.caller, &name, expr.as_deref(), description, if_at, &who.origin).await;
    let shown = now(&app, &who.caller, &name, changed).await?;
    Ok(answer(shown, None, |body| Json(body).into_response()))
}

/// `DELETE /groups/{group}`
pub async fn delete(
    who: Authorized<ManageGroups>,
    State(app): State<App>,
    In(name): In<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let deleted = app.groups.delete(&who.caller, &name, if_at(&headers)?, &who.origin).await;
    now(&app, &who.caller, &name, deleted).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// An answer with the tag of the state it shows.
fn answer(shown: Shown, agents: Option<u64>, answer: impl FnOnce(GroupBody) -> Response) -> Response {
    let tag = tag_of(&shown);
    tagged(answer(views::group::group(shown, agents)), &tag)
}

fn tag_of(shown: &Shown) -> String {
    shown.group.changed_at.0.to_string()
}

/// What came of a change; if it was refused for the state there is, with the tag of that.
async fn now<T>(app: &App, caller: &Caller, name: &str, changed: Result<T, GroupError>) -> Result<T, Problem> {
    let problem = match changed {
        Ok(done) => return Ok(done),
        Err(error) => Problem::from(error),
    };
    if !problem.is_stale() {
        return Err(problem);
    }
    let found = app.groups.show(caller, name).await;
    Err(problem.as_it_is(found.ok().map(|shown| tag_of(&shown))))
}

/// When the state was written that `If-Match` asks for. A tag that was never given out is one of no state there is.
fn if_at(headers: &HeaderMap) -> Result<Option<Timestamp>, Problem> {
    Ok(if_match(headers)?.map(|tag| Timestamp(tag.parse().unwrap_or(i64::MIN))))
}
