//! Errors on their way out: RFC 9457 `application/problem+json`, made in one place.
//!
//! A handler answers with a [`Problem`]; the edge, which knows the request's id, renders it.
//!
//! Invariant: `cause` is for the log. Nothing of it is ever rendered.

mod codes;
mod mapping;

use api::problem::FieldError;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};

pub use codes::{CODES, Code, CodeRow, KINDS, Kind, KindRow};

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Which one of the table.
    pub code: Code,
    /// What is wrong with this request, and what would be right.
    pub detail: String,
    /// Every single fault, when there is more to say than `detail` does.
    pub errors: Vec<FieldError>,
    /// When trying again makes sense, in seconds.
    pub retry_after: Option<u64>,
    /// The tag of the state there is, when another was asked for.
    pub etag: Option<String>,
    /// What really happened, for the log only.
    pub cause: Option<String>,
}

impl Problem {
    /// A problem with one sentence about this request.
    pub fn new(code: Code, detail: impl Into<String>) -> Problem {
        Problem { code, detail: detail.into(), errors: Vec::new(), retry_after: None, etag: None, cause: None }
    }

    /// A problem with one place in the body, or with one query parameter (`?name`).
    pub fn at(code: Code, pointer: impl Into<String>, message: impl Into<String>) -> Problem {
        let (pointer, message) = (pointer.into(), message.into());
        let detail = if pointer.is_empty() { message.clone() } else { format!("{pointer}: {message}") };
        Problem::new(code, detail).with(pointer, message, code.row().name)
    }

    /// The same, with one more fault.
    #[must_use]
    pub fn with(mut self, pointer: impl Into<String>, message: impl Into<String>, keyword: &str) -> Problem {
        self.errors.push(FieldError { pointer: pointer.into(), message: message.into(), keyword: keyword.to_owned() });
        self
    }

    /// Whether the state that `If-Match` asked for is not the one there is.
    pub fn is_stale(&self) -> bool {
        self.code == Code::PreconditionFailed
    }

    /// The same, with the tag of the state there is.
    #[must_use]
    pub fn as_it_is(mut self, tag: Option<String>) -> Problem {
        self.etag = tag;
        self
    }

    /// What does not exist, or is out of the caller's sight: the same words for both.
    pub fn not_found(what: &str) -> Problem {
        Problem::new(Code::NotFound, format!("there is no such {what}, or you may not see it"))
    }

    /// A fault of the host. The caller is told nothing but the request's id.
    pub fn internal(cause: impl Into<String>) -> Problem {
        let detail = "the host made a mistake; its log has the reason under this request's id";
        Problem { cause: Some(cause.into()), ..Problem::new(Code::Internal, detail) }
    }

    /// The body, for the request called `instance`.
    pub fn render(&self, instance: &str) -> api::problem::Problem {
        let row = self.code.row();
        api::problem::Problem {
            r#type: format!("/docs/errors#{}", row.name),
            title: row.title.to_owned(),
            status: row.status,
            detail: self.detail.clone(),
            instance: instance.to_owned(),
            code: row.name.to_owned(),
            errors: self.errors.clone(),
        }
    }

    /// The whole response, for the request called `instance`.
    pub fn respond(&self, instance: &str) -> Response {
        let body = serde_json::to_vec(&self.render(instance)).expect("a problem is plain text fields");
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.code.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        let mut put = |name: HeaderName, value: &'static str| _ = headers.insert(name, HeaderValue::from_static(value));
        match self.code.row().status {
            401 => put(header::WWW_AUTHENTICATE, "Bearer"),
            // What is left of the body is not read, so the connection cannot be used again.
            408 | 413 => put(header::CONNECTION, "close"),
            _ => {}
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(tag) = self.etag.as_deref().and_then(|tag| HeaderValue::from_str(&format!("\"{tag}\"")).ok()) {
            headers.insert(header::ETAG, tag);
        }
        response
    }
}

impl IntoResponse for Problem {
    /// An empty response that carries the problem to the edge, which renders it.
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.code.status();
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_like_this() {
        let problem = Problem::at(Code::InvalidArgs, "/args/limit", "5000 is more than 1000");
        let text = serde_json::to_string_pretty(&problem.render("req-1")).expect("renders");
        insta::assert_snapshot!(text, @r##"
        {
          "type": "/docs/errors#invalid_args",
          "title": "The verb's argument schema refuses the arguments",
          "status": 422,
          "detail": "/args/limit: 5000 is more than 1000",
          "instance": "req-1",
          "code": "invalid_args",
          "errors": [
            {
              "pointer": "/args/limit",
              "message": "5000 is more than 1000",
              "keyword": "invalid_args"
            }
          ]
        }
        "##);
    }

    #[test]
    fn what_went_wrong_inside_stays_inside() {
        let problem = Problem::internal("password=hunter2 at /var/lib/db");
        let text = serde_json::to_string_pretty(&problem.render("req-2")).expect("renders");
        insta::assert_snapshot!(text, @r##"
        {
          "type": "/docs/errors#internal",
          "title": "The host made a mistake",
          "status": 500,
          "detail": "the host made a mistake; its log has the reason under this request's id",
          "instance": "req-2",
          "code": "internal"
        }
        "##);
    }

    #[test]
    fn headers_say_what_to_do_next() {
        let mut limited = Problem::new(Code::RateLimited, "slow down");
        limited.retry_after = Some(7);
        assert_eq!(limited.respond("r").headers()[header::RETRY_AFTER], "7");
        assert_eq!(Problem::new(Code::InvalidToken, "no").respond("r").headers()[header::WWW_AUTHENTICATE], "Bearer");
        assert_eq!(Problem::new(Code::BodyTooLarge, "no").respond("r").headers()[header::CONNECTION], "close");
    }
}
