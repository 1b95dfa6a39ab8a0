//! Join tokens: one-time permissions to enrol.

use std::cmp::Ordering;
use std::time::Duration;

use api::agent::{JoinToken as JoinTokenBody, MadeJoinToken, NewJoinToken};
use api::page::Page;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use ports::agents::JoinToken;
use services::enrol::Wanted;

use crate::app::App;
use crate::authorize::{Authorized, EnrolAgents};
use crate::body::Strict;
use crate::doors::once::{self, Once};
use crate::doors::{In, id, located};
use crate::page::Asked;
use crate::problem::Problem;
use crate::query::Query;
use crate::views;

/// `GET /join-tokens`
pub async fn list(
    who: Authorized<EnrolAgents>,
    State(app): State<App>,
    query: Query,
) -> Result<Json<Page<JoinTokenBody>>, Problem> {
    let asked = Asked::read(&query, "join-tokens")?;
    let mut tokens = app.enrol.tokens(&who.caller).await?;
    tokens.sort_by_key(|token| std::cmp::Reverse(token.id));
    let page = asked.slice(tokens, Ordering::Greater, |token| token.id.to_string());
    Ok(Json(Asked::shown(page, |token| views::join_token(token, None))))
}

/// `POST /join-tokens`
pub async fn create(
    who: Authorized<EnrolAgents>,
    State(app): State<App>,
    headers: HeaderMap,
    Strict(body): Strict<NewJoinToken>,
) -> Result<Response, Problem> {
    let digest = once::digest(&body)?;
    let made = |token: &JoinToken| once::secret(location(token));
    let keep = match once::ask(&app, &who.caller, &headers, "POST /api/v1/join-tokens", digest, made).await? {
        Once::Again(response) => return Ok(response),
        Once::First(keep) => keep,
    };
    let NewJoinToken { site, labels, ttl_s, needs_approval } = body;
    let wanted = Wanted { site, labels, ttl: ttl_s.map(Duration::from_secs), needs_approval };
    let (token, secret) = app.enrol.create_token(&who.caller, wanted, keep, &who.origin).await?;
    let location = location(&token);
    let made =
        MadeJoinToken { token: views::join_token(token, Some(secret)), agents_url: app.options.agents_url.clone() };
    Ok(located(StatusCode::CREATED, &location, made))
}

fn location(token: &JoinToken) -> String {
    format!("/api/v1/join-tokens/{}", token.id)
}

/// `DELETE /join-tokens/{id}`
pub async fn revoke(
    who: Authorized<EnrolAgents>,
    State(app): State<App>,
    In(token): In<String>,
) -> Result<StatusCode, Problem> {
    app.enrol.revoke_token(&who.caller, id(&token, "join token")?, &who.origin).await?;
    Ok(StatusCode::NO_CONTENT)
}
