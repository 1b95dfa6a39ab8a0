//! Keys on disk: the cluster's signing key, the token key and the key of the audit log, made at first start, 0600, never in
//! the store. A key that others can read is refused at start.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey as _;
use plan::envelope::{key_text, sign};
use plan::id::CommandId;
use plan::secret;
use ports::seal::{Notary, Vault};

/// The key that seals the audit log, in the data directory.
pub const AUDIT_KEY: &str = "keys/audit.key";
/// The key that keeps secret arguments, in the data directory.
pub const SECRET_KEY: &str = "keys/secret.key";

/// The key that seals the audit log.
pub struct AuditKey(SigningKey);

impl AuditKey {
    /// Reads the key in the data directory, or makes one.
    ///
    /// # Errors
    /// See [`load_or_make`].
    pub fn in_data(data: &Path) -> anyhow::Result<Arc<dyn Notary>> {
        Ok(Arc::new(AuditKey(load_or_make(&data.join(AUDIT_KEY))?)))
    }
}

impl fmt::Debug for AuditKey {
    /// The public half only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuditKey({})", self.public_key())
    }
}

impl Notary for AuditKey {
    fn sign(&self, bytes: &[u8]) -> String {
        sign(&self.0, &[bytes])
    }

    fn public_key(&self) -> String {
        key_text(&self.0.verifying_key())
    }
}

/// The key that keeps secret arguments.
pub struct SecretKey {
    key: [u8; 32],
    sha256: fn(&[u8]) -> String,
    /// Its name beside what it wrapped: the first 16 hex digits of its SHA-256.
    id: String,
}

impl SecretKey {
    /// Reads the key in the data directory, or makes one.
    ///
    /// # Errors
    /// See [`load_or_make`].
    pub fn in_data(data: &Path, sha256: fn(&[u8]) -> String) -> anyhow::Result<SecretKey> {
        let key = load_or_make(&data.join(SECRET_KEY))?.to_bytes();
        Ok(SecretKey { key, sha256, id: sha256(&key).chars().take(16).collect() })
    }

    fn context(&self, command: CommandId) -> String {
        format!("viworks-secret-key-v1\0{command}\0{}", self.id)
    }
}

impl Vault for SecretKey {
    fn wrap(&self, command: CommandId, key: &[u8; 32], nonce: [u8; 24]) -> String {
        format!("{}.{}", self.id, secret::seal(&self.key, nonce, &self.context(command), key))
    }

    fn unwrap(&self, command: CommandId, wrapped: &str) -> Option<[u8; 32]> {
        let (id, sealed) = wrapped.split_once('.')?;
        let key = (id == self.id).then(|| secret::open(&self.key, &self.context(command), sealed))??;
        key.try_into().ok()
    }

    fn digest(&self, text: &str) -> String {
        // Two inputs of fixed length behind the key: what is hashed can be neither split otherwise nor extended.
        let text = (self.sha256)(text.as_bytes());
        (self.sha256)(&[&self.key[..], b"viworks-digest-v1", text.as_bytes()].concat())
    }
}

/// Makes `dir` if it is not there, for its owner only. One that is there is left as it is: what must
/// stay private in it is 0600 by itself, and checked.
///
/// # Errors
/// It cannot be made.
pub fn private_dir(dir: &Path) -> anyhow::Result<()> {
    if !dir.exists() {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.with_context(|| format!("data directory {} cannot be made", dir.display()))?;
    }
    Ok(())
}

/// Reads the Ed25519 key in `path`, or makes one.
///
/// # Errors
/// Not readable, readable by others, or not 32 bytes.
pub fn load_or_make(path: &Path) -> anyhow::Result<SigningKey> {
    if path.exists() {
        let bytes = read_private(path)?;
        let Ok(seed) = <[u8; 32]>::try_from(bytes.as_slice()) else {
            bail!("{} is not a key: {} bytes instead of 32", path.display(), bytes.len());
        };
        return Ok(SigningKey::from_bytes(&seed));
    }
    let seed: [u8; 32] = rand::random();
    write_private(path, &seed)?;
    Ok(SigningKey::from_bytes(&seed))
}

/// Reads a file that only its owner can read.
///
/// # Errors
/// Others can, or nobody.
pub fn read_private(path: &Path) -> anyhow::Result<Vec<u8>> {
    closed_to_others(path)?;
    fs::read(path).with_context(|| format!("{} cannot be read", path.display()))
}

/// Refuses a file that others than its owner may read.
///
/// # Errors
/// It is one, or cannot be looked at.
pub fn closed_to_others(path: &Path) -> anyhow::Result<()> {
    let mode = fs::metadata(path).with_context(|| format!("{} cannot be read", path.display()))?.mode();
    if mode & 0o077 != 0 {
        bail!("{} is open to others (mode {:o}); run: chmod 600 {}", path.display(), mode & 0o777, path.display());
    }
    Ok(())
}

/// Writes a file that only its owner can read, whole or not at all.
///
/// # Errors
/// It cannot be written.
pub fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let temporary = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(dir) => fs::File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    };
    write().with_context(|| format!("{} cannot be written", path.display()))
}

/// The key in the form that token libraries read.
///
/// # Errors
/// Never, for a key that exists.
pub fn pkcs8(key: &SigningKey) -> anyhow::Result<Vec<u8>> {
    Ok(key.to_pkcs8_der().context("key has no PKCS#8 form")?.as_bytes().to_vec())
}
