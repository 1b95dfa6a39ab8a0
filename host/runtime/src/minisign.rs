//! Detached Ed25519 signatures in the form of `minisign`, so that its tool and ours read each other's files.
//!
//! A signature signs the BLAKE2b-512 digest of a file (`ED`; the older `Ed` signs the file itself), and a
//! second one signs the first with its trusted comment, which by custom says when it was made.
//!
//! Invariant: neither files nor clock nor chance in here; text comes in, text goes out.

mod key;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blake2::{Blake2b512, Digest as _};
use ed25519_dalek::Signer as _;

pub use key::{KeyId, PublicKey, SecretKey};

/// Most bytes of a signature file.
pub const MAX_SIGNATURE_BYTES: u64 = 16 * 1024;

const UNTRUSTED: &str = "untrusted comment: ";
const TRUSTED: &str = "trusted comment: ";
/// Signs the digest of the file.
const HASHED: &[u8; 2] = b"ED";
/// Signs the file.
const WHOLE: &[u8; 2] = b"Ed";

/// Text that is no key or no signature: what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(String);

fn malformed<T>(what: impl Into<String>) -> Result<T, Malformed> {
    Err(Malformed(what.into()))
}

/// A signature that is not this key's, or not of these bytes, or whose comment was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The bytes are others than those that were signed.
    #[error("the signature is not of these bytes")]
    Bytes,
    /// The comment is another than the one that was signed.
    #[error("the trusted comment is not the one that was signed")]
    Comment,
}

/// A signature as its file says it; nothing is verified by reading it.
#[derive(Clone, PartialEq, Eq)]
pub struct Signature {
    /// Whose it claims to be.
    pub key: KeyId,
    /// The trusted comment.
    pub comment: String,
    hashed: bool,
    signature: [u8; 64],
    of_comment: [u8; 64],
}

impl Signature {
    /// Reads a signature file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Signature, Malformed> {
        let mut lines = text.lines();
        let mut line = |what: &str| lines.next().ok_or_else(|| Malformed(format!("it ends before {what}")));
        if !line("its comment")?.starts_with(UNTRUSTED.trim_end()) {
            return malformed(format!("its first line does not begin with `{UNTRUSTED}`"));
        }
        let first: [u8; 74] = decoded(line("the signature")?, "the signature (line 2)")?;
        let comment = line("the trusted comment")?;
        let Some(comment) = comment.strip_prefix(TRUSTED) else {
            return malformed(format!("its third line does not begin with `{TRUSTED}`"));
        };
        let of_comment = decoded(line("the comment's signature")?, "the comment's signature (line 4)")?;
        let (kind, rest) = first.split_first_chunk::<2>().expect("74 bytes hold 2");
        let (key, signature) = rest.split_first_chunk::<8>().expect("72 bytes hold 8");
        let hashed = match kind {
            HASHED => true,
            WHOLE => false,
            _ => return malformed("it is of an unknown kind: neither `ED` nor `Ed`"),
        };
        let signature = signature.try_into().expect("64 bytes are left");
        Ok(Signature { key: KeyId(*key), comment: comment.to_owned(), hashed, signature, of_comment })
    }

    /// When its trusted comment says it was made, in seconds since 1970-01-01 UTC: `timestamp:N`.
    pub fn signed_at(&self) -> Option<i64> {
        let mut words = self.comment.split(['\t', ' ']);
        words.find_map(|word| word.strip_prefix("timestamp:"))?.parse().ok()
    }

    fn message<'a>(&self, bytes: &'a [u8], room: &'a mut [u8; 64]) -> &'a [u8] {
        if !self.hashed {
            return bytes;
        }
        room.copy_from_slice(&Blake2b512::digest(bytes));
        room
    }

    fn signed_comment(&self) -> Vec<u8> {
        [self.signature.as_slice(), self.comment.as_bytes()].concat()
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signature").field("key", &self.key).field("comment", &self.comment).finish_non_exhaustive()
    }
}

impl PublicKey {
    /// Whether `signature` is this key's of `bytes`.
    ///
    /// # Errors
    /// What it is not a signature of.
    pub fn verify(&self, bytes: &[u8], signature: &Signature) -> Result<(), Mismatch> {
        let good = |message: &[u8], signature: &[u8; 64]| {
            self.key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok()
        };
        let mut room = [0; 64];
        if signature.key != self.id || !good(signature.message(bytes, &mut room), &signature.signature) {
            return Err(Mismatch::Bytes);
        }
        match good(&signature.signed_comment(), &signature.of_comment) {
            true => Ok(()),
            false => Err(Mismatch::Comment),
        }
    }
}

impl SecretKey {
    /// The text of a signature file for `bytes`. `comment` is one line, signed with them.
    pub fn sign(&self, bytes: &[u8], comment: &str) -> String {
        let comment: String = comment.chars().map(|c| if c == '\n' || c == '\r' { ' ' } else { c }).collect();
        let signature = self.key.sign(&Blake2b512::digest(bytes)).to_bytes();
        let of_comment = self.key.sign(&[signature.as_slice(), comment.as_bytes()].concat()).to_bytes();
        let first = STANDARD.encode([HASHED.as_slice(), &self.id.0, &signature].concat());
        let second = STANDARD.encode(of_comment);
        format!("{UNTRUSTED}signature from key {}\n{first}\n{TRUSTED}{comment}\n{second}\n", self.id)
    }
}

/// `N` bytes of Base64.
fn decoded<const N: usize>(text: &str, what: &str) -> Result<[u8; N], Malformed> {
    let bytes = STANDARD.decode(text.trim()).map_err(|error| Malformed(format!("{what} is no Base64: {error}")))?;
    let has = bytes.len();
    bytes.try_into().map_err(|_| Malformed(format!("{what} has {has} bytes, not {N}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> SecretKey {
        SecretKey::new(KeyId([seed; 8]), [seed; 32])
    }

    #[test]
    fn what_is_signed_is_the_bytes_and_the_comment() {
        let text = key(1).sign(b"plugin", "timestamp:1700000000\tfile:a.wasm");
        let signature = Signature::parse(&text).expect("a signature");
        assert_eq!((signature.key, signature.signed_at()), (KeyId([1; 8]), Some(1_700_000_000)));
        let public = key(1).public();
        assert_eq!(public.verify(b"plugin", &signature), Ok(()));
        assert_eq!(public.verify(b"plugim", &signature), Err(Mismatch::Bytes));
        let changed = Signature::parse(&text.replace("timestamp:17", "timestamp:18")).expect("a signature");
        assert_eq!(public.verify(b"plugin", &changed), Err(Mismatch::Comment));
        assert_eq!(key(2).public().verify(b"plugin", &signature), Err(Mismatch::Bytes));
    }

    /// Made by the `minisign` tool, 0.11: `minisign -G -W`, then `minisign -S` and `minisign -S -l`.
    #[test]
    fn what_the_tool_itself_made_is_read() {
        let secret = SecretKey::parse(include_str!("minisign/made_by_tool.key")).expect("a secret key");
        let public = PublicKey::parse(include_str!("minisign/made_by_tool.pub")).expect("a public key");
        assert_eq!(secret.public(), public);
        for text in [include_str!("minisign/made_by_tool.minisig"), include_str!("minisign/made_by_tool.sig")] {
            let signature = Signature::parse(text).expect("a signature");
            assert_eq!(public.verify(b"a plugin\n", &signature), Ok(()));
            assert_eq!(public.verify(b"a plugin", &signature), Err(Mismatch::Bytes));
            assert!(signature.signed_at().is_some_and(|at| at > 1_700_000_000));
        }
    }

    #[test]
    fn text_that_is_no_signature_says_what_is_wrong() {
        let good = key(1).sign(b"plugin", "x");
        let refused = |text: &str| Signature::parse(text).expect_err(text).to_string();
        let lines: Vec<&str> = good.lines().collect();
        assert_eq!(refused(""), "it ends before its comment");
        assert_eq!(refused(&lines[..2].join("\n")), "it ends before the trusted comment");
        assert!(refused(&good.replace("untrusted comment", "comment")).contains("first line"));
        assert!(refused(&good.replace("\ntrusted comment", "\ncomment")).contains("third line"));
        assert!(refused(&good.replace(lines[3], "AAAA")).contains("(line 4) has 3 bytes, not 64"));
        assert!(refused(&good.replace(lines[1], "*")).contains("(line 2) is no Base64"));
        let unknown = STANDARD.encode([b'X'; 74]);
        assert!(refused(&good.replace(lines[1], &unknown)).contains("unknown kind"));
    }
}
