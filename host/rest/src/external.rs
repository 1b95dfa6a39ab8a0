//! Callers whom another issuer vouches for: nothing is stored of them, and what they may do stands in their
//! token.

use async_trait::async_trait;
use domain::access::{Caller, Grant, Principal, Role};
use domain::time::Timestamp;

use crate::jwt::TokenError;

/// What every guest's name begins with; no user's name holds a colon.
pub const GUEST_PREFIX: &str = "oidc:";

/// Reads tokens of another issuer.
#[async_trait]
pub trait External: Send + Sync {
    /// What a token says, if it is good at `now`.
    ///
    /// # Errors
    /// Why not, as far as its holder may know.
    async fn read(&self, token: &str, now: Timestamp) -> Result<Guest, TokenError>;
}

/// Somebody another issuer vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Their name, with [`GUEST_PREFIX`].
    pub name: String,
    /// Their role.
    pub role: Role,
    /// Where they may act and with what.
    pub grants: Vec<Grant>,
    /// Useless from then on.
    pub expires_at: Timestamp,
}

impl Guest {
    /// Who is asking. An admin of ours holds every grant; one of another issuer's stays within what it said.
    pub fn caller(&self) -> Caller {
        let Guest { name, role, grants, expires_at: _ } = self.clone();
        let within = (role == Role::Admin).then(|| grants.clone());
        Caller { principal: Principal::Guest, name, role, grants, within }
    }
}
