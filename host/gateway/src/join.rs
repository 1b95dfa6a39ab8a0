//! The join route: a machine becomes an agent.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use services::enrol::EnrolError;
use services::origin::Origin;
use wire::join::{Join, Joined, MAX_JOIN_BYTES};

use crate::problem::problem;
use crate::room::Gateway;

/// `POST /agent/v1/join`.
pub async fn join(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    if !text(header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/json")) {
        return problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "send application/json");
    }
    let body = match body {
        Ok(body) => body,
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let detail = format!("a join has at most {MAX_JOIN_BYTES} bytes");
            return problem(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", &detail);
        }
        Err(_) => return problem(StatusCode::BAD_REQUEST, "malformed_body", "the body ended early"),
    };
    let join: Join = match serde_json::from_slice(&body) {
        Ok(join) => join,
        Err(error) => return problem(StatusCode::BAD_REQUEST, "malformed_body", &error.to_string()),
    };
    let origin = Origin {
        correlation_id: String::new(),
        ip_address: Some(peer.ip().to_string()),
        user_agent: text(header::USER_AGENT),
        traceparent: None,
    };
    match gateway.enrol.join(&join.token, &join.name, &join.public_key, &join.proof, &origin).await {
        Ok(agent) => {
            let answer = Joined {
                agent_id: agent.id.to_string(),
                cluster_id: gateway.seal.cluster().id.to_string(),
                cluster_key: gateway.seal.public_key(),
                ws_url: gateway.options.ws_url.clone(),
                certificate: gateway
                    .certificates
                    .as_ref()
                    .and_then(|certificates| certificates.made(agent.id, &agent.public_key))
                    .map(|made| made.pem),
            };
            (StatusCode::CREATED, axum::Json(answer)).into_response()
        }
        Err(error) => refuse(&error),
    }
}

fn refuse(error: &EnrolError) -> Response {
    match error {
        EnrolError::TokenRefused => problem(
            StatusCode::UNAUTHORIZED,
            "join_token_refused",
            "the join token is unknown, used, expired or revoked; make a new one with `viworks agent join-token create`",
        ),
        EnrolError::ProofRefused => problem(
            StatusCode::UNAUTHORIZED,
            "join_proof_refused",
            "proof is not this key's signature over token and name",
        ),
        EnrolError::KeyRetired => problem(
            StatusCode::UNAUTHORIZED,
            "join_key_refused",
            "this key counts no more; join with another: remove agent.key, or name another data directory",
        ),
        EnrolError::Invalid { .. } => problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid_join", &error.to_string()),
        EnrolError::NameTaken(_) => problem(StatusCode::CONFLICT, "agent_name_taken", &error.to_string()),
        EnrolError::Forbidden(_) | EnrolError::NotFound | EnrolError::Revoked(_) => {
            problem(StatusCode::NOT_FOUND, "not_found", "no such route on the agents' listener")
        }
        EnrolError::Store(cause) => {
            tracing::warn!(%cause, "join not stored");
            let detail = "the host's store is away; try again";
            let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", detail);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            response
        }
    }
}
