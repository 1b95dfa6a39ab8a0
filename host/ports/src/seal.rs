//! The host's keys, wherever they are kept. Never in the store.

use std::fmt;

use domain::time::Timestamp;
use plan::envelope::{Envelope, SignedEnvelope};
use plan::id::{AgentId, CommandId};
use plan::keyring::Turn;

use crate::journal::Cluster;

/// Signs what was accepted.
pub trait Seal: Send + Sync {
    /// Who this installation is.
    fn cluster(&self) -> Cluster;

    /// Signs one envelope.
    fn seal(&self, envelope: &Envelope) -> SignedEnvelope;

    /// Opens an envelope read back from the store; `None` when it is not ours, whole and unchanged.
    fn open(&self, envelope: &SignedEnvelope) -> Option<Envelope>;

    /// The cluster's signature over its id and epoch ([`plan::envelope::epoch_parts`]): base64url.
    fn prove_epoch(&self) -> String;

    /// How the key came to be the one it is, from its first on; agents that pinned an older one follow them.
    fn turns(&self) -> Vec<Turn> {
        Vec::new()
    }

    /// The public key agents pin: base64url.
    fn public_key(&self) -> String;

    /// First 16 hex digits of SHA-256 of the public key's 32 bytes; part of every join token, so that an
    /// agent can tell a stranger's host before it trusts it.
    fn pin(&self) -> String;
}

/// The key that seals the audit log.
pub trait Notary: fmt::Debug + Send + Sync {
    /// The signature over `bytes`: Ed25519, base64url.
    fn sign(&self, bytes: &[u8]) -> String;

    /// The public half, by which anybody can check seals: base64url.
    fn public_key(&self) -> String;
}

/// The key that keeps secret arguments at rest.
pub trait Vault: Send + Sync {
    /// Wraps the key of one command's secrets; `nonce` is used once.
    fn wrap(&self, command: CommandId, key: &[u8; 32], nonce: [u8; 24]) -> String;

    /// Unwraps what [`wrap`](Self::wrap) wrapped for this command; `None` for anything else.
    fn unwrap(&self, command: CommandId, wrapped: &str) -> Option<[u8; 32]>;

    /// A digest of what may hold secrets that nobody can guess at who has not the key: 64 hex digits.
    fn digest(&self, text: &str) -> String;
}

/// Vouches for agents' keys by certificates that they show when they connect.
pub trait Authority: Send + Sync {
    /// A certificate for this key of this agent; `None` when it is no key.
    fn certify(&self, agent: AgentId, public_key: &str, now: Timestamp) -> Option<Certificate>;

    /// Whom a certificate (DER) speaks for; `None` when it is over, or nobody here vouches for it.
    fn read(&self, certificate: &[u8], now: Timestamp) -> Option<Badge>;
}

/// A certificate that was made.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// As agents keep it.
    pub pem: String,
    /// As it is shown.
    pub der: Vec<u8>,
}

/// What a certificate proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Badge {
    /// Who it was made for.
    pub agent: AgentId,
    /// And for which key: base64url.
    pub public_key: String,
    /// It is over soon, or whoever vouched for it makes no more of them.
    pub renew: bool,
}
