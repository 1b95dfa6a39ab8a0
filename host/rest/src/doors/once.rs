//! `Idempotency-Key`: reading it, naming the request it stands for, and the reply that is kept.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::access::Caller;
use ports::replies::Reply;
use serde::Serialize;
use services::digest::sha256_hex;
use services::replays::{Asked, KEY_MAX, Keep};
use services::submit::Accepted;

use crate::app::App;
use crate::problem::{Code, Problem};
use crate::views;

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The request's key, if it has one.
fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut keys = headers.get_all(KEY).iter();
    let Some(value) = keys.next() else { return Ok(None) };
    let good = |text: &&str| (1..=KEY_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    match value.to_str().ok().filter(good) {
        Some(text) if keys.next().is_none() => Ok(Some(text.to_owned())),
        _ => {
            let rule = format!("`Idempotency-Key` is one word of 1 to {KEY_MAX} printable ASCII characters");
            Err(Problem::new(Code::InvalidHeader, rule))
        }
    }
}

/// What a body says, not how it is spaced.
pub fn digest(body: &impl Serialize) -> Result<String, Problem> {
    let body = serde_json::to_string(body).map_err(|error| Problem::internal(error.to_string()))?;
    Ok(sha256_hex(body.as_bytes()))
}

/// What a request's key means.
pub enum Once<T> {
    /// It was answered; this is the answer again.
    Again(Response),
    /// It is to be answered, and if it has a key the reply kept.
    First(Option<Keep<T>>),
}

/// Looks up the key of a request to `route` whose body has this digest; `reply` is what will be kept of what comes
/// of it.
pub async fn ask<T>(
    app: &App,
    caller: &Caller,
    headers: &HeaderMap,
    route: &str,
    digest: String,
    reply: impl Fn(&T) -> Reply + Send + Sync + 'static,
) -> Result<Once<T>, Problem> {
    let Some(key) = key(headers)? else { return Ok(Once::First(None)) };
    let request = format!("{route} {digest}");
    Ok(match app.replays.ask(&caller.name, &key, &request).await? {
        Asked::Again(kept) => Once::Again(replayed(kept)),
        Asked::First(first) => Once::First(Some(Keep { first, reply: Box::new(reply) })),
    })
}

/// A reply as it is given and kept.
pub fn made(status: StatusCode, location: String, body: &impl Serialize) -> Reply {
    Reply {
        status: status.as_u16(),
        location: Some(location),
        body: serde_json::to_string(body).expect("an answer is plain fields"),
    }
}

/// The reply to an accepted command.
pub fn accepted(accepted: &Accepted) -> Reply {
    let location = format!("/api/v1/commands/{}", accepted.command.id);
    made(StatusCode::ACCEPTED, location, &views::command::accepted(accepted, accepted.status))
}

/// What is kept of a reply that showed a secret: where that is which was made, and nothing of the secret.
pub fn secret(location: String) -> Reply {
    Reply { status: StatusCode::CONFLICT.as_u16(), location: Some(location), body: "{}".to_owned() }
}

/// A kept reply, given again.
fn replayed(kept: Reply) -> Response {
    let Reply { status, location, body } = kept;
    let mut response = if status == StatusCode::CONFLICT.as_u16() {
        let made = location.as_deref().unwrap_or_default();
        let detail = format!("made was {made}, and its secret was told then; revoke it and make another");
        Problem::new(Code::SecretShown, detail).into_response()
    } else {
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::ACCEPTED);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    };
    let headers = response.headers_mut();
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    if let Some(location) = location.and_then(|location| HeaderValue::from_str(&location).ok()) {
        headers.insert(header::LOCATION, location);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Option<Option<String>> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(KEY, HeaderValue::from_str(value).expect("a header"));
        }
        key(&headers).ok()
    }

    #[test]
    fn a_key_is_one_bounded_word() {
        assert_eq!(read(&[]), Some(None));
        assert_eq!(read(&["a-1"]), Some(Some("a-1".to_owned())));
        assert_eq!(read(&[&"k".repeat(KEY_MAX)]), Some(Some("k".repeat(KEY_MAX))));
        for bad in [vec![""], vec!["a b"], vec!["a", "a"], vec![&*"k".repeat(KEY_MAX + 1)]] {
            assert_eq!(read(&bad), None, "{bad:?}");
        }
    }
}
