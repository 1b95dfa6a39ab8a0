//! Gate 1, second half: who signed a file, and whether the operator trusts them.
//!
//! What a signature is was found out with the bytes at hand and stays true ([`Signed`]); what follows from
//! it is asked of the trust file in force each time a picture is made ([`Policy::admit`]), so that a key or
//! a digest that is denied takes what serves already out of service, the last good version included.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ports::plugins::{Refusal, Signature as Shown};

use crate::minisign::{KeyId, Mismatch, PublicKey, Signature};
use crate::refusal::Code;
use crate::trust::{Trust, TrustFile, TrustedKey};

/// Which rule says no, and what is wrong.
type No = (Code, String);

/// What is asked of a plugin's signature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signatures {
    /// Nothing; it is shown where there is one. What is denied is denied all the same.
    #[default]
    Off,
    /// Nothing, but what would be refused is told in the log.
    Warn,
    /// It must be there, and good.
    Enforce,
}

/// What is known of the signature beside some bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Signed {
    /// There is none.
    #[default]
    Not,
    /// There is a file, and no signature in it.
    Malformed(String),
    /// By a key the trust file did not have.
    Unknown(Signature),
    /// Not of these bytes, or not with this comment.
    Wrong(Signature, Mismatch),
    /// By this key, of these bytes.
    By(PublicKey, Signature),
}

impl Signed {
    /// What the texts found beside `bytes` say, to somebody who trusts `trust`. The best one counts: a file
    /// and its signature are two, and whoever replaces both needs room for the old one and the new one.
    pub(crate) fn of(trust: &Trust, bytes: &[u8], texts: &[Result<String, String>]) -> Signed {
        let read = |text: &Result<String, String>| {
            let signature = match text.as_deref().map_err(String::clone).map(Signature::parse) {
                Err(unreadable) => return Signed::Malformed(unreadable),
                Ok(Err(malformed)) => return Signed::Malformed(malformed.to_string()),
                Ok(Ok(signature)) => signature,
            };
            let Some(TrustedKey { key, .. }) = trust.key(signature.key) else { return Signed::Unknown(signature) };
            match key.verify(bytes, &signature) {
                Ok(()) => Signed::By(key.clone(), signature),
                Err(mismatch) => Signed::Wrong(signature, mismatch),
            }
        };
        let found: Vec<Signed> = texts.iter().map(read).collect();
        let good = found.iter().find(|signed| matches!(signed, Signed::By(..))).cloned();
        good.or_else(|| found.into_iter().next()).unwrap_or_default()
    }

    fn signature(&self) -> Option<&Signature> {
        match self {
            Signed::Not | Signed::Malformed(_) => None,
            Signed::Unknown(signature) | Signed::Wrong(signature, _) | Signed::By(_, signature) => Some(signature),
        }
    }

    fn signer(&self) -> Option<KeyId> {
        self.signature().map(|signature| signature.key)
    }

    /// Whether a signature that `trust` counts is there, and if not, why not.
    fn counts(&self, trust: &Trust) -> Result<(), No> {
        match self {
            Signed::Not => Err((Code::SignatureMissing, "there is no signature beside the file".into())),
            Signed::Malformed(why) => Err((Code::SignatureMalformed, format!("the signature cannot be read: {why}"))),
            Signed::Wrong(signature, mismatch) => {
                Err((Code::SignatureInvalid, format!("signature of key {}: {mismatch}", signature.key)))
            }
            Signed::Unknown(signature) => Err(untrusted(signature.key)),
            Signed::By(by, signature) => match trust.key(signature.key) {
                Some(trusted) if trusted.key == *by => dated(trusted, signature),
                // It was trusted once.
                Some(_) | None => Err(untrusted(signature.key)),
            },
        }
    }

    /// As operators see it.
    pub(crate) fn shown(&self, trust: &Trust) -> Option<Shown> {
        let standing = match (self, self.counts(trust)) {
            (Signed::Not, _) => return None,
            (_, Ok(())) => "good",
            (_, Err((code, _))) => code.as_str().trim_start_matches("signature_"),
        };
        let by = matches!(self, Signed::By(..)).then(|| self.signature()).flatten();
        Some(Shown {
            standing,
            key_id: self.signer().map(|id| id.to_string()),
            signer: by.and_then(|signature| trust.key(signature.key)).map(|key| key.name.clone()),
            comment: by.map(|signature| signature.comment.clone()),
        })
    }
}

fn untrusted(id: KeyId) -> No {
    (Code::SignatureUntrusted, format!("signed by key {id}, which the trust file does not have"))
}

/// Whether a signature was made while its key counted.
fn dated(key: &TrustedKey, signature: &Signature) -> Result<(), No> {
    let TrustedKey { name, from, until, .. } = key;
    let no = |why: String| Err((Code::SignatureDate, format!("signed by `{name}` ({}) {why}", signature.key)));
    match (from, until, signature.signed_at()) {
        (None, None, _) => Ok(()),
        (_, _, None) => no("without a date, and the key counts for a time only".into()),
        (Some(from), _, Some(at)) if at < *from => no(format!("at {}, before its key counted", moment(at))),
        (_, Some(until), Some(at)) if at > *until => {
            no(format!("at {}, after its key was retired at {}", moment(at), moment(*until)))
        }
        (_, _, Some(_)) => Ok(()),
    }
}

fn moment(seconds: i64) -> String {
    let at = chrono::DateTime::from_timestamp(seconds, 0).unwrap_or_default();
    at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

/// What the operator asks of signatures, with the trust file as it is.
#[derive(Debug)]
pub(crate) struct Policy {
    mode: Signatures,
    file: TrustFile,
    /// As it was when it could last be read; why not, while it never could.
    trust: Result<Trust, String>,
    read: bool,
}

impl Policy {
    pub(crate) fn new(mode: Signatures, file: Option<PathBuf>) -> Policy {
        Policy { mode, file: TrustFile::new(file), trust: Ok(Trust::default()), read: false }
    }

    /// Follows the trust file; whether it says something else now. One that cannot be read any more changes nothing
    /// but the log.
    pub(crate) fn follow(&mut self) -> bool {
        match self.file.changed() {
            None => false,
            Some(Ok(trust)) => {
                tracing::info!("trust file of plugins read");
                (self.trust, self.read) = (Ok(trust), true);
                true
            }
            Some(Err(error)) => {
                tracing::error!(error = %error, "trust file of plugins cannot be used; what it said before holds");
                if !self.read {
                    self.trust = Err(error.to_string());
                }
                false
            }
        }
    }

    fn trust(&self) -> Trust {
        self.trust.clone().unwrap_or_default()
    }

    /// What is known of the signature of `bytes`, beside which these texts lie. Bytes that are too many to
    /// be kept are refused for that.
    pub(crate) fn inspect(&self, bytes: Option<&[u8]>, texts: &[Result<String, String>]) -> Signed {
        bytes.map_or(Signed::Not, |bytes| Signed::of(&self.trust(), bytes, texts))
    }

    /// Whether bytes signed like this may serve.
    pub(crate) fn admit(&self, digest: &str, signed: &Signed) -> Result<(), Refusal> {
        let judged = match &self.trust {
            Err(why) => Err((Code::TrustUnreadable, why.clone())),
            Ok(trust) => denied(trust, digest, signed).and_then(|()| match self.mode {
                Signatures::Enforce => signed.counts(trust),
                Signatures::Off | Signatures::Warn => Ok(()),
            }),
        };
        judged.map_err(|(code, cause)| code.refuse(cause, digest))
    }

    /// What would be refused if signatures were enforced, for the log.
    pub(crate) fn warning(&self, signed: &Signed) -> Option<String> {
        let counts = signed.counts(&self.trust());
        (self.mode == Signatures::Warn).then(|| counts.err().map(|(_, cause)| cause)).flatten()
    }

    pub(crate) fn shown(&self, signed: &Signed) -> Option<Shown> {
        signed.shown(&self.trust())
    }
}

/// Whether bytes signed like this may serve where signatures are enforced.
pub(crate) fn judge(trust: &Trust, digest: &str, signed: &Signed) -> Result<(), Refusal> {
    let judged = denied(trust, digest, signed).and_then(|()| signed.counts(trust));
    judged.map_err(|(code, cause)| code.refuse(cause, digest))
}

fn denied(trust: &Trust, digest: &str, signed: &Signed) -> Result<(), No> {
    if trust.denies_digest(digest) {
        return Err((Code::PluginDenied, format!("digest {digest} is on the trust file's deny list")));
    }
    match signed.signer().filter(|id| trust.denies_signer(*id)) {
        Some(id) => Err((Code::PluginDenied, format!("signed by key {id}, which is on the trust file's deny list"))),
        None => Ok(()),
    }
}

/// Who signed the bytes of a build, as its file last said it in a way that was admitted.
#[derive(Debug, Default)]
pub(crate) struct Signer(ArcSwap<Signed>);

impl Signer {
    pub(crate) fn set(&self, signed: Signed) {
        self.0.store(Arc::new(signed));
    }

    pub(crate) fn get(&self) -> Arc<Signed> {
        self.0.load_full()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::minisign::SecretKey;

    const BYTES: &[u8] = b"a plugin";
    const AT: &str = "timestamp:1750000000\tfile:a.wasm";

    fn key(seed: u8) -> SecretKey {
        SecretKey::new(KeyId([seed; 8]), [seed; 32])
    }

    /// Trusts key 1, with what is said about it behind its line.
    fn policy(mode: Signatures, rest: &str) -> Policy {
        let text = format!("[[keys]]\nname = \"release\"\nkey = \"{}\"\n{rest}", key(1).public().line());
        let trust = Trust::parse(&text, Path::new("trust.toml")).expect("a trust file");
        Policy { trust: Ok(trust), ..Policy::new(mode, None) }
    }

    fn signed(policy: &Policy, texts: &[String]) -> Signed {
        Signed::of(&policy.trust(), BYTES, &texts.iter().cloned().map(Ok).collect::<Vec<_>>())
    }

    fn code(policy: &Policy, signed: &Signed) -> Option<String> {
        policy.admit("d1", signed).err().map(|refusal| refusal.code)
    }

    #[test]
    fn only_a_good_signature_of_a_trusted_key_is_admitted_when_it_is_enforced() {
        let enforce = policy(Signatures::Enforce, "");
        let (good, strange, other) = (key(1).sign(BYTES, AT), key(2).sign(BYTES, AT), key(1).sign(b"other", AT));
        let cases: [(&[String], Option<&str>); 6] = [
            (&[], Some("signature_missing")),
            (&["x".into()], Some("signature_malformed")),
            (std::slice::from_ref(&strange), Some("signature_untrusted")),
            (std::slice::from_ref(&other), Some("signature_invalid")),
            (std::slice::from_ref(&good), None),
            (&[other.clone(), good.clone()], None),
        ];
        for (texts, expected) in cases {
            let signed = signed(&enforce, texts);
            assert_eq!(code(&enforce, &signed).as_deref(), expected, "{texts:?}");
            let lax = policy(Signatures::Warn, "");
            assert_eq!((code(&lax, &signed), lax.warning(&signed).is_some()), (None, expected.is_some()), "{texts:?}");
            assert_eq!(policy(Signatures::Off, "").warning(&signed), None);
        }
        let shown = enforce.shown(&signed(&enforce, &[good])).expect("a signature");
        assert_eq!(
            (shown.standing, shown.signer.as_deref(), shown.comment.as_deref()),
            ("good", Some("release"), Some(AT))
        );
        let shown = enforce.shown(&signed(&enforce, &[strange])).expect("a signature");
        let unknown = ("untrusted", Some("0202020202020202"), None, None);
        assert_eq!((shown.standing, shown.key_id.as_deref(), shown.signer, shown.comment), unknown);
    }

    #[test]
    fn a_key_counts_for_what_it_signed_in_its_time() {
        let judged = |rest: &str, comment: &str| {
            let enforce = policy(Signatures::Enforce, rest);
            let signed = signed(&enforce, &[key(1).sign(BYTES, comment)]);
            enforce.admit("d1", &signed).err().map(|refusal| refusal.cause).unwrap_or_default()
        };
        assert_eq!(judged("from = 2025-06-15T00:00:00Z\nuntil = 2025-06-16T00:00:00Z\n", AT), "");
        assert_eq!(judged("", "no date"), "");
        let late = judged("until = 2025-06-01T00:00:00Z\n", AT);
        assert!(
            late.contains("`release`") && late.contains("at 2025-06-15T15:06:40Z, after its key was retired"),
            "{late}"
        );
        assert!(judged("from = 2025-07-01T00:00:00Z\n", AT).contains("before its key counted"));
        assert!(judged("until = 2025-07-01T00:00:00Z\n", "no date").contains("without a date"));
    }

    #[test]
    fn what_is_denied_is_denied_in_every_mode_and_whatever_was_found_out_before() {
        let before = policy(Signatures::Off, "");
        let fact = signed(&before, &[key(1).sign(BYTES, AT)]);
        assert_eq!(code(&before, &fact), None);
        for mode in [Signatures::Off, Signatures::Warn, Signatures::Enforce] {
            let digest = "d1".repeat(32);
            let by_digest = policy(mode, &format!("[deny]\ndigests = [\"{digest}\"]\n"));
            assert_eq!(by_digest.admit(&digest, &fact).expect_err("denied").code, "plugin_denied");
            assert_eq!(
                code(&policy(mode, "[deny]\nsigners = [\"release\"]\n"), &fact).as_deref(),
                Some("plugin_denied")
            );
        }
        let removed = Policy { trust: Ok(Trust::default()), ..Policy::new(Signatures::Enforce, None) };
        assert_eq!(code(&removed, &fact).as_deref(), Some("signature_untrusted"), "its key was taken out since");
    }

    #[test]
    fn a_trust_file_that_was_never_read_lets_nothing_in_and_a_broken_one_changes_nothing() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("trust.toml");
        let mut policy = Policy::new(Signatures::Off, Some(path.clone()));
        policy.follow();
        assert_eq!(code(&policy, &Signed::Not).as_deref(), Some("trust_unreadable"));
        std::fs::write(&path, "[deny]\nsigners = [\"0101010101010101\"]\n").expect("written");
        policy.follow();
        assert_eq!(code(&policy, &Signed::Not), None);
        std::fs::write(&path, "[deny\n").expect("written");
        policy.follow();
        let signature = Signature::parse(&key(1).sign(BYTES, AT)).expect("a signature");
        assert_eq!(code(&policy, &Signed::Unknown(signature)).as_deref(), Some("plugin_denied"));
    }
}
