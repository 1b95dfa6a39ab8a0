//! Lists: a page of items and where the next one begins.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Items of a page when the caller does not say.
pub const DEFAULT_LIMIT: u32 = 50;
/// Most items of a page.
pub const MAX_LIMIT: u32 = 500;

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Give this as `cursor` to get the next page; null at the end.
    pub next_cursor: Option<String>,
}
