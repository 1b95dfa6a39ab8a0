//! Access tokens: signed by one key with one algorithm, read strictly.
//!
//! The header is read by us and only picks among our keys, the one in use and those it lately took the
//! place of: it can neither choose an algorithm nor bring or name a key from elsewhere. Every claim is required, typed, and known. The library does
//! the signature and nothing else; time is our clock's.
//! Source: RFC 7515, RFC 7519, RFC 8725 (best practices), RFC 9068 (`at+jwt`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::time::Timestamp;
use jsonwebtoken::crypto;
use plan::id::UserId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

mod ring;

use ring::Ring;
pub use ring::{Key, Retired};

/// Who access tokens are for.
pub const AUDIENCE: &str = "viworks-api";
/// The header's `typ`.
const TYPE: &str = "at+jwt";
/// Longest life of an access token.
pub const LIFE_MAX: Duration = Duration::from_secs(600);
/// How far two hosts' clocks may be apart.
pub const LEEWAY: Duration = Duration::from_secs(30);
/// Most tokens that are remembered; then all are forgotten and read again.
const VERIFIED_MAX: usize = 10_000;
/// Longest token that is looked at.
const MAX_BYTES: usize = 2048;

/// A key that nobody can sign with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not the DER of an Ed25519 private key.
    #[error("the token key is not an Ed25519 private key in PKCS#8 DER")]
    NotEd25519,
    /// Fewer than 32 bytes.
    #[error("the token secret has {0} bytes; HS256 takes at least 32")]
    Short(usize),
    /// The tokens' life is out of range.
    #[error("an access token's life of {0} s is out of range: 1 to 600 s")]
    Life(u64),
}

/// Makes and reads access tokens.
pub struct Tokens {
    ring: RwLock<Arc<Ring>>,
    issuer: String,
    life: Duration,
    verified: Verified,
}

/// What tokens say whose signature was good, by their digests: to read one costs more than all the rest of a request's
/// reading, and it says the same for ever. Whether its key still counts, and its time has come and is not over, is
/// judged anew each time.
#[derive(Default)]
struct Verified(Mutex<HashMap<[u8; 32], Arc<Read>>>);

/// A token that is ours and whole.
struct Read {
    kid: String,
    /// Good from then on.
    from: Timestamp,
    claims: Arc<Claims>,
}

impl Verified {
    fn get(&self, token: &[u8; 32]) -> Option<Arc<Read>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }

    fn add(&self, token: [u8; 32], read: Arc<Read>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= VERIFIED_MAX {
            known.clear();
        }
        known.insert(token, read);
    }
}

/// What a good token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The user.
    pub user: UserId,
    /// The user's token version when it was made.
    pub version: u64,
    /// The token itself.
    pub id: String,
    /// The login it belongs to; it ends with that.
    pub login: String,
    /// Useless from then on.
    pub expires_at: Timestamp,
}

/// Why a token is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It was good once.
    #[error("the token is over; refresh it or log in again")]
    Expired,
    /// It never was, or is not yet.
    #[error("the token is not good")]
    Invalid,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: String,
    typ: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    iss: String,
    aud: String,
    sub: String,
    exp: i64,
    nbf: i64,
    iat: i64,
    jti: String,
    sid: String,
    ver: u64,
}

impl Tokens {
    /// Tokens of the installation called `issuer`, good for `life`.
    ///
    /// # Errors
    /// A key nobody can sign with, or a life out of range.
    pub fn new(key: &Key, issuer: impl Into<String>, life: Duration) -> Result<Tokens, KeyError> {
        if life.as_secs() == 0 || life > LIFE_MAX {
            return Err(KeyError::Life(life.as_secs()));
        }
        let ring = RwLock::new(Arc::new(Ring::new(key, Vec::new())?));
        Ok(Tokens { ring, issuer: issuer.into(), life, verified: Verified::default() })
    }

    /// Signs with another key from now on. Tokens of the retired ones stay good until each is over.
    ///
    /// # Errors
    /// A key nobody can sign with; then nothing changes.
    pub fn turn(&self, key: &Key, retired: Vec<Retired>) -> Result<(), KeyError> {
        let ring = Arc::new(Ring::new(key, retired)?);
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = ring;
        Ok(())
    }

    /// The public keys that tokens may be checked with, as a JWK Set (RFC 7517). Of a secret nothing is shown.
    pub fn jwks(&self, now: Timestamp) -> serde_json::Value {
        self.ring().jwks(now)
    }

    fn ring(&self) -> Arc<Ring> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How long a token is good.
    pub fn life(&self) -> Duration {
        self.life
    }

    /// A token for `user`, as of `version`, of the login called `login`.
    ///
    /// # Errors
    /// The signer's word; none that is known with a key that [`Tokens::new`] took.
    pub fn issue(&self, user: UserId, version: u64, login: &str, now: Timestamp) -> Result<String, String> {
        let second = now.as_millis().div_euclid(1000);
        let life = i64::try_from(self.life.as_secs()).expect("a life is at most 600 s");
        let body = Body {
            iss: self.issuer.clone(),
            aud: AUDIENCE.to_owned(),
            sub: user.to_string(),
            exp: second + life,
            nbf: second,
            iat: second,
            jti: format!("{:032x}", rand::random::<u128>()),
            sid: login.to_owned(),
            ver: version,
        };
        let ring = self.ring();
        let header = Header { alg: ring.algorithm_name().to_owned(), kid: ring.kid.clone(), typ: TYPE.to_owned() };
        let part = |json: Result<Vec<u8>, serde_json::Error>| json.map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
        let header = part(serde_json::to_vec(&header)).map_err(|error| error.to_string())?;
        let body = part(serde_json::to_vec(&body)).map_err(|error| error.to_string())?;
        let message = format!("{header}.{body}");
        let signature = ring.sign(&message).map_err(|error| error.to_string())?;
        Ok(format!("{message}.{signature}"))
    }

    /// What `token` says, if it is ours, whole, and good at `now`.
    ///
    /// # Errors
    /// Why not, as far as its holder may know.
    pub fn read(&self, token: &str, now: Timestamp) -> Result<Arc<Claims>, TokenError> {
        if token.len() > MAX_BYTES {
            return Err(TokenError::Invalid);
        }
        let (ring, whole) = (self.ring(), Sha256::digest(token).into());
        let read = match self.verified.get(&whole) {
            Some(read) if ring.verifying(&read.kid, now).is_some() => read,
            Some(_) => return Err(TokenError::Invalid),
            None => {
                let read = Arc::new(self.verify(token, &ring, now)?);
                self.verified.add(whole, read.clone());
                read
            }
        };
        if read.from > now + LEEWAY {
            return Err(TokenError::Invalid);
        }
        if read.claims.expires_at + LEEWAY <= now {
            return Err(TokenError::Expired);
        }
        Ok(read.claims.clone())
    }

    /// Reads a token that was not met before: its header, its signature, and then what it says.
    fn verify(&self, token: &str, ring: &Ring, now: Timestamp) -> Result<Read, TokenError> {
        let invalid = || TokenError::Invalid;
        let (message, signature) = token.rsplit_once('.').ok_or_else(invalid)?;
        let (header, body) = message.split_once('.').filter(|(_, body)| !body.contains('.')).ok_or_else(invalid)?;
        let Header { alg, kid, typ } = open(header)?;
        if alg != ring.algorithm_name() || typ != TYPE {
            return Err(TokenError::Invalid);
        }
        let key = ring.verifying(&kid, now).ok_or_else(invalid)?;
        if !crypto::verify(signature, message.as_bytes(), key, ring.algorithm).unwrap_or(false) {
            return Err(TokenError::Invalid);
        }
        let Body { iss, aud, sub, exp, nbf, iat, jti, sid, ver } = open(body)?;
        let at = |second: i64| Timestamp::from_millis(second.saturating_mul(1000));
        let short = iat <= exp && at(exp).since(at(iat)) <= self.life;
        let user = sub.parse().map_err(|_| TokenError::Invalid)?;
        let named = [&jti, &sid].iter().all(|name| (1..=64).contains(&name.len()));
        if iss != self.issuer || aud != AUDIENCE || !short || !named {
            return Err(TokenError::Invalid);
        }
        let claims = Claims { user, version: ver, id: jti, login: sid, expires_at: at(exp) };
        Ok(Read { kid, from: at(nbf.max(iat)), claims: Arc::new(claims) })
    }
}

/// Canonical base64url without padding of a JSON object without duplicates.
fn open<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Invalid)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Invalid)
}

#[cfg(test)]
pub(crate) mod tests;
