//! Saved groups.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A saved group: an expression that others take up as `@name`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Group {
    /// Its unique name, which it keeps.
    pub name: String,
    /// Who is meant, as it was written; the grammar is in `docs/api.md`.
    pub expr: String,
    /// What it is for; may be empty.
    pub description: String,
    /// Groups that it names.
    pub uses: Vec<String>,
    /// Groups that name it.
    pub used_by: Vec<String>,
    /// How many agents in your sight it means now; of a single group only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agents: Option<u64>,
    /// Name of the user who made it.
    pub created_by: String,
    /// RFC 3339.
    pub created_at: String,
    /// Name of the user who changed it last.
    pub changed_by: String,
    /// RFC 3339.
    pub changed_at: String,
}

/// Body of `POST /groups`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewGroup {
    /// 1 to 63 of `[a-z0-9._-]`, starting with a letter or digit; none of `all`, `and`, `or`, `not`, `in`.
    #[schema(pattern = "^[a-z0-9][a-z0-9._-]{0,62}$")]
    pub name: String,
    /// Who is meant.
    pub expr: String,
    /// What it is for, a line of at most 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// Body of `PATCH /groups/{group}`. Absent = as it is.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupPatch {
    /// Who is meant from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expr: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}
