//! The keys of access tokens: one that signs, and those it took the place of, which only verify and only for
//! as long as a token of theirs may be good.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::time::Timestamp;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::DecodePrivateKey;
use jsonwebtoken::crypto;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use serde_json::{Value, json};
use services::digest::sha256_hex;
use sha2::{Digest, Sha256};

use super::KeyError;

/// What to sign with.
pub enum Key {
    /// EdDSA, the default: an Ed25519 private key as PKCS#8 DER.
    Ed25519(Vec<u8>),
    /// HS256: at least 32 bytes nobody can guess.
    Hs256(Vec<u8>),
}

/// An Ed25519 key that does not sign any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retired {
    /// Its public half.
    pub public: [u8; 32],
    /// Nothing it signed is good from then on.
    pub until: Timestamp,
}

/// All of them.
pub(super) struct Ring {
    pub algorithm: Algorithm,
    signing: EncodingKey,
    verifying: DecodingKey,
    pub kid: String,
    /// Absent for a secret.
    public: Option<[u8; 32]>,
    retired: Vec<(String, DecodingKey, Retired)>,
}

impl Ring {
    /// A key that signs and those that only verify. A secret has none of those: its algorithm is another.
    pub fn new(key: &Key, retired: Vec<Retired>) -> Result<Ring, KeyError> {
        let (algorithm, signing, verifying, kid, public) = match key {
            Key::Ed25519(der) => {
                let public = SigningKey::from_pkcs8_der(der).map_err(|_| KeyError::NotEd25519)?.verifying_key();
                let public = public.to_bytes();
                let verifying = DecodingKey::from_ed_der(&public);
                (Algorithm::EdDSA, EncodingKey::from_ed_der(der), verifying, digest(&public), Some(public))
            }
            Key::Hs256(secret) if secret.len() < 32 => return Err(KeyError::Short(secret.len())),
            Key::Hs256(secret) => {
                let (signing, verifying) = (EncodingKey::from_secret(secret), DecodingKey::from_secret(secret));
                (Algorithm::HS256, signing, verifying, digest(&Sha256::digest(secret)), None)
            }
        };
        let retired = retired.into_iter().filter(|old| public.is_some_and(|public| public != old.public));
        let retired = retired.map(|old| (digest(&old.public), DecodingKey::from_ed_der(&old.public), old)).collect();
        let ring = Ring { algorithm, signing, verifying, kid, public, retired };
        // The library reads the key when it signs; better now than at the first login.
        ring.sign("").map_err(|_| KeyError::NotEd25519)?;
        Ok(ring)
    }

    /// The key called `kid`, if what it signed may still be good.
    pub fn verifying(&self, kid: &str, now: Timestamp) -> Option<&DecodingKey> {
        if kid == self.kid {
            return Some(&self.verifying);
        }
        let found = self.retired.iter().find(|(name, _, old)| name == kid && now < old.until);
        found.map(|(_, key, _)| key)
    }

    /// Signs a token's first two parts.
    pub fn sign(&self, message: &str) -> jsonwebtoken::errors::Result<String> {
        crypto::sign(message.as_bytes(), &self.signing, self.algorithm)
    }

    /// The one algorithm there is.
    pub fn algorithm_name(&self) -> &'static str {
        if self.algorithm == Algorithm::HS256 { "HS256" } else { "EdDSA" }
    }

    /// Source: RFC 7517, RFC 8037 (OKP).
    pub fn jwks(&self, now: Timestamp) -> Value {
        let old = self.retired.iter().filter(|(_, _, old)| now < old.until).map(|(_, _, old)| old.public);
        let jwk = |public: [u8; 32]| {
            let (kid, x) = (digest(&public), URL_SAFE_NO_PAD.encode(public));
            json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": kid, "x": x })
        };
        json!({ "keys": self.public.into_iter().chain(old).map(jwk).collect::<Vec<_>>() })
    }
}

/// A key's name: 16 hex digits of its SHA-256. Of a secret, the digest of the digest.
fn digest(bytes: &[u8]) -> String {
    let mut name = sha256_hex(bytes);
    name.truncate(16);
    name
}
