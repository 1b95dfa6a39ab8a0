//! The trust file: whose signatures count, since and until when, and what is denied whoever signed it.
//!
//! Invariant: an empty list means nobody; a file that cannot be read never means more than it did before.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use crate::minisign::{KeyId, PublicKey};

/// Most bytes of the file.
const MAX_BYTES: u64 = 1024 * 1024;

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    keys: Vec<WrittenKey>,
    #[serde(default)]
    deny: WrittenDenials,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenKey {
    name: Spanned<String>,
    key: Spanned<String>,
    from: Option<Spanned<toml::value::Datetime>>,
    until: Option<Spanned<toml::value::Datetime>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenDenials {
    #[serde(default)]
    digests: Vec<Spanned<String>>,
    #[serde(default)]
    signers: Vec<Spanned<String>>,
}

/// Who is trusted and what is denied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    keys: BTreeMap<KeyId, TrustedKey>,
    denied_digests: BTreeSet<String>,
    denied_signers: BTreeSet<KeyId>,
}

/// One key whose signatures count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedKey {
    /// Whose it is, for people.
    pub name: String,
    /// The key.
    pub key: PublicKey,
    /// Signatures dated earlier do not count; seconds since 1970-01-01 UTC.
    pub from: Option<i64>,
    /// Signatures dated later do not count. The way to retire a key: what it signed before goes on counting.
    pub until: Option<i64>,
}

/// A trust file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct TrustError {
    /// The file, and the line where there is one.
    pub place: String,
    /// What is wrong there and what would be right.
    pub message: String,
}

impl Trust {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// Where and why it cannot be used.
    pub fn load(path: &Path) -> Result<Trust, TrustError> {
        Trust::parse(&text_of(path)?, path)
    }

    /// Reads `text`, which was found at `path`.
    ///
    /// # Errors
    /// Where and why it cannot be used.
    pub fn parse(text: &str, path: &Path) -> Result<Trust, TrustError> {
        let at = |offset: usize, message: String| {
            let line = text[..offset.min(text.len())].matches('\n').count() + 1;
            TrustError { place: format!("{}:{line}", path.display()), message }
        };
        let written: Written = toml::from_str(text)
            .map_err(|error| at(error.span().map_or(0, |span| span.start), error.message().to_owned()))?;
        let mut trust = Trust::default();
        for key in written.keys {
            let place = key.key.span().start;
            let public = PublicKey::parse(key.key.get_ref()).map_err(|error| {
                at(place, format!("{error}; expected the second line of a `.pub` file of `viworks plugin keygen`"))
            })?;
            let name = key.name.get_ref().clone();
            if name.is_empty() || name.chars().any(char::is_control) {
                return Err(at(key.name.span().start, "a name is one line that says whose key it is".into()));
            }
            if trust.keys.values().any(|other| other.name == name) {
                return Err(at(key.name.span().start, format!("two keys are called `{name}`")));
            }
            let instant = |written: Option<Spanned<toml::value::Datetime>>| {
                let read = |written: Spanned<toml::value::Datetime>| {
                    seconds(written.get_ref()).ok_or_else(|| {
                        at(written.span().start, "expected an instant such as 2026-01-31T00:00:00Z".into())
                    })
                };
                written.map(read).transpose()
            };
            let trusted = TrustedKey { name, from: instant(key.from)?, until: instant(key.until)?, key: public };
            let id = trusted.key.id;
            if let Some(other) = trust.keys.insert(id, trusted) {
                return Err(at(place, format!("key {id} stands there twice: it is `{}` already", other.name)));
            }
        }
        for digest in written.deny.digests {
            let text = digest.get_ref().trim_start_matches("sha256:").to_ascii_lowercase();
            if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(at(digest.span().start, "expected a SHA-256 digest: 64 hexadecimal digits".into()));
            }
            trust.denied_digests.insert(text);
        }
        for signer in written.deny.signers {
            let named = trust.keys.iter().find(|(_, key)| key.name == *signer.get_ref()).map(|(id, _)| *id);
            let Some(id) = named.or_else(|| KeyId::parse(signer.get_ref())) else {
                let message = "expected the name of a key above, or a key's id: 16 hexadecimal digits";
                return Err(at(signer.span().start, message.into()));
            };
            trust.denied_signers.insert(id);
        }
        Ok(trust)
    }

    /// Trusts this key alone, at all times.
    pub fn only(name: &str, key: PublicKey) -> Trust {
        let trusted = TrustedKey { name: name.to_owned(), from: None, until: None, key };
        Trust { keys: BTreeMap::from([(trusted.key.id, trusted)]), ..Trust::default() }
    }

    /// The key called `id`, if its signatures count at all.
    pub fn key(&self, id: KeyId) -> Option<&TrustedKey> {
        self.keys.get(&id)
    }

    /// Whether bytes with this digest are denied.
    pub fn denies_digest(&self, digest: &str) -> bool {
        self.denied_digests.contains(digest)
    }

    /// Whether whatever this key signed is denied.
    pub fn denies_signer(&self, id: KeyId) -> bool {
        self.denied_signers.contains(&id)
    }
}

/// The trust file while a host runs: read again whenever its text is another.
#[derive(Debug, Default)]
pub(crate) struct TrustFile {
    path: Option<PathBuf>,
    /// What was read last, good or not.
    seen: Option<Result<String, TrustError>>,
}

impl TrustFile {
    pub(crate) fn new(path: Option<PathBuf>) -> TrustFile {
        TrustFile { path, seen: None }
    }

    /// What it says, if that is not what it said before.
    pub(crate) fn changed(&mut self) -> Option<Result<Trust, TrustError>> {
        let path = self.path.as_deref()?;
        let now = text_of(path);
        if self.seen.as_ref() == Some(&now) {
            return None;
        }
        let trust = now.clone().and_then(|text| Trust::parse(&text, path));
        self.seen = Some(now);
        Some(trust)
    }
}

fn text_of(path: &Path) -> Result<String, TrustError> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text));
    let place = path.display().to_string();
    match read {
        Err(error) => Err(TrustError { place, message: format!("cannot be read: {error}") }),
        Ok(_) if text.len() as u64 > MAX_BYTES => Err(TrustError { place, message: "is larger than 1 MiB".into() }),
        Ok(_) => Ok(text),
    }
}

/// Seconds since 1970-01-01 UTC; `None` for what is no instant, as a date alone.
fn seconds(at: &toml::value::Datetime) -> Option<i64> {
    chrono::DateTime::parse_from_rfc3339(&at.to_string()).ok().map(|at| at.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::minisign::SecretKey;

    fn line(seed: u8) -> String {
        SecretKey::new(KeyId([seed; 8]), [seed; 32]).public().line()
    }

    fn refused(text: &str) -> String {
        Trust::parse(text, Path::new("trust.toml")).expect_err(text).to_string()
    }

    #[test]
    fn keys_have_names_and_times_and_anything_may_be_denied() {
        let text = format!(
            "[[keys]]\nname = \"release\"\nkey = \"{}\"\nuntil = 2026-01-01T00:00:00Z\n\
             [[keys]]\nname = \"next\"\nkey = \"{}\"\nfrom = 2025-12-01T00:00:00+01:00\n\
             [deny]\ndigests = [\"sha256:{}\"]\nsigners = [\"next\", \"00000000000000AB\"]\n",
            line(1),
            line(2),
            "AB".repeat(32),
        );
        let trust = Trust::parse(&text, Path::new("trust.toml")).expect("a trust file");
        let key = |seed: u8| trust.key(KeyId([seed; 8])).expect("a key");
        assert_eq!((key(1).name.as_str(), key(1).from, key(1).until), ("release", None, Some(1_767_225_600)));
        assert_eq!((key(2).name.as_str(), key(2).from), ("next", Some(1_764_543_600)));
        assert!(trust.denies_digest(&"ab".repeat(32)) && !trust.denies_digest(&"ac".repeat(32)));
        assert!(trust.denies_signer(KeyId([2; 8])) && !trust.denies_signer(KeyId([1; 8])));
        assert!(trust.denies_signer(KeyId([0xab, 0, 0, 0, 0, 0, 0, 0])));
    }

    #[test]
    fn what_is_wrong_stands_beside_its_line() {
        let key = |rest: &str| format!("[[keys]]\nname = \"a\"\nkey = \"{}\"\n{rest}", line(1));
        assert!(refused("\n[[keys]]\nname = \"a\"\nkey = \"RWQ=\"\n").starts_with("trust.toml:4: the public key has"));
        assert!(refused(&key("kye = 1\n")).starts_with("trust.toml:4: unknown field `kye`"));
        assert!(refused(&key("until = 2026-01-01\n")).starts_with("trust.toml:4: expected an instant"));
        assert!(
            refused(&key(&key("").replace("\"a\"", "\"b\""))).contains("trust.toml:6: key 0101010101010101 stands")
        );
        assert!(refused(&key(&key("").replace(&line(1), &line(2)))).contains("trust.toml:5: two keys are called `a`"));
        assert!(refused("[deny]\ndigests = [\n\"ab\",\n]\n").starts_with("trust.toml:3: expected a SHA-256"));
        assert!(refused("[deny]\nsigners = [\"nobody\"]\n").starts_with("trust.toml:2: expected the name of a key"));
        assert!(refused("[[keys]\n").starts_with("trust.toml:1: "));
        let nowhere = Trust::load(Path::new("/does/not/exist.toml")).expect_err("nothing there");
        assert!(nowhere.to_string().starts_with("/does/not/exist.toml: cannot be read: "), "{nowhere}");
    }

    #[test]
    fn a_file_is_told_about_once_each_time_its_text_is_another() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("trust.toml");
        let mut file = TrustFile::new(Some(path.clone()));
        assert!(file.changed().expect("read").is_err());
        assert!(file.changed().is_none());
        std::fs::write(&path, "[deny]\n").expect("written");
        assert_eq!(file.changed(), Some(Ok(Trust::default())));
        assert!(file.changed().is_none());
        std::fs::write(&path, "[deny\n").expect("written");
        assert!(file.changed().expect("read").is_err());
        assert!(TrustFile::new(None).changed().is_none());
    }
}
