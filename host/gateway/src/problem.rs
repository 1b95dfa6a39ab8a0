//! What is answered on the agents' listener when there is nothing better to answer.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

/// One problem+json answer.
pub fn problem(status: StatusCode, code: &str, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or("problem");
    let body =
        json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail, "code": code });
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}
