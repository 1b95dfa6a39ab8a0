//! The keys of access tokens on disk: the one that signs, and those it took the place of, which a running host
//! takes over without a restart.
//!
//! A key that was retired is kept by its public half for as long as a token that it signed may be good.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::time::Timestamp;
use ports::clock::Clock as _;
use ports::journal::{AuditFilter, Journal};
use rest::jwt::{Key, LEEWAY, LIFE_MAX, Retired, Tokens};
use serde::{Deserialize, Serialize};
use services::digest::sha256_hex;
use services::rhythm::Rhythm;
use tokio_util::sync::CancellationToken;

use crate::clock::WallClock;
use crate::config::{Algorithm, Config};
use crate::keys::{self, write_private};
use crate::trail;

/// The signing key, in the data directory.
const KEY: &str = "keys/token.key";
/// The public halves of the keys before it.
const RETIRED: &str = "keys/token.retired.json";
/// Between looks at the files.
const EVERY: Duration = Duration::from_secs(2);
/// What a running host may be behind, and two hosts' clocks apart.
const SLACK: Duration = Duration::from_secs(60);

/// A retired key as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    /// base64url without padding of its 32 bytes.
    public_key: String,
    /// Milliseconds since 1970-01-01 UTC: nothing it signed is good from then on.
    until_ms: i64,
}

/// Makes the tokens of an installation, with the keys there are.
///
/// # Errors
/// Keys that cannot be used, and how to mend them.
pub fn tokens(config: &Config, issuer: String) -> anyhow::Result<Tokens> {
    let life = Duration::from_secs(config.security.access_token_s);
    let (key, retired) = read(config)?;
    let tokens = Tokens::new(&key, issuer, life)?;
    tokens.turn(&key, retired)?;
    Ok(tokens)
}

/// What to sign with, and what was signed with lately.
fn read(config: &Config) -> anyhow::Result<(Key, Vec<Retired>)> {
    match (config.auth.algorithm, &config.auth.secret_file) {
        (Algorithm::HS256, Some(file)) => {
            keys::closed_to_others(file)?;
            let secret = std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
            // One line end is the editor's, not the secret's.
            let secret = secret.strip_suffix(b"\n").unwrap_or(&secret).to_vec();
            Ok((Key::Hs256(secret), Vec::new()))
        }
        (Algorithm::HS256, None) => bail!("auth.secret_file: HS256 takes a secret"),
        (Algorithm::EdDSA, _) => {
            let key = keys::load_or_make(&config.data.dir.join(KEY))?;
            Ok((
                Key::Ed25519(keys::pkcs8(&key)?),
                retired(&config.data.dir)?.iter().map(parsed).collect::<Result<_, _>>()?,
            ))
        }
    }
}

/// What tells the keys apart: the present one first, then those before it. A secret shows as what it makes of a
/// fixed text, so that nothing of it can be read from there.
///
/// # Errors
/// As [`tokens`].
pub fn marks(config: &Config) -> anyhow::Result<Vec<String>> {
    let mark = |public: &[u8]| URL_SAFE_NO_PAD.encode(public);
    if config.auth.algorithm != Algorithm::EdDSA {
        let (Key::Hs256(secret), _) = read(config)? else { return Ok(Vec::new()) };
        return Ok(vec![sha256_hex(&[secret.as_slice(), b"viworks-secret-v1"].concat())]);
    }
    let present = keys::load_or_make(&config.data.dir.join(KEY))?.verifying_key();
    let before = retired(&config.data.dir)?.into_iter().map(|written| written.public_key).rev();
    Ok(std::iter::once(mark(present.as_bytes())).chain(before).collect())
}

fn retired(data: &Path) -> anyhow::Result<Vec<Written>> {
    let path = data.join(RETIRED);
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .with_context(|| format!("{} cannot be read; without it those who are logged in refresh", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

fn parsed(written: &Written) -> anyhow::Result<Retired> {
    let bytes = URL_SAFE_NO_PAD.decode(&written.public_key).ok().and_then(|bytes| bytes.try_into().ok());
    let public = bytes.with_context(|| format!("{RETIRED}: `{}` is not a public key", written.public_key))?;
    Ok(Retired { public, until: Timestamp::from_millis(written.until_ms) })
}

/// Puts a fresh signing key in the place of the present one, whose tokens stay good until they are over.
/// What to tell whoever asked.
///
/// # Errors
/// There is no key to rotate, or a file cannot be written; then the present key stays.
pub fn rotate(config: &Config, now: Timestamp) -> anyhow::Result<String> {
    if config.auth.algorithm != Algorithm::EdDSA {
        bail!(
            "access tokens are signed with the secret in auth.secret_file: write another into it and restart the host"
        );
    }
    let data = &config.data.dir;
    let path = data.join(KEY);
    if !path.exists() {
        bail!("{} is not there: the host makes it when it first starts", path.display());
    }
    let present = keys::load_or_make(&path)?.verifying_key().to_bytes();
    let until = now + LIFE_MAX + LEEWAY + SLACK;
    let mut old: Vec<Written> = retired(data)?.into_iter().filter(|old| old.until_ms > now.as_millis()).collect();
    old.push(Written { public_key: URL_SAFE_NO_PAD.encode(present), until_ms: until.as_millis() });
    // First the old one's public half: cut off in between, it is known twice and nobody is logged out.
    let text = serde_json::to_vec_pretty(&old).context("plain fields")?;
    write_private(&data.join(RETIRED), &text)?;
    let seed: [u8; 32] = rand::random();
    write_private(&path, &seed)?;
    Ok(format!(
        "access tokens are signed with a new key; a running host takes it over within {} s, and tokens of the old \
         key stay good until they are over\n",
        EVERY.as_secs() + 1
    ))
}

/// Takes over what [`rotate`] did while the host runs.
pub struct Follow {
    /// Where it is taken to.
    pub tokens: Arc<Tokens>,
    /// Where keys are.
    pub config: Config,
    /// Where it is recorded.
    pub journal: Arc<dyn Journal>,
}

impl Follow {
    /// Looks again and again until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        // The key may have been rotated while no host ran.
        let mut owed = true;
        let files: [PathBuf; 2] = [KEY, RETIRED].map(|file| self.config.data.dir.join(file));
        let mut seen = stamp(&files);
        let mut rhythm = Rhythm::new(EVERY, stop);
        while rhythm.next().await {
            if owed {
                let recorded = self.record().await;
                owed = recorded.is_err();
                _ = recorded.inspect_err(|error| tracing::debug!(error = format!("{error:#}"), "not on record yet"));
            }
            let now = stamp(&files);
            if now == seen || !files[0].exists() {
                continue;
            }
            let turned = read(&self.config).and_then(|(key, retired)| Ok(self.tokens.turn(&key, retired)?));
            match turned {
                Ok(()) => {
                    tracing::info!("access tokens are signed with another key from now on");
                    (seen, owed) = (now, true);
                }
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "the token key was changed and cannot be used")
                }
            }
        }
    }
}

impl Follow {
    /// Puts on record which key signs, unless it is the first one ever, or is on record: all hosts of a store follow
    /// the same.
    async fn record(&self) -> anyhow::Result<()> {
        let marks = marks(&self.config)?;
        let ([present, _, ..], Algorithm::EdDSA) = (&marks[..], self.config.auth.algorithm) else { return Ok(()) };
        let mut said = trail::entry(WallClock.now(), "system.token_key_rotate");
        said.details = serde_json::json!({ "public_key": present }).to_string();
        let before = AuditFilter { action: Some(said.action.to_owned()), ..AuditFilter::default() };
        let before = self.journal.audits_where(&before, None, 1).await?;
        if before.first().is_none_or(|(_, before)| before.details != said.details) {
            self.journal.audit(said).await?;
        }
        Ok(())
    }
}

/// What tells whether files were replaced.
fn stamp(files: &[PathBuf; 2]) -> [Option<(std::time::SystemTime, u64)>; 2] {
    use std::os::unix::fs::MetadataExt as _;
    files.each_ref().map(|file| {
        let about = std::fs::metadata(file).ok()?;
        Some((about.modified().ok()?, about.ino()))
    })
}

/// Another issuer whose tokens count.
#[cfg(feature = "oidc")]
pub fn external(config: &Config) -> anyhow::Result<Option<Arc<dyn rest::external::External>>> {
    let Some(oidc) = &config.auth.oidc else { return Ok(None) };
    let issuer = rest::oidc::Oidc::new(oidc.options()).context("auth.oidc")?;
    Ok(Some(Arc::new(issuer)))
}

#[cfg(not(feature = "oidc"))]
pub fn external(_: &Config) -> anyhow::Result<Option<Arc<dyn rest::external::External>>> {
    Ok(None)
}

#[cfg(test)]
mod tests {
    use plan::id::UserId;

    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

    fn config(dir: &Path) -> Config {
        let mut config = Config::default();
        config.data.dir = dir.to_owned();
        keys::private_dir(&dir.join("keys")).expect("made");
        config
    }

    #[test]
    fn a_rotated_key_signs_and_the_old_one_still_verifies_for_a_while() {
        let dir = tempfile::tempdir().expect("a folder");
        let config = config(dir.path());
        assert!(rotate(&config, NOW).is_err(), "there is none yet");
        let tokens = tokens(&config, "c".into()).expect("keys");
        let user = UserId(uuid::Uuid::from_u128(1));
        let kid = |token: &str| token.split('.').next().expect("a header").to_owned();
        let old = tokens.issue(user, 1, "l", NOW).expect("issued");
        for _ in 0..2 {
            rotate(&config, NOW).expect("rotated");
        }
        let (key, retired) = read(&config).expect("keys");
        assert_eq!(retired.len(), 2);
        tokens.turn(&key, retired).expect("a key");
        let new = tokens.issue(user, 1, "l", NOW).expect("issued");
        assert_ne!(kid(&old), kid(&new));
        assert!(tokens.read(&old, NOW).is_ok() && tokens.read(&new, NOW).is_ok());
        assert_eq!(tokens.jwks(NOW)["keys"].as_array().map(Vec::len), Some(3));
        let later = NOW + LIFE_MAX + LEEWAY + SLACK;
        assert_eq!(tokens.jwks(later)["keys"].as_array().map(Vec::len), Some(1));
        rotate(&config, later).expect("rotated");
        assert_eq!(retired_count(&config), 1, "what can sign nothing good any more is let go");
    }

    fn retired_count(config: &Config) -> usize {
        retired(&config.data.dir).expect("read").len()
    }

    #[test]
    fn a_secret_that_is_short_or_open_to_others_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a folder");
        let mut config = config(dir.path());
        let file = dir.path().join("secret");
        config.auth.algorithm = Algorithm::HS256;
        config.auth.secret_file = Some(file.clone());
        let said = |config: &Config| format!("{:#}", tokens(config, "c".into()).err().expect("refused"));
        assert!(said(&config).contains("secret"), "not there");
        write_private(&file, &[b'a'; 31]).expect("written");
        assert!(said(&config).contains("31 bytes"), "{}", said(&config));
        write_private(&file, &[&[b'a'; 32][..], b"\n"].concat()).expect("written");
        assert_eq!(tokens(&config, "c".into()).expect("a secret").jwks(NOW)["keys"], serde_json::json!([]));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).expect("set");
        assert!(said(&config).contains("chmod 600"), "{}", said(&config));
        assert!(rotate(&config, NOW).is_err_and(|error| error.to_string().contains("secret_file")));
    }
}
