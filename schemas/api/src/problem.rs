//! Errors, as RFC 9457 `application/problem+json`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A link to the code's page in the documentation.
    pub r#type: String,
    /// What kind of problem this is, the same for every occurrence.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong with this request, and what would be right.
    pub detail: String,
    /// The request's id, to be found in the host's log.
    pub instance: String,
    /// Stable, lower snake case.
    pub code: String,
    /// Every single fault, when there is more to say than `detail` does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

/// One fault in a body or query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// JSON Pointer from the body's root, e.g. `/args/limit`; `?name` for a query parameter.
    pub pointer: String,
    /// What is wrong there and what would be right.
    pub message: String,
    /// The schema keyword that said so, or a stable word.
    pub keyword: String,
}
