//! `ETag` and `If-Match`: whoever changes something can say which state of it they have read.
//!
//! A tag stands for what can be changed through this door, not for what changes by itself beside it.

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;

use crate::problem::{Code, Problem};
use crate::request::single;

/// The state that `If-Match` asks for; `*` is any.
///
/// # Errors
/// 400 for what is no tag, or more than one.
pub fn if_match(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    Ok(condition(headers)?.flatten())
}

/// The same, of what may not be changed unseen.
///
/// # Errors
/// 428 when it does not stand; 400 for what is no tag.
pub fn must_match(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    condition(headers)?.ok_or_else(|| {
        let detail = "this replaces all there is: send `If-Match` with the `ETag` you have read, or `*` for any state";
        Problem::new(Code::PreconditionRequired, detail)
    })
}

fn condition(headers: &HeaderMap) -> Result<Option<Option<String>>, Problem> {
    if !headers.contains_key(header::IF_MATCH) {
        return Ok(None);
    }
    let refuse = || Problem::new(Code::InvalidHeader, "`If-Match` takes `*`, or the one tag that `ETag` gave");
    let value = single(headers, &header::IF_MATCH).map(str::trim).ok_or_else(refuse)?;
    if value == "*" {
        return Ok(Some(None));
    }
    let tag = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let tag = tag.filter(|tag| !tag.is_empty() && !tag.contains('"'));
    Ok(Some(Some(tag.ok_or_else(refuse)?.to_owned())))
}

/// An answer with the tag of the state it shows.
pub fn tagged(mut response: Response, tag: &str) -> Response {
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{tag}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Option<Option<Option<String>>> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::IF_MATCH, HeaderValue::from_str(value).expect("a header"));
        }
        condition(&headers).ok()
    }

    #[test]
    fn a_condition_is_one_tag_or_any() {
        assert_eq!(read(&[]), Some(None));
        assert_eq!(read(&["*"]), Some(Some(None)));
        assert_eq!(read(&["\"ab\""]), Some(Some(Some("ab".to_owned()))));
        for bad in [vec![""], vec!["\"\""], vec!["ab"], vec!["\"a\", \"b\""], vec!["\"a\"", "\"a\""], vec!["W/\"a\""]] {
            assert_eq!(read(&bad), None, "{bad:?}");
        }
    }
}
