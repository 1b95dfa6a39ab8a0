//! Who this agent is: its key, made here and never sent anywhere, and what the host answered when it
//! joined.
//!
//! Invariant: both files are 0600; a readable one is refused at start.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{SigningKey, VerifyingKey};
use plan::envelope::{key_text, parse_key};
use plan::id::{AgentId, ClusterId};
use serde::{Deserialize, Serialize};

use crate::certificate;
use crate::line::HostTrust;
use crate::log::sync_parent;
pub use crate::private_file::IdentityError;
use crate::private_file::{read_secret, write_secret};

/// What an agent knows of itself and its cluster.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Who this is.
    pub agent_id: AgentId,
    /// The name it was given.
    pub name: String,
    /// The installation it belongs to.
    pub cluster_id: ClusterId,
    /// The key that signs commands, pinned when joining.
    pub cluster_key: VerifyingKey,
    /// Where sessions are opened.
    pub ws_url: String,
    /// Who is believed to be the host.
    pub host: HostTrust,
    /// Labels given when joining.
    pub labels: BTreeMap<String, String>,
    /// This agent's own key.
    pub key: SigningKey,
    /// One that is to take its place, and may have done so already.
    pub next_key: Option<SigningKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    agent_id: AgentId,
    name: String,
    cluster_id: ClusterId,
    cluster_key: String,
    ws_url: String,
    #[serde(default, skip_serializing_if = "HostTrust::is_empty")]
    host: HostTrust,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// Where the identity of the agent with this data directory lies.
pub fn identity_path(data: &Path) -> PathBuf {
    data.join("identity.json")
}

fn key_path(data: &Path) -> PathBuf {
    data.join("agent.key")
}

fn next_key_path(data: &Path) -> PathBuf {
    data.join("agent.next-key")
}

impl Identity {
    /// Reads the identity in `data`.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn load(data: &Path) -> Result<Identity, IdentityError> {
        let path = identity_path(data);
        let malformed = |message: String| IdentityError::Malformed { path: path.clone(), message };
        let text = read_secret(&path)?.ok_or_else(|| IdentityError::NotJoined(path.clone()))?;
        let file: File = serde_json::from_str(&text).map_err(|error| malformed(error.to_string()))?;
        let cluster_key = parse_key(&file.cluster_key).map_err(|_| malformed("cluster_key is not a key".to_owned()))?;
        let key = load_key(&key_path(data))?
            .ok_or_else(|| malformed("agent.key beside it is missing; join again".to_owned()))?;
        Ok(Identity {
            agent_id: file.agent_id,
            name: file.name,
            cluster_id: file.cluster_id,
            cluster_key,
            ws_url: file.ws_url,
            host: file.host,
            labels: file.labels,
            key,
            next_key: load_key(&next_key_path(data))?,
        })
    }

    /// Writes the identity into `data`; the key is already there.
    ///
    /// # Errors
    /// [`IdentityError::Io`].
    pub fn store(&self, data: &Path) -> Result<(), IdentityError> {
        let file = File {
            agent_id: self.agent_id,
            name: self.name.clone(),
            cluster_id: self.cluster_id,
            cluster_key: key_text(&self.cluster_key),
            ws_url: self.ws_url.clone(),
            host: self.host.clone(),
            labels: self.labels.clone(),
        };
        let mut text = serde_json::to_string_pretty(&file).expect("an identity holds nothing that JSON cannot");
        text.push('\n');
        write_secret(&identity_path(data), &text)
    }
}

/// The key in `data`, made now if there is none: a join that failed half-way goes on with the same key.
///
/// # Errors
/// [`IdentityError`].
pub fn load_or_make_key(data: &Path) -> Result<SigningKey, IdentityError> {
    load_or_make(&key_path(data))
}

/// The key that is to take the other's place, made now if there is none: a rotation that was broken off goes on
/// with the same key.
///
/// # Errors
/// [`IdentityError`].
pub fn load_or_make_next_key(data: &Path) -> Result<SigningKey, IdentityError> {
    load_or_make(&next_key_path(data))
}

/// Puts the next key in the other's place: on disk there are both, or the new one.
///
/// # Errors
/// [`IdentityError::Io`].
pub fn adopt_next_key(data: &Path) -> Result<(), IdentityError> {
    let (from, to) = (next_key_path(data), key_path(data));
    let fail = |doing| {
        let path = from.clone();
        move |source| IdentityError::Io { doing, path, source }
    };
    std::fs::rename(&from, &to).map_err(fail("rename"))?;
    sync_parent(&to).map_err(fail("sync the directory of"))?;
    certificate::adopt_next(data)
}

fn load_or_make(path: &Path) -> Result<SigningKey, IdentityError> {
    if let Some(key) = load_key(path)? {
        return Ok(key);
    }
    let key = SigningKey::from_bytes(&rand::random::<[u8; 32]>());
    write_secret(path, &format!("{}\n", URL_SAFE_NO_PAD.encode(key.to_bytes())))?;
    Ok(key)
}

/// Makes the data directory, 0700.
///
/// # Errors
/// [`IdentityError::Io`].
pub fn make_data_dir(data: &Path) -> Result<(), IdentityError> {
    let fail = |doing| move |source| IdentityError::Io { doing, path: data.to_owned(), source };
    if !data.is_dir() {
        std::fs::create_dir_all(data).map_err(fail("create"))?;
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(data, private).map_err(fail("make private"))?;
    }
    Ok(())
}

fn load_key(path: &Path) -> Result<Option<SigningKey>, IdentityError> {
    let Some(text) = read_secret(path)? else { return Ok(None) };
    let bytes = URL_SAFE_NO_PAD.decode(text.trim()).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    let message = "not an agent's key; move it away and join again".to_owned();
    bytes
        .map(|bytes| Some(SigningKey::from_bytes(&bytes)))
        .ok_or(IdentityError::Malformed { path: path.to_owned(), message })
}
