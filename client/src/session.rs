//! Which access token to send, and how it is renewed.
//!
//! Invariant: a refresh token is good for one use, so it is spent only while the vault is ours, and
//! its successor is stored before anybody else may look.

use std::sync::Arc;

use api::auth::{Refresh, Tokens};
use chrono::{DateTime, TimeDelta, Utc};

use crate::Client;
use crate::error::ClientError;
use crate::vault::{Held, VaultError};

/// A token that ends within this is renewed before it is sent.
const MARGIN_SECONDS: i64 = 5;

impl Held {
    /// What a login or a renewal answered, at `now`.
    pub fn from_tokens(tokens: Tokens, now: DateTime<Utc>) -> Held {
        let Tokens { access_token, token_type: _, expires_in, refresh_token } = tokens;
        let life = i64::try_from(expires_in).ok().and_then(TimeDelta::try_seconds);
        Held {
            access_token,
            refresh_token: Some(refresh_token),
            expires_at: life.and_then(|life| now.checked_add_signed(life)),
        }
    }

    fn is_over(&self, now: DateTime<Utc>) -> bool {
        self.expires_at.is_some_and(|end| now + TimeDelta::seconds(MARGIN_SECONDS) >= end)
    }
}

impl Client {
    /// The access token to send now; renewed first when it is about to end.
    pub(crate) async fn access_token(&self) -> Result<String, ClientError> {
        let held = self.vault.read()?.ok_or_else(|| self.not_logged_in("there is no login"))?;
        if held.refresh_token.is_some() && held.is_over(Utc::now()) {
            return self.renew(&held.access_token).await;
        }
        Ok(held.access_token)
    }

    /// A successor of `stale`, made by us or by whoever was quicker.
    pub(crate) async fn renew(&self, stale: &str) -> Result<String, ClientError> {
        let vault = Arc::clone(&self.vault);
        // Waiting for a file lock blocks, and the other process may be waiting for the network.
        let mut exchange = tokio::task::spawn_blocking(move || vault.begin())
            .await
            .map_err(|_| VaultError("waiting for the lock on the logins was interrupted".to_owned()))??;
        let held = exchange.read()?.ok_or_else(|| self.not_logged_in("logged out meanwhile"))?;
        if held.access_token != stale && !held.is_over(Utc::now()) {
            return Ok(held.access_token);
        }
        let Some(refresh_token) = held.refresh_token else {
            return Err(self.not_logged_in("the token is no longer accepted"));
        };
        let tokens = match self.refresh(&Refresh { refresh_token }).await {
            Ok(tokens) => tokens,
            Err(ClientError::Problem { problem, .. }) if matches!(problem.status, 400 | 401 | 403 | 422) => {
                return Err(self.not_logged_in("the login is over"));
            }
            Err(other) => return Err(other),
        };
        let fresh = Held::from_tokens(tokens, Utc::now());
        exchange.write(&fresh)?;
        Ok(fresh.access_token)
    }

    /// Whether a refused token could be renewed.
    pub(crate) fn is_renewable(&self) -> bool {
        matches!(self.vault.read(), Ok(Some(Held { refresh_token: Some(_), .. })))
    }

    pub(crate) fn not_logged_in(&self, why: &str) -> ClientError {
        ClientError::NotLoggedIn { server: self.server.to_string(), why: why.to_owned() }
    }
}
