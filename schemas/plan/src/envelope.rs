//! The signed envelope: proof, made once at acceptance, that an authorised submitter asked one agent
//! for one plan. The agent checks it against the cluster key it pinned when it joined, so whoever
//! holds only the database can delay work but not invent it.
//!
//! As in JWS, the bytes that are sent are the bytes that are signed: nobody re-serialises them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::effect::Effect;
use crate::id::{AgentId, ClusterId, CommandId};
use crate::secret::{self, KeyText, Secrets};
use crate::step::Plan;

/// Put before the envelope's bytes when signing, so that no other signature can pass for this one.
pub const COMMAND_CONTEXT: &[u8] = b"viworks-command-v1\0";
/// Put before cluster id, agent id and nonce when an agent signs its HELLO.
pub const HELLO_CONTEXT: &[u8] = b"viworks-hello-v1\0";
/// Begins what an agent signs to put one key in the place of another.
pub const ROTATE_CONTEXT: &[u8] = b"viworks-rotate-v1\0";
/// Put before cluster id and epoch when the cluster proves its epoch.
pub const EPOCH_CONTEXT: &[u8] = b"viworks-epoch-v1\0";
/// Put before the token and the agent's name when a joining agent proves that it holds its key.
pub const JOIN_CONTEXT: &[u8] = b"viworks-join-v1\0";

/// What was agreed to at acceptance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// The installation that accepted the command.
    pub cluster_id: ClusterId,
    /// Raised when an old backup is restored; an agent refuses an epoch below the highest it has seen.
    pub epoch: u64,
    /// The command.
    pub command_id: CommandId,
    /// The one agent this is for.
    pub agent_id: AgentId,
    /// Name of the verb, for the record.
    pub verb: String,
    /// SHA-256 of the plugin that made the plan, lower-case hex.
    pub plugin_digest: String,
    /// What to do.
    pub plan: Plan,
    /// Ceilings the agent enforces.
    pub limits: RunLimits,
    /// Not to be started after this instant: milliseconds since 1970-01-01 UTC, host's clock.
    pub not_after_ms: i64,
    /// Highest attempt number that may ever be started.
    pub max_attempts: u32,
    /// Who asked: a user's name.
    pub submitter: String,
    /// Values that the plan names by placeholders; absent when there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Secrets>,
}

impl Envelope {
    /// The values of its secrets, by the key that came with it.
    ///
    /// # Errors
    /// A sentence: the key is missing, or not theirs.
    pub fn secrets(&self, key: Option<&KeyText>) -> Result<BTreeMap<String, String>, &'static str> {
        let Some(secrets) = &self.secrets else { return Ok(BTreeMap::new()) };
        let key =
            key.and_then(|KeyText(text)| URL_SAFE_NO_PAD.decode(text).ok()).and_then(|bytes| bytes.try_into().ok());
        let key: [u8; 32] = key.ok_or("its secrets came without their key")?;
        let open = |(token, sealed): (&String, &String)| {
            let clear = secret::open(&key, &secret::value_context(self.command_id, token), sealed)?;
            Some((token.clone(), String::from_utf8(clear).ok()?))
        };
        secrets
            .values
            .iter()
            .map(open)
            .collect::<Option<_>>()
            .ok_or("its secrets do not open under the key that came with it")
    }
}

/// Ceilings on one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunLimits {
    /// The whole attempt is killed after this long. Milliseconds, at least 1.
    pub run_timeout_ms: u64,
    /// Bytes kept of each stream, head and tail together.
    pub output_bytes: u64,
    /// From TERM to KILL when an attempt is ended. Milliseconds.
    pub grace_ms: u64,
}

/// An envelope in the form it is stored and sent in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedEnvelope {
    /// base64url without padding of the envelope's JSON bytes.
    pub signed: String,
    /// base64url without padding of the Ed25519 signature over [`COMMAND_CONTEXT`] and those bytes.
    pub signature: String,
}

/// Why an envelope is not to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// One of the two parts is not base64url.
    #[error("envelope is not base64url text")]
    Encoding,
    /// The signature is not the pinned key's over these bytes.
    #[error("signature does not match the pinned cluster key")]
    Signature,
    /// A former cluster key signed it, and for longer than that key was good.
    #[error("signed by a former cluster key, for longer than that key was good")]
    Retired,
    /// The bytes are signed but are no envelope this version knows.
    #[error("signed bytes are not a command envelope")]
    Content,
}

/// Signs `envelope` with the cluster's key.
pub fn seal(envelope: &Envelope, key: &SigningKey) -> SignedEnvelope {
    seal_with(envelope, |bytes| key.sign(bytes).to_bytes())
}

/// The same by whatever makes Ed25519 signatures of the cluster's key.
pub fn seal_with(envelope: &Envelope, sign: impl FnOnce(&[u8]) -> [u8; 64]) -> SignedEnvelope {
    let mut bytes = COMMAND_CONTEXT.to_vec();
    serde_json::to_writer(&mut bytes, envelope).expect("an envelope holds nothing that JSON cannot");
    let signature = sign(&bytes);
    let signed = URL_SAFE_NO_PAD.encode(&bytes[COMMAND_CONTEXT.len()..]);
    SignedEnvelope { signed, signature: URL_SAFE_NO_PAD.encode(signature) }
}

impl SignedEnvelope {
    /// Checks the signature, and only then reads the envelope.
    ///
    /// # Errors
    /// See [`EnvelopeError`].
    pub fn open(&self, key: &VerifyingKey) -> Result<Envelope, EnvelopeError> {
        let bytes = URL_SAFE_NO_PAD.decode(&self.signed).map_err(|_| EnvelopeError::Encoding)?;
        verify(key, &[COMMAND_CONTEXT, &bytes], &self.signature)?;
        serde_json::from_slice(&bytes).map_err(|_| EnvelopeError::Content)
    }

    /// What it says of its plan, whoever signed it: enough to order what is sent and to ask whether somebody may
    /// still have it, never to let it run. What cannot be read says nothing.
    pub fn claims(&self) -> Claims {
        let bytes = URL_SAFE_NO_PAD.decode(&self.signed).unwrap_or_default();
        serde_json::from_slice(&bytes).map(|Claiming { plan }| plan).unwrap_or_default()
    }
}

/// What [`SignedEnvelope::claims`] reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Claims {
    /// The plan's effect.
    pub effect: Option<Effect>,
    /// The lock keys it names.
    pub locks: Vec<String>,
}

#[derive(Deserialize)]
struct Claiming {
    plan: Claims,
}

/// Signs the concatenation of `parts`; base64url without padding.
pub fn sign(key: &SigningKey, parts: &[&[u8]]) -> String {
    URL_SAFE_NO_PAD.encode(key.sign(&parts.concat()).to_bytes())
}

/// Checks a signature over the concatenation of `parts`.
///
/// # Errors
/// [`EnvelopeError::Encoding`] when `signature` is not base64url of 64 bytes, [`EnvelopeError::Signature`]
/// when it is somebody else's or over something else.
pub fn verify(key: &VerifyingKey, parts: &[&[u8]], signature: &str) -> Result<(), EnvelopeError> {
    let bytes = URL_SAFE_NO_PAD.decode(signature).map_err(|_| EnvelopeError::Encoding)?;
    let signature = Signature::from_slice(&bytes).map_err(|_| EnvelopeError::Encoding)?;
    key.verify_strict(&parts.concat(), &signature).map_err(|_| EnvelopeError::Signature)
}

/// What an agent signs to open a session: [`HELLO_CONTEXT`], the cluster id and the agent id as
/// hyphenated text, and the 32 bytes of the host's nonce.
pub fn hello_parts(cluster: ClusterId, agent: AgentId, nonce: &[u8]) -> Vec<u8> {
    [HELLO_CONTEXT, cluster.to_string().as_bytes(), agent.to_string().as_bytes(), nonce].concat()
}

/// What the cluster signs to prove its epoch: [`EPOCH_CONTEXT`], the cluster id as hyphenated text, a NUL, and
/// the epoch in decimal digits.
pub fn epoch_parts(cluster: ClusterId, epoch: u64) -> Vec<u8> {
    [EPOCH_CONTEXT, cluster.to_string().as_bytes(), b"\0", epoch.to_string().as_bytes()].concat()
}

/// What an agent signs, with the key it has and with the one it made, to have the second take the first one's
/// place: [`ROTATE_CONTEXT`], the cluster id and the agent id as hyphenated text, the first key's text, a NUL, the
/// second key's text.
pub fn rotate_parts(cluster: ClusterId, agent: AgentId, from: &str, to: &str) -> Vec<u8> {
    let (cluster, agent) = (cluster.to_string(), agent.to_string());
    [ROTATE_CONTEXT, cluster.as_bytes(), agent.as_bytes(), from.as_bytes(), b"\0", to.as_bytes()].concat()
}

/// What a joining agent signs: [`JOIN_CONTEXT`], the token, a NUL, and the name it asks for.
pub fn join_parts(token: &str, name: &str) -> Vec<u8> {
    [JOIN_CONTEXT, token.as_bytes(), b"\0", name.as_bytes()].concat()
}

/// A public key as text: base64url without padding of its 32 bytes.
pub fn key_text(key: &VerifyingKey) -> String {
    URL_SAFE_NO_PAD.encode(key.as_bytes())
}

/// Reads a public key written by [`key_text`]; weak keys are refused.
///
/// # Errors
/// [`EnvelopeError::Encoding`] when `text` is not such a key.
pub fn parse_key(text: &str) -> Result<VerifyingKey, EnvelopeError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| EnvelopeError::Encoding)?;
    let bytes: [u8; 32] = bytes.try_into().map_err(|_| EnvelopeError::Encoding)?;
    let key = VerifyingKey::from_bytes(&bytes).map_err(|_| EnvelopeError::Encoding)?;
    if key.is_weak() { Err(EnvelopeError::Encoding) } else { Ok(key) }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::effect::Effect;
    use crate::step::Step;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn envelope() -> Envelope {
        Envelope {
            cluster_id: ClusterId(Uuid::from_u128(1)),
            epoch: 1,
            command_id: CommandId(Uuid::from_u128(2)),
            agent_id: AgentId(Uuid::from_u128(3)),
            verb: "exec.run".into(),
            plugin_digest: "00".repeat(32),
            plan: Plan {
                steps: vec![Step::new("uname")],
                effect: Effect::Host,
                locks: Vec::new(),
                summary: "x".into(),
            },
            limits: RunLimits { run_timeout_ms: 1000, output_bytes: 1 << 20, grace_ms: 5000 },
            not_after_ms: 1_700_000_000_000,
            max_attempts: 1,
            submitter: "admin".into(),
            secrets: None,
        }
    }

    #[test]
    fn what_was_sealed_opens_under_the_same_key_only() {
        let sealed = seal(&envelope(), &key(7));
        assert_eq!(sealed.open(&key(7).verifying_key()), Ok(envelope()));
        assert_eq!(sealed.open(&key(8).verifying_key()), Err(EnvelopeError::Signature));
    }

    #[test]
    fn no_single_changed_byte_opens() {
        let sealed = seal(&envelope(), &key(7));
        let bytes = URL_SAFE_NO_PAD.decode(&sealed.signed).expect("base64url");
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            let forged =
                SignedEnvelope { signed: URL_SAFE_NO_PAD.encode(&changed), signature: sealed.signature.clone() };
            assert_eq!(forged.open(&key(7).verifying_key()), Err(EnvelopeError::Signature), "byte {index}");
        }
    }

    #[test]
    fn a_hello_signature_is_no_command_signature() {
        let bytes = serde_json::to_vec(&envelope()).expect("serializes");
        let signature = sign(&key(7), &[HELLO_CONTEXT, &bytes]);
        let forged = SignedEnvelope { signed: URL_SAFE_NO_PAD.encode(&bytes), signature };
        assert_eq!(forged.open(&key(7).verifying_key()), Err(EnvelopeError::Signature));
    }

    #[test]
    fn keys_read_back_and_weak_ones_do_not() {
        let public = key(7).verifying_key();
        assert_eq!(parse_key(&key_text(&public)), Ok(public));
        assert!(parse_key(&URL_SAFE_NO_PAD.encode([0u8; 32])).is_err());
        assert!(parse_key("short").is_err());
    }
}
