//! The operators' door: HTTP in, services asked, problems and DTOs out.
//!
//! Invariant: nothing is decided here that a service could decide; nothing a service says reaches a
//! caller but through `problem` and `views`.

mod app;
pub mod authorize;
pub mod body;
mod described;
mod doors;
mod edge;
mod guesses;
pub mod external;
mod instant;
pub mod json;
pub mod jwt;
mod large;
pub mod metrics;
mod openapi;
#[cfg(feature = "oidc")]
pub mod oidc;
pub mod pace;
mod page;
pub mod passwords;
pub mod problem;
pub mod proxies;
mod query;
mod request;
pub mod routes;
mod sessions;
mod streams;
#[cfg(test)]
mod tests;
mod views;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::from_fn_with_state;
use tower_http::compression::CompressionLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};

pub use app::{Deps, Options, Readiness};

use app::App;
use problem::{Code, Problem};

/// The whole door. Serve it with `into_make_service_with_connect_info::<SocketAddr>()`, or put a
/// `ConnectInfo` into each request's extensions: login limits and the audit log need the peer.
pub fn router(deps: Deps, options: Options) -> Router {
    let cors = cors(&options.origins);
    let app = App::new(deps, options, openapi::document);
    let mut router = routes::router()
        .fallback(async || Problem::not_found("page"))
        .method_not_allowed_fallback(async |request: Request| {
            let detail = format!("{} is not allowed here; see the `Allow` header for what is", request.method());
            Problem::new(Code::MethodNotAllowed, detail)
        })
        .with_state(app.clone());
    if let Some(cors) = cors {
        router = router.layer(cors);
    }
    router.layer(from_fn_with_state(app, edge::edge)).layer(CompressionLayer::new())
}

/// Off unless origins are listed, and then for exactly those.
fn cors(origins: &[String]) -> Option<CorsLayer> {
    let listed: Vec<HeaderValue> = origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect();
    let named = HeaderName::from_static;
    let ours = ["x-output-gaps", "x-output-offset", "x-output-next-offset", "x-output-total", "idempotency-replayed"];
    let standard = ["preference-applied", "ratelimit", "ratelimit-policy"];
    let exposed = ours.into_iter().chain(standard).map(named).chain([
        header::ETAG,
        header::LOCATION,
        header::RETRY_AFTER,
        request::REQUEST_ID,
        request::TRACEPARENT,
    ]);
    let sent = ["idempotency-key", "last-event-id", "prefer"].into_iter().map(named).chain([
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        request::REQUEST_ID,
        request::TRACEPARENT,
    ]);
    (!listed.is_empty()).then(|| {
        CorsLayer::new()
            .allow_origin(AllowOrigin::list(listed))
            .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
            .allow_headers(sent.collect::<Vec<_>>())
            .expose_headers(exposed.collect::<Vec<_>>())
    })
}
