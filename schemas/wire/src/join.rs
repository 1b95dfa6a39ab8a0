//! How a machine enrols: one POST to [`PATH`] on the agents' listener, before any session.

use serde::{Deserialize, Serialize};

/// Where the agents' listener takes a join.
pub const PATH: &str = "/agent/v1/join";
/// Most bytes of a join's body.
pub const MAX_JOIN_BYTES: usize = 8 * 1024;

/// Body of a join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// The whole join token: `vwj_<id>_<secret>_<pin>`.
    pub token: String,
    /// The name it asks for.
    pub name: String,
    /// Its Ed25519 public key, base64url without padding.
    pub public_key: String,
    /// Ed25519 over `viworks-join-v1\0`, the token, a NUL and the name; base64url without padding.
    pub proof: String,
}

/// Answer to a join, status 201.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// Its id from now on.
    pub agent_id: String,
    /// The installation.
    pub cluster_id: String,
    /// The key that signs commands: Ed25519, base64url without padding. The agent pins it.
    pub cluster_key: String,
    /// Where to open sessions.
    pub ws_url: String,
    /// Where the host gives agents certificates: one for the key that joined, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
}
