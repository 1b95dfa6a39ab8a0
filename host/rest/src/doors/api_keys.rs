//! API keys: one's own for everybody, everybody's for admins.

use std::cmp::Ordering;
use std::time::Duration;

use api::access::{ApiKey as ApiKeyBody, MadeApiKey, NewApiKey};
use api::page::Page;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use ports::api_keys::ApiKey;
use services::api_keys::NewKey;

use crate::app::App;
use crate::authorize::{Authorized, OwnAccount, OwnLogin};
use crate::body::Strict;
use crate::doors::once::{self, Once};
use crate::doors::{In, id, located};
use crate::page::Asked;
use crate::problem::Problem;
use crate::query::Query;
use crate::views;

/// `GET /api-keys`
pub async fn list(
    who: Authorized<OwnAccount>,
    State(app): State<App>,
    query: Query,
) -> Result<Json<Page<ApiKeyBody>>, Problem> {
    let asked = Asked::read(&query, "api-keys")?;
    let keys = app.keys.list(&who.caller).await?;
    let page = asked.slice(keys, Ordering::Greater, |key| key.id.to_string());
    Ok(Json(Asked::shown(page, |key| views::access::api_key(&key))))
}

/// `POST /api-keys`
pub async fn create(
    who: Authorized<OwnLogin>,
    State(app): State<App>,
    headers: HeaderMap,
    Strict(body): Strict<NewApiKey>,
) -> Result<Response, Problem> {
    let digest = once::digest(&body)?;
    let made = |key: &ApiKey| once::secret(location(key));
    let keep = match once::ask(&app, &who.caller, &headers, "POST /api/v1/api-keys", digest, made).await? {
        Once::Again(response) => return Ok(response),
        Once::First(keep) => keep,
    };
    let NewApiKey { name, role, grants, ttl_s } = body;
    let role = role.as_deref().map(views::access::role_of).transpose()?;
    let grants = grants.map(views::access::grants_of).transpose()?;
    let new = NewKey { name, role, grants, life: ttl_s.map(Duration::from_secs) };
    let (key, secret) = app.keys.create(&who.caller, new, keep, &who.origin).await?;
    let about = views::access::api_key(&key);
    Ok(located(StatusCode::CREATED, &location(&key), MadeApiKey { key: secret, about }))
}

fn location(key: &ApiKey) -> String {
    format!("/api/v1/api-keys/{}", key.id)
}

/// `DELETE /api-keys/{id}`
pub async fn revoke(
    who: Authorized<OwnAccount>,
    State(app): State<App>,
    In(key): In<String>,
) -> Result<StatusCode, Problem> {
    let revoked = app.keys.revoke(&who.caller, id(&key, "API key")?, &who.origin).await?;
    app.changed(revoked.owner);
    Ok(StatusCode::NO_CONTENT)
}
