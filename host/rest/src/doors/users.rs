//! Users and their grants, for those who manage them.

use std::cmp::Ordering;

use api::access::{Grants as GrantsBody, NewGrants, UserPatch};
use api::auth::{NewUser as NewUserBody, User as UserBody};
use api::page::Page;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use domain::access::Caller;
use ports::users::User;
use services::accounts::{AccountError, NewUser, UserWish};
use services::tag;

use crate::app::App;
use crate::authorize::{Authorized, ManageUsers};
use crate::body::Strict;
use crate::doors::once::{self, Once};
use crate::doors::tags::{if_match, must_match, tagged};
use crate::doors::{In, located};
use crate::page::Asked;
use crate::problem::Problem;
use crate::query::Query;
use crate::views;

/// `GET /users`
pub async fn list(
    who: Authorized<ManageUsers>,
    State(app): State<App>,
    query: Query,
) -> Result<Json<Page<UserBody>>, Problem> {
    let asked = Asked::read(&query, "users")?;
    let users = app.accounts.users(&who.caller).await?;
    let page = asked.slice(users, Ordering::Less, |user| user.name.clone());
    Ok(Json(Asked::shown(page, |user| views::access::user(&user))))
}

/// `POST /users`
pub async fn create(
    who: Authorized<ManageUsers>,
    State(app): State<App>,
    headers: HeaderMap,
    Strict(body): Strict<NewUserBody>,
) -> Result<Response, Problem> {
    let made = |user: &User| once::made(StatusCode::CREATED, location(user), &views::access::user(user));
    let digest = once::digest(&body)?;
    let keep = match once::ask(&app, &who.caller, &headers, "POST /api/v1/users", digest, made).await? {
        Once::Again(response) => return Ok(response),
        Once::First(keep) => keep,
    };
    let NewUserBody { name, password, role, grants } = body;
    let grants = grants.map(views::access::grants_of).transpose()?;
    let new = NewUser { name, password, role: views::access::role_of(&role)?, grants };
    let user = app.accounts.create(&who.caller, new, keep, &who.origin).await?;
    Ok(tagged(located(StatusCode::CREATED, &location(&user), views::access::user(&user)), &tag::of(&user)))
}

fn location(user: &User) -> String {
    format!("/api/v1/users/{}", user.id)
}

/// A user with their tag.
fn shown(user: &User) -> Response {
    tagged(Json(views::access::user(user)).into_response(), &tag::of(user))
}

/// A user's grants, with the tag of the user: they are changed as one.
fn granted(user: &User) -> Response {
    tagged(Json(views::access::grants(user)).into_response(), &tag::of(user))
}

/// What came of a change; if it was refused for the state there is, with the tag of that.
async fn now<T>(app: &App, caller: &Caller, user: &str, changed: Result<T, AccountError>) -> Result<T, Problem> {
    let problem = match changed {
        Ok(done) => return Ok(done),
        Err(error) => Problem::from(error),
    };
    if !problem.is_stale() {
        return Err(problem);
    }
    let found = app.accounts.show(caller, user).await;
    Err(problem.as_it_is(found.ok().map(|user| tag::of(&user))))
}

/// `GET /users/{user}`
pub async fn show(
    who: Authorized<ManageUsers>,
    State(app): State<App>,
    In(user): In<String>,
) -> Result<Response, Problem> {
    Ok(shown(&app.accounts.show(&who.caller, &user).await?))
}

/// `PATCH /users/{user}`
pub async fn change(
    who: Authorized<ManageUsers>,
    State(app): State<App>,
    In(user): In<String>,
    headers: HeaderMap,
    Strict(body): Strict<UserPatch>,
) -> Result<Response, Problem> {
    let if_match = if_match(&headers)?;
    let UserPatch { role, grants, password, end_logins } = body;
    let role = role.as_deref().map(views::access::role_of).transpose()?;
    let grants = grants.map(views::access::grants_of).transpose()?;
    let wish = UserWish { role, grants, password, end_logins: end_logins.unwrap_or(false) };
    let changed = app.accounts.change(&who.caller, &user, wish, if_match.as_deref(), &who.origin).await;
    let user = now(&app, &who.caller, &user, changed).await?;
    app.changed(user.id);
    Ok(shown(&user))
}

/// `GET /grants`
pub async fn all_grants(
    who: Authorized<ManageUsers>,
    State(app): State<App>,
    query: Query,
) -> Result<Json<Page<GrantsBody>>, Problem> {
    let asked = Asked::read(&query, "grants")?;
    let users = app.accounts.users(&who.caller).await?;
    let page = asked.slice(users, Ordering::Less, |user| user.name.clone());
    Ok(Json(Asked::shown(page, |user| views::access::grants(&user))))
}

/// `GET /grants/{user}`
pub async fn grants(
    who: Authorized<ManageUsers>,
    State(app): State<App>,
    In(user): In<String>,
) -> Result<Response, Problem> {
    Ok(granted(&app.accounts.show(&who.caller, &user).await?))
}

/// `PUT /grants/{user}`
pub async fn set_grants(
    who: Authorized<ManageUsers>,
    State(app): State<App>,
    In(user): In<String>,
    headers: HeaderMap,
    Strict(NewGrants { grants }): Strict<NewGrants>,
) -> Result<Response, Problem> {
    let if_match = must_match(&headers)?;
    let wish = UserWish { grants: Some(views::access::grants_of(grants)?), ..UserWish::default() };
    let changed = app.accounts.change(&who.caller, &user, wish, if_match.as_deref(), &who.origin).await;
    let user = now(&app, &who.caller, &user, changed).await?;
    app.changed(user.id);
    Ok(granted(&user))
}

/// `DELETE /users/{user}`
pub async fn delete(
    who: Authorized<ManageUsers>,
    State(app): State<App>,
    In(user): In<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let deleted = app.accounts.delete(&who.caller, &user, if_match(&headers)?.as_deref(), &who.origin).await;
    app.changed(now(&app, &who.caller, &user, deleted).await?);
    Ok(StatusCode::NO_CONTENT)
}
