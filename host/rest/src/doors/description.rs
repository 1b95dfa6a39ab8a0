//! What tells programs and people about this door.

use std::sync::LazyLock;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::app::App;
use crate::authorize::Anyone;

/// `GET /openapi.json`
pub async fn openapi(_: Anyone, State(app): State<App>, headers: HeaderMap) -> Response {
    let description = app.description.now(app.plugins.as_ref(), &app.options.version);
    let kept = [
        (header::ETAG, description.etag.clone()),
        // May be kept, and is asked about each time: a plugin can change it any second.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    if names(&headers, &description.etag) {
        return (StatusCode::NOT_MODIFIED, kept).into_response();
    }
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    (kept, json, description.body.clone()).into_response()
}

/// The page for people: one file that asks nobody but this host.
struct Page {
    html: String,
    policy: HeaderValue,
}

static PAGE: LazyLock<Page> = LazyLock::new(|| {
    let (style, script) = (include_str!("description/page.css"), include_str!("description/page.js"));
    let html = include_str!("description/page.html").replace("{style}", style).replace("{script}", script);
    // What runs and what dresses is named by its digest, so that nothing else can.
    let digest = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    let policy = format!(
        "default-src 'none'; connect-src 'self'; img-src data:; style-src 'sha256-{}'; script-src 'sha256-{}'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        digest(style),
        digest(script)
    );
    let policy = HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
    Page { html, policy }
});

/// `GET /docs` and `GET /docs/errors`
pub async fn page(_: Anyone) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, PAGE.policy.clone()),
    ];
    (headers, PAGE.html.as_str()).into_response()
}

/// Whether `If-None-Match` names this tag; compared weakly, as RFC 9110 says.
fn names(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(|tag| tag.trim());
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == etag.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_found_among_others_and_in_its_weak_form() {
        let etag = HeaderValue::from_static("\"ab\"");
        let mut headers = HeaderMap::new();
        assert!(!names(&headers, &etag));
        for (value, expected) in [
            ("\"ab\"", true),
            ("W/\"ab\"", true),
            ("\"a\", \"ab\"", true),
            ("*", true),
            ("ab", false),
            ("\"b\"", false),
        ] {
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static(value));
            assert_eq!(names(&headers, &etag), expected, "{value}");
        }
    }
}
