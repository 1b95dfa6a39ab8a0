//! What one may do, and the keys of programs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::Grant;
use crate::words;

/// Answer to `GET /me`: who you are and what you may truly do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Me {
    /// `user`, `api_key`, or `guest` for whom another issuer vouches.
    pub kind: String,
    /// The user's id, with a key its owner's; absent for a guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The user's name.
    pub name: String,
    /// `viewer`, `operator` or `admin`; with a key, the lower of its own and its owner's.
    pub role: String,
    /// What routes may ask for and you have.
    pub permissions: Vec<String>,
    /// Where you see, and what you may cause there. An admin holds every grant; who runs nothing has no effects.
    pub grants: Vec<Grant>,
    /// With a key that has grants of its own: what none of these covers as well may not be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Vec<Grant>>,
    /// The key's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<String>,
    /// RFC 3339: when the key ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// RFC 3339: when the user was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
}

/// Body of `PATCH /users/{user}`; what is absent stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserPatch {
    /// `viewer`, `operator` or `admin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<words::Role>)]
    pub role: Option<String>,
    /// In place of all grants of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants: Option<Vec<Grant>>,
    /// 12 to 256 characters. Ends every login of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 12, max_length = 256)]
    pub password: Option<String>,
    /// Ends every login of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_logins: Option<bool>,
}

/// A user's grants. Items of `GET /grants`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Grants {
    /// The user's id.
    pub user: String,
    /// The user's name.
    pub name: String,
    /// The user's role. An admin holds every grant, whatever is listed.
    pub role: String,
    /// Where they may act and with what.
    pub grants: Vec<Grant>,
}

/// Body of `PUT /grants/{user}`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewGrants {
    /// In place of all grants of before; none = nothing and nowhere.
    pub grants: Vec<Grant>,
}

/// Body of `POST /api-keys`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewApiKey {
    /// What it is for, 1 to 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 64)]
    pub name: Option<String>,
    /// At most yours; absent = yours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<words::Role>)]
    pub role: Option<String>,
    /// The key does nothing beyond these, and nothing beyond your own. Absent = your own; for an admin's key of a
    /// lower role, `read` and `change` everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants: Option<Vec<Grant>>,
    /// How long it is good, in seconds: 60 to 31,622,400 (366 days); absent = 90 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 60, maximum = 31_622_400)]
    pub ttl_s: Option<u64>,
}

/// An API key. Items of `GET /api-keys`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiKey {
    /// Its id.
    pub id: String,
    /// What it is for.
    pub name: Option<String>,
    /// Its owner's id.
    pub user: String,
    /// Its owner's name.
    pub user_name: String,
    /// It does no more than this role may, nor its owner's.
    pub role: String,
    /// It does nothing beyond these; null = what its owner may.
    pub grants: Option<Vec<Grant>>,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339: useless from then on.
    pub expires_at: String,
    /// RFC 3339, a minute behind.
    pub last_used_at: Option<String>,
    /// RFC 3339.
    pub revoked_at: Option<String>,
}

/// Answer to `POST /api-keys`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MadeApiKey {
    /// The key itself, for the `Authorization: Bearer` header. Shown this once.
    pub key: String,
    /// All else about it.
    #[serde(flatten)]
    pub about: ApiKey,
}
