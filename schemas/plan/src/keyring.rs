//! The cluster's signing keys, one after the other. Each new key is signed by the one before it, so whoever
//! pinned any of them finds the way to the latest, and back to none.
//!
//! ```text
//!   key 1 ──signs──▶ key 2 ──signs──▶ key 3       pinned: any of them; followed: to the last
//! ```
//!
//! Invariant: a version that was followed is never gone back on; a former key is good only for what was
//! signed with it in its time.

use ed25519_dalek::{SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::envelope::{Envelope, EnvelopeError, SignedEnvelope, key_text, parse_key, sign, verify};
use crate::id::ClusterId;

/// Put before cluster id, version, key and instant when a key is signed by the one before it.
pub const KEY_CONTEXT: &[u8] = b"viworks-key-v1\0";
/// Most turns there may be.
pub const MAX_TURNS: usize = 256;
/// How far the validity of what a former key signed may reach beyond its end: longer than any command's.
pub const FORMER_GOOD_MS: i64 = 31 * 24 * 3600 * 1000;

/// One key following another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// The new key's version; the first key of all has 1.
    pub version: u64,
    /// The new key: base64url.
    pub key: String,
    /// When it took over, milliseconds since 1970-01-01 UTC, host's clock.
    pub at_ms: i64,
    /// By the key before it over [`turn_parts`]: base64url.
    pub signature: String,
}

impl Turn {
    /// `former` hands over to `next`, which gets this version.
    pub fn new(cluster: ClusterId, former: &SigningKey, next: &VerifyingKey, version: u64, at_ms: i64) -> Turn {
        let key = key_text(next);
        let signature = sign(former, &[&turn_parts(cluster, version, &key, at_ms)]);
        Turn { version, key, at_ms, signature }
    }
}

/// What a key signs to hand over: [`KEY_CONTEXT`], the cluster id as hyphenated text, a NUL, the new version
/// in decimal digits, a NUL, the new key's text, a NUL, the instant in decimal digits.
pub fn turn_parts(cluster: ClusterId, version: u64, key: &str, at_ms: i64) -> Vec<u8> {
    [KEY_CONTEXT, format!("{cluster}\0{version}\0{key}\0{at_ms}").as_bytes()].concat()
}

/// Why turns are not followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TurnError {
    /// Older than what was followed before.
    #[error("the cluster's key has version {offered}, and version {pinned} was followed before")]
    Older {
        /// The last one offered.
        offered: u64,
        /// Ours.
        pinned: u64,
    },
    /// One is missing or out of order.
    #[error("after version {after} of the cluster's key comes {found}")]
    Gap {
        /// The last good one.
        after: u64,
        /// What came.
        found: u64,
    },
    /// Not signed by the key before it, or no key.
    #[error("version {0} of the cluster's key is not signed by the one before it")]
    Unsigned(u64),
    /// More than [`MAX_TURNS`].
    #[error("{0} turns of the cluster's key; at most {MAX_TURNS}")]
    TooMany(usize),
}

/// Which keys count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Keyring {
    version: u64,
    current: VerifyingKey,
    /// Keys before it, and up to where the validity of what they signed may reach.
    former: Vec<(VerifyingKey, i64)>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Written {
    version: u64,
    key: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    former: Vec<Former>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Former {
    key: String,
    until_ms: i64,
}

impl From<Keyring> for Written {
    fn from(ring: Keyring) -> Written {
        let former = ring.former.iter().map(|(key, until_ms)| Former { key: key_text(key), until_ms: *until_ms });
        Written { version: ring.version, key: key_text(&ring.current), former: former.collect() }
    }
}

impl TryFrom<Written> for Keyring {
    type Error = EnvelopeError;

    fn try_from(written: Written) -> Result<Keyring, EnvelopeError> {
        let former = written.former.iter().map(|former| Ok((parse_key(&former.key)?, former.until_ms)));
        let former = former.collect::<Result<_, EnvelopeError>>()?;
        Ok(Keyring { version: written.version, current: parse_key(&written.key)?, former })
    }
}

impl Keyring {
    /// One key that was pinned. Which version it is shows itself when turns are followed.
    pub fn pinned(key: VerifyingKey) -> Keyring {
        Keyring { version: 1, current: key, former: Vec::new() }
    }

    /// The version of the current key.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The current key.
    pub fn current(&self) -> &VerifyingKey {
        &self.current
    }

    /// The ring after all of `turns`, which are those of the cluster from its first key on.
    ///
    /// # Errors
    /// See [`TurnError`]: nothing of it counts then.
    pub fn after(&self, cluster: ClusterId, turns: &[Turn]) -> Result<Keyring, TurnError> {
        if turns.len() > MAX_TURNS {
            return Err(TurnError::TooMany(turns.len()));
        }
        let offered = turns.last().map_or(1, |turn| turn.version);
        if offered < self.version {
            return Err(TurnError::Older { offered, pinned: self.version });
        }
        // A key that was pinned without its version is found by itself. What is said of it counts only when it
        // has signed the next one, with that one's version.
        let ours = key_text(&self.current);
        let found = turns.iter().find(|turn| turn.key == ours).filter(|_| self.version == 1);
        let begun = found.map_or(self.version, |turn| turn.version);
        let mut ring = self.clone();
        for turn in turns.iter().filter(|turn| turn.version > begun || turn.version <= 1) {
            ring.version = ring.version.max(begun);
            ring.follow(cluster, turn)?;
        }
        Ok(ring)
    }

    fn follow(&mut self, cluster: ClusterId, turn: &Turn) -> Result<(), TurnError> {
        if turn.version != self.version + 1 {
            return Err(TurnError::Gap { after: self.version, found: turn.version });
        }
        let said = turn_parts(cluster, turn.version, &turn.key, turn.at_ms);
        let key = parse_key(&turn.key).map_err(|_| TurnError::Unsigned(turn.version))?;
        verify(&self.current, &[&said], &turn.signature).map_err(|_| TurnError::Unsigned(turn.version))?;
        let former = std::mem::replace(&mut self.current, key);
        self.former.push((former, turn.at_ms.saturating_add(FORMER_GOOD_MS)));
        self.version = turn.version;
        Ok(())
    }

    /// Checks that a key of this ring signed it, a former one in its time, and only then reads it.
    ///
    /// # Errors
    /// See [`EnvelopeError`].
    pub fn open(&self, envelope: &SignedEnvelope) -> Result<Envelope, EnvelopeError> {
        let by_current = envelope.open(&self.current);
        if by_current != Err(EnvelopeError::Signature) {
            return by_current;
        }
        for (key, until_ms) in self.former.iter().rev() {
            match envelope.open(key) {
                Ok(opened) if opened.not_after_ms > *until_ms => return Err(EnvelopeError::Retired),
                Err(EnvelopeError::Signature) => {}
                answer => return answer,
            }
        }
        Err(EnvelopeError::Signature)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const CLUSTER: ClusterId = ClusterId(Uuid::from_u128(1));

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn ring(seed: u8) -> Keyring {
        Keyring::pinned(key(seed).verifying_key())
    }

    /// Turns from key 1 to the last of `seeds`, a second apart.
    fn turns(seeds: &[u8]) -> Vec<Turn> {
        let pairs = seeds.windows(2).zip(2u64..);
        let turn = |(pair, version): (&[u8], u64)| {
            Turn::new(CLUSTER, &key(pair[0]), &key(pair[1]).verifying_key(), version, 1_000 * version as i64)
        };
        pairs.map(turn).collect()
    }

    #[test]
    fn whoever_pinned_any_key_finds_the_way_to_the_last() {
        let all = turns(&[1, 2, 3, 4, 5]);
        for seed in 1..=5 {
            let ring = ring(seed).after(CLUSTER, &all).expect("followed");
            assert_eq!(ring.current(), &key(5).verifying_key(), "from key {seed}");
            assert_eq!(ring.version(), if seed == 5 { 1 } else { 5 }, "nobody has proven which version key 5 has");
            assert_eq!(ring.after(CLUSTER, &all), Ok(ring.clone()), "again is no change");
            let text = serde_json::to_string(&ring).expect("serializes");
            assert_eq!(serde_json::from_str::<Keyring>(&text).expect("reads back"), ring);
        }
        assert_eq!(ring(1).after(CLUSTER, &[]), Ok(ring(1)), "a key nobody followed yet");
    }

    #[test]
    fn what_was_followed_is_never_gone_back_on() {
        let ring = ring(1).after(CLUSTER, &turns(&[1, 2, 3])).expect("followed");
        for fewer in [vec![], turns(&[1, 2])] {
            let offered = fewer.len() as u64 + 1;
            assert_eq!(ring.after(CLUSTER, &fewer), Err(TurnError::Older { offered, pinned: 3 }));
        }
        let pinned_late = self::ring(3);
        assert!(pinned_late.after(CLUSTER, &turns(&[1, 2])).is_err(), "nor on a key that was pinned without a version");
    }

    #[test]
    fn no_turn_that_the_key_before_did_not_sign_is_followed() {
        let good = turns(&[1, 2, 3]);
        let forged = Turn::new(CLUSTER, &key(9), &key(3).verifying_key(), 3, 3_000);
        let other_cluster = Turn::new(ClusterId(Uuid::from_u128(2)), &key(2), &key(3).verifying_key(), 3, 3_000);
        for bad in [
            vec![good[0].clone(), forged],
            vec![good[0].clone(), other_cluster],
            vec![good[1].clone()],
            vec![good[1].clone(), good[0].clone()],
            vec![good[0].clone(), good[0].clone(), good[1].clone()],
            vec![Turn { version: 0, ..good[0].clone() }, good[1].clone()],
            vec![Turn { at_ms: 1, ..good[0].clone() }, good[1].clone()],
            vec![good[0].clone(), Turn { key: key_text(&key(9).verifying_key()), ..good[1].clone() }],
            vec![good[0].clone(); MAX_TURNS + 1],
        ] {
            let said = ring(1).after(CLUSTER, &bad);
            assert!(said.is_err() || said == ring(1).after(CLUSTER, &good[..1]), "{bad:?}");
            assert_ne!(said.map(|ring| ring.version()), Ok(3), "{bad:?}");
        }
    }
}
