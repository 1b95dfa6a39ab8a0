//! Users, for those who manage them.

use std::cmp::Ordering;

use api::auth::{NewUser as NewUserBody, User as UserBody};
use api::page::Page;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use services::accounts::NewUser;

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
    Ok(Json(Asked::shown(page, |user| views::user(&user))))
}

/// `POST /users`
pub async fn create(
    who: Authorized<ManageUsers>,
    State(app): State<App>,
    Strict(body): Strict<NewUserBody>,
) -> Result<Response, Problem> {
    let NewUserBody { name, password, role, grants } = body;
    let grants = grants.map(views::grants_of).transpose()?;
    let new = NewUser { name, password, role: views::role_of(&role)?, grants };
    let user = app.accounts.create(&who.caller, new, &who.origin).await?;
    Ok(located(StatusCode::CREATED, &format!("/api/v1/users/{}", user.id), views::user(&user)))
}

/// `DELETE /users/{user}`
pub async fn delete(
    who: Authorized<ManageUsers>,
    State(app): State<App>,
    In(user): In<String>,
) -> Result<StatusCode, Problem> {
    let deleted = app.accounts.delete(&who.caller, &user, &who.origin).await?;
    app.sessions.forget(deleted);
    Ok(StatusCode::NO_CONTENT)
}
