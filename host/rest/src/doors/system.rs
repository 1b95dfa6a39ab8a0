//! The host itself: how it is and which one it is. No token, so nothing here is secret.

use std::collections::BTreeMap;

use api::system::{Health, Version};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use crate::app::App;
use crate::authorize::Anyone;

/// `GET /health` and `GET /readyz`
pub async fn health(_: Anyone, State(app): State<App>) -> (StatusCode, Json<Health>) {
    let components = (app.readiness)().await;
    // What is degraded costs time and nothing else: the host takes work.
    let well = |word: &String| word == "ok" || word.starts_with("degraded");
    let (code, status) = match components.values().all(well) {
        true if components.values().all(|word| word == "ok") => (StatusCode::OK, "ok"),
        true => (StatusCode::OK, "degraded"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    (code, Json(Health { status: status.to_owned(), components }))
}

/// `GET /livez`
pub async fn alive(_: Anyone) -> Json<Health> {
    Json(Health { status: "ok".to_owned(), components: BTreeMap::new() })
}

/// `GET /version`
pub async fn version(_: Anyone, State(app): State<App>) -> Json<Version> {
    Json(Version {
        name: "viworks-host".to_owned(),
        version: app.options.version.clone(),
        api: vec!["v1".to_owned()],
        cluster_id: app.options.cluster.to_string(),
        tls_pin: app.options.tls_pin.clone(),
    })
}

/// `GET /.well-known/jwks.json`
pub async fn jwks(_: Anyone, State(app): State<App>) -> Json<serde_json::Value> {
    Json(app.tokens.jwks(app.clock.now()))
}
