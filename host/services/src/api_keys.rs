//! API keys: made, listed, revoked, recognised.
//!
//! Invariant: a key's text is told once, to whoever made it; the store sees its digest only.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::access::{Caller, Forbidden, Grant, Permission, Role};
use domain::time::Timestamp;
use plan::id::KeyId;
use ports::api_keys::{ApiKey, ApiKeys};
use ports::clock::{Clock, Ids};
use ports::error::StoreError;
use ports::users::User;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::digest::sha256_hex;
use crate::grants::{self, BadGrant};
use crate::origin::Origin;
use crate::replays::{Keep, kept};
use crate::rhythm::Rhythm;

/// What every key begins with, so that a leaked one can be recognised.
pub const KEY_PREFIX: &str = "vwk_";
/// Characters of a key after its prefix: 32 bytes as base64url.
const KEY_CHARS: usize = 43;
/// How long a key is good when nobody says.
pub const KEY_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
/// The shortest and the longest life of a key.
pub const KEY_LIVES: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(366 * 24 * 3600);
/// Most good keys of one user.
pub const KEYS_MAX: u32 = 100;
/// Most characters of a key's name.
pub const KEY_NAME_MAX: usize = 64;
/// How long a useless key is still listed.
const USELESS_FOR: Duration = Duration::from_secs(30 * 24 * 3600);
/// Between two writes of when keys were used.
const USES_EVERY: Duration = Duration::from_secs(60);
/// Most keys whose use is remembered until then; of more, some use is not written down.
const USES_MAX: usize = 10_000;

/// The use cases.
pub struct KeyRing {
    /// Where keys are kept.
    pub keys: Arc<dyn ApiKeys>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids and secrets.
    pub ids: Arc<dyn Ids>,
    /// Used since it was last written down.
    pub used: Arc<Uses>,
}

/// When keys were used, until it is written down.
#[derive(Debug, Default)]
pub struct Uses(Mutex<HashMap<KeyId, Timestamp>>);

/// A key on the way in.
#[derive(Clone, Debug, Default)]
pub struct NewKey {
    /// What it is for.
    pub name: Option<String>,
    /// At most the caller's; absent = the caller's.
    pub role: Option<Role>,
    /// Narrower than what the caller may; absent = what the caller may, and for an admin's key of a lower role
    /// [`Grant::ordinary`].
    pub grants: Option<Vec<Grant>>,
    /// How long it is good; absent = [`KEY_LIFE`].
    pub life: Option<Duration>,
}

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A value nobody may have.
    #[error("{pointer}: {message}")]
    Invalid {
        /// JSON Pointer into the request.
        pointer: String,
        /// What is wrong and what would be right.
        message: String,
    },
    /// There are enough.
    #[error("you have {KEYS_MAX} good keys, and no more can be made; revoke one first")]
    Full,
    /// No such key, or somebody else's.
    #[error("no such API key")]
    NotFound,
    /// Not allowed to.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<BadGrant> for KeyError {
    fn from(BadGrant { pointer, message }: BadGrant) -> KeyError {
        KeyError::Invalid { pointer, message }
    }
}

impl KeyRing {
    /// Makes a key of the caller's; it and its text.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub async fn create(
        &self,
        caller: &Caller,
        new: NewKey,
        keep: Option<Keep<ApiKey>>,
        origin: &Origin,
    ) -> Result<(ApiKey, String), KeyError> {
        caller.may(Permission::OwnLogin)?;
        let login = || Forbidden::Login { permission: Permission::OwnLogin };
        let owner = caller.principal.user().ok_or_else(login)?;
        let NewKey { name, role, grants, life } = new;
        check_name(name.as_deref())?;
        let role = role.unwrap_or(caller.role);
        if role > caller.role {
            return Err(invalid("/role", format!("above yours, which is {}", caller.role)));
        }
        // As for a new user: what an admin may beyond the ordinary has to be granted in so many words.
        let lesser = caller.role == Role::Admin && role < Role::Admin;
        let grants = grants.or_else(|| lesser.then(|| vec![Grant::ordinary()]));
        if let Some(grants) = &grants {
            grants::check(grants)?;
        }
        let life = check_life(life)?;
        let text = format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(self.ids.secret()));
        let now = self.clock.now();
        let key = ApiKey {
            id: self.ids.key(),
            owner,
            owner_name: caller.name.clone(),
            name,
            sha256: sha256_hex(text.as_bytes()),
            role,
            grants,
            created_at: now,
            expires_at: now + life,
            last_used_at: None,
            revoked_at: None,
        };
        let mut entry = origin.entry(now, "auth.create_api_key", Some(&caller.name));
        entry.resource = Some(("api_key", key.id.to_string()));
        entry.details = json!({ "role": role.as_str(), "life_s": life.as_secs() }).to_string();
        let once = kept(keep.as_ref(), &key);
        match self.keys.create_key(key.clone(), KEYS_MAX, now - USELESS_FOR, entry, once).await {
            Ok(()) => Ok((key, text)),
            Err(StoreError::Conflict(_)) => Err(KeyError::Full),
            Err(error) => Err(error.into()),
        }
    }

    /// The caller's keys, and for an admin everybody's; newest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn list(&self, caller: &Caller) -> Result<Vec<ApiKey>, KeyError> {
        caller.may(Permission::OwnAccount)?;
        let owner = match (caller.may(Permission::ManageUsers), caller.principal.user()) {
            (Ok(()), _) => None,
            (Err(_), Some(owner)) => Some(owner),
            (Err(_), None) => return Ok(Vec::new()),
        };
        Ok(self.keys.api_keys(owner).await?)
    }

    /// Revokes a key, for ever. One that was revoked before stays so.
    ///
    /// # Errors
    /// [`KeyError::NotFound`], also for a key that the caller does not see; the store's.
    pub async fn revoke(&self, caller: &Caller, id: KeyId, origin: &Origin) -> Result<ApiKey, KeyError> {
        caller.may(Permission::OwnAccount)?;
        let key = self.keys.api_key(id).await?.ok_or(KeyError::NotFound)?;
        if Some(key.owner) != caller.principal.user() && caller.may(Permission::ManageUsers).is_err() {
            return Err(KeyError::NotFound);
        }
        let mut entry = origin.entry(self.clock.now(), "auth.revoke_api_key", Some(&caller.name));
        entry.resource = Some(("api_key", id.to_string()));
        self.keys.revoke_key(id, entry).await?;
        Ok(key)
    }

    /// A good key by the digest of its text, and its owner.
    ///
    /// # Errors
    /// The store's.
    pub async fn recognise(&self, sha256: &str) -> Result<Option<(ApiKey, User)>, StoreError> {
        let now = self.clock.now();
        let found = self.keys.key_of(sha256).await?.filter(|(key, _)| key.is_good(now));
        if let Some((key, _)) = &found {
            self.used.note(key.id, now);
        }
        Ok(found)
    }

    /// Writes down now and then when keys were used, until told to stop.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut rhythm = Rhythm::new(USES_EVERY, stop);
        loop {
            let goes_on = rhythm.next().await;
            if let Err(error) = self.write_uses().await {
                tracing::debug!(%error, "when API keys were used could not be written down");
            }
            if !goes_on {
                return;
            }
        }
    }

    /// Writes down when keys were used.
    ///
    /// # Errors
    /// The store's; it is tried again with the next.
    pub async fn write_uses(&self) -> Result<(), StoreError> {
        let uses: Vec<(KeyId, Timestamp)> = std::mem::take(&mut *self.used.lock()).into_iter().collect();
        if uses.is_empty() {
            return Ok(());
        }
        let written = self.keys.keys_used(uses.clone()).await;
        if written.is_err() {
            uses.into_iter().for_each(|(key, at)| self.used.note(key, at));
        }
        written
    }
}

impl Uses {
    fn note(&self, key: KeyId, at: Timestamp) {
        let mut uses = self.lock();
        if uses.len() < USES_MAX || uses.contains_key(&key) {
            let last = uses.entry(key).or_insert(at);
            *last = at.max(*last);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<KeyId, Timestamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a bearer token is meant to be a key; others cost the store no question.
pub fn is_key(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    text.strip_prefix(KEY_PREFIX).is_some_and(|rest| rest.len() == KEY_CHARS && rest.bytes().all(allowed))
}

fn check_life(asked: Option<Duration>) -> Result<Duration, KeyError> {
    let life = asked.unwrap_or(KEY_LIFE);
    if KEY_LIVES.contains(&life) {
        return Ok(life);
    }
    let (least, most) = (KEY_LIVES.start().as_secs(), KEY_LIVES.end().as_secs());
    Err(invalid("/ttl_s", format!("{} s; {least} to {most}", life.as_secs())))
}

fn check_name(name: Option<&str>) -> Result<(), KeyError> {
    let good = |name: &str| (1..=KEY_NAME_MAX).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    match name {
        Some(name) if !good(name) => {
            Err(invalid("/name", format!("a key's name is 1 to {KEY_NAME_MAX} characters on one line")))
        }
        Some(_) | None => Ok(()),
    }
}

fn invalid(pointer: &str, message: impl Into<String>) -> KeyError {
    KeyError::Invalid { pointer: pointer.to_owned(), message: message.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keys_life_and_name_are_held_to_their_edges() {
        assert_eq!(check_life(None), Ok(KEY_LIFE));
        for (seconds, fits) in [(59, false), (60, true), (366 * 86_400, true), (366 * 86_400 + 1, false)] {
            assert_eq!(check_life(Some(Duration::from_secs(seconds))).is_ok(), fits, "{seconds}");
        }
        for (length, fits) in [(0, false), (1, true), (KEY_NAME_MAX, true), (KEY_NAME_MAX + 1, false)] {
            assert_eq!(check_name(Some(&"ö".repeat(length))).is_ok(), fits, "{length}");
        }
        assert!(check_name(None).is_ok() && check_name(Some("a\nb")).is_err());
    }

    #[test]
    fn only_what_looks_like_a_key_is_looked_for() {
        let good = format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode([0xfb; 32]));
        assert!(is_key(&good));
        for bad in ["", "vwk_", "vwr_abc", &good[1..], &good[..46], &format!("{good}A"), &good.replace('_', ".")] {
            assert!(!is_key(bad), "{bad}");
        }
    }

    #[test]
    fn a_name_is_one_short_line() {
        for (name, fits) in
            [("ci", true), ("", false), ("a\nb", false), (&"ö".repeat(64), true), (&"o".repeat(65), false)]
        {
            assert_eq!(check_name(Some(name)).is_ok(), fits, "{name}");
        }
        assert!(check_name(None).is_ok());
    }
}
