//! The keys of another issuer, remembered. A token that names a key nobody knows may mean that they were
//! rotated, and may be anybody's: it makes us look at most once a minute.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::time::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::Source;

/// How long keys are believed without another look.
const FRESH: Duration = Duration::from_secs(600);
/// How long they are believed when every look fails.
const BELIEVED: Duration = Duration::from_secs(24 * 3600);
/// Between two looks at least.
const BETWEEN: Duration = Duration::from_secs(60);
/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer, and most keys in it.
const MAX_BYTES: usize = 256 * 1024;
const MAX_KEYS: usize = 100;
/// An RSA modulus of fewer bytes can be factored in our time.
const RSA_LEAST: usize = 256;

/// A key and the one algorithm it is for.
pub(super) struct Key {
    pub algorithm: Algorithm,
    /// The algorithm's name in headers.
    pub name: &'static str,
    pub key: DecodingKey,
}

type Known = HashMap<String, Arc<Key>>;

/// The keys of one issuer.
pub(super) struct Keys {
    from: Source,
    http: reqwest::Client,
    /// When they were read, and what they were.
    known: RwLock<(Option<Timestamp>, Arc<Known>)>,
    /// When they were last asked for; held while they are.
    asked: Mutex<Option<Timestamp>>,
}

impl Keys {
    pub fn new(from: Source) -> Result<Keys, reqwest::Error> {
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            // Where it points to is not where somebody decided that keys come from.
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Keys { from, http, known: RwLock::default(), asked: Mutex::default() })
    }

    /// The key called `kid`.
    pub async fn key(&self, kid: &str, now: Timestamp) -> Option<Arc<Key>> {
        let (read, found) = self.find(kid);
        if found.is_some() && read.is_some_and(|read| now.is_soon_after(read, FRESH)) {
            return found;
        }
        match (self.asked.try_lock(), &found) {
            (Ok(asked), _) => self.look(asked, now).await,
            // Somebody is looking already; what is known will do meanwhile.
            (Err(_), Some(_)) => {}
            (Err(_), None) => self.look(self.asked.lock().await, now).await,
        }
        let (read, found) = self.find(kid);
        found.filter(|_| read.is_some_and(|read| now.since(read) < BELIEVED))
    }

    async fn look(&self, mut asked: tokio::sync::MutexGuard<'_, Option<Timestamp>>, now: Timestamp) {
        if asked.is_some_and(|last| now.is_soon_after(last, BETWEEN)) {
            return;
        }
        *asked = Some(now);
        match self.fetch().await.and_then(|bytes| read(&bytes)) {
            Ok(known) => *self.known.write().unwrap_or_else(PoisonError::into_inner) = (Some(now), Arc::new(known)),
            Err(why) => tracing::warn!(why, "the keys of the other issuer cannot be read; those of before stand"),
        }
    }

    fn find(&self, kid: &str) -> (Option<Timestamp>, Option<Arc<Key>>) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        (known.0, known.1.get(kid).cloned())
    }

    async fn fetch(&self) -> Result<Vec<u8>, String> {
        let url = match &self.from {
            Source::File(path) => return tokio::fs::read(path).await.map_err(|error| error.to_string()),
            Source::Url(url) => url,
        };
        let mut answer = self.http.get(url).send().await.map_err(|error| error.to_string())?;
        if !answer.status().is_success() {
            return Err(format!("{url} answers {}", answer.status()));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| error.to_string())? {
            if bytes.len() + chunk.len() > MAX_BYTES {
                return Err(format!("{url} answers more than {MAX_BYTES} bytes"));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// What of a JWK Set we can check signatures with; the rest is left out.
fn read(bytes: &[u8]) -> Result<Known, String> {
    let Set { keys } = serde_json::from_slice(bytes).map_err(|_| "what is there is no JWK Set".to_owned())?;
    let keys = keys.into_iter().take(MAX_KEYS).filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
    Ok(keys.filter_map(usable).collect())
}

fn usable(jwk: Jwk) -> Option<(String, Arc<Key>)> {
    if jwk.usage.as_deref().is_some_and(|usage| usage != "sig") {
        return None;
    }
    let alg = jwk.alg.as_deref();
    let (algorithm, name, key) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("OKP", Some("Ed25519")) => {
            let (algorithm, name) = pick(alg, &[(Algorithm::EdDSA, "EdDSA")])?;
            (algorithm, name, DecodingKey::from_ed_components(jwk.x.as_deref()?).ok()?)
        }
        ("EC", Some(curve)) => {
            let of_curve = match curve {
                "P-256" => (Algorithm::ES256, "ES256"),
                "P-384" => (Algorithm::ES384, "ES384"),
                _ => return None,
            };
            let (algorithm, name) = pick(alg, &[of_curve])?;
            (algorithm, name, DecodingKey::from_ec_components(jwk.x.as_deref()?, jwk.y.as_deref()?).ok()?)
        }
        ("RSA", None) => {
            let known = [
                (Algorithm::RS256, "RS256"),
                (Algorithm::RS384, "RS384"),
                (Algorithm::RS512, "RS512"),
                (Algorithm::PS256, "PS256"),
                (Algorithm::PS384, "PS384"),
                (Algorithm::PS512, "PS512"),
            ];
            let (algorithm, name) = pick(alg, &known)?;
            let (n, e) = (jwk.n.as_deref()?, jwk.e.as_deref()?);
            let long = URL_SAFE_NO_PAD.decode(n).is_ok_and(|modulus| modulus.len() >= RSA_LEAST);
            (algorithm, name, DecodingKey::from_rsa_components(n, e).ok().filter(|_| long)?)
        }
        // Never a symmetric one: who can check with it can sign with it.
        _ => return None,
    };
    Some((jwk.kid, Arc::new(Key { algorithm, name, key })))
}

/// The algorithm that a key says it is for, or the usual one of its kind.
fn pick(alg: Option<&str>, known: &[(Algorithm, &'static str)]) -> Option<(Algorithm, &'static str)> {
    match alg {
        None => known.first().copied(),
        Some(alg) => known.iter().find(|(_, name)| *name == alg).copied(),
    }
}
