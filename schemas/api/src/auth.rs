//! Logging in, users and their grants.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::words;

/// Body of `POST /auth/login`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// User name.
    pub name: String,
    /// Password.
    pub password: String,
}

/// Body of `POST /auth/refresh` and `POST /auth/logout`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Refresh {
    /// The latest refresh token of this login.
    pub refresh_token: String,
}

/// Answer to a login or a refresh.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Tokens {
    /// For the `Authorization: Bearer` header.
    pub access_token: String,
    /// `Bearer`.
    pub token_type: String,
    /// The access token's life, in seconds.
    pub expires_in: u64,
    /// Good for one `POST /auth/refresh`.
    pub refresh_token: String,
}

/// A user. Items of `GET /users`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct User {
    /// Its id.
    pub id: String,
    /// Its unique name.
    pub name: String,
    /// `viewer`, `operator` or `admin`.
    pub role: String,
    /// Where it may act and with what.
    pub grants: Vec<Grant>,
    /// RFC 3339.
    pub created_at: String,
}

/// Body of `POST /users`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// 1 to 63 of `[a-z0-9._-]`.
    #[schema(pattern = "^[a-z0-9][a-z0-9._-]{0,62}$")]
    pub name: String,
    /// 12 to 256 characters.
    #[schema(min_length = 12, max_length = 256)]
    pub password: String,
    /// `viewer`, `operator` or `admin`.
    #[schema(value_type = words::Role)]
    pub role: String,
    /// Absent: all sites and verbs, effects `read` and `change`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants: Option<Vec<Grant>>,
}

/// Body of `POST /me/password`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePassword {
    /// The password in force.
    pub current: String,
    /// 12 to 256 characters.
    #[schema(min_length = 12, max_length = 256)]
    pub new: String,
}

/// Where a user may act and with what. `*` stands for any run of characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Site patterns.
    pub sites: Vec<String>,
    /// Verb patterns, e.g. `docker.*`.
    pub verbs: Vec<String>,
    /// `read`, `change`, `destroy`, `host`.
    #[schema(value_type = Vec<words::Effect>)]
    pub effects: Vec<String>,
}
