//! Tokens of another issuer, as OpenID providers and OAuth servers sign them: checked with the keys of its JWK
//! Set, for its name and our audience, and mapped to a role and sites by their claims.
//!
//! Invariant: nothing in a token names where a key comes from, and each key has one algorithm.
//! Source: RFC 7515, RFC 7517, RFC 7519, RFC 8725, OpenID Connect Core 1.0 section 2.

mod keys;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::access::{Grant, Role};
use domain::time::Timestamp;
use jsonwebtoken::crypto;
use plan::effect::Effect;
use serde_json::{Map, Value};

use crate::external::{External, GUEST_PREFIX, Guest};
use crate::json;
use crate::jwt::{LEEWAY, TokenError};
use keys::Keys;

/// Longest token that is looked at: these carry groups and names.
const MAX_BYTES: usize = 8 * 1024;
/// Most characters of a guest's name.
const NAME_MAX: usize = 128;
/// Most sites and role words that are looked at.
const WORDS_MAX: usize = 1024;

/// Whom to believe, and what their claims mean here.
#[derive(Clone, Debug)]
pub struct Options {
    /// Exactly what `iss` is.
    pub issuer: String,
    /// What `aud` has to name.
    pub audience: String,
    /// Where the keys are.
    pub from: Source,
    /// The claim that names the person.
    pub name_claim: String,
    /// The claim that says what they are.
    pub role_claim: String,
    /// Which role its words stand for.
    pub roles: BTreeMap<String, Role>,
    /// The claim that lists their sites; absent = all.
    pub sites_claim: Option<String>,
    /// What they may cause.
    pub effects: Vec<Effect>,
}

/// Where a JWK Set is.
#[derive(Clone, Debug)]
pub enum Source {
    /// Served.
    Url(String),
    /// On this machine.
    File(PathBuf),
}

/// Reads tokens of one issuer.
pub struct Oidc {
    options: Options,
    keys: Keys,
}

impl Oidc {
    /// Nothing is fetched before the first token comes.
    ///
    /// # Errors
    /// The TLS machinery cannot be set up.
    pub fn new(options: Options) -> Result<Oidc, reqwest::Error> {
        let keys = Keys::new(options.from.clone())?;
        Ok(Oidc { options, keys })
    }

    /// Who a token's claims mean.
    fn guest(&self, claims: &Map<String, Value>, now: Timestamp) -> Result<Guest, TokenError> {
        let Options { issuer, audience, from: _, name_claim, role_claim, roles, sites_claim, effects } = &self.options;
        let ours = claims.get("iss").and_then(Value::as_str) == Some(issuer)
            && words(claims.get("aud")).contains(&audience.as_str());
        let second = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(value) => value.as_i64().map(Some).ok_or(TokenError::Invalid),
        };
        let at = |second: i64| Timestamp::from_millis(second.saturating_mul(1000));
        let expires_at = second("exp")?.map(at).ok_or(TokenError::Invalid)?;
        let early = [second("nbf")?, second("iat")?].into_iter().flatten().any(|second| at(second) > now + LEEWAY);
        let name = claims.get(name_claim).and_then(Value::as_str).ok_or(TokenError::Invalid)?;
        let named = (1..=NAME_MAX).contains(&name.len()) && name.chars().all(|c| c.is_ascii_graphic());
        let role = words(claims.get(role_claim)).into_iter().filter_map(|word| roles.get(word)).max();
        let Some(role) = role.filter(|_| ours && !early && named) else { return Err(TokenError::Invalid) };
        if expires_at + LEEWAY <= now {
            return Err(TokenError::Expired);
        }
        let sites = match sites_claim {
            None => vec!["*".to_owned()],
            Some(claim) => words(claims.get(claim)).into_iter().map(str::to_owned).collect(),
        };
        let grant = Grant { sites, verbs: vec!["*".to_owned()], effects: effects.clone() };
        Ok(Guest { name: format!("{GUEST_PREFIX}{name}"), role: *role, grants: vec![grant], expires_at })
    }
}

#[async_trait]
impl External for Oidc {
    async fn read(&self, token: &str, now: Timestamp) -> Result<Guest, TokenError> {
        let invalid = || TokenError::Invalid;
        if token.len() > MAX_BYTES {
            return Err(TokenError::Invalid);
        }
        let (message, signature) = token.rsplit_once('.').ok_or_else(invalid)?;
        let (header, claims) = message.split_once('.').filter(|(_, rest)| !rest.contains('.')).ok_or_else(invalid)?;
        let header = object(header)?;
        let text = |name: &str| header.get(name).and_then(Value::as_str);
        let plain = matches!(text("typ"), None | Some("JWT" | "at+jwt" | "application/at+jwt"));
        if !plain || header.contains_key("crit") || (header.contains_key("typ") && text("typ").is_none()) {
            return Err(TokenError::Invalid);
        }
        // What its claims say is looked at before a key is: a stranger's token must not make us fetch.
        let guest = self.guest(&object(claims)?, now)?;
        let key = self.keys.key(text("kid").ok_or_else(invalid)?, now).await.ok_or_else(invalid)?;
        if text("alg") != Some(key.name) {
            return Err(TokenError::Invalid);
        }
        match crypto::verify(signature, message.as_bytes(), &key.key, key.algorithm) {
            Ok(true) => Ok(guest),
            Ok(false) | Err(_) => Err(TokenError::Invalid),
        }
    }
}

/// Canonical base64url without padding of a JSON object without duplicates.
fn object(part: &str) -> Result<Map<String, Value>, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Invalid)?;
    match json::read(&bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) | Err(_) => Err(TokenError::Invalid),
    }
}

/// A word, or a list of them; what else stands there says nothing.
fn words(claim: Option<&Value>) -> Vec<&str> {
    match claim {
        Some(Value::String(word)) => vec![word],
        Some(Value::Array(list)) => list.iter().take(WORDS_MAX).filter_map(Value::as_str).collect(),
        Some(_) | None => Vec::new(),
    }
}
