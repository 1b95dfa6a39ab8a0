//! Users and their grants, for those who manage them.

use std::cmp::Ordering;

use api::access::{Grants as GrantsBody, NewGrants, UserPatch};
use api::auth::{NewUser as NewUserBody, User as UserBody};
use api::page::Page;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use services::accounts::{NewUser, UserWish};

use crate::app::App;
use crate::authorize::{Authorized, ManageUsers};
use crate::body::Strict;
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
    Strict(body): Strict<NewUserBody>,
) -> Result<Response, Problem> {
    let NewUserBody { name, password, role, grants } = body;
    let grants = grants.map(views::access::grants_of).transpose()?;
    let new = NewUser { name, password, role: views::access::role_of(&role)?, grants };
    let user = app.accounts.create(&who.caller, new, &who.origin).await?;
    Ok(located(StatusCode::CREATED, &format!("/api/v1/users/{}", user.id), views::access::user(&user)))
}

/// `GET /users/{user}`
pub async fn show(
    who: Authorized<ManageUsers>,
    State(app): State<App>,
    In(user): In<String>,
) -> Result<Json<UserBody>, Problem> {
    Ok(Json(views::access::user(&app.accounts.show(&who.caller, &user).await?)))
}

/// `PATCH /users/{user}`
pub async fn change(
    who: Authorized<ManageUsers>,
    State(app): State<App>,
    In(user): In<String>,
    Strict(body): Strict<UserPatch>,
) -> Result<Json<UserBody>, Problem> {
    let UserPatch { role, grants, password, end_logins } = body;
    let role = role.as_deref().map(views::access::role_of).transpose()?;
    let grants = grants.map(views::access::grants_of).transpose()?;
    let wish = UserWish { role, grants, password, end_logins: end_logins.unwrap_or(false) };
    let user = app.accounts.change(&who.caller, &user, wish, &who.origin).await?;
    app.changed(user.id);
    Ok(Json(views::access::user(&user)))
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
) -> Result<Json<GrantsBody>, Problem> {
    Ok(Json(views::access::grants(&app.accounts.show(&who.caller, &user).await?)))
}

/// `PUT /grants/{user}`
pub async fn set_grants(
    who: Authorized<ManageUsers>,
    State(app): State<App>,
    In(user): In<String>,
    Strict(NewGrants { grants }): Strict<NewGrants>,
) -> Result<Json<GrantsBody>, Problem> {
    let wish = UserWish { grants: Some(views::access::grants_of(grants)?), ..UserWish::default() };
    let user = app.accounts.change(&who.caller, &user, wish, &who.origin).await?;
    app.changed(user.id);
    Ok(Json(views::access::grants(&user)))
}

/// `DELETE /users/{user}`
pub async fn delete(
    who: Authorized<ManageUsers>,
    State(app): State<App>,
    In(user): In<String>,
) -> Result<StatusCode, Problem> {
    let deleted = app.accounts.delete(&who.caller, &user, &who.origin).await?;
    app.changed(deleted);
    Ok(StatusCode::NO_CONTENT)
}
