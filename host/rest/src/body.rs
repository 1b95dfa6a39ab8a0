//! Request bodies: of the right type, of bounded size, strictly JSON, of the right shape.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use serde::de::DeserializeOwned;

use crate::json;
use crate::problem::{Code, Problem};

/// Most bytes of a body.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;

/// Longest from a request's headers to the end of its body.
pub const BODY_WITHIN: Duration = Duration::from_secs(30);

/// A JSON body.
#[derive(Debug)]
pub struct Strict<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Strict<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        check_type(&parts.headers)?;
        let bytes = bounded(&parts.headers, body).await?;
        let value = json::read(&bytes)?;
        // A list would be taken for an object's fields in their order.
        if !value.is_object() {
            return Err(Problem::new(Code::InvalidBody, "the body has to be a JSON object"));
        }
        json::shape(value).map(Strict)
    }
}

/// The body of a route that takes none: nothing, or an empty object.
#[derive(Debug)]
pub struct Nothing;

impl<S: Sync> FromRequest<S> for Nothing {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let bytes = bounded(&parts.headers, body).await?;
        if bytes.is_empty() {
            return Ok(Nothing);
        }
        check_type(&parts.headers)?;
        match json::read(&bytes)? {
            serde_json::Value::Object(fields) => match fields.keys().next() {
                None => Ok(Nothing),
                Some(field) => {
                    let field = field.replace('~', "~0").replace('/', "~1");
                    Err(Problem::at(Code::UnknownField, format!("/{field}"), "this route takes no fields"))
                }
            },
            _ => Err(Problem::new(Code::InvalidBody, "this route takes no body, or an empty object")),
        }
    }
}

fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let refuse = |detail: &str| Err(Problem::new(Code::UnsupportedMediaType, detail));
    if headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return refuse("compressed bodies are not read; send it without `Content-Encoding`");
    }
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(content_type), None) = (types.next(), types.next()) else {
        return refuse("send exactly one `Content-Type: application/json`");
    };
    let mut parts = content_type.to_str().unwrap_or_default().split(';').map(str::trim);
    let json = parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    let utf8 = parts.all(|parameter| {
        let value = parameter.split_once('=').filter(|(name, _)| name.eq_ignore_ascii_case("charset"));
        value.is_some_and(|(_, charset)| charset.trim_matches('"').eq_ignore_ascii_case("utf-8"))
    });
    if json && utf8 { Ok(()) } else { refuse("send `Content-Type: application/json`, in UTF-8") }
}

async fn bounded(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let too_large = || Problem::new(Code::BodyTooLarge, format!("a body has at most {MAX_BODY_BYTES} bytes"));
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > MAX_BODY_BYTES as u64) {
        return Err(too_large());
    }
    let read = tokio::time::timeout(BODY_WITHIN, to_bytes(body, MAX_BODY_BYTES)).await;
    let read =
        read.map_err(|_| Problem::new(Code::BodyTimeout, format!("the body took over {} s", BODY_WITHIN.as_secs())))?;
    read.map_err(|error| {
        let mut source: Option<&dyn std::error::Error> = Some(&error);
        while let Some(inner) = source {
            if inner.to_string().contains("length limit exceeded") {
                return too_large();
            }
            source = inner.source();
        }
        Problem::new(Code::InvalidJson, "the body ended before its end")
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    async fn send(content_type: &[&str], body: impl Into<Body>) -> Result<BTreeMap<String, u32>, Code> {
        let mut request = Request::builder().method("POST");
        for value in content_type {
            request = request.header(header::CONTENT_TYPE, *value);
        }
        let request = request.body(body.into()).expect("a request");
        Strict::from_request(request, &()).await.map(|Strict(body)| body).map_err(|problem| problem.code)
    }

    #[tokio::test]
    async fn only_json_in_utf8_is_read() {
        for good in ["application/json", "Application/JSON; charset=utf-8", "application/json;charset=\"UTF-8\""] {
            assert_eq!(send(&[good], r#"{"a":1}"#).await, Ok(BTreeMap::from([("a".into(), 1)])), "{good}");
        }
        let bad: [&[&str]; 6] = [
            &[],
            &["text/plain"],
            &["application/json; charset=latin1"],
            &["application/jsonp"],
            &["application/x-www-form-urlencoded"],
            &["application/json", "application/json"],
        ];
        for types in bad {
            assert_eq!(send(types, "{}").await, Err(Code::UnsupportedMediaType), "{types:?}");
        }
    }

    #[tokio::test]
    async fn a_body_is_an_object_and_nothing_that_could_be_taken_for_one() {
        for other in ["[]", "[1]", "null", "1", "\"a\""] {
            assert_eq!(send(&["application/json"], other).await, Err(Code::InvalidBody), "{other}");
        }
    }

    #[tokio::test]
    async fn a_body_is_read_to_its_limit_and_no_further() {
        let padded = |length: usize| format!("{{}}{}", " ".repeat(length - 2));
        assert_eq!(send(&["application/json"], padded(MAX_BODY_BYTES)).await, Ok(BTreeMap::new()));
        assert_eq!(send(&["application/json"], padded(MAX_BODY_BYTES + 1)).await, Err(Code::BodyTooLarge));
        let endless = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 4096])));
        assert_eq!(send(&["application/json"], Body::from_stream(endless)).await, Err(Code::BodyTooLarge));
    }
}
