//! The key that signs commands, and how it came to be the one it is. One file holds both, so that they
//! change together: 32 bytes of the key, then, once it was rotated, the turns from the first key on as JSON.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use aws_lc_rs::signature::Ed25519KeyPair;
use bus::local::Local;
use ed25519_dalek::SigningKey;
use plan::envelope::{Envelope, SignedEnvelope, epoch_parts, key_text, parse_key, seal_with, sign};
use plan::id::ClusterId;
use plan::keyring::{Keyring, MAX_TURNS, Turn};
use ports::clock::{Clock as _, Ids as _};
use ports::journal::Cluster;
use ports::seal::Seal;
use serde::{Deserialize, Serialize};
use services::digest::sha256_hex;

use crate::backup;
use crate::clock::{RandomIds, WallClock};
use crate::config::Config;
use crate::keys::{AuditKey, load_or_make, read_private, write_private};
use crate::store::{self, Writing};
use crate::trail;

/// Bytes of a key.
const KEY_BYTES: usize = 32;

/// A cluster's key as its file has it.
pub struct KeyFile {
    key: SigningKey,
    history: History,
}

/// What came before.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct History {
    /// The first key: base64url.
    first: String,
    turns: Vec<Turn>,
}

impl KeyFile {
    /// Reads the key in `path`, or makes one.
    ///
    /// # Errors
    /// Not readable, readable by others, or not what this program writes.
    pub fn load_or_make(path: &Path) -> anyhow::Result<KeyFile> {
        if !path.exists() {
            let key = load_or_make(path)?;
            return Ok(KeyFile { history: History::of(&key), key });
        }
        let bytes = read_private(path)?;
        let Some((seed, rest)) = bytes.split_first_chunk::<KEY_BYTES>() else {
            bail!("{} is not a key: {} bytes instead of {KEY_BYTES}", path.display(), bytes.len());
        };
        let key = SigningKey::from_bytes(seed);
        let history = match rest {
            [] => History::of(&key),
            rest => serde_json::from_slice(rest)
                .with_context(|| format!("{} holds a key and something that is not its history", path.display()))?,
        };
        Ok(KeyFile { key, history })
    }

    /// Makes a new key that the present one signs, and puts it in place; answers its version.
    ///
    /// # Errors
    /// It was rotated too often, or cannot be written; then the present one stays.
    pub fn rotate(&mut self, path: &Path, cluster: ClusterId, at_ms: i64) -> anyhow::Result<u64> {
        let ring = self.ring(cluster)?;
        if self.history.turns.len() >= MAX_TURNS {
            bail!("the key was rotated {MAX_TURNS} times; agents follow no more: begin a new installation");
        }
        let (next, version) = (SigningKey::from_bytes(&rand::random()), ring.version() + 1);
        let turn = Turn::new(cluster, &self.key, &next.verifying_key(), version, at_ms);
        let mut history = self.history.clone();
        history.turns.push(turn);
        let bytes = [next.to_bytes().as_slice(), &serde_json::to_vec(&history)?].concat();
        write_private(path, &bytes)?;
        (self.key, self.history) = (next, history);
        Ok(version)
    }

    fn ring(&self, cluster: ClusterId) -> anyhow::Result<Keyring> {
        let first = parse_key(&self.history.first).context("the cluster's first key is no key")?;
        let ring = Keyring::pinned(first).after(cluster, &self.history.turns);
        let ring =
            ring.context("the turns of the cluster's key do not follow each other; was it another cluster's?")?;
        if *ring.current() != self.key.verifying_key() {
            bail!("the last turn of the cluster's key leads to another key than the one that is there");
        }
        Ok(ring)
    }

    /// The keys there were, the present one first.
    pub fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.history.turns.iter().rev().map(|turn| turn.key.clone()).collect();
        keys.push(self.history.first.clone());
        keys
    }

    /// The first 16 hex digits of SHA-256 of the public key.
    pub fn pin(&self, sha256: fn(&[u8]) -> String) -> String {
        sha256(self.key.verifying_key().as_bytes()).chars().take(16).collect()
    }
}

impl History {
    fn of(first: &SigningKey) -> History {
        History { first: key_text(&first.verifying_key()), turns: Vec::new() }
    }
}

/// The cluster's signing key and who it signs for.
pub struct ClusterKey {
    key: SigningKey,
    /// The same key in the library that signs fastest: one signature for each target is a tenth of a broadcast.
    signer: Ed25519KeyPair,
    ring: Keyring,
    turns: Vec<Turn>,
    cluster: Cluster,
    pin: String,
    epoch_proof: String,
}

impl ClusterKey {
    /// Signs for `cluster` with the key in `file`.
    ///
    /// # Errors
    /// Its history is not that of a key of this cluster.
    pub fn new(file: KeyFile, cluster: Cluster, sha256: fn(&[u8]) -> String) -> anyhow::Result<ClusterKey> {
        let (ring, pin) = (file.ring(cluster.id)?, file.pin(sha256));
        let epoch_proof = sign(&file.key, &[&epoch_parts(cluster.id, cluster.epoch)]);
        let (seed, public) = (file.key.to_bytes(), file.key.verifying_key().to_bytes());
        let signer = Ed25519KeyPair::from_seed_and_public_key(&seed, &public).context("the cluster's key")?;
        Ok(ClusterKey { key: file.key, signer, ring, turns: file.history.turns, cluster, pin, epoch_proof })
    }
}

impl Seal for ClusterKey {
    fn cluster(&self) -> Cluster {
        self.cluster
    }

    fn seal(&self, envelope: &Envelope) -> SignedEnvelope {
        seal_with(envelope, |bytes| self.signer.sign(bytes).as_ref().try_into().expect("64 bytes (RFC 8032)"))
    }

    fn open(&self, envelope: &SignedEnvelope) -> Option<Envelope> {
        let opened = self.ring.open(envelope).ok()?;
        (opened.cluster_id == self.cluster.id).then_some(opened)
    }

    fn prove_epoch(&self) -> String {
        self.epoch_proof.clone()
    }

    fn turns(&self) -> Vec<Turn> {
        self.turns.clone()
    }

    fn public_key(&self) -> String {
        key_text(&self.key.verifying_key())
    }

    fn pin(&self) -> String {
        self.pin.clone()
    }
}

/// Rotates the key of the installation with this configuration, while no host runs on an embedded store, and
/// says what is to be done next.
///
/// # Errors
/// There is no key yet, the store does not say whose it is, or the new key cannot be written.
pub async fn rotate(config: &Config) -> anyhow::Result<String> {
    backup::refuse_unfinished(config)?;
    let path = config.data.dir.join("keys/cluster.key");
    if !path.exists() {
        bail!("{} is not there: no host has run with this configuration yet", path.display());
    }
    let mut file = KeyFile::load_or_make(&path)?;
    let (rows, Writing { task, stop }) =
        store::open(config, Arc::new(Local::default()), AuditKey::in_data(&config.data.dir)?).await?;
    let fresh = ClusterId(RandomIds.command().0);
    let cluster = rows.whole.cluster(fresh).await.context("the store does not say who this installation is")?;
    // Before the key: an entry about a rotation that failed does no harm, one that is missing does.
    let mut said = trail::entry(WallClock.now(), "system.key_rotate");
    said.details = format!("{{\"pin_before\":\"{}\"}}", file.pin(sha256_hex));
    rows.journal.audit(said).await.context("it could not be put on record")?;
    stop.cancel();
    task.await.context("the store did not close cleanly")?;
    let version = file.rotate(&path, cluster.id, WallClock.now().as_millis())?;
    let pin = file.pin(sha256_hex);
    Ok(format!(
        "cluster {}: its signing key has version {version} now, pin {pin}\nrestart the host, and give every other host \
         of this installation the same keys/cluster.key; join tokens made before are of no use any more; make a backup: \
         agents that have followed refuse a host with an older key\n",
        cluster.id
    ))
}

#[cfg(test)]
mod tests {
    use plan::effect::Effect;
    use plan::envelope::RunLimits;
    use plan::id::{AgentId, CommandId};
    use plan::keyring::FORMER_GOOD_MS;
    use plan::step::{Plan, Step};
    use uuid::Uuid;

    use super::*;

    fn cluster() -> Cluster {
        Cluster { id: ClusterId(Uuid::from_u128(1)), epoch: 1 }
    }

    fn envelope(not_after_ms: i64) -> Envelope {
        Envelope {
            cluster_id: cluster().id,
            epoch: 1,
            command_id: CommandId(Uuid::from_u128(2)),
            agent_id: AgentId(Uuid::from_u128(3)),
            verb: "exec.run".into(),
            plugin_digest: "00".repeat(32),
            plan: Plan { steps: vec![Step::new("uname")], effect: Effect::Host, locks: vec![], summary: "x".into() },
            limits: RunLimits { run_timeout_ms: 1000, output_bytes: 1 << 20, grace_ms: 5000 },
            not_after_ms,
            max_attempts: 1,
            submitter: "admin".into(),
            secrets: None,
        }
    }

    fn signer(path: &Path) -> ClusterKey {
        ClusterKey::new(KeyFile::load_or_make(path).expect("a key"), cluster(), sha256_hex).expect("of this cluster")
    }

    #[test]
    fn what_a_former_key_signed_in_its_time_stays_good_and_nothing_longer() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cluster.key");
        let before = signer(&path);
        let (in_time, too_long) = (before.seal(&envelope(FORMER_GOOD_MS + 5)), before.seal(&envelope(i64::MAX)));
        for (version, at_ms) in [(2, 5), (3, 9)] {
            let mut file = KeyFile::load_or_make(&path).expect("a key");
            assert_eq!(file.rotate(&path, cluster().id, at_ms).expect("rotated"), version);
        }
        let now = signer(&path);
        assert_eq!(now.turns().len(), 2);
        assert_ne!(now.pin(), before.pin());
        assert!(now.open(&now.seal(&envelope(i64::MAX))).is_some());
        assert!(now.open(&in_time).is_some(), "its validity was agreed on before");
        assert!(now.open(&too_long).is_none(), "no command is valid for so long");
        assert!(before.open(&now.seal(&envelope(1))).is_none(), "who knows only the former key refuses the new one");
    }

    #[test]
    fn a_key_whose_history_is_another_ones_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cluster.key");
        let mut file = KeyFile::load_or_make(&path).expect("a key");
        file.rotate(&path, cluster().id, 5).expect("rotated");
        let mut bytes = std::fs::read(&path).expect("read");
        bytes[0] ^= 1;
        write_private(&path, &bytes).expect("written");
        let swapped = KeyFile::load_or_make(&path).expect("read");
        assert!(ClusterKey::new(swapped, cluster(), sha256_hex).is_err());
        write_private(&path, &bytes[..40]).expect("written");
        assert!(KeyFile::load_or_make(&path).is_err(), "cut off");
    }
}
