//! The description of this door, OpenAPI 3.1: made of the route table, of the bodies' own schemas and of
//! the verbs that are loaded. A route is described by its row in `routes` and its line in `operations`.

mod document;
pub(crate) mod operations;
mod parameters;
mod problems;
mod shape;
mod verbs;

pub use document::document;
