//! Who this agent is: its key, made here and never sent anywhere, and what the host answered when it
//! joined.
//!
//! Invariant: both files are 0600; a readable one is refused at start.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{SigningKey, VerifyingKey};
use plan::envelope::{key_text, parse_key};
use plan::id::{AgentId, ClusterId};
use serde::{Deserialize, Serialize};

use crate::line::HostTrust;
use crate::log::sync_parent;

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
}

/// Why there is no usable identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Nobody joined from here.
    #[error("{} does not exist; join first: viworks-agent join URL --token TOKEN --name NAME --data DIR", .0.display())]
    NotJoined(PathBuf),
    /// Others may read a secret.
    #[error("{} may be read by others (mode {mode:04o}); run chmod 600 {}", .path.display(), .path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file does not say what it should.
    #[error("{}: {message}", .path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The file system said no.
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },
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
        let key = load_key(data)?.ok_or_else(|| malformed("agent.key beside it is missing; join again".to_owned()))?;
        Ok(Identity {
            agent_id: file.agent_id,
            name: file.name,
            cluster_id: file.cluster_id,
            cluster_key,
            ws_url: file.ws_url,
            host: file.host,
            labels: file.labels,
            key,
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
    if let Some(key) = load_key(data)? {
        return Ok(key);
    }
    let key = SigningKey::from_bytes(&rand::random::<[u8; 32]>());
    write_secret(&key_path(data), &format!("{}\n", URL_SAFE_NO_PAD.encode(key.to_bytes())))?;
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

fn load_key(data: &Path) -> Result<Option<SigningKey>, IdentityError> {
    let path = key_path(data);
    let Some(text) = read_secret(&path)? else { return Ok(None) };
    let bytes = URL_SAFE_NO_PAD.decode(text.trim()).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    let message = "not an agent's key; move it away and join again".to_owned();
    bytes.map(|bytes| Some(SigningKey::from_bytes(&bytes))).ok_or(IdentityError::Malformed { path, message })
}

fn read_secret(path: &Path) -> Result<Option<String>, IdentityError> {
    let fail = |source| IdentityError::Io { doing: "read", path: path.to_owned(), source };
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    if metadata.mode() & 0o077 != 0 {
        return Err(IdentityError::Exposed { path: path.to_owned(), mode: metadata.mode() & 0o7777 });
    }
    std::fs::read_to_string(path).map(Some).map_err(fail)
}

/// Writes beside, syncs, renames: the file is either the old one or the new one.
fn write_secret(path: &Path, text: &str) -> Result<(), IdentityError> {
    let fail = |doing| move |source| IdentityError::Io { doing, path: path.to_owned(), source };
    let beside = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&beside).map_err(fail("create"))?;
    file.write_all(text.as_bytes()).map_err(fail("write"))?;
    file.sync_all().map_err(fail("sync"))?;
    std::fs::rename(&beside, path).map_err(fail("rename"))?;
    sync_parent(path).map_err(fail("sync the directory of"))
}
