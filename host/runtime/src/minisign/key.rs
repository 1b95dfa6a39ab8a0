//! Keys in the form of `minisign`. A secret key lies in the clear, as `minisign -G -W` writes it: what
//! guards it is its file's mode, or the secret store of whatever builds.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blake2::digest::consts::U32;
use blake2::{Blake2b, Digest as _};
use ed25519_dalek::{SigningKey, VerifyingKey};

use super::{Malformed, UNTRUSTED, WHOLE, decoded, malformed};

/// Tells keys apart; shown as `minisign` shows it, 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 8]);

impl KeyId {
    /// Reads what [`KeyId`] is shown as.
    pub fn parse(text: &str) -> Option<KeyId> {
        let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = digits.then(|| u64::from_str_radix(text, 16).ok()).flatten()?;
        Some(KeyId(number.to_le_bytes()))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", u64::from_le_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Verifies signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// Its id, which says nothing about who has it.
    pub id: KeyId,
    pub(super) key: VerifyingKey,
}

impl PublicKey {
    /// Reads a `.pub` file, or its second line alone.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<PublicKey, Malformed> {
        let bytes: [u8; 42] = decoded(key_line(text)?, "the public key")?;
        let (kind, rest) = bytes.split_first_chunk::<2>().expect("42 bytes hold 2");
        let (id, key) = rest.split_first_chunk::<8>().expect("40 bytes hold 8");
        if kind != WHOLE {
            return malformed("the public key is of an unknown kind");
        }
        let key = VerifyingKey::from_bytes(key.try_into().expect("32 bytes are left"))
            .map_err(|_| Malformed("the public key is no point of the curve".into()))?;
        Ok(PublicKey { id: KeyId(*id), key })
    }

    /// The line that a trust file and a `.pub` file hold.
    pub fn line(&self) -> String {
        STANDARD.encode([WHOLE.as_slice(), &self.id.0, self.key.as_bytes()].concat())
    }

    /// The text of a `.pub` file.
    pub fn file(&self) -> String {
        format!("{UNTRUSTED}minisign public key {}\n{}\n", self.id, self.line())
    }
}

/// Makes signatures.
#[derive(Clone)]
pub struct SecretKey {
    pub(super) id: KeyId,
    pub(super) key: SigningKey,
}

/// Bytes of a secret key's line: kinds, salt and cost of a password, id, key, checksum.
const SECRET_BYTES: usize = 2 + 2 + 2 + 32 + 16 + 8 + 64 + 32;
/// Kind of the checksum: BLAKE2b.
const CHECKSUM: &[u8; 2] = b"B2";

impl SecretKey {
    /// The key made of `seed`, which only chance should know.
    pub fn new(id: KeyId, seed: [u8; 32]) -> SecretKey {
        SecretKey { id, key: SigningKey::from_bytes(&seed) }
    }

    /// Reads a secret key's file.
    ///
    /// # Errors
    /// What is wrong with it; a key under a password is not read.
    pub fn parse(text: &str) -> Result<SecretKey, Malformed> {
        let bytes: [u8; SECRET_BYTES] = decoded(key_line(text)?, "the secret key")?;
        let (kinds, rest) = bytes.split_first_chunk::<6>().expect("158 bytes hold 6");
        let (_password, rest) = rest.split_first_chunk::<48>().expect("152 bytes hold 48");
        if &kinds[..2] != WHOLE || &kinds[4..] != CHECKSUM {
            return malformed("the secret key is of an unknown kind");
        }
        if kinds[2..4] != [0, 0] {
            return malformed(
                "the secret key is under a password; sign with `minisign -S`, or make one without: `minisign -G -W`",
            );
        }
        let (id, rest) = rest.split_first_chunk::<8>().expect("104 bytes hold 8");
        let (pair, checksum) = rest.split_first_chunk::<64>().expect("96 bytes hold 64");
        // The tool leaves the checksum of a key without password out.
        if *checksum != [0; 32] && checksum != Self::checksum(id, pair) {
            return malformed("the secret key's checksum is wrong: the file was changed");
        }
        let key = SigningKey::from_keypair_bytes(pair)
            .map_err(|_| Malformed("the secret key does not belong to its public key".into()))?;
        Ok(SecretKey { id: KeyId(*id), key })
    }

    /// The text of its file.
    pub fn file(&self) -> String {
        let pair = self.key.to_keypair_bytes();
        let kinds = [WHOLE.as_slice(), &[0, 0], CHECKSUM].concat();
        let checksum = Self::checksum(&self.id.0, &pair);
        let line = STANDARD.encode([kinds.as_slice(), &[0; 48], &self.id.0, &pair, &checksum].concat());
        format!("{UNTRUSTED}minisign secret key without password\n{line}\n")
    }

    /// What verifies its signatures.
    pub fn public(&self) -> PublicKey {
        PublicKey { id: self.id, key: self.key.verifying_key() }
    }

    fn checksum(id: &[u8; 8], pair: &[u8; 64]) -> [u8; 32] {
        Blake2b::<U32>::new().chain_update(WHOLE).chain_update(id).chain_update(pair).finalize().into()
    }
}

/// The key itself never shows.
impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({}, …)", self.id)
    }
}

/// The line behind the comment, or the only one.
fn key_line(text: &str) -> Result<&str, Malformed> {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with("untrusted comment:"));
    line.ok_or_else(|| Malformed("there is no key in it".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_were_written() {
        let secret = SecretKey::new(KeyId([0xab, 1, 2, 3, 4, 5, 6, 7]), [9; 32]);
        assert_eq!(secret.public().id.to_string(), "07060504030201AB");
        assert_eq!(KeyId::parse("07060504030201AB"), Some(secret.id));
        assert_eq!((KeyId::parse("07060504030201A"), KeyId::parse("+7060504030201AB")), (None, None));
        let again = SecretKey::parse(&secret.file()).expect("a secret key");
        assert_eq!((again.id, again.public()), (secret.id, secret.public()));
        let public = secret.public();
        assert_eq!(PublicKey::parse(&public.file()).as_ref(), Ok(&public));
        assert_eq!(PublicKey::parse(&public.line()).as_ref(), Ok(&public));
        assert_eq!(format!("{secret:?}"), "SecretKey(07060504030201AB, …)");
    }

    #[test]
    fn a_key_that_cannot_be_used_says_why() {
        let line = |change: fn(&mut Vec<u8>)| {
            let file = SecretKey::new(KeyId([1; 8]), [9; 32]).file();
            let mut bytes = STANDARD.decode(key_line(&file).expect("a line")).expect("Base64");
            change(&mut bytes);
            SecretKey::parse(&STANDARD.encode(bytes)).expect_err("refused").to_string()
        };
        assert!(line(|bytes| bytes[2..4].copy_from_slice(b"Sc")).contains("under a password"));
        assert!(line(|bytes| bytes[70] ^= 1).contains("checksum"));
        assert!(line(|bytes| bytes[0] = b'X').contains("unknown kind"));
        assert!(PublicKey::parse("untrusted comment: x\n").expect_err("refused").to_string().contains("no key"));
        assert!(PublicKey::parse("RWQ=").expect_err("refused").to_string().contains("has 2 bytes, not 42"));
    }
}
