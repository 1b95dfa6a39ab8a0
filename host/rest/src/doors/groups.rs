//! Saved groups: see, save, change, delete.

use std::cmp::Ordering;

use api::group::{Group as GroupBody, GroupPatch, NewGroup};
use api::page::Page;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::time::Timestamp;
use services::groups::Shown;

use crate::app::App;
use crate::authorize::{Authorized, ManageGroups, ReadGroups};
use crate::body::Strict;
use crate::doors::{In, located};
use crate::page::Asked;
use crate::problem::{Code, Problem};
use crate::query::Query;
use crate::request::single;
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
    Ok(tagged(shown, Some(agents), |body| Json(body).into_response()))
}

/// `POST /groups`
pub async fn create(
    who: Authorized<ManageGroups>,
    State(app): State<App>,
    Strict(body): Strict<NewGroup>,
) -> Result<Response, Problem> {
    let NewGroup { name, expr, description } = body;
    let shown = app.groups.create(&who.caller, &name, &expr, description, &who.origin).await?;
    let location = format!("/api/v1/groups/{name}");
    Ok(tagged(shown, None, |body| located(StatusCode::CREATED, &location, body)))
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
    let if_at = if_match(&headers)?;
    let shown = app.groups.change(&who.caller, &name, expr.as_deref(), description, if_at, &who.origin).await?;
    Ok(tagged(shown, None, |body| Json(body).into_response()))
}

/// `DELETE /groups/{group}`
pub async fn delete(
    who: Authorized<ManageGroups>,
    State(app): State<App>,
    In(name): In<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    app.groups.delete(&who.caller, &name, if_match(&headers)?, &who.origin).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// An answer with the tag of the state it shows.
fn tagged(shown: Shown, agents: Option<u64>, answer: impl FnOnce(GroupBody) -> Response) -> Response {
    let tag = format!("\"{}\"", shown.group.changed_at.0);
    let mut response = answer(views::group::group(shown, agents));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// The state that `If-Match` asks for; `*` is any.
fn if_match(headers: &HeaderMap) -> Result<Option<Timestamp>, Problem> {
    if !headers.contains_key(header::IF_MATCH) {
        return Ok(None);
    }
    let refuse = || Problem::new(Code::InvalidHeader, "`If-Match` takes `*`, or the one tag that `ETag` gave");
    let value = single(headers, &header::IF_MATCH).map(str::trim).ok_or_else(refuse)?;
    if value == "*" {
        return Ok(None);
    }
    let tag = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).filter(|tag| !tag.contains('"'));
    // A tag that was never given out is one of no state there is.
    Ok(Some(Timestamp(tag.ok_or_else(refuse)?.parse().unwrap_or(i64::MIN))))
}
